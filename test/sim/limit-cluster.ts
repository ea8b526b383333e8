/**
 * Managers, frontends and a network in one process, for the rules of concurrency limits. Everything happens at a time of
 * one manual clock, in an order that follows from the seed. Faults that may be switched on: loss, duplicates and delay of
 * messages, questions to a manager that is not in charge, partitions, death and restart of managers and frontends, late writes
 * of the store, and such that are lost with who writes.
 *
 * After every event the sum of running invocations is compared with the maximum.
 */
import { ManualClock } from '../../shared/clock.ts'
import { GrantRound } from '../../shared/place/grant-round.ts'
import { GOSSIP_FANOUT, GOSSIP_PERIOD_MS, LimitSets, type LimitEvent, type SetView } from '../../shared/place/limit-set.ts'
import { ShareLedger, type LeaseAnswer, type LeaseQuestion, type StoredLease } from '../../shared/place/share-ledger.ts'
import { decideOwner } from '../../shared/place/share-owner.ts'
import { managersOf, quotaOf, sharesOf, type AccountLimits, type Pool } from '../../shared/place/slot-line.ts'
import { SlotLease } from '../../shared/place/slot-lease.ts'
import { seededRandom, type Random } from '../../shared/random.ts'

export const ACCOUNT = 'acme'
const ANSWER_MS = 800
const MEMBER_TTL_MS = 6_000
const MEMBER_MARGIN_MS = 2_000

/** One rule broken on purpose. */
export interface LimitFault {
  /** O3: what is found in the store is not counted. */
  readonly forgetsLeases?: boolean
  /** O2: a share is taken from whoever has it, and what that one writes is written over. */
  readonly ownsTwice?: boolean
  /** H3: what runs goes on when its lease has ended. */
  readonly runsOn?: boolean
  /** S2: a lease ends here that much before the lessee believes. */
  readonly endsEarlyMs?: number
  /** S2: an answer leaves before what it grants is stored. */
  readonly answersUnwritten?: boolean
}

export interface ClusterOptions {
  readonly managers: number
  readonly frontends: number
  readonly limits: AccountLimits
  readonly shareSlots: number
  readonly seed?: number
  /** Of messages between frontends and managers, each way. */
  readonly loss?: number
  readonly duplicates?: number
  readonly delayMaxMs?: number
  /** Of questions, how many go to any manager: not everybody sees the same ring. */
  readonly strays?: number
  readonly fault?: LimitFault
  readonly leaseMs?: number
  /** How long a call waits for a slot. */
  readonly waitMs?: number
}

interface Stored {
  readonly owner: string | null
  readonly leases: readonly StoredLease[]
  readonly revision: number
}

export class Cluster {
  readonly clock = new ManualClock(0)
  readonly random: Random
  readonly store = new Map<number, Stored>()
  readonly managers: Manager[]
  readonly frontends: Frontend[]
  readonly trace: string[] = []
  readonly events: (LimitEvent & { readonly at: string; readonly atMs: number })[] = []
  /** Links that are cut, `from>to`. */
  readonly cuts = new Set<string>()
  readonly options: ClusterOptions
  readonly fault: LimitFault
  /** No loss, no duplicates from here on. */
  whole = false
  limits: AccountLimits
  running = 0
  peak = 0
  /** The greatest maximum since the last time that this was set. */
  bound: number
  /** What broke the bound first. */
  violation: string | null = null

  constructor(options: ClusterOptions) {
    this.options = options
    this.fault = options.fault ?? {}
    this.limits = options.limits
    this.bound = options.limits.maximum
    this.random = seededRandom(options.seed ?? 1)
    this.managers = Array.from({ length: options.managers }, (_, index) => new Manager(this, `m${index}`))
    this.frontends = Array.from({ length: options.frontends }, (_, index) => new Frontend(this, `f${index}`))
  }

