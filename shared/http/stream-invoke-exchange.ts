/**
 * Lambda's InvokeWithResponseStream: what the function answers goes out as it comes, in messages of an event stream
 * (event-stream.ts). How it ended is the last message, since the status is out by then: a function's error is in
 * InvokeComplete also if it came before the first byte. Only what kept the function from running has a status.
 */
import { CodedError } from '../errors.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../limits.ts'
import type { InvocationResult } from '../worker/types.ts'
import { EventExchange } from './event-exchange.ts'
import { invokeComplete, payloadChunks, type InvokeComplete } from './event-stream.ts'
import { completeOf, logTail } from './lambda-answer.ts'
import type { Placement } from './types.ts'

export class StreamInvokeExchange extends EventExchange {
  #blocked = false
  #complete = false

  override head(_status: number, _headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void {
    if (this.ended || this.placement !== null) return
    this.placement = placement
    this.#begin(placement, body)
    if (last) this.#completed(placement)
  }

  override data(chunk: Uint8Array): boolean {
    if (this.ended || chunk.byteLength === 0) return true
    this.#blocked = !this.writeStream(payloadChunks(chunk))
    return !this.#blocked
  }

  override bodyEnd(): void {
    if (!this.ended && !this.#complete && this.placement !== null) this.#completed(this.placement)
  }

  /** The log is only known at the end, when waitUntil work is done too. */
  #completed(placement: Placement): void {
    this.#complete = true
    if (!this.request.wantLogs) this.#say(placement, {})
  }

  protected override onWritable(): void {
    if (!this.#blocked) return
    this.#blocked = false
    if (!this.ended) this.answer?.resume()
  }

  protected override finish(result: InvocationResult, placement: Placement): void {
    const complete = this.#complete ? {} : completeOf(result, this.requestId)
    if (complete instanceof CodedError) return this.failed(complete)
    const memoryMib = placement.memoryMib ?? DEFAULT_FUNCTION_LIMITS.memoryMib
    this.#say(placement, this.request.wantLogs ? { ...complete, LogResult: logTail(result, this.requestId, placement.version, memoryMib, this.door.clock.nowMs()) } : complete)
  }

  protected override failed(error: CodedError): void {
    if (!this.isStreaming || this.placement === null) this.refuse(error)
    else this.#say(this.placement, { ErrorCode: error.code, ErrorDetails: error.message })
  }

  #say(placement: Placement, complete: InvokeComplete): void {
    if (!this.isStreaming) this.#begin(placement, null)
    this.writeStream(invokeComplete(complete))
    this.endStream()
  }

  #begin(placement: Placement, body: Uint8Array | null): void {
    const first = body === null || body.byteLength === 0 ? null : payloadChunks(body)
    this.#blocked = !this.startStream(200, `\r\ncontent-type: application/vnd.amazon.eventstream${this.runLines(placement)}`, true, first)
  }
}
