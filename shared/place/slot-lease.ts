/**
 * The slots of one pool as whoever runs invocations has them: it counts locally and asks ahead of demand, so that a busy
 * pool needs no message for an invocation. Pure: questions come out, answers go in, time comes by argument.
 *
 * H1: `take` says yes only while fewer run than slots are held, less those that are called back; a slot is held only until its lease ends by this clock,
 *     counted from before the question was sent. Every call that takes a time looks at that: a process that stood still hears
 *     of calls and answers before its timers.
 * H2: one question at a time. While it is under way nothing is given back, so what the manager has on record is never
 *     less than what is held here. An answer to an earlier question is not taken.
 * H3: what runs when a lease ends has to be stopped: `tick` says how many, whoever found out that it has ended.
 */
import { LEASE_SPARE_MAX } from '../limits.ts'
import type { LeaseAnswer } from './share-ledger.ts'

export interface SlotLeaseOptions {
  /** How long to go on without an answer. */
  readonly leaseMs: number
  /** Between two questions when nothing else calls for one. */
  readonly renewMs: number
  /** How long after its last use one slot is kept at hand, unless little is left: the next invocation finds it. */
  readonly keepMs: number
  /** A question without an answer is given up after this. */
  readonly answerMs: number
  /** Grows over all leases of one life, also over those that were forgotten. */
  readonly nextNumber: () => number
}

/** What is held of one share; of all shares together in a question. */
export interface HeldPart {
  readonly share: number
  readonly held: number
}

export interface SlotQuestion {
  readonly number: number
  readonly parts: readonly HeldPart[]
  readonly inUse: number
  readonly need: number
  readonly spare: number
  readonly leaseMs: number
}

/** Shares that did not answer are not in it, and stay as they are. */
export interface SlotAnswer {
  readonly number: number
  readonly parts: readonly (Omit<LeaseAnswer, 'number'> & { readonly share: number })[]
}

interface Part {
  slots: number
  validUntilMs: number
}

/** How long a peak of use is remembered: twice this at most. */
const PEAK_WINDOW_MS = 2_000
/** An image that is on its way is here within this many windows. */
const EXPECTED_WINDOWS = 3
/** After an answer that brought nothing. */
const THROTTLED_MS = 50

export class SlotLease {
  readonly #options: SlotLeaseOptions
  readonly #parts = new Map<number, Part>()
  /** When the first part ends. */
  #validUntilMs = Number.POSITIVE_INFINITY
  /** Parts have ended since the last `tick`. */
  #lapsed = false
  #inUse = 0
  #held = 0
  /** What is held without what has to be given back as soon as it is free. */
  #usable = 0
  #waiting = 0
  /** More in use than this calls for a question ahead of demand. */
  #askAbove = 0
  #missed = 0
  #wanted = false
  /** Windows for which a slot is kept at hand though nothing was in use. */
  #expected = 0
  #usedAtMs = Number.NEGATIVE_INFINITY
  #scarce = false
  #give = 0
  #pending: { readonly number: number; readonly sentAtMs: number } | null = null
  #askedAtMs = Number.NEGATIVE_INFINITY
  #throttledUntilMs = Number.NEGATIVE_INFINITY
  #peak = 0
  #peakBefore = 0
  #windowFromMs = Number.NEGATIVE_INFINITY

  constructor(options: SlotLeaseOptions) {
    this.#options = options
  }

  get inUse(): number {
    return this.#inUse
  }

  get held(): number {
    return this.#held
  }

  /** More run than slots are held: a lease has ended, or less was granted anew. */
  isOver(nowMs: number): boolean {
    this.#expire(nowMs)
    return this.#inUse > this.#held
  }

  /** `take` would say yes, unless a lease has just ended. */
  get hasFree(): boolean {
    return this.#inUse < this.#usable
  }

  /** Invocations that wait for a slot. */
  get waiting(): number {
    return this.#waiting
  }

  /** Something changed that `question` should be asked about now. */
  get wantsToAsk(): boolean {
    return this.#wanted && this.#pending === null
  }