  /** Sends from one to another, with the faults of the network. */
  send(from: string, to: string, deliver: () => void): void {
    const { loss = 0, duplicates = 0, delayMaxMs = 1 } = this.options
    const copies = this.random.next() < duplicates && !this.whole ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const delayMs = 1 + this.random.below(delayMaxMs)
      if (this.random.next() < loss && !this.whole) continue
      this.clock.after(delayMs, () => {
        if (!this.cuts.has(`${from}>${to}`) && !this.cuts.has(`${from}>*`) && !this.cuts.has(`*>${to}`)) deliver()
      })
    }
  }

  /** Managers of a share that are seen to be alive, the one in charge first. */
  ring(share: number): readonly string[] {
    return managersOf(this.managers.filter(({ isSeen }) => isSeen).map(({ id }) => id), ACCOUNT, share)
  }

  started(count: number, what: string): void {
    this.running += count
    this.peak = Math.max(this.peak, this.running)
    if (this.running > this.bound && count > 0) this.violation ??= `${this.running} running of ${this.bound} at ${this.clock.monotonicMs()} ms: ${what}`
  }

  log(text: string): void {
    this.trace.push(`${this.clock.monotonicMs().toFixed(0).padStart(9)} ${text}`)
  }

  /** In steps, so that timers of one millisecond interleave. */
  run(ms: number): void {
    this.clock.advance(ms)
  }
}

/** A node in charge of shares: ledgers in memory, what they granted in the store. A member as long as it can renew that. */
export class Manager {
  readonly id: string
  readonly #cluster: Cluster
  #ledgers = new Map<number, { readonly ledger: ShareLedger; revision: number }>()
  /** Questions wait while the share is being written. */
  #writing = new Map<number, (() => void)[]>()
  alive = true
  #life = 0
  #renewedAtMs = 0
  /** Shares that it was in charge of. */
  readonly used = new Set<number>()

  constructor(cluster: Cluster, id: string) {
    this.#cluster = cluster
    this.id = id
    this.#renew()
  }

  get member(): string {
    return `${this.id}.${this.#life}`
  }

  /** By its own clock. */
  get holds(): boolean {
    return this.alive && this.#cluster.clock.monotonicMs() - this.#renewedAtMs < MEMBER_TTL_MS
  }

  /** By everybody else's. */
  get isSeen(): boolean {
    return this.#cluster.clock.monotonicMs() - this.#renewedAtMs < MEMBER_TTL_MS + MEMBER_MARGIN_MS
  }

  kill(): void {
    this.alive = false
    this.#forget()
  }

  restart(): void {
    this.kill()
    this.alive = true
    this.#renew()
  }

  ask(share: number, question: LeaseQuestion, answer: (answer: LeaseAnswer) => void): void {
    if (!this.holds) return
    const waiting = this.#writing.get(share)
    if (waiting !== undefined) {
      waiting.push(() => this.ask(share, question, answer))
      return
    }
    const { fault, clock } = this.#cluster
    const nowMs = clock.monotonicMs()
    const held = this.#ledgers.get(share)
    if (held === undefined) return this.#open(share, () => this.ask(share, question, answer))
    this.used.add(share)
    if (fault.endsEarlyMs !== undefined) held.ledger.expire(nowMs + fault.endsEarlyMs)
    const decision = held.ledger.ask(question, quotaOf(this.#cluster.limits, this.#cluster.options.shareSlots, share), nowMs)
    if (decision.answer === null) return
    const given = decision.answer
    if (!decision.mustWrite) return answer(given)
    if (fault.answersUnwritten === true) answer(given)
    this.#write(share, { owner: this.member, leases: held.ledger.leases() }, held.revision, (revision) => {
      if (revision === null) return void this.#ledgers.delete(share)
      held.revision = revision
      if (this.holds && fault.answersUnwritten !== true) answer(given)
    })
  }

