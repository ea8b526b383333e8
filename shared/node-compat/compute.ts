/**
 * The cryptography of `node:crypto` that answers at once, on the thread that runs the guest: what Node does in
 * microseconds. A request is lines of text, first the operation; what it works on is one piece of bytes, whose parts are
 * as long as the request says, the last one being the rest. The answer is bytes, JSON text, or `!code\nmessage`.
 *
 *   hash      algorithm, length of output ('': its own)                       data
 *   hmac      algorithm, key length                                           key, data
 *   pbkdf2    algorithm, password length, iterations                          password, U, T (of the hash's length) -> U, T after so many more iterations
 *   hkdf      algorithm, key length, salt length, output length               key, salt, info
 *   key       private|public, format, type                                    key -> { type, details, data }
 *   export    private|public, format, type                                    PKCS #8 or SPKI
 *   sign      algorithm, key length, padding, salt length, dsaEncoding        PKCS #8, data
 *   verify    the same, and the signature's length                            SPKI, signature, data -> one byte
 *   encrypt   algorithm, key, iv, aad and tag length, padding                 key, iv, aad, data -> data, tag
 *   decrypt   the same                                                        key, iv, aad, tag, data
 *
 * N1  Nothing is kept between two calls.
 * N2  Everything may be forged. What a call may cost is bounded here, by bytes, bits and iterations, to a few milliseconds;
 *     the caller charges the run for the time it took. Keys under a passphrase are refused: whoever wrote one chose its iterations.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, createPrivateKey, createPublicKey, hkdfSync, type KeyObject, sign, type SigningOptions, verify } from 'node:crypto'
import { CRYPTO_RSA_KEY_MAX_BYTES, CRYPTO_RSA_MAX_BITS, MIB } from '../limits.ts'

/** Of a request: its words are names and numbers. */
export const COMPUTE_REQUEST_MAX_BYTES = 1_024
/** SHA-1 of so much takes some ten milliseconds, of which the guest cannot be stopped. */
export const COMPUTE_DATA_MAX_BYTES = 8 * MIB
/** Of one call; the guest goes on with another. About a millisecond. */
export const COMPUTE_ITERATIONS_MAX = 512
/** A longer key of HMAC stands for its hash, which is made once here and not with each iteration. No hash has blocks as large as this. */
const HMAC_KEY_MAX_BYTES = 256
const RSA_EXPONENT_MAX = 2n ** 32n
const OUTPUT_MAX_BYTES = 16_384
export const HASHES: ReadonlySet<string> = new Set(['md5', 'ripemd160', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'sha512-224', 'sha512-256', 'sha3-224', 'sha3-256', 'sha3-384', 'sha3-512', 'shake128', 'shake256', 'blake2b512', 'blake2s256'])
export const CIPHERS: ReadonlySet<string> = new Set(['128', '192', '256'].flatMap((bits) => ['cbc', 'ctr', 'ecb', 'gcm'].map((mode) => `aes-${bits}-${mode}`)))
const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1', 'secp256k1'])
const KEY_TYPES: ReadonlySet<string> = new Set(['rsa', 'rsa-pss', 'ec', 'ed25519'])

class Refused extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** Never throws. `data` may be a view of the guest's memory: it is not used after the call. */
export function compute(request: string, data: Uint8Array): Uint8Array | string {
  try {
    if (data.length > COMPUTE_DATA_MAX_BYTES) throw new Refused('ERR_OUT_OF_RANGE', `At most ${COMPUTE_DATA_MAX_BYTES} bytes are processed at once`)
    const [operation = '', ...words] = request.split('\n')
    return perform(operation, words, new Parts(data))
  } catch (error) {
    const { code = 'ERR_CRYPTO_OPERATION_FAILED', message = 'The operation failed' } = error as { readonly code?: string; readonly message?: string }
    return `!${code}\n${message}`
  }
}

/** Reads the parts of what came, in turn. */
class Parts {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  take(length: string | undefined): Uint8Array {
    const start = this.#at
    this.#at = Math.min(this.#bytes.length, start + count(length, this.#bytes.length))
    return this.#bytes.subarray(start, this.#at)
  }

  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at)
  }
}

