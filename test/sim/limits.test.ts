/**
 * Concurrency limits under faults, by seeds: loss, duplicates, delay, questions that go astray, partitions, deaths and restarts of
 * managers and frontends in any order (limit-cluster.ts). Then the same with one rule broken on purpose.
 */
import t from 'tap'
import { Cluster, type LimitFault } from './limit-cluster.ts'
import { firstFailure, runSeeds, type Simulation } from './seeds.ts'

t.setTimeout(3_600_000)

const MAXIMUM = 8
const STEPS = 400
const RUN_MAX_MS = 60_000
/** Promise C7, and the longest run of those histories. */
const CHANGE_MS = 2_000
const CHANGE_RUN_MAX_MS = 1_500

class LimitHistory implements Simulation {
  readonly world: Cluster
  /** Part of steps at which lines become whole: in some histories they stay cut for longer than a lease. */
  readonly #mends: number
  #ran = 0

  constructor(seed: number, fault: LimitFault = {}, leaseMs = seed % 3 === 0 ? 20_000 : 8_000) {
    this.#mends = seed % 3 === 1 ? 0.015 : 0.05
    this.world = new Cluster({
      managers: 1 + (seed % 5), frontends: 2 + (seed % 7), limits: { maximum: MAXIMUM, reserved: new Map() }, shareSlots: 1 + (seed % 4), seed,
      loss: 0.1, duplicates: 0.1, delayMaxMs: 1 + (seed % 3) * 120, strays: seed % 2 === 0 ? 0.1 : 0,
      leaseMs, fault,
    })
  }

  run(): void {
    this.#trouble()
    if (this.#ran < 2) throw new Error(`only ${this.#ran} calls ran`)
    this.#mend()
    const { frontends, random } = this.world
    this.#reach('all', () => frontends.map(({ id }) => id))
    // All of it may be had by one.
    const one = frontends[random.below(frontends.length)]?.id ?? ''
    this.#reach(one, () => [one])
  }

  #trouble(): void {
    const { world } = this
    const { random } = world
    for (let step = 0; step < STEPS; step++) {
      const dice = random.next()
      const frontend = world.frontends[random.below(world.frontends.length)]
      const manager = world.managers[random.below(world.managers.length)]
      if (frontend === undefined || manager === undefined) throw new Error('nobody is there')
      if (dice < 0.7) frontend.call(10 + random.below(random.below(8) === 0 ? RUN_MAX_MS : 4_000), (verdict) => verdict === 'ran' && this.#ran++)
      else if (dice < 0.74) this.#does(`${manager.id} restarts`, () => manager.restart())
      else if (dice < 0.76) this.#does(`${manager.id} dies`, () => manager.kill())
      else if (dice < 0.79) this.#does(`${frontend.id} restarts`, () => frontend.restart())
      else if (dice < 0.81) this.#cut(`${frontend.id}>*`)
      else if (dice < 0.83) this.#cut(`*>${frontend.id}`)
      else if (dice < 0.85) this.#cut(`${manager.id}>*`)
      else if (dice < 0.85 + this.#mends) this.#does('lines are whole', () => {
        world.cuts.clear()
        for (const dead of world.managers.filter(({ alive }) => !alive)) dead.restart()
      })
      this.#pass(random.below(400))
    }
  }

  #mend(): void {
    const { world } = this
    world.log('no more faults')
    world.cuts.clear()
    world.whole = true
    for (const manager of world.managers) if (!manager.alive) manager.restart()
    // Longer than what was begun may run.
    this.#pass(RUN_MAX_MS + 10_000)
  }

  /** Exactly the maximum runs when those ask for more. */
  #reach(who: string, ids: () => readonly string[]): void {
    const { world } = this
    for (let round = 0; round < 6; round++) {
      const asking = world.frontends.filter(({ id }) => ids().includes(id))
      for (let call = 0; call < 2 * MAXIMUM; call++) asking[call % asking.length]?.call(9_000, () => undefined)
      this.#pass(1_000)
    }
    if (world.running !== MAXIMUM) throw new Error(`${world.running} of ${MAXIMUM} run for ${who} when all is whole again`)
    this.#pass(30_000)
  }

  #cut(line: string): void {
    this.#does(`cut ${line}`, () => void this.world.cuts.add(line))
  }

  #does(what: string, run: () => void): void {
    this.world.log(what)
    run()
  }

  #pass(ms: number): void {
    this.world.run(ms)
    if (this.world.violation !== null) throw new Error(this.world.violation)
    this.world.log(`${this.world.running} running`)
  }
}

/** Maximum and reservations change; faults are delays only, since what ran under the limits before ends then in a known time. */
class LimitChanges implements Simulation {
  readonly world: Cluster

  constructor(seed: number) {
    this.world = new Cluster({ managers: 3, frontends: 5, limits: { maximum: MAXIMUM, reserved: new Map() }, shareSlots: 3, seed, delayMaxMs: 40 })
  }

  run(): void {
    const { world } = this
    const { random } = world
    for (let change = 0; change < 8; change++) {
      const maximum = 2 + random.below(14)
      const reserved = new Map(random.below(2) === 0 ? [] : [['cron', random.below(maximum)]])
      const changedAtMs = world.clock.monotonicMs()
      world.limits = { maximum, reserved }
      world.bound = Math.max(world.bound, maximum)
      world.log(`maximum ${maximum}, reserved ${reserved.get('cron') ?? 0}`)
      for (let step = 0; step < 60; step++) {
        world.frontends[random.below(5)]?.call(1 + random.below(CHANGE_RUN_MAX_MS), () => undefined, random.below(3) === 0 && reserved.has('cron') ? 'cron' : null)
        world.run(50 + random.below(100))
        if (world.clock.monotonicMs() >= changedAtMs + CHANGE_MS + CHANGE_RUN_MAX_MS) world.bound = maximum
      }
      if (world.violation !== null) throw new Error(world.violation)
    }
  }
}

/** Leases end more often than they would. */
const SHORT_LEASE_MS = 5_000
const ABOVE = /running of 8 at/

const BROKEN: Readonly<Record<string, LimitFault>> = {
  'a manager that forgets its leases at restart': { forgetsLeases: true },
  'two owners of one share': { ownsTwice: true },
  'runs that go on when their lease has ended': { runsOn: true },
  'a lease that ends at the manager before it does at the lessee': { endsEarlyMs: 14_000 },
}

t.test('never above the maximum at any instant; exactly the maximum can be had by all together and by any one in the end', async (t) => {
  t.ok(runSeeds((seed) => new LimitHistory(seed), 60, 10_000) >= 1)
})

t.test('never above a changed maximum from 2 s on, once what ran then has ended', async (t) => {
  t.ok(runSeeds((seed) => new LimitChanges(seed), 20, 5_000) >= 1)
})

t.test('a seed repeats itself to the last event', async (t) => {
  const [first, second] = [new LimitHistory(4), new LimitHistory(4)]
  first.run()
  second.run()
  t.same(first.world.events, second.world.events)
  t.same(first.world.trace, second.world.trace)
})

if (process.env.OUTPOST_SIM_SEED === undefined) {
  for (const [rule, fault] of Object.entries(BROKEN)) {
    t.test(`it is found: ${rule}`, async (t) => {
      const failure = firstFailure((seed) => new LimitHistory(seed, fault, SHORT_LEASE_MS), ABOVE, 60)
      t.ok(failure !== null)
      t.comment(`seed ${failure?.seed ?? 'none'}: ${failure?.message ?? ''}`)
    })
  }
}
