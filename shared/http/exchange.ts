/**
 * One request and its answer on a uWS connection, whatever stands behind it. Subclasses decide what is answered; this
 * class owns the uWS response and is the only one that touches it.
 *
 *   open --respond--> sent                    the whole answer in one write
 *   open --respond--> sending --> sent        a body larger than the socket takes at once
 *   open --startStream--> streaming --endStream--> sent
 *   any of open, sending, streaming --client leaves, or abort()--> gone
 *
 * H1: the uWS response is touched in `open`, `sending` and `streaming` only: after its end and after an abort uWS throws.
 * H2: an answer ends exactly once: `sent`, or `gone` with the connection closed, so that no client takes half a body for all.
 * H3: a request counts as in flight until its answer is over and whatever was dispatched for it has ended.
 * H4: bytes are written before the call that brings them returns, or copied.
 * H5: a connection whose request body was paused flows again when its answer is over: the next request comes on it.
 * H6: uWS does not say of a paused socket that it has drained, and a write that does not fit lets a paused socket flow again.
 *     So it is paused again after such a write, what more comes of the answer is kept back here, and a few bytes of that
 *     are written now and then to find out. A client that uploads and does not read has two windows of the answer at most,
 *     one in uWS and one here, and is cut off after STALLED_MAX_MS.
 * H7: `resume` of uWS asks for what `pause` noted last of any socket of this kind, plain or TLS, that had, or had not, something unsent. If there
 *     never was one it asks for nothing, and that connection is dead. So the first request with a body is paused and resumed. No other:
 *     `resume` also begins uWS's 10 s for the rest of a body, which end with the body, or else with the connection.
 */
import { STATUS_CODES } from 'node:http'
import { setImmediate } from 'node:timers'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { HttpMetrics } from './metrics.ts'
import type { PlacementLines } from './placement-lines.ts'
import type { ResponseHeads } from './response-head.ts'
import type { Dispatcher } from './types.ts'
import type { HttpResponse } from './uws.ts'

/** A body beyond this may not fit the socket's buffer: it is sent as the socket drains, and counts as in flight until then. */
const LARGE_BODY_BYTES = 128 * 1024
const EMPTY = new Uint8Array(0)
/**
 * What goes into one cork of a streamed answer. uWS gathers what is written under a cork in 16 KiB; a chunk that is
 * larger passes by them, and when the socket is full just then the chunk's size line is lost: the client finds
 * the framing broken, or reads other bytes (test/fault/streamed-answer.test.ts). Pieces that fit, size line included, are safe.
 */
const CORKED_MAX_BYTES = 15_000

/** See H6: the first look, and what the time between two doubles to. */
const LOOK_FIRST_MS = 50
const LOOK_LAST_MS = 1_000
/** What one look writes. A window lasts for longer than anybody looks. */
const LOOK_BYTES = 64
/** Time in which a client that has a window's worth before it reads some of that. Where the body is not paused uWS sees to it. */
const STALLED_MAX_MS = 60_000

export interface ExchangeSettings {
  readonly mode: 'dev' | 'production'
  readonly account: string
  readonly awsRegion: string
  readonly requestTimeoutMs: number
  readonly serverTiming: boolean
}

/** What all exchanges of a front door share. */
export interface Door {
  readonly settings: ExchangeSettings
  readonly dispatcher: Dispatcher
  readonly clock: Clock
  readonly log: Log
  readonly metrics: HttpMetrics
  readonly responseHeads: ResponseHeads
  readonly placementLines: PlacementLines
  readonly live: ExchangeList
  /** The exchange whose uWS callback is running: its writes are corked already. */
  corked: HttpExchange | null
  draining: boolean
  /** See H7. Requests on the admin port have no bodies. */
  hasPaused: boolean
}

export type GiveUpReason = 'overdue' | 'closing'

type Phase = 'open' | 'sending' | 'streaming' | 'sent' | 'gone'

