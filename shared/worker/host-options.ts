/** What a host of worker threads is told by whoever makes it. */
import type { MessagePort } from 'node:worker_threads'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { BuildSpec, InvocationResult } from './types.ts'

export interface SandboxHostOptions {
  readonly workers: number
  /**
   * Workers that are given invocations at the same time, besides those that are inside one guest for long: more threads
   * than cores only take the front door's time. Default: all.
   */
  readonly workersAtOnce?: number
  readonly slotsPerWorker: number
  /** All slots, images and parked machines together, bytes. */
  readonly memoryBudgetBytes: number
  /** Invocations that may wait for a worker. */
  readonly queueMax: number
  readonly preludeSource: string
  /** What functions see as the place that runs them. Default `local`. */
  readonly siteName?: string
  readonly clock: Clock
  readonly log: Log
  /** One port per worker to the thread that makes outbound requests. */
  readonly egressPort: (workerIndex: number, control: Int32Array) => MessagePort
  /** What a worker may take past a run's deadline before it counts as lost, ms. Default 2000. */
  readonly watchdogGraceMs?: number
  /** Called once, last, by `close`. */
  readonly onClose?: () => Promise<void>
  /** A line that a function logged. */
  readonly onLogLine?: (build: BuildSpec, requestId: string, level: number, line: string) => void
  /** What a function threw and did not catch. */
  readonly onException?: (build: BuildSpec, requestId: string, exception: NonNullable<InvocationResult['exception']>) => void
}
