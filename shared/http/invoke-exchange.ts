/**
 * Lambda's synchronous Invoke. The body is gathered whole and handed over as one event; the answer is gathered too unless
 * it comes in one piece and nothing else of the outcome has to be told.
 */
import { functionArn, type FunctionReference } from '../api/names.ts'
import { encodeError } from '../api/replies.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { DEFAULT_FUNCTION_LIMITS, REQUEST_BODY_MAX_BYTES } from '../limits.ts'
import { SESSION_HEADER } from '../sessions/session-request.ts'
import type { InvocationResult } from '../worker/types.ts'
import type { Door, GiveUpReason } from './exchange.ts'
import { LAMBDA_RESPONSE_MAX_BYTES, RESPONSE_TOO_LARGE, lambdaFailure, logTail } from './lambda-answer.ts'
import { faultOf, routeIndex } from './metrics.ts'
import { checkHead } from './response-head.ts'
import type { Answer, AnswerSink, ControlCall, Placement } from './types.ts'
import type { HttpResponse } from './uws.ts'
import { WholeBodyExchange } from './whole-body-exchange.ts'

const ROUTE = routeIndex('invoke')
const EMPTY_EVENT = Buffer.from('{}')
/** Larger events are parsed by the prelude alone: parsing one here would hold up every other request for milliseconds. */
const JSON_CHECK_MAX_BYTES = 64 * 1024
const NOTHING = Buffer.from('null')

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

export class InvokeExchange extends WholeBodyExchange implements AnswerSink {
  readonly #request: InvokeRequest
  #answer: Answer | null = null
  #ended = false
  #cancelWanted = false
  /** Pieces of the handler's result. Null once it is known to be too large. */
  #pieces: Uint8Array[] | null = []
  #piecesBytes = 0
  #placement: Placement | null = null
  #complete = false

  constructor(door: Door, response: HttpResponse, request: InvokeRequest) {
    const { requestId, contentLength, chunked } = request
    super(door, response, ROUTE, { requestId, contentLength, chunked, bodyMaxBytes: REQUEST_BODY_MAX_BYTES })
    this.#request = request
  }

  protected override onWholeBody(body: Uint8Array): void {
    const { reference, signed, authorize } = this.#request
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
    const wrong = payloadError(event) ?? contextError(this.#request.clientContext)
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
        clientIp: this.#request.clientIp,
        deadlineAtMs: this.door.clock.nowMs() + this.door.settings.requestTimeoutMs,
        wantLogs: this.#request.wantLogs,
      }, this)
      this.#answer = answer
      if (this.#cancelWanted && !this.#ended) answer.cancel()
    } catch (error) {
      this.fail(toCodedError(error), null)
    }
  }

  /** What of the request a handler's context is made from. */
  #eventHeaders(): string {
    const { clientContext, traceId, session } = this.#request
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
    this.#over()
  }

  #cancel(): void {
    if (this.#cancelWanted || this.#ended || !this.dispatched) return
    this.#cancelWanted = true
    this.#answer?.cancel()
  }

  // The answer.

  head(_status: number, _headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void {
    if (this.#ended || this.#placement !== null) return
    this.#placement = placement
    if (last && !this.#request.wantLogs && (body?.byteLength ?? 0) <= LAMBDA_RESPONSE_MAX_BYTES) {
      // The usual case: out at once, without a copy.
      this.#succeed(body === null || body.byteLength === 0 ? NOTHING : body, placement, '')
    } else {
      if (body !== null) this.#gather(body)
      if (last) this.#complete = true
    }
  }

  data(chunk: Uint8Array): boolean {
    if (!this.#ended) this.#gather(chunk)
    return true
  }

  bodyEnd(): void {
    if (this.#ended || this.#placement === null) return
    this.#complete = true
    if (!this.#request.wantLogs) this.#succeedGathered(this.#placement, '')
  }

  end(result: InvocationResult, placement: Placement): void {
    if (this.#ended) return
    this.door.metrics.ended(result, placement)
    this.#ended = true
    if (this.isOpen) this.#finish(result, placement)
    this.#over()
  }

  fail(error: CodedError, placement: Placement | null): void {
    if (this.#ended) return
    this.door.metrics.failed(faultOf(error.code), placement)
    this.#ended = true
    this.#placement = placement
    this.refuse(error)
    this.#over()
  }

  #finish(result: InvocationResult, placement: Placement): void {
    this.#placement = placement
    const memoryMib = placement.memoryMib ?? DEFAULT_FUNCTION_LIMITS.memoryMib
    const log = this.#request.wantLogs
      ? `\r\nx-amz-log-result: ${logTail(result, this.requestId, placement.version, memoryMib, this.door.clock.nowMs())}`
      : ''
    if (this.#complete) return this.#succeedGathered(placement, log)
    const failure = lambdaFailure(result, this.requestId)
    if (failure.kind === 'platform') this.refuse(failure.error)
    else this.#functionError(failure.payload, placement, log)
  }

  #gather(chunk: Uint8Array): void {
    if (this.#pieces === null) return
    this.#piecesBytes += chunk.byteLength
    if (this.#piecesBytes > LAMBDA_RESPONSE_MAX_BYTES) this.#pieces = null
    else this.#pieces.push(new Uint8Array(chunk))
  }

  #succeedGathered(placement: Placement, log: string): void {
    if (this.#pieces === null) this.#functionError(RESPONSE_TOO_LARGE, placement, log)
    else this.#succeed(this.#piecesBytes === 0 ? NOTHING : Buffer.concat(this.#pieces), placement, log)
  }

  #succeed(body: Uint8Array, placement: Placement, log: string): void {
    this.respond(200, this.#lines(placement) + log, true, body)
  }

  #functionError(payload: string, placement: Placement, log: string): void {
    this.respond(200, `${this.#lines(placement)}\r\nx-amz-function-error: Unhandled${log}`, true, payload)
  }

  #lines(placement: Placement): string {
    const { traceId } = this.#request
    return '\r\ncontent-type: application/json'
      + (placement.version === null ? '' : `\r\nx-amz-executed-version: ${placement.version}`)
      + (traceId === '' ? '' : `\r\nx-amzn-trace-id: ${traceId}`)
      + `\r\nx-amzn-requestid: ${this.requestId}${this.door.placementLines.of(placement)}${this.requestId}`
  }

  protected override refuse(error: CodedError): void {
    const reply = encodeError(error, this.requestId, this.door.clock)
    const checked = checkHead(reply.headers)
    const lines = checked.kind === 'head' ? checked.lines : ''
    const retry = error.status === 503 ? '\r\nretry-after: 1' : ''
    this.respond(reply.status, `${lines}${retry}${this.door.placementLines.of(this.#placement)}${this.requestId}`, true, reply.body)
  }

  #over(): void {
    this.#ended = true
    this.#answer = null
    this.#pieces = null
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
