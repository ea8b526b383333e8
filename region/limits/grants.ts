/**
 * How this node grants slots: takes the questions of POPs, of its own front door and of other nodes' ledgers' askers, and
 * leads each through the managers of the account (GrantRound). A frontend of system 13 is this, not a POP: a POP
 * knows no managers.
 *
 *   POP, own admission -> grant() -> share by share: own ShareManager, or the node that counts it (topic `limit.share`)
 *   set views <-> other nodes (topic `limit.views`), loads (topic `limit.load`), new lives of POPs (topic `limit.begin`)
 */
import { z } from 'zod'
import type { Clock } from '../../shared/clock.ts'
import type { GrantItem, GrantResult } from '../../shared/concurrency/grant-protocol.ts'
import { LIMIT_SETS_MAX, SHARE_SLOTS } from '../../shared/limits.ts'
import type { Log } from '../../shared/log.ts'
import type { Peers } from '../../shared/peers/types.ts'
import { GrantRound } from '../../shared/place/grant-round.ts'
import { GOSSIP_FANOUT, GOSSIP_PERIOD_MS, LimitSets, type LimitEvent, type SetView, type ShareLoad } from '../../shared/place/limit-set.ts'
import type { LeaseQuestion } from '../../shared/place/share-ledger.ts'
import { managersOf, quotaOf, sharesOf, type Pool } from '../../shared/place/slot-line.ts'
import type { Random } from '../../shared/random.ts'
import type { AccountBook } from '../../shared/concurrency/account-book.ts'
import type { ShareAnswer, ShareManager } from './share-manager.ts'

export interface GrantsOptions {
  readonly book: AccountBook
  readonly manager: ShareManager
  /** Other nodes that count shares; null: none. */
  readonly peers: Peers | null
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Default SHARE_SLOTS; tests take smaller ones. */
  readonly shareSlots?: number
}

const SHARE_TOPIC = 'limit.share'
const VIEWS_TOPIC = 'limit.views'
const LOAD_TOPIC = 'limit.load'
const BEGIN_TOPIC = 'limit.begin'
const ASK_MS = 1_000
/** Views in one message. */
const VIEWS_MAX = 1_000
/** A pool that is full is told once in this time. */
const THROTTLE_LOG_PERIOD_MS = 1_000
const MANAGERS_KNOWN_MAX = 20_000

const count = z.int().min(0)
const name = z.string().min(1).max(256)
const pool = name.nullable()
const leaseQuestion = z.strictObject({ lessee: name, life: count, pool, number: count, held: count, inUse: count, need: count, spare: count, leaseMs: z.number().min(0) })
const shareQuestionSchema = z.strictObject({ account: name, share: count, question: leaseQuestion })
const shareAnswerSchema = z.strictObject({ number: count, slots: count, validMs: z.number().min(0), give: count, scarce: z.boolean(), recallable: count }).or(z.literal('elsewhere')).nullable()
const viewsSchema = z.array(z.strictObject({ account: name, pool, size: z.int().min(1), version: count, origin: z.string().max(256) })).max(VIEWS_MAX)
const loadQuestionSchema = z.strictObject({ account: name, pool, share: count })
const loadSchema = z.strictObject({ inUse: count, quota: count })
const beginSchema = z.strictObject({ lessee: name, life: count })

export class Grants {
  readonly counts = { raise: 0, lower: 0, throttle: 0, replace: 0, rounds: 0 }
  readonly #options: GrantsOptions
  readonly #shareSlots: number
  readonly #log: Log
  readonly #sets: LimitSets
  readonly #throttledAtMs = new Map<string, number>()
  /** Who was asked for a share last, to tell of replacements. */
  readonly #managers = new Map<string, string>()
  #cancelRound: (() => void) | null = null
  #closed = false

  constructor(options: GrantsOptions) {
    this.#options = options
    this.#shareSlots = options.shareSlots ?? SHARE_SLOTS
    this.#log = options.log.child('limits')
    this.#sets = new LimitSets({ self: options.peers?.self ?? 'self', setsMax: LIMIT_SETS_MAX, onEvent: (event) => this.#onEvent(event) })
    this.#handlePeers()
    this.#roundLater()
  }

