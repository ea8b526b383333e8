import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { BuildKey, ImageId, RequestId } from '../../../shared/brand.ts'
import { ManualClock } from '../../../shared/clock.ts'
import { CodedError } from '../../../shared/errors.ts'
import { DEFAULT_FUNCTION_LIMITS, SESSION_WAITING_MAX } from '../../../shared/limits.ts'
import { silentLog } from '../../../shared/log.ts'
import { SessionDisk } from '../../../shared/sessions/session-disk.ts'
import { openSession, sealSession, type SealKeys } from '../../../shared/sessions/session-seal.ts'
import { SessionTable, type SessionTableOptions } from '../../../shared/sessions/session-table.ts'
import { sessionName, type SessionAnswer, type SessionOwnership } from '../../../shared/sessions/types.ts'
import { failedResult } from '../../../shared/worker/results.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec, type Invocation, type InvocationInput, type InvocationResult, type InvocationSink } from '../../../shared/worker/types.ts'

const SETTINGS = { header: 'x-session', cookie: 'sid', idleMs: 60_000, maxAgeMs: 900_000 }

function buildOf(account = 'a', version = 1, sessions: typeof SETTINGS | null = SETTINGS): BuildSpec {
  return {
    key: `${account}/f@${version}` as BuildKey, imageId: String(version).padStart(64, '0') as ImageId, handlerKind: 'fetch', account, functionName: 'f', version: '$LATEST',
    limits: DEFAULT_FUNCTION_LIMITS, traits: { ...DEFAULT_FUNCTION_TRAITS, sessions }, secrets: {},
  }
}

/** Sandboxes whose machine is a number that each request adds one to, padded to so many bytes. A test ends runs by hand. */
class FakeHost {
  readonly running: { readonly input: InvocationInput; readonly sink: InvocationSink; readonly end: (result?: Partial<InvocationResult>) => void; canceled: boolean }[] = []
  stateBytes = 100
  automatic = true
  images: ReadonlySet<string> | null = null

  hasImage(imageId: ImageId): boolean {
    return this.images?.has(imageId) ?? true
  }

  invoke(input: InvocationInput, sink: InvocationSink): Invocation {
    const before = input.session?.state ?? null
    const n = before === null ? 1 : Buffer.from(before).readUInt32LE(0) + 1
    const state = Buffer.alloc(this.stateBytes)
    state.writeUInt32LE(n)
    const run = {
      input, sink, canceled: false,
      end: (result: Partial<InvocationResult> = {}) => {
        const whole: InvocationResult = { ...failedResult('ok', { code: 'ERR_INTERNAL', params: [] }), error: null, machine: { kind: 'kept', state: new Uint8Array(state) }, ...result }
        if (whole.outcome === 'ok') sink.head(200, '', 'warm', Buffer.from(String(n)), true)
        sink.end(whole)
      },
    }
    this.running.push(run)
    if (this.automatic) run.end()
    return { write() {}, writeEnd() {}, resume() {}, withdraw: () => false, cancel: () => { run.canceled = true } }
  }
}

const KEYS: SealKeys = { current: (account) => keyOf(account, 1), of: (account, version) => (version === 1 ? keyOf(account, 1) : null) }
const known = new Map<string, Uint8Array>()
function keyOf(account: string, version: number): { version: number; key: Uint8Array } {
  const key = known.get(account) ?? randomBytes(32)
  known.set(account, key)
  return { version, key }
}

interface Asked {
  readonly n: number
  readonly answer: SessionAnswer | null
  readonly result: InvocationResult
}

