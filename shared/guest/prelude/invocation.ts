/**
 * The life of the one invocation that a machine runs. A machine is restored for every request, so its state is plain
 * variables; in a session that keeps a machine, `begin` sets them anew.
 *
 * I1: `hostDone` is called exactly once, or said with the response, when `outstanding` falls to zero: the handler, each waitUntil promise and a
 *     body being sent hold one each.
 * I2: at most one of `hostRespond` and `hostFail` answers; the host ignores what comes after.
 */
import { ArrayBufferByteLength, nativeThen, NativeDOMException, PromiseConstructor, PromiseThen } from './primordials.ts'
import { env } from './configuration.ts'
import { executionContext, setProps } from './context.ts'
import { hostDone, hostEnd, hostFail, hostRespond, hostWrite, type WireBody } from './host.ts'
import { renewBody } from './body.ts'
import { generation, operation, renewOperations, requestOver } from './operations.ts'
import { OPERATIONS, RESPOND_DONE } from '../abi.ts'
import { uncaughtText } from './inspect.ts'
import { answerOfOrigin } from './origin.ts'
import { describeThrown, reportUncaught } from './report.ts'
import { incomingRequest, type Request } from './request.ts'
import { isResponse, sendResponse, type Response } from './response.ts'
import { isObject } from './webidl.ts'
import { HostSource, requireBytes, type ByteStream, type ReadableStream } from './streams.ts'

let outstanding = 0

export function beginInvocation(): void {
  outstanding = 1
}

export interface FetchObject {
  fetch(request: Request, env: object, context: object): unknown
}

/** kind http, handler fetch: the path that most requests take, so written out in one function. Returns what `dispatch` does. */
export function runFetchOnHttp(target: FetchObject, call: number, head: string): unknown {
  outstanding = 1
  try {
    const result = target.fetch(incomingRequest(call, head), env, executionContext)
    if (typeof result === 'object' && result !== null && (result as Promise<unknown>).then === nativeThen) {
      // As handOver does.
      onFulfilled = onResponse
      onRejected = failFetch
      return result
    }
    whenSettled(result, onResponse, failFetch)
  } catch (error) {
    failFetch(error)
  }
  return undefined
}

let onFulfilled: (value: unknown) => void = onResponse
let onRejected: (error: unknown) => void = failInvocation

/** Has the host look after the handler's promise: see `dispatch` of the contract. Returns it. */
export function handOver(promise: unknown, ok: (value: unknown) => void, failed: (error: unknown) => void): unknown {
  onFulfilled = ok
  onRejected = failed
  return promise
}

/** Entry `settled` of the contract. */
export function settled(ok: number, value: unknown): void {
  if (ok === 1) onFulfilled(value)
  else onRejected(value)
}

/** Entry `follow` of the contract. */
export function follow(promise: unknown): void {
  whenSettled(promise, onFulfilled, onRejected)
}

/** The handler's own failure. */
export function failInvocation(error: unknown): void {
  failWith(error)
  release()
}

/** The handler has given nothing that can be sent. */
function failFetch(error: unknown): void {
  const answer = answerOfOrigin(error)
  if (answer === null) failInvocation(error)
  else whenSettled(answer, onResponse, failInvocation)
}

function onResponse(value: unknown): void {
  try {
    // The cast is checked by sendResponse's first access, whose error is put into words below.
    const last = outstanding === 1
    const rest = sendResponse(value as Response, last)
    if (rest !== null) {
      outstanding++
      void pumpBody(rest)
    } else if (last) {
      // The host was told with the response.
      outstanding = 0
      return
    }
  } catch (error) {
    failFetch(isResponse(value) ? error : notAResponse())
    return
  }
  if (--outstanding === 0) hostDone()
}

export function notAResponse(): TypeError {
  return new TypeError("Incorrect type for Promise: the Promise did not resolve to 'Response'.")
}

/** One of what holds the invocation has settled. */
export function release(): void {
  if (--outstanding !== 0) return
  if (allDone !== null) {
    const answer = allDone
    allDone = null
    if (!failed) answer()
  }
  hostDone()
}

/** For events whose answer is how all of their work went: what answers once nothing holds the invocation, unless something failed. */
let allDone: (() => void) | null = null
let failed = false

