/**
 * Admission of what this node runs itself: whatever way an invocation came, it counts from here until its run has ended,
 * `waitUntil` work included. What a POP forwards is counted here and not there, so a POP can never make a region run
 * more than its account may.
 *
 * A1: without a slot an invocation waits, in order, at most ADMISSION_WAIT_MS, and only while somebody may give one back.
 * A2: what waited and lost its account's lease meanwhile is refused, not run.
 */
import type { Clock } from '../../shared/clock.ts'
import type { GrantItem, GrantResult } from '../../shared/concurrency/grant-protocol.ts'
import { SlotTable, type SlotPool } from '../../shared/concurrency/slot-table.ts'
import { CodedError } from '../../shared/errors.ts'
import { ADMISSION_WAITING_MAX, ADMISSION_WAIT_MS } from '../../shared/limits.ts'
import { poolOf, type AccountLimits } from '../../shared/place/slot-line.ts'

export interface AdmissionOptions {
  readonly clock: Clock
  readonly limitsOf: (account: string) => AccountLimits
  readonly grant: (item: GrantItem, done: (result: GrantResult) => void) => void
  /** A lease has ended: stops so many runs of the pool. */
  readonly onOver: (pool: SlotPool, count: number) => void
  /** How long this node goes on without an answer of whoever counts. */
  readonly leaseMs: number
}

/** A wait for a slot. `cancel`: nobody wants it any more. */
export interface Wait {
  readonly admitted: Promise<SlotPool>
  cancel(): void
}

interface Waiting {
  readonly untilMs: number
  readonly resolve: (pool: SlotPool) => void
  readonly reject: (error: CodedError) => void
}

/** In this process an answer is there at once; between nodes it is a trip within the region. */
const RENEW_MS = 500
const ANSWER_MS = 3_000
const KEEP_MS = 60_000
const LOOK_MS = 50
const SWEEP_MS = 100

export class Admission {
  readonly counts = { refusedAccount: 0, refusedFunction: 0, waited: 0 }
  readonly #options: AdmissionOptions
  readonly #table: SlotTable
  readonly #waiting = new Map<SlotPool, Waiting[]>()
  #waitingCount = 0

