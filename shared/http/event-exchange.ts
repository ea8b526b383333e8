/**
 * A call of Lambda's API that runs a function: its body is gathered whole, authorized, and handed over as one event. How
 * it is answered is a subclass's: whole (invoke-exchange.ts) or as it comes (stream-invoke-exchange.ts).
 */
import { functionArn, type FunctionReference } from '../api/names.ts'
import { encodeError } from '../api/replies.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { REQUEST_BODY_MAX_BYTES } from '../limits.ts'
import { SESSION_HEADER } from '../sessions/session-request.ts'
import type { InvocationResult } from '../worker/types.ts'
import type { Door, GiveUpReason } from './exchange.ts'
import { faultOf, routeIndex } from './metrics.ts'
import { checkHead } from './response-head.ts'
import type { Answer, AnswerSink, ControlCall, Placement } from './types.ts'
import type { HttpResponse } from './uws.ts'
import { WholeBodyExchange } from './whole-body-exchange.ts'

const ROUTE = routeIndex('invoke')
const EMPTY_EVENT = Buffer.from('{}')
/** Larger events are parsed by the prelude alone: parsing one here would hold up every other request for milliseconds. */
const JSON_CHECK_MAX_BYTES = 64 * 1024

export interface InvokeRequest {
  readonly requestId: string
  readonly reference: FunctionReference
  readonly contentLength: number
  readonly chunked: boolean
  readonly wantLogs: boolean
  /** As received, or empty. */
  readonly clientContext: string
  readonly traceId: string
  /** The session's id as received, or empty. */
  readonly session: string
  readonly clientIp: string
  /** Everything as received, for `authorize`; null where nothing is verified. */
  readonly signed: Omit<ControlCall, 'body'> | null
  /** The account of the caller, or the error that refuses it. */
  readonly authorize: ((call: ControlCall) => string | CodedError) | null
}

export abstract class EventExchange extends WholeBodyExchange implements AnswerSink {
  protected readonly request: InvokeRequest
  protected placement: Placement | null = null
  protected answer: Answer | null = null
  protected ended = false
  #cancelWanted = false

  constructor(door: Door, response: HttpResponse, request: InvokeRequest) {
    const { requestId, contentLength, chunked, clientIp } = request
    super(door, response, ROUTE, { requestId, contentLength, chunked, bodyMaxBytes: REQUEST_BODY_MAX_BYTES, clientIp })
    this.request = request
  }

  protected override onWholeBody(body: Uint8Array): void {
    const { reference, signed, authorize } = this.request
    // Without keys, in development, an ARN's account is as good as any.
    let account = reference.account ?? this.door.settings.account
    if (authorize !== null && signed !== null) {
      const verdict = authorize({ ...signed, body })
      if (verdict instanceof CodedError) return this.refuse(verdict)
      if (reference.account !== null && reference.account !== verdict) {
        // The caller is who signed, whatever an ARN names; whether the other account has such a function is not told.
        const arn = functionArn(this.door.settings.awsRegion, reference.account, reference.name, reference.qualifier)
        return this.refuse(new CodedError('ERR_RESOURCE_NOT_FOUND', [`Function not found: ${arn}`]))
      }
      account = verdict
    }
    const event = body.byteLength === 0 ? EMPTY_EVENT : body
    const wrong = payloadError(event) ?? contextError(this.request.clientContext)
    if (wrong !== null) return this.refuse(wrong)
    this.dispatched = true
    try {
      const answer = this.door.dispatcher.invoke({
        requestId: this.requestId,
        account,
        functionName: reference.name,
        qualifier: reference.qualifier,
        invocationKind: 'event',
        method: 'POST',
        url: functionArn(this.door.settings.awsRegion, account, reference.name, reference.qualifier),
        headers: this.#eventHeaders(),
        body: event,
        bodyMore: false,
        clientIp: this.request.clientIp,
        deadlineAtMs: this.door.clock.nowMs() + this.door.settings.requestTimeoutMs,
        wantLogs: this.request.wantLogs,
      }, this)
      this.answer = answer
      if (this.#cancelWanted && !this.ended) answer.cancel()
    } catch (error) {
      this.fail(toCodedError(error), null)
    }
  }

  /** What of the request a handler's context is made from. */
  #eventHeaders(): string {
    const { clientContext, traceId, session } = this.request
    let headers = clientContext === '' ? '' : `x-amz-client-context\n${clientContext}`
    if (traceId !== '') headers += `${headers === '' ? '' : '\n'}x-amzn-trace-id\n${traceId}`
    if (session !== '') headers += `${headers === '' ? '' : '\n'}${SESSION_HEADER}\n${session}`
    return headers
  }

