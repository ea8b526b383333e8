/**
 * Sandboxes that a manager has promised to frontends and that have not been used yet. Answers to frontends get lost, so a promise
 * ends by itself.
 *
 * N1  A sandbox is in one reservation at most, and is used by one request at most: `claim` gives it away for good.
 * N2  A question that arrives twice gets the same reservation. One that was claimed or has expired is not made again.
 * N3  What nobody claims within RESERVATION_MS goes back to where it came from.
 *
 * Who asks for which key, and that no account gets another's, is for the caller: keys say account, version and whatever else must be equal.
 */
import { RESERVATIONS_MAX } from '../limits.ts'

export const RESERVATION_MS = 2_000
/** How long the id of an ended reservation is known (N2): longer than any question can be under way. */
const REMEMBERED_MS = 60_000

type Reservation<Sandbox> =
  | { readonly kind: 'held'; readonly sandbox: Sandbox; readonly endsAtMs: number }
  | { readonly kind: 'over'; readonly endsAtMs: number }

export class Reservations<Sandbox> {
  readonly #giveBack: (sandbox: Sandbox) => void
  /** In the order in which they were made or ended, but for those between: a sweep looks at all. */
  readonly #byId = new Map<string, Reservation<Sandbox>>()
  #held = 0

  /** `giveBack`: a sandbox that nobody claimed is idle again. */
  constructor(giveBack: (sandbox: Sandbox) => void) {
    this.#giveBack = giveBack
  }

  /** Reserved now and not claimed. */
  get heldCount(): number {
    return this.#held
  }

  /**
   * `take` gets an idle sandbox, null if there is none. `id`: the frontend's, one for each question. Null: none; also if too many
   * reservations are held or remembered.
   */
  reserve(id: string, take: () => Sandbox | null, nowMs: number): Sandbox | null {
    const known = this.#byId.get(id)
    if (known !== undefined) return known.kind === 'held' && known.endsAtMs > nowMs ? known.sandbox : null
    if (this.#byId.size >= RESERVATIONS_MAX) this.sweep(nowMs)
    if (this.#byId.size >= RESERVATIONS_MAX) return null
    const sandbox = take()
    if (sandbox === null) return null
    this.#byId.set(id, { kind: 'held', sandbox, endsAtMs: nowMs + RESERVATION_MS })
    this.#held++
    return sandbox
  }

  /** The sandbox, for its one use; null if the reservation has ended. */
  claim(id: string, nowMs: number): Sandbox | null {
    const known = this.#byId.get(id)
    if (known?.kind !== 'held') return null
    this.#end(id, nowMs)
    if (known.endsAtMs > nowMs) return known.sandbox
    this.#giveBack(known.sandbox)
    return null
  }

  /** The frontend does not want it any more. Idempotent. */
  release(id: string, nowMs: number): void {
    const known = this.#byId.get(id)
    if (known?.kind !== 'held') return
    this.#end(id, nowMs)
    this.#giveBack(known.sandbox)
  }

  /** Ends what has expired. To be called every second or so. */
  sweep(nowMs: number): void {
    for (const [id, known] of this.#byId) {
      if (known.endsAtMs > nowMs) continue
      if (known.kind === 'held') this.release(id, nowMs)
      else this.#byId.delete(id)
    }
  }

  #end(id: string, nowMs: number): void {
    this.#held--
    this.#byId.set(id, { kind: 'over', endsAtMs: nowMs + REMEMBERED_MS })
  }
}