function perform(operation: string, words: readonly string[], parts: Parts): Uint8Array | string {
  switch (operation) {
    case 'hash': {
      const outputLength = words[1] === undefined || words[1] === '' ? undefined : count(words[1], OUTPUT_MAX_BYTES)
      return createHash(hashName(words[0]), outputLength === undefined ? {} : { outputLength }).update(parts.rest()).digest()
    }
    case 'hmac':
      return createHmac(hashName(words[0]), parts.take(words[1])).update(parts.rest()).digest()
    case 'pbkdf2':
      return iterate(hashName(words[0]), parts.take(words[1]), count(words[2], COMPUTE_ITERATIONS_MAX), parts.rest())
    case 'hkdf':
      return new Uint8Array(hkdfSync(hashName(words[0]), parts.take(words[1]), parts.take(words[2]), parts.rest(), count(words[3], OUTPUT_MAX_BYTES)))
    case 'key': {
      const key = parseKey(words[0] === 'private', words[1] ?? '', words[2] ?? '', parts.rest())
      const { modulusLength, publicExponent, namedCurve, hashAlgorithm, mgf1HashAlgorithm, saltLength } = key.asymmetricKeyDetails ?? {}
      return JSON.stringify({
        type: key.asymmetricKeyType, details: { modulusLength, publicExponent: publicExponent?.toString(), namedCurve, hashAlgorithm, mgf1HashAlgorithm, saltLength },
        data: key.export({ type: key.type === 'private' ? 'pkcs8' : 'spki', format: 'der' } as { type: 'spki'; format: 'der' }).toString('base64'),
      })
    }
    case 'export': {
      const key = parseKey(words[0] === 'private', 'der', words[0] === 'private' ? 'pkcs8' : 'spki', parts.rest())
      if (words[1] === 'jwk') return JSON.stringify(key.export({ format: 'jwk' }))
      const exported = key.export({ format: words[1], type: words[2] } as { type: 'spki'; format: 'pem' })
      return Buffer.from(exported)
    }
    case 'sign': {
      const key = parseKey(true, 'der', 'pkcs8', parts.take(words[1]))
      return sign(signatureHash(words[0]), parts.rest(), { key, ...signingOptions(words) })
    }
    case 'verify': {
      const key = parseKey(false, 'der', 'spki', parts.take(words[1]))
      const signature = parts.take(words[5])
      return Uint8Array.of(verify(signatureHash(words[0]), parts.rest(), { key, ...signingOptions(words) }, signature) ? 1 : 0)
    }
    case 'encrypt':
    case 'decrypt':
      return transform(operation === 'encrypt', words, parts)
    default:
      throw new Refused('ERR_INVALID_ARG_VALUE', `Unknown operation ${operation}`)
  }
}

function count(word: string | undefined, max: number): number {
  const value = Number(word)
  if (word === undefined || word === '' || !Number.isInteger(value) || value < 0 || value > max) throw new Refused('ERR_OUT_OF_RANGE', `Must be an integer from 0 to ${max}: ${word}`)
  return value
}

function hashName(name: string | undefined): string {
  if (name === undefined || !HASHES.has(name)) throw new Refused('ERR_CRYPTO_INVALID_DIGEST', `Invalid digest: ${name}`)
  return name
}

function signatureHash(name: string | undefined): string | null {
  return name === undefined || name === '' ? null : hashName(name)
}

/** U of PBKDF2 is hashed on, and T is the XOR of all of them: both are one output long. */
function iterate(hash: string, given: Uint8Array, iterations: number, state: Uint8Array): Uint8Array {
  const length = createHash(hash).digest().length
  if (state.length !== 2 * length) throw new Refused('ERR_OUT_OF_RANGE', `U and T have ${length} bytes each`)
  const password = given.length > HMAC_KEY_MAX_BYTES ? createHash(hash).update(given).digest() : given
  let last = state.subarray(0, length)
  const result = Uint8Array.from(state)
  for (let i = 0; i < iterations; i++) {
    last = createHmac(hash, password).update(last).digest()
    for (let k = 0; k < length; k++) result[length + k] = (result[length + k] ?? 0) ^ (last[k] ?? 0)
  }
  result.set(last)
  return result
}

