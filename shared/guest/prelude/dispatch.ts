/** Entries `load` and `dispatch`: which handler there is, and the four ways in which it is called. */
import { CALL_BODY_SHIFT, CALL_EVENT } from '../abi.ts'
import { JSONParse, JSONStringify } from './primordials.ts'
import { configuration, env } from './configuration.ts'
import { executionContext } from './context.ts'
import { readBytes, readText } from './body.ts'
import { hostBodyText, hostRespond, RESPOND_JSON_OK } from './host.ts'
import { beginInvocation, failInvocation, failWith, notAResponse, release, runFetchOnHttp, whenSettled, type FetchObject } from './invocation.ts'
import { armEvents, runEventOnEvent, runHttpOnEvent, type EventHandler } from './lambda.ts'
import { isHttpEvent, requestOfEvent, resultOfResponse } from './lambda-http.ts'
import { endOfTopLevel } from './repairs.ts'
import { beginPriming, countInvocation, isPriming } from './priming.ts'
import { headRequestId } from './head.ts'
import { armRequest, requestWithBody } from './request.ts'
import { isResponse, takeResponse } from './response.ts'
import { isObject } from './webidl.ts'

type Handler = { readonly kind: 'none' } | { readonly kind: 'fetch'; readonly target: FetchObject } | { readonly kind: 'event'; readonly run: EventHandler }

let fetchTarget: FetchObject | null = null
let eventHandler: EventHandler | null = null

function isFetchObject(value: unknown): value is FetchObject {
  return isObject(value) && typeof (value as { readonly fetch?: unknown }).fetch === 'function'
}

function asHandler(value: unknown): Handler {
  if (isFetchObject(value)) return { kind: 'fetch', target: value }
  if (typeof value === 'function') return { kind: 'event', run: value as EventHandler }
  return { kind: 'none' }
}

/** A dotted export like `api.handler`, looked for in the module and in its default export (bundled CommonJS). */
function namedHandler(module: Record<string, unknown>, path: string): Handler {
  const names = path.split('.')
  for (const root of [module, module['default']]) {
    let value: unknown = root
    for (const name of names) value = isObject(value) ? (value as Record<string, unknown>)[name] : undefined
    const found = asHandler(value)
    if (found.kind !== 'none') return found
  }
  return { kind: 'none' }
}

/** Entry `load` of the contract. */
export function load(module: Record<string, unknown>): string {
  endOfTopLevel()
  const wanted = configuration.handlerExport ?? null
  let handler: Handler = wanted === null ? { kind: 'none' } : namedHandler(module, wanted)
  const main = module['default']
  if (handler.kind === 'none' && isFetchObject(main)) handler = { kind: 'fetch', target: main }
  if (handler.kind === 'none') handler = namedHandler(module, 'handler')
  fetchTarget = handler.kind === 'fetch' ? handler.target : null
  eventHandler = handler.kind === 'event' ? handler.run : null
  beginPriming()
  armRequest()
  armEvents()
  return handler.kind === 'none' ? '' : handler.kind
}

/** Entry `dispatch` of the contract. */
export function dispatch(call: number, head: string): unknown {
  if (isPriming) countInvocation()
  const isEvent = (call & CALL_EVENT) !== 0
  if (!isEvent && fetchTarget !== null) return runFetchOnHttp(fetchTarget, call, head)
  beginInvocation()
  try {
    if (fetchTarget !== null) runEventOnFetch(fetchTarget, head)
    else if (eventHandler === null) throw new TypeError('The module exports no handler')
    else if (isEvent) return runEventOnEvent(eventHandler, head)
    else return runHttpOnEvent(eventHandler, head, call >> CALL_BODY_SHIFT)
  } catch (error) {
    failInvocation(error)
  }
  return undefined
}

/** kind event, handler fetch. */
function runEventOnFetch(target: FetchObject, head: string): void {
  const text = hostBodyText()
  const payload: unknown = text === '' ? {} : JSONParse(text)
  const requestId = headRequestId(head)
  if (isHttpEvent(payload)) {
    const { head: eventHead, body } = requestOfEvent(payload, requestId)
    whenSettled(target.fetch(requestWithBody(eventHead, body), env, executionContext), onResponseForHttpEvent, failInvocation)
    return
  }
  const request = requestWithBody(`${requestId}\n\nPOST\nhttp://localhost/\ncontent-type\napplication/json`, text === '' ? '{}' : text)
  whenSettled(target.fetch(request, env, executionContext), onResponseForPayload, failInvocation)
}

/** Runs `finish` on the taken body; both its failure and the reading's fail the invocation. */
function finishWith(value: unknown, read: (taken: ReturnType<typeof takeResponse>) => unknown, finish: (taken: ReturnType<typeof takeResponse>, body: never) => string): void {
  try {
    if (!isResponse(value)) throw notAResponse()
    const taken = takeResponse(value)
    whenSettled(
      read(taken),
      (body) => {
        try {
          hostRespond(RESPOND_JSON_OK, finish(taken, body as never))
        } catch (error) {
          failWith(error)
        }
        release()
      },
      failInvocation,
    )
  } catch (error) {
    failInvocation(error)
  }
}

function onResponseForPayload(value: unknown): void {
  finishWith(value, (taken) => readText(taken.raw), (_taken, text: string) => text)
}

function onResponseForHttpEvent(value: unknown): void {
  finishWith(value, (taken) => readBytes(taken.raw), (taken, bytes: Uint8Array<ArrayBuffer>) => JSONStringify(resultOfResponse(taken.status, taken.list, bytes)) ?? 'null')
}
