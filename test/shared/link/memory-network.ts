/**
 * A network in memory between LinkClient and LinkServer: messages wait until a test delivers them, connections are cut
 * when it says so. It may delay and cut; it never loses, repeats or reorders what it delivers, as TCP does not.
 */
import type { Dial, DialHandlers, LinkSocket } from '../../../shared/link/dial.ts'
import type { LinkServer } from '../../../shared/link/link-server.ts'
import type { TemplatedApp, WebSocket, WebSocketBehavior } from '../../../shared/http/uws.ts'

type Behavior = WebSocketBehavior<unknown>

/** Both ends of one connection and what is under way between them. */
export class MemoryConnection {
  readonly upward: Uint8Array[] = []
  readonly downward: Uint8Array[] = []
  readonly #behavior: Behavior
  readonly #handlers: DialHandlers
  readonly #data: unknown
  readonly #webSocket: WebSocket<unknown>
  readonly socket: LinkSocket
  state: 'dialled' | 'open' | 'closed' = 'dialled'

  constructor(behavior: Behavior, handlers: DialHandlers) {
    this.#behavior = behavior
    this.#handlers = handlers
    let data: unknown = null
    const response = { writeStatus: () => response, end: () => response, upgrade: (value: unknown) => (data = value) }
    void behavior.upgrade?.(response as never, { getHeader: () => '' } as never, null as never)
    this.#data = data
    this.socket = {
      send: (message) => {
        if (this.state === 'open') this.upward.push(Uint8Array.from(message))
      },
      bufferedBytes: () => total(this.upward),
      close: () => setImmediate(() => this.cut()),
      destroy: () => setImmediate(() => this.cut()),
    }
    const webSocket = {
      send: (message: Uint8Array) => {
        this.downward.push(Uint8Array.from(message))
        return 1
      },
      getBufferedAmount: () => total(this.downward),
      getUserData: () => this.#data,
      end: () => this.cut(),
      close: () => this.cut(),
    }
    this.#webSocket = webSocket as unknown as WebSocket<unknown>
  }

  /** The handshake, or its refusal. */
  open(): void {
    if (this.state !== 'dialled') return
    if (this.#data === null) return this.cut()
    this.state = 'open'
    void this.#behavior.open?.(this.#webSocket)
    this.#handlers.onOpen()
  }

  /** Delivers the oldest message of one direction; true if there was one. */
  deliver(direction: 'up' | 'down'): boolean {
    if (this.state !== 'open') return false
    const message = (direction === 'up' ? this.upward : this.downward).shift()
    if (message === undefined) return false
    if (direction === 'up') {
      const bytes = message.buffer as ArrayBuffer
      void this.#behavior.message?.(this.#webSocket, bytes, true)
      // uWS takes its bytes back: whoever kept a view now sees nothing.
      bytes.transfer()
      this.#handlers.onDrain()
    } else {
      this.#handlers.onMessage(message)
      if (this.stillOpen) this.#behavior.drain?.(this.#webSocket)
    }
    return true
  }

  get stillOpen(): boolean {
    return this.state === 'open'
  }

  /** Both ends learn that the connection is gone; what was under way is lost. */
  cut(): void {
    if (this.state === 'closed') return
    const wasOpen = this.state === 'open'
    this.state = 'closed'
    this.upward.length = 0
    this.downward.length = 0
    if (wasOpen) this.#behavior.close?.(this.#webSocket, 1006, new ArrayBuffer(0))
    this.#handlers.onClose('cut')
  }
}

export class MemoryNetwork {
  readonly connections: MemoryConnection[] = []
  #behavior: Behavior | null = null

  /** Lets a server listen here. */
  listen(server: LinkServer): void {
    const app = { ws: (_path: string, behavior: Behavior) => (this.#behavior = behavior) }
    server.attach(app as unknown as TemplatedApp)
  }

  readonly dial: Dial = (_url, _timeoutMs, handlers) => {
    if (this.#behavior === null) throw new Error('nobody listens')
    const connection = new MemoryConnection(this.#behavior, handlers)
    this.connections.push(connection)
    return connection.socket
  }

  get alive(): readonly MemoryConnection[] {
    return this.connections.filter((connection) => connection.state !== 'closed')
  }
}

function total(messages: readonly Uint8Array[]): number {
  return messages.reduce((sum, message) => sum + message.length, 0)
}
