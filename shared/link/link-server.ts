/**
 * The region's end of all its links. Carriers accept sockets and feed them in (uws-carrier.ts, tls-listener.ts).
 *
 * S2  Every connection, greeted or not, is in `#connections` until its close, so `close` and `drain` reach all.
 * S3  A POP that is known by its key has one connection. A newer one ends the older: it belongs to a process that is gone
 *     or to a second one with the same key, which is logged and counted.
 */
import type { Clock } from '../clock.ts'
import type { CodedErrorData } from '../errors.ts'
import type { TemplatedApp } from '../http/uws.ts'
import type { Fingerprint } from '../identity/fingerprint.ts'
import { LINK_CONNECTIONS_MAX, LINK_HANDSHAKES_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import { ServerConnection } from './server-connection.ts'
import type { ServerSocket } from './server-connection.ts'
import type { FunctionVersions, LinkHandler, LinkProof, LinkRole, PopIdentity } from './types.ts'
import { carryLinks } from './uws-carrier.ts'

/** Connections of one POP at once: the present one, and others that finish streams or are not yet known to be dead. */
const CONNECTIONS_PER_POP_MAX = 8
const SWEEP_MS = 500
/** A connection that was heard of since then has a living process: POPs ping every five seconds. */
const ALIVE_MS = 6_000

export interface LinkServerDeps {
  readonly regionId: string
  /** Who this is to other members of its group; default `regionId`. */
  readonly memberId?: () => string
  readonly identity: PopIdentity
  readonly handler: LinkHandler
  readonly clock: Clock
  readonly log: Log
  /** Default LINK_BUFFERED_MAX_BYTES, for each connection. */
  readonly bufferedMaxBytes?: number
}

export interface PopInfo {
  readonly popId: string
  readonly connectedAtMs: number
  readonly streams: number
  readonly bufferedBytes: number
}

export class LinkServer {
  readonly #deps: LinkServerDeps
  readonly #log: Log
  readonly #connections = new Set<ServerConnection>()
  #state: { readonly kind: 'open' } | { readonly kind: 'draining'; readonly done: Promise<void>; readonly check: () => void } | { readonly kind: 'closed' } = { kind: 'open' }
  #cancelSweep: (() => void) | null = null
  #sweptAtMs = 0
  #conflicts = 0

  constructor(deps: LinkServerDeps) {
    this.#deps = deps
    this.#log = deps.log.child('link')
  }

  /** Takes over the WebSocket route LINK_PATH of an app, before it listens. */
  attach(app: TemplatedApp): void {
    carryLinks(app, this)
  }

  /** To be asked by a carrier before it upgrades a connection. */
  mayConnect(): boolean {
    if (this.#state.kind !== 'open' || this.#connections.size >= LINK_CONNECTIONS_MAX) return false
    let greeting = 0
    for (const connection of this.#connections) {
      if (connection.popId === null) greeting += 1
    }
    return greeting < LINK_HANDSHAKES_MAX
  }

  /**
   * Takes a socket that is open. The carrier gives its messages to `onMessage` and tells `onDrain`, and `onSocketClosed`
   * once, when the socket is gone; none of them during this call or a call of the socket's own methods.
   */
  accept(socket: ServerSocket, proof: LinkProof): ServerConnection {
    const connection: ServerConnection = new ServerConnection({ ...this.#deps, log: this.#log }, {
      onHello: (popId, role) => this.#onHello(popId, role, connection),
      onIdle: () => this.#checkDrained(),
      onClosed: () => {
        this.#connections.delete(connection)
        this.#checkDrained()
      },
    }, socket, proof)
    this.#connections.add(connection)
    if (this.#cancelSweep === null) {
      this.#sweptAtMs = this.#deps.clock.monotonicMs()
      this.#scheduleSweep()
    }
    return connection
  }

  /** The POPs connected now, one entry for each connection. */
  pops(): readonly PopInfo[] {
    return [...this.#connections].flatMap((connection) => {
      const { popId, role, connectedAtMs, streamCount: streams, bufferedBytes } = connection
      return popId === null || role !== 'pop' ? [] : [{ popId, connectedAtMs, streams, bufferedBytes }]
    })
  }

  /** Those that have not said who they are included. */
  get connectionCount(): number {
    return this.#connections.size
  }

  /** How often a second process came with the key of one that is alive (S3). */
  get conflicts(): number {
    return this.#conflicts
  }

  /** Ends the connections of a key that may no longer be used, before it returns; runs on them are cancelled. */
  dismiss(fingerprint: Fingerprint, error: CodedErrorData): void {
    for (const connection of [...this.#connections]) {
      if (connection.proof.kind === 'key' && connection.proof.fingerprint === fingerprint) connection.dismiss(error)
    }
  }

  /** Tells every POP, or those for which `wants` holds, of a change, before it returns. `seq` must grow from call to call. */
  pushVersions(versions: FunctionVersions, wants: (popId: string) => boolean = () => true): void {
    for (const connection of this.#connections) {
      if (connection.popId !== null && connection.role === 'pop' && wants(connection.popId)) connection.pushVersions(versions)
    }
  }

  /** Sends every POP elsewhere, waits for the streams until the deadline, then closes. Idempotent. */
  drain(timeoutMs: number): Promise<void> {
    if (this.#state.kind === 'draining') return this.#state.done
    if (this.#state.kind === 'closed') return Promise.resolve()
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const cancelTimer = this.#deps.clock.after(timeoutMs, () => resolve(undefined))
    const check = (): void => {
      if ([...this.#connections].every((connection) => connection.streamCount === 0)) resolve(undefined)
    }
    const done = promise.then(async () => {
      cancelTimer()
      this.close()
      // The sockets say goodbye at the end of this turn, and with that the last frames are with the kernel.
      while (this.#connections.size > 0) await new Promise((next) => setImmediate(next))
    })
    this.#state = { kind: 'draining', done, check }
    for (const connection of this.#connections) connection.goaway(timeoutMs)
    check()
    return done
  }

  /** Closes every connection now; runs on them are cancelled. The app may listen on, but POPs are refused. Idempotent. */
  close(): void {
    if (this.#state.kind === 'closed') return
    this.#state = { kind: 'closed' }
    this.#cancelSweep?.()
    for (const connection of [...this.#connections]) connection.close()
  }

  #onHello(popId: string, role: LinkRole, newest: ServerConnection): CodedErrorData | null {
    if (this.#state.kind !== 'open') return { code: 'ERR_DRAINING', params: [] }
    const others = [...this.#connections].filter((connection) => connection.popId === popId && connection.role === role)
    if (newest.proof.kind === 'key' && role === 'pop') this.#replace(popId, others)
    else if (others.length >= CONNECTIONS_PER_POP_MAX) return { code: 'ERR_LINK_IDENTITY', params: [`${popId} is connected ${others.length} times already`] }
    return null
  }

  /** S3. */
  #replace(popId: string, others: readonly ServerConnection[]): void {
    for (const other of others) {
      if (this.#deps.clock.monotonicMs() - other.lastHeardAtMs < ALIVE_MS) {
        this.#conflicts += 1
        this.#log.error('Two processes link up with the same key, the newer one stays', { popId })
      }
      other.dismiss({ code: 'ERR_LINK_IDENTITY', params: [`another process has linked up with the key of ${popId}`] })
    }
  }

  #checkDrained(): void {
    if (this.#state.kind === 'draining') this.#state.check()
  }

  #scheduleSweep(): void {
    this.#cancelSweep = this.#deps.clock.after(SWEEP_MS, () => {
      const nowMs = this.#deps.clock.monotonicMs()
      const lateMs = nowMs - this.#sweptAtMs - SWEEP_MS
      this.#sweptAtMs = nowMs
      for (const connection of [...this.#connections]) connection.sweep(nowMs, lateMs > SWEEP_MS ? lateMs : 0)
      if (this.#state.kind !== 'closed') this.#scheduleSweep()
    })
  }
}