function table(options: Partial<SessionTableOptions> = {}) {
  const clock = new ManualClock()
  const host = new FakeHost()
  const builds = new Map<string, BuildSpec>([1, 2].flatMap((version) => ['a', 'b'].map((account) => [`${account}/f@${version}`, buildOf(account, version)] as const)))
  const made = new SessionTable({
    place: { kind: 'region' }, clock, log: silentLog, keys: KEYS, disk: null, stateMaxBytes: 10_000, memoryMaxBytes: 1_000_000, perAccountMax: 1_000,
    buildOf: (_session, key) => builds.get(key) ?? null, ...options,
  })
  let requests = 0
  const begin = (headers: string, build = buildOf(), method = 'GET', path = '/', deadlineMs = 10_000): { readonly done: Promise<Asked>; readonly invocation: Invocation } => {
    const url = `http://h${path}`
    const ticket = made.ticket({ kind: 'http', method, url, headers }, build)
    if (ticket === null) throw new Error('it is of no session')
    let n = -1
    let invocation: Invocation | undefined
    const done = new Promise<Asked>((resolve) => {
      invocation = ticket.over(host).invoke({
        requestId: `request-${++requests}` as RequestId, build: ticket.build, kind: 'http', method, url, headers, body: null, bodyMore: false, clientIp: '', deadlineAtMs: clock.nowMs() + deadlineMs, wantLogs: false,
      }, {
        head: (_status, _headers, _start, body) => { n = body === null ? -1 : Number(Buffer.from(body).toString()) },
        data: () => true, bodyEnd: () => undefined, end: (result) => resolve({ n, answer: ticket.answer, result }),
      })
    })
    if (invocation === undefined) throw new Error('it is begun at once')
    return { done, invocation }
  }
  const ask = (id: string, build = buildOf()): Promise<Asked> => begin(`x-session\n${id}`, build).done
  return { clock, host, builds, table: made, begin, ask }
}

const name = (id: string, account = 'a'): string => sessionName({ account, functionName: 'f', id })

await t.test('two accounts with one id have two sessions', async (t) => {
  const { ask } = table()
  t.same([(await ask('cart')).n, (await ask('cart')).n, (await ask('cart', buildOf('b'))).n, (await ask('cart')).n, (await ask('cart', buildOf('b'))).n], [1, 2, 1, 3, 2])
})

await t.test('a session ends when idle, and when too old however often it is used', async (t) => {
  const { ask, clock, table: sessions } = table()
  await ask('x')
  clock.advance(59_000)
  t.equal((await ask('x')).n, 2)
  clock.advance(61_000)
  t.same([sessions.live, sessions.bytes], [0, 0], 'nothing is kept of it')
  const anew = await ask('x')
  t.same([anew.n, anew.answer?.state, anew.answer?.reason], [1, 'new', 'expired'])
  for (let minute = 1; minute <= 15; minute++) {
    clock.advance(59_000)
    t.equal((await ask('x')).n, minute + 1)
  }
  clock.advance(59_000)
  const old = await ask('x')
  t.same([old.n, old.answer?.reason], [1, 'expired'])
  t.equal(sessions.counts.endedBy.get('expired'), 2)
})

await t.test('requests of one session wait for each other in order; one that leaves, or waits too long, gives way', async (t) => {
  const { host, begin, clock } = table()
  host.automatic = false
  const all = Array.from({ length: 5 }, (_, index) => begin('x-session\nx', buildOf(), 'GET', '/', index === 3 ? 50 : 10_000))
  t.equal(host.running.length, 1)
  all[2]?.invocation.cancel()
  clock.advance(200)
  t.equal((await all[2]?.done)?.result.outcome, 'canceled')
  t.equal((await all[3]?.done)?.result.error?.code, 'ERR_QUEUE_DEADLINE')
  for (const index of [0, 1, 2]) {
    t.equal(host.running.length, index + 1, 'one at a time')
    host.running[index]?.end()
  }
  t.same([(await all[0]?.done)?.n, (await all[1]?.done)?.n, (await all[4]?.done)?.n], [1, 2, 3])
  const many = Array.from({ length: SESSION_WAITING_MAX + 2 }, () => begin('x-session\nx'))
  t.equal((await many.at(-1)?.done)?.result.error?.code, 'ERR_SESSION_BUSY')
})

