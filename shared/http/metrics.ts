/**
 * What a front door counts. Recording is an increment or two in plain arrays; the text of a scrape is made from them only
 * when somebody asks. Labels come from closed sets: never a function's or a tenant's name.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { ERRORS, type Fault } from '../errors.ts'
import { FairShare } from '../fair-share.ts'
import { OUTCOMES, START_KINDS, type StartKind } from '../outcome.ts'
import type { InvocationResult } from '../worker/types.ts'
import type { Placement } from './types.ts'

export type Tier = 'pop' | 'region'

export const ROUTE_KINDS = ['web', 'invoke', 'control', 'admin', 'refused'] as const
export type RouteKind = (typeof ROUTE_KINDS)[number]
const STATUS_CLASSES = ['2xx', '3xx', '4xx', '5xx', 'none'] as const
const PLACE_REASONS = ['local', 'not-hot', 'no-image', 'heavy', 'capability', 'slow', 'capacity', 'limit', 'version-unknown', 'auth', 'other'] as const
const FAULTS: readonly Fault[] = ['client', 'function', 'platform', 'overload']

/** Bounds in ms. Below 5 ms they resolve what a warm start costs; above, the buckets that OpenTelemetry advises. */
export const DURATION_BOUNDS_MS: readonly number[] = [
  0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000,
]
const MEMORY_BOUNDS_BYTES: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].map((mib) => mib * 1024 * 1024)

/** A histogram as two arrays. `record` is a search among at most 20 bounds and three additions. */
export class ArrayHistogram {
  readonly bounds: readonly number[]
  readonly counts: number[]
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Array<number>(bounds.length + 1).fill(0)
  }

  record(value: number): void {
    let low = 0
    let high = this.bounds.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (value <= (this.bounds[middle] ?? 0)) high = middle
      else low = middle + 1
    }
    this.counts[low] = (this.counts[low] ?? 0) + 1
    this.sum += value
  }

  count(): number {
    return this.counts.reduce((total, count) => total + count, 0)
  }
}

export class HttpMetrics {
  /** Requests whose connection and dispatch are not both done. */
  inFlight = 0
  connections = 0
  /** Request bodies that are held here, by client (address.ts). */
  readonly bodies: FairShare
  clientAborts = 0
  stale = 0
  readonly #requests = ROUTE_KINDS.map(() => new Array<number>(STATUS_CLASSES.length).fill(0))
  readonly #durations = ROUTE_KINDS.map(() => new ArrayHistogram(DURATION_BOUNDS_MS))
  readonly #starts = new Array<number>(START_KINDS.length + 1).fill(0)
  readonly #places = new Array<number>(PLACE_REASONS.length).fill(0)
  readonly #outcomes = new Array<number>(OUTCOMES.length).fill(0)
  readonly #failures = new Array<number>(FAULTS.length).fill(0)
  readonly #invokeMs = new ArrayHistogram(DURATION_BOUNDS_MS)
  readonly #cpuMs = new ArrayHistogram(DURATION_BOUNDS_MS)
  readonly #memoryBytes = new ArrayHistogram(MEMORY_BOUNDS_BYTES)

  constructor(bodiesMaxBytes: number) {
    this.bodies = new FairShare(bodiesMaxBytes)
  }

