/** The third argument of a fetch handler. There is one: a machine runs one invocation, and the object says nothing about it. */
import { ObjectFreeze } from './primordials.ts'
import { waitUntil } from './invocation.ts'
import { nameAs, tag } from './webidl.ts'

class ExecutionContext {
  readonly #props: object = ObjectFreeze({})

  waitUntil(promise: unknown): void {
    if (arguments.length === 0) throw new TypeError('waitUntil needs a promise')
    waitUntil(promise)
  }

  /** Nothing stands behind a function here yet, so a failure stays one. */
  passThroughOnException(): void {
    // See above.
  }

  get props(): object {
    return this.#props
  }
}
tag(ExecutionContext.prototype, 'ExecutionContext')
nameAs(ExecutionContext, 'ExecutionContext')

export const executionContext: object = new ExecutionContext()
