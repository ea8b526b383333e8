/** A host's records: a run that is under way, the worker it is at, and the run as a front door holds it. */
import type { MessagePort } from 'node:worker_threads'
import type { BuildKey, ImageId } from '../brand.ts'
import type { IdTable } from '../id-table.ts'
import type { HostChannel, OnRecord } from './channel.ts'
import type { ServiceCall } from './service-calls.ts'
import type { Invocation, InvocationInput, InvocationSink } from './types.ts'

export interface ActiveRun {
  readonly id: number
  readonly input: InvocationInput
  readonly sink: InvocationSink
  readonly enqueuedAtMs: number
  worker: WorkerHandle | null
  /** Chunks of the request body that came before the invocation was handed over. */
  chunks: Uint8Array[] | null
  /** A worker has begun a run with a streamed body: chunks go to it from now on. Before, it could be taken back. */
  bodyAwaited: boolean
  chunksEnded: boolean
  bodyBytes: number
  /** Of these, what the guest has not taken. */
  bodyWaitingBytes: number
  bodyPaused: boolean
  headSent: boolean
  bodyEnded: boolean
  /** Bytes of the response passed on and not yet acknowledged to the worker. */
  passedBytes: number
  sinkPaused: boolean
  canceled: boolean
  /** A session's machine as it comes back, and how much of it has come. */
  state: Uint8Array | null
  stateBytes: number
  /** Calls by service bindings, by operation, that have not been answered and read to their end. */
  services: Map<number, ServiceCall> | null
  /** See ServiceChain. */
  chainCalls: { count: number } | null
}

/** A build that a worker was told of. */
export interface IntroducedBuild {
  readonly index: number
  readonly imageId: ImageId
}

export interface WorkerHandle {
  readonly index: number
  readonly channel: HostChannel
  readonly port: MessagePort
  readonly abort: AbortController
  readonly runs: IdTable<ActiveRun>
  /** Builds that the worker knows, by key. */
  readonly builds: Map<BuildKey, IntroducedBuild>
  /** Bound once for all polls. */
  readonly onRecord: OnRecord
  sleeping: boolean
  lastTurns: number
  /** Since when `lastTurns` stands with a guest inside. */
  stuckSinceMs: number
  /** The same for the watchdog, which looks seldom and by the host's clock. */
  watchedTurns: number
  watchedSinceMs: number
  lost: boolean
}

/** What a front door can do with a run; the host does it. */
export interface RunControls {
  write(run: ActiveRun, chunk: Uint8Array): void
  writeEnd(run: ActiveRun): void
  sinkResumed(run: ActiveRun): void
  cancel(run: ActiveRun): void
  withdraw(run: ActiveRun): boolean
}

export class RunInvocation implements Invocation {
  readonly #host: RunControls
  readonly #run: ActiveRun

  constructor(host: RunControls, run: ActiveRun) {
    this.#host = host
    this.#run = run
  }

  write(chunk: Uint8Array): void {
    this.#host.write(this.#run, chunk)
  }

  writeEnd(): void {
    this.#host.writeEnd(this.#run)
  }

  resume(): void {
    this.#host.sinkResumed(this.#run)
  }

  cancel(): void {
    this.#host.cancel(this.#run)
  }

  withdraw(): boolean {
    return this.#host.withdraw(this.#run)
  }
}
