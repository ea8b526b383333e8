/**
 * AES of `node:crypto`. The host keeps nothing between calls, so what `update` is given is kept until `final`, which gives all of the
 * result; `update` gives nothing. Put together they are what Node gives, also as a stream.
 */
import { Buffer } from './buffer.ts'
import { bytesOf, compute, type Data, encoded } from './crypto-call.ts'
import { isKeyObject, keyBytes } from './crypto-keys.ts'
import { nodeError, requireString } from './errors.ts'

const NAME = /^(?:id-)?aes-?(128|192|256)-?(cbc|ctr|ecb|gcm)$/
const TAG_BYTES = 16

interface CipherOptions {
  readonly authTagLength?: number
}

abstract class AesCipher {
  readonly #parts: Uint8Array[] = []
  readonly #key: Uint8Array
  readonly #iv: Uint8Array
  protected readonly name: string
  protected tagLength: number
  #aad: Uint8Array = new Uint8Array(0)
  #padding = 1
  #done = false

  constructor(name: string, key: unknown, iv: unknown, options: CipherOptions = {}) {
    requireString('cipher', name)
    const match = NAME.exec(name.toLowerCase())
    if (match === null) throw nodeError(Error, 'ERR_CRYPTO_UNKNOWN_CIPHER', `Unknown cipher: ${name} (here are AES-CBC, CTR, ECB and GCM)`)
    const [, bits, mode] = match
    this.name = `aes-${bits}-${mode}`
    this.#key = Uint8Array.from(isKeyObject(key) ? keyBytes(key) : bytesOf('key', key))
    if (this.#key.length * 8 !== Number(bits)) throw nodeError(RangeError, 'ERR_CRYPTO_INVALID_KEYLEN', 'Invalid key length')
    this.#iv = iv === null ? new Uint8Array(0) : Uint8Array.from(bytesOf('iv', iv))
    const ivFits = mode === 'gcm' ? this.#iv.length > 0 : this.#iv.length === (mode === 'ecb' ? 0 : 16)
    if (!ivFits) throw nodeError(TypeError, 'ERR_CRYPTO_INVALID_IV', 'Invalid initialization vector')
    this.tagLength = mode === 'gcm' ? (options.authTagLength ?? TAG_BYTES) : 0
  }

  update(data: Data, inputEncoding?: string, outputEncoding?: string): Buffer | string {
    if (this.#done) throw nodeError(Error, 'ERR_CRYPTO_INVALID_STATE', 'Trying to add data in unsupported state')
    this.#parts.push(Uint8Array.from(bytesOf('data', data, inputEncoding)))
    return encoded(Buffer.alloc(0), outputEncoding)
  }

  setAutoPadding(padding = true): this {
    this.#padding = padding ? 1 : 0
    return this
  }

  setAAD(data: Data, options: { readonly encoding?: string } = {}): this {
    this.#aad = Uint8Array.from(bytesOf('buffer', data, options.encoding))
    return this
  }

  protected run(operation: 'encrypt' | 'decrypt', tag: Uint8Array): Buffer {
    if (this.#done) throw nodeError(Error, 'ERR_CRYPTO_INVALID_STATE', 'Unsupported state')
    this.#done = true
    return compute([operation, this.name, this.#key.length, this.#iv.length, this.#aad.length, this.tagLength, this.#padding], this.#key, this.#iv, this.#aad, tag, ...this.#parts)
  }
}

export class Cipheriv extends AesCipher {
  #tag: Buffer | null = null

  final(outputEncoding?: string): Buffer | string {
    const result = this.run('encrypt', new Uint8Array(0))
    this.#tag = result.subarray(result.length - this.tagLength)
    return encoded(result.subarray(0, result.length - this.tagLength), outputEncoding)
  }

  getAuthTag(): Buffer {
    if (this.#tag === null || this.tagLength === 0) throw nodeError(Error, 'ERR_CRYPTO_INVALID_STATE', 'Invalid state for operation getAuthTag')
    return this.#tag
  }
}

export class Decipheriv extends AesCipher {
  #tag: Uint8Array = new Uint8Array(0)

  setAuthTag(tag: Data, encoding?: string): this {
    this.#tag = Uint8Array.from(bytesOf('tag', tag, encoding))
    this.tagLength = this.#tag.length
    return this
  }

  final(outputEncoding?: string): Buffer | string {
    if (this.name.endsWith('gcm') && this.#tag.length === 0) throw new Error('Unsupported state or unable to authenticate data')
    return encoded(this.run('decrypt', this.#tag), outputEncoding)
  }
}

export function createCipheriv(name: string, key: unknown, iv: unknown, options?: CipherOptions): Cipheriv {
  return new Cipheriv(name, key, iv, options)
}

export function createDecipheriv(name: string, key: unknown, iv: unknown, options?: CipherOptions): Decipheriv {
  return new Decipheriv(name, key, iv, options)
}

export function getCiphers(): string[] {
  return ['128', '192', '256'].flatMap((bits) => ['cbc', 'ctr', 'ecb', 'gcm'].map((mode) => `aes-${bits}-${mode}`))
}
