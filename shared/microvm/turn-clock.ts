/** What a guest's turn has taken: CPU time, read as seldom as will do. */

const SLICE_MAX_MS = 2

export interface TurnClockOptions {
  /** Monotonic, ms. */
  nowMs(): number
  /** CPU time of this thread, ms. */
  threadCpuMs(): number
}

export class TurnClock {
  readonly #options: TurnClockOptions
  /** Below zero: not read in this turn. */
  #cpuStartMs = 0
  #wallStartMs = 0

  constructor(options: TurnClockOptions) {
    this.#options = options
  }

  /** Most runs have one turn, for which the wall clock will do; many short turns would add up what they waited. Returns the time. */
  begin(turn: 'first' | 'later'): number {
    this.#wallStartMs = this.#options.nowMs()
    this.#cpuStartMs = turn === 'first' ? -1 : this.#options.threadCpuMs()
    return this.#wallStartMs
  }

  /**
   * CPU time of the turn so far. Reading the thread's CPU clock is a system call, so it is first read one slice into a
   * turn; what came before counts as wall time.
   */
  cpuMs(nowMs: number): number {
    if (this.#cpuStartMs < 0) this.#cpuStartMs = this.#options.threadCpuMs() - Math.min(nowMs - this.#wallStartMs, SLICE_MAX_MS)
    return this.#options.threadCpuMs() - this.#cpuStartMs
  }

  /** CPU time of a turn that has ended. One that never ran out of fuel took no longer than a slice, however long it was descheduled. */
  usedMs(): number {
    if (this.#cpuStartMs >= 0) return this.#options.threadCpuMs() - this.#cpuStartMs
    return Math.min(this.#options.nowMs() - this.#wallStartMs, SLICE_MAX_MS)
  }
}
