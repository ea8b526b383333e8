/**
 * The ring of a group as coordination has it: one document, read as a whole, changed by compare-and-set.
 *
 * B1  What is seen here only gets newer. A document that cannot be right is passed over and said in the log: the ring before
 *     it goes on.
 * B2  A change is made from the document that it was decided on, or not at all (ERR_COORDINATION_CONFLICT).
 */
import type { Documents, Watch } from '../coordination/types.ts'
import { toCodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import { isNewer, parseRing, Ring, serializeRing, type RingDocument } from '../place/ring.ts'

export const RING_BUCKET = 'ring'

export class RingStore {
  readonly #documents: Documents
  readonly #key: string
  readonly #log: Log
  readonly #listeners = new Set<(ring: Ring) => void>()
  #watch: Watch | null = null
  #ring: Ring | null = null
  #revision = 0

  constructor(documents: Documents, group: string, log: Log) {
    this.#documents = documents
    this.#key = group
    this.#log = log.child('ring')
  }

  /** Null: none was published yet. */
  get ring(): Ring | null {
    return this.#ring
  }

  /** Resolves when the ring that is there now is known. */
  start(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    this.#watch = this.#documents.watch({
      onDocument: (key, value, revision) => {
        if (key === this.#key && value !== null) this.#take(value, revision)
      },
      onCurrent: () => resolve(undefined),
    })
    return promise
  }

  onChange(listener: (ring: Ring) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Looks now, for somebody has spoken of a newer one. */
  async refresh(): Promise<void> {
    const document = await this.#documents.get(this.#key)
    if (document !== null) this.#take(document.value, document.revision)
  }

  /** B2. `decide` gets the newest document, null if there is none; null: nothing is to be changed. Resolves with what was published. */
  async change(decide: (document: RingDocument | null) => RingDocument | null): Promise<RingDocument | null> {
    await this.refresh()
    const next = decide(this.#ring?.document ?? null)
    if (next === null) return null
    const value = serializeRing(next)
    this.#take(value, await this.#documents.update(this.#key, value, this.#revision))
    return next
  }

  stop(): void {
    this.#watch?.stop()
    this.#listeners.clear()
  }

  /** B1. */
  #take(value: Uint8Array, revision: number): void {
    if (revision <= this.#revision) return
    this.#revision = revision
    let document: RingDocument
    try {
      document = parseRing(value)
    } catch (error) {
      this.#log.error('a ring document cannot be used', { revision, reason: toCodedError(error).message })
      return
    }
    if (!isNewer(document, this.#ring?.document ?? null)) return
    this.#ring = new Ring(document)
    this.#log.info('ring', { version: document.version, members: document.members.length, managersPerKey: document.attributes.managersPerKey, previous: document.previous.length })
    for (const listener of this.#listeners) listener(this.#ring)
  }
}
