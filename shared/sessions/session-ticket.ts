/** A request's claim to a session, from the moment its head was read until it is answered. */
import type { BuildSpec, Invocation, InvocationInput, InvocationSink } from '../worker/types.ts'
import { endedCookie, sessionCookie } from './session-request.ts'
import type { SessionHost } from './session-run.ts'
import type { SessionTable } from './session-table.ts'
import type { SessionAnswer, SessionKey, SessionReason, SessionSettings, SessionState } from './types.ts'

export interface TicketOptions {
  readonly settings: SessionSettings
  readonly key: SessionKey
  /** Whose id it is: a new one is told by cookie unless the header was used. */
  readonly by: 'header' | 'cookie'
  /** The id was made for this request. */
  readonly fresh: boolean
  /** At a POP: the session lives in the region. */
  readonly regional: boolean
  /** Why it is new though the request named a session. */
  readonly reason: SessionReason | null
  /** The client ends the session. */
  readonly ends: boolean
  /** That of the session where it is known, else the one that new sessions begin with. */
  readonly build: BuildSpec
  readonly url: string
}

/** Who says how many may run at once. */
export interface SessionGate {
  /** True: this one may, and `leave` is called when it has ended. */
  enter(): boolean
  leave(): void
}

export class SessionTicket {
  readonly options: TicketOptions
  /** Passed when the request's turn has come, not while it waits. Null: it was let in before. */
  gate: SessionGate | null = null
  readonly #table: SessionTable
  #key: SessionKey
  #answer: SessionAnswer | null = null
  #renamed = false

  constructor(table: SessionTable, options: TicketOptions) {
    this.#table = table
    this.options = options
    this.#key = options.key
  }

  get key(): SessionKey {
    return this.#key
  }

  /** Nobody can have anything under this id. */
  get isFresh(): boolean {
    return this.options.fresh || this.#renamed
  }

  /** The build that is expected to run; its image should be here. */
  get build(): BuildSpec {
    return this.options.build
  }

  /** What the client is told, as far as it is known by now. */
  get answer(): SessionAnswer | null {
    return this.#answer
  }

  /** The session goes by another id from now on. */
  rename(key: SessionKey): void {
    this.#key = key
    this.#renamed = true
  }

  tell(state: SessionState, reason: SessionReason | null): void {
    const { settings, by, url } = this.options
    const { id } = this.#key
    const cookie = by !== 'cookie' ? null : state === 'new' ? sessionCookie(settings, id, url) : state === 'ended' ? endedCookie(settings, url) : null
    this.#answer = { id, state, reason, setCookie: cookie }
  }

  /** There is no session after all. */
  retract(): void {
    this.#answer = null
  }

  /** `host` as the request is to use it: what is invoked there waits for its turn and gets the session's machine. */
  over(host: SessionHost): Pick<SessionHost, 'invoke'> {
    return { invoke: (input: InvocationInput, sink: InvocationSink): Invocation => this.#table.invoke(this, host, input, sink) }
  }
}
