/**
 * `crypto.subtle` and CryptoKey. A key is its bytes, in a private field: the host does the arithmetic and keeps nothing, so a
 * key outlives restores and moves like any value. Requests and answers as in shared/web-crypto/perform.ts, which also
 * does all checks that the standard asks for, but for those of a caller's objects.
 */
import { OPERATIONS } from '../abi.ts'
import { copyOf, isBufferSource } from './bytes.ts'
import { hostDigest } from './host.ts'
import { operation } from './operations.ts'
import {
  ArrayIsArray, ArrayPush, JSONParse, JSONStringify, NativeDOMException, NativeUint8Array, NumberToString, ObjectCreate, ObjectKeys, StringToUpperCase, SymbolIterator, Uint8ArrayFromBase64, Uint8ArrayToBase64,
} from './primordials.ts'
import { expose, isObject, toText } from './webidl.ts'

/** As shared/web-crypto/perform.ts has it. */
interface WireKey {
  readonly type: 'secret' | 'public' | 'private'
  readonly extractable: boolean
  readonly algorithm: Readonly<Record<string, unknown>>
  readonly usages: readonly string[]
  readonly data: string
}

const DIGESTS: Record<string, string> = { 'SHA-1': 'SHA-1', 'SHA-256': 'SHA-256', 'SHA-384': 'SHA-384', 'SHA-512': 'SHA-512' }
/** Everything that any algorithm of the standard reads of a caller's object. */
const ALGORITHM_MEMBERS = [
  'name', 'hash', 'iv', 'additionalData', 'tagLength', 'counter', 'length', 'label', 'saltLength', 'salt', 'info', 'iterations', 'namedCurve', 'modulusLength', 'publicExponent', 'public', 'context',
]
const JWK_MEMBERS = ['kty', 'use', 'key_ops', 'alg', 'ext', 'crv', 'x', 'y', 'd', 'n', 'e', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']
const EMPTY = new NativeUint8Array(0)

let making = false
let wireOf: (key: CryptoKey) => WireKey

class CryptoKey {
  #wire: WireKey | null = null
  #algorithm: unknown = null
  #usages: unknown = null

  static {
    wireOf = (key) => {
      if (key.#wire === null) throw new TypeError('Illegal invocation')
      return key.#wire
    }
  }

  constructor(wire?: WireKey) {
    if (!making || wire === undefined) throw new TypeError('Illegal constructor')
    this.#wire = wire
  }

  get type(): string {
    return wireOf(this).type
  }

  get extractable(): boolean {
    return wireOf(this).extractable
  }

  /** The same object each time, the caller's to change: what is used is the private one. */
  get algorithm(): unknown {
    this.#algorithm ??= shown(wireOf(this).algorithm)
    return this.#algorithm
  }

  get usages(): unknown {
    this.#usages ??= shown(wireOf(this).usages)
    return this.#usages
  }
}

function newKey(wire: WireKey): CryptoKey {
  making = true
  try {
    return new CryptoKey(wire)
  } finally {
    making = false
  }
}

let subtleMade = false

export class SubtleCrypto {
  constructor() {
    if (subtleMade) throw new TypeError('Illegal constructor')
    subtleMade = true
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- failures must reject
  async digest(algorithm: unknown, data: unknown): Promise<ArrayBuffer> {
    requireCount(arguments.length, 2)
    const name = StringToUpperCase(toText(isObject(algorithm) ? (algorithm as { readonly name?: unknown }).name : algorithm))
    const known = DIGESTS[name]
    if (known === undefined) throw new NativeDOMException(`Unrecognized digest algorithm: ${name}`, 'NotSupportedError')
    return hostDigest(known, source(data))
  }

  async encrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    requireCount(arguments.length, 3)
    return askBytes({ method: 'encrypt', algorithm: dictionary(algorithm), key: keyWire(key) }, source(data))
  }

  async decrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    requireCount(arguments.length, 3)
    return askBytes({ method: 'decrypt', algorithm: dictionary(algorithm), key: keyWire(key) }, source(data))
  }

  async sign(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    requireCount(arguments.length, 3)
    return askBytes({ method: 'sign', algorithm: dictionary(algorithm), key: keyWire(key) }, source(data))
  }

  async verify(algorithm: unknown, key: unknown, signature: unknown, data: unknown): Promise<boolean> {
    requireCount(arguments.length, 4)
    const request = { method: 'verify', algorithm: dictionary(algorithm), key: keyWire(key), signature: bytesWire(source(signature)) }
    return (await ask(request, source(data))) as boolean
  }

  async generateKey(algorithm: unknown, extractable: unknown, usages: unknown): Promise<unknown> {
    requireCount(arguments.length, 3)
    const made = (await ask({ method: 'generateKey', algorithm: dictionary(algorithm), extractable: Boolean(extractable), usages: list(usages) }, EMPTY)) as WireKey | { readonly publicKey: WireKey; readonly privateKey: WireKey }
    return 'privateKey' in made ? { publicKey: newKey(made.publicKey), privateKey: newKey(made.privateKey) } : newKey(made)
  }

  async deriveKey(algorithm: unknown, key: unknown, derived: unknown, extractable: unknown, usages: unknown): Promise<CryptoKey> {
    requireCount(arguments.length, 5)
    return askKey({ method: 'deriveKey', algorithm: dictionary(algorithm), key: keyWire(key), derived: dictionary(derived), extractable: Boolean(extractable), usages: list(usages) }, EMPTY)
  }

  async deriveBits(algorithm: unknown, key: unknown, length: unknown = null): Promise<ArrayBuffer> {
    requireCount(arguments.length, 2)
    return askBytes({ method: 'deriveBits', algorithm: dictionary(algorithm), key: keyWire(key), length: length === null ? null : Number(length) >>> 0 }, EMPTY)
  }

  async importKey(format: unknown, material: unknown, algorithm: unknown, extractable: unknown, usages: unknown): Promise<CryptoKey> {
    requireCount(arguments.length, 5)
    const name = toText(format)
    const isJwk = name === 'jwk'
    if (isJwk !== !isBufferSource(material) || !isObject(material)) throw new TypeError(isJwk ? 'Key data must be a JSON Web Key' : 'Key data must be an ArrayBuffer or a view')
    const request = { method: 'importKey', format: name, jwk: isJwk ? members(material, JWK_MEMBERS) : null, algorithm: dictionary(algorithm), extractable: Boolean(extractable), usages: list(usages) }
    return askKey(request, isJwk ? EMPTY : source(material))
  }

  async exportKey(format: unknown, key: unknown): Promise<unknown> {
    requireCount(arguments.length, 2)
    return ask({ method: 'exportKey', format: toText(format), key: keyWire(key) }, EMPTY)
  }

  async wrapKey(format: unknown, key: unknown, by: unknown, algorithm: unknown): Promise<ArrayBuffer> {
    requireCount(arguments.length, 4)
    return askBytes({ method: 'wrapKey', format: toText(format), key: keyWire(key), by: keyWire(by), algorithm: dictionary(algorithm) }, EMPTY)
  }

  async unwrapKey(format: unknown, wrapped: unknown, by: unknown, algorithm: unknown, unwrapped: unknown, extractable: unknown, usages: unknown): Promise<CryptoKey> {
    requireCount(arguments.length, 7)
    const request = { method: 'unwrapKey', format: toText(format), by: keyWire(by), algorithm: dictionary(algorithm), unwrapped: dictionary(unwrapped), extractable: Boolean(extractable), usages: list(usages) }
    return askKey(request, source(wrapped))
  }
}

export function installSubtle(): SubtleCrypto {
  expose('SubtleCrypto', SubtleCrypto)
  expose('CryptoKey', CryptoKey)
  return new SubtleCrypto()
}

/** An ArrayBuffer, or what JSON text says. */
async function ask(request: object, data: Uint8Array): Promise<unknown> {
  const answer = await operation(OPERATIONS.SUBTLE, JSONStringify(request), data)
  return typeof answer === 'string' ? JSONParse(answer) : answer
}

async function askBytes(request: object, data: Uint8Array): Promise<ArrayBuffer> {
  return (await ask(request, data)) as ArrayBuffer
}

async function askKey(request: object, data: Uint8Array): Promise<CryptoKey> {
  return newKey((await ask(request, data)) as WireKey)
}

function requireCount(count: number, wanted: number): void {
  if (count < wanted) throw new TypeError(`${wanted} arguments required, but only ${count} present`)
}

/** A copy at the time of the call: the caller may change the original while the host works. */
function source(value: unknown): Uint8Array {
  if (!isBufferSource(value)) throw new TypeError('An ArrayBuffer or a view is needed')
  return copyOf(value)
}

function bytesWire(bytes: Uint8Array): { readonly b: string } {
  return { b: Uint8ArrayToBase64(bytes) }
}

function keyWire(value: unknown): { readonly k: WireKey } {
  if (!(value instanceof CryptoKey)) throw new TypeError('A CryptoKey is needed')
  return { k: wireOf(value) }
}

/** An algorithm: a name, or an object of which the members of the standard are read, each once. */
function dictionary(value: unknown): unknown {
  return isObject(value) ? members(value, ALGORITHM_MEMBERS) : toText(value)
}

function members(value: object, names: readonly string[]): Record<string, unknown> {
  const read = ObjectCreate(null) as Record<string, unknown>
  for (let at = 0; at < names.length; at++) {
    const name = names[at] ?? ''
    const member = (value as Record<string, unknown>)[name]
    if (member !== undefined) read[name] = memberWire(name, member)
  }
  return read
}

function memberWire(name: string, value: unknown): unknown {
  if (isBufferSource(value)) return bytesWire(copyOf(value))
  if (value instanceof CryptoKey) return keyWire(value)
  if (name === 'key_ops' || name === 'oth') return list(value)
  if (name === 'hash') return dictionary(value)
  // JSON has no word for these; the host's conversion of the text refuses them.
  if (typeof value === 'number') return value - value === 0 ? value : NumberToString(value)
  if (typeof value === 'boolean' || value === null) return value
  return isObject(value) ? {} : toText(value)
}

/** A sequence of texts. */
function list(value: unknown): string[] {
  if (!isObject(value) || typeof (value as Partial<Iterable<unknown>>)[SymbolIterator] !== 'function') throw new TypeError('A sequence is needed')
  const texts: string[] = []
  for (const item of value as Iterable<unknown>) ArrayPush(texts, toText(item))
  return texts
}

/** What a caller sees of a wire value: bytes where they are marked, its own objects else. */
function shown(value: unknown): unknown {
  if (!isObject(value)) return value
  if (ArrayIsArray(value)) {
    const copy: unknown[] = []
    for (let at = 0; at < value.length; at++) ArrayPush(copy, shown(value[at]))
    return copy
  }
  const { b } = value as { readonly b?: string }
  if (b !== undefined) return Uint8ArrayFromBase64(b)
  const copy: Record<string, unknown> = {}
  const keys = ObjectKeys(value)
  for (let at = 0; at < keys.length; at++) copy[keys[at] ?? ''] = shown((value as Record<string, unknown>)[keys[at] ?? ''])
  return copy
}
