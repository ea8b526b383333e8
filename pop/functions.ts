/**
 * What a POP keeps in mind of each function that somebody asked for: how often, how heavy, what its qualifiers stand for,
 * which of its images are here. One object per function, found by two lookups of strings whose hashes are known.
 *
 * F1: at most `functionsMax` functions; one that holds a place in the hot set is never forgotten. Names are made up by
 *     strangers, so making room looks at a few of the oldest and not at all.
 */
import type { BuildKey } from '../shared/brand.ts'
import type { SlotPool } from '../shared/concurrency/slot-table.ts'
import type { Placement } from '../shared/http/types.ts'
import { START_KINDS, type StartKind } from '../shared/outcome.ts'
import type { HotEntry, HotSet } from '../shared/place/hot-set.ts'
import type { DayProfile } from '../shared/place/day-profile.ts'
import { MeanEstimate, QuantileEstimate, type PlaceDecision } from '../shared/place/place.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec, type FunctionTraits } from '../shared/worker/types.ts'

export interface AccountEntry {
  readonly account: string
  readonly functions: Map<string, FunctionEntry>
  /** Invocations under way, here or forwarded. */
  inFlight: number
}

/** A build that some qualifier stands for. */
export class KnownBuild {
  readonly build: BuildSpec
  /** False once this POP has found that it cannot run it. */
  capable = true
  readonly #placements: (Placement | undefined)[] = []

  constructor(build: BuildSpec) {
    this.build = build
  }

  /** The placement of a local run; the same object each time. */
  placement(startKind: StartKind | null, freshness: 'current' | 'stale'): Placement {
    const index = (startKind === null ? START_KINDS.length : START_KINDS.indexOf(startKind)) * 2 + (freshness === 'stale' ? 1 : 0)
    const known = this.#placements[index]
    if (known !== undefined) return known
    const { version, limits } = this.build
    const placement: Placement = { place: 'pop', reason: null, version, startKind, stale: freshness === 'stale', memoryMib: limits.memoryMib }
    this.#placements[index] = placement
    return placement
  }
}

export interface Resolution {
  /** The region's number of the moment at which this was so. */
  readonly seq: number
  readonly routes: readonly { readonly weight: number; readonly known: KnownBuild }[]
}

/** Since the entry was made. */
export interface Counts {
  arrivals: number
  local: number
  forwarded: number
  failed: number
  cpuUs: number
  /** Of runs here, and of forwarded ones with the trip. */
  localUs: number
  forwardedUs: number
}

export class FunctionEntry {
  readonly account: AccountEntry
  readonly name: string
  readonly hot: HotEntry
  readonly cpu = new QuantileEstimate()
  /** Time of a run here, and of one in a region with the trip, us. */
  readonly localTime = new MeanEstimate()
  readonly regionTime = new MeanEstimate()
  /** When it is asked for; only of functions that have or had a place. */
  profile: DayProfile | null = null
  /** Arrivals that the profile has. */
  profiledArrivals = 0
  /** A region recommends to hold it until then, monotonic. */
  advisedUntilMs = Number.NEGATIVE_INFINITY
  /** By qualifier; '' for none. */
  readonly resolutions = new Map<string, Resolution>()
  /** Every build known, so that two qualifiers for one build share it. */
  readonly builds = new Map<BuildKey, KnownBuild>()
  /** Builds whose images are here, or on their way; their bytes are the hot entry's. */
  readonly resident = new Map<BuildKey, { readonly build: BuildSpec; readonly bytes: number }>()
  readonly counts: Counts = { arrivals: 0, local: 0, forwarded: 0, failed: 0, cpuUs: 0, localUs: 0, forwardedUs: 0 }
  /** Reports: events counted when it was last looked at, and the number of the report that found a change. */
  reportedEvents = 0
  changedInReport = 0
  /** As its newest description says; until there is one, what every function is. */
  traits: FunctionTraits = DEFAULT_FUNCTION_TRAITS
  /** The latest change that was heard of: a description from before it says nothing. */
  changedAtSeq = 0
  /** Its account's slots here, or its own; AccountSlots says until when. */
  slots: SlotPool | null = null
  slotsGeneration = -1
  /** For the log: only changes are told, and not more than one a second. */
  lastDecision: PlaceDecision | null = null
  decisionLoggedAtMs = Number.NEGATIVE_INFINITY

  constructor(account: AccountEntry, name: string, hot: HotEntry) {
    this.account = account
    this.name = name
    this.hot = hot
  }
}

export interface FunctionTableOptions {
  readonly hotSet: HotSet
  /** Default 10,000: a name, an empty map and some numbers each, about 1 KiB. */
  readonly functionsMax?: number
}

export const DEFAULT_FUNCTIONS_MAX = 10_000
/** How many of the oldest are looked at for one to forget. */
const FORGET_LOOKS = 8

export class FunctionTable {
  readonly #hotSet: HotSet
  readonly #functionsMax: number
  readonly #accounts = new Map<string, AccountEntry>()
  /** All, in the order in which they were made or last spared (F1). */
  readonly #all = new Set<FunctionEntry>()
  readonly #byHotEntry = new WeakMap<HotEntry, FunctionEntry>()

  constructor(options: FunctionTableOptions) {
    this.#hotSet = options.hotSet
    this.#functionsMax = options.functionsMax ?? DEFAULT_FUNCTIONS_MAX
  }

  get size(): number {
    return this.#all.size
  }

  /** The function's entry, made if there is none. */
  get(account: string, name: string): FunctionEntry {
    return this.find(account, name) ?? this.#make(account, name)
  }

  find(account: string, name: string): FunctionEntry | undefined {
    return this.#accounts.get(account)?.functions.get(name)
  }

  /** Whose place in the hot set this is. */
  ofHotEntry(hot: HotEntry): FunctionEntry | undefined {
    return this.#byHotEntry.get(hot)
  }

  all(): IterableIterator<FunctionEntry> {
    return this.#all.values()
  }

  #make(accountName: string, name: string): FunctionEntry {
    if (this.#all.size >= this.#functionsMax) this.#forgetOne()
    const account = this.#accounts.get(accountName) ?? { account: accountName, functions: new Map<string, FunctionEntry>(), inFlight: 0 }
    this.#accounts.set(accountName, account)
    const entry = new FunctionEntry(account, name, this.#hotSet.newEntry(`${accountName}/${name}`))
    account.functions.set(name, entry)
    this.#all.add(entry)
    this.#byHotEntry.set(entry.hot, entry)
    return entry
  }

  #forgetOne(): void {
    let oldest: FunctionEntry | null = null
    let looks = 0
    for (const entry of this.#all) {
      if (looks++ >= FORGET_LOOKS) break
      // Spared ones go to the end, so that the next looks are at others.
      this.#all.delete(entry)
      this.#all.add(entry)
      if (!entry.hot.member && (oldest === null || entry.hot.asOfMs < oldest.hot.asOfMs)) oldest = entry
    }
    if (oldest === null) return
    this.#all.delete(oldest)
    oldest.account.functions.delete(oldest.name)
    if (oldest.account.functions.size === 0 && oldest.account.inFlight === 0) this.#accounts.delete(oldest.account.account)
  }
}
