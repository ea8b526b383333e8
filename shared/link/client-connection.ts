/**
 * One connection of a POP to its region, from dialling to its end. LinkClient makes a new one for each attempt.
 *
 *   dialling -> greeting (hello sent) -> syncing (welcome came, the snapshot is asked for) -> open -> closed
 *
 * N1  `onClosed` comes exactly once, and before it every stream has had its last event.
 * N2  Nothing received for PING_INTERVAL_MS + PONG_TIMEOUT_MS means that the peer is gone, whatever the socket says.
 * N3  Version pushes that arrive before the snapshot are held until it has been handed out, and dropped if it
 *     includes them, so that the listener never goes back in time.
 */
import type { CodedErrorData, ErrorCode } from '../errors.ts'
import type { Clock } from '../clock.ts'
import { CodedError, formatMessage } from '../errors.ts'
import { LINK_BULK_CREDIT_BYTES, LINK_CREDIT_BYTES, LINK_FUNCTIONS_MAX, LINK_SILENCE_MAX_MS, LINK_SOCKET_MAX_BYTES, REQUEST_HEADERS_MAX_BYTES, REQUEST_HEADERS_MAX_COUNT } from '../limits.ts'
import type { Log } from '../log.ts'
import { LinkCarrier } from './carrier.ts'
import type { CarrierOwner } from './carrier.ts'
import { ClientStream } from './client-stream.ts'
import type { ClientStreamOwner } from './client-stream.ts'
import { MalformedError } from './codec.ts'
import { AnswerCollector } from './collect.ts'
import type { CollectedAnswer } from './collect.ts'
import type { Dial, LinkSocket } from './dial.ts'
import { writeFault, writeHello, writePing, writePong } from './frames.ts'
import type { AnyOpen, FrameReceiver, QueryName } from './frames.ts'
import { decodeAs, encodeRefs, versionSnapshotSchema } from './values.ts'
import type { FunctionRef, FunctionVersions, LinkRole, LinkStream, LinkStreamSink, VersionEvent, VersionSnapshot } from './types.ts'

/** From dialling to the end of the snapshot. */
const CONNECT_TIMEOUT_MS = 10_000
/** Functions asked for at once; the region answers as many as fit. */
const SNAPSHOT_FUNCTIONS_PER_QUESTION = 1_000
const PING_INTERVAL_MS = 5_000
const PONG_TIMEOUT_MS = LINK_SILENCE_MAX_MS - PING_INTERVAL_MS
/** How often deadlines and pings are looked at. */
const SWEEP_MS = 500
/** After `close` the peer has this long to say goodbye too. */
const GOODBYE_MS = 1_000

export interface ClientConnectionDeps {
  readonly url: string
  readonly token: string
  readonly popId: string
  readonly publicKey: string
  readonly role: LinkRole
  readonly expects: string | null
  readonly clock: Clock
  readonly log: Log
  readonly dial: Dial
  readonly holds: () => readonly FunctionRef[]
  /** At most LINK_STREAMS_MAX: the region allows no more. */
  readonly streamsMax: number
  readonly bufferedMaxBytes: number
}

export interface ClientConnectionEvents {
  onOpen(regionId: string): void
  onGoaway(drainMs: number, uptimeMs: number): void
  onVersions(event: VersionEvent): void
  onRtt(rttMs: number): void
  /** The last stream of this connection has ended. */
  onIdle(): void
  onClosed(failure: LinkFailure, uptimeMs: number): void
}

/** Why a connection ended. */
export interface LinkFailure {
  readonly code: ErrorCode
  readonly reason: string
}

type State =
  | { readonly kind: 'dialling' | 'greeting'; readonly sinceMs: number }
  | { readonly kind: 'syncing'; readonly sinceMs: number; readonly regionId: string; readonly held: FunctionVersions[] }
  | { readonly kind: 'open'; readonly sinceMs: number; readonly regionId: string }
  | { readonly kind: 'closed' }

export class ClientConnection implements CarrierOwner, ClientStreamOwner {
  readonly #deps: ClientConnectionDeps
  readonly #events: ClientConnectionEvents
  readonly #socket: LinkSocket
  readonly #carrier: LinkCarrier
  readonly #streams = new Map<number, ClientStream>()
  #state: State
  #lastStreamId = 0
  #lastHeardAtMs: number
  #lastPingAtMs: number
  #lastSweepAtMs: number
  #greetedAtMs = 0
  #cancelSweep: (() => void) | null = null
  #rttMs: number | null = null
  /** When the ping left that was not answered yet; null if all were. */
  #pingedAtMs: number | null = null
  /** Why the connection ends, once somebody knows better than the socket. */
  #failure: LinkFailure | null = null

