/** `crypto`: randomness by a host call, ids from it; keys and digests in subtle.ts. */
import { NativeDOMException, NativeUint8Array, NumberToString, StringPadStart, StringSlice, TypedArrayBuffer, TypedArrayByteLength, TypedArrayByteOffset, TypedArraySet, TypedArrayTag } from './primordials.ts'
import { hostRandom } from './host.ts'
import { installSubtle, type SubtleCrypto } from './subtle.ts'
import { expose, publish } from './webidl.ts'

/** The Web Crypto bound on one call, and the contract's. */
const RANDOM_MAX_BYTES = 65_536

let allowed = true

class Crypto {
  readonly #subtle: SubtleCrypto

  constructor(subtle?: SubtleCrypto) {
    if (!allowed || subtle === undefined) throw new TypeError('Illegal constructor')
    this.#subtle = subtle
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
  const subtle = installSubtle()
  expose('Crypto', Crypto)
  publish('crypto', new Crypto(subtle))
  allowed = false
}
