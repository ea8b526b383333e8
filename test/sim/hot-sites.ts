/**
 * POPs of one area whose hot sets follow arrivals, with all that goes wrong about them: functions are published anew and deleted,
 * word of that comes late, pulls take long, fail, or end when their function has lost its place or is gone, hosts are short of
 * memory, POPs restart and know nothing, and what a region advises is lost, late, doubled, or of a function that is no more.
 * Hot set, residency, function table and advice are the real ones; pulls and the link are made up here.
 *
 * After every event, at each POP:
 *   N1: the bytes of all members are within the budget.
 *   N2: who becomes a member has earned it, or was advised and takes spare room: a part of the budget, and nobody's place.
 *   N3: what was heard to be deleted has no place, and no image is kept for it, also when its pull ends later.
 *   N4: advice evicts nobody.
 * When faults are over:
 *   N5: what is asked for steadily, fits, and is worth more than others per byte, becomes a member and its image is here.
 *   N6: near equals change places at most SWAPS_MAX times in an hour.
 */
import type { BuildKey, ImageId } from '../../shared/brand.ts'
import type { Clock } from '../../shared/clock.ts'
import { CodedError } from '../../shared/errors.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../shared/limits.ts'
import { silentLog } from '../../shared/log.ts'
import { adviseHotSet, areaDemand, DEFAULT_ADVICE_POLICY, type PopActivity } from '../../shared/place/advice.ts'
import { HotSet, type Admission, type HotEntry, type HotSetOptions } from '../../shared/place/hot-set.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec } from '../../shared/worker/types.ts'
import { FunctionTable, KnownBuild } from '../../pop/functions.ts'
import type { PullOutcome } from '../../pop/image-cache.ts'
import { Residency, type Images } from '../../pop/residency.ts'
import { World } from './world.ts'

export interface HotFault {
  /** Every POP's hot set, in place of the real one. */
  readonly hotSet?: (options: HotSetOptions) => HotSet
  /** A POP does not hear of deletions. */
  readonly ignoresDeletions?: boolean
  /** W3: the function is not looked at again when its pull ends. */
  readonly keepsLatePulls?: boolean
}

const AREA = 'here'
const ACCOUNT = 'acme'
const BUDGET_BYTES = 100
/** Of it what members may take that have not earned a place. */
const SPARE_BYTES = 75
const FUNCTIONS = 14
const POPS = 3
const ADMIT_COUNT = 3
const TROUBLE_MS = 1_800_000
const STEADY_MS = 3_600_000
/** Arrivals of near equals differ by chance; each time that they differ by more than the hysteresis costs one change. */
export const SWAPS_MAX = 6

interface Published {
  readonly name: string
  readonly bytes: number
  readonly build: BuildSpec
  readonly seq: number
}

/** The POP's images: what is here, and what is on its way. */
class SimImages implements Images {
  /** And since when. */
  readonly here = new Map<string, number>()
  readonly #site: Site
  readonly #pulls = new Map<string, Promise<PullOutcome>>()

  constructor(site: Site) {
    this.#site = site
  }

  isHere(imageId: ImageId): boolean {
    return this.here.has(imageId)
  }

  async sizeOf(build: BuildSpec): Promise<number> {
    const { sim, life } = this.#site
    await this.#wait(sim.world.between(1, sim.trouble ? 2_000 : 20))
    if (sim.trouble && sim.world.chance(0.1)) throw new CodedError('ERR_STORE_BLOCK', [build.imageId, 'made up'])
    if (life !== this.#site.life) throw new CodedError('ERR_STORE_BLOCK', [build.imageId, 'restarted'])
    return bytesOf(build.imageId)
  }

  pull(build: BuildSpec): Promise<PullOutcome> {
    if (this.here.has(build.imageId)) return Promise.resolve({ kind: 'ready' })
    const running = this.#pulls.get(build.imageId)
    if (running !== undefined) return running
    const pull = this.#pull(build).finally(() => this.#pulls.delete(build.imageId))
    this.#pulls.set(build.imageId, pull)
    return pull
  }

  drop(imageId: ImageId): void {
    const { fault, world } = this.#site.sim
    if (fault.keepsLatePulls !== true || this.here.get(imageId) !== world.nowMs) this.here.delete(imageId)
  }

  sweep(): Promise<void> {
    return Promise.resolve()
  }

  async #pull({ imageId }: BuildSpec): Promise<PullOutcome> {
    const { sim } = this.#site
    const { world } = sim
    await this.#wait(sim.trouble && world.chance(0.2) ? world.between(1_000, 60_000) : world.between(5, 500))
    if (sim.trouble && world.chance(0.15)) return { kind: 'failed', error: new CodedError('ERR_STORE_BLOCK', [imageId, 'made up']) }
    if (sim.trouble && world.chance(0.05)) return { kind: 'no-room' }
    this.here.set(imageId, world.nowMs)
    return { kind: 'ready' }
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.#site.sim.world.after(ms, resolve))
  }
}

