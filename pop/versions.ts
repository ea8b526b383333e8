/**
 * What the qualifiers of functions stand for, as far as this POP knows: asked of the region with `describe`, corrected
 * by the changes that it pushes.
 *
 * V1: after a change is heard, nothing that was resolved before it is used again: the function is forwarded until it is
 *     described anew.
 * V2: while cut off, what was known is used for `staleMaxMs` and marked stale, then no more. Changes that happened
 *     meanwhile come with the snapshot at reconnect, which the link delivers before it opens.
 * V3: only functions that a region was seen to run are described, and those of which a session of this site is asked for
 *     (site-sessions.ts): other names that strangers make up cost no question.
 */
import type { BuildKey } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import type { FunctionDescription, FunctionRef, FunctionVersions, VersionEvent } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import type { SealKey } from '../shared/sessions/session-seal.ts'
import type { Random } from '../shared/random.ts'
import { KnownBuild, type FunctionEntry, type FunctionTable, type Resolution } from './functions.ts'
import type { RegionLink } from './region-link.ts'

export interface VersionsOptions {
  readonly link: RegionLink
  readonly table: FunctionTable
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** How long a POP that is cut off serves what it knows. */
  readonly staleMaxMs: number
  /** No qualifier stands for these builds any more; `deleted`: nor for any other. */
  readonly onGone: (entry: FunctionEntry, builds: readonly BuildKey[], fate: 'replaced' | 'deleted') => void
  /** What the account's sessions are sealed with; of functions that have sessions. */
  readonly onSessionKey?: (account: string, key: SealKey) => void
  /** A qualifier of this function stands for this build now. */
  readonly onResolved: (entry: FunctionEntry, known: KnownBuild) => void
}

export const DEFAULT_STALE_MAX_MS = 3_600_000
/** Questions under way at once; the others are asked when their function is forwarded again. */
const DESCRIBES_MAX = 64
/** After a question that failed. */
const RETRY_MS = 1_000
/** Qualifiers of one function that are kept. */
const QUALIFIERS_MAX = 32

export class Versions {
  readonly #options: VersionsOptions
  readonly #log: Log
  /** `function entry -> qualifiers` being asked for, and when a failed one may be asked again. */
  readonly #asking = new Map<FunctionEntry, Map<string, 'asking' | number>>()
  #describes = 0
  #cutOffSinceMs: number | null
  readonly #unlisten: (() => void)[]

  constructor(options: VersionsOptions) {
    this.#options = options
    this.#log = options.log.child('versions')
    this.#cutOffSinceMs = options.link.state.kind === 'open' ? null : options.clock.monotonicMs()
    this.#unlisten = [
      options.link.onVersions((event) => this.#apply(event)),
      options.link.onState((state) => {
        if (state.kind === 'open') this.#reconnected()
        else this.#cutOffSinceMs ??= options.clock.monotonicMs()
      }),
    ]
  }

  /** True while no region tells us of changes. */
  get cutOff(): boolean {
    return this.#cutOffSinceMs !== null
  }

