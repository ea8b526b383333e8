/** What the load generator's process is told (one argument, JSON) and what it prints (one line, JSON). */
import type { Plan } from './plans.ts'

export type Arrivals =
  /** Requests fall due at random times of this mean rate (exponential gaps), whether or not earlier ones were answered. */
  | { readonly kind: 'open'; readonly ratePerSecond: number }
  /** Each connection asks again as soon as it has its answer; `count` requests in all, warm-up included. */
  | { readonly kind: 'closed'; readonly count: number }
  /** One request on every connection at the same moment. */
  | { readonly kind: 'burst' }

export interface StreamSpec {
  readonly label: string
  readonly plan: Plan
  readonly connections: number
  readonly arrivals: Arrivals
}

export interface LoadSpec {
  readonly host: string
  readonly port: number
  readonly streams: readonly StreamSpec[]
  /** Answers to requests due before this time are checked but not counted. */
  readonly warmupMs: number
  /** No request falls due after this time; closed and burst streams end earlier when they have sent all. */
  readonly durationMs: number
  /** How long the last answers may take after that. */
  readonly drainMs: number
  readonly seed: number
}

export interface StreamResult {
  readonly label: string
  readonly sent: number
  /** Right answers; includes those of the warm-up. */
  readonly answered: number
  /** Wrong answers, broken connections, and requests without an answer. */
  readonly failed: number
  readonly firstFailure: string
  /** Latencies that the figures below rest on. */
  readonly counted: number
  readonly p50Us: number
  readonly p90Us: number
  readonly p99Us: number
  readonly maxUs: number
  readonly meanUs: number
  /** From due to sent, 99th percentile: waiting for a free connection or for the generator itself. Included in the latencies. */
  readonly lagP99Us: number
  /** From the first request due to the last answer. */
  readonly elapsedMs: number
}

export interface LoadResult {
  readonly streams: readonly StreamResult[]
  /** CPU of the generator as a share of one core: near 1, it is the generator that was measured. */
  readonly generatorCpuShare: number
}
