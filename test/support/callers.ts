/** Clients that call and call, and note what each of their calls came to: for what is seen while something fails. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { codeOf } from './net-site.ts'
import { call, type Called, type Tier } from './site.ts'

export interface Seen {
  /** When the call began and how long its answer took, ms of `performance.now()`. */
  readonly atMs: number
  readonly tookMs: number
  /** An HTTP status; null when there was no HTTP answer at all. */
  readonly status: number | null
  /** The error's code; `no connection`, `connection lost` or `hung` without an answer; null when it went well. */
  readonly code: string | null
  readonly place: string | null
  readonly stale: boolean
  readonly body: string
}

export interface Callers {
  readonly seen: readonly Seen[]
  stop(): Promise<readonly Seen[]>
}

export interface CallersOptions {
  readonly count?: number
  /** Between an answer and the next call of the same client. */
  readonly pauseMs?: number
  /** After this a call counts as hung. */
  readonly patienceMs?: number
}

/** `to` is asked before each call: which POP, and what of it. Stopped at the test's end at the latest. */
export function startCallers(t: Test, to: () => readonly [pop: Tier, name: string, init?: RequestInit & { readonly path?: string }], options: CallersOptions = {}): Callers {
  const { count = 4, pauseMs = 5, patienceMs = 20_000 } = options
  const seen: Seen[] = []
  let stopped = false
  const client = async (): Promise<void> => {
    while (!stopped) {
      seen.push(await look(...to(), patienceMs))
      await sleep(pauseMs)
    }
  }
  const clients = Promise.all(Array.from({ length: count }, client))
  const stop = async (): Promise<readonly Seen[]> => {
    stopped = true
    await clients
    return seen
  }
  t.teardown(stop)
  return { seen, stop }
}

/** One call as its client sees it. Never rejects. */
export async function look(pop: Tier, name: string, init: RequestInit & { readonly path?: string } = {}, patienceMs = 20_000): Promise<Seen> {
  const atMs = performance.now()
  const tookMs = (): number => performance.now() - atMs
  try {
    const called = await call(pop, name, { ...init, signal: AbortSignal.timeout(patienceMs) })
    return { atMs, tookMs: tookMs(), status: called.status, code: codeOf(called), place: called.place, stale: isStale(called), body: called.body }
  } catch (error) {
    return { atMs, tookMs: tookMs(), status: null, code: whyNot(error), place: null, stale: false, body: '' }
  }
}

/** How often each outcome was seen, for messages: `200 pop: 312, ERR_REGION_LOST: 4`. */
export function summary(seen: readonly Seen[]): string {
  const counts = new Map<string, number>()
  for (const { code, status, place } of seen) {
    const outcome = code ?? `${status} ${place?.split(';')[0]}`
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  }
  return [...counts].map(([outcome, times]) => `${outcome}: ${times}`).join(', ')
}

/** The codes that were seen, each once, sorted; what went well has none. */
export function codesOf(seen: readonly Seen[]): readonly string[] {
  return [...new Set(seen.flatMap(({ code }) => (code === null ? [] : [code])))].sort()
}

/** The slowest of a share of the calls, ms. */
export function percentileMs(seen: readonly Seen[], share: number): number {
  const sorted = seen.map(({ tookMs }) => tookMs).sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

function isStale({ headers }: Called): boolean {
  return headers.get('x-outpost-stale') === '1'
}

function whyNot(error: unknown): string {
  if (error instanceof Error && error.name === 'TimeoutError') return 'hung'
  const cause = error instanceof Error ? (error.cause as { readonly code?: string } | undefined)?.code : undefined
  return cause === 'ECONNREFUSED' ? 'no connection' : 'connection lost'
}
