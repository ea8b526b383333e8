/**
 * Tells each region every some seconds what was asked for here, what is held, and how the host does; takes their advice.
 *
 * R1: counts are totals, so a report that is lost is contained in the next and one that comes twice changes nothing. A
 *     region is told of the functions that changed since the last report that it has answered.
 * R2: what does not fit one frame's worth goes in parts; a part is complete in itself.
 * R3: advice is a hint: what it brings takes room that nobody wants. What it says of versions is acted upon.
 */
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import { LINK_FUNCTIONS_MAX, LINK_REPORT_BYTES } from '../shared/limits.ts'
import type { FunctionCounts, HeldFunction, PopReport } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { Counts, FunctionEntry, FunctionTable } from './functions.ts'
import type { EachRegion } from './region-link.ts'
import type { Residency } from './residency.ts'
import type { Versions } from './versions.ts'

export interface ReporterOptions {
  readonly regions: EachRegion
  readonly table: FunctionTable
  readonly versions: Versions
  readonly residency: Residency
  readonly host: SandboxHost
  readonly clock: Clock
  readonly log: Log
  /** Of this process's life; no other has had it. */
  readonly epoch: string
  readonly area: string
}

interface Told {
  /** Number of the last report that it has answered in all its parts, and when that was made. */
  sequence: number
  atMs: number
  state: 'idle' | 'reporting'
}

export class Reporter {
  readonly #options: ReporterOptions
  readonly #log: Log
  readonly #told: readonly Told[]
  #sequence = 0

  constructor(options: ReporterOptions) {
    this.#options = options
    this.#log = options.log.child('reporter')
    const nowMs = options.clock.monotonicMs()
    this.#told = Array.from({ length: options.regions.regionCount }, () => ({ sequence: 0, atMs: nowMs, state: 'idle' }))
  }

  /** One report to each region in reach that has answered the last one. Never rejects. */
  async report(): Promise<void> {
    this.#sequence++
    for (const entry of this.#options.table.all()) {
      const { arrivals, local, forwarded, failed } = entry.counts
      const events = arrivals + local + forwarded + failed
      if (events === entry.reportedEvents) continue
      entry.reportedEvents = events
      entry.changedInReport = this.#sequence
    }
    await Promise.all(this.#told.map((told, region) => this.#reportTo(region, told)))
  }

  async #reportTo(region: number, told: Told): Promise<void> {
    const { regions, clock, table, versions, residency } = this.#options
    if (told.state === 'reporting' || !regions.isOpen(region)) return
    told.state = 'reporting'
    const sequence = this.#sequence
    const nowMs = clock.monotonicMs()
    try {
      for (const report of this.#parts(sequence, told.sequence, nowMs - told.atMs)) {
        const advice = await regions.report(region, report)
        // Changes are pushed; this finds out about one that was lost.
        versions.hear(advice.versions)
        for (const { account, functionName, cpuUs } of advice.pull) {
          const entry = table.get(account, functionName)
          if (entry.cpu.value === 0 && cpuUs > 0) entry.cpu.record(cpuUs)
          residency.advised(entry)
          versions.learn(entry, null)
        }
      }
      told.sequence = sequence
      told.atMs = nowMs
    } catch (error) {
      this.#log.warn('report failed', { region, code: toCodedError(error).code })
    } finally {
      told.state = 'idle'
    }
  }

  /** R1. */
  #counted(since: number): FunctionCounts[] {
    const counted: FunctionCounts[] = []
    for (const entry of this.#options.table.all()) {
      if (entry.changedInReport <= since) continue
      counted.push({ account: entry.account.account, functionName: entry.name, ...wholeCounts(entry.counts) })
      if (counted.length === LINK_FUNCTIONS_MAX) break
    }
    return counted
  }

  #held(): HeldFunction[] {
    return [...this.#options.table.all()]
      .filter((entry) => entry.resident.size > 0)
      .slice(0, LINK_FUNCTIONS_MAX)
      .map((entry: FunctionEntry) => ({ account: entry.account.account, functionName: entry.name, builds: [...entry.resident.keys()] }))
  }

  /** R2. */
  #parts(sequence: number, since: number, periodMs: number): PopReport[] {
    const { host, epoch, area } = this.#options
    const functions = inParts(this.#counted(since), ({ account, functionName }) => account.length + functionName.length + COUNTS_BYTES)
    const held = inParts(this.#held(), ({ account, functionName, builds }) => builds.reduce((bytes, key) => bytes + key.length + 3, account.length + functionName.length + HELD_BYTES))
    const stats = host.stats()
    const parts = Math.max(1, functions.length, held.length)
    return Array.from({ length: parts }, (_, part) => ({
      epoch, area, sequence, part, parts, periodMs: Math.max(0, Math.round(periodMs)), functions: functions[part] ?? [], held: held[part] ?? [], host: stats,
    }))
  }
}

/** Field names and numbers of one function's counts, and of one function that is held, encoded. */
const COUNTS_BYTES = 160
const HELD_BYTES = 40

function wholeCounts(counts: Counts): Counts {
  const { arrivals, local, forwarded, failed } = counts
  return { arrivals, local, forwarded, failed, cpuUs: Math.round(counts.cpuUs), localUs: Math.round(counts.localUs), forwardedUs: Math.round(counts.forwardedUs) }
}

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
