/** A POP or a region as a process: from its configuration to its last answered request. */
import { availableParallelism } from 'node:os'
import { isAbsolute, resolve } from 'node:path'
import { systemClock, type Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { CliContext } from './context.ts'
import { lockDataDir } from './data-lock.ts'

/** A started tier as the command line sees it. */
export interface RunningTier {
  /** The port really listened on. */
  readonly port: number
  /** Null if there is none. */
  readonly adminPort: number | null
  /** Takes no new work, finishes what is in flight until the deadline, then closes everything. */
  stop(drainTimeoutMs: number): Promise<void>
}

export interface TierDeps {
  readonly clock: Clock
  readonly log: Log
  /** Threads that run functions. */
  readonly workers: number
  /** Calls the listener at each SIGHUP, which otherwise ends the process. */
  readonly onHangup: (listener: () => void) => void
}

export interface TierSettings {
  readonly dataDir: string | null
  /** Null: defaultWorkers(). */
  readonly workers: number | null
  readonly drainTimeoutMs: number
}

/** Runs until a signal. Throws what starting throws. */
export async function runTier<Settings extends TierSettings>(
  context: CliContext,
  name: 'region' | 'pop',
  settings: Settings,
  start: (settings: Settings, deps: TierDeps) => Promise<RunningTier>,
): Promise<void> {
  const stop = context.stopSignal()
  const log = context.makeLog(name, context.env.OUTPOST_LOG === 'pretty')
  const dataDir = settings.dataDir === null ? null : absolute(settings.dataDir, context.cwd)
  const unlock = dataDir === null ? () => undefined : lockDataDir(dataDir)
  try {
    const tier = await start({ ...settings, dataDir }, { clock: systemClock, log, workers: settings.workers ?? defaultWorkers(), onHangup: (listener) => context.onHangup(listener) })
    log.info('ready', { port: tier.port, adminPort: tier.adminPort })
    context.tellParent({ kind: 'ready', port: tier.port, adminPort: tier.adminPort })
    await untilAborted(stop)
    log.info('draining', { timeoutMs: settings.drainTimeoutMs })
    await tier.stop(settings.drainTimeoutMs)
    log.info('stopped')
  } finally {
    unlock()
  }
}

/** Resolves when the signal aborts, or at once. Holds the process, which may have nothing else to wait for. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const hold = setInterval(() => undefined, 2_147_483_647)
    const end = (): void => {
      clearInterval(hold)
      done()
    }
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
  })
}

function absolute(path: string, cwd: string): string {
  return isAbsolute(path) ? path : resolve(cwd, path)
}

/** One thread per core beside the front door's, at least two, so that one may be inside a long guest, and at most four: more is an operator's decision. */
function defaultWorkers(): number {
  return Math.min(4, Math.max(2, availableParallelism() - 1))
}
