/**
 * At what hours of the day a function is asked for. What was asked in an hour is kept for that hour, half as much with
 * every day that passes; an hour's weight is how it compares with all of them. Pure: told the time by argument.
 */
const HOURS = 24
const HOUR_MS = 3_600_000
/** A day's habit decides between functions that are near each other, no more. */
const WEIGHT_MIN = 0.5
const WEIGHT_MAX = 2
/** Arrivals an hour that speak neither way: without them one arrival would make an hour. */
const PRIOR = 10

export class DayProfile {
  readonly #hours = new Float32Array(HOURS)
  /** The hour that is being counted, since the epoch; null before the first. */
  #current: number | null = null
  #hoursSeen = 0

  /** `nowMs`: since the epoch. */
  record(nowMs: number, arrivals: number): void {
    const now = Math.floor(nowMs / HOUR_MS)
    // At most a day's worth of steps, however long nobody came.
    for (let hour = Math.max(this.#current ?? now - 1, now - HOURS) + 1; hour <= now; hour++) {
      const index = hour % HOURS
      this.#hours[index] = (this.#hours[index] ?? 0) / 2
      this.#hoursSeen = Math.min(HOURS, this.#hoursSeen + 1)
    }
    if (this.#current === null || now > this.#current) this.#current = now
    const index = this.#current % HOURS
    this.#hours[index] = (this.#hours[index] ?? 0) + arrivals
  }

  /** Of the hour that comes at `nowMs` plus half an hour: a place given now is for what is asked next. 1 until a whole day was seen. */
  weightAt(nowMs: number): number {
    if (this.#hoursSeen < HOURS) return 1
    const mean = this.#hours.reduce((sum, count) => sum + count, 0) / HOURS
    const next = this.#hours[Math.floor((nowMs + HOUR_MS / 2) / HOUR_MS) % HOURS] ?? 0
    return Math.min(WEIGHT_MAX, Math.max(WEIGHT_MIN, (next + PRIOR) / (mean + PRIOR)))
  }
}