  load(share: number, pool: Pool): { inUse: number; quota: number } {
    const held = this.#ledgers.get(share)
    return { inUse: held?.ledger.load(pool).inUse ?? 0, quota: quotaOf(this.#cluster.limits, this.#cluster.options.shareSlots, share).of(pool) }
  }

  /** O2, O3. */
  #open(share: number, then: () => void): void {
    const { store, managers, clock, fault } = this.#cluster
    const stored = store.get(share) ?? { owner: null, leases: [], revision: 0 }
    const owner = decideOwner({
      owner: stored.owner, self: this.member, isFormerSelf: stored.owner?.startsWith(`${this.id}.`) === true,
      isAlive: (member) => managers.some((manager) => manager.member === member && manager.isSeen),
    })
    if (owner.kind === 'others' && fault.ownsTwice !== true) return
    const leases = fault.forgetsLeases === true ? [] : stored.leases
    this.#write(share, { owner: this.member, leases }, stored.revision, (revision) => {
      if (revision === null) return
      this.#ledgers.set(share, { ledger: new ShareLedger(leases, clock.monotonicMs()), revision })
      then()
    })
  }

  /** Another one comes first now. */
  release(share: number): void {
    const held = this.#ledgers.get(share)
    if (held === undefined || this.#writing.has(share)) return
    this.#ledgers.delete(share)
    this.#write(share, { owner: null, leases: held.ledger.leases() }, held.revision, () => undefined)
  }

  shares(): number[] {
    return [...this.#ledgers.keys()]
  }

  #write(share: number, value: Omit<Stored, 'revision'>, revision: number, done: (revision: number | null) => void): void {
    const { store, clock, random, options, fault } = this.#cluster
    const queue: (() => void)[] = []
    const life = this.#life
    this.#writing.set(share, queue)
    clock.after(1 + random.below(options.delayMaxMs ?? 1), () => {
      // Who dies meanwhile may have died before it was sent.
      if (life !== this.#life && random.next() < 0.5) return
      const ok = (store.get(share)?.revision ?? 0) === revision || fault.ownsTwice === true
      if (ok) store.set(share, { ...value, revision: revision + 1 })
      if (life !== this.#life) return
      this.#writing.delete(share)
      done(ok ? revision + 1 : null)
      for (const next of queue) next()
    })
  }

  #forget(): void {
    this.#life++
    this.#ledgers = new Map()
    this.#writing = new Map()
  }

  #renew(): void {
    const life = this.#life
    const { clock, cuts } = this.#cluster
    this.#renewedAtMs = clock.monotonicMs()
    const again = (): void => {
      if (life !== this.#life) return
      // A membership that was lost is lost for good.
      if (!this.holds) this.#forget()
      if (!cuts.has(`${this.id}>*`) && !cuts.has(`*>${this.id}`)) {
        if (life === this.#life) this.#renewedAtMs = clock.monotonicMs()
        else return this.#renew()
      }
      if (life === this.#life) for (const share of this.shares()) if (this.#cluster.ring(share)[0] !== this.id) this.release(share)
      clock.after(2_000, life === this.#life ? again : () => this.#renewLater())
    }
    clock.after(2_000, again)
  }

  #renewLater(): void {
    const { clock, cuts } = this.#cluster
    if (!this.alive) return
    if (cuts.has(`${this.id}>*`) || cuts.has(`*>${this.id}`)) clock.after(2_000, () => this.#renewLater())
    else this.#renew()
  }
}

interface Call {
  readonly runMs: number
  readonly untilMs: number
  readonly pool: Pool
  settled: boolean
  onEnd: (verdict: 'ran' | 'refused') => void
}

/** Accepts calls, leases slots for them, and runs them itself. */
export class Frontend {
  readonly id: string
  readonly #cluster: Cluster
  sets: LimitSets
  #leases = new Map<Pool, SlotLease>()
  #waiting = new Map<Pool, Call[]>()
  #running = new Map<Pool, Set<() => void>>()
  #numbers = 0
  #life = 0
  alive = true
  /** Who was asked for each share last. */
  readonly #inCharge = new Map<number, string>()
  #gossipAtMs = 0
  questions = 0

  constructor(cluster: Cluster, id: string) {
    this.#cluster = cluster
    this.id = id
    this.sets = this.#newSets()
    this.#tick()
  }

  /** Everything that runs here dies with it. */
  kill(): void {
    this.alive = false
    this.#life++
    for (const stops of this.#running.values()) for (const stop of [...stops]) stop()
    this.#leases = new Map()
    this.#waiting = new Map()
    this.#running = new Map()
  }

  restart(): void {
    this.kill()
    this.alive = true
    this.sets = this.#newSets()
    this.#tick()
  }

  lease(pool: Pool = null): SlotLease {
    let lease = this.#leases.get(pool)
    if (lease === undefined) {
      lease = new SlotLease({ leaseMs: this.#cluster.options.leaseMs ?? 20_000, renewMs: 500, answerMs: 4_000, keepMs: 0, nextNumber: () => ++this.#numbers })
      this.#leases.set(pool, lease)
    }
    return lease
  }

  call(runMs: number, onEnd: (verdict: 'ran' | 'refused') => void, pool: Pool = null): void {
    if (!this.alive) return onEnd('refused')
    if (this.lease(pool).take(this.#cluster.clock.monotonicMs())) {
      this.#start(runMs, pool, () => onEnd('ran'))
      this.#drive(pool)
      return
    }
    const nowMs = this.#cluster.clock.monotonicMs()
    const queue = this.#waiting.get(pool) ?? []
    this.#waiting.set(pool, queue)
    queue.push({ runMs, untilMs: nowMs + (this.#cluster.options.waitMs ?? 1_500), pool, settled: false, onEnd })
    this.lease(pool).setWaiting(queue.length)
    this.#drive(pool)
  }

  #newSets(): LimitSets {
    return new LimitSets({ self: this.id, setsMax: 100, onEvent: (event) => this.#cluster.events.push({ ...event, at: this.id, atMs: this.#cluster.clock.monotonicMs() }) })
  }

  #start(runMs: number, pool: Pool, done: () => void): void {
    const { clock } = this.#cluster
    const life = this.#life
    const stops = this.#running.get(pool) ?? new Set()
    this.#running.set(pool, stops)
    this.#cluster.started(1, this.id)
    let over = false
    const stop = (): void => {
      if (over) return
      over = true
      stops.delete(stop)
      this.#cluster.started(-1, this.id)
      if (life !== this.#life) return
      this.lease(pool).release()
      done()
      this.#admit(pool)
    }
    stops.add(stop)
    clock.after(runMs, stop)
  }

  #admit(pool: Pool): void {
    const queue = this.#waiting.get(pool)
    if (queue === undefined) return
    const lease = this.lease(pool)
    const nowMs = this.#cluster.clock.monotonicMs()
    while (queue.length > 0 && lease.hasFree) {
      const call = queue.shift()
      lease.setWaiting(queue.length)
      if (call === undefined || !lease.take(nowMs)) break
      this.#start(call.runMs, pool, () => call.onEnd('ran'))
    }
    for (const call of queue.filter(({ untilMs }) => untilMs <= nowMs)) {
      queue.splice(queue.indexOf(call), 1)
      call.onEnd('refused')
    }
    lease.setWaiting(queue.length)
  }

  /** Nobody has anything to give: who waits is refused. */
  #refuse(pool: Pool, count: number): void {
    const queue = this.#waiting.get(pool) ?? []
    for (const call of queue.splice(0, count)) call.onEnd('refused')
    this.lease(pool).setWaiting(queue.length)
  }

  #drive(pool: Pool): void {
    const { clock, limits, options } = this.#cluster
    const nowMs = clock.monotonicMs()
    const lease = this.lease(pool)
    const question = lease.question(nowMs)
    if (question === null) return
    const life = this.#life
    const round = new GrantRound({ sets: this.sets, limits, shareSlots: options.shareSlots, account: ACCOUNT, pool, lessee: this.id, life, question, nowMs })
    const waitingThen = lease.waiting
    const step = (): void => {
      if (life !== this.#life) return
      for (const { share, question: asked } of round.next()) this.#askShare(share, asked, pool, (answer) => {
        if (life !== this.#life) return
        round.answered(share, answer)
        step()
      })
      if (!round.isOver || over) return
      over = true
      this.questions++
      lease.answered(round.result(), clock.monotonicMs())
      this.#admit(pool)
      this.#gossip(this.sets.changes())
      if (round.missing > 0 && round.recallable === 0) this.#refuse(pool, Math.min(round.missing, waitingThen))
    }
    let over = false
    step()
  }

  /** C2: one manager after the other, as they stand on the ring. */
  #askShare(share: number, question: LeaseQuestion, pool: Pool, done: (answer: LeaseAnswer | null) => void): void {
    const { clock, managers, options, random, whole } = this.#cluster
    const strays = !whole && options.strays !== undefined && random.next() < options.strays
    const id = strays ? managers[random.below(managers.length)]?.id : this.#cluster.ring(share)[0]
    const before = this.#inCharge.get(share)
    if (id !== undefined) this.#inCharge.set(share, id)
    if (before !== undefined && id !== undefined && before !== id) this.sets.replaced(ACCOUNT, pool, share, before)
    const target = managers.find((manager) => manager.id === id)
    if (target === undefined) {
      clock.after(1, () => done(null))
      return
    }
    let over = false
    const settle = (answer: LeaseAnswer | null): void => {
      if (over) return
      over = true
      done(answer)
    }
    clock.after(ANSWER_MS, () => {
      if (over) return
      over = true
      done(null)
    })
    this.#cluster.send(this.id, target.id, () => target.ask(share, question, (answer) => this.#cluster.send(target.id, this.id, () => settle(answer))))
  }

  #tick(): void {
    const life = this.#life
    const { clock } = this.#cluster
    clock.after(50, () => {
      if (life !== this.#life) return
      const nowMs = clock.monotonicMs()
      for (const [pool, lease] of this.#leases) {
        let over = this.#cluster.fault.runsOn === true ? 0 : lease.tick(nowMs)
        for (const stop of [...(this.#running.get(pool) ?? [])]) if (over-- > 0) stop()
        this.#admit(pool)
        this.#drive(pool)
      }
      if (nowMs - this.#gossipAtMs >= GOSSIP_PERIOD_MS) {
        this.#gossipAtMs = nowMs
        this.#gossip(this.sets.views(nowMs, 100))
        for (const { account, pool, size } of this.sets.toLower(nowMs)) {
          const shares = sharesOf(this.#cluster.limits, this.#cluster.options.shareSlots, pool).slice(0, size)
          const loads = shares.map((share) => {
            const id = this.#cluster.ring(share)[0]
            return this.#cluster.managers.find((manager) => manager.id === id)?.load(share, pool) ?? { inUse: 1, quota: 1 }
          })
          this.sets.lower(account, pool, loads, nowMs)
        }
        this.#gossip(this.sets.changes())
      }
      this.#tick()
    })
  }

  #gossip(views: readonly SetView[]): void {
    const others = this.#cluster.frontends.filter(({ id }) => id !== this.id)
    for (const view of views) {
      const left = [...others]
      for (let told = 0; told < GOSSIP_FANOUT && left.length > 0; told++) {
        const other = left.splice(this.#cluster.random.below(left.length), 1)[0]
        if (other !== undefined) this.#cluster.send(this.id, other.id, () => {
          if (other.alive) other.sets.heard(view, this.#cluster.clock.monotonicMs())
        })
      }
    }
  }
}
