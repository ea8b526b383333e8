/**
 * A watch of a NATS bucket over any number of connections: each begins where the last one was told, so that nothing is told
 * twice and nothing is missed (C1, C3 of types.ts). A bucket that is behind what was told is another one, or has lost
 * its end: then everything is told anew after `onGap`.
 */
import { toCodedError } from '../errors.ts'
import type { NatsBucket } from './nats-bucket.ts'
import { consume, type StreamMessage } from './nats-consumer.ts'
import type { DocumentListener } from './types.ts'

/** Holds the newest revision of a deletion that is forgotten. No key of a caller begins so (names.ts). */
export const HORIZON_KEY = '=horizon'
const AGAIN_MS = 500

export class NatsWatch {
  readonly #bucket: NatsBucket
  readonly #listener: DocumentListener
  readonly #cancelConnected: () => void
  /** Last revision told; what comes next is later. */
  #told: number
  /** Whether deletions are told: not to those who start from nothing, before they are current. */
  #tellDeleted: boolean
  #current = false
  #stopped = false
  /** Of the consumer in use; what an older one says is not heard. */
  #attempt = 0
  #endConsumer: (() => void) | null = null
  #cancelTimer: (() => void) | null = null

  constructor(bucket: NatsBucket, listener: DocumentListener, afterRevision: number) {
    this.#bucket = bucket
    this.#listener = listener
    this.#told = afterRevision
    this.#tellDeleted = afterRevision > 0
    this.#cancelConnected = bucket.link.onConnected(() => void this.#begin())
    void this.#begin()
  }

  stop(): void {
    this.#stopped = true
    this.#cancelConnected()
    this.#leave()
  }

  async #begin(): Promise<void> {
    this.#leave()
    const attempt = this.#attempt
    const isOver = (): boolean => this.#stopped || attempt !== this.#attempt
    try {
      const lastRevision = await this.#bucket.call(async (_kv, { jsm }) => (await jsm.streams.info(this.#bucket.stream)).state.last_seq)
      if (isOver()) return
      const horizon = this.#told === 0 ? 0 : await this.#horizon()
      if (isOver()) return
      if (this.#told > lastRevision || horizon > this.#told) this.#startOver()
      const end = await consume(this.#bucket, {
        fromRevision: this.#told + 1,
        headersOnly: false,
        onMessage: (message) => {
          if (!isOver()) this.#onMessage(message)
        },
        onIdle: () => {
          if (!isOver()) this.#setCurrent()
        },
        onBroken: (reason) => {
          if (!isOver()) this.#again(reason)
        },
      })
      if (isOver()) end()
      else this.#endConsumer = end
    } catch (error) {
      if (!isOver() && !this.#bucket.link.closed) this.#again(toCodedError(error).message)
    }
  }

  #again(reason: string): void {
    this.#bucket.link.log.debug('a watch begins again', { bucket: this.#bucket.name, reason })
    this.#leave()
    this.#cancelTimer = this.#bucket.link.clock.after(AGAIN_MS, () => void this.#begin())
  }

  #leave(): void {
    this.#attempt += 1
    this.#cancelTimer?.()
    this.#endConsumer?.()
    this.#endConsumer = null
  }

  #startOver(): void {
    this.#told = 0
    this.#tellDeleted = false
    this.#current = false
    this.#call(() => this.#listener.onGap?.())
  }

  #onMessage({ key, revision, deleted, value, pending }: StreamMessage): void {
    if (key === HORIZON_KEY) {
      // Marks that this watch has not been told of may be among those that go (a lag of as many as are kept).
      if (!this.#current && this.#tellDeleted && Number(Buffer.from(value).toString()) > this.#told) {
        this.#startOver()
        void this.#begin()
        return
      }
    } else if (!deleted || this.#tellDeleted) this.#call(() => this.#listener.onDocument(key, deleted ? null : Uint8Array.from(value), revision))
    this.#told = Math.max(this.#told, revision)
    if (pending === 0) this.#setCurrent()
  }

  #setCurrent(): void {
    if (this.#current || this.#stopped) return
    this.#current = true
    this.#tellDeleted = true
    this.#call(() => this.#listener.onCurrent())
  }

  async #horizon(): Promise<number> {
    const entry = await this.#bucket.call((kv) => kv.get(HORIZON_KEY))
    return entry === null ? 0 : Number(entry.string())
  }

  #call(listener: () => void): void {
    if (this.#stopped) return
    try {
      listener()
    } catch (error) {
      this.#bucket.link.log.error('a listener for documents failed', { bucket: this.#bucket.name, reason: String(error) })
    }
  }
}
