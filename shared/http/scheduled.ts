/**
 * Scheduled events by hand, as `wrangler dev` has them: `/__scheduled?cron=...` and
 * `/cdn-cgi/handler/scheduled?cron=...&time=...` run the function's `scheduled` handler and tell how it went.
 *
 *   /__scheduled               200 `Ran scheduled event`, or 500 with the outcome
 *   /cdn-cgi/.../scheduled     200 `ok`, or 500 with the outcome; with `format=json` as `{ outcome, noRetry }`
 */
import { functionArn } from '../api/names.ts'
import { encodeHeaders } from '../api/header-list.ts'
import { CodedError } from '../errors.ts'
import { selectionLine } from '../guest/selection.ts'
import type { InvocationResult } from '../worker/types.ts'
import type { Door } from './exchange.ts'
import { faultOf } from './metrics.ts'
import type { WebTarget } from './routes.ts'
import type { AnswerSink, ControlReply } from './types.ts'

const SHORT_PATH = '/__scheduled'
const PATHS: ReadonlySet<string> = new Set([SHORT_PATH, '/cdn-cgi/handler/scheduled', '/cdn-cgi/mf/scheduled', '/cdn-cgi/local/scheduled'])
const SELECTION = selectionLine({ entrypoint: null, handler: 'scheduled', props: null })
/** What a Date can hold. */
const TIME_MAX_MS = 8.64e15

export interface ScheduledRequest {
  readonly requestId: string
  readonly target: WebTarget
  /** Behind the function's name. */
  readonly path: string
  readonly query: string | null
  readonly clientIp: string
}

export function isScheduledPath(path: string): boolean {
  return PATHS.has(path)
}

/** Resolves when the handler and its waitUntil work have ended. Rejects with what kept the function from running, and ERR_PARAMETER. */
export async function runScheduled(door: Door, request: ScheduledRequest): Promise<ControlReply> {
  // As forms are written, where a plus is a space.
  const query = new URLSearchParams(request.query ?? '')
  const scheduledTime = timeOf(query.get('time'), door.clock.nowMs())
  const cron = query.get('cron') ?? ''
  const { result, answer } = await invoke(door, request, Buffer.from(JSON.stringify({ cron, scheduledTime })))
  const status = result.outcome === 'ok' ? 200 : 500
  if (request.path !== SHORT_PATH && query.get('format') === 'json') {
    const { noRetry = false } = result.outcome === 'ok' ? (JSON.parse(answer) as { readonly noRetry?: boolean }) : {}
    return reply(status, 'application/json', JSON.stringify({ outcome: result.outcome, noRetry }))
  }
  return reply(status, 'text/plain;charset=UTF-8', result.outcome === 'ok' && request.path === SHORT_PATH ? 'Ran scheduled event' : result.outcome)
}

function reply(status: number, type: string, body: string): ControlReply {
  return { status, headers: encodeHeaders({ 'content-type': type }), body: Buffer.from(body) }
}

function timeOf(text: string | null, nowMs: number): number {
  if (text === null) return nowMs
  const timeMs = Number(text)
  if (text.trim() === '' || !Number.isInteger(timeMs) || Math.abs(timeMs) > TIME_MAX_MS) throw new CodedError('ERR_PARAMETER', ['time is milliseconds since 1970 as a whole number'])
  return timeMs
}

interface Ran {
  readonly result: InvocationResult
  readonly answer: string
}

function invoke(door: Door, { requestId, target, clientIp }: ScheduledRequest, body: Uint8Array): Promise<Ran> {
  const { account, awsRegion, requestTimeoutMs } = door.settings
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = []
    const sink: AnswerSink = {
      head(_status, _headers, _placement, piece) {
        if (piece !== null) pieces.push(Buffer.from(piece))
      },
      data(piece) {
        pieces.push(Buffer.from(piece))
        return true
      },
      bodyEnd: () => undefined,
      end(result, placement) {
        door.metrics.ended(result, placement)
        resolve({ result, answer: Buffer.concat(pieces).toString() })
      },
      fail(error, placement) {
        door.metrics.failed(faultOf(error.code), placement)
        reject(error)
      },
    }
    door.dispatcher.invoke({
      requestId, account, functionName: target.functionName, qualifier: target.qualifier, invocationKind: 'event', method: 'POST',
      url: functionArn(awsRegion, account, target.functionName, target.qualifier), headers: '', body, bodyMore: false, clientIp,
      deadlineAtMs: door.clock.nowMs() + requestTimeoutMs, wantLogs: false, selection: SELECTION,
    }, sink)
  })
}