  /** Nothing held, nothing running, nothing wanted: may be forgotten. */
  get isIdle(): boolean {
    return this.#parts.size === 0 && this.#inUse === 0 && this.#waiting === 0 && this.#pending === null && !this.#wanted && this.#missed === 0
  }

  /** The last answer brought less than was needed, a moment ago: asking again is of no use yet. */
  isThrottled(nowMs: number): boolean {
    return nowMs < this.#throttledUntilMs
  }

  /** H1. True: a slot is taken, `release` gives it back. */
  take(nowMs: number): boolean {
    this.#expire(nowMs)
    if (this.#inUse >= this.#usable) {
      this.#missed++
      this.#wanted = true
      return false
    }
    this.#inUse++
    if (this.#inUse > this.#peak) this.#peak = this.#inUse
    if (this.#inUse > this.#askAbove) this.#wanted = true
    return true
  }

  release(): void {
    this.#inUse--
    if (this.#give > 0) this.#wanted = true
  }

  /** Something may be wanted soon: asks for a slot to have at hand, if there is none. */
  expect(): void {
    this.#expected = EXPECTED_WINDOWS
    if (this.#held === 0) this.#wanted = true
  }

  /** The next look asks, whatever is held and wanted. */
  renewNow(): void {
    if (this.#parts.size === 0) return
    this.#askedAtMs = Number.NEGATIVE_INFINITY
    this.#wanted = true
  }

  /** Gives everything back for good: what to say; null: nothing is held. */
  resign(): SlotQuestion | null {
    if (this.#parts.size === 0) return null
    const parts = [...this.#parts.keys()].map((share) => ({ share, held: 0 }))
    this.#parts.clear()
    this.#validUntilMs = Number.POSITIVE_INFINITY
    this.#held = 0
    this.#aim()
    return { number: this.#options.nextNumber(), parts, inUse: 0, need: 0, spare: 0, leaseMs: 0 }
  }

  /** The next slots are for `count` invocations that wait. */
  setWaiting(count: number): void {
    if (count > this.#waiting) this.#wanted = true
    this.#waiting = count
  }

  /** What to ask now; null: nothing. The caller sends it and calls `answered`, or nothing if no answer comes. */
  question(nowMs: number): SlotQuestion | null {
    this.#expire(nowMs)
    this.#turnWindow(nowMs)
    if (this.#missed > 0) this.#usedAtMs = nowMs
    if (this.#pending !== null && nowMs - this.#pending.sentAtMs < this.#options.answerMs) return null
    this.#pending = null
    const due = nowMs - this.#askedAtMs >= this.#options.renewMs
    const free = Math.max(0, this.#held - this.#inUse)
    // Who does not let calls wait needs as many as went without: else it would have what is spare of one share, and no more.
    const need = Math.max(0, Math.max(this.#waiting, Math.min(this.#missed, LEASE_SPARE_MAX)) - Math.max(0, this.#usable - this.#inUse))
    if (!due && nowMs < this.#throttledUntilMs && this.#give === 0) {
      // Whoever drives this looks again soon anyway.
      this.#wanted = false
      return null
    }
    const target = this.#target(nowMs)
    const spare = this.#give > 0 ? 0 : Math.max(0, target - Math.max(this.#held, this.#inUse) - need)
    const surplus = Math.max(Math.min(free, this.#give), due ? Math.min(free - this.#waiting, this.#held - target) : 0)
    if (!due && need === 0 && spare === 0 && surplus <= 0) {
      this.#wanted = false
      return null
    }
    if (this.#held === 0 && this.#inUse === 0 && need === 0 && spare === 0 && this.#parts.size === 0) {
      this.#settle()
      return null
    }
    if (surplus > 0) this.#giveBack(surplus)
    const parts = [...this.#parts].map(([share, { slots }]) => ({ share, held: slots }))
    this.#settle()
    this.#askedAtMs = nowMs
    const number = this.#options.nextNumber()
    this.#pending = { number, sentAtMs: nowMs }
    return { number, parts, inUse: Math.min(this.#inUse, this.#held), need, spare, leaseMs: this.#options.leaseMs }
  }

  /** H2. Returns whether slots came. */
  answered(answer: SlotAnswer, nowMs: number): boolean {
    if (this.#pending?.number !== answer.number) return false
    const { sentAtMs } = this.#pending
    this.#pending = null
    const before = this.#held
    this.#give = 0
    this.#scarce = false
    for (const { share, slots, validMs, give, scarce } of answer.parts) {
      if (slots > 0) this.#parts.set(share, { slots, validUntilMs: sentAtMs + Math.min(validMs, this.#options.leaseMs) })
      else this.#parts.delete(share)
      this.#give += give
      this.#scarce ||= scarce
    }
    this.#count(nowMs)
    if (this.#give > 0) this.#wanted = true
    const short = this.#waiting > this.#usable - this.#inUse
    if (this.#held <= before && (short || this.#scarce)) this.#throttledUntilMs = nowMs + THROTTLED_MS
    if (short) this.#wanted = true
    return this.#held > before
  }

  /** The question could not be asked, or nobody answered. */
  failed(number: number, nowMs: number): void {
    if (this.#pending?.number !== number) return
    this.#pending = null
    this.#throttledUntilMs = nowMs + THROTTLED_MS
  }

  /** H3. Ends what was not renewed. Returns how many of what runs has no slot any more and must be stopped. */
  tick(nowMs: number): number {
    this.#expire(nowMs)
    if (!this.#lapsed) return 0
    this.#lapsed = false
    return Math.max(0, this.#inUse - this.#held)
  }

  #target(nowMs: number): number {
    const demand = this.#inUse + this.#waiting
    // The one slot asked for when there is none finds out whether it is scarce still.
    if (this.#scarce) return demand + (this.#held === 0 && this.#missed > 0 ? 1 : 0)
    const peak = Math.max(this.#peak, this.#peakBefore, demand + Math.min(this.#missed, LEASE_SPARE_MAX))
    // As much again, so that growth takes few questions.
    const kept = this.#expected > 0 || nowMs - this.#usedAtMs < this.#options.keepMs ? 1 : 0
    return Math.max(kept, peak + Math.min(LEASE_SPARE_MAX, peak))
  }

  /** Smallest parts first: then fewer shares are needed. */
  #giveBack(slots: number): void {
    let left = slots
    // A part of nothing stays until the manager has heard of it.
    for (const part of [...this.#parts.values()].sort((a, b) => a.slots - b.slots)) {
      const given = Math.min(left, part.slots)
      part.slots -= given
      left -= given
    }
    this.#held -= slots - left
    this.#give = Math.max(0, this.#give - (slots - left))
    this.#aim()
  }

  #expire(nowMs: number): void {
    if (nowMs >= this.#validUntilMs) this.#count(nowMs)
  }

  #count(nowMs: number): void {
    this.#held = 0
    this.#validUntilMs = Number.POSITIVE_INFINITY
    for (const [share, { slots, validUntilMs }] of this.#parts) {
      if (validUntilMs <= nowMs) {
        this.#parts.delete(share)
        this.#lapsed = true
      } else {
        this.#held += slots
        this.#validUntilMs = Math.min(this.#validUntilMs, validUntilMs)
      }
    }
    this.#aim()
  }

  #aim(): void {
    this.#usable = Math.max(0, this.#held - this.#give)
    // A quarter of what is held is left when more is asked for.
    this.#askAbove = this.#scarce ? this.#held : this.#held - Math.max(1, this.#held >> 2)
  }

  #settle(): void {
    this.#wanted = false
    this.#missed = 0
  }

  #turnWindow(nowMs: number): void {
    if (nowMs - this.#windowFromMs < PEAK_WINDOW_MS) return
    if (this.#peak > 0) this.#usedAtMs = nowMs
    if (this.#expected > 0) this.#expected--
    this.#peakBefore = this.#peak
    this.#peak = this.#inUse
    this.#windowFromMs = nowMs
  }
}
