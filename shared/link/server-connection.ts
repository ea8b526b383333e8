/**
 * One connection of a POP at its region.
 *
 *   greeting (waits for hello) -> verifying -> open -> closed
 *
 * V1  Before the hello was accepted no other frame is taken.
 * V2  A connection that ends cancels every run it carries (R2), whatever ended it.
 * V3  A POP that is silent for SILENCE_MAX_MS is gone: it pings more often than that.
 */
import type { Clock } from '../clock.ts'
import type { CodedErrorData } from '../errors.ts'
import { LINK_BUFFERED_MAX_BYTES, LINK_CREDIT_BYTES, LINK_STREAMS_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import { isPopPublicKey } from '../store/pop-keys.ts'
import { LinkCarrier } from './carrier.ts'
import type { CarrierOwner, Transport } from './carrier.ts'
import { MalformedError } from './codec.ts'
import { writeError, writeFault, writeGoaway, writePong, writeVersion, writeWelcome } from './frames.ts'
import type { AnyOpen, FrameReceiver } from './frames.ts'
import { runControl, runQuery } from './server-runs.ts'
import { ServerStream } from './server-stream.ts'
import type { ServerStreamOwner } from './server-stream.ts'
import type { FunctionVersions, LinkHandler, LinkHello, LinkInvocation, LinkPeer, LinkProof, LinkRole, PopIdentity } from './types.ts'

/** A POP sends its hello at once. */
const HELLO_TIMEOUT_MS = 5_000
/** Four pings of a POP. */
const SILENCE_MAX_MS = 20_000
/** What a run may take at most, the longest wall limit and as much again for queues and waitUntil work; more in an open frame counts as this. */
const REMAINING_MAX_MS = 1_800_000
/** A POP forwards what it accepted itself; a node that, or what a POP forwarded to it; a region nothing. */
const HOPS_MAX: Readonly<Record<LinkRole, number>> = { pop: 1, node: 2, region: 0 }
const POP_ID = /^[A-Za-z0-9._-]{1,128}$/

export interface ServerSocket extends Transport {
  /** Closes at once; the close is reported later, not during the call. */
  destroy(): void
  /** Says goodbye and closes; reported likewise. */
  close(): void
}

export interface ServerConnectionDeps {
  readonly regionId: string
  readonly memberId?: () => string
  readonly identity: PopIdentity
  readonly handler: LinkHandler
  readonly clock: Clock
  readonly log: Log
  readonly bufferedMaxBytes?: number
}

export interface ServerConnectionEvents {
  /** The POP has said who it is. An error refuses it. */
  onHello(popId: string, role: LinkRole): CodedErrorData | null
  onIdle(): void
  /** Exactly once. */
  onClosed(): void
}

type State =
  | { readonly kind: 'greeting' | 'verifying'; readonly sinceMs: number }
  | ({ readonly kind: 'open' } & LinkPeer)
  | { readonly kind: 'closed' }

export class ServerConnection implements CarrierOwner, ServerStreamOwner {
  readonly #deps: ServerConnectionDeps
  readonly #events: ServerConnectionEvents
  readonly #socket: ServerSocket
  readonly #carrier: LinkCarrier
  readonly #streams = new Map<number, ServerStream>()
  readonly proof: LinkProof
  readonly connectedAtMs: number
  #state: State
  #lastStreamId = 0
  #lastHeardAtMs: number
  #draining = false

  constructor(deps: ServerConnectionDeps, events: ServerConnectionEvents, socket: ServerSocket, proof: LinkProof) {
    this.proof = proof
    this.#deps = deps
    this.#events = events
    this.#socket = socket
    this.connectedAtMs = deps.clock.nowMs()
    this.#lastHeardAtMs = deps.clock.monotonicMs()
    this.#state = { kind: 'greeting', sinceMs: this.#lastHeardAtMs }
    this.#carrier = new LinkCarrier(socket, this.#receiver(), this, deps.bufferedMaxBytes ?? LINK_BUFFERED_MAX_BYTES)
  }

  /** Null until the hello was accepted. */
  get popId(): string | null {
    return this.#state.kind === 'open' ? this.#state.popId : null
  }

  /** Null until the hello was accepted. */
  get role(): LinkRole | null {
    return this.#state.kind === 'open' ? this.#state.role : null
  }

  get streamCount(): number {
    return this.#streams.size
  }

  /** On the clock's monotonic time. */
  get lastHeardAtMs(): number {
    return this.#lastHeardAtMs
  }

  get bufferedBytes(): number {
    return this.#carrier.bufferedBytes
  }

  /** A message of the socket; not used after the return. */
  onMessage(message: Uint8Array): void {
    this.#lastHeardAtMs = this.#deps.clock.monotonicMs()
    this.#carrier.receive(message)
  }

  onDrain(): void {
    this.#carrier.drained()
  }

  /** The socket is gone; V2. */
  onSocketClosed(): void {
    if (this.#state.kind === 'closed') return
    this.#state = { kind: 'closed' }
    this.#carrier.close()
    for (const stream of [...this.#streams.values()]) stream.onLinkLost()
    this.#streams.clear()
    this.#events.onClosed()
  }

  /** Tells the POP of a change, in this very turn. */
  pushVersions(versions: FunctionVersions): void {
    if (this.#state.kind !== 'open') return
    if (!writeVersion(this.#carrier.outbox, versions)) {
      // The POP asks for everything when it connects again.
      this.#deps.log.warn('A change does not fit a frame, the POP has to connect again', { functionName: versions.functionName })
      this.#refuse({ code: 'ERR_LINK_OVERLOAD', params: ['a change that does not fit a frame'] })
      return
    }
    this.#carrier.outbox.flush()
  }

  /** Asks the POP to go elsewhere and refuses what it still opens. */
  goaway(drainMs: number): void {
    if (this.#state.kind !== 'open' || this.#draining) return
    this.#draining = true
    writeGoaway(this.#carrier.outbox, drainMs)
    this.#carrier.outbox.flush()
  }

  close(): void {
    this.#carrier.outbox.flush()
    this.#socket.close()
  }

  /** Says why and closes, runs are cancelled at once: the peer may no longer use the link. */
  dismiss(error: CodedErrorData): void {
    this.#refuse(error)
    this.onSocketClosed()
  }

  /** Deadlines of streams and of the connection itself; called every half second. */
  sweep(nowMs: number, lateMs: number): void {
    // A late sweep says that this process stood still; frames may be waiting in the socket.
    this.#lastHeardAtMs += lateMs
    const state = this.#state
    if (state.kind === 'closed') return
    if (state.kind !== 'open') {
      if (nowMs - state.sinceMs >= HELLO_TIMEOUT_MS) this.#refuse({ code: 'ERR_LINK_PROTOCOL', params: ['no hello in time'] })
      return
    }
    if (nowMs - this.#lastHeardAtMs >= SILENCE_MAX_MS) {
      this.#deps.log.warn('A POP is silent, its link is closed', { popId: state.popId })
      this.#socket.destroy()
      return
    }
    for (const stream of this.#streams.values()) stream.sweep(nowMs)
  }

  // CarrierOwner

  onViolation(why: string): void {
    this.#deps.log.warn('A POP broke the link protocol', { popId: this.popId, why })
    this.#refuse({ code: 'ERR_LINK_PROTOCOL', params: [why] })
  }

  onFault(error: unknown): void {
    this.onHandlerFault(error)
    this.#refuse({ code: 'ERR_INTERNAL', params: ['the region failed'] })
  }

  // ServerStreamOwner

  retire(id: number): void {
    if (this.#streams.delete(id) && this.#streams.size === 0) this.#events.onIdle()
  }

  onHandlerFault(error: unknown): void {
    this.#deps.log.error('A handler of the link failed', { popId: this.popId, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }

  #receiver(): FrameReceiver {
    const never = (): never => {
      throw new MalformedError('frame of a region')
    }
    return {
      welcome: never,
      started: never,
      session: never,
      head: never,
      end: never,
      error: never,
      goaway: never,
      version: never,
      pong: never,
      hello: (popId, token, publicKey, role) => this.#onHello({ popId, token, publicKey, role }),
      fault: (error) => {
        this.#deps.log.warn('A POP closes its link', { popId: this.popId, code: error.code, why: String(error.params[0] ?? '') })
        this.#socket.destroy()
      },
      open: (id, frame) => this.#onOpen(id, frame),
      data: (id, bytes) => this.#stream(id)?.onDataFrame(bytes),
      bodyEnd: (id) => this.#stream(id)?.onBodyEndFrame(),
      cancel: (id) => this.#stream(id)?.onCancel(this.#deps.clock.monotonicMs()),
      credit: (id, bytes) => this.#stream(id)?.onCredit(bytes),
      ping: (nonce) => {
        this.#requireOpen()
        writePong(this.#carrier.outbox, nonce)
      },
    }
  }

  #onHello(hello: LinkHello): void {
    if (this.#state.kind !== 'greeting') throw new MalformedError('second hello')
    if (!POP_ID.test(hello.popId)) throw new MalformedError('not a POP id')
    if (!isPopPublicKey(hello.publicKey)) throw new MalformedError('not a public key')
    const state: State = { kind: 'verifying', sinceMs: this.#state.sinceMs }
    this.#state = state
    this.#verify(state, hello).catch((error: unknown) => this.onFault(error))
  }

  async #verify(state: State, hello: LinkHello): Promise<void> {
    const { popId, publicKey } = hello
    const verdict = await this.#deps.identity.verify(hello, this.proof)
    // The socket may have closed meanwhile.
    if (this.#state !== state) return
    if (verdict.kind === 'refused') {
      this.#deps.log.warn('A POP was refused', { popId, reason: verdict.reason })
      this.#refuse({ code: verdict.code, params: [verdict.reason] })
      return
    }
    const refusal = this.#events.onHello(verdict.popId, verdict.role)
    if (refusal !== null) {
      this.#refuse(refusal)
      return
    }
    this.#state = { kind: 'open', popId: verdict.popId, publicKey, role: verdict.role }
    this.#deps.log.info('A POP has connected', { popId: verdict.popId })
    const { regionId, memberId = () => regionId } = this.#deps
    writeWelcome(this.#carrier.outbox, verdict.role === 'node' ? memberId() : regionId)
  }

  #onOpen(id: number, frame: AnyOpen): void {
    const { popId, publicKey, role } = this.#requireOpen()
    if (id !== this.#lastStreamId + 1) throw new MalformedError('stream number out of order')
    if (this.#streams.size >= LINK_STREAMS_MAX) throw new MalformedError('too many streams')
    this.#lastStreamId = id
    const refusal = this.#refusal(frame, role)
    if (refusal !== null) {
      writeError(this.#carrier.outbox, id, refusal)
      return
    }
    const remainingMs = Math.min(frame.remainingMs, REMAINING_MAX_MS)
    const stream = new ServerStream(id, remainingMs, frame.kind === 'query' ? frame.creditBytes : LINK_CREDIT_BYTES, this.#carrier, this, this.#deps.clock.monotonicMs())
    this.#streams.set(id, stream)
    stream.begin(frame.body?.length ?? 0, frame.bodyMore, () => this.#run({ popId, publicKey, role }, frame, remainingMs, stream))
  }

  #refusal(frame: AnyOpen, role: LinkRole): CodedErrorData | null {
    if (frame.kind === 'invoke' && frame.hops > HOPS_MAX[role]) return { code: 'ERR_LINK_LOOP', params: [] }
    // A POP that connected a moment before the goaway still gets its snapshot.
    if (this.#draining && frame.kind !== 'query') return { code: 'ERR_DRAINING', params: [] }
    return null
  }

  #run(pop: LinkPeer, frame: AnyOpen, remainingMs: number, stream: ServerStream): LinkInvocation {
    const { handler, clock } = this.#deps
    switch (frame.kind) {
      case 'invoke': {
        // The body is the handler's own, the message is not.
        const owned = frame.body === null ? frame : { ...frame, body: Uint8Array.prototype.slice.call(frame.body) }
        return handler.invoke(pop, owned, clock.nowMs() + remainingMs, stream)
      }
      case 'control':
        return runControl(pop.popId, frame, handler, this.#carrier, stream, (error) => this.onHandlerFault(error))
      case 'query':
        return runQuery(pop, frame, handler, this.#carrier, stream, (error) => this.onHandlerFault(error))
    }
  }

  /** A frame for a stream that ended here a moment ago is dropped; one that never was breaks the protocol. */
  #stream(id: number): ServerStream | undefined {
    this.#requireOpen()
    if (id > this.#lastStreamId || id === 0) throw new MalformedError('frame for a stream that never was')
    return this.#streams.get(id)
  }

  /** V1. */
  #requireOpen(): LinkPeer {
    if (this.#state.kind !== 'open') throw new MalformedError('frame before the hello was answered')
    return this.#state
  }

  /** Says why and closes. */
  #refuse(error: CodedErrorData): void {
    if (this.#state.kind === 'closed') return
    writeFault(this.#carrier.outbox, error)
    this.#carrier.outbox.flush()
    this.#carrier.close()
    this.#socket.close()
  }
}
