/**
 * One invocation inside a worker: its limits, what it used, its operations and what it answered. A run outlives the
 * slot it runs in: while it waits it may be parked and go on in another.
 *
 * R1  Operation ids are given out by the host and never used twice in a process; a settle names (run, id). Both die
 *     with the run, so a settle that comes late finds nothing and is dropped and counted.
 * R2  A run ends once: `ended` is set in one place, by the executor.
 */
import type { CodedErrorData } from '../errors.ts'
import type { FunctionLimits } from '../limits.ts'
import type { Outcome, StartKind } from '../outcome.ts'
import type { InvocationResult, KeptMachine } from '../worker/types.ts'
import type { ResidentImage } from './arena.ts'
import type { Holdings } from './binding.ts'
import type { Frame } from './guest-frames.ts'
import { shownException } from './shown-exception.ts'
import type { PrivateState, Slot } from './slot.ts'

export interface RunSpec {
  /** Never used twice in a worker. */
  readonly id: number
  readonly image: ResidentImage
  /** `callNumber` of guest/abi.ts. */
  readonly call: number
  readonly limits: FunctionLimits
  readonly secrets: Readonly<Record<string, string>>
  readonly account: string
  /** The request body that is there; valid during `Executor.start`, which makes the run's own copy if it goes on. */
  readonly body: Uint8Array | null
  readonly bodyStreamed: boolean
  /** Monotonic, ms. */
  readonly deadlineAtMs: number
  readonly wantLogs: boolean
  /** Of a session's request: bytes that the machine may have when it is captured after the run. 0: it is not captured. */
  readonly keepMaxBytes: number
  /** The machine as the session's last request left it; valid during `Executor.start`. Null: the image. */
  readonly state: Uint8Array | null
}

const LOST: KeptMachine = { kind: 'lost' }

export type Operation =
  | { readonly kind: 'timer'; readonly dueAtMs: number }
  | { readonly kind: 'fetch' }
  | { readonly kind: 'read'; readonly fetchId: number }
  | { readonly kind: 'body' }
  | { readonly kind: 'drain' }
  /** Aborted by its id like a fetch. */
  | { readonly kind: 'subtle'; readonly bytes: number }
  /** As `fetch`: what is read and aborted by its id. */
  | { readonly kind: 'zip' }
  | { readonly kind: 'service' }
  | { readonly kind: 'write'; readonly fetchId: number }

/** What has come of a service call's answer and was not read yet. Kept until the run ends, so that a late write is known for one. */
export interface ServiceInflow {
  readonly chunks: Uint8Array[]
  /** No more will come: the body is complete, or it broke off with `name\nmessage\ncode`. */
  end: 'complete' | { readonly failure: string } | null
}

/** Where the machine is: in a slot, or parked with what it wrote. */
export type Residence =
  | { readonly kind: 'slot'; readonly slot: Slot }
  | { readonly kind: 'parked'; readonly state: PrivateState }
  | { readonly kind: 'nowhere' }

/** Why the host stopped the guest; the first reason stays. */
export interface Kill {
  readonly outcome: Outcome
  readonly error: CodedErrorData
}

const NO_OPERATIONS: ReadonlyMap<number, Operation> = new Map()
const NO_FETCHES: ReadonlySet<number> = new Set()

export class Run {
  readonly spec: RunSpec
  body: Uint8Array | null
  residence: Residence = { kind: 'nowhere' }
  startKind: StartKind = 'warm'
  // Most runs wait for nothing: these are made when the first operation begins.
  #operations: Map<number, Operation> | null = null
  #fetches: Set<number> | null = null
  #services: Map<number, ServiceInflow> | null = null
  feeding = false
  /** Chunks of a streamed request body that the guest has not asked for yet. */
  readonly bodyChunks: Uint8Array[] = []
  bodyEnded = false
  kill: Kill | null = null
  /** In its last slice: see stopping.ts. `polledAt`: the innermost frame when the engine asked whether to go on. */
  dying: { polledAt: Frame | null } | null = null
  /** Stack of the guest where it was stopped, as the engine writes it. */
  where: string | null = null
  failure: { readonly name: string; readonly message: string; readonly stack: string } | null = null
  responded = false
  /** The response body is complete. */
  bodySent = false
  /** Handler and waitUntil work have settled. */
  done = false
  ended = false
  /** The guest left a turn in its midst: its memory is nothing that could go on. */
  trapped = false
  /** Of a session's run, once it has ended. */
  kept: KeptMachine = LOST
  /** See `Binding.holdings`; goes with the run from slot to slot. */
  readonly holdings: Holdings | null
  collectAboveBytes = 0
  /** It is answered, and when its waitUntil work must have ended is in the timers. */
  backgroundLimited = false
  /** Entry `idle` was called. */
  idleTold = false
  /** The sink asked for a pause of the response body. */
  paused = false
  /** Bytes of the response body sent and not yet taken by the reader. */
  unacknowledgedBytes = 0
  cpuUs = 0
  dirtyPages = 0
  memoryBytes = 0
  responseBytes = 0
  subrequests = 0
  zips = 0
  /** Of operations of crypto.subtle that are under way. */
  cryptoBytes = 0
  readonly startedAtMs: number
  /** What the guest's clock shows, ms since the epoch; moves only between turns. */
  clockMs = 0
  logBytes = 0
  logsTruncated = false
  readonly logs: string[] = []

