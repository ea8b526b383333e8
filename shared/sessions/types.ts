/**
 * Sessions: requests that bear one id reach one machine, which keeps its memory between them. What a function declares,
 * what a client is told, and what passes between those who keep sessions.
 */
import type { BuildSpec } from '../worker/types.ts'

/** What a function declares. At least one of header and cookie. */
export interface SessionSettings {
  /** Request header that brings the id, lower case; `new` asks for a new session. Without it a request is served by a fresh machine. */
  readonly header: string | null
  /** Cookie that brings the id; a request without it begins a session. */
  readonly cookie: string | null
  /** A session ends when no request came for so long. */
  readonly idleMs: number
  /** A session ends this long after its first request, whatever came since. */
  readonly maxAgeMs: number
}

/** `ended`: this request was the session's last, and its machine is gone. */
export const SESSION_STATES = ['new', 'resumed', 'ended'] as const
export type SessionState = (typeof SESSION_STATES)[number]

/**
 * Why a session is new though an id came, and why sessions end.
 *   unknown    nobody here has a session of this id: it never was, or it is long gone
 *   expired    idle or too old
 *   closed     by the function or the client
 *   stopped    a limit or a trap ended the guest in the midst of something
 *   too-large  the machine outgrew what is kept
 *   evicted    others needed the memory
 *   replaced   its build is gone: another version is served
 *   moved      it lives in another place, which this request did not reach
 *   lost       what was kept cannot be used, or its keeper is gone
 */
export const SESSION_REASONS = ['unknown', 'expired', 'closed', 'stopped', 'too-large', 'evicted', 'replaced', 'moved', 'lost'] as const
export type SessionReason = (typeof SESSION_REASONS)[number]

/** What a client is told: `x-outpost-session`, `x-outpost-session-state` and perhaps a cookie. */
export interface SessionAnswer {
  readonly id: string
  readonly state: SessionState
  readonly reason: SessionReason | null
  /** Value of Set-Cookie. */
  readonly setCookie: string | null
}

/** Names a session: an id means nothing without its account and function. */
export interface SessionKey {
  readonly account: string
  readonly functionName: string
  readonly id: string
}

/** A session machine at rest, as it is sealed and moved. */
export interface SessionRecord {
  readonly buildKey: BuildSpec['key']
  readonly imageId: BuildSpec['imageId']
  /** Grows with every request: an older one is never taken for a newer. */
  readonly sequence: number
  /** Epoch ms. */
  readonly createdAtMs: number
  readonly usedAtMs: number
  readonly state: Uint8Array
}

/** `account/function/id`: neither of the first two can hold a slash. */
export function sessionName({ account, functionName, id }: SessionKey): string {
  return `${account}/${functionName}/${id}`
}

/** Null for what is no name of a session. */
export function parseSessionName(name: string): SessionKey | null {
  const first = name.indexOf('/')
  const second = name.indexOf('/', first + 1)
  if (first <= 0 || second <= first + 1 || second === name.length - 1) return null
  return { account: name.slice(0, first), functionName: name.slice(first + 1, second), id: name.slice(second + 1) }
}

/**
 * Says whether this member may serve a session, when there are several. Asked once for each request, when its turn has
 * come; the default is that every session may be served where it is.
 */
export interface SessionOwnership {
  /** Whether requests of this name come here, as far as is known: ids that are made here should be this member's own. */
  owns(name: string): boolean
  /**
   * Resolves when the request may run: what there is of its machine has been given to `adopt` by then. Rejects with the
   * coded error that the client is told. `requestId`: no two requests have the same. `fresh`: the id is new, so nobody has anything. `stop`: the run's right is gone.
   */
  acquire(request: { readonly name: string; readonly requestId: string; readonly fresh: boolean; readonly deadlineAtMs: number; stop(): void }): Promise<void>
  /** The request has ended. `closed`: there is no such session any more. */
  release(requestId: string, name: string, item: 'kept' | 'closed'): void
  /** A session at rest has ended by itself. */
  discard(name: string): void
}