/** N2. */
function parseKey(isPrivate: boolean, format: string, type: string, bytes: Uint8Array): KeyObject {
  // What is signed with is DER, whose numbers may be as large as it has room for. A certificate in PEM may be long.
  const maxBytes = format === 'der' ? CRYPTO_RSA_KEY_MAX_BYTES : 4 * CRYPTO_RSA_KEY_MAX_BYTES
  if (bytes.length > maxBytes) throw new Refused('ERR_OUT_OF_RANGE', `A key has at most ${maxBytes} bytes`)
  const text = format === 'der' ? '' : Buffer.from(bytes).toString('latin1')
  if (text.includes('ENCRYPTED')) throw new Refused('ERR_CRYPTO_UNSUPPORTED_OPERATION', 'Keys under a passphrase cannot be read here: decrypt them first')
  const input = format === 'jwk' ? { key: JSON.parse(text) as object, format } : format === 'pem' ? { key: text, format } : { key: Buffer.from(bytes), format, type }
  const key = (isPrivate ? createPrivateKey : createPublicKey)(input as never)
  const { modulusLength = 0, publicExponent = 3n, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === undefined || !KEY_TYPES.has(key.asymmetricKeyType)) throw new Refused('ERR_CRYPTO_UNSUPPORTED_OPERATION', `Keys of type ${key.asymmetricKeyType} are not supported here`)
  if (modulusLength > CRYPTO_RSA_MAX_BITS || publicExponent > RSA_EXPONENT_MAX) throw new Refused('ERR_CRYPTO_UNSUPPORTED_OPERATION', `An RSA key has at most ${CRYPTO_RSA_MAX_BITS} bits, and an exponent of at most 32`)
  if (key.asymmetricKeyType === 'ec' && (namedCurve === undefined || !CURVES.has(namedCurve))) throw new Refused('ERR_CRYPTO_UNSUPPORTED_OPERATION', `The curve ${namedCurve} is not supported here`)
  return key
}

function signingOptions(words: readonly string[]): SigningOptions {
  const [, , padding = '', saltLength = '', dsaEncoding = ''] = words
  return {
    ...(padding === '' ? {} : { padding: count(padding, 6) }),
    ...(saltLength === '' ? {} : { saltLength: saltLength.startsWith('-') ? -count(saltLength.slice(1), 2) : count(saltLength, 512) }),
    ...(dsaEncoding === 'ieee-p1363' ? { dsaEncoding } : {}),
  }
}

function transform(encrypt: boolean, words: readonly string[], parts: Parts): Uint8Array {
  const [name = '', keyLength, ivLength, aadLength, tagLength, padding] = words
  if (!CIPHERS.has(name)) throw new Refused('ERR_CRYPTO_UNKNOWN_CIPHER', `Unknown cipher: ${name}`)
  const [key, iv, aad] = [parts.take(keyLength), parts.take(ivLength), parts.take(aadLength)]
  const usedIv = name.endsWith('ecb') ? null : iv
  const authTagLength = count(tagLength, 16)
  const authenticated = name.endsWith('gcm')
  // The types tell the modes apart, which are told apart below.
  const options = (authenticated ? { authTagLength } : {}) as { authTagLength: number }
  const cipherName = name as 'aes-128-gcm'
  if (encrypt) {
    const cipher = createCipheriv(cipherName, key, usedIv as Uint8Array, options)
    if (padding === '0') cipher.setAutoPadding(false)
    if (authenticated) cipher.setAAD(aad)
    return Buffer.concat([cipher.update(parts.rest()), cipher.final(), ...(authenticated ? [cipher.getAuthTag()] : [])])
  }
  const decipher = createDecipheriv(cipherName, key, usedIv as Uint8Array, options)
  if (padding === '0') decipher.setAutoPadding(false)
  if (authenticated) {
    decipher.setAAD(aad)
    decipher.setAuthTag(parts.take(tagLength))
  }
  return Buffer.concat([decipher.update(parts.rest()), decipher.final()])
}
