/**
 * Gathers a request body until it is complete, within a bound and within what all such bodies together may hold.
 *
 * W1  What is held is 16 KiB or at most twice what has come: a client that only announces a large body takes no room
 *     from others.
 */
import type { FairShare } from '../fair-share.ts'

/** What a longer body, or one of unknown length, starts with; it doubles from there. */
const FIRST_BYTES = 16_384

export type BodyVerdict =
  | { readonly kind: 'more' }
  | { readonly kind: 'complete'; readonly body: Uint8Array }
  /** Larger than one body may be. */
  | { readonly kind: 'too-large' }
  /** This client's bodies hold more than their share of what all may. */
  | { readonly kind: 'no-room' }

const MORE: BodyVerdict = { kind: 'more' }

export class WholeBody {
  readonly #bodies: FairShare
  readonly #client: string
  readonly #maxBytes: number
  readonly #expectedBytes: number
  #buffer: Buffer | null = null
  #receivedBytes = 0

  /** `expectedBytes` -1: not known. */
  constructor(bodies: FairShare, client: string, maxBytes: number, expectedBytes: number) {
    this.#bodies = bodies
    this.#client = client
    this.#maxBytes = maxBytes
    this.#expectedBytes = expectedBytes
  }

  /** `chunk` is copied. After any verdict but `more` nothing may be pushed. */
  push(chunk: ArrayBuffer, last: boolean): BodyVerdict {
    const neededBytes = this.#receivedBytes + chunk.byteLength
    if (neededBytes > this.#maxBytes || this.#expectedBytes > this.#maxBytes) return this.#end({ kind: 'too-large' })
    // Most come in one piece, and nobody has to wait for the rest.
    if (last && this.#buffer === null) return { kind: 'complete', body: Buffer.from(new Uint8Array(chunk)) }
    if (this.#buffer === null || neededBytes > this.#buffer.byteLength) {
      if (!this.#grow(neededBytes)) return this.#end({ kind: 'no-room' })
    }
    const buffer = this.#buffer ?? Buffer.alloc(0)
    buffer.set(new Uint8Array(chunk), this.#receivedBytes)
    this.#receivedBytes = neededBytes
    return last ? this.#end({ kind: 'complete', body: buffer.subarray(0, neededBytes) }) : MORE
  }

  /** Gives the counted bytes back. Idempotent. */
  release(): void {
    this.#bodies.add(this.#client, -(this.#buffer?.byteLength ?? 0))
    this.#buffer = null
  }

  #grow(neededBytes: number): boolean {
    const mostBytes = this.#expectedBytes >= 0 ? this.#expectedBytes : this.#maxBytes
    const bytes = Math.min(mostBytes, Math.max(FIRST_BYTES, neededBytes * 2))
    const addedBytes = bytes - (this.#buffer?.byteLength ?? 0)
    if (!this.#bodies.take(this.#client, addedBytes)) return false
    const larger = Buffer.allocUnsafe(bytes)
    if (this.#buffer !== null) larger.set(this.#buffer.subarray(0, this.#receivedBytes))
    this.#buffer = larger
    return true
  }

  #end(verdict: BodyVerdict): BodyVerdict {
    this.release()
    return verdict
  }
}
