/**
 * The origin: a server behind the function. If the handler has called `ctx.passThroughOnException()` and then fails to
 * answer, the request goes there as it came, and what the origin answers is the answer.
 *
 * Only a function that has an origin keeps its request for that; for others `load` arms nothing.
 */
import { send } from './fetch.ts'
import { hostLog } from './host.ts'
import { StringIndexOf, StringSlice } from './primordials.ts'
import { describeThrown, LEVEL_WARN, logUncaught } from './report.ts'
import { takeRequest, watchIncoming, type Request, type TakenRequest } from './request.ts'
import type { Response } from './response.ts'

/** Scheme, host and port; '' for none. */
let origin = ''
let isAsked = false
let incoming: Request | null = null

/** Once, when the function is loaded. */
export function standBefore(url: string): void {
  origin = url
  watchIncoming((request) => {
    incoming = request
    isAsked = false
  })
}

/** False: there is none to ask. */
export function askForOrigin(): boolean {
  isAsked = true
  return origin !== ''
}

/** What the origin answers in place of a handler that failed with `error`, which is logged. Null: the failure is the answer. */
export function answerOfOrigin(error: unknown): Promise<Response> | null {
  if (!isAsked || incoming === null || isOutOfMemory(error)) return null
  // Asked once: an answer of the origin that cannot be sent is not asked for again.
  isAsked = false
  let request: TakenRequest
  try {
    request = takeRequest(incoming)
  } catch {
    hostLog(LEVEL_WARN, 'ctx.passThroughOnException(): the request did not go to the origin, as its body was used')
    return null
  }
  logUncaught(error, 'Uncaught')
  return sendOn(request)
}

async function sendOn(request: TakenRequest): Promise<Response> {
  const { url } = request
  const path = StringIndexOf(url, '/', StringIndexOf(url, '://') + 3)
  try {
    return await send({ ...request, url: origin + (path < 0 ? '/' : StringSlice(url, path)), redirect: 'manual' })
  } catch (cause) {
    // Whoever called may be told its message, and need not know where the origin is.
    throw new TypeError('The handler failed, and so did the request to the origin', { cause })
  }
}

/** That ends a run as a limit does: the host stops it when it is told. */
function isOutOfMemory(error: unknown): boolean {
  const { name, message } = describeThrown(error)
  return name === 'InternalError' && message === 'out of memory'
}
