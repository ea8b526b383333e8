/**
 * How long to wait before the next attempt to connect: doubling, capped, with jitter over the upper half, so that many
 * POPs do not come back at once. A region that has said goodbye restarts as a rule, so for some time after it the waits
 * stay short. Pure: time and randomness come in.
 */
import type { Random } from '../random.ts'

/** The first wait. A region that restarts on the same host is back within it. */
const DELAY_MIN_MS = 100
/** A region that was away is found again within this. */
const DELAY_MAX_MS = 10_000
/** A link that held this long counts as having worked; a shorter one does not reset the doubling. */
const UPTIME_FOR_RESET_MS = 10_000
/** The longest wait for a region that has said goodbye: refusing an attempt costs it nothing, and users wait. */
const GOODBYE_DELAY_MAX_MS = 1_000
/** After its drain a region has this long to come back before it counts as away. */
const RESTART_MAX_MS = 60_000

export class Backoff {
  readonly #random: Random
  #failures = 0
  #expectedUntilMs = Number.NEGATIVE_INFINITY

  constructor(random: Random) {
    this.#random = random
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures
  }

  /** The region has said goodbye to a link of `uptimeMs` and will be gone within `drainMs`. */
  goodbye(uptimeMs: number, drainMs: number, nowMs: number): void {
    if (uptimeMs >= UPTIME_FOR_RESET_MS) this.#failures = 0
    this.#expectedUntilMs = nowMs + drainMs + RESTART_MAX_MS
  }

  /** Milliseconds to wait now that an attempt has failed or a link of `uptimeMs` has ended. `nowMs` is of the clock that `goodbye` was told of. */
  next(uptimeMs: number, nowMs: number): number {
    if (uptimeMs >= UPTIME_FOR_RESET_MS) this.#failures = 0
    const longestMs = nowMs < this.#expectedUntilMs ? GOODBYE_DELAY_MAX_MS : DELAY_MAX_MS
    const ceiling = Math.min(longestMs, DELAY_MIN_MS * 2 ** Math.min(this.#failures, 16))
    this.#failures += 1
    return Math.round(ceiling / 2 + (ceiling / 2) * this.#random.next())
  }
}