  /** The build to run for a qualifier; for a weighted alias drawn anew each time. Null: not known, or for too long. */
  resolve(entry: FunctionEntry, qualifier: string | null): KnownBuild | null {
    const resolution = entry.resolutions.get(qualifier ?? '')
    if (resolution === undefined || this.#tooStale()) return null
    return draw(resolution, this.#options.random)
  }

  /** Asks what a qualifier stands for, if that is not known: to be called when a region has run the function (V3). */
  learn(entry: FunctionEntry, qualifier: string | null): void {
    const key = qualifier ?? ''
    if (entry.resolutions.has(key) || this.cutOff || this.#describes >= DESCRIBES_MAX) return
    const asking = this.#asking.get(entry) ?? new Map<string, 'asking' | number>()
    const state = asking.get(key)
    if (state === 'asking' || (state !== undefined && this.#options.clock.monotonicMs() < state)) return
    asking.set(key, 'asking')
    this.#asking.set(entry, asking)
    this.#describes++
    // `#describe` never rejects.
    void this.#describe(entry, qualifier).then((verdict) => {
      this.#describes--
      if (verdict === 'answered') asking.delete(key)
      else asking.set(key, this.#options.clock.monotonicMs() + RETRY_MS)
      if (asking.size === 0) this.#asking.delete(entry)
    })
  }

  /** Functions of which anything is known; the link asks for their state at each connect. */
  holds(): FunctionRef[] {
    const refs: FunctionRef[] = []
    for (const entry of this.#options.table.all()) {
      if (holdsAnything(entry)) refs.push({ account: entry.account.account, functionName: entry.name })
    }
    return refs
  }

  /** Changes that came another way, such as with the answer to a report. */
  hear(functions: readonly FunctionVersions[]): void {
    for (const versions of functions) this.#changed(versions)
  }

  close(): void {
    for (const unlisten of this.#unlisten) unlisten()
  }

  /** What changed meanwhile was forgotten with the snapshot, when nothing could be asked yet. */
  #reconnected(): void {
    this.#cutOffSinceMs = null
    for (const entry of this.#options.table.all()) if (entry.hot.member && entry.resolutions.size === 0) this.learn(entry, null)
  }

  #tooStale(): boolean {
    return this.#cutOffSinceMs !== null && this.#options.clock.monotonicMs() - this.#cutOffSinceMs > this.#options.staleMaxMs
  }

  async #describe(entry: FunctionEntry, qualifier: string | null): Promise<'answered' | 'failed'> {
    const { link } = this.#options
    let description: FunctionDescription | null
    try {
      description = await link.describe(entry.account.account, entry.name, qualifier)
    } catch (error) {
      this.#log.warn('describe failed', { function: entry.hot.key, code: toCodedError(error).code })
      return 'failed'
    }
    if (description === null) {
      entry.resolutions.delete(qualifier ?? '')
      // There is none, or not for this POP: that is not asked again with each call that a region runs for another's sake.
      return 'failed'
    }
    // V1: changes can come faster than answers.
    if (description.seq < entry.changedAtSeq) return 'failed'
    if (description.sessionKey !== null) this.#options.onSessionKey?.(entry.account.account, description.sessionKey)
    this.#resolved(entry, qualifier, description)
    return 'answered'
  }

  #resolved(entry: FunctionEntry, qualifier: string | null, description: FunctionDescription): void {
    if (entry.resolutions.size >= QUALIFIERS_MAX) entry.resolutions.clear()
    const routes = description.routes.map(({ weight, build }) => {
      const known = entry.builds.get(build.key) ?? new KnownBuild(build)
      entry.builds.set(build.key, known)
      return { weight, known }
    })
    entry.resolutions.set(qualifier ?? '', { seq: description.seq, routes })
    entry.traits = routes[0]?.known.build.traits ?? entry.traits
    for (const { known } of routes) this.#options.onResolved(entry, known)
  }

  #apply(event: VersionEvent): void {
    if (event.kind === 'changed') return this.#changed(event.versions)
    if (event.kind === 'revoked') {
      for (const entry of this.#options.table.all()) if (holdsAnything(entry)) this.#changed({ account: entry.account.account, functionName: entry.name, seq: entry.changedAtSeq, builds: [] })
      return
    }
    const present = new Set(event.functions.map(({ account, functionName }) => `${account}/${functionName}`))
    for (const versions of event.functions) this.#changed(versions)
    for (const entry of this.#options.table.all()) {
      const { account } = entry.account
      if (holdsAnything(entry) && !present.has(entry.hot.key)) this.#changed({ account, functionName: entry.name, seq: event.seq, builds: [] })
    }
  }

  /** V1. */
  #changed(versions: FunctionVersions): void {
    const entry = this.#options.table.find(versions.account, versions.functionName)
    if (entry === undefined) return
    entry.changedAtSeq = Math.max(entry.changedAtSeq, versions.seq)
    const listed = new Set(versions.builds)
    const forgotten: string[] = []
    for (const [qualifier, { seq, routes }] of entry.resolutions) {
      if (seq >= versions.seq && routes.every(({ known }) => listed.has(known.build.key))) continue
      entry.resolutions.delete(qualifier)
      forgotten.push(qualifier)
    }
    const gone = [...new Set([...entry.builds.keys(), ...entry.resident.keys()])].filter((key) => !listed.has(key))
    for (const key of gone) entry.builds.delete(key)
    if (gone.length > 0 || versions.builds.length === 0) this.#options.onGone(entry, gone, versions.builds.length === 0 ? 'deleted' : 'replaced')
    if (forgotten.length === 0) return
    this.#log.info('function changed', { function: entry.hot.key, seq: versions.seq, builds: versions.builds.length })
    // What is hot is described at once: until then each call is forwarded.
    if (versions.builds.length > 0 && entry.hot.member) for (const qualifier of forgotten) this.learn(entry, qualifier === '' ? null : qualifier)
  }
}

function holdsAnything(entry: FunctionEntry): boolean {
  return entry.resolutions.size > 0 || entry.resident.size > 0 || entry.hot.member
}

function draw(resolution: Resolution, random: Random): KnownBuild | null {
  const { routes } = resolution
  const only = routes[0]
  if (only === undefined || routes.length === 1) return only?.known ?? null
  let at = random.next()
  for (const { weight, known } of routes) {
    at -= weight
    if (at < 0) return known
  }
  // Weights add up to 1 but for rounding.
  return routes[routes.length - 1]?.known ?? null
}