export function whenAllIsDone(answer: () => void): void {
  allDone = answer
  failed = false
}

/** The whole answer of what holds the invocation, which thereby settles. */
export function respondAndRelease(what: number, body: WireBody, headers?: string): void {
  const last = outstanding === 1
  hostRespond(last ? what | RESPOND_DONE : what, body, headers)
  outstanding--
}

export function hold(): void {
  outstanding++
}

export function isPromise(value: unknown): value is Promise<unknown> {
  return value instanceof PromiseConstructor
}

/** Null: neither promise nor thenable. Throws what a getter of the value throws. */
function asPromise(value: unknown): Promise<unknown> | null {
  if (!isObject(value)) return null
  if (isPromise(value)) return value
  if (typeof (value as { readonly then?: unknown }).then !== 'function') return null
  return new PromiseConstructor<unknown>((resolve) => resolve(value))
}

/**
 * Calls exactly one of the two once `value` has settled; at once if it is neither promise nor thenable. Never throws by
 * itself. What settles in a later request of a session is of no concern any more.
 */
export function whenSettled(value: unknown, ok: (value: unknown) => void, failed: (error: unknown) => void): void {
  let promise: Promise<unknown> | null
  try {
    promise = asPromise(value)
    // Throws for an object that only inherits from Promise.prototype.
    if (promise !== null) {
      const mine = generation
      void PromiseThen(promise, (result) => {
        if (mine === generation) ok(result)
      }, (error: unknown) => {
        if (mine === generation) failed(error)
      })
    }
  } catch (error) {
    failed(error)
    return
  }
  if (promise === null) ok(value)
}

function backgroundFailed(error: unknown): void {
  reportUncaught(error, 'Uncaught (in waitUntil)')
  if (allDone !== null) failWith(error)
  release()
}

/** After the invocation has ended there is nothing that could be waited for. */
export function waitUntil(promise: unknown): void {
  if (outstanding === 0) return
  outstanding++
  whenSettled(promise, release, backgroundFailed)
}

/** The handler failed. The invocation goes on until its other work has settled. */
export function failWith(error: unknown): void {
  failed = true
  const { name, message, stack } = describeThrown(error)
  hostFail(name, message, error instanceof Error ? uncaughtText(error) : stack)
}

/** Sends what is left of a response; its head is out with `more`. A failure leaves the body without its end, which cuts it. */
export async function pumpBody(body: HostSource | ReadableStream): Promise<void> {
  const mine = generation
  try {
    if (body instanceof HostSource) await pumpSource(body)
    else await pumpStream(body as ByteStream)
    if (mine === generation) hostEnd()
  } catch (error) {
    if (mine === generation) failWith(error)
  }
  if (mine === generation) release()
}

async function pumpSource(source: HostSource): Promise<void> {
  for (let chunk = await source.next(); chunk !== null; chunk = await source.next()) {
    if (ArrayBufferByteLength(chunk) > 0 && !hostWrite(chunk)) await operation(OPERATIONS.DRAIN, 0)
  }
}

/** Entry `renew` of the contract: what held the last request of the session is let go. */
export function renew(): void {
  outstanding = 0
  allDone = null
  setProps(null)
  cancelBody = null
  renewBody()
  renewOperations()
}

let cancelBody: ((reason: unknown) => void) | null = null

/** The client has gone: the stream that is being sent is cancelled, as its source may be waiting for that. */
export function abortBody(): void {
  cancelBody?.(new NativeDOMException('The client disconnected', 'AbortError'))
}

async function pumpStream(stream: ByteStream): Promise<void> {
  const mine = generation
  const reader = stream.getReader()
  cancelBody = (reason) => {
    // It rejects with the error that the pump meets anyway.
    reader.cancel(reason).catch(() => undefined)
  }
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      if (mine !== generation) throw requestOver()
      const chunk = requireBytes(step.value)
      if (chunk.byteLength > 0 && !hostWrite(chunk)) await operation(OPERATIONS.DRAIN, 0)
    }
  } catch (error) {
    if (mine === generation) cancelBody(error)
    throw error
  } finally {
    if (mine === generation) cancelBody = null
  }
}
