/**
 * Documents in a NATS bucket. A revision is the stream's sequence number of the message that holds the value; a deletion is
 * a message too, with the header that NATS's own clients use.
 *
 * N1: compare-and-set is the server's: it takes a message only if the last one of the subject is the one expected. The mark
 *     of a deletion counts as one, so whoever makes a document anew expects the mark.
 * N2: the newest mark that was forgotten stands in a document of its own, HORIZON_KEY, written before marks go.
 */
import { headers } from '@nats-io/transport-node'
import { CodedError, toCodedError } from '../errors.ts'
import { COORDINATION_DOCUMENT_MAX_BYTES } from '../limits.ts'
import { conflict, isConflict } from './calls.ts'
import type { NatsBucket } from './nats-bucket.ts'
import { scanBucket } from './nats-scan.ts'
import { API_NO_MESSAGE, apiCodeOf } from './nats-connection.ts'
import { HORIZON_KEY, NatsWatch } from './nats-watch.ts'
import { requireKey, requireSize } from './names.ts'
import type { Document, DocumentListener, Documents, Watch } from './types.ts'

const EXPECTED_HEADER = 'Nats-Expected-Last-Subject-Sequence'
const OPERATION_HEADER = 'KV-Operation'
const NOTHING = new Uint8Array(0)

export class NatsDocuments implements Documents {
  readonly #bucket: NatsBucket
  readonly #watches = new Set<NatsWatch>()

  constructor(bucket: NatsBucket) {
    this.#bucket = bucket
  }

  async get(key: string): Promise<Document | null> {
    requireKey(key)
    const entry = await this.#bucket.call((kv) => kv.get(key))
    return entry === null || entry.operation !== 'PUT' ? null : { value: Uint8Array.from(entry.value), revision: entry.revision }
  }

  async update(key: string, value: Uint8Array, revision: number): Promise<number> {
    requireKey(key)
    requireSize(key, value, COORDINATION_DOCUMENT_MAX_BYTES)
    try {
      return await this.#bucket.call((kv) => kv.put(key, value, { previousSeq: revision }))
    } catch (error) {
      if (!isConflict(error)) throw error
      const mark = revision === 0 ? await this.#markOf(key) : null
      if (mark === null) throw conflict(key)
      return await this.#bucket.call((kv) => kv.put(key, value, { previousSeq: mark })).catch((late: unknown) => {
        throw isConflict(late) ? conflict(key) : late
      })
    }
  }

  async delete(key: string, revision: number): Promise<number> {
    requireKey(key)
    if (revision === 0) throw new CodedError('ERR_COORDINATION_REFUSED', [`${key} is to be deleted and was not seen`])
    // Two marks in a row would make one deletion look like two.
    if ((await this.#markOf(key)) !== null) throw conflict(key)
    const head = headers()
    head.set(OPERATION_HEADER, 'DEL')
    head.set(EXPECTED_HEADER, String(revision))
    try {
      // `kv.delete` does not say the revision.
      const { seq } = await this.#bucket.call((_kv, { js }) => js.publish(`${this.#bucket.subjectPrefix}${key}`, NOTHING, { headers: head }))
      return seq
    } catch (error) {
      throw isConflict(error) ? conflict(key) : error
    }
  }

  watch(listener: DocumentListener, { afterRevision = 0 }: { readonly afterRevision?: number } = {}): Watch {
    const watch = new NatsWatch(this.#bucket, listener, afterRevision)
    this.#watches.add(watch)
    return {
      stop: () => {
        this.#watches.delete(watch)
        watch.stop()
      },
    }
  }

  /** A watcher that lags by more than `keep` deletions at this moment misses some; one that comes later is told of the gap (N2). */
  async forgetDeleted(keep: number): Promise<number> {
    const marks: number[] = []
    for await (const { key, revision, deleted } of scanBucket(this.#bucket)) if (deleted && key !== HORIZON_KEY) marks.push(revision)
    const forgotten = marks.sort((a, b) => a - b).slice(0, Math.max(0, marks.length - keep))
    const newest = forgotten.at(-1)
    if (newest === undefined) return 0
    await this.#bucket.call((kv) => kv.put(HORIZON_KEY, Buffer.from(String(newest))))
    let gone = 0
    for (const revision of forgotten) {
      try {
        await this.#bucket.call((_kv, { jsm }) => jsm.streams.deleteMessage(this.#bucket.stream, revision, false))
        gone += 1
      } catch (error) {
        // The document was made again, or somebody else forgets too.
        if (!API_NO_MESSAGE.includes(apiCodeOf(toCodedError(error).cause))) throw error
      }
    }
    return gone
  }

  close(): void {
    for (const watch of this.#watches) watch.stop()
    this.#watches.clear()
  }

  /** Revision of the mark that the key's document was deleted; null if none is there. */
  async #markOf(key: string): Promise<number | null> {
    const entry = await this.#bucket.call((kv) => kv.get(key))
    return entry === null || entry.operation === 'PUT' ? null : entry.revision
  }
}
