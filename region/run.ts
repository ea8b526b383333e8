/**
 * One invocation at a region, from a front door or from a POP: waits for its image if it is not resident, then runs on
 * the host and passes the answer on.
 *
 * States: `waiting` (image is being loaded; request body is held) -> `running` -> `over`.
 * Exactly one of `end` and `fail` is called, last.
 */
import type { RequestId } from '../shared/brand.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { REQUEST_BODY_MAX_BYTES, REQUEST_WINDOW_BYTES } from '../shared/limits.ts'
import type { SlotPool } from '../shared/concurrency/slot-table.ts'
import type { StartKind } from '../shared/outcome.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { BodyFlow, BuildSpec, Invocation, InvocationInput, InvocationResult, InvocationSink, SandboxHost } from '../shared/worker/types.ts'
import type { ImageLease, ImageResidency } from './image-residency.ts'

/** What both kinds of calls have in common. */
export interface RunRequest extends Omit<InvocationInput, 'build' | 'requestId'> {
  readonly requestId: string
}

/** Where the answer goes; order as in InvocationSink, with `started` first and `fail` in place of `end` if it never ran. */
export interface RunSink extends BodyFlow {
  /** The next thing that happens is the run of `build`: a retry elsewhere is not safe from here on. */
  /** `node`: where, if this region has several. */
  started(build: BuildSpec, node?: string): void
  /** What the client is to be told of its session: before `head`, or before the end if there was none. The last one counts. */
  session?(answer: SessionAnswer): void
  head(status: number, headers: string, startKind: StartKind, body: Uint8Array | null, last: boolean): void
  data(chunk: Uint8Array): boolean
  bodyEnd(): void
  end(result: InvocationResult): void
  fail(error: CodedError): void
}

/** A run as whoever asked for it holds it. */
export interface RegionRun {
  /** `chunk` is the run's own from here on. */
  write(chunk: Uint8Array): void
  writeEnd(): void
  resume(): void
  cancel(): void
}

/** Who says how many may run. A slot of a pool is given back once. */
export interface RunAdmission {
  /** A slot at hand, or null. */
  enter(account: string, functionName: string): SlotPool | null
  /** Rejects with a CodedError when none is to be had. */
  wait(account: string, functionName: string): { readonly admitted: Promise<SlotPool>; cancel(): void }
  leave(slot: SlotPool): void
}

export interface RunDeps {
  /** Null: as many as the host takes. */
  readonly admission: RunAdmission | null
  readonly host: Pick<SandboxHost, 'invoke'>
  readonly residency: ImageResidency
  /** Called when the image of `build` is missing, altered or of another engine: what to run in its place, or null. */
  repair(build: BuildSpec): Promise<BuildSpec | null>
}

type RunState =
  | { readonly kind: 'waiting'; readonly chunks: Uint8Array[]; bytes: number; ended: boolean }
  | { readonly kind: 'running'; readonly invocation: Invocation }
  | { readonly kind: 'over' }

const NO_INVOCATION: Invocation = { write() {}, writeEnd() {}, resume() {}, cancel() {}, withdraw: () => false }

export class Run implements RegionRun {
  readonly #deps: RunDeps
  readonly #sink: RunSink
  #state: RunState = { kind: 'waiting', chunks: [], bytes: 0, ended: false }
  #slot: SlotPool | null = null
  #stopWaiting: (() => void) | null = null
  /** Why it was ended from this side. */
  #refusal: CodedError | null = null
  /** The host has asked for a pause of the body. */
  #bodyPaused = false

  private constructor(deps: RunDeps, sink: RunSink) {
    this.#deps = deps
    this.#sink = sink
  }

  static start(deps: RunDeps, build: BuildSpec, request: RunRequest, sink: RunSink): Run {
    const run = new Run(deps, sink)
    run.#slot = deps.admission?.enter(build.account, build.functionName) ?? null
    const lease = deps.admission === null || run.#slot !== null ? deps.residency.tryAcquire(build.imageId) : null
    if (lease !== null) run.#begin(build, request, lease)
    // The body belongs to the caller once `start` has returned. (`slice` of a Buffer would be the same memory.)
    else void run.#wait(build, { ...request, body: request.body === null ? null : new Uint8Array(request.body) })
    return run
  }

  /** `chunk` is ours from here on. */
  write(chunk: Uint8Array): void {
    const state = this.#state
    if (state.kind === 'running') this.#pass(state.invocation, chunk)
    if (state.kind !== 'waiting') return
    state.bytes += chunk.byteLength
    if (state.bytes > REQUEST_BODY_MAX_BYTES) this.#fail(new CodedError('ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES]))
    else state.chunks.push(chunk)
    if (state.bytes > REQUEST_WINDOW_BYTES) this.#sink.pauseBody?.()
  }

