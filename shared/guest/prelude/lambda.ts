/** Handlers of the Lambda kind: `(event, context, callback)`. */
import { DateNow, JSONParse, JSONStringify, ReflectApply } from './primordials.ts'
import { configuration } from './configuration.ts'
import { hostBodyText, hostRemainingMs, hostRespond } from './host.ts'
import { failWith, hold, release, whenSettled } from './invocation.ts'
import { onIdle } from './operations.ts'
import { HEAD_REQUEST_ID, headLine } from './request.ts'
import { httpEvent, respondWithHttpResult } from './lambda-http.ts'

export type EventHandler = (event: unknown, context: object, callback: (error: unknown, result?: unknown) => void) => unknown

export const WIRE_JSON = 'content-type\napplication/json'

/** How the answer of this invocation is written, and whether it was. */
let answer: (result: unknown) => void = respondWithJson
let answered = false
let context: LambdaContext | null = null

class LambdaContext {
  readonly functionName = configuration.functionName
  readonly functionVersion = configuration.version
  readonly invokedFunctionArn = configuration.arn
  readonly memoryLimitInMB = `${configuration.memoryMib}`
  readonly awsRequestId: string
  readonly logGroupName = `/aws/lambda/${configuration.functionName}`
  callbackWaitsForEmptyEventLoop = true

  constructor(head: string) {
    this.awsRequestId = headLine(head, HEAD_REQUEST_ID)
  }

  get logStreamName(): string {
    return logStreamName()
  }

  getRemainingTimeInMillis(): number {
    return hostRemainingMs()
  }

  done(error?: unknown, result?: unknown): void {
    callBack(error, result)
  }

  succeed(result?: unknown): void {
    callBack(null, result)
  }

  fail(error?: unknown): void {
    callBack(error ?? 'handled', undefined)
  }
}

/** Lambda's form; there is no host to name, so the account and version stand for the instance. */
function logStreamName(): string {
  const day = new Date(DateNow()).toISOString().slice(0, 10).replaceAll('-', '/')
  return `${day}/[${configuration.version}]${configuration.accountId}`
}

function respondWithJson(result: unknown): void {
  hostRespond(200, WIRE_JSON, JSONStringify(result) ?? 'null', false)
}

function succeeded(result: unknown): void {
  if (answered) return
  answered = true
  try {
    answer(result)
  } catch (error) {
    failWith(error) // The result cannot be written, like a cycle in JSON.
  }
  release()
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

function returned(handler: EventHandler, result: unknown): void {
  if (typeof result === 'object' && result !== null && typeof (result as { readonly then?: unknown }).then === 'function') whenSettled(result, succeeded, failed)
  // A handler that takes neither context nor callback can only have answered by returning.
  else if (result !== undefined || handler.length < 2) succeeded(result)
}

export function runEventHandler(handler: EventHandler, head: string, event: unknown, respond: (result: unknown) => void): void {
  answered = false
  answer = respond
  context = new LambdaContext(head)
  try {
    returned(handler, ReflectApply(handler, undefined, [event, context, callBack]) as unknown)
  } catch (error) {
    failed(error)
  }
}

/** kind event, handler event: JSON in, JSON out. */
export function runEventOnEvent(handler: EventHandler, head: string): void {
  const text = hostBodyText()
  runEventHandler(handler, head, text === '' ? {} : JSONParse(text), respondWithJson)
}

/** kind http, handler event. */
export function runHttpOnEvent(handler: EventHandler, head: string, bodyState: number): void {
  whenSettled(httpEvent(head, bodyState), (event) => runEventHandler(handler, head, event, respondWithHttpResult), (error) => {
    answered = false
    failed(error)
  })
}
