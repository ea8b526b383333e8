/** A whole POP on real sockets: HTTP in front, the real link behind it, a region that the test scripts. Only sandboxes are fake. */
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { Pop } from '../../pop/pop.ts'
import type { Clock } from '../../shared/clock.ts'
import { systemClock } from '../../shared/clock.ts'
import { CodedError } from '../../shared/errors.ts'
import type { ControlCall } from '../../shared/http/types.ts'
import { App, closeListenSocket, type TemplatedApp, type us_listen_socket } from '../../shared/http/uws.ts'
import { TokenIdentity } from '../../shared/link/identity.ts'
import { LinkClient } from '../../shared/link/link-client.ts'
import { LinkServer } from '../../shared/link/link-server.ts'
import type { FunctionDescription, FunctionVersions, LinkAnswer, LinkHandler, LinkInvocation, OpenInvocation, PopReport } from '../../shared/link/types.ts'
import { silentLog } from '../../shared/log.ts'
import { systemRandom } from '../../shared/random.ts'
import type { BuildSpec } from '../../shared/worker/types.ts'
import { RawClient, get, post, errorOf } from '../shared/http/harness.ts'
import { ACCOUNT, FakeHost, MemoryDisk, OK, POP_KEYS, makeBuild, makeImage, type FakeImage } from './harness.ts'

const IMAGE_1 = makeImage([1, 2])
const IMAGE_2 = makeImage([3])
const V1 = makeBuild('hello', IMAGE_1, '1')
const V2 = makeBuild('hello', IMAGE_2, '2')

class RegionRun implements LinkInvocation {
  readonly open: OpenInvocation
  readonly answer: LinkAnswer
  readonly written: Buffer[] = []
  ended = false
  cancels = 0
  resumes = 0

  constructor(open: OpenInvocation, answer: LinkAnswer) {
    this.open = open
    this.answer = answer
    if (open.body !== null) this.written.push(Buffer.from(open.body))
    if (!open.bodyMore) this.ended = true
  }

  write(chunk: Uint8Array): boolean {
    this.written.push(Buffer.from(chunk))
    return true
  }

  writeEnd(): void {
    this.ended = true
  }

  resume(): void {
    this.resumes++
  }

  cancel(): void {
    this.cancels++
    this.answer.error({ code: 'ERR_CANCELED', params: [] })
  }

  reply(body: string | Uint8Array, version = '1'): void {
    this.answer.started()
    this.answer.head(200, 'content-type\ntext/plain', 'warm', version, Buffer.from(body), true)
    this.answer.bodyEnd()
    this.answer.end(OK, version)
  }
}

class TestRegion {
  readonly runs: RegionRun[] = []
  readonly controls: ControlCall[] = []
  readonly reports: PopReport[] = []
  readonly described: string[] = []
  builds = new Map<string, { build: BuildSpec; image: FakeImage; seq: number }>()
  seq = 1
  onInvoke: (run: RegionRun) => void = (run) => run.reply('from the region')
  #app: TemplatedApp | null = null
  #socket: us_listen_socket | null = null
  #server: LinkServer | null = null
  port = 0

  deploy(build: BuildSpec, image: FakeImage): void {
    this.builds.set(build.functionName, { build, image, seq: ++this.seq })
    this.#server?.pushVersions(this.#versions(build.functionName))
  }

  delete(name: string): void {
    this.builds.delete(name)
    this.seq++
    this.#server?.pushVersions(this.#versions(name))
  }

