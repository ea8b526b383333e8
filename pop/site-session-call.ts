/**
 * One call of a session at the host of a site that it came to: goes to the host that the session belongs to, this one or
 * another (`SessionSeek`).
 *
 * The sink hears exactly one of `end` and `fail`, last; what a host that did not run it has said is not heard.
 */
import { SessionSeek } from '../shared/cluster/session-seek.ts'
import type { Clock } from '../shared/clock.ts'
import { toCodedError, type CodedError, type ErrorCode } from '../shared/errors.ts'
import type { Answer, AnswerSink, InvokeCall } from '../shared/http/types.ts'
import type { InvocationResult } from '../shared/worker/types.ts'

export interface SiteSessionCallOptions {
  /** Gives the call to whoever the session belongs to by now; null: nobody can be reached. `code`: why the one before refused it. */
  readonly attempt: (call: InvokeCall, sink: AnswerSink, code: ErrorCode | null) => Answer | null
  /** Once, before the sink hears the last. */
  readonly onOver: (result: InvocationResult | null) => void
  readonly clock: Clock
}

export class SiteSessionCall implements Answer, AnswerSink {
  readonly #sink: AnswerSink
  readonly #onOver: SiteSessionCallOptions['onOver']
  readonly #seek: SessionSeek
  /** The body is larger than a session's request may have it. */
  #refusal: CodedError | null = null

  constructor(call: InvokeCall, sink: AnswerSink, { attempt, onOver, clock }: SiteSessionCallOptions) {
    // The front door uses its buffers again once this call has returned.
    const own = { ...call, body: call.body === null ? null : new Uint8Array(call.body) }
    this.#sink = sink
    this.#onOver = onOver
    this.#seek = new SessionSeek({
      attempt: (code) => attempt(own, this, code),
      onGivenUp: (error) => {
        onOver(null)
        sink.fail(this.#refusal ?? error, null)
      },
      leftMs: call.deadlineAtMs - clock.nowMs(), bodyBytes: own.body?.length ?? 0, clock,
    })
    this.#seek.start()
  }

  write(chunk: Uint8Array): void {
    try {
      this.#seek.write(chunk)
    } catch (error) {
      const coded = toCodedError(error)
      if (coded.code !== 'ERR_BODY_TOO_LARGE') throw error
      this.#refusal ??= coded
      this.#seek.cancel()
    }
  }

  writeEnd(): void {
    this.#seek.writeEnd()
  }

  resume(): void {
    this.#seek.resume()
  }

  cancel(): void {
    this.#seek.cancel()
  }

  head(...head: Parameters<AnswerSink['head']>): void {
    this.#seek.found()
    this.#sink.head(...head)
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

  end(...[result, placement]: Parameters<AnswerSink['end']>): void {
    if (this.#seek.isOver || (result.error !== null && this.#refused(result.error.code))) return
    this.#seek.over()
    this.#onOver(result)
    if (this.#refusal === null) this.#sink.end(result, placement)
    else this.#sink.fail(this.#refusal, placement)
  }

  fail(...[error, placement]: Parameters<AnswerSink['fail']>): void {
    if (this.#seek.isOver || this.#refused(error.code)) return
    this.#seek.over()
    this.#onOver(null)
    this.#sink.fail(this.#refusal ?? error, placement)
  }

  /** A link that had asked for a pause is gone with whoever refused the call. */
  #refused(code: ErrorCode): boolean {
    const refused = this.#seek.refused(code)
    if (refused) this.#sink.resumeBody?.()
    return refused
  }
}