  protected override onGone(): void {
    super.onGone()
    this.#cancel()
  }

  override giveUp(why: GiveUpReason): void {
    const error = this.giveUpError(why)
    this.refuse(error)
    this.abort()
    this.#cancel()
    this.over()
  }

  #cancel(): void {
    if (this.#cancelWanted || this.ended || !this.dispatched) return
    this.#cancelWanted = true
    this.answer?.cancel()
  }

  // The answer.

  abstract head(status: number, headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void
  abstract data(chunk: Uint8Array): boolean
  abstract bodyEnd(): void
  /** The last word, while the client is there. */
  protected abstract finish(result: InvocationResult, placement: Placement): void

  end(result: InvocationResult, placement: Placement): void {
    if (this.ended) return
    this.door.metrics.ended(result, placement)
    this.ended = true
    this.placement = placement
    if (this.isOpen || this.isStreaming) this.finish(result, placement)
    this.over()
  }

  fail(error: CodedError, placement: Placement | null): void {
    if (this.ended) return
    this.door.metrics.failed(faultOf(error.code), placement)
    this.ended = true
    this.placement = placement
    this.failed(error)
    this.over()
  }

  /** Did not run to an outcome. */
  protected failed(error: CodedError): void {
    this.refuse(error)
  }

  /** Header lines that every answer of a run has, after its type. */
  protected runLines(placement: Placement): string {
    const { traceId } = this.request
    return (placement.version === null ? '' : `\r\nx-amz-executed-version: ${placement.version}`)
      + (traceId === '' ? '' : `\r\nx-amzn-trace-id: ${traceId}`)
      + `\r\nx-amzn-requestid: ${this.requestId}${this.door.placementLines.of(placement)}${this.requestId}`
  }

  protected override refuse(error: CodedError): void {
    const reply = encodeError(error, this.requestId, this.door.clock)
    const checked = checkHead(reply.headers)
    const lines = checked.kind === 'head' ? checked.lines : ''
    const retry = error.status === 503 ? '\r\nretry-after: 1' : ''
    this.respond(reply.status, `${lines}${retry}${this.door.placementLines.of(this.placement)}${this.requestId}`, true, reply.body)
  }

  protected over(): void {
    this.ended = true
    this.answer = null
    if (!this.dispatched) return
    this.dispatched = false
    this.dispatchOver()
  }
}

/** Validity does not depend on how the bytes of strings decode, so the cheapest decoding will do. */
function payloadError(body: Uint8Array): CodedError | null {
  if (body.byteLength > JSON_CHECK_MAX_BYTES) return null
  try {
    JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('latin1'))
    return null
  } catch (error) {
    return new CodedError('ERR_PAYLOAD_NOT_JSON', [error instanceof Error ? error.message : 'not JSON'])
  }
}

function contextError(clientContext: string): CodedError | null {
  if (clientContext === '') return null
  try {
    const value: unknown = JSON.parse(Buffer.from(clientContext, 'base64').toString())
    if (clientContext.length <= CLIENT_CONTEXT_MAX_CHARS && typeof value === 'object' && value !== null) return null
  } catch {
    // Not JSON: the error below says so.
  }
  return new CodedError('ERR_PAYLOAD_NOT_JSON', [`the client context must be base64 of a JSON object, at most ${CLIENT_CONTEXT_MAX_CHARS} characters`])
}

/** Lambda's bound. */
const CLIENT_CONTEXT_MAX_CHARS = 3583
