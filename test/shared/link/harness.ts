/** What the tests of the link share: a region on a loopback port, a client of it, and a sink that remembers. */
import { systemClock } from '../../../shared/clock.ts'
import type { CodedErrorData } from '../../../shared/errors.ts'
import { App, closeListenSocket, localPort } from '../../../shared/http/uws.ts'
import { TokenIdentity } from '../../../shared/link/identity.ts'
import { LinkClient } from '../../../shared/link/link-client.ts'
import type { LinkClientDeps, LinkState } from '../../../shared/link/link-client.ts'
import { LinkServer } from '../../../shared/link/link-server.ts'
import type { LinkServerDeps } from '../../../shared/link/link-server.ts'
import { TopicTable } from '../../../shared/link/topics.ts'
import type { LinkAnswer, LinkHandler, LinkInvocation, LinkPeer, LinkStreamSink, OpenInvocation } from '../../../shared/link/types.ts'
import { createLog } from '../../../shared/log.ts'
import type { Log } from '../../../shared/log.ts'
import { seededRandom } from '../../../shared/random.ts'
import type { StartKind } from '../../../shared/outcome.ts'
import { makePopKeys } from '../../../shared/store/pop-keys.ts'
import type { InvocationResult } from '../../../shared/worker/types.ts'

export const TOKEN = 'a token of tests'
/** What a POP of these tests says in its hello. */
export const { publicKey: PUBLIC_KEY } = makePopKeys()

export const RESULT: InvocationResult = {
  outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 11, wallUs: 22, dirtyPages: 33, memoryBytes: 44, logs: ['1\tone', '2\ttwo'],
}

export function openFrame(overrides: Partial<OpenInvocation> = {}): OpenInvocation {
  return {
    kind: 'invoke', requestId: 'request', account: 'account', functionName: 'echo', qualifier: null, invocationKind: 'http', method: 'POST', url: 'http://echo.localhost/',
    headers: 'content-type\ntext/plain', body: null, bodyMore: false, clientIp: '127.0.0.1', remainingMs: 60_000, wantLogs: true, reason: 'not-hot', hops: 1, session: null, ring: null, reservation: null, ...overrides,
  }
}

export interface TestLog {
  readonly log: Log
  readonly lines: { level: string; message: string; fields: Readonly<Record<string, unknown>> }[]
}

export function testLog(): TestLog {
  const lines: TestLog['lines'] = []
  return { lines, log: createLog((level, _component, message, fields) => void lines.push({ level, message, fields })) }
}

