/**
 * What POPs report, kept as far as it decides something: who asks for what, and who holds it. Answers with what a POP
 * should know: versions of what it holds, how busy this region is, and what others near it hold (shared/place/advice.ts).
 *
 * T1: counts are totals of a POP's life (`epoch`), so a report that comes twice, late or never is counted once or with
 *     the next. An older one than the last changes nothing.
 * T2: per POP at most POP_ACTIVITY_FUNCTIONS_MAX functions are remembered; of POPs as many as may link up, and one that
 *     was silent for SILENT_MAX_MS is forgotten. Nothing of it is on disk: it is known again within one report.
 * T3: a POP is told of functions only if they are granted to it.
 */
import type { Clock } from '../shared/clock.ts'
import { ADVICE_MAX, LINK_CONNECTIONS_MAX, LINK_FUNCTIONS_MAX, POP_ACTIVITY_FUNCTIONS_MAX } from '../shared/limits.ts'
import type { AdvisedFunction, FunctionCounts, FunctionRef, FunctionVersions, PopReport, RegionAdvice } from '../shared/link/types.ts'
import { adviseHotSet, areaDemand, DEFAULT_ADVICE_POLICY, type AreaDemand, type PopActivity } from '../shared/place/advice.ts'
import type { HostStats } from '../shared/worker/types.ts'

export interface PopReportsOptions {
  readonly clock: Clock
  readonly seq: () => number
  readonly load: () => number
  /** As a snapshot answers. */
  readonly versions: (popId: string, functions: readonly FunctionRef[]) => readonly FunctionVersions[]
  /** Exists, and is granted to the POP. */
  readonly mayHold: (popId: string, account: string, functionName: string) => boolean
}

interface Totals {
  readonly counts: FunctionCounts
  readonly ref: FunctionRef
}

interface PopState extends PopActivity {
  epoch: string
  area: string
  sequence: number
  /** Parts of `sequence` that have come. */
  parts: Set<number>
  heardAtMs: number
  /** The one reported last at the end (T2). */
  readonly totals: Map<string, Totals>
  readonly rates: Map<string, number>
  readonly held: Set<string>
  /** What the report under way says is held, until its last part has come. */
  readonly holding: Set<string>
  readonly advisedAtMs: Map<string, number>
}

/** Six reports. */
const SILENT_MAX_MS = 60_000
/** Of a rate: what a new period's counts weigh. */
const RATE_WEIGHT = 0.3
const MINUTE_MS = 60_000
/** Between two times that the same is advised to a POP; it believes it for twice as long. */
const ADVISE_AGAIN_MS = 300_000
const DEMAND_KEPT_MS = 5_000

export class PopReports {
  readonly counts = { reports: 0, replays: 0, arrivals: 0, local: 0, forwarded: 0, failed: 0, advised: 0 }
  readonly #options: PopReportsOptions
  readonly #pops = new Map<string, PopState>()
  readonly #demand = new Map<string, { readonly atMs: number; readonly demand: readonly AreaDemand[] }>()

  constructor(options: PopReportsOptions) {
    this.#options = options
  }

  /** POPs that have reported lately. */
  get popCount(): number {
    this.#forgetSilent()
    return this.#pops.size
  }

  take(popId: string, report: PopReport): RegionAdvice {
    const pop = this.#state(popId, report)
    pop.heardAtMs = this.#options.clock.monotonicMs()
    const isNews = report.sequence > pop.sequence || (report.sequence === pop.sequence && !pop.parts.has(report.part))
    if (isNews) this.#take(pop, report)
    else this.counts.replays++
    return {
      seq: this.#options.seq(),
      load: this.#options.load(),
      versions: this.#options.versions(popId, report.held),
      // Once a report, when all that is held is known.
      pull: isNews && pop.parts.size === report.parts ? this.#advise(popId, pop) : [],
    }
  }

  #state(popId: string, { epoch, area }: PopReport): PopState {
    const known = this.#pops.get(popId)
    if (known !== undefined && known.epoch === epoch) {
      known.area = area
      return known
    }
    this.#forgetSilent()
    const [oldest] = this.#pops.keys()
    if (known === undefined && this.#pops.size >= LINK_CONNECTIONS_MAX && oldest !== undefined) this.#pops.delete(oldest)
    const state: PopState = {
      epoch, area, sequence: -1, parts: new Set(), heardAtMs: 0, totals: new Map(), rates: new Map(), held: new Set(), holding: new Set(), advisedAtMs: known?.advisedAtMs ?? new Map<string, number>(),
    }
    this.#pops.set(popId, state)
    return state
  }