  constructor(options: AdmissionOptions) {
    this.#options = options
    this.#table = new SlotTable({
      clock: options.clock,
      lease: { leaseMs: options.leaseMs, renewMs: RENEW_MS, answerMs: ANSWER_MS, keepMs: KEEP_MS },
      lookMs: LOOK_MS,
      poolOf: (account, functionName) => poolOf(options.limitsOf(account), functionName),
      ask: (items, done) => this.#ask(items, done),
      onOver: options.onOver,
      onAnswered: (pool, result, waiting) => this.#answered(pool, result, waiting),
    })
  }

  get waiting(): number {
    return this.#waitingCount
  }

  stats(): ReturnType<SlotTable['stats']> {
    return this.#table.stats()
  }

  /** A slot, if there is one at hand and nobody waits for it; `leave` of the pool gives it back. */
  enter(account: string, functionName: string): SlotPool | null {
    const pool = this.#table.pool(account, functionName)
    return !this.#waiting.has(pool) && pool.enter() ? pool : null
  }

  /** A1. Rejects with ERR_ACCOUNT_LIMIT, ERR_FUNCTION_LIMIT, ERR_ACCOUNT_ELSEWHERE, ERR_CANCELED. */
  wait(account: string, functionName: string): Wait {
    const pool = this.#table.pool(account, functionName)
    if (this.#waitingCount >= ADMISSION_WAITING_MAX) return { admitted: Promise.reject(this.#refusal(pool, 'full')), cancel() {} }
    const { promise, resolve, reject } = Promise.withResolvers<SlotPool>()
    const waiting: Waiting = { untilMs: this.#options.clock.monotonicMs() + ADMISSION_WAIT_MS, resolve, reject }
    const queue = this.#waiting.get(pool) ?? []
    this.#waiting.set(pool, queue)
    queue.push(waiting)
    this.#waitingCount++
    this.counts.waited++
    pool.setWaiting(queue.length)
    if (this.#waitingCount === 1) this.#sweepLater()
    return {
      admitted: promise,
      cancel: () => {
        if (this.#remove(pool, waiting)) reject(new CodedError('ERR_CANCELED'))
      },
    }
  }

  /** Gives a slot back, to whoever waits for it. */
  leave(pool: SlotPool): void {
    pool.leave()
    if (this.#waiting.has(pool)) this.#admit(pool)
  }

  /** The account's limits have changed. */
  refresh(account: string): void {
    this.#table.refresh(account)
  }

  /** Gives every slot back: nothing runs here any more, and nothing is admitted. */
  resign(): Promise<void> {
    const items = this.#table.resign()
    return new Promise((resolve) => (items.length === 0 ? resolve() : this.#ask(items, () => resolve())))
  }

  close(): void {
    this.#table.close()
    for (const [pool, queue] of this.#waiting) for (const waiting of [...queue]) if (this.#remove(pool, waiting)) waiting.reject(new CodedError('ERR_DRAINING'))
  }

  #ask(items: readonly GrantItem[], done: (results: readonly GrantResult[]) => void): void {
    const results = new Array<GrantResult>(items.length)
    let open = items.length
    items.forEach((item, index) => this.#options.grant(item, (result) => {
      results[index] = result
      if (--open === 0) done(results)
    }))
  }

  #answered(pool: SlotPool, result: GrantResult | null, waiting: number): void {
    this.#admit(pool)
    if (result === null || result.missing === 0) return
    // Nobody has an idle slot either: waiting would bring nothing.
    if (result.recallable === 0) this.#refuse(pool, Math.min(result.missing, waiting), result.elsewhere ? 'elsewhere' : 'full')
  }

  #admit(pool: SlotPool): void {
    const queue = this.#waiting.get(pool)
    if (queue === undefined) return
    while (pool.lease.hasFree) {
      const next = queue[0]
      if (next === undefined || !pool.enter()) break
      this.#remove(pool, next)
      next.resolve(pool)
    }
    const nowMs = this.#options.clock.monotonicMs()
    const late = queue.findIndex(({ untilMs }) => untilMs > nowMs)
    this.#refuse(pool, late === -1 ? queue.length : late, 'full')
  }

  /** A1: also while nobody answers. */
  #sweepLater(): void {
    this.#options.clock.after(SWEEP_MS, () => {
      for (const pool of [...this.#waiting.keys()]) this.#admit(pool)
      if (this.#waitingCount > 0) this.#sweepLater()
    })
  }

  /** The first `count` of those who wait. */
  #refuse(pool: SlotPool, count: number, why: 'full' | 'elsewhere'): void {
    for (const waiting of this.#waiting.get(pool)?.slice(0, count) ?? []) if (this.#remove(pool, waiting)) waiting.reject(this.#refusal(pool, why))
  }

  #remove(pool: SlotPool, waiting: Waiting): boolean {
    const queue = this.#waiting.get(pool)
    const index = queue?.indexOf(waiting) ?? -1
    if (queue === undefined || index === -1) return false
    queue.splice(index, 1)
    this.#waitingCount--
    if (queue.length === 0) this.#waiting.delete(pool)
    pool.setWaiting(queue.length)
    return true
  }

  #refusal({ account, pool }: SlotPool, why: 'full' | 'elsewhere'): CodedError {
    const { maximum, reserved } = this.#options.limitsOf(account)
    if (pool === null || why === 'elsewhere') {
      this.counts.refusedAccount++
      if (why === 'elsewhere') return new CodedError('ERR_ACCOUNT_ELSEWHERE', [maximum])
      return new CodedError('ERR_ACCOUNT_LIMIT', [maximum])
    }
    this.counts.refusedFunction++
    return new CodedError('ERR_FUNCTION_LIMIT', [pool, reserved.get(pool) ?? 0])
  }
}
