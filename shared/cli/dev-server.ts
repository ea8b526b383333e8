/**
 * POP and region of `outpost dev`: two processes with the link between them, as in production, kept running and stopped
 * together. The POP stops first: what it still has in flight may need the region.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { fetch } from 'undici'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { LogLevel } from '../log.ts'
import type { CliContext } from './context.ts'
import { renderRecord } from './log-output.ts'
import { freePort } from './ports.ts'
import { SupervisedProcess } from './supervised-process.ts'

/** Children get this much longer than their own drain before SIGKILL. */
const STOP_GRACE_MS = 5_000
/** The link opens within milliseconds of both processes being ready, or something is wrong. */
const LINK_WAIT_MAX_MS = 15_000
const LINK_POLL_MS = 20

export interface DevServerOptions {
  readonly port: number
  readonly host: string
  readonly dataDir: string
  readonly drainTimeoutMs: number
  readonly hotMinRequests: number
  readonly logFormat: 'pretty' | 'json'
  readonly clock: Clock
}

export interface DevServer {
  readonly popPort: number
  readonly regionPort: number
  restarts(): { readonly region: number; readonly pop: number }
  stop(): Promise<void>
}

export async function startDevServer(context: CliContext, options: DevServerOptions): Promise<DevServer> {
  const { host, dataDir, drainTimeoutMs } = options
  const child = (name: 'region' | 'pop', argv: (port: number | null) => readonly string[]): SupervisedProcess =>
    new SupervisedProcess({
      name,
      file: context.self.file,
      argv: (before) => [...context.self.argv, name, '--dev', 'true', '--host', host, '--drain-timeout', String(drainTimeoutMs), ...argv(before?.port ?? null)],
      env: childEnvironment(context.env),
      cwd: context.cwd,
      clock: options.clock,
      onLine: (line) => context.err(options.logFormat === 'json' ? `${line}\n` : renderLine(line, name)),
      onRestart: (reason, delayMs) => context.err(renderRecord(new Date(), 'error', 'dev', `${name} ended, starting it again`, { reason, delayMs })),
    })

  // The POP keeps the region's address over restarts, so the port is chosen here; and so both can start at the same time.
  const regionPort = await freePort(host)
  const region = child('region', () => ['--port', String(regionPort), '--data', `${dataDir}/region`])
  const pop = child('pop', (port) => [
    ...['--port', String(port ?? options.port), '--region', `http://${hostInUrl(host)}:${regionPort}`],
    ...['--data', `${dataDir}/pop`, '--hot-min-requests', String(options.hotMinRequests)],
  ])
  const stop = async (): Promise<void> => {
    await pop.stop(drainTimeoutMs + STOP_GRACE_MS)
    await region.stop(drainTimeoutMs + STOP_GRACE_MS)
  }
  try {
    const [popReady] = await Promise.all([pop.start(), region.start()])
    await untilLinked(`http://${hostInUrl(host)}:${popReady.port}/readyz`, options.clock)
    return { popPort: popReady.port, regionPort, restarts: () => ({ region: region.restarts, pop: pop.restarts }), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A POP listens before its link to the region is open; requests would be refused until then. */
async function untilLinked(readyUrl: string, clock: Clock): Promise<void> {
  const deadlineAtMs = clock.monotonicMs() + LINK_WAIT_MAX_MS
  for (;;) {
    // Rejects while the POP is being started again; asked again until the deadline like any other answer.
    const status = await fetch(readyUrl).then((response) => response.status, () => 0)
    if (status === 200) return
    if (clock.monotonicMs() > deadlineAtMs) throw new CodedError('ERR_PROCESS_FAILED', ['pop', `${readyUrl} still answers ${status}`])
    await sleep(LINK_POLL_MS)
  }
}

export function hostInUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

/** Settings of tiers that run by themselves must not leak into these: what counts here are the options above. */
function childEnvironment(env: CliContext['env']): Record<string, string> {
  const kept = Object.entries(env).filter(([name]) => !/^OUTPOST_(REGION|POP)_|^OUTPOST_LINK_TOKEN$|^OUTPOST_LOG$/.test(name))
  return Object.fromEntries(kept.filter((entry): entry is [string, string] => entry[1] !== undefined))
}

const LEVELS: readonly string[] = ['debug', 'info', 'warn', 'error'] satisfies LogLevel[]

/** A record becomes a short line; anything else a child prints keeps its words. */
export function renderLine(line: string, tier: string): string {
  const record = parseRecord(line)
  if (record === null) return `${tier}: ${line}\n`
  const { level, time, tier: from, component, message, ...fields } = record
  if (typeof level !== 'string' || !LEVELS.includes(level) || typeof message !== 'string' || level === 'debug') return level === 'debug' ? '' : `${tier}: ${line}\n`
  const at = new Date(typeof time === 'string' ? time : NaN)
  // What a function says: its own words, under its own name.
  if (component === 'function' && typeof fields.functionName === 'string' && typeof fields.text === 'string') return renderRecord(at, level as LogLevel, fields.functionName, fields.text, {})
  const name = component === from || typeof component !== 'string' ? tier : `${tier}.${component}`
  return renderRecord(at, level as LogLevel, name, message, scalars(fields))
}

function parseRecord(line: string): Record<string, unknown> | null {
  if (!line.startsWith('{')) return null
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    // A line that only looks like a record.
    return null
  }
}

function scalars(fields: Record<string, unknown>): Record<string, string | number | boolean | null> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' || value === null ? value : JSON.stringify(value)]),
  )
}