  /** T1. */
  #take(pop: PopState, report: PopReport): void {
    if (report.sequence > pop.sequence) {
      this.counts.reports++
      pop.sequence = report.sequence
      pop.parts = new Set()
      pop.holding.clear()
      this.#cool(pop, report.periodMs)
    }
    pop.parts.add(report.part)
    for (const counts of report.functions) this.#count(pop, counts, report.periodMs)
    for (const { account, functionName } of report.held) if (pop.holding.size < LINK_FUNCTIONS_MAX) pop.holding.add(keyOf(account, functionName))
    if (pop.parts.size < report.parts) return
    pop.held.clear()
    for (const key of pop.holding) pop.held.add(key)
    pop.holding.clear()
  }

  /** What is not reported again was not asked for. */
  #cool(pop: PopState, periodMs: number): void {
    const left = (1 - RATE_WEIGHT) ** Math.min(10, periodMs / 10_000)
    for (const [key, rate] of pop.rates) pop.rates.set(key, rate * left)
  }

  #count(pop: PopState, counts: FunctionCounts, periodMs: number): void {
    const { account, functionName } = counts
    const key = keyOf(account, functionName)
    const before = pop.totals.get(key)?.counts
    // Fewer than before: the POP had forgotten the function and began anew.
    const begunAnew = before === undefined || counts.arrivals < before.arrivals
    const since = (name: 'arrivals' | 'local' | 'forwarded' | 'failed'): number => Math.max(0, counts[name] - (begunAnew ? 0 : before[name]))
    const arrivals = since('arrivals')
    this.counts.arrivals += arrivals
    this.counts.local += since('local')
    this.counts.forwarded += since('forwarded')
    this.counts.failed += since('failed')
    pop.rates.set(key, (pop.rates.get(key) ?? 0) + (RATE_WEIGHT * arrivals * MINUTE_MS) / Math.max(1_000, periodMs))
    pop.totals.delete(key)
    pop.totals.set(key, { counts, ref: { account, functionName } })
    const [oldest] = pop.totals.keys()
    if (pop.totals.size <= POP_ACTIVITY_FUNCTIONS_MAX || oldest === undefined) return
    pop.totals.delete(oldest)
    pop.rates.delete(oldest)
  }

  #advise(popId: string, pop: PopState): AdvisedFunction[] {
    const nowMs = this.#options.clock.monotonicMs()
    for (const [key, atMs] of pop.advisedAtMs) if (nowMs - atMs >= ADVISE_AGAIN_MS) pop.advisedAtMs.delete(key)
    const may = (key: string): boolean => {
      const { account, functionName } = refOf(key)
      return !pop.advisedAtMs.has(key) && this.#options.mayHold(popId, account, functionName) // T3
    }
    const keys = adviseHotSet(pop, this.#demandOf(pop.area, nowMs), may, ADVICE_MAX)
    for (const key of keys) pop.advisedAtMs.set(key, nowMs)
    this.counts.advised += keys.length
    return keys.map((key) => ({ ...refOf(key), cpuUs: this.#cpuUsOf(key) }))
  }

  /** Looked at anew every some seconds: hundreds of POPs ask for it in that time. */
  #demandOf(area: string, nowMs: number): readonly AreaDemand[] {
    const kept = this.#demand.get(area)
    if (kept !== undefined && nowMs - kept.atMs < DEMAND_KEPT_MS) return kept.demand
    const demand = areaDemand(area, this.#pops.values(), DEFAULT_ADVICE_POLICY)
    if (this.#demand.size >= LINK_CONNECTIONS_MAX) this.#demand.clear()
    this.#demand.set(area, { atMs: nowMs, demand })
    return demand
  }

  /** Of one run, as the POPs have seen it. */
  #cpuUsOf(key: string): number {
    let cpuUs = 0
    let runs = 0
    for (const { totals } of this.#pops.values()) {
      const counts = totals.get(key)?.counts
      cpuUs += counts?.cpuUs ?? 0
      runs += (counts?.local ?? 0) + (counts?.forwarded ?? 0)
    }
    return runs === 0 ? 0 : Math.round(cpuUs / runs)
  }

  #forgetSilent(): void {
    const nowMs = this.#options.clock.monotonicMs()
    for (const [popId, { heardAtMs }] of this.#pops) if (nowMs - heardAtMs > SILENT_MAX_MS) this.#pops.delete(popId)
  }
}

/** Part of its capacity that a host uses: all of it as soon as something waits. */
export function loadOf({ queued, slots, slotsUsed, running }: HostStats): number {
  if (queued > 0) return 1
  return slots === 0 ? Math.min(1, running / 64) : Math.min(1, slotsUsed / slots)
}

/** No account has a line break. */
function keyOf(account: string, functionName: string): string {
  return `${account}\n${functionName}`
}

function refOf(key: string): FunctionRef {
  const at = key.indexOf('\n')
  return { account: key.slice(0, at), functionName: key.slice(at + 1) }
}
