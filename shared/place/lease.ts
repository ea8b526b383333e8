/**
 * When another member's lease is certainly over. Coordination tells who is alive, but a watch that has stalled tells of
 * nobody's renewals, and then everybody looks dead. So absence is believed only when the watch has shown a mark that this
 * member itself wrote after it began to doubt: what is shown in the order of the store then includes every renewal from before the mark.
 *
 * L1  Who is absent from the first list with our mark had sent no renewal that the store took before the mark, and the list leaves out only those
 *     whose lease had been over by then for LEASE_MARGIN_MS. A renewal taken later revives nothing: a holder whose lease has run out
 *     by its own clock never gets it back (shared/coordination/lease.ts). So it is over for good.
 * L2  Ids name one life of a process: a member that was over never comes back under its id.
 * L3  Clocks are never compared. Holder and watcher each count LEASE_TTL_MS by their own; the watcher waits LEASE_MARGIN_MS longer, which
 *     covers rates that differ by CLOCK_RATE_DIFFERENCE_MAX.
 */
import { LEASE_MARGIN_MS, LEASE_TTL_MS } from '../limits.ts'

/** Clocks of members run at most this much faster or slower than each other's. Ordinary oscillators differ by 0.01 %. */
export const CLOCK_RATE_DIFFERENCE_MAX = 0.01

if (LEASE_MARGIN_MS < LEASE_TTL_MS * CLOCK_RATE_DIFFERENCE_MAX) throw new Error('LEASE_MARGIN_MS does not cover CLOCK_RATE_DIFFERENCE_MAX')

export class PeerView {
  #alive: ReadonlySet<string> = new Set()
  #mark = 0
  /** Who is absent, with the mark that has to be seen first. */
  readonly #doubted = new Map<string, number>()
  readonly #over = new Set<string>()

  /** The mark that this member's info has to carry: write it when it has changed (`Membership.update`). */
  get mark(): number {
    return this.#mark
  }

  /** A list as the watch gave it, and the mark that our own info in it has; -1 if we are not in it. */
  shown(alive: ReadonlySet<string>, ownMark: number): void {
    this.#alive = alive
    for (const [id, mark] of this.#doubted) {
      if (alive.has(id)) this.#doubted.delete(id)
      else if (ownMark >= mark) {
        this.#doubted.delete(id)
        this.#over.add(id)
      }
    }
  }

  /** Asking is what raises the doubt: the answer may be true only after `mark` has gone out and come back. */
  isOver(memberId: string): boolean {
    if (this.#over.has(memberId)) return true
    if (!this.#alive.has(memberId) && !this.#doubted.has(memberId)) {
      this.#mark++
      this.#doubted.set(memberId, this.#mark)
    }
    return false
  }

  /** Forgets members that no version of the ring and no item names any more. */
  keepOnly(memberIds: ReadonlySet<string>): void {
    for (const id of this.#over) if (!memberIds.has(id)) this.#over.delete(id)
    for (const id of this.#doubted.keys()) if (!memberIds.has(id)) this.#doubted.delete(id)
  }
}
