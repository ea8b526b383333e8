/** A request that is answered by one reply to its whole body: management calls, admin paths, and refusals in Lambda's words. */
import { encodeError } from '../api/replies.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { HttpExchange, type Door, type GiveUpReason } from './exchange.ts'
import { routeIndex, type RouteKind } from './metrics.ts'
import { checkHead } from './response-head.ts'
import type { ControlReply, Placement } from './types.ts'
import type { HttpResponse } from './uws.ts'
import { WholeBody } from './whole-body.ts'

export interface ReplyExchangeOptions {
  readonly route: RouteKind
  readonly requestId: string
  readonly method: string
  readonly contentLength: number
  readonly chunked: boolean
  readonly bodyMaxBytes: number
  /** Where the reply is made, if the client shall know. */
  readonly placement: Placement | null
  /** Throws or rejects with a coded error, which is answered in Lambda's form. */
  readonly reply: (body: Uint8Array) => ControlReply | Promise<ControlReply>
}

export class ReplyExchange extends HttpExchange {
  readonly #options: ReplyExchangeOptions
  readonly #body: WholeBody

  constructor(door: Door, response: HttpResponse, options: ReplyExchangeOptions) {
    super(door, response, routeIndex(options.route), options.requestId, options.chunked)
    this.#options = options
    this.#body = new WholeBody(door.metrics, options.bodyMaxBytes, options.contentLength)
  }

  protected override onStart(): void {
    const options = this.#options
    if (options.contentLength > options.bodyMaxBytes) this.#fail(new CodedError('ERR_BODY_TOO_LARGE', [options.bodyMaxBytes]))
    else if (options.contentLength > 0 || options.chunked) this.receive()
    else this.#run(new Uint8Array(0))
  }

  protected override onBody(chunk: ArrayBuffer, last: boolean): void {
    if (!this.isOpen || this.dispatched) return
    const verdict = this.#body.push(chunk, last)
    switch (verdict.kind) {
      case 'more':
        return
      case 'complete':
        return this.#run(verdict.body)
      case 'too-large':
        return this.#fail(new CodedError('ERR_BODY_TOO_LARGE', [this.#options.bodyMaxBytes]))
      case 'no-room':
        return this.#fail(new CodedError('ERR_QUEUE_FULL', ['request bodies']))
    }
  }

  protected override onGone(): void {
    this.#body.release()
  }

  protected override onWritable(): void {}

  override giveUp(why: GiveUpReason): void {
    const error = this.giveUpError(why)
    this.#fail(error)
    this.abort()
    this.#over()
  }

  #run(body: Uint8Array): void {
    this.dispatched = true
    // Not awaited: whatever happens becomes an answer.
    void this.#answer(body).finally(() => this.#over())
  }

  async #answer(body: Uint8Array): Promise<void> {
    try {
      const reply = this.#options.reply(body)
      this.#send(reply instanceof Promise ? await reply : reply)
    } catch (error) {
      this.#fail(toCodedError(error))
    }
  }

  #fail(error: CodedError): void {
    this.#send(encodeError(error, this.requestId, this.door.clock))
  }

  #send(reply: ControlReply): void {
    const checked = checkHead(reply.headers)
    const own = this.door.placementLines.of(this.#options.placement) + this.requestId
    if (checked.kind === 'refused') return this.respond(502, own, true, '')
    const lines = checked.lines + own
    const bodyless = this.#options.method === 'HEAD' || reply.status === 204 || reply.status === 304
    if (!bodyless) return this.respond(reply.status, lines, checked.ascii, reply.body)
    const length = this.#options.method === 'HEAD' ? `\r\ncontent-length: ${reply.body.byteLength}` : ''
    this.respond(reply.status, lines + length, checked.ascii, null)
  }

  #over(): void {
    if (!this.dispatched) return
    this.dispatched = false
    this.dispatchOver()
  }
}
