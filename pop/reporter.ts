/**
 * Tells the region every some seconds what was asked for here, what is held, and how the host does; takes its advice.
 *
 * Counts are given up only once the region has them: a report that fails is contained in the next. What does not fit one
 * frame's worth goes in parts; a part is complete in itself.
 */
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import { LINK_FUNCTIONS_MAX, LINK_REPORT_BYTES } from '../shared/limits.ts'
import type { FunctionCounts, HeldFunction, PopReport } from '../shared/link/types.ts'
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
    const held = this.#held()
    try {
      for (const { counted, report } of this.#parts(held, nowMs)) {
        const advice = await link.report(report)
        for (const [entry, counts] of counted) subtract(entry, counts)
        for (const { account, functionName } of advice.pull) versions.learn(this.#options.table.get(account, functionName), null)
      }
      this.#lastMs = nowMs
      // Changes are pushed; this finds out about one that was lost.
      if (held.length > 0) versions.hear(await link.snapshot(held))
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

  #held(): HeldFunction[] {
    return [...this.#options.table.all()]
      .filter((entry) => entry.resident.size > 0)
      .slice(0, LINK_FUNCTIONS_MAX)
      .map((entry) => ({ account: entry.account.account, functionName: entry.name, builds: [...entry.resident.keys()] }))
  }

  #parts(held: readonly HeldFunction[], nowMs: number): { readonly counted: readonly [FunctionEntry, FunctionCounts][]; readonly report: PopReport }[] {
    const counts = inParts(this.#counted(), ([, { account, functionName }]) => account.length + functionName.length + COUNTS_BYTES)
    const holdings = inParts(held, ({ account, functionName, builds }) => builds.reduce((bytes, key) => bytes + key.length + 3, account.length + functionName.length + HELD_BYTES))
    this.#sequence++
    const host = this.#options.host.stats()
    const periodMs = Math.max(0, Math.round(nowMs - this.#lastMs))
    const parts = Math.max(1, counts.length, holdings.length)
    return Array.from({ length: parts }, (_, part) => {
      const counted = counts[part] ?? []
      return { counted, report: { sequence: this.#sequence, part, parts, periodMs, functions: counted.map(([, functionCounts]) => functionCounts), held: holdings[part] ?? [], host } }
    })
  }
}

/** Field names and numbers of one function's counts, and of one function that is held, encoded. */
const COUNTS_BYTES = 120
const HELD_BYTES = 40

/** Cuts a list into runs of at most half of LINK_REPORT_BYTES, since a report has two; one item alone may be more. */
function inParts<T>(items: readonly T[], bytesOf: (item: T) => number): T[][] {
  const parts: T[][] = []
  let bytes = Infinity
  for (const item of items) {
    bytes += bytesOf(item)
    if (bytes > LINK_REPORT_BYTES / 2) {
      parts.push([])
      bytes = bytesOf(item)
    }
    parts.at(-1)?.push(item)
  }
  return parts
}

function subtract(entry: FunctionEntry, reported: FunctionCounts): void {
  entry.counts.arrivals -= reported.arrivals
  entry.counts.local -= reported.local
  entry.counts.forwarded -= reported.forwarded
  entry.counts.failed -= reported.failed
  entry.counts.cpuUs -= reported.cpuUs
}
