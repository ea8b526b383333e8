/**
 * Tells the region every some seconds what was asked for here, what is held, and how the host does; takes its advice.
 *
 * Counts are given up only once the region has them: a report that fails is contained in the next.
 */
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import { LINK_FUNCTIONS_MAX } from '../shared/limits.ts'
import type { FunctionCounts, PopReport } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { FunctionEntry, FunctionTable } from './functions.ts'
import type { RegionLink } from './region-link.ts'
import type { Versions } from './versions.ts'

export interface ReporterOptions {
  readonly link: RegionLink
  readonly table: FunctionTable
  readonly versions: Versions
  readonly host: SandboxHost
  readonly clock: Clock
  readonly log: Log
}

export class Reporter {
  readonly #options: ReporterOptions
  readonly #log: Log
  #sequence = 0
  #lastMs: number
  #state: 'idle' | 'reporting' = 'idle'

  constructor(options: ReporterOptions) {
    this.#options = options
    this.#log = options.log.child('reporter')
    this.#lastMs = options.clock.monotonicMs()
  }

  /** Sends one report, unless the last one is still under way or there is nobody to tell. Never rejects. */
  async report(): Promise<void> {
    const { link, versions, clock } = this.#options
    if (this.#state === 'reporting' || link.state.kind !== 'open') return
    this.#state = 'reporting'
    const nowMs = clock.monotonicMs()
    const counted = this.#counted()
    try {
      const advice = await link.report(this.#make(counted, nowMs))
      for (const [entry, counts] of counted) subtract(entry, counts)
      this.#lastMs = nowMs
      versions.hear(advice.functions)
      for (const { account, functionName } of advice.pull) versions.learn(this.#options.table.get(account, functionName), null)
    } catch (error) {
      this.#log.warn('report failed', { code: toCodedError(error).code })
    } finally {
      this.#state = 'idle'
    }
  }

  #counted(): [FunctionEntry, FunctionCounts][] {
    const counted: [FunctionEntry, FunctionCounts][] = []
    for (const entry of this.#options.table.all()) {
      if (entry.counts.arrivals === 0 && entry.counts.local === 0 && entry.counts.forwarded === 0) continue
      counted.push([entry, { account: entry.account.account, functionName: entry.name, ...entry.counts }])
      if (counted.length === LINK_FUNCTIONS_MAX) break
    }
    return counted
  }

  #make(counted: readonly [FunctionEntry, FunctionCounts][], nowMs: number): PopReport {
    const held = [...this.#options.table.all()]
      .filter((entry) => entry.resident.size > 0)
      .slice(0, LINK_FUNCTIONS_MAX)
      .map((entry) => ({ account: entry.account.account, functionName: entry.name, builds: [...entry.resident.keys()] }))
    this.#sequence++
    return {
      sequence: this.#sequence,
      periodMs: Math.max(0, Math.round(nowMs - this.#lastMs)),
      functions: counted.map(([, counts]) => counts),
      held,
      host: this.#options.host.stats(),
    }
  }
}

function subtract(entry: FunctionEntry, reported: FunctionCounts): void {
  entry.counts.arrivals -= reported.arrivals
  entry.counts.local -= reported.local
  entry.counts.forwarded -= reported.forwarded
  entry.counts.failed -= reported.failed
  entry.counts.cpuUs -= reported.cpuUs
}