  constructor(deps: ClientConnectionDeps, events: ClientConnectionEvents) {
    this.#deps = deps
    this.#events = events
    const nowMs = deps.clock.monotonicMs()
    this.#state = { kind: 'dialling', sinceMs: nowMs }
    this.#lastHeardAtMs = nowMs
    this.#lastPingAtMs = nowMs
    this.#lastSweepAtMs = nowMs
    this.#socket = deps.dial(deps.url, CONNECT_TIMEOUT_MS, {
      onOpen: () => this.#greet(),
      onMessage: (message) => {
        this.#lastHeardAtMs = deps.clock.monotonicMs()
        this.#carrier.receive(message)
      },
      onDrain: () => this.#carrier.drained(),
      onClose: (reason, code) => this.#onSocketClosed(reason, code),
    })
    this.#carrier = new LinkCarrier(this.#socket, this.#receiver(), this, deps.bufferedMaxBytes)
    this.#scheduleSweep()
  }

  /** Streams without an end so far. */
  get streamCount(): number {
    return this.#streams.size
  }

  get bufferedBytes(): number {
    return this.#carrier.bufferedBytes
  }

  /** The last round trip of a ping, ms; null before the first. */
  get rttMs(): number | null {
    return this.#rttMs
  }

  /** For how long a ping has had no answer; 0 if all were answered. */
  get unansweredMs(): number {
    return this.#pingedAtMs === null ? 0 : this.#deps.clock.monotonicMs() - this.#pingedAtMs
  }

  /** Opens a stream or says why not; nothing was sent then. */
  open(frame: AnyOpen, sink: LinkStreamSink): LinkStream | CodedErrorData {
    if (this.#state.kind !== 'open') return { code: 'ERR_REGION_UNREACHABLE', params: [frame.kind === 'invoke' ? frame.functionName : frame.kind] }
    return this.#start(frame, sink)
  }

  /** Asks a question and collects the answer. Rejects with a CodedError. */
  async query(query: QueryName, body: Uint8Array, remainingMs: number, answerMaxBytes: number): Promise<CollectedAnswer> {
    const creditBytes = query === 'chain' || query === 'ask' ? LINK_BULK_CREDIT_BYTES : LINK_CREDIT_BYTES
    return AnswerCollector.collect((sink) => this.open({ kind: 'query', query, body, bodyMore: false, remainingMs, creditBytes }, sink), answerMaxBytes)
  }

  /** Ends the connection; streams fail. What was written leaves first. */
  close(code: ErrorCode, reason: string): void {
    if (this.#state.kind === 'closed') return
    this.#failure ??= { code, reason }
    this.#carrier.outbox.flush()
    this.#socket.close()
    const socket = this.#socket
    this.#deps.clock.after(GOODBYE_MS, () => socket.destroy())
    this.#end()
  }

  // CarrierOwner

  onViolation(why: string): void {
    this.#deps.log.warn('The region broke the link protocol', { why })
    this.#failure ??= { code: 'ERR_LINK_PROTOCOL', reason: why }
    writeFault(this.#carrier.outbox, { code: 'ERR_LINK_PROTOCOL', params: [why] })
    this.#carrier.outbox.flush()
    this.#socket.destroy()
    this.#end()
  }

  onFault(error: unknown): void {
    this.#deps.log.error('A frame could not be handled', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    this.#destroy('ERR_INTERNAL', 'a frame could not be handled')
  }

  // ClientStreamOwner

  retire(id: number): void {
    if (this.#streams.delete(id) && this.#streams.size === 0) this.#events.onIdle()
  }

  nowMs(): number {
    return this.#deps.clock.monotonicMs()
  }

  onSinkFault(error: unknown): void {
    this.#deps.log.error('The receiver of a stream failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }

  /** What each frame does. A frame that a region never sends, or not now, breaks the protocol. */
  #receiver(): FrameReceiver {
    const never = (): never => {
      throw new MalformedError('frame of a POP')
    }
    return {
      hello: never,
      open: never,
      cancel: never,
      welcome: (regionId) => this.#onWelcome(regionId),
      fault: (error) => {
        this.#deps.log.warn('The region closes the link', { code: error.code, reason: formatMessage(error.code, error.params) })
        this.#destroy(error.code, formatMessage(error.code, error.params))
      },
      started: (id) => this.#stream(id)?.onStarted(),
      session: (id, answer) => this.#stream(id)?.onSession(answer),
      head: (id, status, headers, startKind, version, body, last) => this.#stream(id)?.onHead(status, headers, startKind, version, body, last),
      data: (id, bytes) => this.#stream(id)?.onDataFrame(bytes),
      bodyEnd: (id) => this.#stream(id)?.onBodyEndFrame(),
      end: (id, result, version) => this.#stream(id)?.onEnd(result, version),
      error: (id, error) => this.#stream(id)?.onError(error),
      credit: (id, bytes) => this.#stream(id)?.onCredit(bytes),
      goaway: (drainMs) => {
        if (this.#state.kind !== 'open' && this.#state.kind !== 'syncing') throw new MalformedError('goaway out of order')
        this.#events.onGoaway(drainMs, this.#uptimeMs(this.#state))
      },
      ping: (nonce) => writePong(this.#carrier.outbox, nonce),
      pong: (nonce) => {
        const rttMs = this.#deps.clock.monotonicMs() - nonce / 1000
        if (rttMs < 0) return
        this.#pingedAtMs = null
        this.#rttMs = rttMs
        this.#events.onRtt(rttMs)
      },
      version: (versions) => this.#onVersion(versions),
    }
  }

  #onWelcome(regionId: string): void {
    if (this.#state.kind !== 'greeting') throw new MalformedError('welcome out of order')
    const { expects } = this.#deps
    if (expects !== null && regionId !== expects) return this.#destroy('ERR_LINK_IDENTITY', `${regionId} answers where ${expects} should be`)
    // The handshake is a round trip too; until the first ping it is all that is known.
    this.#events.onRtt(this.#deps.clock.monotonicMs() - this.#greetedAtMs)
    this.#state = { kind: 'syncing', sinceMs: this.#state.sinceMs, regionId, held: [] }
    this.#sync().catch((error: unknown) => this.onFault(error))
  }

  #onVersion(versions: FunctionVersions): void {
    switch (this.#state.kind) {
      case 'syncing':
        if (this.#state.held.length >= LINK_FUNCTIONS_MAX) return this.#destroy('ERR_LINK_OVERLOAD', 'too many changes during the snapshot')
        this.#state.held.push(versions)
        return
      case 'open':
        return this.#events.onVersions({ kind: 'changed', versions })
      case 'dialling': case 'greeting': case 'closed':
        throw new MalformedError('version out of order')
    }
  }

  #greet(): void {
    if (this.#state.kind !== 'dialling') return
    this.#state = { kind: 'greeting', sinceMs: this.#state.sinceMs }
    this.#greetedAtMs = this.#deps.clock.monotonicMs()
    writeHello(this.#carrier.outbox, this.#deps.popId, this.#deps.token, this.#deps.publicKey, this.#deps.role)
    this.#carrier.outbox.flush()
  }

  /** N3. */
  async #sync(): Promise<void> {
    const state = this.#state
    if (state.kind !== 'syncing') return
    const refs = this.#deps.holds().slice(0, LINK_FUNCTIONS_MAX)
    // Each question is answered as of its own moment; the snapshot as a whole is as old as the first.
    const knownSeq = new Map<string, number>()
    let seq = Infinity
    const functions: FunctionVersions[] = []
    try {
      for await (const { asked, answer } of this.#snapshots(refs)) {
        // The connection may have ended while the answer was under way.
        if (this.#state !== state) return
        for (const ref of asked) knownSeq.set(keyOf(ref), answer.seq)
        seq = Math.min(seq, answer.seq)
        functions.push(...answer.functions)
      }
    } catch (error) {
      if (error instanceof CodedError) this.#destroy(error.code, error.message)
      else this.#destroy('ERR_LINK_PROTOCOL', 'unusable snapshot')
      return
    }
    this.#state = { kind: 'open', sinceMs: this.#deps.clock.monotonicMs(), regionId: state.regionId }
    this.#events.onVersions({ kind: 'snapshot', seq, functions })
    for (const versions of state.held) {
      // A function that is taken away without a change of its own has the number of the change before.
      const known = knownSeq.get(keyOf(versions)) ?? seq
      if (versions.seq > known || (versions.seq === known && versions.builds.length === 0)) this.#events.onVersions({ kind: 'changed', versions })
    }
    this.#events.onOpen(state.regionId)
  }

  /** Asks in parts, once even if nothing is asked for; each answer comes with the functions that it is about. */
  async *#snapshots(refs: readonly FunctionRef[]): AsyncGenerator<{ readonly asked: readonly FunctionRef[]; readonly answer: VersionSnapshot }> {
    let at = 0
    do {
      const asked = refs.slice(at, at + SNAPSHOT_FUNCTIONS_PER_QUESTION)
      const { body } = await AnswerCollector.collect(
        (sink) => this.#start({ kind: 'query', query: 'snapshot', body: encodeRefs(asked), bodyMore: false, remainingMs: CONNECT_TIMEOUT_MS, creditBytes: LINK_CREDIT_BYTES }, sink),
      )
      const answer = decodeAs(versionSnapshotSchema, body)
      if (answer.answered > asked.length || (answer.answered === 0 && asked.length > 0)) throw new MalformedError('a snapshot of other functions')
      yield { asked: asked.slice(0, answer.answered), answer }
      at += answer.answered
    } while (at < refs.length)
  }

  #start(frame: AnyOpen, sink: LinkStreamSink): LinkStream | CodedErrorData {
    if (this.#streams.size >= this.#deps.streamsMax) return { code: 'ERR_QUEUE_FULL', params: [this.#streams.size] }
    if (this.#socket.bufferedBytes() > LINK_SOCKET_MAX_BYTES) return { code: 'ERR_QUEUE_FULL', params: [this.#streams.size] }
    const stream = new ClientStream(this.#lastStreamId + 1, frame, sink, this.#carrier, this)
    if (!stream.begin(frame)) return { code: 'ERR_REQUEST_HEADERS', params: [REQUEST_HEADERS_MAX_BYTES, REQUEST_HEADERS_MAX_COUNT] }
    this.#lastStreamId = stream.id
    this.#streams.set(stream.id, stream)
    return stream
  }

  /** A frame for a stream that ended here a moment ago is dropped; one that never was breaks the protocol. */
  #stream(id: number): ClientStream | undefined {
    if (id > this.#lastStreamId || id === 0) throw new MalformedError('frame for a stream that never was')
    return this.#streams.get(id)
  }

  #scheduleSweep(): void {
    this.#cancelSweep = this.#deps.clock.after(SWEEP_MS, () => {
      this.#sweep()
      if (this.#state.kind !== 'closed') this.#scheduleSweep()
    })
  }

  #sweep(): void {
    const nowMs = this.#deps.clock.monotonicMs()
    const state = this.#state
    if (state.kind === 'closed') return
    // A sweep that comes late says that this process stood still, and the peer's frames may be waiting in the socket.
    const lateMs = nowMs - this.#lastSweepAtMs - SWEEP_MS
    if (lateMs > SWEEP_MS) this.#lastHeardAtMs += lateMs
    this.#lastSweepAtMs = nowMs
    if (state.kind !== 'open' && nowMs - state.sinceMs >= CONNECT_TIMEOUT_MS) return this.#destroy('ERR_REGION_TIMEOUT', 'no connection in time')
    if (state.kind === 'dialling') return
    if (nowMs - this.#lastHeardAtMs >= PING_INTERVAL_MS + PONG_TIMEOUT_MS) return this.#destroy('ERR_REGION_LOST', 'nothing heard for too long')
    if (nowMs - this.#lastPingAtMs >= PING_INTERVAL_MS) {
      this.#lastPingAtMs = nowMs
      this.#pingedAtMs ??= nowMs
      writePing(this.#carrier.outbox, Math.round(nowMs * 1000))
    }
    for (const stream of this.#streams.values()) stream.sweep(nowMs)
  }

  #onSocketClosed(reason: string, code?: ErrorCode): void {
    this.#failure ??= { code: code ?? (this.#state.kind === 'dialling' ? 'ERR_REGION_UNREACHABLE' : 'ERR_REGION_LOST'), reason }
    this.#end()
  }

  #destroy(code: ErrorCode, reason: string): void {
    if (this.#state.kind === 'closed') return
    this.#failure ??= { code, reason }
    this.#socket.destroy()
    this.#end()
  }

  /** N1. */
  #end(): void {
    const state = this.#state
    if (state.kind === 'closed') return
    this.#state = { kind: 'closed' }
    this.#cancelSweep?.()
    for (const stream of [...this.#streams.values()]) stream.onLinkLost()
    this.#streams.clear()
    this.#carrier.close()
    this.#events.onClosed(this.#failure ?? { code: 'ERR_REGION_LOST', reason: 'connection lost' }, this.#uptimeMs(state))
  }

  #uptimeMs(state: State): number {
    return state.kind === 'open' ? this.#deps.clock.monotonicMs() - state.sinceMs : 0
  }
}

function keyOf({ account, functionName }: FunctionRef): string {
  return `${account}\n${functionName}`
}