  /** `status` 0: the client left before an answer. */
  answered(route: number, status: number, durationMs: number): void {
    increment(this.#requests[route], status === 0 ? 4 : ((status / 100) | 0) - 2)
    this.#durations[route]?.record(durationMs)
  }

  ended(result: InvocationResult, placement: Placement): void {
    increment(this.#outcomes, OUTCOMES.indexOf(result.outcome))
    this.#placed(placement)
    this.#invokeMs.record(result.wallUs / 1000)
    this.#cpuMs.record(result.cpuUs / 1000)
    this.#memoryBytes.record(result.memoryBytes)
  }

  failed(fault: Fault, placement: Placement | null): void {
    increment(this.#failures, FAULTS.indexOf(fault))
    if (placement !== null) this.#placed(placement)
  }

  #placed(placement: Placement): void {
    increment(this.#starts, startIndex(placement.startKind))
    let reason = 0
    if (placement.place === 'region' && placement.reason !== null) {
      reason = PLACE_REASONS.indexOf(placement.reason as (typeof PLACE_REASONS)[number])
      if (reason === -1) reason = PLACE_REASONS.length - 1
    }
    increment(this.#places, reason)
    if (placement.stale) this.stale++
  }

  /** Makes everything above visible in `registry`. Once per registry. */
  register(registry: Registry, tier: Tier): void {
    const registers = [registry]
    counter(registers, `${tier}_http_requests_total`, 'Requests by what they asked for and the class of the answer; none: the client left first', ['route', 'status'], (add) => {
      this.#requests.forEach((counts, route) => counts.forEach((count, status) => add({ route: ROUTE_KINDS[route] ?? '', status: STATUS_CLASSES[status] ?? '' }, count)))
    })
    counter(registers, `${tier}_http_client_aborts_total`, 'Clients that left before their answer was complete', [], (add) => add({}, this.clientAborts))
    gauge(registers, 'http_server_active_requests', 'Requests in flight', () => this.inFlight)
    gauge(registers, `${tier}_http_connections_count`, 'Open client connections', () => this.connections)
    gauge(registers, `${tier}_http_buffered_body_bytes`, 'Request bodies held until they are complete', () => this.bodies.used)
    histogram(registers, 'http_server_request_duration_seconds', 'Time from a request head to the end of its answer', 1000, 'http_route', () =>
      this.#durations.map((recorded, route) => [ROUTE_KINDS[route] ?? '', recorded] as const))
    counter(registers, `${tier}_invocation_starts_total`, 'Invocations by where their sandbox came from', ['kind'], (add) => {
      this.#starts.forEach((count, kind) => add({ kind: START_KINDS[kind] ?? 'unknown' }, count))
    })
    counter(registers, `${tier}_invocation_places_total`, 'Invocations by where they ran and why: local, or the reason of the forward', ['reason'], (add) => {
      this.#places.forEach((count, reason) => add({ reason: PLACE_REASONS[reason] ?? '' }, count))
    })
    counter(registers, `${tier}_invocation_outcomes_total`, 'Invocations by how they ended', ['outcome'], (add) => {
      this.#outcomes.forEach((count, outcome) => add({ outcome: OUTCOMES[outcome] ?? '' }, count))
    })
    counter(registers, `${tier}_invocation_failures_total`, 'Invocations that came to no outcome, by whose fault it was', ['fault'], (add) => {
      this.#failures.forEach((count, fault) => add({ fault: FAULTS[fault] ?? '' }, count))
    })
    counter(registers, `${tier}_invocation_stale_total`, 'Invocations served while cut off from the region', [], (add) => add({}, this.stale))
    this.#registerFaas(registers)
  }

  /** The names that OpenTelemetry's conventions give a function platform. */
  #registerFaas(registers: Registry[]): void {
    const outcome = (name: (typeof OUTCOMES)[number]): number => this.#outcomes[OUTCOMES.indexOf(name)] ?? 0
    const all = (): number => this.#outcomes.reduce((total, count) => total + count, 0)
    counter(registers, 'faas_invocations_total', 'Successful invocations', [], (add) => add({}, outcome('ok')))
    counter(registers, 'faas_timeouts_total', 'Invocations that ran into their time limit', [], (add) => add({}, outcome('exceededWall')))
    counter(registers, 'faas_errors_total', 'Invocations that failed otherwise', [], (add) => add({}, all() - outcome('ok') - outcome('exceededWall')))
    counter(registers, 'faas_coldstarts_total', 'Invocations whose image had to be built or fetched', [], (add) => add({}, this.#starts[START_KINDS.indexOf('cold')] ?? 0))
    histogram(registers, 'faas_invoke_duration_seconds', 'Wall time of an invocation', 1000, null, () => [['', this.#invokeMs]])
    histogram(registers, 'faas_cpu_usage_seconds', 'CPU time of an invocation', 1000, null, () => [['', this.#cpuMs]])
    histogram(registers, 'faas_mem_usage_bytes', 'Memory of an invocation', 1, null, () => [['', this.#memoryBytes]])
  }
}

export function routeIndex(route: RouteKind): number {
  return ROUTE_KINDS.indexOf(route)
}

type Add = (labels: Record<string, string>, count: number) => void

/** A counter whose values exist elsewhere and are copied when somebody scrapes. */
export function counter(registers: Registry[], name: string, help: string, labelNames: string[], collect: (add: Add) => void): void {
  new Counter({
    name, help, labelNames, registers,
    collect() {
      this.reset()
      collect((labels, count) => {
        if (count > 0 || labelNames.length === 0) this.inc(labels, count)
      })
    },
  })
}

export function gauge(registers: Registry[], name: string, help: string, read: () => number): void {
  new Gauge({
    name, help, registers,
    collect() {
      this.set(read())
    },
  })
}

/** One value for each of a few things that configuration names. */
export function labelledGauge(registers: Registry[], name: string, help: string, label: string, read: () => readonly (readonly [labelValue: string, value: number])[]): void {
  new Gauge({
    name, help, labelNames: [label], registers,
    collect() {
      this.reset()
      for (const [labelValue, value] of read()) this.set({ [label]: labelValue }, value)
    },
  })
}

/** A Prometheus histogram over ArrayHistograms; `perUnit` values make one unit of the exposition (1000 ms a second). */
export function histogram(
  registers: Registry[], name: string, help: string, perUnit: number, label: string | null,
  read: () => readonly (readonly [labelValue: string, recorded: ArrayHistogram])[],
): void {
  const configuration = { name, help, ...(label === null ? {} : { labelNames: [label] }) }
  new ArrayBackedHistogram({ ...configuration, registers }, new Histogram({ ...configuration, registers: [] }), () => {
    const values: HistogramValue[] = []
    for (const [labelValue, recorded] of read()) appendHistogram(values, name, label === null ? {} : { [label]: labelValue }, perUnit, recorded)
    return values
  })
}

type HistogramValue = Awaited<ReturnType<Histogram['get']>>['values'][number]

/** prom-client has no way to set the buckets of its own histogram, so this one answers in its place. */
class ArrayBackedHistogram extends Histogram {
  readonly #shape: Histogram
  readonly #read: () => HistogramValue[]

  constructor(configuration: ConstructorParameters<typeof Histogram>[0], shape: Histogram, read: () => HistogramValue[]) {
    super(configuration)
    this.#shape = shape
    this.#read = read
  }

  /** What the registry and `get` call, though the types do not know it. */
  async getForPromString(): ReturnType<Histogram['get']> {
    return { ...(await this.#shape.get()), values: this.#read() }
  }
}

function appendHistogram(values: HistogramValue[], name: string, labels: Record<string, string>, perUnit: number, recorded: ArrayHistogram): void {
  let cumulative = 0
  recorded.counts.forEach((count, index) => {
    cumulative += count
    const bound = recorded.bounds[index]
    values.push({ metricName: `${name}_bucket`, labels: { ...labels, le: bound === undefined ? '+Inf' : bound / perUnit }, value: cumulative })
  })
  values.push({ metricName: `${name}_sum`, labels, value: recorded.sum / perUnit })
  values.push({ metricName: `${name}_count`, labels, value: cumulative })
}

function increment(counts: number[] | undefined, index: number): void {
  if (counts !== undefined && index >= 0 && index < counts.length) counts[index] = (counts[index] ?? 0) + 1
}

function startIndex(kind: StartKind | null): number {
  return kind === null ? START_KINDS.length : START_KINDS.indexOf(kind)
}

export function faultOf(code: keyof typeof ERRORS): Fault {
  return ERRORS[code].fault
}
