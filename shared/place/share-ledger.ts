/**
 * One share of an account's slots, as the manager in charge of it counts it: who holds how many, until when. Pure: time
 * comes by argument, and what has to be on disk before an answer leaves is said by `mustWrite`.
 *
 * S1: slots of all leases together never exceed the share through a grant; those of a pool never its part of the share.
 *     (They may after the limits were lowered; then nothing is granted until enough came back.)
 * S2: a lease here is never smaller and never ends earlier than the lessee believes: it grows before the answer leaves, it
 *     shrinks only to what the lessee says that it still has, and it ends LEASE_GRACE_MS after the lessee's own end.
 * S3: a question is taken once and in order: one with a number not above the last changes nothing and is not answered.
 *     Numbers are in the record with every growth, so that a manager that takes over knows as much of them as it needs.
 * S4: a later life of the same lessee ends what an earlier one held; an earlier one's questions are stale then.
 */
import { LEASE_GRACE_MS, LESSEES_PER_SHARE_MAX, NEW_LEASE_MS, RECALL_MS } from '../limits.ts'
import type { Pool, ShareQuota } from './slot-line.ts'

/** What a lessee says about its lease of one share, and what it wants. */
export interface LeaseQuestion {
  readonly lessee: string
  /** One life of the lessee; later ones have greater numbers. */
  readonly life: number
  readonly pool: Pool
  /** Grows with every question of this life. */
  readonly number: number
  /** What it has of this share from now on, at most what it was granted. */
  readonly held: number
  /** Of these, running. */
  readonly inUse: number
  /** Slots for invocations that wait. */
  readonly need: number
  /** Slots for those that may come. */
  readonly spare: number
  /** How long it wants to go on without an answer, ms. */
  readonly leaseMs: number
}

export interface LeaseAnswer {
  readonly number: number
  /** What the lessee has of this share now. */
  readonly slots: number
  /** From when it asked. */
  readonly validMs: number
  /** Slots that it has to give back as soon as they are free. */
  readonly give: number
  /** Little is left: hold nothing idle. */
  readonly scarce: boolean
  /** Idle slots of others, which were asked for; worth asking again in a moment. */
  readonly recallable: number
}

/** A lease as it is stored. */
export interface StoredLease {
  readonly lessee: string
  readonly life: number
  readonly pool: Pool
  readonly number: number
  readonly slots: number
  readonly leaseMs: number
}

export interface LedgerDecision {
  /** Null: stale, not to be answered. */
  readonly answer: LeaseAnswer | null
  /** `leases()` has to be stored before the answer leaves; if that fails this ledger is void. */
  readonly mustWrite: boolean
}

interface Lease {
  readonly lessee: string
  readonly life: number
  readonly pool: Pool
  number: number
  slots: number
  inUse: number
  leaseMs: number
  endsAtMs: number
}

const STALE: LedgerDecision = { answer: null, mustWrite: false }

export class ShareLedger {
  readonly #leases = new Map<string, Lease>()
  /** By pool: until when idle slots are called back. */
  readonly #shortUntilMs = new Map<Pool, number>()
  /** Dies with this process: its leases need no record. */
  readonly #unrecorded: string | null

  /** `stored`: what was granted before; it counts as if it were renewed now, and as in use. */
  constructor(stored: readonly StoredLease[], nowMs: number, options: { readonly unrecorded: string | null } = { unrecorded: null }) {
    this.#unrecorded = options.unrecorded
    for (const { lessee, life, pool, number, slots, leaseMs } of stored) {
      this.#leases.set(keyOf(lessee, pool), { lessee, life, pool, number, slots, inUse: slots, leaseMs, endsAtMs: nowMs + leaseMs + LEASE_GRACE_MS })
    }
  }

