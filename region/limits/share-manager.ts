/**
 * The shares that this node counts: their ledgers in memory, what they granted in coordination.
 *
 *   question -> (open: read, take over) -> ledger -> (write) -> answer
 *
 * M1: a grant is answered once it is stored; a share is written by one at a time, and what waits meanwhile is decided
 *     together with the next write. A write that fails or finds another's leaves the memory of the share void: it is read again.
 * M2: for a share that others may count too, `decideOwner` says who answers; then its leases count from when it was taken.
 * M3: what is stored may be more than what is leased, never less. It is brought down from time to time.
 */
import { z } from 'zod'
import type { Clock } from '../../shared/clock.ts'
import type { Documents } from '../../shared/coordination/types.ts'
import { toCodedError } from '../../shared/errors.ts'
import { LEASE_MAX_MS, LESSEES_PER_SHARE_MAX, LIMIT_QUESTIONS_WAITING_MAX, LINK_MEMBER_ID_MAX_CHARS } from '../../shared/limits.ts'
import type { Log } from '../../shared/log.ts'
import { ShareLedger, type LeaseAnswer, type LeaseQuestion, type StoredLease } from '../../shared/place/share-ledger.ts'
import { decideOwner } from '../../shared/place/share-owner.ts'
import type { Pool, ShareQuota } from '../../shared/place/slot-line.ts'

/** Of coordination. */
export const SHARES_BUCKET = 'shares'

/** Who else may count shares. */
export interface ManagerGroup {
  /** This life of this node, with its region. */
  readonly self: string
  /** Null while its membership does not hold. */
  holds(): boolean
  isAlive(member: string): boolean
  /** It counts for another region, whose nodes nobody here asks. */
  isElsewhere(member: string): boolean
  /** An earlier life of this very process. */
  isFormerSelf(member: string): boolean
}

export interface ShareManagerOptions {
  readonly documents: Documents
  /** Null: nobody but this process counts shares of this store. */
  readonly group: ManagerGroup | null
  /** A lessee whose slots end with this process, so that they need no record; null: none. */
  readonly unrecorded: string | null
  readonly clock: Clock
  readonly log: Log
}

/** Null: this node does not count the share now; `elsewhere`: another region does, and goes on with that. */
export type ShareAnswer = LeaseAnswer | 'elsewhere' | null

interface Waiting {
  readonly question: LeaseQuestion
  readonly quota: () => ShareQuota
  readonly done: (answer: ShareAnswer) => void
}

interface Share {
  readonly key: string
  state: 'opening' | 'ready' | 'writing'
  ledger: ShareLedger
  revision: number
  /** What is stored may be more than what is leased. */
  stored: string
  readonly waiting: Waiting[]
}

const storedSchema = z.strictObject({
  owner: z.string().max(2 * LINK_MEMBER_ID_MAX_CHARS).nullable(),
  leases: z.array(z.strictObject({
    lessee: z.string().max(256), life: z.number(), pool: z.string().max(140).nullable(), number: z.number(),
    slots: z.int().min(0), leaseMs: z.number().min(0).max(LEASE_MAX_MS),
  })).max(LESSEES_PER_SHARE_MAX),
})
type StoredShare = z.infer<typeof storedSchema>

const NOBODYS: StoredShare = { owner: null, leases: [] }
const TIDY_PERIOD_MS = 10_000

export class ShareManager {
  readonly counts = { written: 0, conflicts: 0, failures: 0 }
  readonly #options: ShareManagerOptions
  readonly #log: Log
  readonly #shares = new Map<string, Share>()
  /** The latest life of lessees that have come back. */
  readonly #lives = new Map<string, number>()
  #cancelTidy: (() => void) | null = null
  #closed = false

  private constructor(options: ShareManagerOptions) {
    this.#options = options
    this.#log = options.log.child('shares')
  }

  /** Resolves when what was granted before is known, if nobody else may change it. */
  static async open(options: ShareManagerOptions): Promise<ShareManager> {
    const manager = new ShareManager(options)
    if (options.group === null) await manager.#find()
    manager.#tidyLater()
    return manager
  }

