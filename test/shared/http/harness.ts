/** A front door with a dispatcher that a test drives by hand, and a client that sends bytes as they are. */
import { connect, type Socket } from 'node:net'
import type { Test } from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { CodedError } from '../../../shared/errors.ts'
import { FrontDoor, type FrontDoorOptions } from '../../../shared/http/front-door.ts'
import type { Answer, AnswerSink, ControlCall, ControlReply, Dispatcher, InvokeCall, Placement } from '../../../shared/http/types.ts'
import { createLog, type Log, type LogFields } from '../../../shared/log.ts'
import type { InvocationResult } from '../../../shared/worker/types.ts'

export const LOCAL: Placement = { place: 'pop', reason: null, version: '7', startKind: 'warm', stale: false }
export const OK: InvocationResult = {
  outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 900, wallUs: 1500, dirtyPages: 3, memoryBytes: 5_000_000, logs: [],
}

/** One invocation as the dispatcher sees it, with a record of what the front door told it. */
export class Run implements Answer {
  readonly call: InvokeCall
  readonly sink: AnswerSink
  readonly written: Buffer[] = []
  writeEnds = 0
  resumes = 0
  cancels = 0
  /** What the run does when it is cancelled; default nothing: the test ends it. */
  onCancel: () => void = () => {}
  #wakers: (() => void)[] = []

  constructor(call: InvokeCall, sink: AnswerSink) {
    this.call = call
    this.sink = sink
  }

  write(chunk: Uint8Array): void {
    this.written.push(Buffer.from(chunk))
    this.#wake()
  }

  writeEnd(): void {
    this.writeEnds++
    this.#wake()
  }

  resume(): void {
    this.resumes++
    this.#wake()
  }

  cancel(): void {
    this.cancels++
    this.onCancel()
    this.#wake()
  }

  /** Resolves once `condition` holds; looked at after each event. */
  async until(condition: (run: Run) => boolean): Promise<void> {
    while (!condition(this)) await new Promise<void>((resolve) => this.#wakers.push(resolve))
  }

  /** A whole answer. */
  reply(body: string | Uint8Array | null, { status = 200, headers = 'content-type\ntext/plain', placement = LOCAL, result = OK } = {}): void {
    this.sink.head(status, headers, placement, body === null ? null : Buffer.from(body), true)
    this.sink.bodyEnd()
    this.sink.end(result, placement)
  }

  bodyText(): string {
    return Buffer.concat([...(this.call.body === null ? [] : [this.call.body]), ...this.written]).toString()
  }

  #wake(): void {
    for (const waker of this.#wakers.splice(0)) waker()
  }
}

export class FakeDispatcher implements Dispatcher {
  readonly runs: Run[] = []
  readonly controls: ControlCall[] = []
  ready = true
  /** What to do with an invocation at once; default nothing: the test answers it. */
  onInvoke: (run: Run) => void = () => {}
  onControl: (call: ControlCall) => Promise<ControlReply> = () => Promise.reject(new CodedError('ERR_OPERATION_UNKNOWN', ['none']))
  #wakers: (() => void)[] = []

