/**
 * How long to wait before the next attempt to connect: doubling, capped, with jitter over the upper half, so that many
 * POPs do not come back at once. Pure: time and randomness come in.
 */
import type { Random } from '../random.ts'

/** The first wait. A region that restarts on the same host is back within it. */
const DELAY_MIN_MS = 100
/** A region that was away is found again within this. */
const DELAY_MAX_MS = 10_000
/** A link that held this long counts as having worked; a shorter one does not reset the doubling. */
const UPTIME_FOR_RESET_MS = 10_000

export class Backoff {
  readonly #random: Random
  #failures = 0

  constructor(random: Random) {
    this.#random = random
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures
  }

  /** Milliseconds to wait now that an attempt has failed or a link of `uptimeMs` has ended. */
  next(uptimeMs: number): number {
    if (uptimeMs >= UPTIME_FOR_RESET_MS) this.#failures = 0
    const ceiling = Math.min(DELAY_MAX_MS, DELAY_MIN_MS * 2 ** Math.min(this.#failures, 16))
    this.#failures += 1
    return Math.round(ceiling / 2 + (ceiling / 2) * this.#random.next())
  }
}
