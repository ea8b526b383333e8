/** A request to a function's web endpoint: what comes in is given to the dispatcher, what comes back goes out as it comes. */
import { CodedError, toCodedError } from '../errors.ts'
import type { FairShare } from '../fair-share.ts'
import { STREAMED_BODY_HELD_MAX_BYTES, STREAMED_BODY_MAX_BYTES } from '../limits.ts'
import type { InvocationResult } from '../worker/types.ts'
import { clientOf } from './address.ts'
import { HttpExchange, type Door, type GiveUpReason } from './exchange.ts'
import { errorAnswer, type FailureDetail } from './error-answer.ts'
import { faultOf, routeIndex } from './metrics.ts'
import type { RequestHead } from './request-head.ts'
import type { Answer, AnswerSink, InvokeCall, Placement } from './types.ts'
import type { WebTarget } from './routes.ts'
import type { HttpResponse } from './uws.ts'

/** Bodies up to this are dispatched whole; longer ones as they come. */
const WHOLE_BODY_MAX_BYTES = 64 * 1024
const ROUTE = routeIndex('web')
/** What a function throws may name what clients must not know: addresses, keys, other users. */
const UNTOLD = new CodedError('ERR_FUNCTION_EXCEPTION', ['the log of this request says what'])

type Draft = { -readonly [Field in keyof InvokeCall]: InvokeCall[Field] }

export class WebExchange extends HttpExchange implements AnswerSink {
  readonly #call: Draft
  /** -1: not known. */
  readonly #expectedBytes: number
  readonly #chunked: boolean
  #receivedBytes = 0
  /** Who pays for what is held. */
  #client: string | null = null
  /** Of those, counted as held: bodies that did not come in one piece, until the exchange is over. */
  #heldBytes = 0
  /** A body that is not complete and not dispatched. */
  #gathered: Buffer | null = null
  #bodyOver = false
  #bodyPaused = false
  /** The dispatcher was told that all of the body is there. */
  #endWritten = false
  /** What came of the body though it was paused. */
  #late: Uint8Array[] = []
  #lateBytes = 0
  #answer: Answer | null = null
  /** The dispatcher has said its last word. */
  #ended = false
  #cancelWanted = false
  #headCame = false
  /** Answered with an error of the front door's own. */
  #refused = false
  /** The socket takes no more for now, and the dispatcher was told so. */
  #blocked = false

