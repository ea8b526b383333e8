/**
 * Asynchronous host operations: `begin` starts one and remembers who waits, `settle` is what the host calls.
 *
 * P1: every id in `waiting` was given by the host and not yet settled or cancelled; the map is empty in an image.
 * P2: what waits has the number of its request, `generation`; a later request of a session does not count it.
 */
import { ArrayPush, MapClear, MapDelete, MapForEach, MapGet, MapSet, NativeDOMException, ObjectDefineProperty, PromiseConstructor, SetHas, StringIndexOf, StringLastIndexOf, StringSlice } from './primordials.ts'
import { hostCancel, hostStart } from './host.ts'

/** Called with the settled value, or with the error when `ok` is false. A timer's is called so only to be told that it is gone. */
export type Waiter = (value: unknown, ok: boolean) => void

const waiting = new Map<number, Waiter>()
export let waitingCount = 0
/** Counts the requests of the session that the machine serves. What belongs to one of them keeps its number. */
export let generation = 0
let whenIdle: (() => void) | null = null
/** DOMExceptions of crypto.subtle. */
const CRYPTO_ERRORS = new Set(['OperationError', 'DataError', 'InvalidAccessError', 'NotSupportedError', 'SyntaxError', 'QuotaExceededError'])

export function begin(op: number, a: unknown, b: unknown, waiter: Waiter): number {
  const id = hostStart(op, a, b)
  MapSet(waiting, id, waiter)
  waitingCount++
  return id
}

/** The operation as a promise. */
export function operation(op: number, a?: unknown, b?: unknown): Promise<unknown> {
  return new PromiseConstructor((resolve, reject) => {
    begin(op, a, b, (value, ok) => {
      if (ok) resolve(value)
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- settle gives an error here
      else reject(value)
    })
  })
}

/** Afterwards the waiter is never called. */
export function cancel(id: number): void {
  if (!MapDelete(waiting, id)) return
  waitingCount--
  hostCancel(id)
}

/** Entry `settle` of the contract. */
export function settle(id: number, ok: number, value: unknown): void {
  const waiter = MapGet(waiting, id)
  if (waiter === undefined) return
  MapDelete(waiting, id)
  waitingCount--
  if (ok === 1) waiter(value, true)
  else waiter(operationError(value as string), false)
}

/** Runs `action` once nothing is under way any more. */
export function onIdle(action: () => void): void {
  whenIdle = action
}

/** Entry `idle` of the contract. */
export function idle(): void {
  const action = whenIdle
  whenIdle = null
  action?.()
}

/** The error of whatever was begun in one request of a session and is waited for in a later one. */
export function requestOver(): Error {
  return new NativeDOMException('The request that began this operation has ended', 'AbortError')
}

/** Entry `renew` of the contract. */
export function renewOperations(): void {
  generation++
  whenIdle = null
  waitingCount = 0
  const left: Waiter[] = []
  MapForEach(waiting, (waiter) => ArrayPush(left, waiter))
  MapClear(waiting)
  for (let i = 0; i < left.length; i++) left[i]?.(requestOver(), false)
}

/** `name\nmessage\ncode` as the error object that the guest sees; the message may have several lines. */
function operationError(text: string): Error {
  const first = StringIndexOf(text, '\n')
  const last = StringLastIndexOf(text, '\n')
  const name = StringSlice(text, 0, first)
  const message = StringSlice(text, first + 1, last === first ? undefined : last)
  const code = last === first ? '' : StringSlice(text, last + 1)
  let error: Error
  if (name === 'TypeError') error = new TypeError(message)
  else if (name === 'AbortError' || name === 'TimeoutError' || name === 'NetworkError' || SetHas(CRYPTO_ERRORS, name)) error = new NativeDOMException(message, name)
  else {
    error = new Error(message)
    if (name !== '' && name !== 'Error') ObjectDefineProperty(error, 'name', { value: name, writable: true, configurable: true })
  }
  if (code !== '') ObjectDefineProperty(error, 'code', { value: code, writable: true, configurable: true, enumerable: true })
  return error
}
