/** A run's sink that tells, with the first word to the client, what became of its session. */
import type { CodedError } from '../shared/errors.ts'
import type { SessionTicket } from '../shared/sessions/session-ticket.ts'
import type { BuildSpec } from '../shared/worker/types.ts'
import type { RunSink } from './run.ts'

export class SessionSink implements RunSink {
  readonly #sink: RunSink
  readonly #ticket: SessionTicket
  #told = false

  constructor(sink: RunSink, ticket: SessionTicket) {
    this.#sink = sink
    this.#ticket = ticket
  }

  started(build: BuildSpec, node?: string): void {
    this.#sink.started(build, node)
  }

  head(...head: Parameters<RunSink['head']>): void {
    this.#tell()
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
    this.#tell()
    this.#sink.end(result)
  }

  fail(error: CodedError): void {
    this.#tell()
    this.#sink.fail(error)
  }

  #tell(): void {
    if (this.#told) return
    this.#told = true
    if (this.#ticket.answer !== null) this.#sink.session?.(this.#ticket.answer)
  }
}
