/** Blobs in a NATS bucket: put again under the same id they only get younger. Deleting leaves no mark: nobody watches them. */
import { COORDINATION_BLOB_MAX_BYTES } from '../limits.ts'
import { toCodedError } from '../errors.ts'
import type { NatsBucket } from './nats-bucket.ts'
import type { NatsServerClock } from './nats-server-clock.ts'
import { API_NO_MESSAGE, apiCodeOf } from './nats-connection.ts'
import { scanBucket } from './nats-scan.ts'
import { requireKey, requireSize } from './names.ts'
import type { BlobEntry, Blobs } from './types.ts'

export class NatsBlobs implements Blobs {
  readonly #bucket: NatsBucket
  readonly #serverClock: NatsServerClock

  constructor(bucket: NatsBucket, serverClock: NatsServerClock) {
    this.#bucket = bucket
    this.#serverClock = serverClock
  }

  async get(id: string): Promise<Uint8Array | null> {
    requireKey(id)
    const entry = await this.#bucket.call((kv) => kv.get(id))
    return entry === null || entry.operation !== 'PUT' ? null : entry.value
  }

  async put(id: string, bytes: Uint8Array): Promise<void> {
    requireKey(id)
    requireSize(id, bytes, COORDINATION_BLOB_MAX_BYTES)
    await this.#bucket.call((kv) => kv.put(id, bytes))
  }

  async ageMs(id: string): Promise<number | null> {
    requireKey(id)
    const entry = await this.#bucket.call((kv) => kv.get(id))
    if (entry === null || entry.operation !== 'PUT') return null
    return Math.max(0, (await this.#serverClock.nowMs()) - entry.created.getTime())
  }

  async *list(): AsyncGenerator<BlobEntry> {
    const nowMs = await this.#serverClock.nowMs()
    for await (const { key, revision, putAtMs, deleted, bytes } of scanBucket(this.#bucket)) {
      if (!deleted) yield { id: key, bytes, ageMs: Math.max(0, nowMs - putAtMs), revision }
    }
  }

  async deleteListed({ id, revision }: BlobEntry): Promise<boolean> {
    try {
      // By its number in the stream: the message of a later put has another.
      await this.#bucket.call((_kv, { jsm }) => jsm.streams.deleteMessage(this.#bucket.stream, revision, false))
      return true
    } catch (error) {
      if (!API_NO_MESSAGE.includes(apiCodeOf(toCodedError(error).cause))) throw error
      return (await this.get(id)) === null
    }
  }
}
