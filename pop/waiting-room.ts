/**
 * Invocations that wait for a sandbox here, and for how long they may: then they are taken back from the host, which
 * gives them to a region, or refuses them if there is none.
 *
 * Q1: only the host's queue says who waits. A list of its own would keep what has begun alive, for as long as one may wait.
 * Q2: one may wait `waitMs`, as it is when its time is looked at. With no region in reach there is nowhere better to wait:
 *     it stays until CUT_OFF_WAIT_MAX_MS have passed.
 */
import type { Clock } from '../shared/clock.ts'
import type { InvocationSink, SandboxHost } from '../shared/worker/types.ts'

export interface WaitingRoomOptions {
  readonly clock: Clock
  readonly host: Pick<SandboxHost, 'waiting'>
  /** Takes an invocation back if it may go elsewhere and nothing has begun with it. True if it was. */
  readonly withdraw: (sink: InvocationSink) => boolean
  /** How long waiting here is better than a region; see `queueWaitMs` in shared/place/place.ts. */
  readonly waitMs: () => number
  readonly regionInReach: () => boolean
}

/** A client waits this long before 503 tells it more than silence does. */
const CUT_OFF_WAIT_MAX_MS = 5_000
const TICK_MIN_MS = 1

export class WaitingRoom {
  readonly counts = { watched: 0, withdrawn: 0 }
  readonly #options: WaitingRoomOptions
  #cancelTimer: (() => void) | null = null

  constructor(options: WaitingRoomOptions) {
    this.#options = options
  }

  /** To be called when an invocation was given to a host that has others waiting. */
  watch(): void {
    this.counts.watched++
    if (this.#cancelTimer === null) this.#schedule(this.#options.waitMs())
  }

  close(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer = this.#options.clock.after(Math.max(TICK_MIN_MS, delayMs), () => {
      this.#cancelTimer = null
      this.#look()
    })
  }

  #look(): void {
    const { clock, host, withdraw, regionInReach } = this.#options
    const nowMs = clock.monotonicMs()
    const waitMs = regionInReach() ? this.#options.waitMs() : CUT_OFF_WAIT_MAX_MS // Q2
    // Oldest first. Taking one back changes the queue.
    const young = host.waiting.findIndex(({ enqueuedAtMs }) => nowMs - enqueuedAtMs < waitMs)
    const next = host.waiting[young]
    for (const { sink } of host.waiting.slice(0, young === -1 ? undefined : young)) {
      if (withdraw(sink)) this.counts.withdrawn++
    }
    if (host.waiting.length === 0) return
    // A region may come back at any time. Those that were left stay here; who comes now has `waitMs`.
    const leftMs = next === undefined ? waitMs : next.enqueuedAtMs + waitMs - nowMs
    this.#schedule(Math.min(leftMs, Math.max(TICK_MIN_MS, this.#options.waitMs())))
  }
}
