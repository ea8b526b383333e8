/** What functions threw, for their authors: clients are told the message at most. Bounded, since one function can throw with every request. */
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { InvocationResult } from '../worker/types.ts'

const LINES_PER_SECOND_MAX = 20

export class FunctionErrorLog {
  readonly #clock: Clock
  readonly #log: Log
  #second = -1
  #lines = 0
  #suppressed = 0

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
  }

  /** Does nothing if the result tells of no exception. */
  record(result: InvocationResult, functionName: string, requestId: string): void {
    const { exception } = result
    if (exception === null) return
    const second = Math.floor(this.#clock.monotonicMs() / 1000)
    if (second !== this.#second) {
      if (this.#suppressed > 0) this.#log.warn('function errors were not logged', { count: this.#suppressed })
      this.#second = second
      this.#lines = 0
      this.#suppressed = 0
    }
    if (++this.#lines > LINES_PER_SECOND_MAX) {
      this.#suppressed++
      return
    }
    this.#log.error('function threw', { functionName, requestId, name: exception.name, error: exception.message, stack: exception.stack })
  }
}