  constructor(door: Door, response: HttpResponse, head: RequestHead, target: WebTarget, url: string, requestId: string, clientIp: string) {
    // uWS skips two bytes after a chunk without looking at them: what follows a chunked body cannot be trusted.
    super(door, response, ROUTE, requestId, head.chunked)
    this.#expectedBytes = head.contentLength
    this.#chunked = head.chunked
    this.#call = {
      requestId,
      account: door.settings.account,
      functionName: target.functionName,
      qualifier: target.qualifier,
      invocationKind: 'http',
      method: head.method,
      url,
      headers: head.headers,
      body: null,
      bodyMore: false,
      clientIp,
      deadlineAtMs: door.clock.nowMs() + door.settings.requestTimeoutMs,
      wantLogs: false,
    }
  }

  protected override onStart(): void {
    if (this.#expectedBytes > STREAMED_BODY_MAX_BYTES) this.#refuse(new CodedError('ERR_BODY_TOO_LARGE', [STREAMED_BODY_MAX_BYTES]))
    else if (this.#expectedBytes > 0 || this.#chunked) this.receive()
    else this.#dispatch()
  }

  // The request body.

  protected override onBody(chunk: ArrayBuffer, last: boolean): void {
    this.#bodyOver = last
    if (this.#ended || this.#cancelWanted || this.#refused) return
    this.#receivedBytes += chunk.byteLength
    if (this.#receivedBytes > STREAMED_BODY_MAX_BYTES) this.#stopBody(new CodedError('ERR_BODY_TOO_LARGE', [STREAMED_BODY_MAX_BYTES]))
    else if (last && this.#gathered === null && !this.dispatched) this.#dispatchWith(copyOf(chunk), false)
    else if (this.#bodyPaused && this.dispatched) this.#keep(chunk)
    else if (!this.#hold(chunk.byteLength)) this.#stopBody(new CodedError('ERR_QUEUE_FULL', ['request bodies']))
    else if (this.dispatched) this.#forward(chunk, last)
    else if (this.#expectedBytes > WHOLE_BODY_MAX_BYTES) this.#dispatchWith(copyOf(chunk), true)
    else this.#gather(chunk, last)
  }

  #forward(chunk: ArrayBuffer, last: boolean): void {
    if (chunk.byteLength > 0) this.#write(copyOf(chunk))
    if (last) this.#writeEnd()
  }

  /** Apart, because whoever takes a chunk changes it behind the compiler's back. */
  #isBodyPaused(): boolean {
    return this.#bodyPaused
  }

  #writeEnd(): void {
    if (!this.#call.bodyMore || this.#endWritten) return
    this.#endWritten = true
    this.#answer?.writeEnd()
  }

  #write(chunk: Uint8Array): void {
    try {
      this.#answer?.write(chunk)
    } catch (error) {
      this.#stopBody(toCodedError(error))
    }
  }

  /**
   * uWS goes on reading a paused socket for as long as a sender keeps the kernel's buffer full, which one on the same machine may do to
   * its end: what comes meanwhile waits here and counts as held.
   */
  #keep(chunk: ArrayBuffer): void {
    const { byteLength } = chunk
    if (byteLength === 0) return
    if (!this.#bodies.take(this.#payer(), byteLength)) return this.#stopBody(new CodedError('ERR_QUEUE_FULL', ['request bodies']))
    this.#lateBytes += byteLength
    this.#late.push(copyOf(chunk))
    this.pauseAgain()
  }

  #gather(chunk: ArrayBuffer, last: boolean): void {
    if (this.#gathered === null) {
      // uWS gives a chunked body's end apart even if it is there already; by the next turn of the loop it has.
      if (this.#expectedBytes < 0) setImmediate(() => this.#dispatchGathered())
      this.#gathered = Buffer.allocUnsafe(this.#expectedBytes < 0 ? Math.max(chunk.byteLength, 1024) : this.#expectedBytes)
    }
    const beforeBytes = this.#receivedBytes - chunk.byteLength
    if (this.#receivedBytes > this.#gathered.byteLength) {
      const larger = Buffer.allocUnsafe(this.#receivedBytes * 2)
      larger.set(this.#gathered.subarray(0, beforeBytes))
      this.#gathered = larger
    }
    this.#gathered.set(new Uint8Array(chunk), beforeBytes)
    if (last || this.#receivedBytes > WHOLE_BODY_MAX_BYTES) this.#dispatchGathered()
  }

  #dispatchGathered(): void {
    if (this.dispatched || this.#ended || !this.isOpen || this.#gathered === null) return
    const body = this.#gathered.subarray(0, this.#receivedBytes)
    this.#gathered = null
    this.#dispatchWith(body, !this.#bodyOver)
  }

  /** What a guest has taken of a body is not known here, so as much as may wait on its way counts as held as long as its exchange lives. */
  #hold(chunkBytes: number): boolean {
    const bytes = Math.min(chunkBytes, STREAMED_BODY_HELD_MAX_BYTES - this.#heldBytes)
    if (!this.#bodies.take(this.#payer(), bytes)) return false
    this.#heldBytes += bytes
    return true
  }

  get #bodies(): FairShare {
    return this.door.metrics.bodies
  }

  /** Most requests never ask. */
  #payer(): string {
    return (this.#client ??= clientOf(this.#call.clientIp))
  }

  /** The answer comes first: a run may end within the call that cancels it. */
  #stopBody(error: CodedError): void {
    if (this.isOpen) this.#refuse(error)
    else this.abort()
    this.#cancel()
  }

  protected override onReleased(): void {
    if (this.#heldBytes + this.#lateBytes > 0) this.#bodies.add(this.#payer(), -this.#heldBytes - this.#lateBytes)
    this.#late = []
    this.#gathered = null
  }

  // The run.

  #dispatchWith(body: Uint8Array, more: boolean): void {
    this.#call.body = body.byteLength === 0 ? null : body
    this.#call.bodyMore = more
    this.#dispatch()
  }

  #dispatch(): void {
    this.dispatched = true
    try {
      const answer = this.door.dispatcher.invoke(this.#call, this)
      this.#answer = answer
      if (this.#cancelWanted && !this.#ended) answer.cancel()
    } catch (error) {
      this.fail(toCodedError(error), null)
    }
  }

  #cancel(): void {
    if (this.#cancelWanted || this.#ended || !this.dispatched) return
    this.#cancelWanted = true
    this.#answer?.cancel()
  }

  protected override onGone(): void {
    this.#cancel()
  }

  protected override onWritable(): void {
    if (!this.#blocked) return
    this.#blocked = false
    if (!this.#ended) this.#answer?.resume()
  }

  override giveUp(why: GiveUpReason): void {
    const error = this.giveUpError(why)
    this.#stopBody(error)
    if (!this.#ended) this.#over()
  }

  // The answer.

  pauseBody(): void {
    this.#bodyPaused = true
    if (!this.#bodyOver) this.pauseReceiving()
  }

  resumeBody(): void {
    this.#bodyPaused = false
    // Whoever takes it may ask for the next pause meanwhile.
    for (let chunk = this.#late.shift(); chunk !== undefined; chunk = this.#isBodyPaused() ? undefined : this.#late.shift()) {
      this.#lateBytes -= chunk.byteLength
      this.#bodies.add(this.#payer(), -chunk.byteLength)
      this.#write(chunk)
    }
    if (this.#isBodyPaused()) return
    if (this.#bodyOver) this.#writeEnd()
    else this.resumeReceiving()
  }

  head(status: number, headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void {
    if (this.#headCame || this.#ended || !this.isOpen) return
    this.#headCame = true
    const checked = this.door.responseHeads.check(headers)
    if (checked.kind === 'refused') return this.#badResponse(checked.why, placement)
    if (!Number.isInteger(status) || status < 200 || status > 599) return this.#badResponse(`status ${status}`, placement)
    const lines = checked.lines + this.#ownLines(placement)
    if (this.#call.method === 'HEAD' || status === 204 || status === 304) {
      this.respond(status, lines + lengthLine(status, checked.contentLength, body, last), checked.ascii, null)
      if (!last) this.#cancel()
    } else if (last) {
      this.respond(status, lines, checked.ascii, body ?? '')
    } else {
      this.#blocked = !this.startStream(status, lines, checked.ascii, body)
    }
  }

  data(chunk: Uint8Array): boolean {
    if (this.#ended) return true
    this.#blocked = !this.writeStream(chunk)
    return !this.#blocked
  }

  bodyEnd(): void {
    if (!this.#ended) this.endStream()
  }

  end(result: InvocationResult, placement: Placement): void {
    if (this.#ended) return
    this.door.metrics.ended(result, placement)
    this.#ended = true
    if (this.isStreaming) this.abort()
    else if (this.isOpen) this.#answerFrom(result, placement)
    this.#over()
  }

  fail(error: CodedError, placement: Placement | null): void {
    if (this.#ended) return
    this.door.metrics.failed(faultOf(error.code), placement)
    this.#ended = true
    if (this.isStreaming) this.abort()
    else this.#answerError(error, null, placement)
    this.#over()
  }

  #answerFrom(result: InvocationResult, placement: Placement): void {
    const error = result.error === null ? new CodedError('ERR_INTERNAL', ['the invocation ended without an answer']) : CodedError.fromData(result.error)
    const { exception } = result
    if (this.door.settings.mode !== 'dev') this.#answerError(error.code === 'ERR_FUNCTION_EXCEPTION' ? UNTOLD : error, null, placement)
    else this.#answerError(error, exception === null ? null : { exception, functionName: this.#call.functionName, version: placement.version }, placement)
  }

  #badResponse(why: string, placement: Placement): void {
    this.#answerError(new CodedError('ERR_FUNCTION_BAD_RESPONSE', [why]), null, placement)
    this.#cancel()
  }

  #refuse(error: CodedError): void {
    this.#refused = true
    this.#answerError(error, null, null)
  }

  #answerError(error: CodedError, detail: FailureDetail | null, placement: Placement | null): void {
    const { status, lines, body } = errorAnswer(error, this.requestId, detail)
    const own = this.#ownLines(placement)
    if (this.#call.method === 'HEAD') this.respond(status, `${lines}${own}\r\ncontent-length: ${Buffer.byteLength(body)}`, true, null)
    else this.respond(status, lines + own, true, body)
  }

  #ownLines(placement: Placement | null): string {
    const lines = this.door.placementLines.of(placement) + this.requestId
    return this.door.settings.serverTiming ? `${lines}\r\nserver-timing: outpost;dur=${this.ageMs().toFixed(2)}` : lines
  }

  #over(): void {
    this.#ended = true
    this.#answer = null
    this.#gathered = null
    if (!this.dispatched) return
    this.dispatched = false
    this.dispatchOver()
  }
}

/** uWS takes a chunk back when the callback returns. */
function copyOf(chunk: ArrayBuffer): Uint8Array {
  const copy = Buffer.allocUnsafe(chunk.byteLength)
  copy.set(new Uint8Array(chunk))
  return copy
}

/** Content-Length of an answer without a body: what a GET would have had, none for 204. */
function lengthLine(status: number, given: number | null, body: Uint8Array | null, last: boolean): string {
  if (status === 204) return ''
  if (status === 304 || given !== null) return given === null ? '' : `\r\ncontent-length: ${given}`
  return last ? `\r\ncontent-length: ${body?.byteLength ?? 0}` : ''
}
