/**
 * Frames of the link: arrays whose first item is the type. `write...` puts one into an outbox, `dispatchFrame` checks
 * one that came in and calls the receiver's method for it.
 *
 *   hello    [1, protocol, peerId, token, publicKey, role]   POP or node to region, first
 *   welcome  [2, protocol, regionId]                         region to POP, the answer
 *   fault    [3, code, params]                               why this link is closed now, last
 *   open     [4, stream, remainingMs, bodyBytes|null, more, 0, ...invocation] or 1, ...control or 2, query, credit
 *   started  [5, stream]
 *   head     [6, stream, status, headers, startKind, version, bytes|null, last]
 *   data     [7, stream, bytes]                              either way
 *   bodyEnd  [8, stream]                                     either way
 *   end      [9, stream, version, result|null]
 *   error    [10, stream, code, params]
 *   cancel   [11, stream]
 *   credit   [12, stream, bytes]                             either way
 *   goaway   [13, drainMs]                                   region to POP: open nothing more here
 *   ping     [14, number]   pong [15, number]                either way
 *   session  [17, stream, id, state, reason|null, cookie|null]   region to POP, before what it belongs to: head, end or error
 *   version  [16, seq, account, functionName, builds]        region to POP
 *
 * `credit` of a query is what its answer may send before any of it was taken; all else starts with LINK_CREDIT_BYTES.
 * Stream numbers start at 1 and grow by one with each open. They are not reused: 2^53 last longer than any link.
 */
import type { BuildKey } from '../brand.ts'
import { isErrorCode } from '../errors.ts'
import type { CodedErrorData, ErrorParams } from '../errors.ts'
import { LINK_BULK_CREDIT_BYTES, LINK_COOKIE_MAX_CHARS, LINK_DATA_MAX_BYTES, LINK_EXCEPTION_MAX_CHARS, LINK_LOGS_MAX_BYTES, LINK_MEMBER_ID_MAX_CHARS, LINK_MESSAGE_MAX_BYTES, LINK_PREDECESSORS_MAX, LINK_RESERVATION_ID_MAX_CHARS, LINK_SESSION_ID_MAX_CHARS, SELECTION_MAX_CHARS } from '../limits.ts'
import { OUTCOMES, START_KINDS } from '../outcome.ts'
import type { StartKind } from '../outcome.ts'
import { SESSION_REASONS, SESSION_STATES, type SessionAnswer } from '../sessions/types.ts'
import type { InvocationResult, ServiceChain } from '../worker/types.ts'
import { MalformedError } from './codec.ts'
import type { Outbox } from './outbox.ts'
import { LINK_ROLES } from './types.ts'
import type { FunctionVersions, LinkRole, OpenFrame, OpenRing } from './types.ts'

/** Both ends must speak the same; a change to any frame changes it. */
export const LINK_PROTOCOL = 5

export const FRAME = {
  hello: 1, welcome: 2, fault: 3, open: 4, started: 5, head: 6, data: 7, bodyEnd: 8, end: 9, error: 10, cancel: 11,
  credit: 12, goaway: 13, ping: 14, pong: 15, version: 16, session: 17,
} as const

export const QUERIES = ['describe', 'snapshot', 'report', 'chain', 'blocks', 'peerBlocks', 'ask'] as const
export type QueryName = (typeof QUERIES)[number]

/** A small question to the region; `body` is its encoded parameters. */
export interface OpenQuery {
  readonly kind: 'query'
  readonly query: QueryName
  readonly body: Uint8Array | null
  readonly bodyMore: boolean
  readonly remainingMs: number
  /** Bytes of the answer that may be under way; at most LINK_BULK_CREDIT_BYTES. */
  readonly creditBytes: number
}

export type AnyOpen = OpenFrame | OpenQuery

