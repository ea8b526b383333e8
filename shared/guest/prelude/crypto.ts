/** `crypto`: randomness and digests are host calls; keys are not there yet and say so. */
import { NativeDOMException, NativeUint8Array, NumberToString, StringPadStart, StringSlice, StringToUpperCase, TypedArrayBuffer, TypedArrayByteLength, TypedArrayByteOffset, TypedArraySet, TypedArrayTag } from './primordials.ts'
import { isBufferSource, copyOf } from './bytes.ts'
import { hostDigest, hostRandom } from './host.ts'
import { define, publish, expose, isObject, toText } from './webidl.ts'

/** The Web Crypto bound on one call, and the contract's. */
const RANDOM_MAX_BYTES = 65_536
const DIGESTS: Record<string, string> = { 'SHA-1': 'SHA-1', 'SHA-256': 'SHA-256', 'SHA-384': 'SHA-384', 'SHA-512': 'SHA-512' }

let allowed = true

class SubtleCrypto {
  constructor() {
    if (!allowed) throw new TypeError('Illegal constructor')
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- failures must reject
  async digest(algorithm: unknown, data: unknown): Promise<ArrayBuffer> {
    const name = StringToUpperCase(toText(isObject(algorithm) ? (algorithm as { readonly name?: unknown }).name : algorithm))
    const known = DIGESTS[name]
    if (known === undefined) throw new NativeDOMException(`Unrecognized digest algorithm: ${name}`, 'NotSupportedError')
    if (!isBufferSource(data)) throw new TypeError('The data of a digest must be an ArrayBuffer or a view')
    return hostDigest(known, copyOf(data))
  }
}

function unsupported(name: string): () => Promise<never> {
  return {
    // eslint-disable-next-line @typescript-eslint/require-await -- it must reject, not throw
    async [name](): Promise<never> {
      throw new NativeDOMException(`crypto.subtle.${name} is not supported here yet`, 'NotSupportedError')
    },
  }[name] as () => Promise<never>
}

class Crypto {
  readonly #subtle = new SubtleCrypto()

  constructor() {
    if (!allowed) throw new TypeError('Illegal constructor')
  }

  get subtle(): SubtleCrypto {
    return this.#subtle
  }

  getRandomValues<T>(view: T): T {
    const tag = TypedArrayTag(view)
    if (tag === undefined || tag === 'Float16Array' || tag === 'Float32Array' || tag === 'Float64Array') throw new NativeDOMException('getRandomValues needs a typed array of integers', 'TypeMismatchError')
    const byteLength = TypedArrayByteLength(view)
    if (byteLength > RANDOM_MAX_BYTES) throw new NativeDOMException(`getRandomValues gives at most ${RANDOM_MAX_BYTES} bytes, not ${byteLength}`, 'QuotaExceededError')
    TypedArraySet(new NativeUint8Array(TypedArrayBuffer(view), TypedArrayByteOffset(view), byteLength), new NativeUint8Array(hostRandom(byteLength)))
    return view
  }

  randomUUID(): string {
    const bytes = new NativeUint8Array(hostRandom(16))
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
    let hex = ''
    for (let i = 0; i < 16; i++) hex += StringPadStart(NumberToString(bytes[i] ?? 0, 16), 2, '0')
    return `${StringSlice(hex, 0, 8)}-${StringSlice(hex, 8, 12)}-${StringSlice(hex, 12, 16)}-${StringSlice(hex, 16, 20)}-${StringSlice(hex, 20)}`
  }
}

export function installCrypto(): void {
  for (const name of ['encrypt', 'decrypt', 'sign', 'verify', 'generateKey', 'deriveKey', 'deriveBits', 'importKey', 'exportKey', 'wrapKey', 'unwrapKey']) define(SubtleCrypto.prototype, name, unsupported(name))
  expose('Crypto', Crypto)
  expose('SubtleCrypto', SubtleCrypto)
  publish('crypto', new Crypto())
  allowed = false
}
