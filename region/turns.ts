/** Two ways of taking turns: a bounded number at once, and one at a time. */
import { CodedError } from '../shared/errors.ts'

/** Runs at most `runningMax` tasks at once and lets at most `waitingMax` wait; the one beyond is refused. */
export class BoundedTurns {
  readonly #runningMax: number
  readonly #waitingMax: number
  #running = 0
  readonly #waiting: (() => void)[] = []

  constructor(runningMax: number, waitingMax: number) {
    this.#runningMax = runningMax
    this.#waitingMax = waitingMax
  }

  /** Throws ERR_BUILD_QUEUE_FULL at the bound; else settles as `task` does. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#runningMax) {
      if (this.#waiting.length >= this.#waitingMax) throw new CodedError('ERR_BUILD_QUEUE_FULL', [this.#waiting.length])
      // The one that ends hands its turn over, so `#running` stays as it is.
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    } else {
      this.#running += 1
    }
    try {
      return await task()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#running -= 1
      else next()
    }
  }
}

/** Runs tasks one after another in the order they came. Its callers are bounded elsewhere. */
export class SingleTurns {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(task)
    // The next task runs however this one ends; its own caller gets the rejection.
    this.#last = turn.catch(() => undefined)
    return turn
  }

  /** Resolves when all tasks so far have ended. */
  async idle(): Promise<void> {
    await this.#last
  }
}