/** Resolves when `condition` holds; looked at after every turn of the event loop, so nothing sleeps. Bounded in time. */
export async function until(condition: () => boolean, what = 'condition'): Promise<void> {
  const endAtMs = Date.now() + 20_000
  while (!condition()) {
    if (Date.now() > endAtMs) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Answers every invocation with its own body, streamed both ways with backpressure; `functionName` picks other behaviour. */
export class EchoRun implements LinkInvocation {
  readonly open: OpenInvocation
  readonly answer: LinkAnswer
  readonly deadlineAtMs: number
  canceled = 0
  writeEnds = 0
  resumes = 0
  receivedBytes = 0

  constructor(open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer) {
    this.open = open
    this.deadlineAtMs = deadlineAtMs
    this.answer = answer
  }

  begin(): this {
    this.answer.started()
    this.answer.head(200, 'x-test\nyes', 'warm', '7', null, false)
    if (this.open.body !== null) this.write(this.open.body)
    return this
  }

  write(chunk: Uint8Array): boolean {
    this.receivedBytes += chunk.length
    return this.answer.data(chunk)
  }

  writeEnd(): void {
    this.writeEnds += 1
    this.answer.bodyEnd()
    this.answer.end(RESULT, '7')
  }

  resume(): void {
    this.resumes += 1
    this.answer.resumeBody()
  }

  cancel(): void {
    this.canceled += 1
    this.answer.end({ ...RESULT, outcome: 'canceled', error: { code: 'ERR_CANCELED', params: [] } }, '7')
  }
}

/** A run that does nothing by itself; tests drive its answer. */
export class HeldRun extends EchoRun {
  readonly chunks: Uint8Array[] = []
  accepts = true

  override begin(): this {
    return this
  }

  override write(chunk: Uint8Array): boolean {
    this.receivedBytes += chunk.length
    this.chunks.push(Uint8Array.prototype.slice.call(chunk))
    return this.accepts
  }

  override writeEnd(): void {
    this.writeEnds += 1
  }

  override resume(): void {
    this.resumes += 1
  }

  override cancel(): void {
    this.canceled += 1
  }
}

export class TestHandler implements LinkHandler {
  readonly runs: EchoRun[] = []
  invoke(_peer: LinkPeer, open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer): LinkInvocation {
    if (open.functionName === 'throw') throw new Error('handler fault')
    const run = open.functionName === 'held' ? new HeldRun(open, deadlineAtMs, answer) : new EchoRun(open, deadlineAtMs, answer)
    this.runs.push(run)
    return run.begin()
  }

  held(index = 0): HeldRun {
    const run = this.runs.filter((each) => each instanceof HeldRun)[index]
    if (!(run instanceof HeldRun)) throw new Error('no such run')
    return run
  }

  control: LinkHandler['control'] = ({}, call) =>
    Promise.resolve({ status: 201, headers: 'x-method\n' + call.method, body: call.body })
  chain: LinkHandler['chain'] = () => null
  blocks: LinkHandler['blocks'] = () => () => null
  peerBlocks: LinkHandler['peerBlocks'] = () => () => null
  describe: LinkHandler['describe'] = () => null
  snapshot: LinkHandler['snapshot'] = ({}, functions) => ({ seq: 10, functions: functions.map((ref) => ({ ...ref, seq: 1, builds: [] })), answered: functions.length })
  report: LinkHandler['report'] = () => ({ seq: 0, load: 0, versions: [], pull: [] })
  readonly topics = new TopicTable()
  ask: LinkHandler['ask'] = (peer, topic, payload) => this.topics.answer(peer, topic, payload)
}

export interface TestRegion {
  readonly url: string
  readonly port: number
  readonly server: LinkServer
  readonly handler: TestHandler
  readonly logged: TestLog
  /** Closes links and listener. */
  close(): void
}

export async function startRegion(overrides: Partial<LinkServerDeps> & { handler?: TestHandler; port?: number } = {}): Promise<TestRegion> {
  const { handler = new TestHandler(), port: wantedPort = 0, ...deps } = overrides
  const logged = testLog()
  const server = new LinkServer({ regionId: 'region-1', identity: new TokenIdentity(TOKEN), clock: systemClock, log: logged.log, ...deps, handler })
  const app = App()
  server.attach(app)
  return new Promise((resolve, reject) => {
    app.listen('127.0.0.1', wantedPort, (listener) => {
      if (listener === false) {
        reject(new Error('cannot listen'))
        return
      }
      const port = localPort(listener)
      let open = true
      const close = (): void => {
        if (!open) return
        open = false
        server.close()
        closeListenSocket(listener)
      }
      resolve({ url: `ws://127.0.0.1:${port}/link`, port, server, handler, logged, close })
    })
  })
}

export interface TestClient {
  readonly client: LinkClient
  readonly logged: TestLog
  readonly states: LinkState[]
}

export function makeClient(url: string, overrides: Partial<LinkClientDeps> = {}): TestClient {
  const logged = testLog()
  const states: LinkState[] = []
  const client = new LinkClient({ url, token: TOKEN, popId: 'pop-1', publicKey: PUBLIC_KEY, clock: systemClock, random: seededRandom(1), log: logged.log, ...overrides })
  client.onState((state) => void states.push(state))
  return { client, logged, states }
}

export async function connectedClient(url: string, overrides: Partial<LinkClientDeps> = {}): Promise<TestClient> {
  const made = makeClient(url, overrides)
  made.client.start()
  await until(() => made.client.state.kind === 'open', 'link open')
  return made
}

type Event =
  | { readonly kind: 'started' | 'bodyEnd' | 'drain' }
  | { readonly kind: 'head'; readonly status: number; readonly headers: string; readonly startKind: StartKind | null; readonly version: string | null; readonly last: boolean }
  | { readonly kind: 'data'; readonly bytes: number }
  | { readonly kind: 'end'; readonly result: InvocationResult | null; readonly version: string | null }
  | { readonly kind: 'error'; readonly error: CodedErrorData }

/** Remembers what it hears, and fails the test's promise on events after the last one. */
export class RecordingSink implements LinkStreamSink {
  readonly events: Event[] = []
  readonly chunks: Uint8Array[] = []
  /** While false, `data` asks for a pause. */
  accepts = true
  misuse: string | null = null

  get kinds(): string {
    return this.events.map((event) => event.kind).filter((kind, index, all) => kind !== 'data' || all[index - 1] !== 'data').join(' ')
  }

  get over(): boolean {
    const last = this.events.at(-1)
    return last?.kind === 'end' || last?.kind === 'error'
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks)
  }

  get errorCode(): string | null {
    const last = this.events.at(-1)
    return last?.kind === 'error' ? last.error.code : null
  }

  get outcome(): string | null {
    const last = this.events.at(-1)
    return last?.kind === 'end' ? (last.result?.outcome ?? null) : null
  }

  async whenOver(): Promise<this> {
    await until(() => this.over, 'end of stream')
    return this
  }

  started(): void {
    this.#note({ kind: 'started' })
  }

  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void {
    this.#note({ kind: 'head', status, headers, startKind, version, last })
    if (body !== null) this.chunks.push(Uint8Array.prototype.slice.call(body))
  }

  data(chunk: Uint8Array): boolean {
    this.#note({ kind: 'data', bytes: chunk.length })
    this.chunks.push(Uint8Array.prototype.slice.call(chunk))
    return this.accepts
  }

  bodyEnd(): void {
    this.#note({ kind: 'bodyEnd' })
  }

  drain(): void {
    this.#note({ kind: 'drain' })
  }

  end(result: InvocationResult | null, version: string | null): void {
    this.#note({ kind: 'end', result, version })
  }

  error(error: CodedErrorData): void {
    this.#note({ kind: 'error', error })
  }

  #note(event: Event): void {
    if (this.over) this.misuse = `${event.kind} after the last event`
    this.events.push(event)
  }
}
