/** Handlers of the Lambda kind: `(event, context, callback)`. */
import { JSONParse, JSONStringify, nativeThen, StringStartsWith, Uint8ArrayFromBase64 } from './primordials.ts'
import { configuration } from './configuration.ts'
import { getHeader } from './headers.ts'
import { hostBodyText, hostRemainingMs, hostUtf8Decode, RESPOND_JSON_OK } from './host.ts'
import { failWith, follow, handOver, hold, release, respondAndRelease, whenSettled } from './invocation.ts'
import { onIdle } from './operations.ts'
import { headHeaders, headLines, headRequestId, URL_LINE, type HeadLines } from './head.ts'
import { logStreamName, setTraceIdReader } from './lambda-env.ts'
import { armHttpEvent, httpEvent } from './lambda-event.ts'
import { respondWithHttpResult } from './lambda-http.ts'
import { isStreaming, runStreaming, type StreamingHandler } from './response-stream.ts'
import { HostSource, readAll } from './streams.ts'
import { OPERATIONS, VERSION_HEADER } from '../abi.ts'

export type EventHandler = (event: unknown, context: object, callback: (error: unknown, result?: unknown) => void) => unknown

/** The contract's bodyState of a body that still comes in. */
const STREAMED = 2

/** How the answer of this invocation is written, by `respondAndRelease` at the end; and whether it was. */
let answer: (result: unknown) => void = respondWithJson
let answered = false
/** The handler writes its answer to a stream. */
let streaming = false

/**
 * The context object, made ahead: a machine runs one invocation, of which it only holds the head. In a session that
 * keeps the machine, later invocations get the same object.
 */
let context: LambdaContext | null = null
let contextHead = ''

interface LambdaContext {
  callbackWaitsForEmptyEventLoop: boolean
}

/** `handler`: the module's, null if it has none of this kind. */
export function armEvents(handler: EventHandler | null): void {
  streaming = handler !== null && isStreaming(handler)
  setTraceIdReader(() => getHeader(headHeaders(contextHead, headLines(contextHead)), 'x-amzn-trace-id'))
  armHttpEvent()
  const { functionName, version, memoryMib } = configuration
  context = {
    callbackWaitsForEmptyEventLoop: true,
    functionName,
    get functionVersion(): string {
      return eventHeader(VERSION_HEADER) ?? version
    },
    get invokedFunctionArn(): string {
      return invokedArn()
    },
    memoryLimitInMB: `${memoryMib}`,
    get awsRequestId(): string {
      return headRequestId(contextHead)
    },
    logGroupName: `/aws/lambda/${functionName}`,
    get logStreamName(): string {
      return logStreamName(configuration)
    },
    get clientContext(): unknown {
      return clientContext()
    },
    identity: undefined,
    getRemainingTimeInMillis: () => hostRemainingMs(),
    done: (error?: unknown, result?: unknown) => callBack(error, result),
    succeed: (result?: unknown) => callBack(null, result),
    fail: (error?: unknown) => callBack(error ?? 'handled', undefined),
  } as LambdaContext
}

/** One of the headers that an Invoke's event has; null for a request's. */
function eventHeader(name: string): string | null {
  const lines = headLines(contextHead)
  return isEventHead(lines) ? getHeader(headHeaders(contextHead, lines), name) : null
}

/** An event's URL is the function as it was invoked. */
function isEventHead(lines: HeadLines): boolean {
  return StringStartsWith(lines[URL_LINE] ?? '', 'arn:')
}

function invokedArn(): string {
  const lines = headLines(contextHead)
  return isEventHead(lines) ? (lines[URL_LINE] ?? '') : configuration.arn
}

/** As the front door checked it: JSON in base64. */
function clientContext(): unknown {
  const encoded = eventHeader('x-amz-client-context')
  return encoded === null ? undefined : JSONParse(hostUtf8Decode(Uint8ArrayFromBase64(encoded), false, false) ?? 'null')
}

function respondWithJson(result: unknown): void {
  respondAndRelease(RESPOND_JSON_OK, JSONStringify(result) ?? 'null')
}

/** By a callback, meanwhile. */
function hasAnswered(): boolean {
  return answered
}

function succeeded(result: unknown): void {
  if (answered) return
  answered = true
  try {
    answer(result)
  } catch (error) {
    failWith(error) // The result cannot be written, like a cycle in JSON.
    release()
  }
}

function failed(error: unknown): void {
  if (answered) return
  answered = true
  failWith(error)
  release()
}

/** The callback style answers at once; work under way keeps the invocation alive unless the function says not to wait. */
function callBack(error: unknown, result: unknown): void {
  if (answered) return
  if (context?.callbackWaitsForEmptyEventLoop === true) {
    hold()
    onIdle(release)
  }
  if (error === null || error === undefined) succeeded(result)
  else failed(error)
}

/** Returns what `dispatch` does. */
function runEventHandler(handler: EventHandler, head: string, event: unknown, respond: (result: unknown) => void): unknown {
  answered = false
  answer = respond
  contextHead = head
  if (context === null) return undefined
  context.callbackWaitsForEmptyEventLoop = true
  if (streaming) {
    runStreaming(handler as StreamingHandler, respond === respondWithJson ? 'invoke' : 'request', event, context)
    return undefined
  }
  try {
    const result = handler(event, context, callBack)
    if (typeof result === 'object' && result !== null && (result as Promise<unknown>).then === nativeThen) return handOver(result, succeeded, failed)
    // A handler that takes neither context nor callback can only have answered by returning.
    if (result !== undefined || handler.length < 2) whenSettled(result, succeeded, failed)
    else if (!hasAnswered()) onIdle(() => succeeded(undefined))
  } catch (error) {
    failed(error)
  }
  return undefined
}

/** kind event, handler event: JSON in, JSON out. */
export function runEventOnEvent(handler: EventHandler, head: string): unknown {
  const text = hostBodyText()
  return runEventHandler(handler, head, text === '' ? {} : JSONParse(text), respondWithJson)
}

/** kind http, handler event. */
export function runHttpOnEvent(handler: EventHandler, head: string, bodyState: number): unknown {
  if (bodyState !== STREAMED) return runEventHandler(handler, head, httpEvent(head, bodyState), respondWithHttpResult)
  answered = false
  void readAll(new HostSource(OPERATIONS.BODY, 0)).then((body) => {
    const promise = runEventHandler(handler, head, httpEvent(head, bodyState, body), respondWithHttpResult)
    if (promise !== undefined) follow(promise)
  }, failed)
  return undefined
}
