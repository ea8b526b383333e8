/**
 * `GET /2015-03-31/functions/NAME/logs?NextToken=`: not one of Lambda's calls, which has another service for it, but in
 * its place and signed like them. A region answers from its own ring; a POP asks the region, which alone can verify the
 * caller, and adds the lines of what it ran itself.
 */
import { z } from 'zod'
import { encodeError, encodeReply } from '../api/replies.ts'
import { parseFunctionReference } from '../api/names.ts'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { LOG_LEVELS } from '../guest/abi.ts'
import type { ControlCall, ControlReply } from '../http/types.ts'
import type { LogLine, LogRing } from './ring.ts'

const PATH = /^\/2015-03-31\/functions\/([^/?]+)\/logs(?:\?(.*))?$/

/** One line as the call answers it. */
export interface LogEvent {
  readonly Timestamp: number
  readonly Level: string
  readonly Message: string
  readonly RequestId: string
  readonly Version: string
  readonly Place: 'pop' | 'region'
}

const pageSchema = z.looseObject({ Account: z.string(), FunctionName: z.string(), Events: z.array(z.looseObject({ Timestamp: z.number() })), NextToken: z.string() })

export function isLogCall(call: ControlCall): boolean {
  return call.method === 'GET' && PATH.test(call.rawPath)
}

export interface RegionLogDeps {
  readonly ring: LogRing
  readonly clock: Clock
  /** Throws ERR_SIGNATURE_*. */
  readonly authenticate: (call: ControlCall) => string
  readonly exists: (account: string, functionName: string) => boolean
}

/** Never throws: every failure is an answer. */
export function answerLogCall(deps: RegionLogDeps, call: ControlCall): ControlReply {
  try {
    const account = deps.authenticate(call)
    const { name, token } = parseLogCall(call)
    if (!deps.exists(account, name)) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`Function not found: ${name}`])
    const page = deps.ring.page(account, name, token)
    return encodeReply({ status: 200, body: { Account: account, FunctionName: name, Events: page.lines.map((line) => toEvent(line, 'region')), NextToken: page.token } }, call.requestId, deps.clock)
  } catch (error) {
    return encodeError(toCodedError(error), call.requestId, deps.clock)
  }
}

/** `reply` is the region's answer to the same call. What is not a page of lines goes on as it is. */
export function addLocalLines(ring: LogRing, call: ControlCall, reply: ControlReply, clock: Clock): ControlReply {
  if (reply.status !== 200) return reply
  const parsed = pageSchema.safeParse(parseJson(reply.body))
  if (!parsed.success) return reply
  const { Account: account, FunctionName: name, Events: events, NextToken: regionToken } = parsed.data
  const local = ring.page(account, name, parseLogCall(call).token)
  const merged = [...events, ...local.lines.map((line) => toEvent(line, 'pop'))].sort((one, other) => one.Timestamp - other.Timestamp)
  return encodeReply({ status: 200, body: { ...parsed.data, Events: merged, NextToken: `${regionToken},${local.token}` } }, call.requestId, clock)
}

/** Throws ERR_PARAMETER. */
function parseLogCall(call: ControlCall): { readonly name: string; readonly token: string } {
  const [, segment = '', query = ''] = PATH.exec(call.rawPath) ?? []
  let text: string
  try {
    text = decodeURIComponent(segment)
  } catch {
    // The only failure is a malformed escape.
    throw new CodedError('ERR_PARAMETER', [`The path holds a malformed escape: ${segment.slice(0, 128)}`])
  }
  return { name: parseFunctionReference(text, null).name, token: (new URLSearchParams(query).get('NextToken') ?? '').slice(0, 512) }
}

function toEvent(line: LogLine, place: 'pop' | 'region'): LogEvent {
  return { Timestamp: line.atMs, Level: LOG_LEVELS[line.level] ?? 'info', Message: line.text, RequestId: line.requestId, Version: line.version, Place: place }
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString()) as unknown
  } catch {
    // Not JSON: the schema refuses undefined.
    return undefined
  }
}
