/**
 * One stream at the region's end: the answer that a handler fills, and the request body on its way to it.
 *
 * R1  Exactly one of an end and an error frame leaves, last; the number is forgotten with it.
 * R2  The invocation hears nothing after that, and `cancel` at most once.
 * R3  A handler that throws costs its own stream and nothing else.
 * R4  An end waits behind body bytes; an error overtakes them.
 */
import { toCodedError } from '../errors.ts'
import type { CodedErrorData } from '../errors.ts'
import { LINK_CANCEL_GRACE_MS, LINK_DATA_MAX_BYTES, LINK_DEADLINE_GRACE_MS } from '../limits.ts'
import type { StartKind } from '../outcome.ts'
import type { SessionAnswer } from '../sessions/types.ts'
import type { InvocationResult } from '../worker/types.ts'
import { InboundBody, OutboundBody } from './flow.ts'
import type { Carrier, InboundReader } from './flow.ts'
import { writeEnd, writeError, writeHead, writeSession, writeStarted } from './frames.ts'
import type { LinkAnswer, LinkInvocation } from './types.ts'

export interface ServerStreamOwner {
  retire(id: number): void
  /** The handler threw. */
  onHandlerFault(error: unknown): void
}

export class ServerStream implements LinkAnswer, InboundReader {
  readonly id: number
  readonly remainingMs: number
  /** Monotonic time from which nobody waits for the answer. */
  readonly deadlineAtMs: number
  /** Monotonic time at which the stream is ended if the handler has not. */
  #overdueAtMs: number
  readonly #carrier: Carrier
  readonly #owner: ServerStreamOwner
  readonly #outbound: OutboundBody
  readonly #inbound: InboundBody
  #invocation: LinkInvocation | null = null
  /** How far the answer is. `ending`: the end waits behind the body (R4). */
  #said: 'nothing' | 'started' | 'head' | 'body' | 'ending' | 'done' = 'nothing'
  #canceled = false

  /** `creditBytes`: what the POP takes of the answer at first. */
  constructor(id: number, remainingMs: number, creditBytes: number, carrier: Carrier, owner: ServerStreamOwner, nowMs: number) {
    this.id = id
    this.remainingMs = remainingMs
    this.deadlineAtMs = nowMs + remainingMs
    this.#overdueAtMs = this.deadlineAtMs + LINK_DEADLINE_GRACE_MS
    this.#carrier = carrier
    this.#owner = owner
    this.#outbound = new OutboundBody(id, carrier, () => this.#onDrain(), creditBytes)
    this.#inbound = new InboundBody(id, carrier, this)
  }

