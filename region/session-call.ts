/**
 * One call of a session at the node that it came to: goes to the node that the session belongs to, this one or another,
 * and finds its way again when that changes meanwhile.
 *
 * States: `seeking` (nothing of an answer yet; the request body is kept) -> `answering` -> `over`.
 *
 * C1  It goes on to another node only after one has said that the function did not run.
 * C2  It gives up when its own time or SEEK_MAX_MS are over: longer than a lost node's lease takes to end.
 *     What is kept of the body meanwhile is no more than a request may have.
 * C3  The sink hears `started` with the first word of an answer, then exactly one of `end` and `fail`, last.
 */
import type { Clock } from '../shared/clock.ts'
import { CodedError, toCodedError, type ErrorCode } from '../shared/errors.ts'
import { REQUEST_BODY_MAX_BYTES } from '../shared/limits.ts'
import type { SessionAnswer } from '../shared/sessions/types.ts'
import type { BuildSpec } from '../shared/worker/types.ts'
import type { RegionRun, RunRequest, RunSink } from './run.ts'

export interface SessionCallOptions {
  /** Gives the call to whoever the session belongs to by now; null: nobody can be reached. `code`: why the one before refused it. */
  readonly attempt: (request: RunRequest, sink: RunSink, code: ErrorCode | null) => RegionRun | null
  readonly clock: Clock
}

const SEEK_MAX_MS = 20_000
const PAUSE_MIN_MS = 20
const PAUSE_MAX_MS = 250
/** Not here, or not any more: it did not run, and may belong elsewhere. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set(['ERR_RING_MOVED', 'ERR_PEER_UNREACHABLE', 'ERR_DRAINING', 'ERR_SESSION_MOVED', 'ERR_LINK_IDENTITY'])

export class SessionCall implements RegionRun, RunSink {
  readonly #options: SessionCallOptions
  readonly #request: RunRequest
  readonly #sink: RunSink
  readonly #giveUpAtMs: number
  #kept: { readonly chunks: Uint8Array[]; ended: boolean } | null = { chunks: [], ended: false }
  #bodyBytes: number
  #run: RegionRun | null = null
  #pauseMs = PAUSE_MIN_MS
  #cancelPause: (() => void) | null = null
  #begun: readonly [BuildSpec, string | undefined] | null = null
  #over = false

  constructor(request: RunRequest, sink: RunSink, options: SessionCallOptions) {
    this.#options = options
    // Whoever gave the body may use its bytes again once this call has returned.
    this.#request = { ...request, body: request.body === null ? null : new Uint8Array(request.body) }
    this.#bodyBytes = request.body?.length ?? 0
    this.#sink = sink
    const { clock } = options
    this.#giveUpAtMs = clock.monotonicMs() + Math.min(SEEK_MAX_MS, request.deadlineAtMs - clock.nowMs())
    this.#try(null)
  }

  /** Throws ERR_BODY_TOO_LARGE, as a sandbox does. */
  write(chunk: Uint8Array): void {
    this.#bodyBytes += chunk.length
    if (this.#bodyBytes > REQUEST_BODY_MAX_BYTES) throw new CodedError('ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
    this.#kept?.chunks.push(chunk)
    this.#run?.write(chunk)
  }

  writeEnd(): void {
    if (this.#kept !== null) this.#kept.ended = true
    this.#run?.writeEnd()
  }

  resume(): void {
    this.#run?.resume()
  }

  cancel(): void {
    this.#kept = null
    if (this.#run !== null) this.#run.cancel()
    else this.fail(new CodedError('ERR_CANCELED'))
  }

  started(build: BuildSpec, node?: string): void {
    this.#begun = [build, node]
  }

  session(answer: SessionAnswer): void {
    this.#sink.session?.(answer)
  }

  head(...head: Parameters<RunSink['head']>): void {
    this.#tellStarted()
    this.#sink.head(...head)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  end(result: Parameters<RunSink['end']>[0]): void {
    if (this.#over || (result.error !== null && this.#seekAgain(result.error.code))) return
    this.#tellStarted()
    this.#over = true
    this.#sink.end(result)
  }

  fail(error: CodedError): void {
    if (this.#over || this.#seekAgain(error.code)) return
    this.#over = true
    this.#cancelPause?.()
    this.#sink.fail(error)
  }

  #try(code: ErrorCode | null): void {
    const kept = this.#kept
    if (kept === null || this.#over) return
    try {
      // It may be refused before `attempt` returns.
      const run = this.#options.attempt(this.#request, this, code)
      if (run === null) {
        this.#seekAgain('ERR_PEER_UNREACHABLE')
        return
      }
      if (this.#cancelPause !== null) return
      this.#run = run
      for (const chunk of kept.chunks) run.write(chunk)
      if (kept.ended) run.writeEnd()
    } catch (error) {
      // After a pause nobody is above who could be told: it would end the process.
      this.#kept = null
      this.fail(toCodedError(error))
      this.#run?.cancel()
    }
  }

  /** C1, C2. */
  #seekAgain(code: ErrorCode): boolean {
    const { clock } = this.#options
    if (this.#kept === null || this.#over || !ELSEWHERE.has(code)) return false
    this.#run = null
    this.#begun = null
    if (clock.monotonicMs() >= this.#giveUpAtMs) {
      this.#kept = null
      this.fail(new CodedError('ERR_HAND_OFF_TIMEOUT', [SEEK_MAX_MS]))
      return true
    }
    this.#cancelPause = clock.after(this.#pauseMs, () => {
      this.#cancelPause = null
      this.#try(code)
    })
    this.#pauseMs = Math.min(PAUSE_MAX_MS, this.#pauseMs * 2)
    return true
  }

  /** C3. */
  #tellStarted(): void {
    this.#kept = null
    if (this.#begun === null) return
    this.#sink.started(...this.#begun)
    this.#begun = null
  }
}
