/**
 * Finds the member that a session belongs to for one call, and finds it again when that changes meanwhile.
 *
 * States: `seeking` (nothing of an answer yet; the request body is kept) -> `found` -> `over`.
 *
 * C1  It goes on to another member only after one has said that the function did not run.
 * C2  It gives up when its own time or SEEK_MAX_MS are over: longer than a lost member's lease takes to end.
 *     What is kept of the body meanwhile is no more than a request may have.
 */
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError, type ErrorCode } from '../errors.ts'
import { REQUEST_BODY_MAX_BYTES } from '../limits.ts'

/** A run as whoever asked for it holds it. */
export interface SoughtRun {
  /** `chunk` is the run's own from here on. */
  write(chunk: Uint8Array): void
  writeEnd(): void
  resume(): void
  cancel(): void
}

export interface SessionSeekOptions {
  /** Gives the call to whoever the session belongs to by now; null: nobody can be reached. `code`: why the one before refused it. */
  readonly attempt: (code: ErrorCode | null) => SoughtRun | null
  /** Nobody runs it; once, and then `over` has been called. */
  readonly onGivenUp: (error: CodedError) => void
  /** Until nobody waits for the answer. */
  readonly leftMs: number
  /** Of the body, what came with the call. */
  readonly bodyBytes: number
  readonly clock: Clock
}

const SEEK_MAX_MS = 20_000
const PAUSE_MIN_MS = 20
const PAUSE_MAX_MS = 250
/** Not here, or not any more: it did not run, and may belong elsewhere. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set(['ERR_RING_MOVED', 'ERR_PEER_UNREACHABLE', 'ERR_DRAINING', 'ERR_SESSION_MOVED', 'ERR_LINK_IDENTITY'])

export class SessionSeek implements SoughtRun {
  readonly #options: SessionSeekOptions
  readonly #giveUpAtMs: number
  #kept: { readonly chunks: Uint8Array[]; ended: boolean } | null = { chunks: [], ended: false }
  #bodyBytes: number
  #run: SoughtRun | null = null
  #pauseMs = PAUSE_MIN_MS
  #cancelPause: (() => void) | null = null
  #over = false

  constructor(options: SessionSeekOptions) {
    this.#options = options
    this.#bodyBytes = options.bodyBytes
    this.#giveUpAtMs = options.clock.monotonicMs() + Math.min(SEEK_MAX_MS, options.leftMs)
  }

  get isOver(): boolean {
    return this.#over
  }

  /** To be called once. It may be given up before this returns. */
  start(): void {
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
    else if (!this.#over) this.#giveUp(new CodedError('ERR_CANCELED'))
  }

  /** There is something of an answer. */
  found(): void {
    this.#kept = null
  }

  /** Whoever had the call has answered or failed it for good. */
  over(): void {
    this.#kept = null
    this.#over = true
    this.#cancelPause?.()
    this.#cancelPause = null
  }

  /** C1, C2. Whoever had the call has failed it with this code. False: that stands. */
  refused(code: ErrorCode): boolean {
    const { clock } = this.#options
    if (this.#kept === null || this.#over || !ELSEWHERE.has(code)) return false
    this.#run = null
    if (clock.monotonicMs() >= this.#giveUpAtMs) {
      this.#giveUp(new CodedError('ERR_HAND_OFF_TIMEOUT', [SEEK_MAX_MS]))
      return true
    }
    this.#cancelPause = clock.after(this.#pauseMs, () => {
      this.#cancelPause = null
      this.#try(code)
    })
    this.#pauseMs = Math.min(PAUSE_MAX_MS, this.#pauseMs * 2)
    return true
  }

  #try(code: ErrorCode | null): void {
    const kept = this.#kept
    if (kept === null || this.#over) return
    try {
      // It may be refused before `attempt` returns.
      const run = this.#options.attempt(code)
      if (run === null) {
        this.refused('ERR_PEER_UNREACHABLE')
        return
      }
      if (this.#cancelPause !== null || this.isOver) return
      this.#run = run
      for (const chunk of kept.chunks) run.write(chunk)
      if (kept.ended) run.writeEnd()
    } catch (error) {
      // After a pause nobody is above who could be told: it would end the process.
      if (!this.isOver) this.#giveUp(toCodedError(error))
      this.#run?.cancel()
    }
  }

  #giveUp(error: CodedError): void {
    this.over()
    this.#options.onGivenUp(error)
  }
}
