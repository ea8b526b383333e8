/**
 * How many of an account's invocations this POP may run itself: slots leased from a region, counted here. What it forwards
 * is counted by the region that runs it.
 *
 * A1: without a slot at hand a call is forwarded, not held up: the next one finds the slot that was asked for meanwhile.
 * A2: a lease lasts `staleMax` and the time in which a silent link is found out, so a POP that is cut off goes on with
 *     what it had for as long as it serves anything, and never with more; when it ends,
 *     what still runs is stopped, because the region gives the slots to others then.
 */
import type { Clock } from '../shared/clock.ts'
import { GRANT_TOPIC, grantAnswerSchema, inBatches, type GrantItem, type GrantResult } from '../shared/concurrency/grant-protocol.ts'
import { SlotTable, type SlotPool } from '../shared/concurrency/slot-table.ts'
import { LEASE_MAX_MS, LINK_SILENCE_MAX_MS } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { FunctionEntry } from './functions.ts'
import type { RegionLink } from './region-link.ts'

export interface AccountSlotsOptions {
  readonly link: Pick<RegionLink, 'state' | 'onState' | 'ask'>
  readonly host: Pick<SandboxHost, 'stopRuns'>
  readonly clock: Clock
  readonly log: Log
  readonly staleMaxMs: number
}

/** What is called back for others comes with the answer to a renewal: so long a call may wait for it elsewhere. */
const RENEW_MS = 1_000
const ANSWER_MS = 5_000
const LOOK_MS = 250
/** A slot is kept at hand for an account whose functions were asked for in this time: else a call now and then would always be forwarded. */
const KEEP_MS = 600_000
/** From a region's last renewal until its silence is noticed. */
const FOUND_OUT_MS = LINK_SILENCE_MAX_MS + 2 * RENEW_MS
/** A lease has to outlast some renewals that are lost. */
const LEASE_MIN_MS = 5_000

export class AccountSlots {
  readonly #options: AccountSlotsOptions
  readonly #log: Log
  readonly #table: SlotTable
  readonly #life: number
  readonly #unlisten: () => void

  constructor(options: AccountSlotsOptions) {
    const { link, clock, staleMaxMs } = options
    this.#options = options
    this.#log = options.log.child('slots')
    this.#life = Math.floor(clock.nowMs())
    this.#table = new SlotTable({
      clock,
      lease: { leaseMs: Math.min(LEASE_MAX_MS, Math.max(LEASE_MIN_MS, staleMaxMs + FOUND_OUT_MS)), renewMs: RENEW_MS, answerMs: ANSWER_MS, keepMs: KEEP_MS },
      lookMs: LOOK_MS,
      ask: (items, done) => this.#ask(items, done),
      onOver: (pool, count) => this.#stopRuns(pool, count),
    })
    this.#unlisten = link.onState((state) => {
      if (state.kind === 'open') this.#connected()
    })
  }

  /** Pool of a function: kept with its entry as long as nothing has changed, for it is looked up with every call. */
  poolOf(entry: FunctionEntry): SlotPool {
    if (entry.slots !== null && entry.slotsGeneration === this.#table.generation) return entry.slots
    entry.slots = this.#table.pool(entry.account.account, entry.name)
    entry.slotsGeneration = this.#table.generation
    return entry.slots
  }

  stats(): ReturnType<SlotTable['stats']> {
    return this.#table.stats()
  }

  get counts(): SlotTable['counts'] {
    return this.#table.counts
  }

  /** Gives everything back: nothing runs here any more. Never rejects. */
  async resign(): Promise<void> {
    await new Promise<void>((resolve) => {
      const items = this.#table.resign()
      if (items.length === 0) resolve()
      else this.#ask(items, () => resolve())
    })
  }

  close(): void {
    this.#unlisten()
    this.#table.close()
  }

  /** The region may have begun anew, or be another one; and it is told that a process of this name before this one is over. */
  #connected(): void {
    this.#options.link.ask(GRANT_TOPIC, { life: this.#life, items: [] }, ANSWER_MS).catch(() => undefined /* Each question says it again. */)
    this.#table.refreshAll()
  }

  #ask(items: readonly GrantItem[], done: (results: readonly GrantResult[] | null) => void): void {
    if (this.#options.link.state.kind !== 'open') return done(null)
    // Neither rejects.
    void Promise.all(inBatches(items).map((batch) => this.#askBatch(batch))).then((answers) => done(answers.flat()))
  }

  /** Nobody has answered: each item's answer is none. */
  async #askBatch(items: readonly GrantItem[]): Promise<readonly GrantResult[]> {
    try {
      const { items: results } = grantAnswerSchema.parse(await this.#options.link.ask(GRANT_TOPIC, { life: this.#life, items }, ANSWER_MS))
      if (results.length === items.length) return results
    } catch {
      // As below. A region that is away is told of by the link.
    }
    return items.map(() => ({ reservations: null, answer: null, missing: 0, recallable: 0, elsewhere: false }))
  }

  /** A2. */
  #stopRuns(pool: SlotPool, count: number): void {
    const stopped = this.#options.host.stopRuns(({ account, functionName }) => account === pool.account && this.#table.pool(account, functionName) === pool, count)
    this.#log.warn('leased slots were not renewed in time, and what ran in them is stopped', { account: pool.account, function: pool.pool, stopped })
  }
}