/** One life after the other of a POP. */
class Site {
  readonly id: string
  readonly sim: HotSites
  life = 0
  hotSet: HotSet
  table: FunctionTable
  images: SimImages
  residency: Residency
  /** Functions whose deletion was heard, and not yet of a later one of that name. */
  readonly deleted = new Set<string>()
  changes = 0

  constructor(sim: HotSites, id: string) {
    this.sim = sim
    this.id = id
    const { hotSet, table, images, residency } = this.#begin()
    this.hotSet = hotSet
    this.table = table
    this.images = images
    this.residency = residency
  }

  restart(): void {
    this.sim.world.log(`${this.id} restarts`)
    this.life++
    Object.assign(this, this.#begin())
  }

  arrive(name: string): void {
    const entry = this.table.get(ACCOUNT, name)
    entry.counts.arrivals++
    const earned = this.hotSet.arrived(entry.hot)
    const known = [...entry.builds.values()].at(-1)
    if (known === undefined) this.describe(name)
    else if (earned || entry.hot.member) this.residency.consider(entry, known)
  }

  /** What the region says now; it comes later, and may come late. */
  describe(name: string): void {
    const published = this.sim.published.get(name)
    if (published === undefined) return
    const { life } = this
    this.sim.later(() => {
      const entry = this.table.get(ACCOUNT, name)
      if (life !== this.life || published.seq < entry.changedAtSeq) return
      this.deleted.delete(name)
      const known = entry.builds.get(published.build.key) ?? new KnownBuild(published.build)
      entry.builds.set(published.build.key, known)
      entry.resolutions.set('', { seq: published.seq, routes: [{ weight: 1, known }] })
      this.residency.resolved(entry, known)
    })
  }

  /** As `Versions` does: older news changes nothing. */
  hear(name: string, seq: number, keys: readonly BuildKey[]): void {
    const entry = this.table.find(ACCOUNT, name)
    if (entry === undefined || seq < entry.changedAtSeq) return
    entry.changedAtSeq = seq
    entry.resolutions.clear()
    const gone = [...new Set([...entry.builds.keys(), ...entry.resident.keys()])].filter((key) => !keys.includes(key))
    for (const key of gone) entry.builds.delete(key)
    if (keys.length > 0) {
      this.residency.gone(entry, gone, 'replaced')
      if (entry.hot.member) this.describe(name)
      return
    }
    this.sim.world.log(`${this.id} hears that ${name} is deleted`)
    this.deleted.add(name)
    if (this.sim.fault.ignoresDeletions !== true) this.residency.gone(entry, gone, 'deleted')
  }

  advised(name: string): void {
    this.residency.advised(this.table.get(ACCOUNT, name))
    this.describe(name)
  }

  activity(): PopActivity {
    const rates = new Map<string, number>()
    const held = new Set<string>()
    for (const entry of this.table.all()) {
      rates.set(entry.name, this.hotSet.rateOf(entry.hot))
      if (entry.resident.size > 0) held.add(entry.name)
    }
    return { area: AREA, rates, held }
  }

  check(): void {
    let bytes = 0
    for (const hot of this.hotSet.members()) {
      bytes += hot.bytes
      const name = hot.key.slice(ACCOUNT.length + 1)
      if (this.deleted.has(name)) throw new Error(`${name} is a member at ${this.id} after it was deleted`) // N3
    }
    if (bytes > BUDGET_BYTES || bytes !== this.hotSet.usedBytes) throw new Error(`members at ${this.id} take ${bytes} bytes of ${BUDGET_BYTES}`) // N1
  }

  /** N3, once no pull is under way. */
  checkImages(): void {
    const wanted = new Set([...this.table.all()].flatMap(({ hot, resident }) => (hot.member ? [...resident.values()].map(({ build }) => String(build.imageId)) : [])))
    for (const imageId of this.images.here.keys()) if (!wanted.has(imageId)) throw new Error(`${imageId} is kept at ${this.id} for nobody`)
  }

  #begin(): Pick<Site, 'hotSet' | 'table' | 'images' | 'residency'> {
    const { clock, fault } = this.sim
    const hotSet = watch(this, (fault.hotSet ?? ((options) => new HotSet(options)))({ clock, budgetBytes: BUDGET_BYTES, admitCount: ADMIT_COUNT }))
    const table = new FunctionTable({ hotSet })
    const images = new SimImages(this)
    return { hotSet, table, images, residency: new Residency({ hotSet, table, images, clock, log: silentLog, hourWeight: () => 1 }) }
  }
}