  constructor(spec: RunSpec, startedAtMs: number) {
    this.spec = spec
    this.body = spec.body
    this.startedAtMs = startedAtMs
    this.holdings = spec.keepMaxBytes > 0 ? { values: [], texts: [] } : null
  }

  get operations(): ReadonlyMap<number, Operation> {
    return this.#operations ?? NO_OPERATIONS
  }

  /** What the thread for outbound requests does for the run: requests and compression streams that were not read to their end, operations of crypto.subtle. */
  get fetches(): ReadonlySet<number> {
    return this.#fetches ?? NO_FETCHES
  }

  /** Of the service call with this id, of this run. */
  serviceOf(id: number): ServiceInflow | null {
    return this.#services?.get(id) ?? null
  }

  get hasServices(): boolean {
    return this.#services !== null
  }

  begin(id: number, operation: Operation): void {
    this.#operations ??= new Map<number, Operation>()
    this.#operations.set(id, operation)
    if (operation.kind === 'service') {
      this.#services ??= new Map<number, ServiceInflow>()
      this.#services.set(id, { chunks: [], end: null })
      return
    }
    if (operation.kind === 'subtle') this.cryptoBytes += operation.bytes
    else if (operation.kind !== 'fetch' && operation.kind !== 'zip') return
    this.#fetches ??= new Set<number>()
    this.#fetches.add(id)
  }

  /** Whether the operation was under way. */
  forget(id: number): boolean {
    const operation = this.#operations?.get(id)
    if (operation === undefined) return false
    if (operation.kind === 'subtle') {
      this.cryptoBytes -= operation.bytes
      this.#fetches?.delete(id)
    }
    return this.#operations?.delete(id) ?? false
  }

  /** Whether the outbound request was under way. */
  forgetFetch(id: number): boolean {
    return this.#fetches?.delete(id) ?? false
  }

  forgetAll(): void {
    this.#operations = null
    this.#fetches = null
    this.#services = null
  }

  stop(outcome: Outcome, code: CodedErrorData['code'], params: CodedErrorData['params']): void {
    this.kill ??= { outcome, error: { code, params } }
  }

  result(nowMs: number): InvocationResult {
    const failed = this.failure === null ? null : { outcome: 'exception' as const, error: { code: 'ERR_FUNCTION_EXCEPTION' as const, params: [this.failure.message] } }
    const ending = this.kill ?? (this.responded && this.bodySent ? null : failed)
    return {
      outcome: ending?.outcome ?? 'ok',
      error: ending?.error ?? null,
      exception: shownException(this),
      startKind: this.startKind,
      cpuUs: Math.round(this.cpuUs),
      wallUs: Math.round((nowMs - this.startedAtMs) * 1000),
      dirtyPages: this.dirtyPages,
      memoryBytes: this.memoryBytes,
      logs: this.logs,
    }
  }
}

/** Where a run's answer and its outbound requests go. Views of guest memory are valid only during the call. */
export interface RunOutput {
  head(run: Run, status: number, headers: Uint8Array, body: Uint8Array | null, last: boolean): void
  /** False: the reader is slow, `Executor.resume` tells when it goes on. */
  data(run: Run, chunk: Uint8Array): boolean
  bodyEnd(run: Run): void
  /** The guest has taken this much of the streamed request body. */
  bodyTaken(run: Run, bytes: number): void
  /** Sends what was written so far: the slot is about to be reset. */
  flush(): void
  end(run: Run): void
  log(run: Run, level: number, line: string): void
  fetch(run: Run, id: number, head: string, body: Uint8Array | null): void
  fetchRead(run: Run, fetchId: number): void
  /** Of `Run.fetches`, whatever it is. */
  fetchAbort(run: Run, fetchId: number): void
  /** `data` is the receiver's own. */
  subtle(run: Run, id: number, request: string, data: Uint8Array): void
  zip(run: Run, id: number, format: string): void
  /** `chunk` is the receiver's own; null: the end. */
  zipWrite(run: Run, zipId: number, id: number, chunk: Uint8Array | null): void
  /** A call by a service binding; what is under way when the run ends is ended by whoever hears of that. `head` is of the guest's making. */
  service(run: Run, id: number, head: string, body: Uint8Array | null): void
  serviceWrite(run: Run, serviceId: number, id: number, chunk: Uint8Array | null): void
  /** The guest has read so many bytes of the answer. */
  serviceTaken(run: Run, serviceId: number, bytes: number): void
  serviceAbort(run: Run, serviceId: number): void
}
