/**
 * One request of a session: waits for its turn, runs on the sandboxes with the session's machine, and gives that back.
 *
 *   waiting (its body is held) -> running -> over
 *
 * Q1  The sink hears `end` exactly once, last, whatever became of the session.
 * Q2  `SessionTable.ended` has heard of the run before the sink does: who hears the answer may send the next request.
 */
import { CodedError, ERRORS } from '../errors.ts'
import { REQUEST_BODY_MAX_BYTES, REQUEST_WINDOW_BYTES } from '../limits.ts'
import type { StartKind } from '../outcome.ts'
import { failedResult } from '../worker/results.ts'
import type { Invocation, InvocationInput, InvocationResult, InvocationSink, SandboxHost } from '../worker/types.ts'
import { headerOf, SESSION_HEADER } from './session-request.ts'
import type { Session, SessionTable } from './session-table.ts'
import type { SessionTicket } from './session-ticket.ts'
import type { SessionReason } from './types.ts'

/** What is needed of the sandboxes. */
export type SessionHost = Pick<SandboxHost, 'invoke' | 'hasImage'>

type RunState =
  | { readonly kind: 'waiting'; readonly chunks: Uint8Array[]; bytes: number; ended: boolean }
  | { readonly kind: 'running'; readonly invocation: Invocation | null }
  | { readonly kind: 'over' }

/** Value of the response header by which a function ends its session. */
const CLOSE = 'close'

export class SessionRun implements Invocation, InvocationSink {
  readonly ticket: SessionTicket
  readonly host: SessionHost
  readonly input: InvocationInput
  readonly #table: SessionTable
  readonly #sink: InvocationSink
  session: Session | null = null
  /** Times that it was not let in though its turn had come. */
  turnedAway = 0
  /** This member was given the right to serve it, and has to give it back. */
  owned = false
  /** By what that right is asked for: ids of requests come from outside, and two may be alike. */
  turn = ''
  #state: RunState = { kind: 'waiting', chunks: [], bytes: 0, ended: false }
  #headSent = false
  #closes = false
  /** The host has asked for a pause of the body. */
  #bodyPaused = false

  constructor(table: SessionTable, ticket: SessionTicket, host: SessionHost, input: InvocationInput, sink: InvocationSink) {
    this.#table = table
    this.ticket = ticket
    this.host = host
    this.input = input
    this.#sink = sink
  }

  get isWaiting(): boolean {
    return this.#state.kind === 'waiting'
  }

  get headSent(): boolean {
    return this.#headSent
  }

  /** The function has said that this is the session's last request. */
  get closes(): boolean {
    return this.#closes
  }

  /** Its turn has come. `input` is this run's with the session in it. */
  begin(input: InvocationInput): void {
    const held = this.#state.kind === 'waiting' ? this.#state : null
    // The host may answer before `invoke` returns; the state that leaves must not be overwritten then.
    this.#state = { kind: 'running', invocation: null }
    const invocation = this.host.invoke(input, this)
    if (this.#isOver()) return
    this.#state = { kind: 'running', invocation }
    for (const chunk of held?.chunks ?? []) invocation.write(chunk)
    if (held?.ended === true) invocation.writeEnd()
    // Last: a sender that may go on writes what it has within this very call.
    if (held !== null && held.bytes > REQUEST_WINDOW_BYTES && !this.#bodyPaused) this.#sink.resumeBody?.()
  }

  /** There was nothing to run: the client ended its session. */
  answerEnded(): void {
    this.#state = { kind: 'over' }
    this.#sink.head(204, '', 'warm', null, true)
    this.#sink.bodyEnd()
    this.#sink.end(NOTHING_RUN)
  }

  /** It never ran. */
  refuse(error: CodedError, outcome: 'loadShed' | 'canceled' = 'loadShed'): void {
    if (this.#state.kind === 'over') return
    this.#state = { kind: 'over' }
    this.#sink.end(failedResult(outcome, error.toData()))
  }

  // What the front door tells the run.

  write(chunk: Uint8Array): void {
    const state = this.#state
    if (state.kind === 'running') state.invocation?.write(chunk)
    if (state.kind !== 'waiting') return
    state.bytes += chunk.length
    if (state.bytes + (this.input.body?.length ?? 0) > REQUEST_BODY_MAX_BYTES) throw new CodedError('ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
    state.chunks.push(new Uint8Array(chunk))
    if (state.bytes > REQUEST_WINDOW_BYTES) this.#sink.pauseBody?.()
  }

  writeEnd(): void {
    if (this.#state.kind === 'running') this.#state.invocation?.writeEnd()
    else if (this.#state.kind === 'waiting') this.#state.ended = true
  }

  resume(): void {
    if (this.#state.kind === 'running') this.#state.invocation?.resume()
  }

  cancel(): void {
    if (this.#state.kind === 'running') this.#state.invocation?.cancel()
    else if (this.#state.kind === 'waiting') this.#table.leave(this)
  }

  /** A session goes nowhere else, so its request waits. */
  withdraw(): boolean {
    return false
  }

  // What the sandbox tells the client.

  head(status: number, headers: string, startKind: StartKind, body: Uint8Array | null, last: boolean): void {
    this.#headSent = true
    if (headers.includes(SESSION_HEADER) && headerOf(headers, SESSION_HEADER) === CLOSE) {
      this.#closes = true
      this.ticket.tell('ended', 'closed')
    }
    this.#sink.head(status, headers, startKind, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  pauseBody(): void {
    this.#bodyPaused = true
    this.#sink.pauseBody?.()
  }

  resumeBody(): void {
    this.#bodyPaused = false
    this.#sink.resumeBody?.()
  }

  /** Q2. */
  end(result: InvocationResult): void {
    if (this.#state.kind === 'over') return
    this.#state = { kind: 'over' }
    this.ticket.gate?.leave()
    this.#table.ended(this, result)
    this.#sink.end(result)
  }

  /** Apart, because a host's answer changes the state behind the compiler's back. */
  #isOver(): boolean {
    return this.#state.kind === 'over'
  }
}

const NOTHING_RUN: InvocationResult = { outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 0, wallUs: 0, dirtyPages: 0, memoryBytes: 0, logs: [] }

/** Why the session ends with this request, or null: it goes on with what the request left, or with what was before it. */
export function endOf(run: SessionRun, { machine, outcome, error }: InvocationResult): SessionReason | null {
  if (run.closes) return 'closed'
  if (machine?.kind === 'kept') return null
  if (machine?.kind === 'tooLarge') return 'too-large'
  if (error?.code === 'ERR_SESSION_STATE' || outcome === 'platformFault') return 'lost'
  const ranNothing = outcome === 'canceled' || outcome === 'loadShed' || (error !== null && ERRORS[error.code].ran === 'no')
  return ranNothing ? null : 'stopped'
}