export abstract class HttpExchange {
  readonly requestId: string
  /** Links of the list of live exchanges; only ExchangeList writes them. */
  older: HttpExchange | null = null
  newer: HttpExchange | null = null
  protected readonly door: Door
  /** True from dispatch until the dispatcher's last word. */
  protected dispatched = false
  /** Close the connection after the answer. */
  protected closeAfter: boolean
  readonly #response: HttpResponse
  readonly #route: number
  readonly #startedAtMs: number
  #phase: Phase = 'open'
  #status = 0
  #paused = false
  #pausing = false
  /** The last write of the answer waits in uWS. */
  #blocked = false
  /** What has come of the answer since, while the body is paused (H6). */
  #keptBack: Uint8Array[] | null = null
  #cancelLook: (() => void) | null = null
  #lookAfterMs = LOOK_FIRST_MS
  #stalledMs = 0

  constructor(door: Door, response: HttpResponse, route: number, requestId: string, closeAfter: boolean) {
    this.door = door
    this.requestId = requestId
    this.closeAfter = closeAfter
    this.#response = response
    this.#route = route
    this.#startedAtMs = door.clock.monotonicMs()
    response.onAborted(() => this.#aborted())
    door.live.add(this)
    door.metrics.inFlight++
  }

  /** The client left, or `abort` was called, before the answer was complete. */
  protected abstract onGone(): void
  /** Streamed data may flow again. */
  protected abstract onWritable(): void
  protected abstract onBody(chunk: ArrayBuffer, last: boolean): void
  /** Nothing refers to the exchange any more: gives back what it counted. Once. */
  protected onReleased(): void {}
  /** Nothing has come for far too long, or the front door closes: makes an end of it, at both sides. */
  abstract giveUp(why: GiveUpReason): void

  /** What a client is told then; a function that was called may have run. */
  protected giveUpError(why: GiveUpReason): CodedError {
    if (why === 'overdue') return new CodedError('ERR_INTERNAL', ['no answer came in time'])
    return this.dispatched ? new CodedError('ERR_WORKER_LOST', ['the host shut down']) : new CodedError('ERR_DRAINING')
  }

  /** Begins. In the uWS callback that brought the request, once, right after construction. */
  start(): void {
    this.door.corked = this
    this.onStart()
  }

  protected abstract onStart(): void

  protected get isOpen(): boolean {
    return this.#phase === 'open'
  }

  protected get isStreaming(): boolean {
    return this.#phase === 'streaming'
  }

  ageMs(): number {
    return this.door.clock.monotonicMs() - this.#startedAtMs
  }

  /** Begins to deliver the request body to `onBody`. Once. */
  protected receive(): void {
    this.#response.onData((chunk, last) => {
      const { door } = this
      door.corked = this
      try {
        this.onBody(chunk, last)
      } catch (error) {
        this.fault(error)
      }
      door.corked = null
    })
    if (this.door.hasPaused) return
    this.door.hasPaused = true
    this.#response.pause()
    this.#response.resume()
  }

  /** Something of ours threw: end this exchange, not the process. */
  fault(error: unknown): void {
    this.door.log.error('exchange failed', { requestId: this.requestId, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    this.abort()
  }

  /** Stops and resumes the flow of the request body. Idempotent. */
  protected pauseReceiving(): void {
    if (this.#paused || (this.#phase !== 'open' && this.#phase !== 'streaming')) return
    this.#paused = true
    this.pauseAgain()
    if (this.#blocked) this.#lookLater()
  }

  /** It has flowed, or may come to flow, though it is paused: uWS draws its own cork when this callback is over, which is a write (H6). */
  protected pauseAgain(): void {
    if (!this.#paused) return
    this.#response.pause()
    if (this.#pausing) return
    this.#pausing = true
    setImmediate(() => {
      this.#pausing = false
      if (this.#paused && (this.#phase === 'open' || this.#phase === 'streaming')) this.#response.pause()
    })
  }

  protected resumeReceiving(): void {
    if (!this.#paused) return
    this.#paused = false
    if (this.#phase === 'open' || this.#phase === 'streaming') this.#response.resume()
  }

  /**
   * The whole answer. `lines`: headers as `\r\nname: value...`. `body` null: none is sent, and `lines` says what
   * Content-Length there is, if any; else uWS adds it.
   */
  protected respond(status: number, lines: string, ascii: boolean, body: Uint8Array | string | null): void {
    if (this.#phase !== 'open') return
    this.#status = status
    if (this.#paused) this.resumeReceiving() // H5
    if (this.door.corked === this) this.#write(status, lines, ascii, body)
    else this.#response.cork(() => this.#write(status, lines, ascii, body))
    if (this.#isSent()) this.#answerOver()
  }

  protected startStream(status: number, lines: string, ascii: boolean, first: Uint8Array | null): boolean {
    if (this.#phase !== 'open') return true
    this.#status = status
    this.#phase = 'streaming'
    const response = this.#response
    // uWS would write the header for `end(body, true)` in the middle of the body.
    const head = headOf(status, this.#closing() ? lines + CLOSE : lines, ascii)
    let flowing = true
    const together = first !== null && first.byteLength + head.length <= CORKED_MAX_BYTES
    const write = (): void => {
      response.writeStatus(head)
      // An empty write sends the head at once.
      flowing = response.write(together ? first : EMPTY)
    }
    if (this.door.corked === this) write()
    else response.cork(write)
    response.onWritable(() => {
      this.#drained()
      return true
    })
    return together || first === null ? this.#wrote(flowing) : this.writeStream(first)
  }

  /** False: hold further chunks until `onWritable`. */
  protected writeStream(chunk: Uint8Array): boolean {
    // An empty chunk would read as the end of the body.
    if (this.#phase !== 'streaming' || chunk.byteLength === 0) return true
    if (this.#keptBack !== null || (this.#blocked && this.#paused)) {
      this.#keepBack(new Uint8Array(chunk)) // H4
      return false
    }
    return this.#wrote(this.#writeNow(chunk))
  }

  #writeNow(chunk: Uint8Array): boolean {
    const response = this.#response
    let flowing = true
    for (let at = 0; at < chunk.byteLength; at += CORKED_MAX_BYTES) {
      const piece = chunk.byteLength <= CORKED_MAX_BYTES ? chunk : chunk.subarray(at, at + CORKED_MAX_BYTES)
      response.cork(() => {
        flowing = response.write(piece)
      })
    }
    return flowing
  }

  #wrote(flowing: boolean): boolean {
    this.#blocked = !flowing
    // Also if it flows: what does not fit when the cork is drawn is not told.
    this.pauseAgain()
    if (this.#blocked && this.#paused) this.#lookLater()
    return flowing
  }

  #drained(): void {
    this.#blocked = false
    this.#lookAfterMs = LOOK_FIRST_MS
    this.#stalledMs = 0
    for (let chunk = this.#takeKept(); chunk !== null; chunk = this.#takeKept()) if (!this.#wrote(this.#writeNow(chunk))) return
    this.onWritable()
  }

  #keepBack(chunk: Uint8Array): void {
    if (this.#keptBack === null) this.#keptBack = [chunk]
    else this.#keptBack.push(chunk)
  }

  /** The first of what was kept back. */
  #takeKept(): Uint8Array | null {
    const chunk = this.#keptBack?.shift() ?? null
    if (this.#keptBack?.length === 0) this.#keptBack = null
    return chunk
  }

  /** H6. */
  #lookLater(): void {
    this.#cancelLook ??= this.door.clock.after(this.#lookAfterMs, () => {
      this.#cancelLook = null
      if (this.#phase !== 'streaming' || !this.#blocked || !this.#paused) return
      this.#stalledMs += this.#lookAfterMs
      this.#lookAfterMs = Math.min(LOOK_LAST_MS, this.#lookAfterMs * 2)
      try {
        if (this.#stalledMs > STALLED_MAX_MS) this.abort()
        else this.#look()
      } catch (error) {
        this.fault(error)
      }
    })
  }

  #look(): void {
    const first = this.#takeKept()
    if (first === null) {
      // There is nothing to look with: what comes now is kept back.
      this.onWritable()
      return this.#lookLater()
    }
    if (first.byteLength > LOOK_BYTES) this.#keptBack = [first.subarray(LOOK_BYTES), ...(this.#keptBack ?? [])]
    if (this.#wrote(this.#writeNow(first.subarray(0, LOOK_BYTES)))) this.#drained()
  }

  protected endStream(): void {
    if (this.#phase !== 'streaming') return
    if (this.#paused) this.resumeReceiving() // H5
    for (let chunk = this.#takeKept(); chunk !== null; chunk = this.#takeKept()) this.#writeNow(chunk)
    this.#phase = 'sent'
    this.#response.cork(() => this.#response.end())
    this.#answerOver()
  }

  /** H2: ends what cannot be ended properly. */
  protected abort(): void {
    if (this.#phase === 'sent' || this.#phase === 'gone') return
    this.#phase = 'gone'
    this.#response.close()
    this.onGone()
    this.#answerOver()
  }

  /** To be called when `dispatched` has become false. */
  protected dispatchOver(): void {
    if (this.#phase === 'sent' || this.#phase === 'gone') this.#release()
  }

  #aborted(): void {
    if (this.#phase === 'sent' || this.#phase === 'gone') return
    this.#phase = 'gone'
    this.door.metrics.clientAborts++
    this.onGone()
    this.#answerOver()
  }

  #write(status: number, lines: string, ascii: boolean, body: Uint8Array | string | null): void {
    const response = this.#response
    const close = this.#closing()
    if (body === null) {
      // uWS writes a senseless length if `endWithoutBody` is given any argument but a number.
      response.writeStatus(headOf(status, close ? lines + CLOSE : lines, ascii)).endWithoutBody()
    } else if (typeof body !== 'string' && body.byteLength > LARGE_BODY_BYTES) {
      response.writeStatus(headOf(status, close ? lines + CLOSE : lines, ascii))
      this.#sendLarge(body)
      return
    } else {
      // The whole head in one call: each header of its own costs 0.2 us more (bench/front-door.ts).
      response.writeStatus(headOf(status, lines, ascii))
      response.end(body, close)
    }
    this.#phase = 'sent'
  }

  #sendLarge(body: Uint8Array): void {
    const response = this.#response
    if (response.tryEnd(body, body.byteLength)[1]) {
      this.#phase = 'sent'
      return
    }
    this.#phase = 'sending'
    const sentBytes = response.getWriteOffset()
    const rest = new Uint8Array(body.subarray(sentBytes)) // H4; `slice` of a Buffer would be a view
    response.onWritable((offset) => {
      if (this.#phase !== 'sending') return true
      const [flowing, done] = response.tryEnd(rest.subarray(offset - sentBytes), body.byteLength)
      if (done) {
        this.#phase = 'sent'
        this.#answerOver()
      }
      return flowing
    })
  }

  /** Apart, because writing changes the phase behind the compiler's back. */
  #isSent(): boolean {
    return this.#phase === 'sent'
  }

  #closing(): boolean {
    return this.closeAfter || this.door.draining
  }

  #answerOver(): void {
    this.door.metrics.answered(this.#route, this.#status, this.ageMs())
    if (!this.dispatched) this.#release()
  }

  #release(): void {
    this.#cancelLook?.()
    this.#keptBack = null
    this.door.live.remove(this)
    this.door.metrics.inFlight--
    this.onReleased()
  }
}

/** The exchanges in flight, oldest first: a doubly linked list through the exchanges themselves. */
export class ExchangeList {
  #oldest: HttpExchange | null = null
  #newest: HttpExchange | null = null
  #size = 0

  get size(): number {
    return this.#size
  }

  add(exchange: HttpExchange): void {
    exchange.older = this.#newest
    if (this.#newest === null) this.#oldest = exchange
    else this.#newest.newer = exchange
    this.#newest = exchange
    this.#size++
  }

  remove(exchange: HttpExchange): void {
    if (exchange.older === null) this.#oldest = exchange.newer
    else exchange.older.newer = exchange.newer
    if (exchange.newer === null) this.#newest = exchange.older
    else exchange.newer.older = exchange.older
    exchange.older = null
    exchange.newer = null
    this.#size--
  }

  /** A copy, oldest first. */
  all(): HttpExchange[] {
    const found: HttpExchange[] = []
    for (let exchange = this.#oldest; exchange !== null; exchange = exchange.newer) found.push(exchange)
    return found
  }

  /** Those that began more than `ageMs` ago. */
  olderThan(ageMs: number): HttpExchange[] {
    const found: HttpExchange[] = []
    for (let exchange = this.#oldest; exchange !== null && exchange.ageMs() > ageMs; exchange = exchange.newer) found.push(exchange)
    return found
  }
}

const CLOSE = '\r\nconnection: close'
const STATUS_LINES: readonly string[] = Array.from({ length: 600 }, (_, status) => `${status} ${STATUS_CODES[status] ?? 'Unknown'}`)

function headOf(status: number, lines: string, ascii: boolean): string | Uint8Array {
  const head = (STATUS_LINES[status] ?? '500 Internal Server Error') + lines
  return ascii ? head : Buffer.from(head, 'latin1')
}
