/** A request that is acted on once its whole body is there, or refused on the way. */
import { CodedError } from '../errors.ts'
import { clientOf } from './address.ts'
import { HttpExchange, type Door } from './exchange.ts'
import { WholeBody } from './whole-body.ts'
import type { HttpResponse } from './uws.ts'

export interface WholeBodyRequest {
  readonly requestId: string
  /** -1: not known. */
  readonly contentLength: number
  readonly chunked: boolean
  readonly bodyMaxBytes: number
  readonly clientIp: string
}

export abstract class WholeBodyExchange extends HttpExchange {
  readonly #request: WholeBodyRequest
  readonly #body: WholeBody

  constructor(door: Door, response: HttpResponse, route: number, request: WholeBodyRequest) {
    super(door, response, route, request.requestId, request.chunked)
    this.#request = request
    this.#body = new WholeBody(door.metrics.bodies, clientOf(request.clientIp), request.bodyMaxBytes, request.contentLength)
  }

  /** At most once, and not after `refuse`. */
  protected abstract onWholeBody(body: Uint8Array): void
  /** Answers with an error. Does nothing once something was answered. */
  protected abstract refuse(error: CodedError): void

  protected override onStart(): void {
    const { contentLength, chunked, bodyMaxBytes } = this.#request
    if (contentLength > bodyMaxBytes) this.refuse(new CodedError('ERR_BODY_TOO_LARGE', [bodyMaxBytes]))
    else if (contentLength > 0 || chunked) this.receive()
    else this.onWholeBody(new Uint8Array(0))
  }

  protected override onBody(chunk: ArrayBuffer, last: boolean): void {
    if (!this.isOpen || this.dispatched) return
    const verdict = this.#body.push(chunk, last)
    switch (verdict.kind) {
      case 'more':
        return
      case 'complete':
        return this.onWholeBody(verdict.body)
      case 'too-large':
        return this.refuse(new CodedError('ERR_BODY_TOO_LARGE', [this.#request.bodyMaxBytes]))
      case 'no-room':
        return this.refuse(new CodedError('ERR_QUEUE_FULL', ['request bodies']))
    }
  }

  protected override onGone(): void {
    this.#body.release()
  }

  protected override onWritable(): void {}
}