  invoke(call: InvokeCall, sink: AnswerSink): Answer {
    const run = new Run(call, sink)
    this.runs.push(run)
    for (const waker of this.#wakers.splice(0)) waker()
    this.onInvoke(run)
    return run
  }

  control(call: ControlCall): Promise<ControlReply> {
    this.controls.push(call)
    return this.onControl(call)
  }

  readiness(): { ready: boolean; checks: Record<string, boolean> } {
    return { ready: this.ready, checks: { fake: this.ready } }
  }

  /** The n-th invocation, once it has come. */
  async run(index = 0): Promise<Run> {
    for (;;) {
      const run = this.runs[index]
      if (run !== undefined) return run
      await new Promise<void>((resolve) => this.#wakers.push(resolve))
    }
  }
}

export interface Harness {
  readonly door: FrontDoor
  readonly dispatcher: FakeDispatcher
  readonly port: number
  readonly adminPort: number | null
  readonly logged: { level: string; message: string; fields: LogFields }[]
  readonly client: () => RawClient
  /** One request on a connection of its own. */
  readonly ask: (request: string | Uint8Array) => Promise<RawResponse>
}

export async function openDoor(t: Test, options: Partial<FrontDoorOptions> = {}): Promise<Harness> {
  const dispatcher = new FakeDispatcher()
  const logged: Harness['logged'] = []
  const log: Log = createLog((level, _component, message, fields) => logged.push({ level, message, fields }))
  const door = new FrontDoor({ tier: 'pop', mode: 'production', dispatcher, clock: systemClock, log, port: 0, ...options })
  const { port, adminPort } = await door.listen()
  const clients: RawClient[] = []
  const client = (): RawClient => {
    const made = new RawClient(port)
    clients.push(made)
    return made
  }
  t.teardown(async () => {
    for (const made of clients) made.destroy()
    await door.close()
  })
  return {
    door, dispatcher, port, adminPort, logged, client,
    ask: async (request) => {
      const made = client()
      made.send(request)
      return made.response()
    },
  }
}

export interface RawResponse {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  /** All header lines as they came. */
  readonly lines: readonly string[]
  readonly body: string
}

type Parsed = { response: RawResponse; consumed: number } | null

/** Sends bytes and takes answers apart; knows when the other side has closed. */
export class RawClient {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #closed = false
  #wakers: (() => void)[] = []
  #head = false

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1')
    this.#socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    this.#socket.on('error', () => this.#close())
    this.#socket.on('end', () => this.#close())
    this.#socket.on('close', () => this.#close())
  }

  send(bytes: string | Uint8Array): void {
    this.#head = typeof bytes === 'string' && bytes.startsWith('HEAD ')
    this.#socket.write(bytes)
  }

  /** Stops and resumes reading, so that the other side's socket fills. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** The next complete answer. Throws if the connection closes before. */
  async response(): Promise<RawResponse> {
    for (;;) {
      const parsed = parse(this.#received, this.#head)
      if (parsed !== null) {
        this.#received = this.#received.subarray(parsed.consumed)
        return parsed.response
      }
      if (this.#closed) throw new Error(`closed with ${JSON.stringify(this.#received.toString('latin1').slice(0, 400))} unanswered`)
      await this.#more()
    }
  }

  /** Everything that came, once the other side has closed. */
  async untilClosed(): Promise<string> {
    while (!this.#closed) await this.#more()
    return this.#received.toString('latin1')
  }

  async untilReceived(text: string): Promise<void> {
    while (!this.#received.toString('latin1').includes(text)) {
      if (this.#closed) throw new Error('closed')
      await this.#more()
    }
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #more(): Promise<void> {
    return new Promise((resolve) => this.#wakers.push(resolve))
  }

  #close(): void {
    this.#closed = true
    this.#wake()
  }

  #wake(): void {
    for (const waker of this.#wakers.splice(0)) waker()
  }
}

function parse(bytes: Buffer, bodyless: boolean): Parsed {
  const text = bytes.toString('latin1')
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return null
  const [statusLine = '', ...lines] = text.slice(0, headEnd).split('\r\n')
  const status = Number(statusLine.split(' ')[1])
  const headers = new Map(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()] as const))
  const bodyAt = headEnd + 4
  if (status === 100) return parse(bytes.subarray(bodyAt), bodyless)
  const done = (body: string, consumed: number): Parsed => ({ response: { status, headers, lines, body }, consumed })
  if (bodyless || status === 204 || status === 304) return done('', bodyAt)
  if (headers.get('transfer-encoding') === 'chunked') return parseChunks(text, bodyAt, done)
  const length = Number(headers.get('content-length') ?? 0)
  return text.length < bodyAt + length ? null : done(text.slice(bodyAt, bodyAt + length), bodyAt + length)
}

function parseChunks(text: string, bodyAt: number, done: (body: string, consumed: number) => Parsed): Parsed {
  let at = bodyAt
  let body = ''
  for (;;) {
    const lineEnd = text.indexOf('\r\n', at)
    if (lineEnd === -1) return null
    const size = Number.parseInt(text.slice(at, lineEnd), 16)
    const end = lineEnd + 2 + size + 2
    if (text.length < end) return null
    if (size === 0) return done(body, end)
    body += text.slice(lineEnd + 2, lineEnd + 2 + size)
    at = end
  }
}

export function get(path: string, headers = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers}\r\n`
}

export function post(path: string, body: string, headers = ''): string {
  return `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`
}

export function errorOf(response: RawResponse): { code: string; message: string; requestId: string } {
  return (JSON.parse(response.body) as { error: { code: string; message: string; requestId: string } }).error
}
