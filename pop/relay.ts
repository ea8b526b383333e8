/**
 * One invocation that a region runs for this POP: the call goes out on a stream of the link, the answer comes back as it
 * is made. Flow control goes through in both directions, and so does the client's leaving.
 *
 * R1: the sink hears exactly one of `end` and `fail`, last.
 * R2: what the link says about an error decides what the client is told: ERR_REGION_UNREACHABLE only if the function
 *     has certainly not run, ERR_REGION_LOST if it may have. Whether it is tried at another region is the link's matter.
 */
import { CodedError, type CodedErrorData } from '../shared/errors.ts'
import type { Answer, AnswerSink, InvokeCall, Placement } from '../shared/http/types.ts'
import type { LinkStreamSink } from '../shared/link/types.ts'
import type { StartKind } from '../shared/outcome.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { InvocationResult } from '../shared/worker/types.ts'
import type { OpenOptions, RegionLink, RegionStream } from './region-link.ts'

/** What the relay tells of a run's life. */
export interface RelayObserver {
  /** The region knows the function: it has begun to answer. */
  onHead(): void
  /** Over, one way or another; once. Null: it came to no outcome. */
  onOver(result: InvocationResult | null): void
}

export class Relay implements LinkStreamSink, Answer {
  readonly #sink: AnswerSink
  readonly #observer: RelayObserver
  readonly #reason: string
  readonly #stream: RegionStream
  #placement: Placement
  #over = false

  /** `reason`: why it is forwarded. `nowMs`: of the clock that the call's deadline is on. */
  constructor(link: RegionLink, call: InvokeCall, sink: AnswerSink, reason: string, nowMs: number, observer: RelayObserver, options: OpenOptions) {
    this.#sink = sink
    this.#observer = observer
    this.#reason = reason
    this.#placement = { place: 'region', reason, version: null, startKind: null, stale: false }
    this.#stream = link.open({
      kind: 'invoke',
      requestId: call.requestId,
      account: call.account,
      functionName: call.functionName,
      qualifier: call.qualifier,
      invocationKind: call.invocationKind,
      method: call.method,
      url: call.url,
      headers: call.headers,
      body: call.body,
      bodyMore: call.bodyMore,
      clientIp: call.clientIp,
      remainingMs: Math.max(0, Math.round(call.deadlineAtMs - nowMs)),
      wantLogs: call.wantLogs,
      reason,
      hops: 1,
      session: null,
      ring: null,
      reservation: null,
      selection: call.selection ?? null,
      chain: call.chain ?? null,
    }, this, options)
  }

  // What the front door tells the run.

  write(chunk: Uint8Array): void {
    if (!this.#stream.write(chunk)) this.#sink.pauseBody?.()
  }

  writeEnd(): void {
    this.#stream.writeEnd()
  }

  resume(): void {
    this.#stream.resume()
  }

  cancel(): void {
    this.#stream.cancel()
  }

  // What the region tells the client.

  started(): void {
    this.#observer.onHead()
  }

  session(answer: SessionAnswer): void {
    this.#placement = { ...this.#placement, session: answer }
  }

  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void {
    this.#placement = { place: 'region', reason: this.#reason, version, startKind, stale: false, ...this.#attempts(), ...this.#told() }
    this.#sink.head(status, headers, this.#placement, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  drain(): void {
    this.#sink.resumeBody?.()
  }

  end(result: InvocationResult | null, version: string | null): void {
    if (result === null) return this.error({ code: 'ERR_LINK_PROTOCOL', params: ['an invocation ended without a result'] })
    if (!this.#settle(result)) return
    const { version: before, startKind } = this.#placement
    const placement = before === version && startKind === result.startKind ? this.#placement : { ...this.#placement, version, startKind: result.startKind }
    this.#sink.end(result, placement)
  }

  error(error: CodedErrorData): void {
    // It was sent away for want of room, and there is none elsewhere: that is not the same as a function that is not here.
    if (this.#reason === 'capacity' && error.code === 'ERR_REGION_UNREACHABLE') return this.error({ code: 'ERR_QUEUE_FULL', params: ['no region in reach'] })
    if (this.#settle(null)) this.#sink.fail(CodedError.fromData(error), { ...this.#placement, ...this.#attempts() })
  }

  #told(): { readonly session?: SessionAnswer } {
    const { session } = this.#placement
    return session ? { session } : {}
  }

  /** Absent for one, so that placements of most calls are alike. */
  #attempts(): { readonly attempts?: number } {
    const attempts = this.#stream.attempts ?? 1
    return attempts > 1 ? { attempts } : {}
  }

  /** R1. */
  #settle(result: InvocationResult | null): boolean {
    if (this.#over) return false
    this.#over = true
    this.#observer.onOver(result)
    return true
  }
}
