/** The response headers that say where and how a call ran. */
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
    if (placement.stale) lines += '\r\nx-outpost-stale: 1'
    this.#lastPlacement = placement
    this.#lastLines = lines + REQUEST_ID
    return this.#lastLines
  }
}
