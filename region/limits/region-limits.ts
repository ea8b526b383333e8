/**
 * Concurrency limits of a region's node, put together: what accounts may run (AccountBook), the shares counted here
 * (ShareManager), the way of a question through them (Grants), admission of what runs here, and POPs that lease.
 */
import type { Clock } from '../../shared/clock.ts'
import { GRANT_TOPIC, grantQuestionSchema, type GrantItem, type GrantResult } from '../../shared/concurrency/grant-protocol.ts'
import type { SlotPool } from '../../shared/concurrency/slot-table.ts'
import type { Coordination } from '../../shared/coordination/types.ts'
import { CodedError } from '../../shared/errors.ts'
import { LEASE_MAX_MS, LINK_CONNECTIONS_MAX } from '../../shared/limits.ts'
import type { TopicTable } from '../../shared/link/topics.ts'
import type { LinkPeer } from '../../shared/link/types.ts'
import type { Log } from '../../shared/log.ts'
import type { Peers } from '../../shared/peers/types.ts'
import { poolOf } from '../../shared/place/slot-line.ts'
import type { Random } from '../../shared/random.ts'
import type { SandboxHost } from '../../shared/worker/types.ts'
import { AccountBook, ACCOUNTS_BUCKET } from '../../shared/concurrency/account-book.ts'
import { Admission } from './admission.ts'
import { Grants } from './grants.ts'
import { SHARES_BUCKET, ShareManager, type ManagerGroup } from './share-manager.ts'

export interface RegionLimitsOptions {
  readonly coordination: Coordination
  /** The other nodes of the region; null: this process is the region. */
  readonly nodes: { readonly group: ManagerGroup; readonly peers: Peers } | null
  readonly host: Pick<SandboxHost, 'stopRuns'>
  /** Which functions a POP may have; they are there. */
  readonly allows: (popId: string, account: string, functionName: string) => boolean
  readonly defaultConcurrency: number
  readonly concurrencyOf: (account: string) => number | null
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly shareSlots?: number
}

/** How long a node runs what it admitted without an answer of whoever counts: a manager that dies is followed by another within 8 s. */
const NODE_LEASE_MS = 20_000

export class RegionLimits {
  readonly book: AccountBook
  readonly admission: Admission
  readonly grants: Grants
  readonly manager: ShareManager
  readonly #options: RegionLimitsOptions
  readonly #log: Log
  /** Lives of POPs that have asked. */
  readonly #lives = new Map<string, number>()
  readonly #life: number

  private constructor(options: RegionLimitsOptions, book: AccountBook, manager: ShareManager) {
    const { clock, random, log, nodes, shareSlots } = options
    this.#options = options
    this.#log = log.child('limits')
    this.#life = Math.floor(clock.nowMs())
    this.book = book
    this.manager = manager
    this.grants = new Grants({ book, manager, peers: nodes?.peers ?? null, clock, random, log, ...(shareSlots === undefined ? {} : { shareSlots }) })
    this.admission = new Admission({
      clock,
      limitsOf: (account) => book.limitsOf(account),
      grant: (item, done) => this.grants.grant(this.#self, this.#life, item, done),
      onOver: (pool, count) => this.#stopRuns(pool, count),
      // What this process counts itself it cannot lose.
      leaseMs: nodes === null ? LEASE_MAX_MS : NODE_LEASE_MS,
    })
    book.onChange((account) => this.admission.refresh(account))
  }

  static async open(options: RegionLimitsOptions): Promise<RegionLimits> {
    const { coordination, nodes, clock, log } = options
    const book = await AccountBook.open({ documents: await coordination.documents(ACCOUNTS_BUCKET), defaultConcurrency: options.defaultConcurrency, concurrencyOf: options.concurrencyOf, log })
    const manager = await ShareManager.open({ documents: await coordination.documents(SHARES_BUCKET), group: nodes?.group ?? null, unrecorded: nodes === null ? SOLE_NODE : null, clock, log })
    return new RegionLimits(options, book, manager)
  }

  /** Opens the questions of POPs. */
  answer(topics: TopicTable): void {
    topics.handle(GRANT_TOPIC, ['pop'], (peer, payload) => this.#onQuestion(peer, payload))
  }

  /** For others to have at once what this node holds and counts: nothing runs here any more. Never rejects. */
  async resign(): Promise<void> {
    await this.admission.resign()
    await this.manager.resign()
  }

  close(): void {
    this.admission.close()
    this.grants.close()
    this.manager.close()
    this.book.close()
  }

  get #self(): string {
    return this.#options.nodes === null ? SOLE_NODE : `node:${this.#options.nodes.peers.self}`
  }

  #stopRuns({ account, pool }: SlotPool, count: number): void {
    const stopped = this.#options.host.stopRuns((build) => build.account === account && poolOf(this.book.limitsOf(account), build.functionName) === pool, count)
    this.#log.warn('leased slots were not renewed in time, and what ran in them is stopped', { account, function: pool, stopped })
  }

  #onQuestion({ popId }: LinkPeer, payload: unknown): Promise<{ readonly items: readonly GrantResult[] }> {
    const parsed = grantQuestionSchema.safeParse(payload)
    if (!parsed.success) throw new CodedError('ERR_LINK_PROTOCOL', [`not a question for slots: ${parsed.error.issues[0]?.message ?? ''}`])
    const { life, items } = parsed.data
    const lessee = `pop:${popId}`
    this.#begin(lessee, life)
    const results = items.map((item) => new Promise<GrantResult>((resolve) => {
      // What it has it may keep and give back; new slots are for who may run something of the account.
      // A reserved function has a pool of its own, which is for nobody who may run another one only.
      const allowed = this.#options.allows(popId, item.account, item.functionName) && (item.pool === null || item.pool === item.functionName)
      const asked = allowed ? item : { ...item, question: { ...item.question, need: 0, spare: 0 } }
      this.grants.grant(lessee, life, asked, (result) => resolve(this.#shown(popId, item, allowed ? result : { ...result, reservations: null })))
    }))
    return Promise.all(results).then((answered) => ({ items: answered }))
  }

  /** A POP is told names of functions that it may have, and no others. */
  #shown(popId: string, { account }: GrantItem, result: GrantResult): GrantResult {
    if (result.reservations === null) return result
    const { revision, functions } = result.reservations
    return { ...result, reservations: { revision, functions: functions.filter((name) => this.#options.allows(popId, account, name)) } }
  }

  /** The process that had this POP's name before is over: what it held is free. */
  #begin(lessee: string, life: number): void {
    const before = this.#lives.get(lessee)
    if (before !== undefined && before >= life) return
    if (this.#lives.size >= 4 * LINK_CONNECTIONS_MAX) this.#lives.clear()
    this.#lives.set(lessee, life)
    this.grants.begin(lessee, life)
  }
}

/** As a lessee of itself. */
const SOLE_NODE = 'self'
