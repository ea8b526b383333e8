/** Timers of a worker's runs: a binary heap by due time. Entries of ended runs are skipped when they come due. */
export interface Timer {
  readonly dueAtMs: number
  readonly runId: number
  /** Operation id, or 0 for the run's own deadline. */
  readonly id: number
}

export class TimerQueue {
  readonly #heap: Timer[] = []

  get nextAtMs(): number {
    return this.#heap[0]?.dueAtMs ?? Infinity
  }

  add(dueAtMs: number, runId: number, id: number): void {
    const heap = this.#heap
    const timer = { dueAtMs, runId, id }
    let at = heap.push(timer) - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above]
      if (parent === undefined || parent.dueAtMs <= dueAtMs) break
      heap[at] = parent
      at = above
    }
    heap[at] = timer
  }

  /** The earliest timer that is due, removed; null if none is. */
  takeDue(nowMs: number): Timer | null {
    const first = this.#heap[0]
    if (first === undefined || first.dueAtMs > nowMs) return null
    const last = this.#heap.pop()
    if (last !== undefined && this.#heap.length > 0) this.#sink(last)
    return first
  }

  #sink(timer: Timer): void {
    const heap = this.#heap
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      const left = heap[below]
      if (left === undefined) break
      const right = heap[below + 1]
      if (right !== undefined && right.dueAtMs < left.dueAtMs) below++
      const least = heap[below]
      if (least === undefined || least.dueAtMs >= timer.dueAtMs) break
      heap[at] = least
      at = below
    }
    heap[at] = timer
  }
}