await t.test('what a request leaves decides: kept, as before, or the end, of which those that wait are told', async (t) => {
  const { host, ask, begin } = table()
  await ask('x')
  host.automatic = false
  const next = (result: Partial<InvocationResult>): Promise<Asked> => {
    const { done } = begin('x-session\nx')
    host.running.at(-1)?.end(result)
    return done
  }
  const lost = { machine: { kind: 'lost' } } as const
  await next({ ...failedResult('canceled', { code: 'ERR_CANCELED', params: [] }), ...lost })
  await next({ ...failedResult('loadShed', { code: 'ERR_NO_CAPACITY', params: [1] }), ...lost })
  t.equal((await next({})).n, 2, 'both left no trace')
  const [spins, waits] = [begin('x-session\nx'), begin('x-session\nx')]
  host.running.at(-1)?.end({ ...failedResult('exceededCpu', { code: 'ERR_LIMIT_CPU', params: [1, 2] }), ...lost })
  t.same([(await spins.done).answer?.state, (await spins.done).answer?.reason], ['ended', 'stopped'])
  host.running.at(-1)?.end()
  t.same([(await waits.done).n, (await waits.done).answer?.state, (await waits.done).answer?.reason], [1, 'new', 'stopped'])
  await next({ machine: { kind: 'tooLarge' } })
  t.equal((await next({})).answer?.reason, 'too-large')
  await next({ ...failedResult('platformFault', { code: 'ERR_WORKER_LOST', params: ['x'] }), ...lost })
  t.equal((await next({})).answer?.reason, 'lost')
})

await t.test('a session stays with its build until that is gone', async (t) => {
  const { ask, host, builds } = table()
  await ask('x')
  t.equal((await ask('x', buildOf('a', 2))).n, 2)
  t.equal(host.running.at(-1)?.input.build.key, 'a/f@1')
  builds.delete('a/f@1')
  const anew = await ask('x', buildOf('a', 2))
  t.same([anew.n, anew.answer?.reason, host.running.at(-1)?.input.build.key], [1, 'replaced', 'a/f@2'])
})

await t.test('beyond the budget the least recently used ends, or goes to disk and comes back', async (t) => {
  const { ask, host, table: sessions } = table({ memoryMaxBytes: 50_000 })
  host.stateBytes = 9_000
  for (const id of ['1', '2', '3', '4', '5']) await ask(id)
  await ask('2')
  await ask('6')
  t.ok(sessions.bytes <= 50_000)
  t.same([(await ask('2')).n, (await ask('1')).answer?.reason], [3, 'evicted'])

  const kept = withDisk(t, { memoryMaxBytes: 30_000 })
  kept.host.stateBytes = 9_000
  for (let round = 1; round <= 3; round++) for (let id = 0; id < 20; id++) t.equal((await kept.ask(`s${id}`)).n, round)
  t.ok(kept.table.bytes <= 30_000)
  t.ok(kept.table.onDisk >= 15)
  // Or the folder would go while it is written to.
  await kept.disk.settled()
})

await t.test('one account cannot take more places than it may', async (t) => {
  const { ask, table: sessions } = table({ perAccountMax: 5 })
  await ask('mine', buildOf('b'))
  for (let id = 0; id < 20; id++) await ask(`s${id}`)
  t.equal(sessions.live, 6)
  t.equal((await ask('mine', buildOf('b'))).n, 2)
})

function withDisk(t: Test, options: Partial<SessionTableOptions> = {}, path = t.testdir({})) {
  const clock = new ManualClock()
  const disk = new SessionDisk({ path, clock, log: silentLog, maxBytes: 1_000_000 })
  return { ...table({ ...options, disk }), path, disk }
}

await t.test('a drain puts sessions on disk, sealed; another process takes each once', async (t) => {
  const first = withDisk(t)
  for (const id of ['one', 'two']) await first.ask(id)
  await first.table.drain()
  const files = readdirSync(first.path)
  t.equal(files.length, 2)
  const copies = files.map((file) => [join(first.path, file), readFileSync(join(first.path, file))] as const)
  const second = withDisk(t, {}, first.path)
  t.same([(await second.ask('one')).n, (await second.ask('one')).n, (await second.ask('two')).n], [2, 3, 2])
  t.same(readdirSync(first.path), [])
  // Somebody puts the old files back.
  for (const [path, bytes] of copies) writeFileSync(path, bytes)
  t.equal((await second.ask('one')).n, 4, 'what is here is newer')
  await second.table.drain()
  const altered = readdirSync(first.path).map((file) => join(first.path, file))
  for (const path of altered) {
    const bytes = readFileSync(path)
    bytes[40] = (bytes[40] ?? 0) ^ 1
    writeFileSync(path, bytes)
  }
  const third = await withDisk(t, {}, first.path).ask('one')
  t.same([third.n, third.answer?.reason], [1, 'lost'])
})

