/** What an executor is given, and what it counts. */
import type { ResidentImage } from './arena.ts'
import type { RunOutput } from './run.ts'
import type { MachineRuntime } from './runtime.ts'

export interface ExecutorOptions {
  readonly runtime: MachineRuntime
  readonly slotCount: number
  /** What slots and parked machines of this executor may keep resident, bytes. */
  readonly residentMaxBytes: number
  readonly output: RunOutput
  /** True when the run is to be stopped from outside; looked at once a slice. */
  isCanceled(runId: number): boolean
  /** Monotonic and epoch time, ms. */
  nowMs(): number
  epochMs(): number
  /** CPU time of this thread, ms: what a limit counts, so that a guest does not pay for being descheduled. */
  threadCpuMs(): number
  /** A slot failed the oracle. */
  incident(what: string, image: ResidentImage): void
  /** See HostCallContext. Default `local`. */
  readonly siteName?: string
  /** Slots were destroyed, or formatters of Intl dropped: have their memory collected. */
  releaseMemory?(): void
}

export interface ExecutorCounts {
  starts: number
  warm: number
  reimaged: number
  resumed: number
  parked: number
  lateSettles: number
  slotsDestroyed: number
  scrubs: number
}
