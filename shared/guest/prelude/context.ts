/** The third argument of a fetch handler. There is one: a machine runs one invocation, and the object says nothing about it. */
import { ObjectFreeze } from './primordials.ts'
import { hostWarn } from './host.ts'
import { askForOrigin } from './origin.ts'
import { waitUntil } from './invocation.ts'
import { nameAs, tag } from './webidl.ts'

const NO_PROPS: object = ObjectFreeze({})
/** What a service binding gives along. */
let props = NO_PROPS

/** Null: none. They stay for the machine's one request, or until `renew`. */
export function setProps(given: object | null): void {
  props = given ?? NO_PROPS
}

class ExecutionContext {

  waitUntil(promise: unknown): void {
    if (arguments.length === 0) throw new TypeError('waitUntil needs a promise')
    waitUntil(promise)
  }

  /** That there is no origin is told when the image is made and not in the log: frameworks call this for every request. */
  passThroughOnException(): void {
    if (!askForOrigin()) hostWarn('ctx.passThroughOnException() has no effect, as the function has no origin: a handler that throws is answered with 500. Set "origin" in outpost.jsonc to the server that shall answer then.')
  }

  get props(): object {
    return props
  }
}
tag(ExecutionContext.prototype, 'ExecutionContext')
nameAs(ExecutionContext, 'ExecutionContext')

export const executionContext: object = new ExecutionContext()
