/**
 * One stream at the POP's end.
 *
 * P1  The sink hears exactly one of `end` and `error`, last, whatever happens (`#finish` is the only place).
 * P2  Nothing is called on the sink after that, nor from within a method of the stream before it returns, except by
 *     `resume`, which hands out what waits.
 * P3  A link that dies under the stream gives ERR_REGION_UNREACHABLE (did not run) only if the open frame was
 *     certainly never written, nothing came back included; else ERR_REGION_LOST (may have run).
 * P4  A sink that throws costs its own stream and nothing else.
 */
import { toCodedError } from '../errors.ts'
import type { CodedErrorData } from '../errors.ts'
import { LINK_CANCEL_GRACE_MS, LINK_CREDIT_BYTES, LINK_DATA_MAX_BYTES, LINK_DEADLINE_GRACE_MS } from '../limits.ts'
import type { StartKind } from '../outcome.ts'
import type { SessionAnswer } from '../sessions/types.ts'
import type { InvocationResult } from '../worker/types.ts'
import { MalformedError } from './codec.ts'
import { InboundBody, OutboundBody } from './flow.ts'
import type { Carrier, InboundReader } from './flow.ts'
import { writeCancel, writeOpen } from './frames.ts'
import type { AnyOpen } from './frames.ts'
import type { LinkStream, LinkStreamSink } from './types.ts'

export interface ClientStreamOwner {
  /** The stream is over: its number is forgotten. */
  retire(id: number): void
  /** Monotonic. */
  nowMs(): number
  /** The sink threw. */
  onSinkFault(error: unknown): void
}

export class ClientStream implements LinkStream, InboundReader {
  readonly id: number
  readonly #remainingMs: number
  /** Monotonic time at which the stream is given up if the region has not ended it: the region ends overdue streams itself, earlier. */
  #giveUpAtMs: number
  readonly #carrier: Carrier
  readonly #owner: ClientStreamOwner
  readonly #sink: LinkStreamSink
  readonly #what: string
  readonly #outbound: OutboundBody
  readonly #inbound: InboundBody
  /** `Outbox.sent` when the open frame was pushed. */
  readonly #openedAtSent: number
  /** What the region has said; only ever moves on. `ended`: its last frame came, though data may wait for the sink. */
  #heard: 'nothing' | 'started' | 'head' | 'ended' = 'nothing'
  #state: 'live' | 'canceled' | 'done' = 'live'

  constructor(id: number, frame: AnyOpen, sink: LinkStreamSink, carrier: Carrier, owner: ClientStreamOwner) {
    this.id = id
    this.#remainingMs = frame.remainingMs
    this.#giveUpAtMs = owner.nowMs() + frame.remainingMs + 2 * LINK_DEADLINE_GRACE_MS
    this.#carrier = carrier
    this.#owner = owner
    this.#sink = sink
    this.#what = frame.kind === 'invoke' ? frame.functionName : frame.kind === 'query' ? frame.query : 'the control plane'
    this.#outbound = new OutboundBody(id, carrier, () => this.#onDrain())
    this.#inbound = new InboundBody(id, carrier, this, frame.kind === 'query' ? frame.creditBytes : LINK_CREDIT_BYTES)
    this.#openedAtSent = carrier.outbox.sent
  }

  /** Writes the open frame and what there is of the body. False: its header fields do not fit a frame, and nothing was written. */
  begin(frame: AnyOpen): boolean {
    const { body, bodyMore } = frame
    const { outbox } = this.#carrier
    if (body === null || body.length === 0) {
      if (!writeOpen(outbox, this.id, frame, null, bodyMore)) return false
      if (!bodyMore) this.#outbound.end('none', null)
      return true
    }
    if (body.length <= LINK_DATA_MAX_BYTES && writeOpen(outbox, this.id, frame, body, bodyMore)) {
      this.#outbound.spend(body.length)
      if (!bodyMore) this.#outbound.end('none', null)
      return true
    }
    if (!writeOpen(outbox, this.id, frame, null, true)) return false
    this.write(body)
    if (!bodyMore) this.writeEnd()
    return true
  }

