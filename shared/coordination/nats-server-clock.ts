/**
 * The time at the NATS server, which stamps every message: ages of blobs are differences of its times alone. A probe is
 * written and its stamp read; for a minute after that the local monotonic clock counts on from it.
 */
import type { NatsBucket } from './nats-bucket.ts'

const PROBE_KEY = 'probe'
const KEPT_MS = 60_000

export class NatsServerClock {
  readonly #bucket: NatsBucket
  #last: { readonly serverMs: number; readonly atMs: number } | null = null

  constructor(bucket: NatsBucket) {
    this.#bucket = bucket
  }

  /** Ahead of the server's by the time of a round trip at most. */
  async nowMs(): Promise<number> {
    const { clock } = this.#bucket.link
    if (this.#last === null || clock.monotonicMs() - this.#last.atMs > KEPT_MS) {
      const atMs = clock.monotonicMs()
      const entry = await this.#bucket.call(async (kv) => {
        await kv.put(PROBE_KEY, '')
        return await kv.get(PROBE_KEY)
      })
      this.#last = { serverMs: entry?.created.getTime() ?? 0, atMs }
    }
    return this.#last.serverMs + (clock.monotonicMs() - this.#last.atMs)
  }
}
