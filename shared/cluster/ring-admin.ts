/** What an operator does with the ring of a group, from outside its members. */
import type { Coordination, Member } from '../coordination/types.ts'
import { CodedError, toCodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import { readMember } from '../peers/member-info.ts'
import type { PeerInfo } from '../peers/types.ts'
import { neededVersions, nextRing, rollback, type RingDocument } from '../place/ring.ts'
import { RING_BUCKET, RingStore } from './ring-store.ts'

/** Somebody else may change it at the same moment; more than that says that something is wrong. */
const ATTEMPTS_MAX = 5

export class RingAdmin {
  readonly #coordination: Coordination
  readonly #group: string
  readonly #log: Log

  constructor(coordination: Coordination, group: string, log: Log) {
    this.#coordination = coordination
    this.#group = group
    this.#log = log
  }

  /** Throws ERR_RING_REFUSED if there is none. */
  async show(): Promise<RingDocument> {
    return this.#change((document) => document)
  }

  /** A version with these attributes. Throws ERR_RING_REFUSED for what cannot be, ERR_RING_UNSETTLED if state has to move first. */
  async set(attributes: Readonly<Record<string, unknown>>): Promise<RingDocument> {
    const needed = await this.#needed()
    return this.#change((document) => nextRing(document, { attributes }, needed(document)))
  }

  /** A version like the one before the newest. Throws as `set`. */
  async rollback(): Promise<RingDocument> {
    const needed = await this.#needed()
    return this.#change((document) => rollback(document, needed(document)))
  }

  async #change(change: (document: RingDocument) => RingDocument): Promise<RingDocument> {
    const store = new RingStore(await this.#coordination.documents(RING_BUCKET), this.#group, this.#log)
    for (let attempt = 1; ; attempt += 1) {
      try {
        let found: RingDocument | null = null
        const changed = await store.change((document) => {
          if (document === null) throw new CodedError('ERR_RING_REFUSED', [`${this.#group} has none: its members make the first`])
          found = document
          const next = change(document)
          return next === document ? null : next
        })
        const result = changed ?? found
        if (result !== null) return result
      } catch (error) {
        if (toCodedError(error).code !== 'ERR_COORDINATION_CONFLICT' || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  /** Versions by which state may lie. A watch that has just begun shows whoever is in the store: one that is not holds no lease. */
  async #needed(): Promise<(document: RingDocument) => ReadonlySet<number>> {
    const members = await this.#coordination.members(this.#group)
    const alive = await new Promise<readonly Member[]>((resolve) => {
      const watch = members.watch((first) => {
        resolve(first)
        queueMicrotask(() => watch.stop())
      })
    })
    const words = new Map<string, PeerInfo | null>(alive.map((member) => [member.id, readMember(member)?.info ?? null]))
    return (document) => neededVersions(document, (memberId) => words.get(memberId) ?? null, (memberId) => !words.has(memberId))
  }
}
