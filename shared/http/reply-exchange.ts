/** A request that is answered by one reply to its whole body: management calls, admin paths, and refusals in Lambda's words. */
import { encodeError } from '../api/replies.ts'
import { type CodedError, toCodedError } from '../errors.ts'
import type { Door, GiveUpReason } from './exchange.ts'
import { routeIndex, type RouteKind } from './metrics.ts'
import { checkHead } from './response-head.ts'
import type { ControlReply, Placement } from './types.ts'
import type { HttpResponse } from './uws.ts'
import { WholeBodyExchange, type WholeBodyRequest } from './whole-body-exchange.ts'

export interface ReplyExchangeOptions extends WholeBodyRequest {
  readonly route: RouteKind
  readonly method: string
  /** Where the reply is made, if the client shall know. */
  readonly placement: Placement | null
  /** Throws or rejects with a coded error, which is answered in Lambda's form. */
  readonly reply: (body: Uint8Array) => ControlReply | Promise<ControlReply>
}

export class ReplyExchange extends WholeBodyExchange {
  readonly #options: ReplyExchangeOptions

  constructor(door: Door, response: HttpResponse, options: ReplyExchangeOptions) {
    super(door, response, routeIndex(options.route), options)
    this.#options = options
  }

  override giveUp(why: GiveUpReason): void {
    const error = this.giveUpError(why)
    this.refuse(error)
    this.abort()
    this.#over()
  }

  protected override onWholeBody(body: Uint8Array): void {
    this.dispatched = true
    // Not awaited: whatever happens becomes an answer.
    void this.#answer(body).finally(() => this.#over())
  }

  async #answer(body: Uint8Array): Promise<void> {
    try {
      const reply = this.#options.reply(body)
      this.#send(reply instanceof Promise ? await reply : reply)
    } catch (error) {
      this.refuse(toCodedError(error))
    }
  }

  protected override refuse(error: CodedError): void {
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