  writeEnd(): void {
    if (this.#state.kind === 'running') this.#state.invocation.writeEnd()
    else if (this.#state.kind === 'waiting') this.#state.ended = true
  }

  resume(): void {
    if (this.#state.kind === 'running') this.#state.invocation.resume()
  }

  cancel(): void {
    if (this.#state.kind === 'running') this.#state.invocation.cancel()
    else if (this.#state.kind === 'waiting') {
      this.#stopWaiting?.()
      this.#fail(new CodedError('ERR_CANCELED'))
    }
  }

  /** Never rejects. */
  async #wait(build: BuildSpec, request: RunRequest): Promise<void> {
    try {
      if (this.#deps.admission !== null && this.#slot === null) await this.#admit(this.#deps.admission, build)
      if (this.isOver) return
      const { lease, build: runnable } = await this.#acquire(build)
      // Slots are leased, and a lease may have ended while the image was on its way.
      if (this.#slot?.isOver === true) {
        lease.release()
        this.#fail(new CodedError('ERR_ACCOUNT_LIMIT', [this.#slot.lease.held]))
        return
      }
      // It may have been cancelled meanwhile.
      if (this.#state.kind === 'waiting') this.#begin(runnable, request, lease)
      else lease.release()
    } catch (error) {
      this.#fail(toCodedError(error))
    }
  }

  async #admit(admission: RunAdmission, { account, functionName }: BuildSpec): Promise<void> {
    const wait = admission.wait(account, functionName)
    this.#stopWaiting = () => wait.cancel()
    const slot = await wait.admitted
    this.#stopWaiting = null
    if (this.#state.kind === 'waiting') this.#slot = slot
    else admission.leave(slot)
  }

  #leave(): void {
    if (this.#slot !== null) this.#deps.admission?.leave(this.#slot)
    this.#slot = null
  }

  async #acquire(build: BuildSpec): Promise<{ readonly lease: ImageLease; readonly build: BuildSpec }> {
    const { residency } = this.#deps
    try {
      return { lease: await residency.acquire(build.account, build.imageId), build }
    } catch (error) {
      const repaired = toCodedError(error).code === 'ERR_STORE_BLOCK' ? await this.#deps.repair(build) : null
      if (repaired === null) throw error
      return { lease: await residency.acquire(repaired.account, repaired.imageId), build: repaired }
    }
  }

  #begin(build: BuildSpec, request: RunRequest, lease: ImageLease): void {
    const held = this.#state.kind === 'waiting' ? this.#state : null
    this.#sink.started(build)
    // The host may answer before `invoke` returns; the state it leaves must not be overwritten then.
    this.#state = { kind: 'running', invocation: NO_INVOCATION }
    const invocation = this.#deps.host.invoke({ ...request, requestId: request.requestId as RequestId, build }, this.#sinkOf(lease))
    if (this.isOver) return
    this.#state = { kind: 'running', invocation }
    for (const chunk of held?.chunks ?? []) this.#pass(invocation, chunk)
    if (held?.ended === true) invocation.writeEnd()
    // Last: a sender that may go on writes what it has within this very call.
    if (held !== null && held.bytes > REQUEST_WINDOW_BYTES && !this.#bodyPaused) this.#sink.resumeBody?.()
  }

  #pass(invocation: Invocation, chunk: Uint8Array): void {
    try {
      invocation.write(chunk)
    } catch (error) {
      // The body is larger than the function may have it.
      this.#refusal ??= toCodedError(error)
      invocation.cancel()
    }
  }

  get isOver(): boolean {
    return this.#state.kind === 'over'
  }

  #sinkOf(lease: ImageLease): InvocationSink {
    const sink = this.#sink
    const startKind = (kind: StartKind): StartKind => (lease.loaded ? 'cold' : kind)
    return {
      head: (status, headers, kind, body, last) => sink.head(status, headers, startKind(kind), body, last),
      data: (chunk) => sink.data(chunk),
      bodyEnd: () => sink.bodyEnd(),
      pauseBody: () => {
        this.#bodyPaused = true
        sink.pauseBody?.()
      },
      resumeBody: () => {
        this.#bodyPaused = false
        sink.resumeBody?.()
      },
      end: (result) => {
        this.#state = { kind: 'over' }
        lease.release()
        this.#leave()
        if (this.#refusal === null) sink.end({ ...result, startKind: startKind(result.startKind) })
        else sink.fail(this.#refusal)
      },
    }
  }

  #fail(error: CodedError): void {
    if (this.#state.kind !== 'waiting') return
    this.#state = { kind: 'over' }
    this.#leave()
    this.#sink.fail(error)
  }
}
