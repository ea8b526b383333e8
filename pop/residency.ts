/**
 * Who lives here: brings the images of functions that earn a place, and sends those away that lose it.
 *
 * W1: a function is a member of the hot set from the moment its place is decided; until its image is complete its calls
 *     are forwarded. A pull that fails gives the place back.
 * W2: the bytes of a member are those of all its builds that are here or on their way.
 * W3: after every wait the function is looked at again: it may have been evicted, changed or deleted meanwhile.
 * W4: a host lets go of an image some time after it was told to, perhaps after the image was wanted again: a member whose
 *     image is gone is brought back when it is asked for.
 */
import type { BuildKey, ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { DayProfile } from '../shared/place/day-profile.ts'
import { SENSITIVITY_WEIGHT, type HotEntry, type HotSet } from '../shared/place/hot-set.ts'
import type { FunctionEntry, FunctionTable, KnownBuild } from './functions.ts'
import type { ImageCache, PullOutcome } from './image-cache.ts'

/** What it needs of an image cache. */
export type Images = Pick<ImageCache, 'isHere' | 'sizeOf' | 'pull' | 'drop' | 'sweep'>

export interface ResidencyOptions {
  readonly hotSet: HotSet
  readonly table: FunctionTable
  readonly images: Images
  readonly clock: Clock
  readonly log: Log
  /** What an hour of the day is worth, in place of each function's own habits; told the time since the epoch. */
  readonly hourWeight?: (nowMs: number) => number
}

/** After a refusal or a failed pull: the rates of others have to change first, or the region to come back. */
const RETRY_MS = 5_000
/** How long what a region recommends is believed; it recommends again what it still thinks. */
const ADVICE_MS = 600_000

export class Residency {
  readonly #options: ResidencyOptions
  readonly #log: Log
  /** Builds whose place is being decided or whose image is on its way, and when a refused one may ask again. */
  readonly #pending = new Map<KnownBuild, 'pending' | number>()

  constructor(options: ResidencyOptions) {
    this.#options = options
    this.#log = options.log.child('residency')
  }

  /** A function has earned a look, or a member stands for a new build: decides, and brings the image. Cheap if already under way. */
  consider(entry: FunctionEntry, known: KnownBuild): void {
    if (!known.capable) return
    if (entry.resident.has(known.build.key) && this.#options.images.isHere(known.build.imageId)) return
    const state = this.#pending.get(known)
    if (state === 'pending' || (state !== undefined && this.#options.clock.monotonicMs() < state)) return
    this.#pending.set(known, 'pending')
    // `#bring` never rejects.
    void this.#bring(entry, known).then((verdict) => {
      if (verdict === 'settled') this.#pending.delete(known)
      else this.#pending.set(known, this.#options.clock.monotonicMs() + RETRY_MS)
    })
  }

  /** A build is known from now on: brings it if its function has a place, has earned one, or a region recommends it. */
  resolved(entry: FunctionEntry, known: KnownBuild): void {
    this.#weigh(entry)
    if (entry.hot.member || this.#options.hotSet.hasEarned(entry.hot) || this.#isAdvised(entry)) this.consider(entry, known)
  }

  /** A region recommends to hold a function, of which these builds are known: a hint, for room that nobody wants. */
  advised(entry: FunctionEntry): void {
    entry.advisedUntilMs = this.#options.clock.monotonicMs() + ADVICE_MS
    for (const { routes } of entry.resolutions.values()) for (const { known } of routes) this.resolved(entry, known)
  }

  /** Its place is being decided, or its image is on its way. */
  isBringing(known: KnownBuild): boolean {
    return this.#pending.get(known) === 'pending'
  }

  /** These builds stand for nothing any more. */
  gone(entry: FunctionEntry, builds: readonly BuildKey[], fate: 'replaced' | 'deleted'): void {
    for (const key of builds) this.#release(entry, key)
    if (fate === 'deleted') this.#options.hotSet.evict(entry.hot)
  }

  /** To be called every some seconds. */
  async sweep(): Promise<void> {
    const { hotSet, images, clock } = this.#options
    for (const idle of hotSet.sweep()) this.#sendAway(idle, 'idle')
    for (const entry of this.#options.table.all()) if (entry.hot.member || entry.profile !== null) this.#weigh(entry)
    for (const [known, state] of this.#pending) if (state !== 'pending' && state < clock.monotonicMs()) this.#pending.delete(known)
    await images.sweep()
  }

  async #bring(entry: FunctionEntry, known: KnownBuild): Promise<'settled' | 'later'> {
    const { images } = this.#options
    const { build } = known
    let bytes: number
    try {
      bytes = await images.sizeOf(build)
    } catch (error) {
      this.#log.warn('image has no manifest', { function: entry.hot.key, code: toCodedError(error).code })
      return 'later'
    }
    if (entry.builds.get(build.key) !== known) return 'settled' // W3
    entry.resident.delete(build.key) // W4
    if (!this.#admit(entry, bytes)) return 'later'
    entry.resident.set(build.key, { build, bytes })
    const outcome = await this.#pull(known)
    if (outcome.kind === 'incapable') known.capable = false
    if (outcome.kind !== 'ready') {
      this.#release(entry, build.key)
      if (entry.resident.size === 0) this.#options.hotSet.evict(entry.hot)
      return outcome.kind === 'incapable' ? 'settled' : 'later'
    }
    // W3: sent away while it was on its way.
    if (!entry.resident.has(build.key)) images.drop(build.imageId)
    return 'settled'
  }

  /** If the host has no memory left, the hot set's budget was too large: the lowest makes room, once. */
  async #pull(known: KnownBuild): Promise<PullOutcome> {
    const { hotSet, images } = this.#options
    const outcome = await images.pull(known.build)
    if (outcome.kind !== 'no-room') return outcome
    const lowest = hotSet.lowest((entry) => !this.#owns(entry, known))
    if (lowest === null) return outcome
    hotSet.evict(lowest)
    this.#sendAway(lowest, 'memory')
    return images.pull(known.build)
  }

  #owns(hot: HotEntry, known: KnownBuild): boolean {
    return this.#options.table.ofHotEntry(hot)?.resident.has(known.build.key) ?? false
  }

  #isAdvised(entry: FunctionEntry): boolean {
    return this.#options.clock.monotonicMs() < entry.advisedUntilMs
  }

  /** What the function's owner says of it, and its habits by the time of day. */
  #weigh(entry: FunctionEntry): void {
    const nowMs = this.#options.clock.nowMs()
    entry.profile ??= new DayProfile()
    entry.profile.record(nowMs, entry.counts.arrivals - entry.profiledArrivals)
    entry.profiledArrivals = entry.counts.arrivals
    const { hourWeight } = this.#options
    entry.hot.weight = SENSITIVITY_WEIGHT[entry.traits.latencySensitivity] * (hourWeight === undefined ? entry.profile.weightAt(nowMs) : hourWeight(nowMs))
  }

  #admit(entry: FunctionEntry, bytes: number): boolean {
    const { hotSet } = this.#options
    if (!entry.hot.member && !hotSet.hasEarned(entry.hot) && this.#isAdvised(entry)) {
      const verdict = hotSet.admitSpare(entry.hot, bytes, entry.advisedUntilMs - this.#options.clock.monotonicMs())
      this.#log.info(verdict === 'admitted' ? 'place given on advice' : 'no place', { function: entry.hot.key, why: 'advice', bytes })
      return verdict === 'admitted'
    }
    const verdict = hotSet.admit(entry.hot, residentBytes(entry) + bytes)
    if (verdict.kind === 'refused') {
      this.#log.info('no place', { function: entry.hot.key, why: verdict.why, bytes })
      // A member that outgrew its place has lost it.
      if (!entry.hot.member) this.#sendAway(entry.hot, verdict.why)
      return false
    }
    this.#log.info('place given', { function: entry.hot.key, bytes, evicted: verdict.evicted.length })
    for (const evicted of verdict.evicted) this.#sendAway(evicted, 'outscored')
    return true
  }

  /** Takes a build's image away; the place shrinks by its bytes (W2). */
  #release(entry: FunctionEntry, key: BuildKey): void {
    const resident = entry.resident.get(key)
    if (resident === undefined) return
    entry.resident.delete(key)
    if (!this.#isUsedElsewhere(resident.build.imageId)) this.#options.images.drop(resident.build.imageId)
    if (entry.hot.member) this.#options.hotSet.admit(entry.hot, residentBytes(entry))
  }

  #sendAway(hot: HotEntry, why: string): void {
    const entry = this.#options.table.ofHotEntry(hot)
    if (entry === undefined || entry.resident.size === 0) return
    this.#log.info('place taken away', { function: hot.key, why })
    for (const key of [...entry.resident.keys()]) this.#release(entry, key)
  }

  /** Equal code under two names has one image. */
  #isUsedElsewhere(imageId: string): boolean {
    return this.#options.hotSet.members().some((hot) => {
      const entry = this.#options.table.ofHotEntry(hot)
      return entry !== undefined && [...entry.resident.values()].some(({ build }) => build.imageId === imageId)
    })
  }
}

/** How often the images of functions that live here are asked for; those of several functions by all of them. */
export function imageRates(hotSet: HotSet, table: FunctionTable): Map<ImageId, number> {
  const rates = new Map<ImageId, number>()
  for (const hot of hotSet.members()) {
    for (const { build } of table.ofHotEntry(hot)?.resident.values() ?? []) rates.set(build.imageId, (rates.get(build.imageId) ?? 0) + hotSet.rateOf(hot))
  }
  return rates
}

function residentBytes(entry: FunctionEntry): number {
  let bytes = 0
  for (const resident of entry.resident.values()) bytes += resident.bytes
  return bytes
}
