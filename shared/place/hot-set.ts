/**
 * Which functions a POP keeps: those asked for most per byte they take. Pure but for the clock; it holds no image, it
 * only says who earns a place and who has to leave.
 *
 * A function's rate is a count of its arrivals that halves every `halfLifeMs`; its score is rate x weight / bytes.
 * It may be admitted after `admitCount` arrivals within `admitWindowMs`. If the budget is taken, it displaces the
 * lowest, but only those whose score it exceeds by `hysteresis`: near equals do not push each other out in turns.
 *
 * S1: the bytes of all members stay within the budget, less what they share.
 *
 * Entries of functions that are no members belong to the caller, who bounds how many there are.
 */
import type { Clock } from '../clock.ts'
import type { LatencySensitivity } from '../worker/types.ts'

export interface HotSetOptions {
  readonly clock: Clock
  readonly budgetBytes: number
  /** Bytes of the budget that belong to no member alone: what several are made from. Default 0. */
  readonly sharedBytes?: () => number
  /** Default 10 minutes. */
  readonly halfLifeMs?: number
  /** Arrivals that earn a look, and within what time. Default 3 in 5 minutes; 1 admits at once. At most 100. */
  readonly admitCount?: number
  readonly admitWindowMs?: number
  /** By how much a score must exceed another's to displace it. Default 0.2. */
  readonly hysteresis?: number
}

/** One function as the hot set sees it. Callers keep it, so that an arrival costs no search. */
export interface HotEntry {
  readonly key: string
  /** Arrivals, halved every half-life, as of `asOfMs`. */
  rate: number
  asOfMs: number
  /** Times of the last `admitCount` arrivals, a ring. */
  readonly arrivalsAtMs: number[]
  nextArrival: number
  weight: number
  /** A member that was taken in ahead of demand is not idle before then, monotonic. */
  spareUntilMs: number
  /** Bytes that its images take; 0 while not a member. */
  bytes: number
  member: boolean
}

export type Admission =
  | { readonly kind: 'admitted'; readonly evicted: readonly HotEntry[] }
  /** `early`: too few arrivals; `budget`: larger than the whole budget; `outscored`: those in its way are as good. */
  | { readonly kind: 'refused'; readonly why: 'early' | 'budget' | 'outscored' }

/** A member leaves when its rate has fallen to this part of the least that admits: five half-lives after it. */
const IDLE_FRACTION = 1 / 32
const ADMIT_COUNT_MAX = 100
/** Of the budget, what may be taken by functions that have not earned it: the rest is for those that do next. */
const SPARE_SHARE = 0.75

/** What a place here is worth to a function against others with as many arrivals per byte. */
export const SENSITIVITY_WEIGHT: Readonly<Record<LatencySensitivity, number>> = { low: 0.5, normal: 1, high: 2 }

export class HotSet {
  readonly #clock: Clock
  readonly #budgetBytes: number
  readonly #sharedBytes: () => number
  readonly #halfLifeMs: number
  readonly #admitCount: number
  readonly #admitWindowMs: number
  readonly #hysteresis: number
  readonly #members = new Set<HotEntry>()
  #usedBytes = 0

