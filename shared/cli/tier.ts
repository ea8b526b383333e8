/** A POP or a region as a process: from its configuration to its last answered request. */
import { isAbsolute, resolve } from 'node:path'
import type { CodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { CliContext } from './context.ts'
import { lockDataDir } from './data-lock.ts'

/** A started tier as the command line sees it. */
export interface RunningTier {
  /** The port really listened on. */
  readonly port: number
  /** Null if there is none. */
  readonly adminPort: number | null
  /** Called once with the error that leaves the tier of no use; the process then ends and its supervisor starts a new one. */
  onFatal(listener: (error: CodedError) => void): void
  /** Takes no new work, finishes what is in flight until the deadline, then closes everything. */
  stop(drainTimeoutMs: number): Promise<void>
}

export interface TierSettings {
  readonly dataDir: string | null
  readonly drainTimeoutMs: number
}

/** Runs until a signal. Throws what starting throws, and what was fatal. */
export async function runTier<Settings extends TierSettings>(
  context: CliContext,
  name: 'region' | 'pop',
  settings: Settings,
  start: (settings: Settings, log: Log) => Promise<RunningTier>,
): Promise<void> {
  const stop = context.stopSignal()
  const log = context.makeLog(name, context.env.OUTPOST_LOG === 'pretty')
  const dataDir = settings.dataDir === null ? null : absolute(settings.dataDir, context.cwd)
  const unlock = dataDir === null ? () => undefined : lockDataDir(dataDir)
  try {
    const tier = await start({ ...settings, dataDir }, log)
    log.info('ready', { port: tier.port, adminPort: tier.adminPort })
    context.tellParent({ kind: 'ready', port: tier.port, adminPort: tier.adminPort })
    const fatal = await untilStopped(tier, stop)
    if (fatal !== null) log.error('fatal', { code: fatal.code, reason: fatal.message })
    log.info('draining', { timeoutMs: settings.drainTimeoutMs })
    await tier.stop(fatal === null ? settings.drainTimeoutMs : 0)
    log.info('stopped')
    if (fatal !== null) throw fatal
  } finally {
    unlock()
  }
}

function untilStopped(tier: RunningTier, stop: AbortSignal): Promise<CodedError | null> {
  return new Promise((done) => {
    tier.onFatal(done)
    if (stop.aborted) done(null)
    stop.addEventListener('abort', () => done(null), { once: true })
  })
}

function absolute(path: string, cwd: string): string {
  return isAbsolute(path) ? path : resolve(cwd, path)
}
