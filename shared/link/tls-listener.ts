/**
 * The port where links of registered peers arrive: TLS 1.3 by node:https, because uWebSockets.js does not show JavaScript
 * what certificate a client has. Both ends show a certificate; the key in the peer's is the proof that goes to the
 * LinkServer, and what follows are the same WebSocket messages as on any other link.
 *
 *   TCP -> TLS handshake -> one HTTP request, an upgrade of LINK_PATH -> LinkServer.accept
 *
 * A1  A connection without a client certificate gets no further than its HTTP request (403).
 * A2  What has not become a link yet is in `#arriving`, bounded in number, for each address and in time. At the bound the
 *     oldest goes: a flood of sockets that only wait does not keep out a peer that goes on with its handshake.
 * A3  `ws` keeps bytes that it is given until they are sent, so each message is copied once.
 */
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { WebSocketServer, type RawData, type WebSocket } from 'ws'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { peerFingerprint, serverTlsOptions } from '../identity/tls.ts'
import type { LinkKeyPair } from '../identity/key-pair.ts'
import { LINK_HANDSHAKES_MAX, LINK_HANDSHAKES_PER_ADDRESS_MAX, LINK_HANDSHAKE_TIMEOUT_MS, LINK_MESSAGE_MAX_BYTES, LINK_SOCKET_MAX_BYTES } from '../limits.ts'
import type { Log } from '../log.ts'
import type { LinkServer } from './link-server.ts'
import { LINK_PATH } from './link-url.ts'
import type { ServerConnection, ServerSocket } from './server-connection.ts'

/** An upgrade has a dozen headers. */
const HEADERS_MAX_BYTES = 8 * 1024
/** The close handshake of WebSocket gets this long; the link itself is over before. */
const GOODBYE_MS = 1_000

export interface TlsListenerDeps {
  readonly server: LinkServer
  readonly keys: LinkKeyPair
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly clock: Clock
  readonly log: Log
  /** Default LINK_HANDSHAKE_TIMEOUT_MS. */
  readonly handshakeTimeoutMs?: number
}

export class TlsLinkListener {
  readonly #server: LinkServer
  readonly #clock: Clock
  readonly #log: Log
  readonly #tcp: TcpServer
  readonly #https: HttpsServer
  readonly #webSockets = new WebSocketServer({ noServer: true, clientTracking: false, perMessageDeflate: false, maxPayload: LINK_MESSAGE_MAX_BYTES })
  readonly #handshakeTimeoutMs: number
  /** In order of arrival; A2. */
  readonly #arriving = new Map<Socket, string>()
  readonly #sockets = new Set<Socket>()
  #refused = 0