  /** Has the handler begin; `bodyBytes` travelled inside the open frame. */
  begin(bodyBytes: number, bodyMore: boolean, run: () => LinkInvocation): void {
    if (bodyBytes > 0) this.#inbound.spend(bodyBytes)
    try {
      const invocation = run()
      if (this.#said === 'done') return
      this.#invocation = invocation
      if (!bodyMore) this.#inbound.end()
    } catch (error) {
      this.#onThrow(error)
    }
  }

  /** Cancels the run when nobody waits any more, and ends the stream of one that does not stop. */
  sweep(nowMs: number): void {
    if (nowMs >= this.#overdueAtMs) this.#endOverdue()
    else if (nowMs >= this.deadlineAtMs) this.onCancel(nowMs)
  }

  // LinkAnswer

  started(): void {
    if (this.#said !== 'nothing' || this.#canceled) return
    this.#said = 'started'
    writeStarted(this.#carrier.outbox, this.id)
  }

  session(answer: SessionAnswer): void {
    if (this.#said === 'ending' || this.#said === 'done' || this.#canceled) return
    writeSession(this.#carrier.outbox, this.id, answer)
  }

  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): boolean {
    if ((this.#said !== 'nothing' && this.#said !== 'started') || this.#canceled) return true
    const { outbox } = this.#carrier
    const bytes = body?.length ?? 0
    if (bytes <= LINK_DATA_MAX_BYTES && writeHead(outbox, this.id, status, headers, startKind, version, bytes === 0 ? null : body, last)) {
      this.#said = last ? 'body' : 'head'
      this.#outbound.spend(bytes)
      if (last) this.#outbound.end('none', null)
      return true
    }
    if (body === null || !writeHead(outbox, this.id, status, headers, startKind, version, null, false)) {
      this.#failSoon({ code: 'ERR_FUNCTION_BAD_RESPONSE', params: ['its headers are too large'] })
      return true
    }
    this.#said = 'head'
    const ready = this.data(body)
    if (last) this.bodyEnd()
    return ready
  }

  data(chunk: Uint8Array): boolean {
    if (this.#said !== 'head' || this.#canceled) return true
    const verdict = this.#outbound.write(chunk)
    if (verdict === 'overload') this.#failSoon({ code: 'ERR_LINK_OVERLOAD', params: ['answers wait for a slow POP'] })
    return verdict === 'go'
  }

  bodyEnd(): void {
    if (this.#said !== 'head' || this.#canceled) return
    this.#said = 'body'
    this.#outbound.end('bodyEnd', null)
  }

  end(result: InvocationResult | null, version: string | null): void {
    if (this.#said === 'ending' || this.#said === 'done') return
    this.#said = 'ending'
    if (this.#canceled) this.#outbound.drop()
    this.#outbound.end('none', () => {
      writeEnd(this.#carrier.outbox, this.id, result, version)
      this.#retire()
    })
  }

  error(error: CodedErrorData): void {
    if (this.#said === 'done') return
    this.#outbound.drop()
    writeError(this.#carrier.outbox, this.id, error)
    this.#retire()
  }

  resumeBody(): void {
    if (this.#said !== 'done') this.#inbound.resume()
  }

  // Frames

  onDataFrame(bytes: Uint8Array): void {
    if (this.#inbound.accept(bytes) === 'overload') this.#stop({ code: 'ERR_LINK_OVERLOAD', params: ['request bodies wait for slow readers'] })
  }

  onBodyEndFrame(): void {
    this.#inbound.end()
  }

  onCredit(bytes: number): void {
    this.#outbound.credit(bytes)
  }

  /** The POP does not want the answer any more, or its deadline has passed. What the handler says of its end still goes. */
  onCancel(nowMs: number): void {
    if (this.#canceled || this.#said === 'done') return
    this.#canceled = true
    this.#overdueAtMs = Math.min(this.#overdueAtMs, nowMs + LINK_CANCEL_GRACE_MS)
    this.#inbound.drop()
    if (this.#said === 'ending') {
      // The end waits behind bytes that nobody wants.
      this.#stop({ code: 'ERR_CANCELED', params: [] })
      return
    }
    this.#outbound.drop()
    this.#cancelInvocation()
  }

  /** Ends the stream from this side and the run with it. */
  #stop(error: CodedErrorData): void {
    this.#canceled = true
    const invocation = this.#invocation
    const ran = this.#said
    this.error(error)
    if (ran !== 'ending') this.#cancelInvocation(invocation)
  }

  /** The handler has not come to an end in time. */
  #endOverdue(): void {
    const wasCanceled = this.#canceled
    const hasEnded = this.#said === 'ending'
    const invocation = this.#invocation
    this.#canceled = true
    this.error(this.#overdueAtMs < this.deadlineAtMs ? { code: 'ERR_CANCELED', params: [] } : { code: 'ERR_REGION_TIMEOUT', params: [this.remainingMs] })
    if (!wasCanceled && !hasEnded) this.#cancelInvocation(invocation)
  }

  /** The link is gone: nothing can be said any more. */
  onLinkLost(): void {
    if (this.#said === 'done') return
    const wasCanceled = this.#canceled
    const invocation = this.#invocation
    const hasEnded = this.#said === 'ending'
    this.#canceled = true
    this.#retire()
    if (!wasCanceled && !hasEnded) this.#cancelInvocation(invocation)
  }

  // InboundReader

  onData(chunk: Uint8Array): boolean {
    if (this.#invocation === null) return true
    try {
      return this.#invocation.write(chunk)
    } catch (error) {
      this.#onThrow(error)
      return true
    }
  }

  onBodyEnd(): void {
    this.#call((invocation) => invocation.writeEnd())
  }

  #onDrain(): void {
    if (!this.#canceled) this.#call((invocation) => invocation.resume())
  }

  #cancelInvocation(invocation = this.#invocation): void {
    try {
      invocation?.cancel()
    } catch (error) {
      this.#owner.onHandlerFault(error)
    }
  }

  #call(event: (invocation: LinkInvocation) => void): void {
    if (this.#invocation === null) return
    try {
      event(this.#invocation)
    } catch (error) {
      this.#onThrow(error)
    }
  }

  /** R3. The handler's own errors have codes and reach the POP as they are. */
  #onThrow(error: unknown): void {
    const coded = toCodedError(error)
    if (coded.code === 'ERR_INTERNAL') this.#owner.onHandlerFault(error)
    this.#stop(coded.code === 'ERR_INTERNAL' ? { code: 'ERR_INTERNAL', params: ['the region failed'] } : coded.toData())
  }

  /** Not from within the handler's own call. */
  #failSoon(error: CodedErrorData): void {
    this.#outbound.drop()
    queueMicrotask(() => {
      if (this.#said !== 'done') this.#stop(error)
    })
  }

  /** R1, R2. */
  #retire(): void {
    this.#said = 'done'
    this.#invocation = null
    this.#outbound.drop()
    this.#inbound.drop()
    this.#owner.retire(this.id)
  }
}