await t.test('one file in the place of another is no session', async (t) => {
  const first = withDisk(t)
  for (const id of ['one', 'two']) await first.ask(id)
  await first.table.drain()
  const [one = '', two = ''] = readdirSync(first.path)
  renameSync(join(first.path, one), join(first.path, `${one}.tmp`))
  renameSync(join(first.path, two), join(first.path, one))
  renameSync(join(first.path, `${one}.tmp`), join(first.path, two))
  const second = withDisk(t, {}, first.path)
  t.same([(await second.ask('one')).answer?.reason, (await second.ask('two')).answer?.reason], ['lost', 'lost'])
})

await t.test('a sealed state opens only for its account, function and id, unaltered', (t) => {
  const key = { account: 'a', functionName: 'f', id: 'x' }
  const record = { buildKey: 'a/f@1' as BuildKey, imageId: '1'.padStart(64, '0') as ImageId, sequence: 7, createdAtMs: 1, usedAtMs: 2, state: Buffer.from('a-marker') }
  const sealed = sealSession(KEYS, key, record)
  if (sealed === null) throw new Error('there is a key')
  t.equal(Buffer.from(sealed).includes('a-marker'), false)
  t.match(openSession(KEYS, key, sealed), { ...record, state: Uint8Array.from(record.state) })
  for (const other of [{ ...key, account: 'b' }, { ...key, functionName: 'g' }, { ...key, id: 'y' }]) t.throws(() => openSession(KEYS, other, sealed), { code: 'ERR_SESSION_STATE' })
  for (let at = 0; at < sealed.length; at++) {
    const altered = Uint8Array.from(sealed)
    altered[at] = (altered[at] ?? 0) ^ 0x40
    t.throws(() => openSession(KEYS, key, altered), { code: 'ERR_SESSION_STATE' })
  }
  for (let length = 0; length < sealed.length; length += 7) t.throws(() => openSession(KEYS, key, sealed.subarray(0, length)), { code: 'ERR_SESSION_STATE' })
  t.end()
})

await t.test('a session moves, it is never in two places, and an older copy of it is refused', async (t) => {
  const [here, there] = [table(), table()]
  await here.ask('x')
  const old = here.table.pack(name('x'))
  await here.ask('x')
  const moved = await here.table.take(name('x'), 0)
  if (old === null || moved === null) throw new Error('it is at rest')
  t.same(here.table.keys(), [])
  t.equal(here.table.adopt(name('x'), old), false, 'older than what was here')
  t.equal(there.table.adopt(name('y'), moved), false, 'of another id')
  t.equal(there.table.adopt(name('x', 'b'), moved), false, 'of another account')
  t.equal(there.table.adopt(name('x'), moved), true)
  t.equal(there.table.adopt(name('x'), moved), false, 'it is there')
  t.equal((await there.ask('x')).n, 3)
  const anew = await here.ask('x')
  t.same([anew.n, anew.answer?.reason], [1, 'moved'])
  const back = await there.table.take(name('x'), 0)
  t.equal(here.table.adopt(name('x'), back ?? new Uint8Array()), false, 'another one is here by now')
})

await t.test('a busy session is not given away, and not packed', async (t) => {
  const { host, ask, begin, table: sessions } = table()
  await ask('x')
  host.automatic = false
  const { done } = begin('x-session\nx')
  t.equal(sessions.pack(name('x')), null)
  t.equal(await sessions.take(name('x'), 0), null)
  host.running.at(-1)?.end()
  t.equal((await done).n, 2)
  t.not(await sessions.take(name('x'), 0), null)
})

