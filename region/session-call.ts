/**
 * One call of a session at the node that it came to: goes to the node that the session belongs to, this one or another
 * (`SessionSeek`).
 *
 * C3  The sink hears `started` with the first word of an answer, then exactly one of `end` and `fail`, last.
 */
import { SessionSeek } from '../shared/cluster/session-seek.ts'
import type { Clock } from '../shared/clock.ts'
import type { CodedError, ErrorCode } from '../shared/errors.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { BuildSpec } from '../shared/worker/types.ts'
import type { RegionRun, RunRequest, RunSink } from './run.ts'

export interface SessionCallOptions {
  /** Gives the call to whoever the session belongs to by now; null: nobody can be reached. `code`: why the one before refused it. */
  readonly attempt: (request: RunRequest, sink: RunSink, code: ErrorCode | null) => RegionRun | null
  readonly clock: Clock
}

export class SessionCall implements RegionRun, RunSink {
  readonly #sink: RunSink
  readonly #seek: SessionSeek
  #begun: readonly [BuildSpec, string | undefined] | null = null

  constructor(request: RunRequest, sink: RunSink, { attempt, clock }: SessionCallOptions) {
    // Whoever gave the body may use its bytes again once this call has returned.
    const own = { ...request, body: request.body === null ? null : new Uint8Array(request.body) }
    this.#sink = sink
    this.#seek = new SessionSeek({
      attempt: (code) => attempt(own, this, code),
      onGivenUp: (error) => sink.fail(error),
      leftMs: request.deadlineAtMs - clock.nowMs(), bodyBytes: own.body?.length ?? 0, clock,
    })
    this.#seek.start()
  }

  /** Throws ERR_BODY_TOO_LARGE, as a sandbox does. */
  write(chunk: Uint8Array): void {
    this.#seek.write(chunk)
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

  started(build: BuildSpec, node?: string): void {
    this.#begun = [build, node]
  }

  session(answer: SessionAnswer): void {
    this.#sink.session?.(answer)
  }

  head(...head: Parameters<RunSink['head']>): void {
    this.#tellStarted()
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

  end(result: Parameters<RunSink['end']>[0]): void {
    if (this.#seek.isOver || (result.error !== null && this.#seekAgain(result.error.code))) return
    this.#tellStarted()
    this.#seek.over()
    this.#sink.end(result)
  }

  fail(error: CodedError): void {
    if (this.#seek.isOver || this.#seekAgain(error.code)) return
    this.#seek.over()
    this.#sink.fail(error)
  }

  #seekAgain(code: ErrorCode): boolean {
    const begun = this.#begun
    this.#begun = null
    if (this.#seek.refused(code)) return true
    this.#begun = begun
    return false
  }

  /** C3. */
  #tellStarted(): void {
    this.#seek.found()
    if (this.#begun === null) return
    this.#sink.started(...this.#begun)
    this.#begun = null
  }
}
