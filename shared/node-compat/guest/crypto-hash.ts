/** Hashes of `node:crypto`. What comes in is kept until `digest`, when the host hashes it in one call. */
import { Buffer } from './buffer.ts'
import { bytesOf, compute, type Data, encoded } from './crypto-call.ts'
import { isKeyObject, keyBytes } from './crypto-keys.ts'
import { invalidType, nodeError, requireString } from './errors.ts'
import EventEmitter from './events.ts'

const NAMES = ['md5', 'ripemd160', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'sha512-224', 'sha512-256', 'sha3-224', 'sha3-256', 'sha3-384', 'sha3-512', 'shake128', 'shake256', 'blake2b512', 'blake2s256']
/** Bytes of a digest, of a block. */
const SIZES: Readonly<Record<string, readonly [number, number]>> = { 'md5': [16, 64], 'sha1': [20, 64], 'sha224': [28, 64], 'sha256': [32, 64], 'sha384': [48, 128], 'sha512': [64, 128], 'sha512-224': [28, 128], 'sha512-256': [32, 128], 'ripemd160': [20, 64] }
const Base = EventEmitter as unknown as new () => NodeJS.EventEmitter

/** The name by which the host knows it; Node takes any case, `RSA-` before it and `sha-256`. */
export function hashName(name: unknown): string {
  requireString('algorithm', name)
  const known = name.toLowerCase().replace(/^rsa-/, '').replace(/^sha-(?=\d)/, 'sha').replace('/', '-').replace('rmd160', 'ripemd160')
  if (!NAMES.includes(known)) throw new Error(`Digest method not supported: ${name}`)
  return known
}

export function digestBytes(name: string): number {
  return SIZES[name]?.[0] ?? compute(['hash', name, ''], new Uint8Array(0)).length
}

/** What Hash and Hmac have in common: bytes in by `update` or as a stream, one digest out. */
abstract class Digest extends Base {
  readonly writable = true
  readonly readable = true
  protected parts: Uint8Array[] = []
  protected done = false
  #result: Buffer | null = null

  protected abstract compute(): Buffer

  update(data: Data, encoding?: string): this {
    if (this.done) throw nodeError(Error, 'ERR_CRYPTO_HASH_FINALIZED', 'Digest already called')
    // A copy: the caller may go on to use its buffer for something else.
    this.parts.push(typeof data === 'string' ? bytesOf('data', data, encoding) : Uint8Array.from(bytesOf('data', data)))
    return this
  }

  digest(encoding?: string): Buffer | string {
    if (this.done) throw nodeError(Error, 'ERR_CRYPTO_HASH_FINALIZED', 'Digest already called')
    this.done = true
    const result = this.compute()
    this.parts = []
    return encoded(result, encoding)
  }

  write(data: Data, encoding?: unknown, done?: unknown): boolean {
    this.update(data, typeof encoding === 'string' ? encoding : undefined)
    const callback = typeof encoding === 'function' ? encoding : done
    if (typeof callback === 'function') queueMicrotask(() => (callback as () => void)())
    return true
  }

  end(data?: Data, encoding?: string): this {
    if (data !== undefined) this.update(data, encoding)
    this.#result = this.digest() as Buffer
    queueMicrotask(() => {
      this.emit('finish')
      this.emit('readable')
      if (this.listenerCount('data') > 0) this.emit('data', this.read())
      this.emit('end')
      this.emit('close')
    })
    return this
  }

  read(): Buffer | null {
    const result = this.#result
    this.#result = null
    return result
  }
}

interface HashOptions {
  readonly outputLength?: number
}

export class Hash extends Digest {
  readonly #name: string
  readonly #outputLength: number | ''

  constructor(name: string, options: HashOptions = {}) {
    super()
    this.#name = hashName(name)
    this.#outputLength = options.outputLength ?? ''
  }

  protected compute(): Buffer {
    return compute(['hash', this.#name, this.#outputLength], ...this.parts)
  }

  copy(options: HashOptions = {}): Hash {
    if (this.done) throw nodeError(Error, 'ERR_CRYPTO_HASH_FINALIZED', 'Digest already called')
    const length = options.outputLength ?? this.#outputLength
    const copy = new Hash(this.#name, length === '' ? {} : { outputLength: length })
    copy.parts = [...this.parts]
    return copy
  }
}

export class Hmac extends Digest {
  readonly #name: string
  readonly #key: Uint8Array

  constructor(name: string, key: unknown, options: { readonly encoding?: string } = {}) {
    super()
    requireString('hmac', name)
    try {
      this.#name = hashName(name)
    } catch {
      throw nodeError(TypeError, 'ERR_CRYPTO_INVALID_DIGEST', `Invalid digest: ${name}`)
    }
    if (key === undefined || key === null) throw invalidType('key', 'of type string or an instance of ArrayBuffer, Buffer, TypedArray, DataView, KeyObject, or CryptoKey', key)
    this.#key = Uint8Array.from(isKeyObject(key) ? keyBytes(key) : bytesOf('key', key, options.encoding))
  }

  protected compute(): Buffer {
    return compute(['hmac', this.#name, this.#key.length], this.#key, ...this.parts)
  }
}

export function createHash(name: string, options?: HashOptions): Hash {
  return new Hash(name, options)
}

export function createHmac(name: string, key: unknown, options?: { readonly encoding?: string }): Hmac {
  return new Hmac(name, key, options)
}

/** The digest of one piece, as text unless asked otherwise. */
export function hash(name: string, data: Data, encoding = 'hex'): Buffer | string {
  return createHash(name).update(data).digest(encoding)
}

export function getHashes(): string[] {
  return [...NAMES]
}

