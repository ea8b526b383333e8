/**
 * What a POP keeps in memory, by four policies behind one face, and what a clairvoyant could at most have had.
 *
 * All pull an image in the background, so the calls until it is there are forwarded. `HotSetPolicy` is the product's
 * own code (shared/place/hot-set.ts) with the rules that stand around it in pop/residency.ts: who was refused asks again
 * after five seconds, a sweep every ten sends idle ones away, and ten thousand functions are kept in mind.
 */
import type { Clock } from '../../shared/clock.ts'
import { HotSet, type HotEntry } from '../../shared/place/hot-set.ts'

export interface CachePolicy {
  /** True if the call is answered at the POP. */
  arrive(atMs: number, index: number): boolean
  /** To be called as time goes on, at least every ten seconds of it. */
  tick(atMs: number): void
}

export interface CacheOptions {
  readonly budgetBytes: number
  readonly bytesOf: (index: number) => number
}

/** From the wish to keep an image to its being there: a question or two over 70 ms, and what there is to fetch. */
export const PULL_MS = 300
const RETRY_MS = 5_000
const SWEEP_MS = 10_000
const FUNCTIONS_MAX = 10_000

class SimulatedClock implements Clock {
  atMs = 0

  nowMs(): number {
    return this.atMs
  }

  monotonicMs(): number {
    return this.atMs
  }

  after(): () => void {
    throw new Error('policies are told the time, they do not wait')
  }
}

interface Tracked {
  readonly hot: HotEntry
  readonly index: number
  readyAtMs: number
  retryAtMs: number
}

export class HotSetPolicy implements CachePolicy {
  readonly #clock = new SimulatedClock()
  readonly #hotSet: HotSet
  readonly #bytesOf: (index: number) => number
  readonly #tracked = new Map<number, Tracked>()
  #sweptAtMs = 0

  constructor({ budgetBytes, bytesOf }: CacheOptions) {
    this.#hotSet = new HotSet({ clock: this.#clock, budgetBytes })
    this.#bytesOf = bytesOf
  }