  /** `done` is called before this returns if nothing has to be read or written. */
  ask(account: string, share: number, question: LeaseQuestion, quota: () => ShareQuota, done: (answer: ShareAnswer) => void): void {
    if (this.#closed || this.#options.group?.holds() === false) return done(null)
    const key = keyOf(account, share)
    const entry = this.#shares.get(key) ?? this.#open(key)
    if (entry.waiting.length >= LIMIT_QUESTIONS_WAITING_MAX) return done(null)
    entry.waiting.push({ question, quota, done })
    if (entry.state === 'ready') this.#decide(entry)
  }

  /** Zero of what is not counted here. */
  load(account: string, share: number, pool: Pool): { readonly leased: number; readonly inUse: number } {
    return this.#shares.get(keyOf(account, share))?.ledger.load(pool) ?? { leased: 0, inUse: 0 }
  }

  /** Slots leased in all shares counted here. */
  get leased(): number {
    let leased = 0
    for (const { ledger } of this.#shares.values()) leased += ledger.leased
    return leased
  }

  get count(): number {
    return this.#shares.size
  }

  /** A lessee has begun a new life: what the one before held is free. */
  begin(lessee: string, life: number): void {
    if ((this.#lives.get(lessee) ?? 0) >= life) return
    if (this.#lives.size >= 4 * LESSEES_PER_SHARE_MAX) this.#lives.clear()
    this.#lives.set(lessee, life)
    for (const { ledger } of this.#shares.values()) ledger.begin(lessee, life)
  }

  /** Lets go of shares that `keeps` does not hold for. */
  release(keeps: (account: string, share: number) => boolean): void {
    for (const entry of this.#shares.values()) {
      const [account, share] = partsOf(entry.key)
      if (entry.state !== 'ready' || keeps(account, share)) continue
      // From here on a question reads the store again.
      this.#shares.delete(entry.key)
      void this.#write(entry, { owner: null, leases: [...entry.ledger.leases()] })
    }
  }

  /** Lets go of everything, so that who counts it next need not wait for leases to end. Resolves when that is stored as far as it can be; never rejects. */
  async resign(): Promise<void> {
    this.#closed = true
    if (this.#options.group === null) return
    const ready = [...this.#shares.values()].filter(({ state }) => state === 'ready')
    this.drop()
    await Promise.all(ready.map((entry) => this.#write(entry, { owner: null, leases: [...entry.ledger.leases()] })))
  }

  /** All that this node owned is another one's by now. */
  drop(): void {
    for (const entry of this.#shares.values()) {
      this.#shares.delete(entry.key)
      for (const { done } of entry.waiting.splice(0)) done(null)
    }
  }

  close(): void {
    this.#closed = true
    this.#cancelTidy?.()
    this.drop()
  }

  #open(key: string): Share {
    const { clock, unrecorded, group } = this.#options
    const entry: Share = { key, state: 'opening', ledger: new ShareLedger([], clock.monotonicMs(), { unrecorded }), revision: 0, stored: '[]', waiting: [] }
    this.#shares.set(key, entry)
    if (group !== null) {
      void this.#takeOver(entry, group)
      return entry
    }
    // All that was stored is in memory since the start.
    this.#begin(entry, [], 0)
    return entry
  }

  /** M2. Never rejects. */
  async #takeOver(entry: Share, group: ManagerGroup): Promise<void> {
    const { documents } = this.#options
    try {
      const stored = await documents.get(entry.key)
      const value = stored === null ? NOBODYS : parseStored(stored.value)
      const decision = decideOwner({ owner: value.owner, self: group.self, isFormerSelf: value.owner !== null && group.isFormerSelf(value.owner), isAlive: (member) => group.isAlive(member) })
      if (decision.kind === 'others') {
        this.#void(entry, group.isElsewhere(decision.owner) ? 'elsewhere' : null)
        return
      }
      // Of nothing there is nothing to renew: the first grant makes it this node's.
      const revision = value.leases.length === 0 ? (stored?.revision ?? 0) : await documents.update(entry.key, encode({ owner: group.self, leases: value.leases }), stored?.revision ?? 0)
      if (this.#shares.get(entry.key) !== entry) {
        this.#void(entry)
        return
      }
      this.#begin(entry, value.leases, revision)
      this.#decide(entry)
    } catch (error) {
      this.#failed(entry, error)
    }
  }

  #begin(entry: Share, leases: readonly StoredLease[], revision: number): void {
    entry.ledger = new ShareLedger(leases, this.#options.clock.monotonicMs(), { unrecorded: this.#options.unrecorded })
    for (const { lessee } of leases) {
      const life = this.#lives.get(lessee)
      if (life !== undefined) entry.ledger.begin(lessee, life)
    }
    entry.revision = revision
    entry.stored = JSON.stringify(leases)
    entry.state = 'ready'
  }

  /** M1. */
  #decide(entry: Share): void {
    const nowMs = this.#options.clock.monotonicMs()
    const granted: ((verdict: 'written' | 'failed') => void)[] = []
    for (const { question, quota, done } of entry.waiting.splice(0)) {
      const { answer, mustWrite } = entry.ledger.ask(question, quota(), nowMs)
      if (mustWrite) granted.push((verdict) => done(verdict === 'failed' || this.#options.group?.holds() === false ? null : answer))
      else done(answer)
    }
    if (granted.length === 0) return
    entry.state = 'writing'
    void this.#write(entry, { owner: this.#options.group?.self ?? null, leases: [...entry.ledger.leases()] }).then((verdict) => {
      for (const answer of granted) answer(verdict)
      if (verdict === 'failed') return
      entry.state = 'ready'
      if (entry.waiting.length > 0) this.#decide(entry)
    })
  }

  /** Never rejects. */
  async #write(entry: Share, value: StoredShare): Promise<'written' | 'failed'> {
    const { documents } = this.#options
    try {
      const leases = JSON.stringify(value.leases)
      if (value.leases.length > 0) entry.revision = await documents.update(entry.key, encode(value), entry.revision)
      else {
        await documents.delete(entry.key, entry.revision)
        entry.revision = 0
      }
      entry.stored = leases
      this.counts.written++
      return 'written'
    } catch (error) {
      this.#failed(entry, error)
      return 'failed'
    }
  }

  #failed(entry: Share, error: unknown): void {
    const { code } = toCodedError(error)
    if (code === 'ERR_COORDINATION_CONFLICT') this.counts.conflicts++
    else {
      this.counts.failures++
      this.#log.warn('a share could not be stored', { share: entry.key, code })
    }
    this.#void(entry)
    // Nobody else writes here: it may have been written all the same, so what is there is read.
    if (this.#options.group === null && !this.#closed) void this.#reread(entry.key)
  }

  #void(entry: Share, answer: 'elsewhere' | null = null): void {
    if (this.#shares.get(entry.key) === entry) this.#shares.delete(entry.key)
    for (const { done } of entry.waiting.splice(0)) done(answer)
  }

  /** Until it has been read, the share is opening and questions wait. */
  async #reread(key: string): Promise<void> {
    const { documents, clock, unrecorded } = this.#options
    const entry: Share = { key, state: 'opening', ledger: new ShareLedger([], clock.monotonicMs(), { unrecorded }), revision: 0, stored: '', waiting: [] }
    this.#shares.set(key, entry)
    try {
      const stored = await documents.get(key)
      this.#begin(entry, stored === null ? [] : parseStored(stored.value).leases, stored?.revision ?? 0)
      this.#decide(entry)
    } catch (error) {
      this.#log.error('a share could not be read', { share: key, code: toCodedError(error).code })
      clock.after(TIDY_PERIOD_MS, () => {
        if (this.#closed || this.#shares.get(key) !== entry) return
        this.#void(entry)
        void this.#reread(key)
      })
    }
  }

  /** What was granted before this process began. */
  async #find(): Promise<void> {
    await new Promise<void>((resolve) => {
      const watch = this.#options.documents.watch({
        onDocument: (key, value, revision) => {
          if (value !== null) this.#begin(this.#open(key), parseStored(value).leases, revision)
        },
        onCurrent: () => {
          watch.stop()
          resolve()
        },
      })
    })
  }

  /** M3: what nobody holds any more is forgotten, in memory and in the store. */
  #tidyLater(): void {
    this.#cancelTidy = this.#options.clock.after(TIDY_PERIOD_MS, () => {
      const nowMs = this.#options.clock.monotonicMs()
      for (const entry of [...this.#shares.values()]) {
        if (entry.state !== 'ready') continue
        entry.ledger.expire(nowMs)
        const leases = [...entry.ledger.leases()]
        if (JSON.stringify(leases) === entry.stored) {
          if (entry.ledger.leased === 0) this.#shares.delete(entry.key)
          continue
        }
        entry.state = 'writing'
        void this.#write(entry, { owner: this.#options.group?.self ?? null, leases }).then((verdict) => {
          if (verdict === 'failed') return
          entry.state = 'ready'
          this.#decide(entry)
        })
      }
      if (!this.#closed) this.#tidyLater()
    })
  }
}

export function keyOf(account: string, share: number): string {
  return `${account}/${share}`
}

function partsOf(key: string): readonly [string, number] {
  const slash = key.indexOf('/')
  return [key.slice(0, slash), Number(key.slice(slash + 1))]
}

function encode(value: StoredShare): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

function parseStored(bytes: Uint8Array): StoredShare {
  return storedSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
}