  async listen(): Promise<void> {
    const handler: LinkHandler = {
      invoke: (_pop, open, _deadlineAtMs, answer) => {
        const run = new RegionRun(open, answer)
        this.runs.push(run)
        this.onInvoke(run)
        return run
      },
      control: (_pop, call) => {
        this.controls.push({ ...call, body: Buffer.from(call.body) })
        return Promise.resolve({ status: 200, headers: 'content-type\napplication/json\nx-amz-executed-version\n9', body: Buffer.from('{"control":true}') })
      },
      chain: (_pop, _image, from) => {
        const sealed = this.#images().find((image) => image.imageId === from)?.sealed
        return sealed === undefined ? null : { links: [{ imageId: from, ...sealed }] }
      },
      blocks: (_pop, _image, wanted) => {
        const blocks = wanted.flatMap(({ imageId, numbers }) => {
          const stored = [...(this.#images().find((image) => image.imageId === imageId)?.blocks.values() ?? [])]
          return numbers.map((number) => stored[number] ?? null)
        })
        return (at) => blocks[at] ?? null
      },
      peerBlocks: () => () => null,
      describe: (_pop, _account, name) => {
        this.described.push(name)
        return this.#description(name)
      },
      snapshot: (_pop, functions) => ({ seq: this.seq, functions: functions.filter(({ functionName }) => this.builds.has(functionName)).map(({ functionName }) => this.#versions(functionName)), answered: functions.length }),
      report: (_pop, report) => {
        this.reports.push(report)
        return { seq: this.seq, load: 0, versions: report.held.flatMap(({ functionName }) => (this.builds.has(functionName) ? [this.#versions(functionName)] : [])), pull: [] }
      },
      ask: () => null,
    }
    const server = new LinkServer({ regionId: 'region-1', identity: new TokenIdentity('token'), handler, clock: systemClock, log: silentLog })
    const app = App()
    server.attach(app)
    this.#server = server
    this.#app = app
    // uWS lets go of a port at once only if it was given by number.
    if (this.port === 0) this.port = await freePort()
    this.#socket = await new Promise((resolve) => {
      app.listen('127.0.0.1', this.port, (socket) => resolve(socket === false ? null : socket))
    })
    if (this.#socket === null) throw new Error('cannot listen')
  }

  /** As a crash would: every connection breaks. */
  kill(): void {
    if (this.#socket !== null) closeListenSocket(this.#socket)
    this.#app?.close()
    this.#server?.close()
    this.#socket = null
    this.#app = null
    this.#server = null
  }

  async run(index = 0): Promise<RegionRun> {
    await until(() => this.runs.length > index)
    const run = this.runs[index]
    if (run === undefined) throw new Error('no run')
    return run
  }

  #images(): FakeImage[] {
    return [...this.builds.values()].map(({ image }) => image)
  }

  #versions(name: string): FunctionVersions {
    const entry = this.builds.get(name)
    return { account: ACCOUNT, functionName: name, seq: entry?.seq ?? this.seq, builds: entry === undefined ? [] : [entry.build.key] }
  }

  #description(name: string): FunctionDescription | null {
    const entry = this.builds.get(name)
    return entry === undefined ? null : { seq: this.seq, routes: [{ weight: 1, build: entry.build }], sessionKey: null }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

/** Looked at in every turn of the event loop. */
async function until(condition: () => boolean): Promise<void> {
  const endAtMs = Date.now() + 20_000
  while (!condition()) {
    if (Date.now() > endAtMs) throw new Error('never came')
    await new Promise(setImmediate)
  }
}

interface Site {
  readonly region: TestRegion
  readonly pop: Pop
  readonly host: FakeHost
  readonly port: number
  readonly client: () => RawClient
  readonly ask: (request: string) => ReturnType<RawClient['response']>
  /** `pop` or `region; reason=...`. */
  readonly place: (request: string) => Promise<string | undefined>
}

async function open(t: Test, options: { admitCount?: number; mode?: 'dev' | 'production'; clock?: Clock } = {}): Promise<Site> {
  const region = new TestRegion()
  await region.listen()
  region.deploy(V1, IMAGE_1)
  const host = new FakeHost()
  const pop = new Pop({
    host, disk: new MemoryDisk(), slots: 'unlimited', keys: POP_KEYS, clock: options.clock ?? systemClock, random: systemRandom, log: silentLog,
    regions: ['region-1'], connect: (_index, hooks) => new LinkClient({ url: `ws://127.0.0.1:${region.port}/link`, token: 'token', popId: 'pop-1', publicKey: POP_KEYS.publicKey, clock: systemClock, random: systemRandom, log: silentLog, ...hooks }),
    http: { mode: options.mode ?? 'dev', port: 0 },
    admitCount: options.admitCount ?? 1,
  })
  const { port } = await pop.start()
  await until(() => pop.dispatcher.readiness().ready)
  const clients: RawClient[] = []
  const client = (): RawClient => {
    const made = new RawClient(port)
    clients.push(made)
    return made
  }
  t.teardown(async () => {
    for (const made of clients) made.destroy()
    await pop.close()
    region.kill()
  })
  const ask: Site['ask'] = (request) => {
    const made = client()
    made.send(request)
    return made.response()
  }
  return { region, pop, host, port, client, ask, place: async (request) => (await ask(request)).headers.get('x-outpost-place') }
}

/** Until the function has its place and its image. */
async function warm({ ask, host, pop }: Site): Promise<void> {
  await ask(get('/fn/hello/'))
  await until(() => host.images.size > 0 && pop.hotSet.memberCount > 0)
}

t.test('a region that dies in the middle of a run is told as such, one that is not there as such', async (t) => {
  const site = await open(t)
  const { region, client, ask } = site
  region.onInvoke = (run) => run.answer.started()
  const connection = client()
  connection.send(get('/fn/hello/'))
  await region.run()
  region.kill()
  const lost = await connection.response()
  t.equal(lost.status, 502)
  t.equal(errorOf(lost).code, 'ERR_REGION_LOST')
  t.equal(lost.headers.get('x-outpost-place'), 'region; reason=not-hot')
  const unreachable = await ask(get('/fn/hello/'))
  t.equal(unreachable.status, 502)
  t.equal(errorOf(unreachable).code, 'ERR_REGION_UNREACHABLE')
})

t.test('a region that is full, or an account that has all it may, is relayed as it is, with when to come back', async (t) => {
  const { region, ask } = await open(t)
  for (const [code, status] of [['ERR_QUEUE_FULL', 503], ['ERR_NO_CAPACITY', 503], ['ERR_ACCOUNT_LIMIT', 429]] as const) {
    region.onInvoke = (run) => run.answer.error({ code, params: [7] })
    const before = region.runs.length
    const answer = await ask(get('/fn/hello/'))
    t.equal(answer.status, status)
    t.equal(errorOf(answer).code, code)
    t.equal(answer.headers.get('retry-after'), '1')
    t.equal(answer.headers.get('x-outpost-attempts'), undefined)
    t.equal(region.runs.length, before + 1)
  }
})

t.test('a region that dies in the middle of an answer leaves a body without an end', async (t) => {
  const { region, client } = await open(t)
  region.onInvoke = (run) => {
    run.answer.started()
    run.answer.head(200, '', 'warm', '1', Buffer.from('half'), false)
  }
  const connection = client()
  connection.send(get('/fn/hello/'))
  await connection.untilReceived('half')
  region.kill()
  t.notMatch(await connection.untilClosed(), /\r\n0\r\n/)
})

t.test('first forwarded, then here, with answers that are equal', async (t) => {
  const site = await open(t, { admitCount: 3 })
  const { region, host, place, ask } = site
  host.onInvoke = (run) => run.reply(`${run.input.method} ${run.input.url} ${Buffer.from(run.input.body ?? []).toString()}`)
  region.onInvoke = (run) => run.reply(`${run.open.method} ${run.open.url} ${Buffer.concat(run.written).toString()}`)
  const request = post('/fn/hello/a?b', '{"c":1}')
  const forwarded = await ask(request)
  t.equal(forwarded.headers.get('x-outpost-place'), 'region; reason=not-hot')
  t.equal(await place(request), 'region; reason=not-hot')
  await until(() => region.described.length > 0)
  t.equal(await place(request), 'region; reason=not-hot')
  await until(() => host.images.size > 0)
  const local = await ask(request)
  t.equal(local.headers.get('x-outpost-place'), 'pop')
  t.equal(local.headers.get('x-outpost-version'), '1')
  t.equal(local.body, forwarded.body)
  t.equal(local.status, forwarded.status)
})

t.test('a new version is the only one served as soon as the push is here', async (t) => {
  const site = await open(t)
  const { region, host, ask } = site
  host.onInvoke = (run) => run.reply(run.input.build.version)
  await warm(site)
  t.equal((await ask(get('/fn/hello/'))).body, '1')
  region.onInvoke = (run) => run.reply('2', '2')
  region.deploy(V2, IMAGE_2)
  let seen = ''
  const startedAtMs = Date.now()
  while (!seen.endsWith('2 pop ')) {
    const response = await ask(get('/fn/hello/'))
    seen += `${response.body} ${response.headers.get('x-outpost-place')?.split(';')[0] ?? ''} `
    if (Date.now() - startedAtMs > 10_000) break
  }
  t.match(seen, /^(1 pop )*(2 region )*2 pop $/)
  t.ok(Date.now() - startedAtMs < 2_000)
})

t.test('cut off, it serves what is hot and says so; what was deleted meanwhile is gone at reconnect', async (t) => {
  const site = await open(t)
  const { region, ask, pop, host } = site
  await warm(site)
  region.kill()
  await until(() => !(pop.dispatcher.readiness().checks['region'] ?? true))
  const stale = await ask(get('/fn/hello/'))
  t.equal(stale.body, 'local')
  t.equal(stale.headers.get('x-outpost-stale'), '1')
  t.equal((await ask(get('/fn/other/'))).status, 502)
  region.delete('hello')
  region.onInvoke = (run) => run.answer.error({ code: 'ERR_FUNCTION_NOT_FOUND', params: ['hello'] })
  await region.listen()
  await until(() => pop.dispatcher.readiness().checks['region'] ?? false)
  t.equal((await ask(get('/fn/hello/'))).status, 404)
  t.equal(host.images.size, 0)
})

t.test('the client leaving stops the run at the region', async (t) => {
  const { region, client, pop } = await open(t)
  region.onInvoke = (run) => run.answer.started()
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await region.run()
  connection.destroy()
  await until(() => run.cancels === 1)
  await until(() => pop.dispatcher.inFlight === 0)
  t.equal(pop.frontDoor.inFlight, 0)
})

t.test('large bodies go through whole in both directions, however slowly the client reads', async (t) => {
  const { region, client, pop } = await open(t)
  const request = Buffer.alloc(3_000_000, 'q')
  const answer = Buffer.alloc(5_000_000, 'a')
  region.onInvoke = () => {}
  const connection = client()
  connection.send(post('/fn/hello/', request.toString()))
  const run = await region.run()
  await until(() => run.ended)
  t.ok(Buffer.concat(run.written).equals(request))
  run.answer.started()
  run.answer.head(200, '', 'warm', '1', null, false)
  connection.pause()
  for (let offset = 0; offset < answer.byteLength;) {
    const before = run.resumes
    const flowing = run.answer.data(answer.subarray(offset, offset + 64 * 1024))
    offset += 64 * 1024
    if (!flowing) {
      connection.resume()
      await until(() => run.resumes > before)
    }
  }
  run.answer.bodyEnd()
  run.answer.end(OK, '1')
  connection.resume()
  const response = await connection.response()
  t.ok(response.body === answer.toString())
  t.equal(pop.dispatcher.inFlight, 0)
})

t.test('management calls reach the region as they were signed, and its reply the client', async (t) => {
  const { region, ask } = await open(t)
  const response = await ask(post('/2015-03-31/functions/arn%3Aaws%3Alambda?x=%2F', '{"a":1}', 'Authorization: AWS4 x\r\nX-Amz-Date: now\r\n'))
  t.equal(response.body, '{"control":true}')
  const [call] = region.controls
  t.match(call, { method: 'POST', rawPath: '/2015-03-31/functions/arn%3Aaws%3Alambda?x=%2F', clientIp: '127.0.0.1' })
  t.equal(call?.headers, 'host\n127.0.0.1\ncontent-length\n7\nauthorization\nAWS4 x\nx-amz-date\nnow')
  t.equal(Buffer.from(call?.body ?? []).toString(), '{"a":1}')
})

t.test('in production a POP has no keys, so Invoke is the region\'s, by that reason', async (t) => {
  const { region, host, ask } = await open(t, { mode: 'production' })
  const response = await ask(post('/2015-03-31/functions/hello/invocations', '{}', 'Authorization: AWS4 x\r\n'))
  t.equal(response.body, '{"control":true}')
  t.equal(response.headers.get('x-outpost-place'), 'region; reason=auth')
  t.equal(response.headers.get('x-amz-executed-version'), '9')
  t.equal(region.controls[0]?.rawPath, '/2015-03-31/functions/hello/invocations')
  t.same(host.runs, [])
})

t.test('in development Invoke is placed like any call', async (t) => {
  const site = await open(t)
  const { host, ask } = site
  await warm(site)
  host.onInvoke = (run) => run.reply(`{"kind":"${run.input.kind}"}`)
  const response = await ask(post('/2015-03-31/functions/hello/invocations', '{"a":1}', 'Authorization: any\r\n'))
  t.equal(response.body, '{"kind":"event"}')
  t.equal(response.headers.get('x-outpost-place'), 'pop')
  t.equal(response.headers.get('x-amz-executed-version'), '1')
  t.match(host.runs.at(-1)?.input, { url: `arn:aws:lambda:us-east-1:${ACCOUNT}:function:hello`, wantLogs: false })
})

t.test('draining finishes what is here and what is at the region, then everything is closed', async (t) => {
  const site = await open(t)
  const { region, host, client, pop } = site
  await warm(site)
  host.onInvoke = () => {}
  region.onInvoke = () => {}
  const before = region.runs.length
  const [local, remote] = [client(), client()]
  local.send(get('/fn/hello/'))
  remote.send(get('/fn/other/'))
  const run = await region.run(before)
  await until(() => host.runs.length > 0)
  const drained = pop.drain(10_000)
  host.runs.at(-1)?.reply('local is done')
  run.reply('remote is done')
  t.equal((await local.response()).body, 'local is done')
  t.equal((await remote.response()).body, 'remote is done')
  await drained
  t.ok(host.drained && host.closed)
  t.match(region.reports.at(-1), { sequence: 1, functions: [{ functionName: 'hello', arrivals: 2, local: 1, forwarded: 1 }, { functionName: 'other', arrivals: 1, forwarded: 1 }] })
  t.match(region.reports.at(-1)?.held, [{ functionName: 'hello', builds: [V1.key] }])
})

t.test('a port that is taken closes what was started', async (t) => {
  const { port } = await open(t)
  const host = new FakeHost()
  const pop = new Pop({
    host, disk: new MemoryDisk(), slots: 'unlimited', keys: POP_KEYS, clock: systemClock, random: systemRandom, log: silentLog, http: { mode: 'dev', port },
    regions: ['region-1'], connect: (_index, hooks) => new LinkClient({ url: 'ws://127.0.0.1:1/link', token: 'token', popId: 'pop-2', publicKey: POP_KEYS.publicKey, clock: systemClock, random: systemRandom, log: silentLog, ...hooks }),
  })
  await t.rejects(pop.start(), { code: 'ERR_PORT_IN_USE' })
  t.ok(host.closed)
})

t.test('what a POP counts is on its metrics page', async (t) => {
  const site = await open(t)
  await warm(site)
  await site.ask(get('/fn/hello/'))
  const { body } = await site.ask(get('/metrics'))
  for (const line of ['pop_dispatcher_forwards_total{reason="not-hot"} 1', 'pop_hot_set_functions_count 1', 'pop_images_pulls_total 1', 'pop_images_blocks_total{source="region"} 2', 'pop_link_open 1', 'pop_functions_tracked_count 1']) {
    t.ok(body.includes(`${line}\n`), line)
  }
})

t.test('an answer that a function may not give is refused here as well when it comes from the region', async (t) => {
  const { region, ask } = await open(t)
  region.onInvoke = (run) => {
    run.answer.started()
    run.answer.head(200, 'x\na\r\nset-cookie: evil', 'warm', '1', Buffer.from('x'), true)
    run.answer.bodyEnd()
    run.answer.end(OK, '1')
  }
  const response = await ask(get('/fn/hello/'))
  t.equal(errorOf(response).code, 'ERR_FUNCTION_BAD_RESPONSE')
  t.equal(new CodedError('ERR_FUNCTION_BAD_RESPONSE').status, response.status)
})
