/**
 * One invocation that another node of this region runs, because the ring says that its function is at home there.
 *
 * States: `asked` (nothing heard; what came of the request body is kept) -> `there` | `here` -> `over`.
 *
 * O1  Where the other node certainly did not run it, it runs here, once: a call never fails because of where it was sent.
 * O2  What may have run there is not run again: its failure is the caller's to know.
 * O3  The sink hears exactly one of `end` and `fail`, last.
 */
import { CodedError, ERRORS, type CodedErrorData } from '../shared/errors.ts'
import type { LinkStream, LinkStreamSink, OpenInvocation, OpenRing } from '../shared/link/types.ts'
import type { StartKind } from '../shared/outcome.ts'
import type { Peers } from '../shared/peers/types.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { BuildSpec, InvocationResult } from '../shared/worker/types.ts'
import type { RegionRun, RunRequest, RunSink } from './run.ts'

export interface OwnerRunOptions {
  readonly peers: Peers
  readonly owner: string
  readonly ring: OpenRing
  readonly session: string | null
  readonly hops: number
  readonly nowMs: number
  /** Runs it here instead (O1); null: only the owner may run it. */
  readonly runHere: ((request: RunRequest, sink: RunSink) => RegionRun) | null
  /** It has ended there, or has come back here; once. `code`: why it failed there. */
  readonly onOver: (code: string | null) => void
}

type OwnerRunState =
  | { readonly kind: 'asked'; readonly chunks: Uint8Array[]; ended: boolean }
  | { readonly kind: 'there' }
  | { readonly kind: 'here'; readonly run: RegionRun }
  | { readonly kind: 'over' }

/** The caller's mistake here as well; but what the owner does not know yet may be known here. */
function mayRunHere({ code }: CodedErrorData): boolean {
  if (ERRORS[code].ran !== 'no') return false
  return ERRORS[code].fault !== 'client' || code === 'ERR_FUNCTION_NOT_FOUND' || code === 'ERR_RESOURCE_NOT_FOUND' || code === 'ERR_LINK_IDENTITY'
}

export class OwnerRun implements LinkStreamSink, RegionRun {
  readonly #options: OwnerRunOptions
  readonly #build: BuildSpec
  readonly #request: RunRequest
  readonly #sink: RunSink
  readonly #stream: LinkStream
  #state: OwnerRunState = { kind: 'asked', chunks: [], ended: false }

  constructor(build: BuildSpec, request: RunRequest, sink: RunSink, options: OwnerRunOptions) {
    this.#options = options
    this.#build = build
    // Whoever gave the body may use its bytes again once this call has returned.
    this.#request = { ...request, body: request.body === null ? null : new Uint8Array(request.body) }
    this.#sink = sink
    this.#stream = options.peers.open(options.owner, toFrame(build, request, options), this)
  }

  // What the caller tells the run.

  /** `chunk` is ours from here on. */
  write(chunk: Uint8Array): void {
    if (this.#state.kind === 'here') return this.#state.run.write(chunk)
    if (this.#state.kind === 'asked') this.#state.chunks.push(chunk)
    if (!this.#stream.write(chunk)) this.#sink.pauseBody?.()
  }

  writeEnd(): void {
    if (this.#state.kind === 'here') return this.#state.run.writeEnd()
    if (this.#state.kind === 'asked') this.#state.ended = true
    this.#stream.writeEnd()
  }

  resume(): void {
    if (this.#state.kind === 'here') this.#state.run.resume()
    else this.#stream.resume()
  }

  cancel(): void {
    if (this.#state.kind === 'here') return this.#state.run.cancel()
    // From here on it is not worth a second run.
    if (this.#state.kind === 'asked') this.#state = { kind: 'there' }
    this.#stream.cancel()
  }

  // What the owner tells the caller.

  started(): void {
    if (this.#state.kind !== 'asked') return
    this.#state = { kind: 'there' }
    this.#sink.started(this.#build, this.#options.owner)
  }

  session(answer: SessionAnswer): void {
    this.#sink.session?.(answer)
  }

  head(status: number, headers: string, startKind: StartKind | null, _version: string | null, body: Uint8Array | null, last: boolean): void {
    this.started()
    this.#sink.head(status, headers, startKind ?? 'warm', body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  drain(): void {
    this.#sink.resumeBody?.()
  }

  end(result: InvocationResult | null): void {
    if (result === null) return this.error({ code: 'ERR_LINK_PROTOCOL', params: ['an invocation ended without a result'] })
    if (!this.#settle(null)) return
    this.#sink.end(result)
  }

  error(error: CodedErrorData): void {
    const state = this.#state
    const { runHere } = this.#options
    if (state.kind === 'asked' && runHere !== null && mayRunHere(error)) {
      this.#options.onOver(error.code)
      // The drain that the sink may wait for was the stream's to give; the run asks for pauses of its own.
      this.#sink.resumeBody?.()
      const run = runHere(this.#request, this.#sink)
      this.#state = { kind: 'here', run }
      for (const chunk of state.chunks) run.write(chunk)
      if (state.ended) run.writeEnd()
      return
    }
    if (this.#settle(error.code)) this.#sink.fail(CodedError.fromData(error))
  }

  /** O3. */
  #settle(code: string | null): boolean {
    if (this.#state.kind === 'over' || this.#state.kind === 'here') return false
    this.#state = { kind: 'over' }
    this.#options.onOver(code)
    return true
  }
}

function toFrame(build: BuildSpec, request: RunRequest, { ring, session, hops, nowMs }: OwnerRunOptions): OpenInvocation {
  const { requestId, kind: invocationKind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection = null, chain = null } = request
  return {
    kind: 'invoke', requestId, account: build.account, functionName: build.functionName,
    // What was resolved here is what runs there.
    qualifier: build.version,
    invocationKind, method, url, headers, body, bodyMore, clientIp, remainingMs: Math.max(0, Math.round(deadlineAtMs - nowMs)), wantLogs,
    reason: 'ring', hops, session, ring, reservation: null, selection, chain,
  }
}
