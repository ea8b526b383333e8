/**
 * Lambda's synchronous Invoke. The answer is gathered unless it comes in one piece and nothing else of the outcome has to
 * be told.
 */
import { DEFAULT_FUNCTION_LIMITS } from '../limits.ts'
import type { InvocationResult } from '../worker/types.ts'
import { EventExchange } from './event-exchange.ts'
import { LAMBDA_RESPONSE_MAX_BYTES, RESPONSE_TOO_LARGE, lambdaFailure, logTail } from './lambda-answer.ts'
import type { Placement } from './types.ts'

const NOTHING = Buffer.from('null')

export class InvokeExchange extends EventExchange {
  /** Pieces of the handler's result. Null once it is known to be too large. */
  #pieces: Uint8Array[] | null = []
  #piecesBytes = 0
  #complete = false

  override head(_status: number, _headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void {
    if (this.ended || this.placement !== null) return
    this.placement = placement
    if (last && !this.request.wantLogs && (body?.byteLength ?? 0) <= LAMBDA_RESPONSE_MAX_BYTES) {
      // The usual case: out at once, without a copy.
      this.#succeed(body === null || body.byteLength === 0 ? NOTHING : body, placement, '')
    } else {
      if (body !== null) this.#gather(body)
      if (last) this.#complete = true
    }
  }

  override data(chunk: Uint8Array): boolean {
    if (!this.ended) this.#gather(chunk)
    return true
  }

  override bodyEnd(): void {
    if (this.ended || this.placement === null) return
    this.#complete = true
    if (!this.request.wantLogs) this.#succeedGathered(this.placement, '')
  }

  protected override finish(result: InvocationResult, placement: Placement): void {
    const memoryMib = placement.memoryMib ?? DEFAULT_FUNCTION_LIMITS.memoryMib
    const log = this.request.wantLogs
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
    return `\r\ncontent-type: application/json${this.runLines(placement)}`
  }

  protected override over(): void {
    super.over()
    this.#pieces = null
  }
}
