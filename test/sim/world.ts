/**
 * A world that is one seed: virtual time, processes with clocks of their own, and a network between them that loses,
 * delays, doubles and reorders. Everything that happens is an event in one queue; who is equal in time goes in the order of
 * arrival. Nothing here knows what is simulated.
 *
 * Every choice comes from `random`, so a seed repeats every run to the last message. `trace` keeps the latest lines for a failure.
 */
import { seededRandom } from '../../shared/random.ts'
import type { Random } from '../../shared/random.ts'
import type { Clock } from '../../shared/clock.ts'

interface Event {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
}

export interface NetworkFaults {
  /** Parts of messages, 0 to 1. */
  readonly drop: number
  readonly duplicate: number
  /** Part that takes up to `slowMs` instead of up to `delayMs`. */
  readonly slow: number
  readonly delayMs: number
  readonly slowMs: number
}

export const PERFECT_NETWORK: NetworkFaults = { drop: 0, duplicate: 0, slow: 0, delayMs: 2, slowMs: 2 }

const TRACE_LINES = 400

export class World {
  readonly seed: number
  readonly random: Random
  faults: NetworkFaults
  nowMs = 0
  /** Looks at everything after each event; throws if something is wrong. */
  check: () => void = () => undefined
  readonly trace: string[] = []
  readonly #events: Event[] = []
  readonly #cut = new Set<string>()
  #order = 0

  constructor(seed: number, faults: NetworkFaults = PERFECT_NETWORK) {
    this.seed = seed
    this.random = seededRandom(seed)
    this.faults = faults
  }

  log(text: string): void {
    this.trace.push(`${this.nowMs.toFixed(1).padStart(10)} ${text}`)
    if (this.trace.length > TRACE_LINES * 2) this.trace.splice(0, TRACE_LINES)
  }

  chance(part: number): boolean {
    return this.random.next() < part
  }

  between(low: number, high: number): number {
    return low + this.random.next() * (high - low)
  }

  pick<T>(from: readonly T[]): T {
    const one = from[this.random.below(from.length)]
    if (one === undefined) throw new Error('nothing to pick from')
    return one
  }

  at(atMs: number, run: () => void): void {
    const event = { atMs: Math.max(atMs, this.nowMs), order: this.#order++, run }
    // A heap: parents before children.
    const heap = this.#events
    let index = heap.push(event) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!before(event, heap[parent])) break
      heap[index] = heap[parent] ?? event
      index = parent
    }
    heap[index] = event
  }

  after(delayMs: number, run: () => void): void {
    this.at(this.nowMs + delayMs, run)
  }

  /** Lets everything happen up to a time. */
  runUntil(untilMs: number): void {
    while (this.#step(untilMs)) this.check()
    this.nowMs = Math.max(this.nowMs, untilMs)
  }

  /** The same for code that waits for promises: what an event settles has been taken note of before the next. */
  async settleUntil(untilMs: number): Promise<void> {
    while (this.#step(untilMs)) {
      await new Promise(setImmediate)
      this.check()
    }
    this.nowMs = Math.max(this.nowMs, untilMs)
  }

  #step(untilMs: number): boolean {
    const next = this.#events[0]
    if (next === undefined || next.atMs > untilMs) return false
    this.#pop()
    this.nowMs = next.atMs
    next.run()
    return true
  }

  #pop(): void {
    const heap = this.#events
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let index = 0
    for (;;) {
      const left = index * 2 + 1
      const child = before(heap[left + 1], heap[left]) ? left + 1 : left
      const event = heap[child]
      if (event === undefined || !before(event, last)) break
      heap[index] = event
      index = child
    }
    heap[index] = last
  }

  /** No message passes between the two, either way, until `heal`. */
  cut(a: string, b: string): void {
    this.#cut.add(line(a, b))
  }

  heal(): void {
    this.#cut.clear()
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(line(a, b))
  }

  /** How long a message is on its way; null: it gets lost. */
  transit(from: string, to: string): number | null {
    const { drop, slow, delayMs, slowMs } = this.faults
    if (this.isCut(from, to) || this.chance(drop)) return null
    return this.chance(slow) ? this.between(0, slowMs) : this.between(delayMs / 4, delayMs)
  }

  /** A datagram: may be lost, doubled, and overtake others. */
  send(from: string, to: string, deliver: () => void): void {
    const copies = this.chance(this.faults.duplicate) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const delayMs = this.transit(from, to)
      if (delayMs !== null) this.after(delayMs, () => (this.isCut(from, to) ? undefined : deliver()))
    }
  }
}

/** One life of a process: it may be paused, and crash, and its clock runs at its own rate from its own start. */
export class SimProcess {
  readonly id: string
  readonly clock: Clock
  readonly #world: World
  readonly #rate: number
  readonly #offsetMs: number
  #pausedUntilMs = 0
  crashed = false

  /** `rate`: of its clock against the world's. */
  constructor(world: World, id: string, rate: number) {
    this.#world = world
    this.id = id
    this.#rate = rate
    this.#offsetMs = world.between(0, 1e6)
    const monotonicMs = (): number => this.#offsetMs + world.nowMs * rate
    this.clock = { monotonicMs, nowMs: monotonicMs, after: (delayMs, callback) => this.after(delayMs, callback) }
  }

  /** Local time. */
  get nowMs(): number {
    return this.clock.monotonicMs()
  }

  pause(forMs: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#world.nowMs + forMs)
  }

  crash(): void {
    this.crashed = true
  }

  /** Runs now, or when it is awake again; never after a crash. */
  wake(run: () => void): void {
    if (this.crashed) return
    if (this.#pausedUntilMs <= this.#world.nowMs) run()
    else this.#world.at(this.#pausedUntilMs, () => this.wake(run))
  }

  /** `delayMs` by its own clock. */
  after(delayMs: number, run: () => void): () => void {
    let canceled = false
    this.#world.after(delayMs / this.#rate, () => this.wake(() => (canceled ? undefined : run())))
    return () => {
      canceled = true
    }
  }
}

function before(a: Event | undefined, b: Event | undefined): boolean {
  if (a === undefined || b === undefined) return a !== undefined
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

function line(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`
}
