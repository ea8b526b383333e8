/** KeyObject, signatures and what `node:crypto` takes as a key. A key is its bytes (PKCS #8, SPKI, or secret), the host parses them anew each time. */
import { Buffer } from './buffer.ts'
import { bytesOf, compute, computeJson, type Data, encoded } from './crypto-call.ts'
import { invalidType, nodeError } from './errors.ts'

type KeyType = 'secret' | 'public' | 'private'
interface Details {
  readonly modulusLength?: number
  readonly publicExponent?: bigint
  readonly namedCurve?: string
  readonly hashAlgorithm?: string
  readonly mgf1HashAlgorithm?: string
  readonly saltLength?: number
}
interface KeyOptions {
  readonly key: unknown
  readonly format?: string
  readonly type?: string
  readonly passphrase?: unknown
  readonly encoding?: string
  readonly padding?: number
  readonly saltLength?: number
  readonly dsaEncoding?: string
}
interface ExportOptions {
  readonly format?: string
  readonly type?: string
  readonly cipher?: string
}

export class KeyObject {
  readonly type: KeyType
  readonly #data: Uint8Array
  readonly #asymmetricKeyType: string | undefined
  readonly #details: Details | undefined

  constructor(type: KeyType, data: Uint8Array, asymmetricKeyType?: string, details?: Details) {
    this.type = type
    this.#data = data
    this.#asymmetricKeyType = asymmetricKeyType
    this.#details = details
  }

  get [Symbol.toStringTag](): string {
    return 'KeyObject'
  }

  get asymmetricKeyType(): string | undefined {
    return this.#asymmetricKeyType
  }

  get asymmetricKeyDetails(): Details | undefined {
    return this.#details
  }

  get symmetricKeySize(): number | undefined {
    return this.type === 'secret' ? this.#data.length : undefined
  }

  static bytes(key: KeyObject): Uint8Array {
    return key.#data
  }

  export(options: ExportOptions = {}): unknown {
    if (options.cipher !== undefined) throw nodeError(Error, 'ERR_CRYPTO_UNSUPPORTED_OPERATION', 'Keys cannot be put under a passphrase here')
    if (this.type === 'secret') return options.format === 'jwk' ? { kty: 'oct', k: Buffer.from(this.#data).toString('base64url') } : Buffer.from(this.#data)
    if (options.format === 'jwk') return computeJson(['export', this.type, 'jwk'], this.#data)
    const exported = compute(['export', this.type, options.format ?? 'pem', options.type ?? (this.type === 'private' ? 'pkcs8' : 'spki')], this.#data)
    return options.format === 'der' ? exported : exported.toString()
  }

  equals(other: KeyObject): boolean {
    return this.type === other.type && this.#data.length === other.#data.length && this.#data.every((byte, index) => byte === other.#data[index])
  }
}

export function isKeyObject(value: unknown): value is KeyObject {
  return value instanceof KeyObject
}

export function keyBytes(key: KeyObject): Uint8Array {
  return KeyObject.bytes(key)
}

export function createSecretKey(key: unknown, encoding?: string): KeyObject {
  return new KeyObject('secret', Uint8Array.from(bytesOf('key', key, encoding)))
}

export function createPrivateKey(key: unknown): KeyObject {
  return parse('private', key)
}

/** Of a private key as well, whose public half it then is. */
export function createPublicKey(key: unknown): KeyObject {
  if (!(key instanceof KeyObject)) return parse('public', key)
  if (key.type !== 'private') throw nodeError(TypeError, 'ERR_CRYPTO_INVALID_KEY_OBJECT_TYPE', `Invalid key object type ${key.type}, expected private.`)
  return parse('public', { key: keyBytes(key), format: 'der', type: 'pkcs8' })
}

function parse(type: 'public' | 'private', given: unknown): KeyObject {
  if (given === undefined || given === null || typeof given === 'number' || typeof given === 'boolean') throw invalidType('key', 'of type string or an instance of ArrayBuffer, Buffer, TypedArray, DataView, or object', given)
  const options: KeyOptions = typeof given === 'object' && 'key' in given ? (given) : { key: given }
  if (options.passphrase !== undefined) throw nodeError(Error, 'ERR_CRYPTO_UNSUPPORTED_OPERATION', 'Keys under a passphrase cannot be read here: decrypt them first')
  if (options.key instanceof KeyObject) return options.key.type === type ? options.key : type === 'public' ? createPublicKey(options.key) : refuseType(options.key)
  const format = options.format ?? 'pem'
  const bytes = format === 'jwk' ? Buffer.from(JSON.stringify(options.key)) : bytesOf('key', options.key, options.encoding)
  const parsed = computeJson(['key', type, format, options.type ?? ''], bytes) as { readonly type: string; readonly details: Record<string, unknown>; readonly data: string }
  const { publicExponent, ...details } = parsed.details
  return new KeyObject(type, Buffer.from(parsed.data, 'base64'), parsed.type, { ...details, ...(typeof publicExponent === 'string' ? { publicExponent: BigInt(publicExponent) } : {}) })
}

function refuseType(key: KeyObject): never {
  throw nodeError(TypeError, 'ERR_CRYPTO_INVALID_KEY_OBJECT_TYPE', `Invalid key object type ${key.type}, expected private.`)
}

/** Padding, salt and encoding of what was given as a key. */
function optionWords(key: unknown): string[] {
  const { padding, saltLength, dsaEncoding } = typeof key === 'object' && key !== null && 'key' in key ? (key as KeyOptions) : ({} as KeyOptions)
  return [`${padding ?? ''}`, `${saltLength ?? ''}`, dsaEncoding ?? '']
}

/** `hash` is '' for keys that have their own. */
export function signBytes(hash: string, data: Uint8Array, given: unknown): Buffer {
  const key = keyBytes(parse('private', given))
  return compute(['sign', hash, key.length, ...optionWords(given)], key, data)
}

export function verifyBytes(hash: string, data: Uint8Array, given: unknown, signature: Uint8Array): boolean {
  const key = keyBytes(parse('public', given))
  return compute(['verify', hash, key.length, ...optionWords(given), signature.length], key, signature, data)[0] === 1
}

/** Collects what is signed. */
class Collector {
  protected readonly hash: string
  protected readonly parts: Uint8Array[] = []

  constructor(hash: string) {
    this.hash = hash
  }

  update(data: Data, encoding?: string): this {
    this.parts.push(Uint8Array.from(bytesOf('data', data, encoding)))
    return this
  }

  write(data: Data, encoding?: string): boolean {
    this.update(data, encoding)
    return true
  }

  end(data?: Data, encoding?: string): this {
    return data === undefined ? this : this.update(data, encoding)
  }
}

export class Sign extends Collector {
  sign(key: unknown, encoding?: string): Buffer | string {
    return encoded(signBytes(this.hash, Buffer.concat(this.parts), key), encoding)
  }
}

export class Verify extends Collector {
  verify(key: unknown, signature: Data, encoding?: string): boolean {
    return verifyBytes(this.hash, Buffer.concat(this.parts), key, bytesOf('signature', signature, encoding))
  }
}
