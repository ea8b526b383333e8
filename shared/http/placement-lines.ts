/** The response headers that say where and how a call ran. */
import { SESSION_HEADER, SESSION_STATE_HEADER } from '../sessions/session-request.ts'
import type { SessionAnswer } from '../sessions/types.ts'
import type { Placement } from './types.ts'

const REQUEST_ID = '\r\nx-outpost-request-id: '

export class PlacementLines {
  #lastPlacement: Placement | null = null
  #lastLines = ''

  /**
   * Ends in `x-outpost-request-id: `, to which the caller adds the id. Dispatchers give the same object for the same
   * placement again and again, so the last one's lines are kept.
   */
  of(placement: Placement | null): string {
    if (placement === null) return REQUEST_ID
    if (placement === this.#lastPlacement) return this.#lastLines
    let lines = `\r\nx-outpost-place: ${placement.place}`
    if (placement.reason !== null) lines += `; reason=${placement.reason}`
    if (placement.startKind !== null) lines += `\r\nx-outpost-start: ${placement.startKind}`
    if (placement.version !== null) lines += `\r\nx-outpost-version: ${placement.version}`
    if (placement.attempts !== undefined) lines += `\r\nx-outpost-attempts: ${placement.attempts}`
    if (placement.node !== undefined) lines += `\r\nx-outpost-node: ${placement.node}`
    if (placement.session) lines += sessionLines(placement.session)
    if (placement.stale) lines += '\r\nx-outpost-stale: 1'
    this.#lastPlacement = placement
    this.#lastLines = lines + REQUEST_ID
    return this.#lastLines
  }
}

function sessionLines({ id, state, reason, setCookie }: SessionAnswer): string {
  const lines = `\r\n${SESSION_HEADER}: ${id}\r\n${SESSION_STATE_HEADER}: ${state}${reason === null ? '' : `; reason=${reason}`}`
  return setCookie === null ? lines : `${lines}\r\nset-cookie: ${setCookie}`
}
