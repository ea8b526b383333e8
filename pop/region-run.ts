/**
 * One invocation on its way through regions: a stream to the region that was chosen, and to the next one if that region
 * or the way to it fails before the function has started (afterFailure in shared/place/regions.ts says when).
 *
 * A1: the sink hears one story: nothing of an attempt that failed reaches it but `started`, and that at most once.
 * A2: what was sent of the request body is kept until nobody can need it again, at most FAILOVER_BODY_MAX_BYTES of it;
 *     a request of more is not tried elsewhere once that much was sent, and the error says so.
 * A3: no region is asked twice, so there are at most as many attempts as regions.
 */
import type { CodedErrorData } from '../shared/errors.ts'
import { FAILOVER_BODY_MAX_BYTES } from '../shared/limits.ts'
import type { LinkStream, LinkStreamSink, OpenInvocation } from '../shared/link/types.ts'
import type { StartKind } from '../shared/outcome.ts'
import { afterFailure } from '../shared/place/regions.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { InvocationResult } from '../shared/worker/types.ts'
import type { RegionStream } from './region-link.ts'

/** What the run asks of the set of regions. */
export interface RegionRunOwner {
  /** The best region that was not tried: its index, or why there is none. Counts and logs the choice. */
  choose(frame: OpenInvocation, tried: ReadonlySet<number>): number | CodedErrorData
  open(region: number, frame: OpenInvocation, sink: LinkStreamSink): LinkStream
  onStarted(region: number, frame: OpenInvocation): void
  /** `next`: where it goes now; null: nowhere. */
  onFailed(region: number, frame: OpenInvocation, error: CodedErrorData, next: number | null): void
  nowMs(): number
}

export class RegionRun implements RegionStream, LinkStreamSink {
  readonly #owner: RegionRunOwner
  readonly #frame: OpenInvocation
  readonly #sink: LinkStreamSink
  readonly #idempotent: boolean
  readonly #giveUpAtMs: number
  readonly #tried = new Set<number>()
  #region = -1
  #stream: LinkStream | null = null
  #heard: 'nothing' | 'started' | 'head' = 'nothing'
  #toldStarted = false
  #canceled = false
  /** The sink was told to hold its body. */
  #paused = false
  /** Chunks written so far; null: dropped, or never to be needed. */
  #kept: Uint8Array[] | null = []
  #writtenBytes = 0
  #bodyEnded = false

  constructor(owner: RegionRunOwner, frame: OpenInvocation, sink: LinkStreamSink, idempotent: boolean) {
    this.#owner = owner
    this.#frame = frame
    this.#sink = sink
    this.#idempotent = idempotent
    this.#giveUpAtMs = owner.nowMs() + frame.remainingMs
  }

  get attempts(): number {
    return this.#tried.size
  }

  /** Null if a region was asked, else why none can be. To be called once, first. */
  start(): CodedErrorData | null {
    const chosen = this.#owner.choose(this.#frame, this.#tried)
    if (typeof chosen !== 'number') return chosen
    this.#ask(chosen, this.#frame)
    return null
  }

  write(chunk: Uint8Array): boolean {
    this.#keep(chunk)
    const goesOn = this.#stream?.write(chunk) ?? true
    if (!goesOn) this.#paused = true
    return goesOn
  }

  writeEnd(): void {
    this.#bodyEnded = true
    this.#stream?.writeEnd()
  }

  resume(): void {
    this.#stream?.resume()
  }

  cancel(): void {
    this.#canceled = true
    this.#kept = null
    this.#stream?.cancel()
  }

  started(): void {
    this.#heard = 'started'
    if (!this.#idempotent) this.#kept = null
    this.#owner.onStarted(this.#region, this.#frame)
    if (this.#toldStarted) return // A1
    this.#toldStarted = true
    this.#sink.started()
  }

  session(answer: SessionAnswer): void {
    this.#sink.session?.(answer)
  }

  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void {
    this.#heard = 'head'
    this.#kept = null
    this.#sink.head(status, headers, startKind, version, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  drain(): void {
    this.#paused = false
    this.#sink.drain()
  }

  end(result: InvocationResult | null, version: string | null): void {
    this.#kept = null
    this.#sink.end(result, version)
  }

  error(error: CodedErrorData): void {
    const remainingMs = this.#giveUpAtMs - this.#owner.nowMs()
    const verdict = this.#canceled ? 'over' : afterFailure({ code: error.code, heard: this.#heard, idempotent: this.#idempotent, bodyKept: this.#kept !== null, remainingMs })
    const chosen = verdict === 'elsewhere' ? this.#owner.choose(this.#frame, this.#tried) : null
    const next = typeof chosen === 'number' ? chosen : null
    this.#owner.onFailed(this.#region, this.#frame, error, next)
    if (next !== null) return this.#askAgain(next, remainingMs)
    this.#kept = null
    this.#sink.error(verdict === 'body' ? { code: 'ERR_REGION_BODY', params: [this.#writtenBytes] } : error)
  }

  #ask(region: number, frame: OpenInvocation): void {
    this.#region = region
    this.#tried.add(region)
    this.#heard = 'nothing'
    this.#stream = this.#owner.open(region, frame, this)
  }

  #askAgain(region: number, remainingMs: number): void {
    this.#ask(region, { ...this.#frame, remainingMs: Math.max(0, Math.round(remainingMs)) })
    let goesOn = true
    for (const chunk of this.#kept ?? []) goesOn = this.#stream?.write(chunk) ?? true
    if (this.#bodyEnded) this.#stream?.writeEnd()
    // The drain that the sink waits for was the failed stream's to give.
    if (goesOn && this.#paused) this.drain()
  }

  /** A2. The chunk is this run's own. */
  #keep(chunk: Uint8Array): void {
    this.#writtenBytes += chunk.byteLength
    if (this.#writtenBytes > FAILOVER_BODY_MAX_BYTES) this.#kept = null
    else this.#kept?.push(chunk)
  }
}