  arrive(atMs: number, index: number): boolean {
    this.#clock.atMs = atMs
    const tracked = this.#track(index)
    const { hot } = tracked
    const earned = this.#hotSet.arrived(hot)
    if (hot.member) return tracked.readyAtMs <= atMs
    if (!earned || tracked.retryAtMs > atMs) return false
    if (this.#hotSet.admit(hot, this.#bytesOf(index)).kind === 'admitted') tracked.readyAtMs = atMs + PULL_MS
    else tracked.retryAtMs = atMs + RETRY_MS
    return false
  }

  tick(atMs: number): void {
    this.#clock.atMs = atMs
    if (atMs - this.#sweptAtMs < SWEEP_MS) return
    this.#sweptAtMs = atMs
    this.#hotSet.sweep()
    for (const [index, { hot }] of this.#tracked) {
      if (this.#tracked.size <= FUNCTIONS_MAX) break
      if (!hot.member) this.#tracked.delete(index)
    }
  }

  #track(index: number): Tracked {
    const known = this.#tracked.get(index)
    if (known !== undefined) return known
    const tracked: Tracked = { hot: this.#hotSet.newEntry(String(index)), index, readyAtMs: 0, retryAtMs: 0 }
    this.#tracked.set(index, tracked)
    return tracked
  }
}

/** Least recently used: every call that misses brings its image. */
export class LruPolicy implements CachePolicy {
  readonly #options: CacheOptions
  /** In order of use; when it is there. */
  readonly #readyAtMs = new Map<number, number>()
  #usedBytes = 0

  constructor(options: CacheOptions) {
    this.#options = options
  }

  arrive(atMs: number, index: number): boolean {
    const { budgetBytes, bytesOf } = this.#options
    const readyAtMs = this.#readyAtMs.get(index)
    if (readyAtMs !== undefined) {
      this.#readyAtMs.delete(index)
      this.#readyAtMs.set(index, readyAtMs)
      return readyAtMs <= atMs
    }
    const bytes = bytesOf(index)
    if (bytes > budgetBytes) return false
    for (const oldest of this.#readyAtMs.keys()) {
      if (this.#usedBytes + bytes <= budgetBytes) break
      this.#readyAtMs.delete(oldest)
      this.#usedBytes -= bytesOf(oldest)
    }
    this.#usedBytes += bytes
    this.#readyAtMs.set(index, atMs + PULL_MS)
    return false
  }

  tick(): void {
    // Nothing happens but at arrivals.
  }
}

/** Least frequently used, calls counted since the start: who misses comes in if all who leave for it were called less. */
export class LfuPolicy implements CachePolicy {
  readonly #options: CacheOptions
  readonly #counts = new Map<number, number>()
  readonly #readyAtMs = new Map<number, number>()
  /** Members by their count when last put; a count that has grown since is put anew when it is met. */
  readonly #queue = new MinHeap()
  #usedBytes = 0

  constructor(options: CacheOptions) {
    this.#options = options
  }

  arrive(atMs: number, index: number): boolean {
    const count = (this.#counts.get(index) ?? 0) + 1
    this.#counts.set(index, count)
    const readyAtMs = this.#readyAtMs.get(index)
    if (readyAtMs !== undefined) return readyAtMs <= atMs
    this.#admit(atMs, index, count)
    return false
  }

  tick(): void {
    // Nothing happens but at arrivals.
  }

  #admit(atMs: number, index: number, count: number): void {
    const { budgetBytes, bytesOf } = this.#options
    const bytes = bytesOf(index)
    if (bytes > budgetBytes) return
    const leaving: number[] = []
    let freedBytes = 0
    while (this.#usedBytes - freedBytes + bytes > budgetBytes) {
      const lowest = this.#queue.pop()
      if (lowest === null) break
      const now = this.#counts.get(lowest.index) ?? 0
      if (now !== lowest.key) this.#queue.push({ index: lowest.index, key: now })
      else if (now >= count) {
        this.#queue.push(lowest)
        for (const stays of leaving) this.#queue.push({ index: stays, key: this.#counts.get(stays) ?? 0 })
        return
      } else {
        leaving.push(lowest.index)
        freedBytes += bytesOf(lowest.index)
      }
    }
    for (const gone of leaving) this.#readyAtMs.delete(gone)
    this.#usedBytes += bytes - freedBytes
    this.#readyAtMs.set(index, atMs + PULL_MS)
    this.#queue.push({ index, key: count })
  }
}

interface Keyed {
  readonly index: number
  readonly key: number
}

class MinHeap {
  readonly #items: Keyed[] = []

  push(item: Keyed): void {
    const items = this.#items
    let at = items.push(item) - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      if ((items[above]?.key ?? 0) <= item.key) break
      items[at] = items[above] ?? item
      at = above
    }
    items[at] = item
  }

  pop(): Keyed | null {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (top === undefined || last === undefined) return null
    if (items.length === 0) return top
    let at = 0
    for (;;) {
      const left = 2 * at + 1
      const least = (items[left + 1]?.key ?? Infinity) < (items[left]?.key ?? Infinity) ? left + 1 : left
      const child = items[least]
      if (child === undefined || child.key >= last.key) break
      items[at] = child
      at = least
    }
    items[at] = last
    return top
  }
}

/**
 * The most calls that any policy could have answered here, had it known the future. Each wait from one call of a function
 * to its next costs bytes x time to keep and gains one answer; a memory of `budgetBytes` over the whole time can pay for
 * so much, and the cheapest are bought first. No schedule does better, and this one need not exist: a bound from above
 * (PFOO-U: Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object Sizes", 2018).
 */
export class ClairvoyantBound {
  readonly #bytesOf: (index: number) => number
  readonly #lastAtMs = new Map<number, number>()
  readonly #costs: number[] = []
  #sorted: Float64Array | null = null
  #firstAtMs = Infinity
  #lastMs = 0

  constructor(bytesOf: (index: number) => number) {
    this.#bytesOf = bytesOf
  }

  arrive(atMs: number, index: number): void {
    const before = this.#lastAtMs.get(index)
    if (before !== undefined) this.#costs.push((atMs - before) * this.#bytesOf(index))
    this.#lastAtMs.set(index, atMs)
    this.#firstAtMs = Math.min(this.#firstAtMs, atMs)
    this.#lastMs = atMs
  }

  /** Calls answered at most, after all arrivals. */
  hits(budgetBytes: number): number {
    this.#sorted ??= Float64Array.from(this.#costs).sort()
    let left = budgetBytes * (this.#lastMs - this.#firstAtMs)
    let hits = 0
    for (const cost of this.#sorted) {
      if (cost > left) break
      left -= cost
      hits++
    }
    return hits
  }
}
