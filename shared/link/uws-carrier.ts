/**
 * Links on a uWebSockets.js app that somebody else listens with: plain sockets, and TLS of the front door. uWS does not
 * show JavaScript what certificate a client has, so nothing is proved here; see tls-listener.ts for keys.
 *
 * S1  A socket object is never touched after uWS said `close`: every use goes through UwsSocket.
 */
import type { TemplatedApp, WebSocket } from '../http/uws.ts'
import { LINK_MESSAGE_MAX_BYTES, LINK_SOCKET_MAX_BYTES } from '../limits.ts'
import type { LinkServer } from './link-server.ts'
import { LINK_PATH } from './link-url.ts'
import type { ServerConnection, ServerSocket } from './server-connection.ts'

interface SocketData {
  connection: ServerConnection | null
  socket: UwsSocket | null
}

/** Takes over the WebSocket route LINK_PATH of an app. Before the app listens. */
export function carryLinks(app: TemplatedApp, server: LinkServer): void {
  app.ws<SocketData>(LINK_PATH, {
    maxPayloadLength: LINK_MESSAGE_MAX_BYTES,
    maxBackpressure: LINK_SOCKET_MAX_BYTES,
    // Silence is watched with our clock; 0 switches uWS's own off.
    idleTimeout: 0,
    sendPingsAutomatically: false,
    upgrade: (response, request, context) => {
      if (!server.mayConnect()) {
        response.writeStatus('503 Service Unavailable').end()
        return
      }
      const data: SocketData = { connection: null, socket: null }
      response.upgrade(data, request.getHeader('sec-websocket-key'), request.getHeader('sec-websocket-protocol'), request.getHeader('sec-websocket-extensions'), context)
    },
    open: (ws) => {
      const data = ws.getUserData()
      data.socket = new UwsSocket(ws)
      data.connection = server.accept(data.socket, { kind: 'none' })
    },
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