/** What a connection does with each frame. Bytes are views of the message. */
export interface FrameReceiver {
  hello(popId: string, token: string, publicKey: string, role: LinkRole): void
  welcome(regionId: string): void
  fault(error: CodedErrorData): void
  open(id: number, frame: AnyOpen): void
  started(id: number): void
  session(id: number, answer: SessionAnswer): void
  head(id: number, status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void
  data(id: number, bytes: Uint8Array): void
  bodyEnd(id: number): void
  end(id: number, result: InvocationResult | null, version: string | null): void
  error(id: number, error: CodedErrorData): void
  cancel(id: number): void
  credit(id: number, bytes: number): void
  goaway(drainMs: number): void
  ping(nonce: number): void
  pong(nonce: number): void
  version(versions: FunctionVersions): void
}

export function writeHello(outbox: Outbox, popId: string, token: string, publicKey: string, role: LinkRole): void {
  outbox.push([FRAME.hello, LINK_PROTOCOL, popId, token, publicKey, LINK_ROLES.indexOf(role)])
}

export function writeWelcome(outbox: Outbox, regionId: string): void {
  outbox.push([FRAME.welcome, LINK_PROTOCOL, regionId])
}

export function writeFault(outbox: Outbox, error: CodedErrorData): void {
  outbox.push([FRAME.fault, error.code, boundedParams(error.params)])
}

export function writeSession(outbox: Outbox, id: number, answer: SessionAnswer): void {
  outbox.push([FRAME.session, id, answer.id, SESSION_STATES.indexOf(answer.state), answer.reason === null ? null : SESSION_REASONS.indexOf(answer.reason), answer.setCookie])
}

/** `body` is at most LINK_DATA_MAX_BYTES. False: the frame would be too large and was not written. */
export function writeOpen(outbox: Outbox, id: number, frame: AnyOpen, body: Uint8Array | null, bodyMore: boolean): boolean {
  switch (frame.kind) {
    case 'invoke':
      return outbox.push([
        FRAME.open, id, frame.remainingMs, body, bodyMore, 0, frame.requestId, frame.account, frame.functionName, frame.qualifier,
        frame.invocationKind === 'http' ? 0 : 1, frame.method, frame.url, frame.headers, frame.clientIp, frame.wantLogs, frame.reason, frame.hops,
        frame.session, frame.ring === null ? null : [frame.ring.version, frame.ring.seq, frame.ring.predecessors], frame.reservation,
        frame.selection ?? null, frame.chain ? [frame.chain.depth, frame.chain.calls.count, frame.chain.caller.functionName, frame.chain.caller.version] : null,
      ])
    case 'control':
      return outbox.push([
        FRAME.open, id, frame.remainingMs, body, bodyMore, 1, frame.requestId, frame.method, frame.rawPath, frame.headers, frame.clientIp,
      ])
    case 'query':
      return outbox.push([FRAME.open, id, frame.remainingMs, body, bodyMore, 2, QUERIES.indexOf(frame.query), frame.creditBytes])
  }
}

export function writeStarted(outbox: Outbox, id: number): void {
  outbox.push([FRAME.started, id])
}

/** `body` is at most LINK_DATA_MAX_BYTES. False: the frame would be too large and was not written. */
export function writeHead(outbox: Outbox, id: number, status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): boolean {
  return outbox.push([FRAME.head, id, status, headers, startKind === null ? null : START_KINDS.indexOf(startKind), version, body, last])
}

export function writeBodyEnd(outbox: Outbox, id: number): void {
  outbox.push([FRAME.bodyEnd, id])
}

export function writeEnd(outbox: Outbox, id: number, result: InvocationResult | null, version: string | null): void {
  outbox.push([FRAME.end, id, version, result === null ? null : encodeResult(result)])
}

export function writeError(outbox: Outbox, id: number, error: CodedErrorData): void {
  outbox.push([FRAME.error, id, error.code, boundedParams(error.params)])
}

export function writeCancel(outbox: Outbox, id: number): void {
  outbox.push([FRAME.cancel, id])
}

export function writeCredit(outbox: Outbox, id: number, bytes: number): void {
  outbox.push([FRAME.credit, id, bytes])
}

export function writeGoaway(outbox: Outbox, drainMs: number): void {
  outbox.push([FRAME.goaway, drainMs])
}

export function writePing(outbox: Outbox, nonce: number): void {
  outbox.push([FRAME.ping, nonce])
}

export function writePong(outbox: Outbox, nonce: number): void {
  outbox.push([FRAME.pong, nonce])
}

/** The one frame that may fill a message: VERSIONS_PER_FUNCTION_MAX builds of 250 bytes. False: more; nothing was written. */
export function writeVersion(outbox: Outbox, versions: FunctionVersions): boolean {
  return outbox.push([FRAME.version, versions.seq, versions.account, versions.functionName, versions.builds], LINK_MESSAGE_MAX_BYTES)
}

/** Checks a decoded frame and calls the receiver. Throws MalformedError for what is not a frame of ours. */
export function dispatchFrame(frame: readonly unknown[], receiver: FrameReceiver): void {
  switch (frame[0]) {
    case FRAME.data:
      items(frame, 3)
      return receiver.data(natural(frame, 1), payload(frame, 2))
    case FRAME.open:
      return receiver.open(natural(frame, 1), readOpen(frame))
    case FRAME.started:
      items(frame, 2)
      return receiver.started(natural(frame, 1))
    case FRAME.head:
      items(frame, 8)
      return receiver.head(
        natural(frame, 1), httpStatus(frame, 2), text(frame, 3), frame[4] === null ? null : oneOf(START_KINDS, frame, 4), textOrNull(frame, 5),
        frame[6] === null ? null : payload(frame, 6), flag(frame, 7),
      )
    case FRAME.session:
      items(frame, 6)
      return receiver.session(natural(frame, 1), {
        id: boundedText(frame, 2, LINK_SESSION_ID_MAX_CHARS), state: oneOf(SESSION_STATES, frame, 3), reason: frame[4] === null ? null : oneOf(SESSION_REASONS, frame, 4),
        setCookie: frame[5] === null ? null : boundedText(frame, 5, LINK_COOKIE_MAX_CHARS),
      })
    case FRAME.bodyEnd:
      items(frame, 2)
      return receiver.bodyEnd(natural(frame, 1))
    case FRAME.end:
      items(frame, 4)
      return receiver.end(natural(frame, 1), frame[3] === null ? null : readResult(list(frame, 3)), textOrNull(frame, 2))
    case FRAME.error:
      items(frame, 4)
      return receiver.error(natural(frame, 1), codedError(frame, 2))
    case FRAME.cancel:
      items(frame, 2)
      return receiver.cancel(natural(frame, 1))
    case FRAME.credit:
      items(frame, 3)
      return receiver.credit(natural(frame, 1), natural(frame, 2))
    case FRAME.ping:
      items(frame, 2)
      return receiver.ping(natural(frame, 1))
    case FRAME.pong:
      items(frame, 2)
      return receiver.pong(natural(frame, 1))
    case FRAME.version:
      items(frame, 5)
      return receiver.version({ seq: natural(frame, 1), account: text(frame, 2), functionName: text(frame, 3), builds: list(frame, 4).map((_, index, builds) => text(builds, index) as BuildKey) })
    case FRAME.goaway:
      items(frame, 2)
      return receiver.goaway(natural(frame, 1))
    case FRAME.hello:
      sameProtocol(frame)
      items(frame, 6)
      return receiver.hello(text(frame, 2), text(frame, 3), text(frame, 4), oneOf(LINK_ROLES, frame, 5))
    case FRAME.welcome:
      sameProtocol(frame)
      items(frame, 3)
      return receiver.welcome(text(frame, 2))
    case FRAME.fault:
      items(frame, 3)
      return receiver.fault(codedError(frame, 1))
    default:
      throw new MalformedError('unknown frame type')
  }
}

/** Frames of another protocol may look like anything: the number is all that is read of them. */
function sameProtocol(frame: readonly unknown[]): void {
  const protocol = natural(frame, 1)
  if (protocol !== LINK_PROTOCOL) throw new MalformedError(`protocol ${protocol}, this is ${LINK_PROTOCOL}`)
}

function readOpen(frame: readonly unknown[]): AnyOpen {
  const remainingMs = natural(frame, 2)
  const bodyMore = flag(frame, 4)
  const body = frame[3] === null ? null : payload(frame, 3)
  switch (frame[5]) {
    case 0: {
      items(frame, 23)
      const invocationKind = oneOf(['http', 'event'] as const, frame, 10)
      return {
        kind: 'invoke', requestId: text(frame, 6), account: text(frame, 7), functionName: text(frame, 8), qualifier: textOrNull(frame, 9), invocationKind,
        method: text(frame, 11), url: text(frame, 12), headers: text(frame, 13), body, bodyMore, clientIp: text(frame, 14), remainingMs,
        wantLogs: flag(frame, 15), reason: text(frame, 16), hops: natural(frame, 17),
        session: idOrNull(frame, 18, LINK_SESSION_ID_MAX_CHARS), ring: frame[19] === null ? null : readRing(list(frame, 19)), reservation: idOrNull(frame, 20, LINK_RESERVATION_ID_MAX_CHARS),
        selection: frame[21] === null ? null : oneLine(frame, 21, SELECTION_MAX_CHARS), chain: frame[22] === null ? null : readChain(list(frame, 22)),
      }
    }
    case 1:
      items(frame, 11)
      return {
        kind: 'control', requestId: text(frame, 6), method: text(frame, 7), rawPath: text(frame, 8), headers: text(frame, 9), body, bodyMore,
        clientIp: text(frame, 10), remainingMs,
      }
    case 2:
      items(frame, 8)
      return { kind: 'query', query: oneOf(QUERIES, frame, 6), body, bodyMore, remainingMs, creditBytes: bulkCredit(frame, 7) }
    default:
      throw new MalformedError('unknown kind of stream')
  }
}

/** Counted on from there: what other hosts' calls cause meanwhile is not known here. */
function readChain(tuple: readonly unknown[]): ServiceChain {
  items(tuple, 4)
  return { depth: natural(tuple, 0), calls: { count: natural(tuple, 1) }, caller: { functionName: text(tuple, 2), version: text(tuple, 3) } }
}

function readRing(tuple: readonly unknown[]): OpenRing {
  items(tuple, 3)
  const predecessors = list(tuple, 2)
  if (predecessors.length > LINK_PREDECESSORS_MAX) throw new MalformedError('too many predecessors')
  return { version: natural(tuple, 0), seq: natural(tuple, 1), predecessors: predecessors.map((_, index) => boundedText(predecessors, index, LINK_MEMBER_ID_MAX_CHARS)) }
}

function encodeResult(result: InvocationResult): unknown[] {
  const { outcome, error, exception, startKind, cpuUs, wallUs, dirtyPages, memoryBytes, logs } = result
  return [
    OUTCOMES.indexOf(outcome), START_KINDS.indexOf(startKind), whole(cpuUs), whole(wallUs), whole(dirtyPages), whole(memoryBytes),
    error === null ? null : [error.code, boundedParams(error.params)],
    exception === null ? null : [exception.name.slice(0, 256), exception.message.slice(0, LINK_EXCEPTION_MAX_CHARS), exception.stack.slice(0, LINK_EXCEPTION_MAX_CHARS)],
    newestLogs(logs),
  ]
}

function readResult(tuple: readonly unknown[]): InvocationResult {
  items(tuple, 9)
  const exception = tuple[7] === null ? null : list(tuple, 7)
  const logs = list(tuple, 8)
  return {
    outcome: oneOf(OUTCOMES, tuple, 0),
    startKind: oneOf(START_KINDS, tuple, 1),
    cpuUs: natural(tuple, 2),
    wallUs: natural(tuple, 3),
    dirtyPages: natural(tuple, 4),
    memoryBytes: natural(tuple, 5),
    error: tuple[6] === null ? null : codedError(list(tuple, 6), 0),
    exception: exception === null ? null : { name: text(exception, 0), message: text(exception, 1), stack: text(exception, 2) },
    logs: logs.map((_, index) => text(logs, index)),
  }
}

/** The newest lines that fit LINK_LOGS_MAX_BYTES; a line counts three bytes per UTF-16 unit, the most it can need. */
function newestLogs(logs: readonly string[]): readonly string[] {
  let bytes = 0
  let index = logs.length
  while (index > 0) {
    bytes += (logs[index - 1] ?? '').length * 3 + 3
    if (bytes > LINK_LOGS_MAX_BYTES) break
    index -= 1
  }
  return index === 0 ? logs : logs.slice(index)
}

function boundedParams(params: ErrorParams): ErrorParams {
  return params.slice(0, 8).map((param) => (typeof param === 'string' ? param.slice(0, 2_048) : param))
}

function whole(value: number): number {
  return Number.isFinite(value) && value > 0 ? Math.round(value) : 0
}

function items(frame: readonly unknown[], count: number): void {
  if (frame.length !== count) throw new MalformedError('wrong number of items')
}

function natural(frame: readonly unknown[], index: number): number {
  const value = frame[index]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new MalformedError(`item ${index} is not a number`)
  return value
}

function bulkCredit(frame: readonly unknown[], index: number): number {
  const value = natural(frame, index)
  if (value > LINK_BULK_CREDIT_BYTES) throw new MalformedError('credit beyond the largest window')
  return value
}

function text(frame: readonly unknown[], index: number): string {
  const value = frame[index]
  if (typeof value !== 'string') throw new MalformedError(`item ${index} is not text`)
  return value
}

function textOrNull(frame: readonly unknown[], index: number): string | null {
  return frame[index] === null ? null : text(frame, index)
}

function boundedText(frame: readonly unknown[], index: number, maxChars: number): string {
  const value = text(frame, index)
  if (value.length === 0 || value.length > maxChars) throw new MalformedError(`item ${index} is empty or too long`)
  return value
}

function oneLine(frame: readonly unknown[], index: number, maxChars: number): string {
  const value = boundedText(frame, index, maxChars)
  if (value.includes('\n')) throw new MalformedError(`item ${index} is more than a line`)
  return value
}

function idOrNull(frame: readonly unknown[], index: number, maxChars: number): string | null {
  return frame[index] === null ? null : boundedText(frame, index, maxChars)
}

function flag(frame: readonly unknown[], index: number): boolean {
  const value = frame[index]
  if (typeof value !== 'boolean') throw new MalformedError(`item ${index} is not a boolean`)
  return value
}

function payload(frame: readonly unknown[], index: number): Uint8Array {
  const value = frame[index]
  if (!(value instanceof Uint8Array)) throw new MalformedError(`item ${index} is not bytes`)
  if (value.length > LINK_DATA_MAX_BYTES) throw new MalformedError('payload too large')
  return value
}

function list(frame: readonly unknown[], index: number): readonly unknown[] {
  const value: unknown = frame[index]
  if (!Array.isArray(value)) throw new MalformedError(`item ${index} is not a list`)
  return value
}

function httpStatus(frame: readonly unknown[], index: number): number {
  const value = natural(frame, index)
  if (value < 100 || value > 999) throw new MalformedError('status out of range')
  return value
}

function oneOf<T extends string>(values: readonly T[], frame: readonly unknown[], index: number): T {
  const value = values[natural(frame, index)]
  if (value === undefined) throw new MalformedError(`item ${index} is out of range`)
  return value
}

/** A code that this version does not know becomes ERR_INTERNAL: a peer may be newer. */
function codedError(frame: readonly unknown[], index: number): CodedErrorData {
  const code = text(frame, index)
  const params = list(frame, index + 1)
  if (params.length > 8) throw new MalformedError('too many parameters')
  for (const param of params) {
    if (typeof param !== 'string' && typeof param !== 'number') throw new MalformedError('parameter is neither text nor number')
  }
  if (!isErrorCode(code)) return { code: 'ERR_INTERNAL', params: [`the peer reports ${code.slice(0, 80)}`] }
  return { code, params: params as ErrorParams }
}
