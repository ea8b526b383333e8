/**
 * One kept-open HTTP/1.1 connection with one request at a time (no pipelining), over a raw socket: an HTTP client library
 * would cost more than many a server under test. Reads answers with a content-length or in chunks.
 */
import { connect, type Socket } from 'node:net'
import type { Ask } from './plans.ts'

export interface ConnectionEvents {
  /** `nowMs` is when the last byte was read. */
  answer(connection: Connection, status: number, body: string, nowMs: number): void
  /** The connection is unusable; a request under way got no answer. */
  broken(connection: Connection, why: string): void
}

export class Connection {
  readonly #socket: Socket
  readonly #events: ConnectionEvents
  readonly #host: string
  #received: Buffer | null = null
  #isClosed = false

  private constructor(socket: Socket, host: string, events: ConnectionEvents) {
    this.#socket = socket
    this.#host = host
    this.#events = events
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#read(chunk))
    socket.on('error', (error) => this.#break(error.message))
    socket.on('close', () => this.#break('the server closed the connection'))
  }

  static open(host: string, port: number, events: ConnectionEvents): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, host)
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.removeListener('error', reject)
        resolve(new Connection(socket, `${host}:${port}`, events))
      })
    })
  }

  send(ask: Ask): void {
    const head = `${ask.method} ${ask.path} HTTP/1.1\r\nHost: ${this.#host}\r\n`
    // Bodies of the plans are ASCII: their length in bytes is that in characters.
    this.#socket.write(ask.body === '' ? `${head}\r\n` : `${head}Content-Type: application/json\r\nContent-Length: ${ask.body.length}\r\n\r\n${ask.body}`, 'latin1')
  }

  close(): void {
    this.#isClosed = true
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    const bytes = this.#received === null ? chunk : Buffer.concat([this.#received, chunk])
    const answer = parseAnswer(bytes)
    if (answer === 'incomplete') {
      this.#received = bytes
      return
    }
    this.#received = null
    if (answer === 'malformed') this.#break(`malformed answer: ${bytes.toString('latin1', 0, 200)}`)
    else this.#events.answer(this, answer.status, answer.body, performance.now())
  }

  #break(why: string): void {
    if (this.#isClosed) return
    this.close()
    this.#events.broken(this, why)
  }
}

/** One whole answer and nothing after it. */
export function parseAnswer(bytes: Buffer): { readonly status: number; readonly body: string } | 'incomplete' | 'malformed' {
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return 'incomplete'
  const head = bytes.toString('latin1', 0, headEnd)
  if (!head.startsWith('HTTP/1.1 ')) return 'malformed'
  const status = Number(head.slice(9, 12))
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)
  if (length !== null) {
    const bodyEnd = headEnd + 4 + Number(length[1])
    if (bytes.length < bodyEnd) return 'incomplete'
    return bytes.length === bodyEnd ? { status, body: bytes.toString('utf8', headEnd + 4, bodyEnd) } : 'malformed'
  }
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) return parseChunks(bytes, headEnd + 4, status)
  return status === 204 || status === 304 ? { status, body: '' } : 'malformed'
}

function parseChunks(bytes: Buffer, from: number, status: number): ReturnType<typeof parseAnswer> {
  const parts: Buffer[] = []
  for (let position = from; ; ) {
    const lineEnd = bytes.indexOf('\r\n', position)
    if (lineEnd < 0) return 'incomplete'
    const size = Number.parseInt(bytes.toString('latin1', position, lineEnd), 16)
    if (Number.isNaN(size)) return 'malformed'
    const next = lineEnd + 2 + size + 2
    if (bytes.length < next) return 'incomplete'
    if (size === 0) return bytes.length === next ? { status, body: Buffer.concat(parts).toString() } : 'malformed'
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    position = next
  }
}
