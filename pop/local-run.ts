/**
 * One invocation on this POP's own sandboxes. If the host refuses it before it began, and the whole call is still at
 * hand, `onShed` may give it to a region instead; from then on everything goes there.
 */
import type { RequestId } from '../shared/brand.ts'
import { toCodedError, type CodedError, type CodedErrorData, type ErrorCode } from '../shared/errors.ts'
import type { Answer, AnswerSink, InvokeCall, Placement } from '../shared/http/types.ts'
import type { StartKind } from '../shared/outcome.ts'
import type { SessionTicket } from '../shared/sessions/session-ticket.ts'
import type { Invocation, InvocationResult, InvocationSink, SandboxHost } from '../shared/worker/types.ts'
import type { KnownBuild } from './functions.ts'

export interface LocalRunObserver {
  /** The host has no room: the answer to hold instead, or null to let the refusal stand. */
  onShed(error: CodedErrorData): Answer | null
  /** Over here; once, and not after `onShed` gave an answer. */
  onOver(result: InvocationResult): void
}

export class LocalRun implements InvocationSink, Answer {
  readonly #call: InvokeCall
  readonly #sink: AnswerSink
  readonly #known: KnownBuild
  readonly #freshness: 'current' | 'stale'
  readonly #observer: LocalRunObserver
  readonly #ticket: SessionTicket | null
  #run: Invocation | null = null
  /** Where the call went after the host refused it. */
  #elsewhere: Answer | null = null
  #placement: Placement | null = null
  /** The body is larger than the function may have it. */
  #refusal: CodedError | null = null

  constructor(call: InvokeCall, sink: AnswerSink, known: KnownBuild, freshness: 'current' | 'stale', observer: LocalRunObserver, ticket: SessionTicket | null = null) {
    this.#call = call
    this.#sink = sink
    this.#known = known
    this.#freshness = freshness
    this.#observer = observer
    this.#ticket = ticket
  }

  /** Returns the answer to hold: this one, or that of a region. */
  start(host: SandboxHost): Answer {
    const { requestId, invocationKind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection = null, chain = null } = this.#call
    this.#run = (this.#ticket?.over(host) ?? host).invoke({
      requestId: requestId as RequestId, // The front door took it over or made it.
      build: this.#known.build,
      kind: invocationKind,
      method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection, chain,
    }, this)
    return this.#elsewhere ?? this
  }

  write(chunk: Uint8Array): void {
    if (this.#elsewhere !== null) return this.#elsewhere.write(chunk)
    try {
      this.#run?.write(chunk)
    } catch (error) {
      const coded = toCodedError(error)
      if (coded.code !== 'ERR_BODY_TOO_LARGE') throw error
      this.#refusal ??= coded
      this.#run?.cancel()
    }
  }

  writeEnd(): void {
    if (this.#elsewhere !== null) this.#elsewhere.writeEnd()
    else this.#run?.writeEnd()
  }

  resume(): void {
    if (this.#elsewhere !== null) this.#elsewhere.resume()
    else this.#run?.resume()
  }

  cancel(): void {
    if (this.#elsewhere !== null) this.#elsewhere.cancel()
    else this.#run?.cancel()
  }

  /** Takes it back if the host has not begun with it and the whole request is at hand; it goes on elsewhere, or is refused. */
  withdraw(): boolean {
    return !this.#call.bodyMore && this.#elsewhere === null && this.#run?.withdraw() === true
  }

  head(status: number, headers: string, startKind: StartKind, body: Uint8Array | null, last: boolean): void {
    this.#placement = this.#placed(startKind)
    this.#sink.head(status, headers, this.#placement, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  pauseBody(): void {
    this.#sink.pauseBody?.()
  }

  resumeBody(): void {
    this.#sink.resumeBody?.()
  }

  end(result: InvocationResult): void {
    if (this.#placement === null && result.outcome === 'loadShed' && result.error !== null && this.#canMove(result.error.code)) {
      this.#elsewhere = this.#observer.onShed(result.error)
      if (this.#elsewhere !== null) return
    }
    this.#observer.onOver(result)
    if (this.#refusal !== null && this.#placement === null) this.#sink.fail(this.#refusal, this.#placed(result.startKind))
    else this.#sink.end(result, this.#placement ?? this.#placed(result.startKind))
  }

  #placed(startKind: StartKind): Placement {
    const placement = this.#known.placement(startKind, this.#freshness)
    const session = this.#ticket?.answer ?? null
    return session === null ? placement : { ...placement, session }
  }

  /** Refused during `start`, so nothing of the body has gone anywhere; or the body is whole and here. Waiting in vain is no reason to wait again elsewhere. */
  #canMove(code: ErrorCode): boolean {
    return (this.#run === null || !this.#call.bodyMore) && code !== 'ERR_QUEUE_DEADLINE'
  }
}
