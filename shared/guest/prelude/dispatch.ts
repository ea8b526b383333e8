/** Entries `load` and `dispatch`: which handler there is, and the four ways in which it is called. */
import { JSONParse, JSONStringify } from './primordials.ts'
import { configuration, env } from './configuration.ts'
import { executionContext } from './context.ts'
import { readBytes, readText } from './body.ts'
import { hostBodyText, hostRespond } from './host.ts'
import { beginInvocation, failWith, hold, pumpBody, release, whenSettled } from './invocation.ts'
import { runEventOnEvent, runHttpOnEvent, WIRE_JSON, type EventHandler } from './lambda.ts'
import { isHttpEvent, requestOfEvent, resultOfResponse } from './lambda-http.ts'
import { endOfTopLevel } from './repairs.ts'
import { HEAD_REQUEST_ID, headLine, incomingRequest, requestWithBody, type Request } from './request.ts'
import { isResponse, sendResponse, takeResponse, type Response } from './response.ts'
import { isObject } from './webidl.ts'

const KIND_HTTP = 0

interface FetchObject {
  fetch(request: Request, env: object, context: object): unknown
}

type Handler = { readonly kind: 'none' } | { readonly kind: 'fetch'; readonly target: FetchObject } | { readonly kind: 'event'; readonly run: EventHandler }

let handler: Handler = { kind: 'none' }
let fetchTarget: FetchObject | null = null

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
  handler = wanted === null ? { kind: 'none' } : namedHandler(module, wanted)
  const main = module['default']
  if (handler.kind === 'none' && isFetchObject(main)) handler = { kind: 'fetch', target: main }
  if (handler.kind === 'none') handler = namedHandler(module, 'handler')
  fetchTarget = handler.kind === 'fetch' ? handler.target : null
  return handler.kind === 'none' ? '' : handler.kind
}

/** Entry `dispatch` of the contract. */
export function dispatch(kind: number, head: string, bodyState: number): void {
  beginInvocation()
  try {
    if (fetchTarget !== null) {
      if (kind === KIND_HTTP) runFetch(incomingRequest(head, bodyState), onResponse)
      else runEventOnFetch(head)
    } else if (handler.kind === 'event') {
      if (kind === KIND_HTTP) runHttpOnEvent(handler.run, head, bodyState)
      else runEventOnEvent(handler.run, head)
    } else throw new TypeError('The module exports no handler')
  } catch (error) {
    onError(error)
  }
}

function onError(error: unknown): void {
  failWith(error)
  release()
}

function runFetch(request: Request, answer: (response: unknown) => void): void {
  const result = fetchTarget?.fetch(request, env, executionContext)
  if (isResponse(result)) answer(result)
  else whenSettled(result, answer, onError)
}

function assertResponse(value: unknown): asserts value is Response {
  if (!isResponse(value)) throw new TypeError('Incorrect type for Promise: the Promise did not resolve to \'Response\'.')
}

function onResponse(value: unknown): void {
  try {
    assertResponse(value)
    const rest = sendResponse(value)
    if (rest !== null) {
      hold()
      void pumpBody(rest)
    }
  } catch (error) {
    failWith(error)
  }
  release()
}

/** kind event, handler fetch. */
function runEventOnFetch(head: string): void {
  const text = hostBodyText()
  const payload: unknown = text === '' ? {} : JSONParse(text)
  const requestId = headLine(head, HEAD_REQUEST_ID)
  if (isHttpEvent(payload)) {
    const { head: eventHead, body } = requestOfEvent(payload, requestId)
    runFetch(requestWithBody(eventHead, body), onResponseForHttpEvent)
  } else runFetch(requestWithBody(`${requestId}\n\nPOST\nhttp://localhost/\ncontent-type\napplication/json`, text === '' ? '{}' : text), onResponseForPayload)
}

/** Runs `finish` on the taken body; both its failure and the reading's fail the invocation. */
function finishWith(value: unknown, read: (taken: ReturnType<typeof takeResponse>) => unknown, finish: (taken: ReturnType<typeof takeResponse>, body: never) => string): void {
  try {
    assertResponse(value)
    const taken = takeResponse(value)
    whenSettled(
      read(taken),
      (body) => {
        try {
          hostRespond(200, WIRE_JSON, finish(taken, body as never), false)
        } catch (error) {
          failWith(error)
        }
        release()
      },
      onError,
    )
  } catch (error) {
    onError(error)
  }
}

function onResponseForPayload(value: unknown): void {
  finishWith(value, (taken) => readText(taken.raw), (_taken, text: string) => text)
}

function onResponseForHttpEvent(value: unknown): void {
  finishWith(value, (taken) => readBytes(taken.raw), (taken, bytes: Uint8Array<ArrayBuffer>) => JSONStringify(resultOfResponse(taken.status, taken.list, bytes)) ?? 'null')
}