  ask(question: LeaseQuestion, quota: ShareQuota, nowMs: number): LedgerDecision {
    this.expire(nowMs)
    const { lessee, pool, number } = question
    if (!this.#isAlive(lessee, question.life)) return STALE
    const key = keyOf(lessee, pool)
    const known = this.#leases.get(key)
    if (known === undefined && this.#leases.size >= LESSEES_PER_SHARE_MAX) return { answer: { number, slots: 0, validMs: 0, give: 0, scarce: true, recallable: 0 }, mustWrite: false }
    if (known !== undefined && number <= known.number) return STALE
    const lease = known ?? { lessee, life: question.life, pool, number, slots: 0, inUse: 0, leaseMs: 0, endsAtMs: nowMs }
    this.#leases.set(key, lease)
    lease.number = number
    // S2. Who claims more than it was granted has it not.
    lease.slots = Math.min(lease.slots, question.held)
    lease.inUse = Math.min(lease.slots, question.inUse)
    // A lessee that never hears of a first grant would keep it for a whole lease: it counts briefly until it is confirmed.
    const confirmed = lease.slots > 0 || lessee === this.#unrecorded
    const free = Math.max(0, Math.min(quota.slots - this.#slots(), quota.of(pool) - this.#slots(pool)))
    const scarce = free <= Math.max(1, quota.of(pool) >> 2)
    const needed = Math.min(question.need, free)
    const spare = scarce && question.need + lease.slots > 0 ? 0 : Math.min(question.spare, Math.max(scarce ? 1 : 0, (free - needed) >> 1), free - needed)
    const granted = needed + spare
    lease.slots += granted
    lease.inUse += needed
    const validMs = confirmed ? question.leaseMs : Math.min(question.leaseMs, NEW_LEASE_MS)
    const longer = question.leaseMs > lease.leaseMs
    lease.leaseMs = question.leaseMs
    lease.endsAtMs = nowMs + validMs + LEASE_GRACE_MS
    if (needed < question.need) this.#shortUntilMs.set(pool, nowMs + RECALL_MS)
    if (lease.slots === 0) this.#leases.delete(key)
    const answer: LeaseAnswer = {
      number, slots: lease.slots, validMs, scarce: scarce || granted < question.need + question.spare,
      give: this.#toGive(lease, quota, nowMs),
      recallable: needed < question.need ? this.#idleBeside(lease) : 0,
    }
    return { answer, mustWrite: (granted > 0 || (longer && lease.slots > 0)) && lessee !== this.#unrecorded }
  }

  /** Ends what was not renewed. Returns how many slots came back. */
  expire(nowMs: number): number {
    let slots = 0
    for (const [key, lease] of this.#leases) {
      if (lease.endsAtMs > nowMs) continue
      slots += lease.slots
      this.#leases.delete(key)
    }
    return slots
  }

  /** A lessee's former life is over for certain. Returns how many slots came back. */
  begin(lessee: string, life: number): number {
    const before = this.#slots()
    this.#isAlive(lessee, life)
    return before - this.#slots()
  }

  /** For a store: what a manager that takes over has to respect. */
  leases(): readonly StoredLease[] {
    return [...this.#leases.values()]
      .filter(({ lessee, slots }) => lessee !== this.#unrecorded && slots > 0)
      .map(({ lessee, life, pool, number, slots, leaseMs }) => ({ lessee, life, pool, number, slots, leaseMs }))
  }

  /** Slots leased now, and those of them that were last said to be running. */
  load(pool: Pool): { readonly leased: number; readonly inUse: number } {
    let leased = 0
    let inUse = 0
    for (const lease of this.#leases.values()) {
      if (lease.pool !== pool) continue
      leased += lease.slots
      inUse += lease.inUse
    }
    return { leased, inUse }
  }

  /** Of all pools. */
  get leased(): number {
    return this.#slots()
  }

  /** S4. A life that holds nothing need not be known: what an earlier one is granted then ends with the next question. */
  #isAlive(lessee: string, life: number): boolean {
    for (const [key, lease] of this.#leases) {
      if (lease.lessee !== lessee || lease.life === life) continue
      if (lease.life > life) return false
      this.#leases.delete(key)
    }
    return true
  }

  /** Idle slots that somebody waits for; and what is beyond lowered limits, as soon as it is free. */
  #toGive(lease: Lease, quota: ShareQuota, nowMs: number): number {
    const called = nowMs < (this.#shortUntilMs.get(lease.pool) ?? Number.NEGATIVE_INFINITY) ? lease.slots - lease.inUse : 0
    const over = Math.max(this.#slots() - quota.slots, this.#slots(lease.pool) - quota.of(lease.pool))
    return Math.max(called, Math.min(lease.slots, over))
  }

  #idleBeside(asking: Lease): number {
    let idle = 0
    for (const lease of this.#leases.values()) if (lease.pool === asking.pool && lease !== asking) idle += lease.slots - lease.inUse
    return idle
  }

  #slots(pool?: Pool): number {
    let slots = 0
    for (const lease of this.#leases.values()) if (pool === undefined || lease.pool === pool) slots += lease.slots
    return slots
  }
}

function keyOf(lessee: string, pool: Pool): string {
  return pool === null ? lessee : `${lessee}\n${pool}`
}
