/**
 * The socket of the POP's end: undici's WebSocket, and the net.Socket under it, which undici does not show. With a key of
 * its own it is a TLS socket that shows the key's certificate and, where the server's key is pinned, has compared that key
 * before it sends a byte of its own.
 *
 * The socket is needed for three things that the WebSocket interface cannot do: end a connection whose peer is gone
 * (`close()` waits for the peer's close frame), see how much waits in it, and hear when it drains.
 */
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { Agent, buildConnector, WebSocket } from 'undici'
import type { ErrorCode } from '../errors.ts'
import { clientTlsOptions, peerFingerprint, type DialTls } from '../identity/tls.ts'
import { LINK_MESSAGE_MAX_BYTES } from '../limits.ts'
import type { Transport } from './carrier.ts'

export interface DialHandlers {
  onOpen(): void
  /** The bytes are the receiver's own. */
  onMessage(message: Uint8Array): void
  onDrain(): void
  /** Exactly once, whether or not `onOpen` came. `code`: what it means, if the socket knows better than its being gone. */
  onClose(reason: string, code?: ErrorCode): void
}

export interface LinkSocket extends Transport {
  /** Says goodbye and closes. `onClose` follows. */
  close(): void
  /** Closes without the peer's help. `onClose` follows, never during the call. */
  destroy(): void
}

/** Opens a connection. Handlers are never called before it returns. */
export type Dial = (url: string, connectTimeoutMs: number, handlers: DialHandlers) => LinkSocket

export const dialWebSocket: Dial = (url, connectTimeoutMs, handlers) => new UndiciSocket(url, connectTimeoutMs, handlers, null)

/** For `wss:` URLs; a `ws:` URL is refused, which would go to anybody and prove nothing. */
export function dialTls(tls: DialTls): Dial {
  return (url, connectTimeoutMs, handlers) => new UndiciSocket(url, connectTimeoutMs, handlers, tls)
}

class UndiciSocket implements LinkSocket {
  readonly #handlers: DialHandlers
  readonly #agent: Agent
  readonly #webSocket: WebSocket
  #socket: Socket | null = null
  #connectError: { readonly reason: string; readonly code: ErrorCode | undefined } | null = null
  #closed = false

  constructor(url: string, connectTimeoutMs: number, handlers: DialHandlers, tls: DialTls | null) {
    this.#handlers = handlers
    const connect = buildConnector({ timeout: connectTimeoutMs, allowH2: false, maxCachedSessions: 0, ...(tls === null ? {} : clientTlsOptions(tls)) })
    this.#agent = new Agent({
      webSocket: { maxPayloadSize: LINK_MESSAGE_MAX_BYTES },
      connect: (options, callback) => connect(options, (...result) => {
        if (result[0] !== null) this.#connectError = { reason: result[0].message, code: undefined }
        else {
          const stranger = tls === null ? null : strangerAt(result[1], tls)
          if (stranger === null) this.#adopt(result[1])
          else {
            this.#connectError = { reason: stranger, code: 'ERR_LINK_IDENTITY' }
            result[1].destroy()
            callback(new Error(stranger), null)
            return
          }
        }
        callback(...result)
      }),
    })
    this.#webSocket = new WebSocket(url, { dispatcher: this.#agent })
    this.#webSocket.binaryType = 'arraybuffer'
    this.#webSocket.addEventListener('open', () => handlers.onOpen())
    this.#webSocket.addEventListener('message', (event) => {
      const data: unknown = event.data
      // A text message cannot be a frame; an empty one is refused as such.
      handlers.onMessage(data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(0))
    })
    this.#webSocket.addEventListener('close', (event) => this.#onClose(event.reason))
  }

  send(message: Uint8Array): void {
    // After the socket has ended undici drops the message; the close event says so.
    if (!this.#closed) this.#webSocket.send(message)
  }

  bufferedBytes(): number {
    return this.#socket?.writableLength ?? 0
  }

  close(): void {
    this.#webSocket.close(1000)
  }

  destroy(): void {
    if (this.#closed) return
    if (this.#socket !== null) this.#socket.destroy()
    else setImmediate(() => this.#webSocket.close())
  }

  #adopt(socket: Socket): void {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('drain', () => this.#handlers.onDrain())
  }

  #onClose(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#socket?.destroy()
    // The agent has no other connection and its errors have been told; nothing waits for its end.
    this.#agent.destroy().catch(() => undefined)
    if (this.#connectError !== null) this.#handlers.onClose(this.#connectError.reason, this.#connectError.code)
    else this.#handlers.onClose(reason === '' ? 'connection lost' : reason)
  }
}

/** Why the peer is not who was dialled, or null. */
function strangerAt(socket: Socket, { trust }: DialTls): string | null {
  if (!(socket instanceof TLSSocket)) return 'the connection is not TLS'
  // Of a chain to an authority TLS itself took care.
  if (trust.kind === 'authority') return null
  const fingerprint = peerFingerprint(socket)
  if (fingerprint !== null && trust.fingerprints.includes(fingerprint)) return null
  return `the region shows the key ${fingerprint ?? 'none'}, which is not the one that is expected`
}
