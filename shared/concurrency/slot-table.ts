/**
 * The slots that a process has leased for the accounts whose functions it runs: a pool for each account, and one for
 * each function with a reservation. Counts locally; asks whoever grants in the background, many pools in one question.
 *
 * T1: which pool a function is in is what the last answer about its account said. One that runs stays in the pool that
 *     it was admitted to.
 * T2: pools without slots and without use are forgotten, so strangers cannot fill the table with names.
 */
import type { Clock } from '../clock.ts'
import { SLOT_POOLS_MAX } from '../limits.ts'
import { SlotLease, type SlotLeaseOptions } from '../place/slot-lease.ts'
import type { Pool } from '../place/slot-line.ts'
import type { GrantItem, GrantResult } from './grant-protocol.ts'

export interface SlotTableOptions {
  readonly clock: Clock
  readonly lease: Omit<SlotLeaseOptions, 'nextNumber'>
  /** Between two looks at all pools; what is wanted at once is asked at the end of the turn. */
  readonly lookMs: number
  /** Which pool a function is in, for who knows it better than by answers. */
  readonly poolOf?: (account: string, functionName: string) => Pool
  /** Asks for slots. `done` with null: nobody answered. May be called before it returns, at most once. */
  readonly ask: (items: readonly GrantItem[], done: (results: readonly GrantResult[] | null) => void) => void
  /** A lease has ended: this many of the pool's invocations have no slot any more and must be stopped. */
  readonly onOver: (pool: SlotPool, count: number) => void
  /** An answer has come; `asked` is how many waited when it was asked for. */
  readonly onAnswered?: (pool: SlotPool, result: GrantResult | null, asked: number) => void
}

/** One pool as invocations take slots of it. */
export class SlotPool {
  readonly account: string
  readonly pool: Pool
  readonly lease: SlotLease
  /** A function of it that was asked for lately, for questions. */
  functionName: string
  readonly #clock: Clock
  readonly #wake: (pool: SlotPool) => void

  constructor(account: string, pool: Pool, functionName: string, lease: SlotLease, clock: Clock, wake: (pool: SlotPool) => void) {
    this.account = account
    this.pool = pool
    this.functionName = functionName
    this.lease = lease
    this.#clock = clock
    this.#wake = wake
  }