  constructor(options: HotSetOptions) {
    this.#clock = options.clock
    this.#budgetBytes = options.budgetBytes
    this.#sharedBytes = options.sharedBytes ?? (() => 0)
    this.#halfLifeMs = options.halfLifeMs ?? 600_000
    this.#admitCount = Math.min(ADMIT_COUNT_MAX, Math.max(1, options.admitCount ?? 3))
    this.#admitWindowMs = options.admitWindowMs ?? 300_000
    this.#hysteresis = options.hysteresis ?? 0.2
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get memberCount(): number {
    return this.#members.size
  }

  members(): HotEntry[] {
    return [...this.#members]
  }

  /** The entry of a function that has none yet. `key` is for logs and tests. */
  newEntry(key: string): HotEntry {
    return { key, rate: 0, asOfMs: this.#clock.monotonicMs(), arrivalsAtMs: [], nextArrival: 0, weight: 1, spareUntilMs: Number.NEGATIVE_INFINITY, bytes: 0, member: false }
  }

  /** Counts one arrival. True if the function may ask for a place: enough arrivals, and none yet. */
  arrived(entry: HotEntry): boolean {
    const nowMs = this.#clock.monotonicMs()
    this.#decay(entry, nowMs)
    entry.rate += 1
    entry.arrivalsAtMs[entry.nextArrival] = nowMs
    entry.nextArrival = (entry.nextArrival + 1) % this.#admitCount
    return !entry.member && this.#earned(entry, nowMs)
  }

  /** Enough arrivals within the window. */
  hasEarned(entry: HotEntry): boolean {
    return this.#earned(entry, this.#clock.monotonicMs())
  }

  /** Asks for a place of `bytes`; a member asks anew when its bytes change. Those evicted are no members any more. */
  admit(entry: HotEntry, bytes: number): Admission {
    const nowMs = this.#clock.monotonicMs()
    if (!entry.member && !this.#earned(entry, nowMs)) return { kind: 'refused', why: 'early' }
    if (bytes > this.#budgetBytes) return this.#refuse(entry, 'budget')
    const evicted: HotEntry[] = []
    let freeBytes = this.#budgetBytes - this.#sharedBytes() - this.#usedBytes + entry.bytes
    // Who shrinks has its place already, however much the shared part has grown since.
    const shrinks = entry.member && bytes <= entry.bytes
    if (freeBytes < bytes && !shrinks) {
      const asking = this.#score(entry, bytes, nowMs)
      for (const other of this.#lowestFirst(nowMs)) {
        if (other === entry) continue
        if (freeBytes >= bytes || asking <= this.#score(other, other.bytes, nowMs) * (1 + this.#hysteresis)) break
        freeBytes += other.bytes
        evicted.push(other)
      }
      if (freeBytes < bytes) return this.#refuse(entry, 'outscored')
    }
    for (const other of evicted) this.evict(other)
    this.#usedBytes += bytes - entry.bytes
    entry.bytes = bytes
    entry.member = true
    this.#members.add(entry)
    return { kind: 'admitted', evicted }
  }

  /**
   * Takes a function in that has not earned its place, for `forMs`: only into room that nobody wants (SPARE_SHARE of the
   * budget), and never in another's place. It is the first to go when somebody earns one.
   */
  admitSpare(entry: HotEntry, bytes: number, forMs: number): 'admitted' | 'refused' {
    if (entry.member) return 'admitted'
    if (this.#usedBytes + this.#sharedBytes() + bytes > this.#budgetBytes * SPARE_SHARE) return 'refused'
    entry.spareUntilMs = this.#clock.monotonicMs() + forMs
    this.#usedBytes += bytes
    entry.bytes = bytes
    entry.member = true
    this.#members.add(entry)
    return 'admitted'
  }

  /** Takes a member's place away. Idempotent. */
  evict(entry: HotEntry): void {
    if (!entry.member) return
    this.#members.delete(entry)
    this.#usedBytes -= entry.bytes
    entry.bytes = 0
    entry.member = false
    entry.spareUntilMs = Number.NEGATIVE_INFINITY
  }

  /** The member with the lowest score among those that `eligible` accepts, or null. */
  lowest(eligible: (entry: HotEntry) => boolean): HotEntry | null {
    return this.#lowestFirst(this.#clock.monotonicMs()).find(eligible) ?? null
  }

  /** Evicts members that hardly anybody asks for any more, and returns them. To be called every some seconds. */
  sweep(): HotEntry[] {
    const nowMs = this.#clock.monotonicMs()
    const idle = [...this.#members].filter((entry) => {
      this.#decay(entry, nowMs)
      return entry.rate < this.#admitCount * IDLE_FRACTION && nowMs >= entry.spareUntilMs
    })
    for (const entry of idle) this.evict(entry)
    return idle
  }

  /** Arrivals counted with their age, now. */
  rateOf(entry: HotEntry): number {
    this.#decay(entry, this.#clock.monotonicMs())
    return entry.rate
  }

  #refuse(entry: HotEntry, why: 'budget' | 'outscored'): Admission {
    // S1: a member that has outgrown its place loses it.
    this.evict(entry)
    return { kind: 'refused', why }
  }

  #earned(entry: HotEntry, nowMs: number): boolean {
    if (entry.arrivalsAtMs.length < this.#admitCount) return false
    // The ring is full, so the next one to be overwritten is the oldest.
    const oldestAtMs = entry.arrivalsAtMs[entry.nextArrival] ?? 0
    return nowMs - oldestAtMs <= this.#admitWindowMs
  }

  #decay(entry: HotEntry, nowMs: number): void {
    const elapsedMs = nowMs - entry.asOfMs
    if (elapsedMs <= 0) return
    entry.rate *= 2 ** (-elapsedMs / this.#halfLifeMs)
    entry.asOfMs = nowMs
  }

  #score(entry: HotEntry, bytes: number, nowMs: number): number {
    this.#decay(entry, nowMs)
    return (entry.rate * entry.weight) / Math.max(1, bytes)
  }

  #lowestFirst(nowMs: number): HotEntry[] {
    return [...this.#members]
      .map((entry) => [this.#score(entry, entry.bytes, nowMs), entry] as const)
      .sort(([a], [b]) => a - b)
      .map(([, entry]) => entry)
  }
}
