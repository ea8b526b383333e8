/** Entries `load` and `dispatch`: which handler there is, and the four ways in which it is called. */
import { CALL_BODY_SHIFT, CALL_EVENT, CALL_SELECTED } from '../abi.ts'
import type { Selection } from '../selection.ts'
import { ArrayJoin, ArrayPush, JSONParse, JSONStringify, MapForEach, MapGet, StringIndexOf, StringSlice, StringSplit } from './primordials.ts'
import { configuration, env } from './configuration.ts'
import { executionContext, setProps } from './context.ts'
import { entrypointOf, missing, addNamedEntrypoints, type Entrypoint } from './entrypoints.ts'
import { readBytes, readText } from './body.ts'
import { hostBodyText, hostRespond, RESPOND_JSON_OK } from './host.ts'
import { beginInvocation, failInvocation, failWith, notAResponse, release, runFetchOnHttp, whenSettled } from './invocation.ts'
import { armEvents, runEventOnEvent, runHttpOnEvent, type EventHandler } from './lambda.ts'
import { removeLambdaVariables } from './lambda-env.ts'
import { isHttpEvent, requestOfEvent, resultOfResponse } from './lambda-http.ts'
import { endOfTopLevel } from './repairs.ts'
import { beginPriming, countInvocation, isPriming } from './priming.ts'
import { runScheduled } from './scheduled.ts'
import { headRequestId } from './head.ts'
import { standBefore } from './origin.ts'
import { armRequest, requestWithBody } from './request.ts'
import { isResponse, takeResponse } from './response.ts'
import { isObject } from './webidl.ts'

type Handler = { readonly kind: 'none' } | { readonly kind: 'fetch'; readonly target: Entrypoint } | { readonly kind: 'event'; readonly run: EventHandler }

/** Set: not a plain request. */
const CALL_UNUSUAL = CALL_EVENT | CALL_SELECTED

let fetchTarget: Entrypoint | null = null
let eventHandler: EventHandler | null = null
const entrypoints = new Map<string, Entrypoint>()

function asHandler(value: unknown): Handler {
  const target = entrypointOf(value)
  if (target !== null) return { kind: 'fetch', target }
  if (typeof value === 'function') return { kind: 'event', run: value as EventHandler }
  return { kind: 'none' }
}

/** A dotted export like `api.handler`, looked for in the module and in its default export (bundled CommonJS). */
function namedHandler(module: Record<string, unknown>, path: string): Handler {
  const names = StringSplit(path, '.')
  const found = asHandler(memberAt(module, names))
  return found.kind === 'none' ? asHandler(memberAt(module['default'], names)) : found
}

function memberAt(root: unknown, names: readonly string[]): unknown {
  let value = root
  for (let index = 0; index < names.length; index++) value = isObject(value) ? (value as Record<string, unknown>)[names[index] ?? ''] : undefined
  return value
}

/** Entry `load` of the contract. */
export function load(module: Record<string, unknown>): string {
  endOfTopLevel()
  const wanted = configuration.handlerExport ?? null
  let handler: Handler = wanted === null ? { kind: 'none' } : namedHandler(module, wanted)
  const main = handler.kind === 'none' ? entrypointOf(module['default']) : null
  if (main !== null) handler = { kind: 'fetch', target: main }
  if (handler.kind === 'none') handler = namedHandler(module, 'handler')
  fetchTarget = handler.kind === 'fetch' ? handler.target : null
  eventHandler = handler.kind === 'event' ? handler.run : null
  if (eventHandler === null) removeLambdaVariables(env)
  addNamedEntrypoints(module, entrypoints)
  beginPriming()
  if (typeof configuration.origin === 'string') standBefore(configuration.origin)
  armRequest()
  armEvents(eventHandler)
  if (handler.kind === 'none') return ''
  const lines: string[] = [handler.kind]
  MapForEach(entrypoints, (_entrypoint, name) => ArrayPush(lines, name))
  return ArrayJoin(lines, '\n')
}

/** Entry `dispatch` of the contract. */
export function dispatch(call: number, head: string): unknown {
  if (isPriming) countInvocation()
  if ((call & CALL_UNUSUAL) === 0 && fetchTarget !== null) return runFetchOnHttp(fetchTarget, call, head)
  beginInvocation()
  try {
    return (call & CALL_SELECTED) === 0 ? run(fetchTarget, call, head) : runSelected(call & ~CALL_SELECTED, head)
  } catch (error) {
    failInvocation(error)
  }
  return undefined
}

/** `target` null: the event handler. */
function run(target: Entrypoint | null, call: number, head: string): unknown {
  const isEvent = (call & CALL_EVENT) !== 0
  if (target !== null) {
    if (!isEvent) return runFetchOnHttp(target, call, head)
    runEventOnFetch(target, head)
    return undefined
  }
  if (eventHandler === null) throw new TypeError('The module exports no handler')
  return isEvent ? runEventOnEvent(eventHandler, head) : runHttpOnEvent(eventHandler, head, call >> CALL_BODY_SHIFT)
}

function runSelected(call: number, head: string): unknown {
  const end = StringIndexOf(head, '\n')
  const { entrypoint, handler, props } = JSONParse(StringSlice(head, 0, end)) as Selection
  const target = entrypoint === null ? fetchTarget : (MapGet(entrypoints, entrypoint) ?? null)
  if (entrypoint !== null && target === null) throw new TypeError(`The function has no entrypoint "${entrypoint}"`)
  setProps(props)
  if (handler !== 'scheduled') return run(target, call, StringSlice(head, end + 1))
  if (target === null) throw missing('scheduled')
  runScheduled(target)
  return undefined
}

/** kind event, handler fetch. */
function runEventOnFetch(target: Entrypoint, head: string): void {
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
