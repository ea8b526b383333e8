/** The sandboxes of a process with all their threads: workers, and one thread that makes outbound requests for them. */
import { availableParallelism } from 'node:os'
import { MessageChannel, Worker } from 'node:worker_threads'
import type { Clock } from '../clock.ts'
import { bundlePrelude } from '../guest/bundle.ts'
import { MIB } from '../limits.ts'
import type { Log } from '../log.ts'
import { siblingModule } from '../module-url.ts'
import type { EgressThreadData, ToEgressThread } from './egress-main.ts'
import { WorkerThreadHost } from './host.ts'
import type { BuildSpec, InvocationResult } from './types.ts'

export interface CreateHostOptions {
  readonly workers: number
  /** Slots of all workers together; fewer if the budget does not allow as many. */
  readonly slots: number
  readonly memoryMib: number
  readonly queueMax: number
  readonly clock: Clock
  readonly log: Log
  /** Targets that guests may reach though they are private, `host:port`. For tests and for operators' own services. */
  readonly egressAllowed: readonly string[]
  /** Ports of this process's own listeners, which guests may not reach on any address of this host. */
  readonly ownPorts: readonly number[]
  /** As in WorkerHostOptions. */
  readonly siteName?: string
  readonly onLogLine?: (build: BuildSpec, requestId: string, level: number, line: string) => void
  /** What a function threw and did not catch. */
  readonly onException?: (build: BuildSpec, requestId: string, exception: NonNullable<InvocationResult['exception']>) => void
}

export const DEFAULT_SLOTS = 64
export const DEFAULT_QUEUE_MAX = 10_000

/** `start` of the result brings the workers up; `close` ends all threads. */
export async function createSandboxHost(options: CreateHostOptions): Promise<WorkerThreadHost> {
  const workerData: EgressThreadData = { allowed: options.egressAllowed, ownPorts: options.ownPorts }
  const egress = new Worker(siblingModule(import.meta.url, './egress-main'), { workerData, execArgv: ['--disable-warning=ExperimentalWarning'] })
  egress.unref()
  egress.on('error', (error) => options.log.error('the thread for outbound requests failed', { reason: error.message }))
  return new WorkerThreadHost({
    workers: options.workers,
    workersAtOnce: Math.max(1, availableParallelism() - 1),
    slotsPerWorker: Math.max(1, Math.floor(options.slots / options.workers)),
    memoryBudgetBytes: options.memoryMib * MIB,
    queueMax: options.queueMax,
    preludeSource: await bundlePrelude(),
    siteName: options.siteName ?? 'local',
    clock: options.clock,
    log: options.log.child('sandboxes'),
    egressPort(_workerIndex, control) {
      const { port1, port2 } = new MessageChannel()
      egress.postMessage({ port: port2, control } satisfies ToEgressThread, [port2])
      return port1
    },
    onClose: () => egress.terminate().then(() => undefined),
    ...(options.onLogLine === undefined ? {} : { onLogLine: options.onLogLine }),
    ...(options.onException === undefined ? {} : { onException: options.onException }),
  })
}
