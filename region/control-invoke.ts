/**
 * Invoke as a control call: a POP without keys relays it as it was signed, so it is verified here and answered whole.
 * The answer is what shared/http/invoke-exchange.ts gives at a front door.
 */
import { parseFunctionReference, functionArn } from '../shared/api/names.ts'
import { encodeHeaders, headerValue } from '../shared/api/header-list.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError } from '../shared/errors.ts'
import { invokeComplete, payloadChunks } from '../shared/http/event-stream.ts'
import { completeOf, RESPONSE_TOO_LARGE, LAMBDA_RESPONSE_MAX_BYTES, lambdaFailure, logTail } from '../shared/http/lambda-answer.ts'
import type { ControlCall, ControlReply } from '../shared/http/types.ts'
import { REQUEST_BODY_MAX_BYTES } from '../shared/limits.ts'
import { SESSION_HEADER } from '../shared/sessions/session-request.ts'
import type { BuildSpec, InvocationResult } from '../shared/worker/types.ts'
import type { RegionRun, RunRequest, RunSink } from './run.ts'

export interface ControlInvokeDeps {
  start(build: BuildSpec, request: RunRequest, sink: RunSink): RegionRun
  readonly clock: Clock
  readonly regionName: string
  readonly requestTimeoutMs: number
  resolve(account: string, functionName: string, qualifier: string | null): BuildSpec
}

const INVOKE_PATH = /^\/(?:2015-03-31\/functions\/([^/]+)\/invocations|2021-11-15\/functions\/([^/]+)\/response-streaming-invocations)\/?$/

/** The function's path segment, still encoded, if this is an Invoke that is to run; else null. */
export function invokeTarget(call: ControlCall): string | null {
  if (call.method !== 'POST' || headerValue(call.headers, 'x-amz-invocation-type') === 'DryRun') return null
  const match = INVOKE_PATH.exec(call.rawPath.split('?', 1)[0] ?? '')
  return match?.[1] ?? match?.[2] ?? null
}

/** Throws coded errors for what kept the function from running. */
export async function controlInvoke(deps: ControlInvokeDeps, call: ControlCall, account: string, segment: string): Promise<ControlReply> {
  const type = headerValue(call.headers, 'x-amz-invocation-type') ?? 'RequestResponse'
  if (type !== 'RequestResponse') throw new CodedError('ERR_PARAMETER', [`Invocation type ${type.slice(0, 32)} is not supported yet; use RequestResponse or DryRun`])
  const reference = parseFunctionReference(decode(segment), new URLSearchParams(call.rawPath.split('?')[1] ?? '').get('Qualifier'))
  if ((reference.account ?? account) !== account || (reference.region ?? deps.regionName) !== deps.regionName) {
    throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`Function not found: ${decode(segment)}`])
  }
  const body = payload(call.body)
  const build = deps.resolve(account, reference.name, reference.qualifier)
  const wantLogs = headerValue(call.headers, 'x-amz-log-type') === 'Tail'
  const { result, answer } = await runWhole(deps, build, {
    requestId: call.requestId,
    kind: 'event',
    method: 'POST',
    url: functionArn(deps.regionName, account, reference.name, reference.qualifier),
    headers: contextHeaders(call.headers),
    body,
    bodyMore: false,
    clientIp: call.clientIp,
    deadlineAtMs: deps.clock.nowMs() + deps.requestTimeoutMs,
    wantLogs,
  })
  const headers: Readonly<Record<string, string>> = {
    'content-type': 'application/json',
    'x-amz-executed-version': build.version,
    'x-amzn-requestid': call.requestId,
    date: new Date(deps.clock.nowMs()).toUTCString(),
    ...(wantLogs ? { 'x-amz-log-result': logTail(result, call.requestId, build.version, build.limits.memoryMib, deps.clock.nowMs()) } : {}),
  }
  if (call.rawPath.startsWith('/2021-11-15/')) return { status: 200, headers: encodeHeaders(streamHeaders(headers)), body: streamBody(result, answer, call.requestId, headers['x-amz-log-result']) }
  if (answer.kind === 'complete') return { status: 200, headers: encodeHeaders(headers), body: answer.body }
  const failure = answer.kind === 'too-large' ? { kind: 'function', payload: RESPONSE_TOO_LARGE } as const : lambdaFailure(result, call.requestId)
  if (failure.kind === 'platform') throw failure.error
  return { status: 200, headers: encodeHeaders({ ...headers, 'x-amz-function-error': 'Unhandled' }), body: Buffer.from(failure.payload) }
}

/** A relayed call is answered whole, so a stream comes in one piece: what the function wrote, and how it ended. */
function streamBody(result: InvocationResult, answer: WholeAnswer, requestId: string, log: string | undefined): Uint8Array {
  const complete = answer.kind === 'complete' ? {} : answer.kind === 'too-large' ? { ErrorCode: 'Unhandled', ErrorDetails: RESPONSE_TOO_LARGE } : completeOf(result, requestId)
  if (complete instanceof CodedError) throw complete
  const body = answer.kind === 'complete' ? payloadChunks(answer.body) : new Uint8Array(0)
  return Buffer.concat([body, invokeComplete(log === undefined ? complete : { ...complete, LogResult: log })])
}

function streamHeaders({ 'x-amz-log-result': _log, ...headers }: Readonly<Record<string, string>>): Record<string, string> {
  return { ...headers, 'content-type': 'application/vnd.amazon.eventstream' }
}

type WholeAnswer = { readonly kind: 'complete'; readonly body: Uint8Array } | { readonly kind: 'too-large' } | { readonly kind: 'none' }

function runWhole(deps: ControlInvokeDeps, build: BuildSpec, request: RunRequest): Promise<{ result: InvocationResult; answer: WholeAnswer }> {
  return new Promise((resolve, reject) => {
    let chunks: Uint8Array[] = []
    let bytes = 0
    let complete = false
    const gather = (chunk: Uint8Array): void => {
      bytes += chunk.byteLength
      if (bytes <= LAMBDA_RESPONSE_MAX_BYTES) chunks.push(new Uint8Array(chunk))
      else chunks = []
    }
    const sink: RunSink = {
      started: () => undefined,
      head(_status, _headers, _startKind, body, last) {
        if (body !== null) gather(body)
        if (last) complete = true
      },
      data(chunk) {
        gather(chunk)
        return true
      },
      bodyEnd() {
        complete = true
      },
      end(result) {
        const answer: WholeAnswer = !complete ? { kind: 'none' } : bytes > LAMBDA_RESPONSE_MAX_BYTES ? { kind: 'too-large' } : { kind: 'complete', body: bytes === 0 ? Buffer.from('null') : Buffer.concat(chunks) }
        resolve({ result, answer })
      },
      fail: reject,
    }
    deps.start(build, request, sink)
  })
}

function payload(body: Uint8Array): Uint8Array {
  if (body.byteLength > REQUEST_BODY_MAX_BYTES) throw new CodedError('ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
  if (body.byteLength === 0) return Buffer.from('{}')
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    throw new CodedError('ERR_PAYLOAD_NOT_JSON', [error instanceof Error ? error.message : 'not JSON'])
  }
  return body
}

function contextHeaders(headers: string): string {
  const kept: Record<string, string> = {}
  for (const name of ['x-amz-client-context', 'x-amzn-trace-id', SESSION_HEADER]) {
    const value = headerValue(headers, name)
    if (value !== null) kept[name] = value
  }
  return encodeHeaders(kept)
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    // The only failure is a malformed escape.
    throw new CodedError('ERR_PARAMETER', ['The path holds a malformed escape'])
  }
}
