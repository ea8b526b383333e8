/**
 * Leases as both sides count them, without any I/O (C5 of types.ts): the holder from before it sends a renewal, the
 * watcher from when it sees one. A renewal is seen after it was sent, and the watcher waits LEASE_MARGIN_MS longer, so the
 * holder has stopped before the watcher acts, unless their clocks drift apart by more than that within one lease.
 */
import type { Clock } from '../clock.ts'
import { LEASE_MARGIN_MS, LEASE_TTL_MS } from '../limits.ts'

/** A lease as its holder counts it. */
export class HeldLease {
  readonly #clock: Clock
  #endsAtMs: number

  /** `sentAtMs`: monotonic, from before the message was sent that the store has confirmed. */
  constructor(clock: Clock, sentAtMs: number) {
    this.#clock = clock
    this.#endsAtMs = sentAtMs + LEASE_TTL_MS
  }

  /** A renewal that is confirmed after the lease has run out does not bring it back: somebody may have acted on that. */
  renewed(sentAtMs: number): void {
    if (this.holds()) this.#endsAtMs = Math.max(this.#endsAtMs, sentAtMs + LEASE_TTL_MS)
  }

  holds(): boolean {
    return this.#clock.monotonicMs() < this.#endsAtMs
  }

  /** Until it runs out, 0 if it has. */
  remainingMs(): number {
    return Math.max(0, this.#endsAtMs - this.#clock.monotonicMs())
  }

  giveUp(): void {
    this.#endsAtMs = Number.NEGATIVE_INFINITY
  }
}

/** A lease as somebody else counts it. */
export class SeenLease {
  readonly #clock: Clock
  #endsAtMs: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#endsAtMs = 0
    this.seen()
  }

  /** A renewal was seen just now. */
  seen(): void {
    this.#endsAtMs = this.#clock.monotonicMs() + LEASE_TTL_MS + LEASE_MARGIN_MS
  }

  remainingMs(): number {
    return Math.max(0, this.#endsAtMs - this.#clock.monotonicMs())
  }
}
