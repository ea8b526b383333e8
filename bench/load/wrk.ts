/** Closed-loop load with wrk and json.lua: throughput at a number of connections, and latency at one. */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Child } from '../harness/child.ts'
import { cpuSeconds } from '../harness/proc.ts'
import type { Scope } from '../harness/scope.ts'
import type { Server, Target } from '../servers/server.ts'

/** Whether the module counter in each answer must be 1 (`fresh`) or any number, or answers are not looked at; `hello`: a GET, and each answer is `Hello Hono!`. */
export type Check = 'fresh' | 'any' | 'unchecked' | 'hello'

export interface WrkOptions {
  readonly connections: number
  readonly durationS: number
  readonly check: Check
}

export interface WrkResult {
  readonly requestsPerSecond: number
  readonly requests: number
  readonly checked: number
  readonly p50Us: number
  readonly p99Us: number
}

/** What json.lua prints. */
interface Report {
  readonly requests: number
  readonly durationUs: number
  readonly checked: number
  readonly wrong: number
  readonly notOk: number
  readonly connectErrors: number
  readonly readErrors: number
  readonly writeErrors: number
  readonly statusErrors: number
  readonly timeouts: number
  readonly p50Us: number
  readonly p99Us: number
  readonly firstWrong: string
}

const SCRIPT = fileURLToPath(new URL('json.lua', import.meta.url))

export function hasWrk(): boolean {
  try {
    execFileSync('wrk', ['-v'], { stdio: 'ignore' })
    return true
  } catch (error) {
    // `wrk -v` prints its version and exits with 1.
    return (error as { status?: number | null }).status === 1
  }
}

/** Rejects if a single request failed or a single answer was wrong. */
export async function runWrk(scope: Scope, target: Target, options: WrkOptions): Promise<WrkResult> {
  const child = await Child.start(scope, {
    command: 'wrk',
    args: [
      '-t1', `-c${options.connections}`, `-d${Math.ceil(options.durationS)}s`, '--timeout', '10s', '-s', SCRIPT,
      `http://${target.host}:${target.port}`, '--', target.path, options.check,
    ],
  })
  return readReport(await child.result((options.durationS + 30) * 1000), options.check)
}

/** The same with the CPU that the server's processes used meanwhile. */
export async function runWrkWithCpu(scope: Scope, server: Server, target: Target, options: WrkOptions): Promise<WrkResult & { readonly requestsPerCpuSecond: number }> {
  const before = cpuSeconds(server.pids)
  const result = await runWrk(scope, target, options)
  const used = cpuSeconds(server.pids) - before
  return { ...result, requestsPerCpuSecond: result.requests / used }
}

export function readReport(output: string, check: Check): WrkResult {
  const line = output.trimEnd().split('\n').at(-1) ?? ''
  if (!line.startsWith('{')) throw new Error(`wrk gave no report:\n${output}`)
  const report = JSON.parse(line) as Report
  const failures = (['wrong', 'notOk', 'connectErrors', 'readErrors', 'writeErrors', 'statusErrors', 'timeouts'] as const)
    .filter((name) => report[name] > 0)
    .map((name) => `${name} ${report[name]}`)
  if (failures.length > 0) throw new Error(`of ${report.requests} requests: ${failures.join(', ')}; first: ${report.firstWrong}`)
  if (report.requests === 0) throw new Error('wrk got no answer at all')
  if (check !== 'unchecked' && report.checked < report.requests) throw new Error(`only ${report.checked} of ${report.requests} answers were checked`)
  return {
    requestsPerSecond: report.requests / (report.durationUs / 1e6),
    requests: report.requests,
    checked: report.checked,
    p50Us: report.p50Us,
    p99Us: report.p99Us,
  }
}