  /** What was let in runs without a slot by now. */
  get isOver(): boolean {
    return this.lease.isOver(this.#clock.monotonicMs())
  }

  /** True: one more may run, and `leave` has to be called when it has ended. */
  enter(): boolean {
    const entered = this.lease.take(this.#clock.monotonicMs())
    if (this.lease.wantsToAsk) this.#wake(this)
    return entered
  }

  leave(): void {
    this.lease.release()
    if (this.lease.wantsToAsk) this.#wake(this)
  }

  /** Something of it may be asked for soon: have a slot ready. */
  expect(): void {
    this.lease.expect()
    if (this.lease.wantsToAsk) this.#wake(this)
  }

  setWaiting(count: number): void {
    this.lease.setWaiting(count)
    if (this.lease.wantsToAsk) this.#wake(this)
  }
}

interface Account {
  readonly pools: Map<Pool, SlotPool>
  revision: number
  reserved: ReadonlySet<string>
}

const NONE: ReadonlySet<string> = new Set()

export class SlotTable {
  readonly counts = { questions: 0, unanswered: 0 }
  readonly #options: SlotTableOptions
  readonly #accounts = new Map<string, Account>()
  readonly #leaseOptions: SlotLeaseOptions
  #pools = 0
  #number = 0
  readonly #awake = new Set<SlotPool>()
  #closed = false
  #cancelLook: (() => void) | null = null
  /** Grows whenever a function may have come into another pool: who keeps a pool looks at it. */
  generation = 0

  constructor(options: SlotTableOptions) {
    this.#options = options
    this.#leaseOptions = { ...options.lease, nextNumber: () => ++this.#number }
    this.#lookLater()
  }

  /** The pool of a function as far as is known. It may be kept until `generation` changes. */
  pool(account: string, functionName: string): SlotPool {
    const known = this.#accounts.get(account)
    const pool = this.#options.poolOf === undefined ? (known?.reserved.has(functionName) === true ? functionName : null) : this.#options.poolOf(account, functionName)
    const made = known?.pools.get(pool)
    if (made === undefined) return this.#make(account, pool, functionName)
    made.functionName = functionName
    return made
  }

  /** Slots held and in use, of all pools; costs a pass over them. */
  stats(): { readonly pools: number; readonly held: number; readonly inUse: number } {
    let held = 0
    let inUse = 0
    for (const { pools } of this.#accounts.values()) {
      for (const { lease } of pools.values()) {
        held += lease.held
        inUse += lease.inUse
      }
    }
    return { pools: this.#pools, held, inUse }
  }

  /** The reservations of an account have changed: ask for everything anew. */
  refresh(account: string): void {
    for (const pool of this.#accounts.get(account)?.pools.values() ?? []) {
      pool.lease.renewNow()
      this.#wake(pool)
    }
  }

  /** Asks about every pool that holds something: whoever grants may have begun anew. */
  refreshAll(): void {
    for (const account of this.#accounts.keys()) this.refresh(account)
  }

  /** Gives every slot back; returns what to say. Nothing is asked for any more. */
  resign(): GrantItem[] {
    this.close()
    const items: GrantItem[] = []
    for (const { pools, revision } of this.#accounts.values()) {
      for (const { account, functionName, pool, lease } of pools.values()) {
        const question = lease.resign()
        if (question !== null) items.push({ account, functionName, pool, revision, question })
      }
    }
    return items
  }

  close(): void {
    this.#closed = true
    this.#cancelLook?.()
  }

  #make(accountName: string, pool: Pool, functionName: string): SlotPool {
    if (this.#pools >= SLOT_POOLS_MAX) this.#forgetIdle()
    let account = this.#accounts.get(accountName)
    if (account === undefined) {
      account = { pools: new Map(), revision: -1, reserved: NONE }
      this.#accounts.set(accountName, account)
    }
    const made = new SlotPool(accountName, pool, functionName, new SlotLease(this.#leaseOptions), this.#options.clock, this.#wake)
    account.pools.set(pool, made)
    this.#pools++
    return made
  }

  /** T2. */
  #forgetIdle(): void {
    this.generation++
    for (const [name, { pools }] of this.#accounts) {
      for (const [key, { lease }] of pools) {
        if (lease.isIdle && pools.delete(key)) this.#pools--
      }
      if (pools.size === 0) this.#accounts.delete(name)
    }
  }

  /** What is wanted is asked at once: the next invocation may need it. Many in one turn are one question. */
  readonly #wake = (pool: SlotPool): void => {
    if (this.#closed) return
    this.#awake.add(pool)
    if (this.#awake.size > 1) return
    queueMicrotask(() => {
      const pools = [...this.#awake]
      this.#awake.clear()
      if (!this.#closed) this.#ask(pools.filter(({ lease }) => lease.wantsToAsk))
    })
  }

  #lookLater(): void {
    this.#cancelLook = this.#options.clock.after(this.#options.lookMs, () => {
      const nowMs = this.#options.clock.monotonicMs()
      const pools = [...this.#accounts.values()].flatMap((account) => [...account.pools.values()])
      for (const pool of pools) {
        const over = pool.lease.tick(nowMs)
        if (over > 0) this.#options.onOver(pool, over)
      }
      this.#ask(pools)
      if (!this.#closed) this.#lookLater()
    })
  }

  #ask(pools: readonly SlotPool[]): void {
    const nowMs = this.#options.clock.monotonicMs()
    const asked: { readonly pool: SlotPool; readonly item: GrantItem; readonly waiting: number }[] = []
    for (const pool of pools) {
      const question = pool.lease.question(nowMs)
      if (question === null) continue
      const revision = this.#accounts.get(pool.account)?.revision ?? -1
      asked.push({ pool, item: { account: pool.account, functionName: pool.functionName, pool: pool.pool, revision, question }, waiting: pool.lease.waiting })
    }
    if (asked.length === 0) return
    this.counts.questions++
    const settle = (results: readonly GrantResult[] | null): void => asked.forEach(({ pool, item, waiting }, index) => this.#answered(pool, item, results?.[index] ?? null, waiting))
    this.#options.ask(asked.map(({ item }) => item), settle)
  }

  #answered(pool: SlotPool, { question }: GrantItem, result: GrantResult | null, waiting: number): void {
    const { clock, onAnswered } = this.#options
    const nowMs = clock.monotonicMs()
    if (result?.reservations != null) this.#learn(pool.account, result.reservations)
    if (result?.answer == null) {
      this.counts.unanswered++
      pool.lease.failed(question.number, nowMs)
    } else pool.lease.answered(result.answer, nowMs)
    onAnswered?.(pool, result, waiting)
    if (pool.lease.wantsToAsk && !pool.lease.isThrottled(nowMs)) this.#wake(pool)
  }

  /** T1. */
  #learn(accountName: string, { revision, functions }: NonNullable<GrantResult['reservations']>): void {
    const account = this.#accounts.get(accountName)
    if (account === undefined || revision === account.revision) return
    account.revision = revision
    account.reserved = new Set(functions)
    this.generation++
  }
}
