/**
 * The socket of the POP's end: undici's WebSocket, and the net.Socket under it, which undici does not show.
 *
 * The socket is needed for three things that the WebSocket interface cannot do: end a connection whose peer is gone
 * (`close()` waits for the peer's close frame), see how much waits in it, and hear when it drains.
 */
import type { Socket } from 'node:net'
import { Agent, buildConnector, WebSocket } from 'undici'
import { LINK_MESSAGE_MAX_BYTES } from '../limits.ts'
import type { Transport } from './carrier.ts'

export interface DialHandlers {
  onOpen(): void
  /** The bytes are the receiver's own. */
  onMessage(message: Uint8Array): void
  onDrain(): void
  /** Exactly once, whether or not `onOpen` came. */
  onClose(reason: string): void
}

export interface LinkSocket extends Transport {
  /** Says goodbye and closes. `onClose` follows. */
  close(): void
  /** Closes without the peer's help. `onClose` follows, never during the call. */
  destroy(): void
}

/** Opens a connection. Handlers are never called before it returns. */
export type Dial = (url: string, connectTimeoutMs: number, handlers: DialHandlers) => LinkSocket

export const dialWebSocket: Dial = (url, connectTimeoutMs, handlers) => new UndiciSocket(url, connectTimeoutMs, handlers)

class UndiciSocket implements LinkSocket {
  readonly #handlers: DialHandlers
  readonly #agent: Agent
  readonly #webSocket: WebSocket
  #socket: Socket | null = null
  #connectError: string | null = null
  #closed = false

  constructor(url: string, connectTimeoutMs: number, handlers: DialHandlers) {
    this.#handlers = handlers
    const connect = buildConnector({ timeout: connectTimeoutMs, allowH2: false })
    this.#agent = new Agent({
      webSocket: { maxPayloadSize: LINK_MESSAGE_MAX_BYTES },
      connect: (options, callback) => connect(options, (...result) => {
        if (result[0] === null) this.#adopt(result[1])
        else this.#connectError = result[0].message
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
    this.#handlers.onClose(this.#connectError ?? (reason === '' ? 'connection lost' : reason))
  }
}