  private constructor(deps: TlsListenerDeps) {
    this.#server = deps.server
    this.#clock = deps.clock
    this.#log = deps.log.child('link')
    this.#handshakeTimeoutMs = deps.handshakeTimeoutMs ?? LINK_HANDSHAKE_TIMEOUT_MS
    const options = serverTlsOptions(deps.keys)
    this.#https = createHttpsServer({ ...options, handshakeTimeout: this.#handshakeTimeoutMs, maxHeaderSize: HEADERS_MAX_BYTES, keepAlive: false })
    this.#https.on('tlsClientError', (error, socket) => {
      this.#log.debug('A TLS handshake failed', { reason: error.message })
      socket.destroy()
    })
    this.#https.on('clientError', (_error, socket) => socket.destroy())
    this.#https.on('request', (_request, response) => {
      response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end()
    })
    this.#https.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => this.#onUpgrade(request, socket, head))
    this.#tcp = createTcpServer({ noDelay: true }, (socket) => this.#onSocket(socket))
  }

  /** Rejects with ERR_PORT_IN_USE or ERR_ENVIRONMENT. */
  static async listen(deps: TlsListenerDeps): Promise<TlsLinkListener> {
    const listener = new TlsLinkListener(deps)
    await new Promise<void>((resolve, reject) => {
      listener.#tcp.once('error', (error: NodeJS.ErrnoException) => {
        reject(error.code === 'EADDRINUSE' ? new CodedError('ERR_PORT_IN_USE', [deps.port, '--link-port']) : new CodedError('ERR_ENVIRONMENT', [`Nothing can listen on ${deps.host}: ${error.message}`]))
      })
      listener.#tcp.listen({ host: deps.host, port: deps.port }, resolve)
    })
    listener.#tcp.on('error', (error) => listener.#log.error('The link port failed', { reason: error.message }))
    return listener
  }

  get port(): number {
    return (this.#tcp.address() as AddressInfo).port
  }

  /** Connections that have not become a link. */
  get arriving(): number {
    return this.#arriving.size
  }

  /** How many were ended to make room (A2). */
  get refused(): number {
    return this.#refused
  }

  /** Accepts no more; links stay. Idempotent. */
  stop(): void {
    this.#tcp.close()
    for (const socket of [...this.#arriving.keys()]) socket.destroy()
  }

  /** Ends everything. Idempotent. */
  close(): void {
    this.stop()
    for (const socket of [...this.#sockets]) socket.destroy()
    this.#https.close()
  }

  /** A2. */
  #onSocket(socket: Socket): void {
    const address = socket.remoteAddress ?? ''
    const ofAddress = [...this.#arriving].filter(([, other]) => other === address)
    const oldest = ofAddress.length >= LINK_HANDSHAKES_PER_ADDRESS_MAX ? ofAddress[0]?.[0] : this.#arriving.size >= LINK_HANDSHAKES_MAX ? this.#arriving.keys().next().value : undefined
    if (oldest !== undefined) {
      this.#refused += 1
      this.#arriving.delete(oldest)
      oldest.destroy()
    }
    this.#arriving.set(socket, address)
    this.#sockets.add(socket)
    // TLS has its own limit; this one is for all of the way.
    const cancelTimer = this.#clock.after(this.#handshakeTimeoutMs, () => {
      if (this.#arriving.has(socket)) socket.destroy()
    })
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      cancelTimer()
      this.#arriving.delete(socket)
      this.#sockets.delete(socket)
    })
    this.#https.emit('connection', socket)
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // What an error on it means the close says.
    socket.on('error', () => undefined)
    if (!(socket instanceof TLSSocket)) return void socket.destroy()
    const fingerprint = peerFingerprint(socket)
    if (fingerprint === null) return refuse(socket, '403 Forbidden')
    if (request.url !== LINK_PATH) return refuse(socket, '404 Not Found')
    if (!this.#server.mayConnect()) return refuse(socket, '503 Service Unavailable')
    try {
      this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
        this.#settle(socket)
        adopt(webSocket, socket, this.#clock, (carried) => this.#server.accept(carried, { kind: 'key', fingerprint }))
      })
    } catch (error) {
      this.#log.error('An upgrade failed', { reason: toCodedError(error).message })
      socket.destroy()
    }
  }

  /** From here on the LinkServer bounds its time. */
  #settle(tls: TLSSocket): void {
    for (const socket of this.#arriving.keys()) {
      if (socket.remotePort === tls.remotePort && socket.remoteAddress === tls.remoteAddress) this.#arriving.delete(socket)
    }
  }
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}

function adopt(webSocket: WebSocket, socket: TLSSocket, clock: Clock, accept: (socket: ServerSocket) => ServerConnection): void {
  const carried = new WsSocket(webSocket, clock)
  const connection = accept(carried)
  carried.onOver = () => connection.onSocketClosed()
  webSocket.on('message', (data: RawData, isBinary: boolean) => {
    // A text message cannot be a frame; an empty one is refused as such. `nodebuffer` is the default: one Buffer.
    connection.onMessage(isBinary && Buffer.isBuffer(data) ? data : new Uint8Array(0))
  })
  socket.on('drain', () => connection.onDrain())
  // A peer that breaks WebSocket itself: `ws` closes the connection.
  webSocket.on('error', () => undefined)
  webSocket.on('close', () => carried.over())
}

class WsSocket implements ServerSocket {
  readonly #webSocket: WebSocket
  readonly #clock: Clock
  /** Told once. */
  onOver: () => void = () => undefined
  #ending = false
  #over = false

  constructor(webSocket: WebSocket, clock: Clock) {
    this.#webSocket = webSocket
    this.#clock = clock
  }

  send(message: Uint8Array): void {
    if (this.#ending) return
    this.#webSocket.send(Buffer.from(message), { binary: true })
    // The peer has not read LINK_SOCKET_MAX_BYTES. A link with a hole in it is useless.
    if (this.#webSocket.bufferedAmount > LINK_SOCKET_MAX_BYTES) this.destroy()
  }

  bufferedBytes(): number {
    return this.#webSocket.bufferedAmount
  }

  destroy(): void {
    if (this.#over) return
    this.#ending = true
    this.#webSocket.terminate()
  }

  /** The link is over at the end of this turn, whether or not the peer ever says goodbye. */
  close(): void {
    if (this.#ending) return
    this.#ending = true
    this.#webSocket.close(1000)
    this.#webSocket.once('close', this.#clock.after(GOODBYE_MS, () => this.#webSocket.terminate()))
    setImmediate(() => this.over())
  }

  over(): void {
    if (this.#over) return
    this.#over = true
    this.#ending = true
    this.onOver()
  }
}
