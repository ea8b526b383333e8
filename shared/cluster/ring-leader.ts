/**
 * What the leader of a group does: publishes the ring's next version when members come, drain or expire.
 *
 * E1  It waits DAMPING_MS from the first change on, so that what happens together becomes one version.
 * E2  A member that a version of the document had before and the newest has not does not come back by itself: it was drained, or an
 *     operator has rolled back to a ring without it. Its next life has another name.
 * E3  Older versions go once no member needs them. One that is not seen and not certainly over may need any.
 * E4  Two leaders at once could do no harm: a change is made from the document that it was decided on (RingStore B2).
 */
import type { Candidacy, Leadership } from '../coordination/types.ts'
import type { Clock } from '../clock.ts'
import { toCodedError } from '../errors.ts'
import { RING_WEIGHT_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import type { PeerMember } from '../peers/types.ts'
import { firstRing, neededVersions, nextRing, retire, type RingDocument, type RingMember } from '../place/ring.ts'
import type { RingStore } from './ring-store.ts'

export interface RingLeaderOptions {
  readonly self: string
  readonly leadership: Leadership
  readonly store: RingStore
  /** All that are alive now, this one included. */
  readonly members: () => readonly PeerMember[]
  /** That member's lease is certainly over (shared/place/lease.ts). */
  readonly isOver: (memberId: string) => boolean
  readonly clock: Clock
  readonly log: Log
}

const DAMPING_MS = 1_000
/** After a change that failed, or could not be made yet. */
const RETRY_MS = 1_000
const RETIRE_PERIOD_MS = 5_000
/** Slots that make one point of weight. */
const CAPACITY_PER_WEIGHT = 64

export class RingLeader {
  readonly #options: RingLeaderOptions
  readonly #log: Log
  readonly #candidacy: Candidacy
  #timer: { readonly dueAtMs: number; readonly cancel: () => void } | null = null
  #stopped = false

  constructor(options: RingLeaderOptions) {
    this.#options = options
    this.#log = options.log.child('ring-leader')
    this.#candidacy = options.leadership.stand(options.self, {
      onElected: (term) => {
        this.#log.info('this member leads', { term })
            this.#schedule(0)
      },
      onLost: () => this.#log.warn('this member leads no longer'),
    })
  }

  get leads(): boolean {
    return this.#candidacy.term() !== null
  }

  /** Members or the ring have changed. */
  changed(): void {
    if (this.leads && this.#wantedMembers(this.#options.store.ring?.document ?? null) !== null) this.#schedule(DAMPING_MS)
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#candidacy.stop()
  }

  /** The earlier one counts (E1); what is wanted is looked at when the time has come. */
  #schedule(delayMs: number): void {
    const { clock } = this.#options
    const dueAtMs = clock.monotonicMs() + delayMs
    if (this.#stopped || (this.#timer !== null && this.#timer.dueAtMs <= dueAtMs)) return
    this.#timer?.cancel()
    const cancel = clock.after(delayMs, () => {
      // In place until it is done, so that nothing else begins meanwhile; a change is looked for again then.
      this.#timer = { dueAtMs: Number.NEGATIVE_INFINITY, cancel: () => undefined }
      this.#publish().catch((error: unknown) => {
        this.#log.warn('the ring could not be changed', { code: toCodedError(error).code, reason: toCodedError(error).message })
        return RETRY_MS
      }).then((againMs) => {
        this.#timer = null
        if (this.leads) this.#schedule(againMs)
      }, () => undefined)
    })
    this.#timer = { dueAtMs, cancel }
  }

  /** Resolves with when to look again. */
  async #publish(): Promise<number> {
    if (this.#stopped || !this.leads) return RETIRE_PERIOD_MS
    const { store } = this.#options
    const published = await store.change((document) => this.#wanted(document) ?? this.#retired(document))
    if (published !== null) {
      this.#log.info('ring published', { version: published.version, members: published.members.map(({ id }) => id).join(' '), previous: published.previous.length })
    }
    return this.#wantedMembers(store.ring?.document ?? null) === null ? RETIRE_PERIOD_MS : DAMPING_MS
  }

  /** The next version, null if the newest is right. */
  #wanted(document: RingDocument | null): RingDocument | null {
    const members = this.#wantedMembers(document)
    if (members === null) return null
    return document === null ? firstRing(members) : nextRing(document, { members }, this.#needed(document))
  }

  #wantedMembers(document: RingDocument | null): readonly RingMember[] | null {
    const serving = this.#options.members().filter(({ info }) => info.state === 'serving')
    if (document === null) return serving.length === 0 ? null : serving.map(toRingMember)
    const present = new Set(document.members.map(({ id }) => id))
    const left = new Set(document.previous.flatMap(({ members }) => members.map(({ id }) => id)).filter((id) => !present.has(id)))
    // E2.
    const members = serving.filter(({ memberId }) => !left.has(memberId)).map(toRingMember)
    // A ring without members serves nobody: the last one stays until somebody comes.
    if (members.length === 0) return null
    const same = members.length === document.members.length && members.every(({ id, weight }) => document.members.some((member) => member.id === id && member.weight === weight))
    return same ? null : members
  }

  /** E3. */
  #retired(document: RingDocument | null): RingDocument | null {
    if (document === null || document.previous.length === 0) return null
    return retire(document, this.#needed(document))
  }

  #needed(document: RingDocument): ReadonlySet<number> {
    const words = new Map(this.#options.members().map(({ memberId, info }) => [memberId, info]))
    return neededVersions(document, (memberId) => words.get(memberId) ?? null, (memberId) => !words.has(memberId) && this.#options.isOver(memberId))
  }
}

function toRingMember({ memberId, info }: PeerMember): RingMember {
  return { id: memberId, weight: Math.min(RING_WEIGHT_MAX, Math.max(1, Math.round(info.capacity / CAPACITY_PER_WEIGHT))) }
}
