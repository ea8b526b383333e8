/**
 * Operations of `crypto.subtle` for guests, by Node's own WebCrypto. The host keeps nothing: a key comes with each
 * operation, as the bytes that the guest holds in a private field, and new keys go back the same way.
 *
 * A request is JSON: `{ method, ... }` with the members of Request; in it bytes are `{ b: base64 }` and keys are
 * `{ k: WireKey }`. What an operation works on comes beside it. The answer is bytes, or JSON text.
 *
 * W1  Node does what the standard says of algorithms, usages and formats, and its errors go to the guest by name. What is
 *     checked here is only what one operation may cost: WebCrypto itself knows no bounds.
 * W2  Everything in a request may be forged. Keys are imported as what they say they are, so a guest can only make keys of
 *     its own bytes; importing takes this thread's time, so an operation has as many keys as the standard gives it.
 */
import { KeyObject, scrypt, webcrypto } from 'node:crypto'
import { z } from 'zod'
import { CRYPTO_DERIVED_MAX_BITS, CRYPTO_ITERATIONS_MAX, CRYPTO_KEY_MAX_BYTES, CRYPTO_ROUNDS_MAX, CRYPTO_RSA_KEY_MAX_BYTES, CRYPTO_RSA_MAX_BITS, CRYPTO_SCRYPT_MEMORY_MAX_BYTES, CRYPTO_SCRYPT_WORK_MAX } from '../limits.ts'

const { subtle } = webcrypto
type CryptoKey = webcrypto.CryptoKey

const SCRYPT_OUTPUT_MAX_BYTES = 65_536

/** A key as the guest holds it. */
const wireKey = z.strictObject({
  type: z.enum(['secret', 'public', 'private']),
  extractable: z.boolean(),
  /** As CryptoKey.algorithm, with bytes as `{ b }`. */
  algorithm: z.record(z.string(), z.unknown()),
  usages: z.array(z.string()).max(16),
  /** Base64: raw, or DER as SPKI or PKCS #8. */
  data: z.string(),
})
export type WireKey = z.infer<typeof wireKey>

const algorithm = z.unknown()
const usages = z.unknown()
const key = z.strictObject({ k: wireKey })
const bytes = z.strictObject({ b: z.string() })
const fresh = { extractable: z.boolean(), usages }
const request = z.discriminatedUnion('method', [
  z.strictObject({ method: z.enum(['encrypt', 'decrypt', 'sign']), algorithm, key }),
  z.strictObject({ method: z.literal('verify'), algorithm, key, signature: bytes }),
  z.strictObject({ method: z.literal('generateKey'), algorithm, ...fresh }),
  z.strictObject({ method: z.literal('deriveKey'), algorithm, key, derived: algorithm, ...fresh }),
  z.strictObject({ method: z.literal('deriveBits'), algorithm, key, length: z.number().nullable() }),
  /** `jwk` null: the key is in the data. */
  z.strictObject({ method: z.literal('importKey'), format: z.string(), jwk: z.record(z.string(), z.unknown()).nullable(), algorithm, ...fresh }),
  z.strictObject({ method: z.literal('exportKey'), format: z.string(), key }),
  z.strictObject({ method: z.literal('wrapKey'), format: z.string(), key, by: key, algorithm }),
  z.strictObject({ method: z.literal('unwrapKey'), format: z.string(), by: key, algorithm, unwrapped: algorithm, ...fresh }),
  /** Not of the standard: `crypto.scrypt` of node:crypto. The data is the password, then the salt. */
  z.strictObject({ method: z.literal('scrypt'), passwordBytes: z.int().nonnegative(), length: z.int().nonnegative().max(SCRYPT_OUTPUT_MAX_BYTES), cost: z.int().positive(), blockSize: z.int().positive(), parallelization: z.int().positive(), maxmem: z.int().positive() }),
])
export type SubtleRequest = z.infer<typeof request>

export type SubtleAnswer =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'text'; readonly text: string }
  /** `name` of a DOMException, or TypeError; `code` of the registry, or empty. */
  | { readonly kind: 'failed'; readonly name: string; readonly message: string; readonly code: string }

/** Never rejects. `data` is this call's own until the answer. */
export async function performSubtle(requestText: string, data: Uint8Array): Promise<SubtleAnswer> {
  try {
    const result = await perform(request.parse(JSON.parse(requestText)), new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength))
    return typeof result === 'string' ? { kind: 'text', text: result } : { kind: 'bytes', bytes: new Uint8Array(result) }
  } catch (error) {
    if (error instanceof z.ZodError) return { kind: 'failed', name: 'TypeError', message: 'The arguments are not what this operation takes', code: '' }
    // Node has one name of its own, which the standard does not know.
    if (error instanceof DOMException || error instanceof TypeError) return { kind: 'failed', name: error.name === 'InvalidAccessException' ? 'InvalidAccessError' : error.name, message: error.message, code: '' }
    // OpenSSL's own words: the standard has one name for them.
    return { kind: 'failed', name: 'OperationError', message: 'The operation failed', code: '' }
  }
}

