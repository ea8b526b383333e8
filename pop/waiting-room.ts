/**
 * Invocations that wait for a sandbox here, and for how long they may: then they are taken back from the host, which
 * gives them to a region, or refuses them if there is none.
 *
 * Q1: an invocation that a worker has begun with stays with it: taking back does nothing then.
 * Q2: it may wait `waitMs`, as it is when its time is looked at. With no region in reach there is nowhere better to wait:
 *     it stays until CUT_OFF_WAIT_MAX_MS have passed.
 * Q3: at most WAITING_WATCHED_MAX are looked after; those beyond wait in the host's own queue, which is bounded too.
 */
import type { Clock } from '../shared/clock.ts'

export interface Waiting {
  /** Takes it back if nothing has begun with it. True if it was. */
  withdraw(): boolean
}

export interface WaitingRoomOptions {
  readonly clock: Clock
  /** How long waiting here is better than a region; see `queueWaitMs` in shared/place/place.ts. */
  readonly waitMs: () => number
  readonly regionInReach: () => boolean
}

/** A client waits this long before 503 tells it more than silence does. */
const CUT_OFF_WAIT_MAX_MS = 5_000
/** What 40,000 calls a second are in 100 ms. */
const WAITING_WATCHED_MAX = 4_096
const TICK_MIN_MS = 1

interface Watched {
  readonly waiting: Waiting
  readonly sinceMs: number
}

export class WaitingRoom {
  readonly counts = { watched: 0, withdrawn: 0 }
  readonly #options: WaitingRoomOptions
  /** Oldest first from `#at` on. */
  #watched: Watched[] = []
  #at = 0
  #cancelTimer: (() => void) | null = null

  constructor(options: WaitingRoomOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#watched.length - this.#at
  }

  /** To be called when an invocation was given to a host that has others waiting. */
  watch(waiting: Waiting): void {
    if (this.size >= WAITING_WATCHED_MAX) return // Q3
    this.counts.watched++
    this.#watched.push({ waiting, sinceMs: this.#options.clock.monotonicMs() })
    if (this.#cancelTimer === null) this.#schedule(this.#options.waitMs())
  }

  close(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
    this.#watched = []
    this.#at = 0
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer = this.#options.clock.after(Math.max(TICK_MIN_MS, delayMs), () => {
      this.#cancelTimer = null
      this.#look()
    })
  }

  #look(): void {
    const nowMs = this.#options.clock.monotonicMs()
    const waitMs = this.#options.regionInReach() ? this.#options.waitMs() : CUT_OFF_WAIT_MAX_MS // Q2
    while (this.size > 0) {
      const oldest = this.#watched[this.#at]
      if (oldest === undefined || nowMs - oldest.sinceMs < waitMs) break
      this.#at++
      if (oldest.waiting.withdraw()) this.counts.withdrawn++
    }
    if (this.#at > 1_024 || this.#at === this.#watched.length) {
      this.#watched = this.#watched.slice(this.#at)
      this.#at = 0
    }
    const next = this.#watched[this.#at]
    // A region may come back at any time.
    if (next !== undefined) this.#schedule(Math.min(next.sinceMs + waitMs - nowMs, Math.max(TICK_MIN_MS, this.#options.waitMs())))
  }
}