/** Looks at every decision of a hot set when it is made. */
function watch(site: Site, hotSet: HotSet): HotSet {
  const admit = hotSet.admit.bind(hotSet)
  const admitSpare = hotSet.admitSpare.bind(hotSet)
  hotSet.admit = (entry: HotEntry, bytes: number): Admission => {
    const wasMember = entry.member
    const verdict = admit(entry, bytes)
    if (verdict.kind !== 'admitted' || wasMember) return verdict
    site.changes++
    if (arrivalsOf(site, entry) < ADMIT_COUNT) site.sim.fail(`${entry.key} is a member at ${site.id} and has not earned it`) // N2
    return verdict
  }
  hotSet.admitSpare = (entry: HotEntry, bytes: number, forMs: number): 'admitted' | 'refused' => {
    const before = hotSet.members()
    const verdict = admitSpare(entry, bytes, forMs)
    for (const { key, member } of before) if (!member) site.sim.fail(`advice of ${entry.key} evicts ${key} at ${site.id}`) // N4
    if (verdict === 'admitted' && !before.includes(entry)) {
      site.sim.spares++
      if (hotSet.usedBytes > SPARE_BYTES) site.sim.fail(`${entry.key} takes more than spare room at ${site.id}`) // N2
    }
    return verdict
  }
  return hotSet
}

function arrivalsOf(site: Site, hot: HotEntry): number {
  return site.table.ofHotEntry(hot)?.counts.arrivals ?? 0
}

export class HotSites {
  readonly world: World
  readonly fault: HotFault
  readonly clock: Clock
  readonly published = new Map<string, Published>()
  readonly sites: Site[]
  trouble = true
  /** Places given on advice. */
  spares = 0
  #failure: string | null = null
  #seq = 0