async function perform(asked: SubtleRequest, data: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer | string> {
  switch (asked.method) {
    case 'encrypt':
    case 'decrypt':
    case 'sign':
      return subtle[asked.method](await revived(asked.algorithm), await imported(asked.key.k), data)
    case 'verify':
      return JSON.stringify(await subtle.verify(await revived(asked.algorithm), await imported(asked.key.k), Buffer.from(asked.signature.b, 'base64'), data))
    case 'generateKey': {
      const made = (await subtle.generateKey(await bounded(asked.algorithm), true, asked.usages as never)) as CryptoKey | webcrypto.CryptoKeyPair
      if ('privateKey' in made) return JSON.stringify({ publicKey: toWire(made.publicKey, true), privateKey: toWire(made.privateKey, asked.extractable) })
      return JSON.stringify(toWire(made, asked.extractable))
    }
    case 'deriveKey': {
      requireRounds(asked.algorithm, memberOf(asked.derived, 'length') ?? HMAC_DEFAULT_MAX_BITS)
      const derived = await bounded(asked.derived)
      return JSON.stringify(toWire(await subtle.deriveKey(await bounded(asked.algorithm), await imported(asked.key.k), derived, exportable(derived), asked.usages as never), asked.extractable))
    }
    case 'deriveBits': {
      if ((asked.length ?? 0) > CRYPTO_DERIVED_MAX_BITS) throw new DOMException(`At most ${CRYPTO_DERIVED_MAX_BITS} bits are derived at once`, 'OperationError')
      requireRounds(asked.algorithm, asked.length ?? 0)
      return subtle.deriveBits(await bounded(asked.algorithm), await imported(asked.key.k), asked.length)
    }
    case 'importKey': {
      if (data.length > CRYPTO_KEY_MAX_BYTES) throw new DOMException(KEY_TOO_LARGE, 'NotSupportedError')
      const made = await subtle.importKey(asked.format as 'raw', (asked.jwk ?? data) as never, await bounded(asked.algorithm), asked.extractable, asked.usages as never)
      return JSON.stringify(toWire(made, asked.extractable))
    }
    case 'exportKey': {
      const exported = await subtle.exportKey(asked.format as 'raw', await imported(asked.key.k))
      return exported instanceof ArrayBuffer ? exported : JSON.stringify(exported)
    }
    case 'scrypt':
      return await deriveByScrypt(asked, data)
    case 'wrapKey':
      return subtle.wrapKey(asked.format as 'raw', await imported(asked.key.k), await imported(asked.by.k), await revived(asked.algorithm))
    case 'unwrapKey': {
      const unwrapped = await bounded(asked.unwrapped)
      return JSON.stringify(toWire(await subtle.unwrapKey(asked.format as 'raw', data, await imported(asked.by.k), await revived(asked.algorithm), unwrapped, asked.extractable, asked.usages as never), asked.extractable))
    }
  }
}

/** Its memory is the host's, its time a thread's: both are bounded whatever the guest allows itself. */
function deriveByScrypt({ passwordBytes, length, cost, blockSize, parallelization, maxmem }: Extract<SubtleRequest, { method: 'scrypt' }>, data: Uint8Array): Promise<ArrayBuffer> {
  if (cost * blockSize > CRYPTO_SCRYPT_MEMORY_MAX_BYTES / 128 || cost * blockSize * parallelization > CRYPTO_SCRYPT_WORK_MAX) {
    throw new DOMException(`scrypt takes at most ${CRYPTO_SCRYPT_MEMORY_MAX_BYTES} bytes (128 * N * r) and N * r * p of at most ${CRYPTO_SCRYPT_WORK_MAX} here`, 'OperationError')
  }
  return new Promise((resolve, reject) => {
    try {
      scrypt(data.subarray(0, passwordBytes), data.subarray(passwordBytes), length, { N: cost, r: blockSize, p: parallelization, maxmem: Math.min(maxmem, 2 * CRYPTO_SCRYPT_MEMORY_MAX_BYTES) }, (error, derived) => {
        if (error === null) resolve(Uint8Array.from(derived).buffer)
        else reject(error)
      })
    } catch (error) {
      // Parameters that do not fit each other.
      reject(new DOMException(error instanceof Error ? error.message : 'Invalid scrypt parameters', 'DataError'))
    }
  })
}

function toWire(made: CryptoKey, extractable: boolean): WireKey {
  requireUsable(made)
  const held = KeyObject.from(made)
  const data = held.type === 'secret' ? held.export() : held.export({ type: held.type === 'public' ? 'spki' : 'pkcs8', format: 'der' })
  const { publicExponent, ...rest } = made.algorithm as unknown as Record<string, unknown>
  return {
    type: made.type, extractable, usages: made.usages,
    algorithm: publicExponent instanceof Uint8Array ? { ...rest, publicExponent: { b: Buffer.from(publicExponent).toString('base64') } } : rest,
    data: data.toString('base64'),
  }
}

async function imported({ type, extractable, algorithm: described, usages: allowed, data }: WireKey): Promise<CryptoKey> {
  const wanted = await revived(described, 'no keys')
  const format = type === 'secret' ? 'raw' : type === 'public' ? 'spki' : 'pkcs8'
  return requireUsable(await subtle.importKey(format, Buffer.from(data, 'base64'), wanted, extractable && exportable(wanted), allowed as never))
}

/** W1: an RSA key costs by its size, and nothing has to be made to have a large one: any number will do. */
function requireUsable(made: CryptoKey): CryptoKey {
  const modulusBits = memberOf(made.algorithm, 'modulusLength')
  const held = KeyObject.from(made)
  if (held.type === 'secret' && (held.symmetricKeySize ?? 0) > CRYPTO_KEY_MAX_BYTES) throw new DOMException(KEY_TOO_LARGE, 'NotSupportedError')
  if (modulusBits === undefined) return made
  const bytes = held.export({ type: made.type === 'public' ? 'spki' : 'pkcs8', format: 'der' }).length
  if (Number(modulusBits) > CRYPTO_RSA_MAX_BITS || bytes > CRYPTO_RSA_KEY_MAX_BYTES) throw new DOMException(RSA_TOO_LARGE, 'NotSupportedError')
  return made
}

/** Keys for derivation may not be extractable, says the standard. */
function exportable(described: unknown): boolean {
  const name = typeof described === 'string' ? described : typeof described === 'object' && described !== null && 'name' in described ? String(described.name) : ''
  return !/^(HKDF|PBKDF2)$/i.test(name)
}

const KEY_TOO_LARGE = `Keys have at most ${CRYPTO_KEY_MAX_BYTES} bytes here`
const RSA_TOO_LARGE = `RSA keys have at most ${CRYPTO_RSA_MAX_BITS} bits here`
/** Of a key for HMAC that is derived without a length: a block of SHA-512. */
const HMAC_DEFAULT_MAX_BITS = 1_024
/** The shortest output of a hash that PBKDF2 takes. */
const ROUND_BITS = 160

/** W1: what PBKDF2 costs is its iterations times what is asked for. */
function requireRounds(described: unknown, bits: unknown): void {
  if (Number(memberOf(described, 'iterations')) * Math.ceil(Number(bits) / ROUND_BITS) <= CRYPTO_ROUNDS_MAX) return
  if (memberOf(described, 'iterations') === undefined) return
  throw new DOMException(`PBKDF2 takes at most ${CRYPTO_ROUNDS_MAX} rounds here, which are its iterations for each ${ROUND_BITS} bits`, 'NotSupportedError')
}

/** W1. */
async function bounded(described: unknown): Promise<never> {
  // What is no plain value becomes a number only when Node reads it, after it was compared here.
  for (const name of ['iterations', 'modulusLength', 'length']) {
    if (typeof (memberOf(described, name) ?? 0) === 'object') throw new TypeError(`${name} is no number`)
  }
  if (Number(memberOf(described, 'iterations')) > CRYPTO_ITERATIONS_MAX) throw new DOMException(`PBKDF2 takes at most ${CRYPTO_ITERATIONS_MAX} iterations here`, 'NotSupportedError')
  if (Number(memberOf(described, 'modulusLength')) > CRYPTO_RSA_MAX_BITS) throw new DOMException(RSA_TOO_LARGE, 'NotSupportedError')
  if (Number(memberOf(described, 'length')) > 8 * CRYPTO_KEY_MAX_BYTES) throw new DOMException(KEY_TOO_LARGE, 'OperationError')
  return revived(described)
}

function memberOf(described: unknown, name: string): unknown {
  return typeof described === 'object' && described !== null ? (described as Readonly<Record<string, unknown>>)[name] : undefined
}

/** More than any algorithm of the standard has. */
const MEMBERS_MAX = 16

/** An algorithm with bytes in it as Node takes them, and with the key that it may have as a member (W2). Its members have no members that are objects. */
async function revived(value: unknown, keys: 'a key' | 'no keys' = 'a key'): Promise<never> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value as never
  const members = Object.entries(value)
  if (members.length > MEMBERS_MAX) throw new TypeError(`An algorithm has at most ${MEMBERS_MAX} members`)
  const made: Record<string, unknown> = {}
  for (const [name, member] of members) made[name] = name === 'public' && keys === 'a key' ? await keyMember(member) : flatMember(member)
  return made as never
}

function flatMember(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const asBytes = bytes.safeParse(value)
  if (asBytes.success) return Buffer.from(asBytes.data.b, 'base64')
  if (Object.values(value).some((member) => typeof member === 'object' && member !== null)) throw new TypeError('A member of an algorithm has objects in it')
  return value
}

function keyMember(value: unknown): unknown {
  const asKey = key.safeParse(value)
  return asKey.success ? imported(asKey.data.k) : value
}
