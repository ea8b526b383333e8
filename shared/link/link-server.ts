/**
 * The region's end of all its links, on a uWebSockets.js app that somebody else listens with.
 *
 * S1  A socket object is never touched after uWS said `close`: every use goes through UwsSocket.
 * S2  Every connection, greeted or not, is in `#connections` until its close, so `close` and `drain` reach all.
 */
import type { Clock } from '../clock.ts'
import type { CodedErrorData } from '../errors.ts'
import type { TemplatedApp, WebSocket } from '../http/uws.ts'
import { LINK_CONNECTIONS_MAX, LINK_HANDSHAKES_MAX, LINK_MESSAGE_MAX_BYTES, LINK_SOCKET_MAX_BYTES } from '../limits.ts'
import type { Log } from '../log.ts'
import { LINK_PATH } from './link-url.ts'
import { ServerConnection } from './server-connection.ts'
import type { ServerSocket } from './server-connection.ts'
import type { FunctionVersions, LinkHandler, LinkRole, PopIdentity } from './types.ts'

/** Connections of one POP at once: the present one, and others that finish streams or are not yet known to be dead. */
const CONNECTIONS_PER_POP_MAX = 8
const SWEEP_MS = 500

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

interface SocketData {
  connection: ServerConnection | null
  socket: UwsSocket | null
}

export class LinkServer {
  readonly #deps: LinkServerDeps
  readonly #log: Log
  readonly #connections = new Set<ServerConnection>()
  #state: { readonly kind: 'open' } | { readonly kind: 'draining'; readonly done: Promise<void>; readonly check: () => void } | { readonly kind: 'closed' } = { kind: 'open' }
  #cancelSweep: (() => void) | null = null
  #sweptAtMs = 0

  constructor(deps: LinkServerDeps) {
    this.#deps = deps
    this.#log = deps.log.child('link')
  }

  /** Takes over the WebSocket route LINK_PATH of an app. Call once, before the app listens. */
  attach(app: TemplatedApp): void {
    app.ws<SocketData>(LINK_PATH, {
      maxPayloadLength: LINK_MESSAGE_MAX_BYTES,
      maxBackpressure: LINK_SOCKET_MAX_BYTES,
      // Silence is watched with our clock; 0 switches uWS's own off.
      idleTimeout: 0,
      sendPingsAutomatically: false,
      upgrade: (response, request, context) => {
        if (!this.#mayConnect()) {
          response.writeStatus('503 Service Unavailable').end()
          return
        }
        const data: SocketData = { connection: null, socket: null }
        response.upgrade(data, request.getHeader('sec-websocket-key'), request.getHeader('sec-websocket-protocol'), request.getHeader('sec-websocket-extensions'), context)
      },
      open: (ws) => this.#onSocket(ws),
      message: (ws, message, isBinary) => {
        const { connection } = ws.getUserData()
        // A text message cannot be a frame; an empty one is refused as such.
        connection?.onMessage(isBinary ? new Uint8Array(message) : new Uint8Array(0))
      },
      drain: (ws) => ws.getUserData().connection?.onDrain(),
      close: (ws) => {
        const data = ws.getUserData()
        data.socket?.onClosed()
        data.connection?.onSocketClosed()
      },
    })
    this.#sweptAtMs = this.#deps.clock.monotonicMs()
    this.#scheduleSweep()
  }

  /** The POPs connected now, one entry for each connection. */
  pops(): readonly PopInfo[] {
    return [...this.#connections].flatMap((connection) => {
      const { popId, role, connectedAtMs, streamCount: streams, bufferedBytes } = connection
      return popId === null || role !== 'pop' ? [] : [{ popId, connectedAtMs, streams, bufferedBytes }]
    })
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

  #mayConnect(): boolean {
    if (this.#state.kind !== 'open' || this.#connections.size >= LINK_CONNECTIONS_MAX) return false
    let greeting = 0
    for (const connection of this.#connections) {
      if (connection.popId === null) greeting += 1
    }
    return greeting < LINK_HANDSHAKES_MAX
  }

  #onSocket(ws: WebSocket<SocketData>): void {
    const socket = new UwsSocket(ws)
    const connection: ServerConnection = new ServerConnection({ ...this.#deps, log: this.#log }, {
      onHello: (popId, role) => this.#onHello(popId, role),
      onIdle: () => this.#checkDrained(),
      onClosed: () => {
        this.#connections.delete(connection)
        this.#checkDrained()
      },
    }, socket)
    const data = ws.getUserData()
    data.connection = connection
    data.socket = socket
    this.#connections.add(connection)
  }

  #onHello(popId: string, role: LinkRole): CodedErrorData | null {
    if (this.#state.kind !== 'open') return { code: 'ERR_DRAINING', params: [] }
    const others = [...this.#connections].filter((connection) => connection.popId === popId && connection.role === role).length
    return others >= CONNECTIONS_PER_POP_MAX ? { code: 'ERR_LINK_IDENTITY', params: [`${popId} is connected ${others} times already`] } : null
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

/** S1. */
class UwsSocket implements ServerSocket {
  #ws: WebSocket<SocketData> | null
  #doomed = false

  constructor(ws: WebSocket<SocketData>) {
    this.#ws = ws
  }

  send(message: Uint8Array): void {
    // 2: dropped, the peer has not read LINK_SOCKET_MAX_BYTES. A link with a hole in it is useless.
    if (this.#ws?.send(message, true) === 2) this.destroy()
  }

  bufferedBytes(): number {
    return this.#ws?.getBufferedAmount() ?? 0
  }

  destroy(): void {
    this.#endSoon((ws) => ws.close())
  }

  close(): void {
    this.#endSoon((ws) => ws.end(1000))
  }

  onClosed(): void {
    this.#ws = null
  }

  /** uWS calls the close handler from within `close` and `end`; here it comes when the caller is done. */
  #endSoon(end: (ws: WebSocket<SocketData>) => void): void {
    if (this.#doomed) return
    this.#doomed = true
    setImmediate(() => {
      if (this.#ws !== null) end(this.#ws)
    })
  }
}