  constructor(seed: number, fault: HotFault = {}) {
    this.world = new World(seed)
    this.fault = fault
    const { world } = this
    this.clock = { nowMs: () => world.nowMs, monotonicMs: () => world.nowMs, after: (delayMs, callback) => {
      let canceled = false
      world.after(delayMs, () => (canceled ? undefined : callback()))
      return () => { canceled = true }
    } }
    this.sites = Array.from({ length: POPS }, (_, index) => new Site(this, `p${index}`))
    world.check = () => {
      for (const site of this.sites) site.check()
      if (this.#failure !== null) throw new Error(this.#failure)
    }
  }

  /** Within code that may catch what is thrown. */
  fail(what: string): void {
    this.#failure ??= what
  }

  /** Something that comes by the link. */
  later(run: () => void): void {
    const { world } = this
    world.after(this.trouble && world.chance(0.1) ? world.between(1_000, 30_000) : world.between(1, 100), run)
  }

  async run(): Promise<void> {
    const { world } = this
    for (let index = 0; index < FUNCTIONS; index++) this.#publish(`f${index}`)
    for (const site of this.sites) for (let index = 0; index < FUNCTIONS; index++) this.#callsAt(site, `f${index}`, 10 ** world.between(3.5, 6))
    this.#changesAt()
    this.#sweepsAt()
    await world.settleUntil(TROUBLE_MS)
    world.log('no more faults')
    this.trouble = false
    // All that is old has been forgotten by then.
    await world.settleUntil(TROUBLE_MS + 2 * STEADY_MS)
    for (const site of this.sites) site.checkImages()
    await this.#steady()
  }

  /** N5, N6: one that is worth most, and three near equals of which two fit beside it. */
  async #steady(): Promise<void> {
    const { world, sites } = this
    const site = sites[0]
    if (site === undefined) return
    this.#publish('best', 40)
    const equals = ['a', 'b', 'c']
    for (const name of equals) this.#publish(name, 30)
    const fromMs = world.nowMs
    const untilMs = fromMs + 2 * STEADY_MS
    const call = (name: string, everyMs: number): void => {
      if (world.nowMs > untilMs) return
      site.arrive(name)
      world.after(everyMs * world.between(0.9, 1.1), () => call(name, everyMs))
    }
    for (const name of equals) call(name, 10_000)
    world.after(STEADY_MS / 2, () => call('best', 5_000))
    await world.settleUntil(fromMs + STEADY_MS)
    const best = site.table.get(ACCOUNT, 'best')
    if (!best.hot.member || best.resident.size === 0 || ![...best.resident.values()].every(({ build }) => site.images.isHere(build.imageId))) throw new Error('what is worth most has no place')
    const changesBefore = site.changes
    await world.settleUntil(untilMs)
    const changes = site.changes - changesBefore
    if (changes > SWAPS_MAX) throw new Error(`near equals changed places ${changes} times`)
  }

  #callsAt(site: Site, name: string, everyMs: number): void {
    const { world } = this
    world.after(-Math.log(1 - world.random.next()) * everyMs, () => {
      if (!this.trouble) return
      site.arrive(name)
      // A burst.
      if (world.chance(0.05)) for (let call = 0; call < 5; call++) world.after(world.between(0, 2_000), () => site.arrive(name))
      this.#callsAt(site, name, everyMs)
    })
  }

  #changesAt(): void {
    const { world } = this
    world.after(world.between(500, 20_000), () => {
      if (!this.trouble) return
      const dice = world.random.next()
      const name = `f${world.random.below(FUNCTIONS)}`
      if (dice < 0.3) this.#publish(name)
      else if (dice < 0.55) this.#delete(name)
      else if (dice < 0.6) world.pick(this.sites).restart()
      else this.#advise()
      this.#changesAt()
    })
  }

  #sweepsAt(): void {
    this.world.after(5_000, () => {
      for (const site of this.sites) void site.residency.sweep()
      this.#sweepsAt()
    })
  }

  #publish(name: string, bytes = 1 + this.world.random.below(this.world.chance(0.1) ? 120 : 40)): void {
    const seq = ++this.#seq
    const build: BuildSpec = {
      key: `${ACCOUNT}/${name}@${seq}` as BuildKey, imageId: `${bytes}.${seq}` as ImageId, handlerKind: 'fetch', account: ACCOUNT, functionName: name, version: String(seq),
      limits: DEFAULT_FUNCTION_LIMITS, traits: DEFAULT_FUNCTION_TRAITS, secrets: {},
    }
    this.published.set(name, { name, bytes, build, seq })
    this.#tell(name, seq, [build.key])
  }

  #delete(name: string): void {
    if (!this.published.delete(name)) return
    this.#tell(name, ++this.#seq, [])
  }

  #tell(name: string, seq: number, keys: readonly BuildKey[]): void {
    for (const site of this.sites) {
      const { life } = site
      this.later(() => (site.life === life ? site.hear(name, seq, keys) : undefined))
    }
  }

  #advise(): void {
    const { world, sites } = this
    const pops = sites.map((site) => site.activity())
    const demand = areaDemand(AREA, pops, { ...DEFAULT_ADVICE_POLICY, rateMin: 1 })
    for (const [index, site] of sites.entries()) {
      const asking = pops[index]
      if (asking === undefined || world.chance(0.2)) continue // Lost.
      for (const name of adviseHotSet(asking, demand, () => true, 10)) {
        for (let copy = world.chance(0.2) ? 2 : 1; copy > 0; copy--) this.later(() => site.advised(name))
      }
    }
  }
}

function bytesOf(imageId: ImageId): number {
  return Number(imageId.split('.')[0])
}