await t.test('with several members a request is served when the right to it is there, which is given back', async (t) => {
  const events: string[] = []
  let stop = (): void => undefined
  let grant: 'yes' | 'no' = 'yes'
  const { host, ask, begin, table: sessions } = table()
  const elsewhere = table()
  await elsewhere.ask('moving')
  const state = await elsewhere.table.take(name('moving'), 0)
  const ownership: SessionOwnership = {
    owns: () => true,
    acquire(request) {
      events.push(`acquire ${request.name}`)
      stop = () => request.stop()
      if (grant === 'no') return Promise.reject(new CodedError('ERR_RING_MOVED', [3]))
      if (request.name === name('moving') && state !== null) sessions.adopt(request.name, state)
      return Promise.resolve()
    },
    release: (_requestId, released, item) => events.push(`release ${released} ${item}`),
    discard: (discarded) => events.push(`discard ${discarded}`),
  }
  sessions.ownership = ownership
  const resumed = await ask('moving')
  t.same([resumed.n, resumed.answer?.state], [2, 'resumed'])
  t.same(events, [`acquire ${name('moving')}`, `release ${name('moving')} kept`])
  grant = 'no'
  t.equal((await ask('moving')).result.error?.code, 'ERR_RING_MOVED')
  t.equal(events.length, 3, 'what was not given is not given back')
  grant = 'yes'
  host.automatic = false
  const [runs, waits] = [begin('x-session\nmoving'), begin('x-session\nmoving')]
  await new Promise((resolve) => setImmediate(resolve))
  stop()
  t.equal((await waits.done).result.error?.code, 'ERR_SESSION_MOVED')
  t.equal(host.running.at(-1)?.canceled, true)
  host.running.at(-1)?.end(failedResult('canceled', { code: 'ERR_CANCELED', params: [] }))
  t.equal((await runs.done).result.outcome, 'canceled')
  t.same(sessions.keys(), [])
})

await t.test('an id in the form of ours that nobody knows gets another one; a cookie that is none is ignored', async (t) => {
  const { begin } = table()
  const forged = 'r.AAAAAAAAAAAAAAAAAAAAAA'
  const { answer } = await begin(`cookie\na=b; sid=${forged}`).done
  t.not(answer?.id, forged)
  t.match(answer, { state: 'new', reason: 'unknown', setCookie: /^sid=r\.[\w-]{22}; Path=\/; Max-Age=900; HttpOnly; SameSite=Lax$/ })
  t.match((await begin('cookie\nsid=anything').done).answer, { state: 'new', reason: null })
  t.match((await begin('').done).answer, { state: 'new', reason: null })
  t.throws(() => begin(`x-session\n${'x'.repeat(129)}`), { code: 'ERR_SESSION_ID' })
})

await t.test('requests of one id, which clients may choose, ask for their rights as two', async (t) => {
  const { host, table: sessions, clock } = table()
  const asked: string[] = []
  const released: string[] = []
  sessions.ownership = {
    owns: () => true,
    acquire({ requestId }) {
      asked.push(requestId)
      return Promise.resolve()
    },
    release: (requestId) => void released.push(requestId), discard: () => undefined,
  }
  const build = buildOf()
  for (const id of ['one', 'two']) {
    const ticket = sessions.ticket({ kind: 'http', method: 'GET', url: 'http://h/', headers: `x-session\n${id}` }, build)
    await new Promise((resolve) => void ticket?.over(host).invoke({ requestId: 'same' as RequestId, build, kind: 'http', method: 'GET', url: '', headers: '', body: null, bodyMore: false, clientIp: '', deadlineAtMs: clock.nowMs() + 10_000, wantLogs: false },
      { head: () => undefined, data: () => true, bodyEnd: () => undefined, end: resolve }))
  }
  t.equal(new Set(asked).size, 2)
  t.same(released, asked)
})

await t.test('a request that has its turn waits for a slot, and gives it back', async (t) => {
  const { clock, host, table: sessions } = table()
  let free = 0
  const gate = { enter: () => free > 0 && free-- > 0, leave: () => { free++ } }
  const ticket = sessions.ticket({ kind: 'http', method: 'GET', url: 'http://h/', headers: 'x-session\nx' }, buildOf())
  if (ticket === null) throw new Error('it is of a session')
  ticket.gate = gate
  let result: InvocationResult | null = null
  const build = buildOf()
  ticket.over(host).invoke({ requestId: 'r' as RequestId, build, kind: 'http', method: 'GET', url: '', headers: '', body: null, bodyMore: false, clientIp: '', deadlineAtMs: clock.nowMs() + 10_000, wantLogs: false },
    { head: () => undefined, data: () => true, bodyEnd: () => undefined, end: (ended) => { result = ended } })
  t.equal(host.running.length, 0)
  free = 1
  clock.advance(50)
  t.match(result, { outcome: 'ok' })
  t.equal(free, 1)
})