  /** Pools whose set is kept in mind. */
  get sets(): number {
    return this.#sets.count
  }

  /** The account's current limit, for pools without a reservation: never more than its maximum. */
  currentLimit(account: string): number {
    return Math.min(this.#options.book.limitsOf(account).maximum, this.#sets.size(account, null) * this.#shareSlots)
  }

  /** One pool's question. `done` is called once, before this returns if no other node and no store has to be asked. */
  grant(lessee: string, life: number, item: GrantItem, done: (result: GrantResult) => void): void {
    const { book, clock } = this.#options
    const { account, pool, question } = item
    const limits = book.limitsOf(account)
    this.counts.rounds++
    const round = new GrantRound({ sets: this.#sets, limits, shareSlots: this.#shareSlots, account, pool, lessee, life, question, nowMs: clock.monotonicMs() })
    let over = false
    const step = (): void => {
      for (const { share, question: asked } of round.next()) {
        this.#askShare(account, share, asked, (answer) => {
          round.answered(share, answer)
          step()
        })
      }
      if (over || !round.isOver) return
      over = true
      this.#tell(this.#sets.changes())
      const { missing, recallable, elsewhere } = round
      const reservations = limits.revision === item.revision ? null : { revision: limits.revision, functions: [...limits.reserved.keys()] }
      done({ reservations, answer: round.result(), missing, recallable, elsewhere })
    }
    step()
  }

  /** A lessee has begun a new life: here and at the other nodes. */
  begin(lessee: string, life: number): void {
    const { manager, peers } = this.#options
    manager.begin(lessee, life)
    for (const { memberId } of peers?.members() ?? []) void this.#askPeer(memberId, BEGIN_TOPIC, { lessee, life })
  }

  close(): void {
    this.#closed = true
    this.#cancelRound?.()
  }

  #askShare(account: string, share: number, question: LeaseQuestion, done: (answer: ShareAnswer) => void): void {
    const id = this.#managerOf(account, share, question.pool)
    if (id === null) return this.#askHere(account, share, question, done)
    void this.#askPeer(id, SHARE_TOPIC, { account, share, question }).then((reply) => {
      const parsed = shareAnswerSchema.safeParse(reply)
      done(parsed.success ? parsed.data : null)
    })
  }

  #askHere(account: string, share: number, question: LeaseQuestion, done: (answer: ShareAnswer) => void): void {
    const { book, manager } = this.#options
    manager.ask(account, share, question, () => quotaOf(book.limitsOf(account), this.#shareSlots, share), done)
  }

  /** Null: this node. */
  #managerOf(account: string, share: number, pool: Pool): string | null {
    const { peers } = this.#options
    if (peers === null) return null
    const members = peers.members()
    const ids = [peers.self, ...members.flatMap(({ memberId, info }) => (info.state === 'joining' ? [] : [memberId]))]
    const id = managersOf(ids, account, share)[0] ?? peers.self
    const key = `${account}/${share}`
    const before = this.#managers.get(key)
    if (before !== id) {
      if (this.#managers.size >= MANAGERS_KNOWN_MAX) this.#managers.clear()
      this.#managers.set(key, id)
      if (before !== undefined && !ids.includes(before)) this.#sets.replaced(account, pool, share, before)
    }
    return id === peers.self ? null : id
  }

  /** Null: no answer that is one. Never rejects. */
  async #askPeer(memberId: string, topic: string, payload: unknown): Promise<unknown> {
    try {
      return await this.#options.peers?.ask(memberId, topic, payload, ASK_MS)
    } catch {
      // Unreachable or lost: who asked goes on without it.
      return null
    }
  }

  #handlePeers(): void {
    const { peers, manager, book, clock } = this.#options
    if (peers === null) return
    peers.handle(SHARE_TOPIC, (_from, payload) => {
      const { account, share, question } = shareQuestionSchema.parse(payload)
      return new Promise<ShareAnswer>((resolve) => this.#askHere(account, share, question, resolve))
    })
    peers.handle(VIEWS_TOPIC, (_from, payload) => {
      for (const view of viewsSchema.parse(payload)) this.#sets.heard(view, clock.monotonicMs())
      return null
    })
    peers.handle(LOAD_TOPIC, (_from, payload) => {
      const { account, pool, share } = loadQuestionSchema.parse(payload)
      return { inUse: manager.load(account, share, pool).inUse, quota: quotaOf(book.limitsOf(account), this.#shareSlots, share).of(pool) }
    })
    peers.handle(BEGIN_TOPIC, (_from, payload) => {
      const { lessee, life } = beginSchema.parse(payload)
      manager.begin(lessee, life)
      return null
    })
  }

  /** Changes at once, and everything now and then: who missed a message hears of it so. */
  #tell(views: readonly SetView[]): void {
    const { peers, random } = this.#options
    if (peers === null || views.length === 0) return
    const others = peers.members().map(({ memberId }) => memberId)
    for (let told = 0; told < GOSSIP_FANOUT && others.length > 0; told++) {
      const [memberId] = others.splice(random.below(others.length), 1)
      if (memberId !== undefined) void this.#askPeer(memberId, VIEWS_TOPIC, views.slice(0, VIEWS_MAX))
    }
  }

  #roundLater(): void {
    this.#cancelRound = this.#options.clock.after(GOSSIP_PERIOD_MS, () => {
      const { clock, peers, manager } = this.#options
      // A node that is first no longer lets go of what it counts.
      if (peers !== null) manager.release((account, share) => this.#managerOf(account, share, null) === null)
      this.#tell(this.#sets.views(clock.monotonicMs(), VIEWS_MAX))
      // `#lower` never rejects.
      for (const { account, pool, size } of this.#sets.toLower(clock.monotonicMs())) void this.#lower(account, pool, size)
      if (!this.#closed) this.#roundLater()
    })
  }

  async #lower(account: string, pool: Pool, size: number): Promise<void> {
    const { book, clock } = this.#options
    const limits = book.limitsOf(account)
    const shares = sharesOf(limits, this.#shareSlots, pool).slice(0, size)
    const loads = await Promise.all(shares.map(async (share): Promise<ShareLoad> => {
      const quota = quotaOf(limits, this.#shareSlots, share).of(pool)
      const id = this.#managerOf(account, share, pool)
      if (id === null) return { inUse: this.#options.manager.load(account, share, pool).inUse, quota }
      const parsed = loadSchema.safeParse(await this.#askPeer(id, LOAD_TOPIC, { account, pool, share }))
      return parsed.success ? parsed.data : { inUse: quota, quota }
    }))
    this.#sets.lower(account, pool, loads, clock.monotonicMs())
    this.#tell(this.#sets.changes())
  }

  #onEvent(event: LimitEvent): void {
    this.counts[event.kind]++
    const { account, pool } = event
    if (event.kind === 'replace') {
      this.#log.info('limit', { decision: event.kind, account, function: pool, share: event.share, manager: event.manager })
      return
    }
    if (event.kind === 'throttle' && !this.#mayTellThrottle(account, pool)) return
    const { maximum } = this.#options.book.limitsOf(account)
    this.#log.info('limit', { decision: event.kind, account, function: pool, limit: Math.min(maximum, event.size * this.#shareSlots), maximum, version: event.version })
  }

  #mayTellThrottle(account: string, pool: Pool): boolean {
    const key = `${account}/${pool ?? ''}`
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs - (this.#throttledAtMs.get(key) ?? Number.NEGATIVE_INFINITY) < THROTTLE_LOG_PERIOD_MS) return false
    if (this.#throttledAtMs.size >= LIMIT_SETS_MAX) this.#throttledAtMs.clear()
    this.#throttledAtMs.set(key, nowMs)
    return true
  }
}