  /** Gives the stream up when it is time; an answer that is complete may wait for its slow sink. */
  sweep(nowMs: number): void {
    if (nowMs >= this.#giveUpAtMs && this.#heard !== 'ended') this.abandon({ code: 'ERR_REGION_TIMEOUT', params: [this.#remainingMs] })
  }

  write(chunk: Uint8Array): boolean {
    if (this.#state !== 'live') return true
    const verdict = this.#outbound.write(chunk)
    if (verdict === 'overload') this.#abandonSoon({ code: 'ERR_LINK_OVERLOAD', params: ['request bodies wait'] })
    return verdict === 'go'
  }

  writeEnd(): void {
    if (this.#state === 'live') this.#outbound.end('bodyEnd', null)
  }

  resume(): void {
    if (this.#state === 'live') this.#inbound.resume()
  }

  cancel(): void {
    if (this.#state !== 'live') return
    this.#state = 'canceled'
    this.#outbound.drop()
    this.#inbound.drop()
    if (this.#heard !== 'ended') {
      writeCancel(this.#carrier.outbox, this.id)
      this.#giveUpAtMs = Math.min(this.#giveUpAtMs, this.#owner.nowMs() + 2 * LINK_CANCEL_GRACE_MS)
    }
    // The region's end was waiting behind data that nobody will read.
    else queueMicrotask(() => this.#finish(() => this.#sink.error({ code: 'ERR_CANCELED', params: [] })))
  }

  // Frames. Each throws MalformedError if it cannot come now.

  onStarted(): void {
    if (this.#heard !== 'nothing') throw new MalformedError('started out of order')
    this.#heard = 'started'
    if (this.#state === 'live') this.#call(() => this.#sink.started())
  }

  onSession(answer: SessionAnswer): void {
    if (this.#heard === 'ended') throw new MalformedError('session out of order')
    if (this.#state === 'live') this.#call(() => this.#sink.session?.(answer))
  }

  onHead(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void {
    if (this.#heard !== 'nothing' && this.#heard !== 'started') throw new MalformedError('head out of order')
    this.#heard = 'head'
    if (body !== null) this.#inbound.spend(body.length)
    if (this.#state === 'live') this.#call(() => this.#sink.head(status, headers, startKind, version, body, last))
    if (last) this.#inbound.end()
  }

  onDataFrame(bytes: Uint8Array): void {
    if (this.#heard !== 'head') throw new MalformedError('data before the head')
    if (this.#inbound.accept(bytes) === 'overload') this.abandon({ code: 'ERR_LINK_OVERLOAD', params: ['answers wait for slow readers'] })
  }

  onBodyEndFrame(): void {
    if (this.#heard !== 'head') throw new MalformedError('bodyEnd before the head')
    this.#inbound.end()
  }

  onEnd(result: InvocationResult | null, version: string | null): void {
    if (this.#heard === 'ended') throw new MalformedError('second end')
    this.#heard = 'ended'
    this.#outbound.drop()
    const finish = (): void => this.#finish(() => this.#sink.end(result, version))
    if (this.#state === 'canceled') finish()
    else this.#inbound.whenDelivered(finish)
  }

  onError(error: CodedErrorData): void {
    this.#finish(() => this.#sink.error(error))
  }

  onCredit(bytes: number): void {
    this.#outbound.credit(bytes)
  }

  /** The link is gone (P3). What waited for a slow sink, an end included, is lost with it only if the end had not come. */
  onLinkLost(): void {
    if (this.#heard === 'ended') return
    const unwritten = this.#heard === 'nothing' && this.#carrier.outbox.sent === this.#openedAtSent
    this.#finish(() => this.#sink.error(unwritten ? { code: 'ERR_REGION_UNREACHABLE', params: [this.#what] } : { code: 'ERR_REGION_LOST', params: [] }))
  }

  /** Ends the stream from this side. */
  abandon(error: CodedErrorData): void {
    if (this.#state === 'done') return
    if (this.#state === 'live' && this.#heard !== 'ended') writeCancel(this.#carrier.outbox, this.id)
    const told: CodedErrorData = this.#state === 'canceled' ? { code: 'ERR_CANCELED', params: [] } : error
    this.#finish(() => this.#sink.error(told))
  }

  // What the inbound body hands out.

  onData(chunk: Uint8Array): boolean {
    if (this.#state !== 'live') return true
    try {
      return this.#sink.data(chunk)
    } catch (error) {
      this.#onSinkThrow(error)
      return true
    }
  }

  onBodyEnd(): void {
    if (this.#state === 'live') this.#call(() => this.#sink.bodyEnd())
  }

  #onDrain(): void {
    if (this.#state === 'live') this.#call(() => this.#sink.drain())
  }

  /** P2: not from within the caller's `write`. */
  #abandonSoon(error: CodedErrorData): void {
    this.#outbound.drop()
    queueMicrotask(() => this.abandon(error))
  }

  #finish(tell: () => void): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#outbound.drop()
    this.#inbound.drop()
    this.#owner.retire(this.id)
    try {
      tell()
    } catch (error) {
      this.#owner.onSinkFault(error)
    }
  }

  #call(event: () => void): void {
    try {
      event()
    } catch (error) {
      this.#onSinkThrow(error)
    }
  }

  /** P4. */
  #onSinkThrow(error: unknown): void {
    this.#owner.onSinkFault(error)
    const data = toCodedError(error).toData()
    queueMicrotask(() => this.abandon(data))
  }
}
