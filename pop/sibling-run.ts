/**
 * One invocation that another host of this site runs: it has a sandbox for it and has kept it for this call, or the
 * call's session belongs to it.
 *
 * B1: where the other host certainly did not run it, `onRefused` finds another place, with all of the body.
 * B2: the sink hears exactly one of `end` and `fail`, last, unless `onRefused` took the call over.
 */
import { CodedError, ERRORS, type CodedErrorData } from '../shared/errors.ts'
import type { Answer, AnswerSink, InvokeCall, Placement } from '../shared/http/types.ts'
import type { LinkStream, LinkStreamSink, OpenRing } from '../shared/link/types.ts'
import type { StartKind } from '../shared/outcome.ts'
import type { Peers } from '../shared/peers/types.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { InvocationResult } from '../shared/worker/types.ts'

export interface SiblingRunOptions {
  readonly peers: Peers
  readonly memberId: string
  /** What the other host gave out for it; null for a session that it owns. */
  readonly reservation: string | null
  readonly session?: { readonly id: string; readonly ring: OpenRing }
  readonly reason: string
  readonly nowMs: number
  /** Null: its refusal is what the sink hears. */
  readonly onRefused: ((call: InvokeCall, error: CodedErrorData) => Answer) | null
  readonly onOver: (result: InvocationResult | null) => void
}

export class SiblingRun implements LinkStreamSink, Answer {
  readonly #options: SiblingRunOptions
  readonly #call: InvokeCall
  readonly #sink: AnswerSink
  readonly #stream: LinkStream
  #placement: Placement
  /** Kept until the other host has begun (B1). */
  #kept: { readonly chunks: Uint8Array[]; ended: boolean } | null = { chunks: [], ended: false }
  #elsewhere: Answer | null = null
  #over = false

  /** `call`: its body is ours. */
  constructor(call: InvokeCall, sink: AnswerSink, options: SiblingRunOptions) {
    this.#options = options
    this.#call = call
    this.#sink = sink
    this.#placement = { place: 'pop', reason: options.reason, version: null, startKind: null, stale: false, node: options.memberId }
    const { requestId, account, functionName, qualifier, invocationKind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection = null, chain = null } = call
    this.#stream = options.peers.open(options.memberId, {
      kind: 'invoke', requestId, account, functionName, qualifier, invocationKind, method, url, headers, body, bodyMore, clientIp,
      remainingMs: Math.max(0, Math.round(deadlineAtMs - options.nowMs)), wantLogs, reason: options.reason, hops: 1, session: options.session?.id ?? null, ring: options.session?.ring ?? null, reservation: options.reservation, selection, chain,
    }, this)
  }

  write(chunk: Uint8Array): void {
    if (this.#elsewhere !== null) return this.#elsewhere.write(chunk)
    this.#kept?.chunks.push(chunk)
    if (!this.#stream.write(chunk)) this.#sink.pauseBody?.()
  }

  writeEnd(): void {
    if (this.#elsewhere !== null) return this.#elsewhere.writeEnd()
    if (this.#kept !== null) this.#kept.ended = true
    this.#stream.writeEnd()
  }

  resume(): void {
    if (this.#elsewhere !== null) this.#elsewhere.resume()
    else this.#stream.resume()
  }

  cancel(): void {
    this.#kept = null
    if (this.#elsewhere !== null) this.#elsewhere.cancel()
    else this.#stream.cancel()
  }

  started(): void {
    this.#kept = null
  }

  session(answer: SessionAnswer): void {
    this.#placement = { ...this.#placement, session: answer }
  }

  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void {
    this.#kept = null
    this.#placement = { ...this.#placement, version, startKind }
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
    if (this.#over) return
    this.#over = true
    this.#options.onOver(result)
    this.#sink.end(result, { ...this.#placement, version, startKind: result.startKind })
  }

  error(error: CodedErrorData): void {
    if (this.#over) return
    this.#over = true
    const kept = this.#kept
    this.#kept = null
    const { onRefused } = this.#options
    if (kept !== null && onRefused !== null && ERRORS[error.code].ran === 'no') {
      const elsewhere = onRefused(this.#call, error)
      this.#elsewhere = elsewhere
      for (const chunk of kept.chunks) elsewhere.write(chunk)
      if (kept.ended) elsewhere.writeEnd()
      // The drain that the sink may wait for was the stream's to give. Last: it writes what it has within this very call.
      this.#sink.resumeBody?.()
      return
    }
    this.#options.onOver(null)
    this.#sink.fail(CodedError.fromData(error), this.#placement)
  }
}
