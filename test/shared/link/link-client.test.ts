import { fork } from 'node:child_process'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import type { Clock } from '../../../shared/clock.ts'
import { FRAME, LINK_PROTOCOL } from '../../../shared/link/frames.ts'
import { decodeValue, encodeValue } from '../../../shared/link/codec.ts'
import type { VersionEvent } from '../../../shared/link/types.ts'
import { DEFAULT_FUNCTION_TRAITS } from '../../../shared/worker/types.ts'
import { fakeDial } from './fake-dial.ts'
import { connectedClient, makeClient, openFrame, RecordingSink, RESULT, startRegion, TestHandler, until } from './harness.ts'
import type { BuildKey } from '../../../shared/brand.ts'

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** A region that can be killed. */
async function startRegionProcess(): Promise<{ url: string; runs: string[]; signal(signal: NodeJS.Signals): void; end(): Promise<void> }> {
  const child = fork(join(import.meta.dirname, 'region-process.ts'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const runs: string[] = []
  const port = await new Promise<number>((resolve) => {
    child.on('message', (message: { port?: number; run?: string }) => {
      if (message.port !== undefined) resolve(message.port)
      if (message.run !== undefined) runs.push(message.run)
    })
  })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  return {
    url: `ws://127.0.0.1:${port}/link`,
    runs,
    signal: (signal) => void child.kill(signal),
    end: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}

t.test('a URL that is none, or of another scheme, is refused at once', (t) => {
  t.throws(() => makeClient('http://127.0.0.1/link'), { code: 'ERR_CONFIG' })
  t.throws(() => makeClient('nonsense'), { code: 'ERR_CONFIG' })
  t.end()
})

t.test('without a region, opening fails at once and attempts back off', async (t) => {
  const clock = new ManualClock()
  const { client, states } = makeClient(`ws://127.0.0.1:${await freePort()}/link`, { clock })
  t.teardown(() => client.close())
  const before = new RecordingSink()
  client.open(openFrame(), before)
  await before.whenOver()
  t.strictSame(before.events, [{ kind: 'error', error: { code: 'ERR_REGION_UNREACHABLE', params: ['echo'] } }])
  client.start()
  const delays: number[] = []
  for (let attempt = 1; attempt <= 9; attempt += 1) {
    t.equal(client.state.kind, 'connecting')
    await until(() => client.state.kind === 'backoff')
    const state = client.state
    if (state.kind !== 'backoff') return
    t.equal(state.code, 'ERR_REGION_UNREACHABLE')
    t.match(state.reason, /ECONNREFUSED/)
    t.equal(state.failures, attempt)
    delays.push(state.untilMs - state.sinceMs)
    clock.advance(state.untilMs - state.sinceMs)
  }
  t.ok(delays.every((delayMs, index) => delayMs <= Math.min(10_000, 100 * 2 ** index) && delayMs >= Math.min(10_000, 100 * 2 ** index) / 2), delays.join(' '))
  client.close()
  client.close()
  t.equal(states.at(-1)?.kind, 'closed')
})

t.test('a wrong token is refused with its reason', async (t) => {
  const region = await startRegion()
  const clock = new ManualClock()
  const { client } = makeClient(region.url, { token: 'wrong', clock })
  t.teardown(() => {
    client.close()
    region.close()
  })
  client.start()
  await until(() => client.state.kind === 'backoff')
  t.match(client.state, { kind: 'backoff', code: 'ERR_LINK_IDENTITY', reason: 'The peer may not use this link: wrong token' })
  t.equal(region.server.pops().length, 0)
})

t.test('a region that does not answer the hello is given up after ten seconds', async (t) => {
  const clock = new ManualClock()
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { clock, dial })
  t.teardown(() => client.close())
  client.start()
  sockets[0]?.handlers.onOpen()
  t.match(sockets[0]?.frames[0], [FRAME.hello, LINK_PROTOCOL, 'pop-1'])
  clock.advance(9_500)
  t.equal(client.state.kind, 'connecting')
  clock.advance(500)
  t.match(client.state, { kind: 'backoff', code: 'ERR_REGION_TIMEOUT' })
  t.ok(sockets[0]?.destroyed)
})

t.test('streams of a region that is killed may have run; the next open fails at once', async (t) => {
  const region = await startRegionProcess()
  t.teardown(() => region.end())
  const { client } = await connectedClient(region.url)
  t.teardown(() => client.close())
  const sinks = [openFrame({ functionName: 'held', requestId: 'a' }), openFrame({ functionName: 'held', requestId: 'b', bodyMore: true })].map((frame) => {
    const sink = new RecordingSink()
    client.open(frame, sink)
    return sink
  })
  await until(() => sinks.every((sink) => sink.kinds === 'started'))
  region.signal('SIGKILL')
  for (const sink of sinks) {
    await sink.whenOver()
    t.equal(sink.errorCode, 'ERR_REGION_LOST')
  }
  await until(() => client.state.kind !== 'open')
  const next = new RecordingSink()
  client.open(openFrame(), next)
  t.equal((await next.whenOver()).errorCode, 'ERR_REGION_UNREACHABLE')
  t.equal(client.stats().streams, 0)
})

t.test('a region that stands still is found out by its silence', async (t) => {
  const region = await startRegionProcess()
  t.teardown(() => region.end())
  const clock = new ManualClock()
  const { client } = await connectedClient(region.url, { clock })
  t.teardown(() => client.close())
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), sink)
  await until(() => sink.kinds === 'started')
  clock.advance(5_500)
  await until(() => client.stats().rttMs !== null, 'a pong')
  region.signal('SIGSTOP')
  for (let tick = 0; tick < 19; tick += 1) clock.advance(500)
  t.equal(client.state.kind, 'open', 'ten seconds have not passed')
  for (let tick = 0; tick < 4 && client.state.kind === 'open'; tick += 1) clock.advance(500)
  t.match(client.state, { kind: 'backoff', code: 'ERR_REGION_LOST' })
  t.equal(sink.errorCode, 'ERR_REGION_LOST')
})

t.test('a client that stood still itself does not blame the region', async (t) => {
  const timers = new ManualClock()
  let stoodStillMs = 0
  const clock: Clock = { nowMs: () => timers.nowMs() + stoodStillMs, monotonicMs: () => timers.monotonicMs() + stoodStillMs, after: (delayMs, callback) => timers.after(delayMs, callback) }
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { clock, dial })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  stoodStillMs = 60_000
  timers.advance(500)
  t.equal(client.state.kind, 'open')
  timers.advance(9_000)
  t.equal(client.state.kind, 'open')
  timers.advance(500)
  t.match(client.state, { kind: 'backoff', code: 'ERR_REGION_LOST' }, 'silence afterwards counts')
})

t.test('an open frame that was certainly never written did not run', async (t) => {
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock() })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  const written = new RecordingSink()
  client.open(openFrame(), written)
  await until(() => sockets[0]?.sent(FRAME.open).length === 2)
  const unwritten = new RecordingSink()
  client.open(openFrame(), unwritten)
  sockets[0]?.handlers.onClose('reset')
  t.equal(written.errorCode, 'ERR_REGION_LOST')
  t.equal(unwritten.errorCode, 'ERR_REGION_UNREACHABLE')
  t.match(client.state, { kind: 'backoff', code: 'ERR_REGION_LOST', reason: 'reset' })
})

t.test('what a slow sink has not taken survives the end of the link if the answer was complete', async (t) => {
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock() })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  const sink = new RecordingSink()
  sink.accepts = false
  const stream = client.open(openFrame(), sink)
  sockets[0]?.say(
    [FRAME.head, 2, 200, '', 0, '1', null, false], [FRAME.data, 2, Buffer.from('one ')], [FRAME.data, 2, Buffer.from('two')], [FRAME.bodyEnd, 2],
    [FRAME.end, 2, '1', [0, 0, 1, 2, 3, 4, null, null, []]],
  )
  sockets[0]?.handlers.onClose('reset')
  t.equal(sink.kinds, 'head data')
  sink.accepts = true
  stream.resume()
  t.equal(sink.kinds, 'head data bodyEnd end')
  t.equal(sink.bytes.toString(), 'one two')
})

t.test('after a reconnect the snapshot is heard before the link is open', async (t) => {
  const port = await freePort()
  const clock = new ManualClock()
  const { client, states } = makeClient(`ws://127.0.0.1:${port}/link`, { clock, holds: () => [{ account: 'a', functionName: 'kept' }, { account: 'a', functionName: 'deleted' }] })
  t.teardown(() => client.close())
  const heard: string[] = []
  client.onState((state) => void heard.push(state.kind))
  client.onVersions((event) => void heard.push(event.kind === 'snapshot' ? `snapshot ${event.seq} ${event.functions.map((each) => `${each.functionName}:${each.builds.join()}`).join(' ')}` : event.kind === 'changed' ? `changed ${event.versions.functionName}` : event.kind))
  const first = await startRegion({ port })
  first.handler.snapshot = ({}, functions) => ({ seq: 1, functions: functions.map((ref) => ({ ...ref, seq: 1, builds: [`${ref.functionName}@1` as BuildKey] })), answered: functions.length })
  client.start()
  await until(() => client.state.kind === 'open')
  first.server.pushVersions({ account: 'a', functionName: 'kept', seq: 2, builds: ['kept@2' as BuildKey] })
  await until(() => heard.includes('changed kept'))
  first.close()
  await until(() => client.state.kind === 'backoff')
  const second = await startRegion({ port })
  t.teardown(() => second.close())
  second.handler.snapshot = ({}, functions) => ({ seq: 9, functions: functions.filter((ref) => ref.functionName === 'kept').map((ref) => ({ ...ref, seq: 3, builds: ['kept@3' as BuildKey] })), answered: functions.length })
  clock.advance(10_000)
  await until(() => client.state.kind === 'open')
  t.strictSame(heard, [
    'connecting', 'snapshot 1 kept:kept@1 deleted:deleted@1', 'open', 'changed kept', 'backoff', 'connecting', 'snapshot 9 kept:kept@3', 'open',
  ])
  t.equal(states.filter((state) => state.kind === 'open').length, 2)
})

t.test('changes that overtake the snapshot are heard after it, once', async (t) => {
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock(), holds: () => [{ account: 'a', functionName: 'f' }] })
  t.teardown(() => client.close())
  const heard: VersionEvent[] = []
  client.onVersions((event) => void heard.push(event))
  client.start()
  await sockets[0]?.welcome()
  sockets[0]?.say([FRAME.version, 9, 'a', 'f', ['nine']], [FRAME.version, 11, 'a', 'f', ['eleven']])
  t.equal(heard.length, 0)
  await sockets[0]?.answerSnapshot(10, [{ account: 'a', functionName: 'f', seq: 9, builds: ['nine'] }])
  t.strictSame(heard.map((event) => (event.kind === 'snapshot' ? event.seq : event.kind === 'changed' ? event.versions.seq : null)), [10, 11])
  t.equal(client.state.kind, 'open')
})

t.test('many functions are asked for in parts, as many as the region answers, and no change is heard before what includes it', async (t) => {
  const { dial, sockets } = fakeDial()
  const holds = Array.from({ length: 450 }, (_, index) => ({ account: 'a', functionName: `f${index}` }))
  const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock(), holds: () => holds })
  t.teardown(() => client.close())
  const heard: VersionEvent[] = []
  client.onVersions((event) => void heard.push(event))
  client.start()
  await sockets[0]?.welcome()
  for (let part = 0; part < 3; part += 1) {
    await until(() => sockets[0]?.sent(FRAME.open).length === part + 1)
    const asked = decodeValue(sockets[0]?.sent(FRAME.open)[part]?.[3] as Uint8Array) as { functionName: string }[]
    t.equal(asked[0]?.functionName, `f${part * 200}`)
    const functions = holds.slice(part * 200, part * 200 + 200).map((ref) => ({ ...ref, seq: 5, builds: ['b'] }))
    sockets[0]?.say([FRAME.head, part + 1, 200, '', null, null, encodeValue({ seq: 10 + part, functions, answered: functions.length }), true], [FRAME.end, part + 1, null, null])
    sockets[0]?.say([FRAME.version, 11 + part, 'a', 'f0', [`after ${part}`]], [FRAME.version, 11 + part, 'a', 'f449', [`after ${part}`]])
  }
  await until(() => client.state.kind === 'open')
  t.match(heard[0], { kind: 'snapshot', seq: 10 })
  t.equal(heard[0]?.kind === 'snapshot' && heard[0].functions.length, 450)
  t.strictSame(heard.slice(1).map((event) => (event.kind === 'changed' ? `${event.versions.functionName} ${event.versions.seq}` : '')), ['f0 11', 'f0 12', 'f0 13', 'f449 13'])
})

t.test('a snapshot that answers nothing, or more than was asked for, keeps the link closed', async (t) => {
  for (const answered of [0, 2]) {
    const { dial, sockets } = fakeDial()
    const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock(), holds: () => [{ account: 'a', functionName: 'f' }] })
    t.teardown(() => client.close())
    client.start()
    await sockets[0]?.welcome()
    await sockets[0]?.answerSnapshot(1, [], answered)
    await until(() => client.state.kind === 'backoff')
    t.match(client.state, { code: 'ERR_LINK_PROTOCOL' })
  }
})

t.test('an unusable snapshot keeps the link closed', async (t) => {
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock() })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  sockets[0]?.say([FRAME.head, 1, 200, '', null, null, encodeValue({ seq: 'x' }), true], [FRAME.end, 1, null, null])
  await until(() => client.state.kind === 'backoff')
  t.match(client.state, { code: 'ERR_LINK_PROTOCOL' })
})

t.test('a description that a change has overtaken is asked for again', async (t) => {
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const build = {
    key: 'a/f@1' as BuildKey, imageId: '0'.repeat(64), handlerKind: 'fetch', account: 'a', functionName: 'f', version: '1', traits: DEFAULT_FUNCTION_TRAITS, secrets: { KEY: 'value' },
    limits: { cpuMs: 50, wallMs: 1, memoryMib: 1, responseMaxBytes: 1, logMaxBytes: 1, subrequestMax: 1 },
  }
  let asked = 0
  handler.describe = () => {
    asked += 1
    const seq = asked === 1 ? 1 : 2
    // The change is told while the old answer is being made.
    if (asked === 1) region.server.pushVersions({ account: 'a', functionName: 'f', seq: 2, builds: [] })
    return { seq, routes: [{ weight: 1, build: { ...build, version: String(seq) } as never }], sessionKey: null }
  }
  const description = await client.describe('a', 'f', null)
  t.equal(asked, 2)
  t.equal(description?.seq, 2)
  t.strictSame(description?.routes[0]?.build, { ...build, version: '2' }, 'all fields of a build travel')
  handler.describe = () => null
  t.equal(await client.describe('a', 'f', 'live'), null)
})

t.test('a report and its advice travel', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const report = {
    epoch: 'e', area: 'berlin', sequence: 3, part: 0, parts: 1, periodMs: 10_000, functions: [{ account: 'a', functionName: 'f', arrivals: 5, local: 3, forwarded: 1, failed: 1, cpuUs: 100, localUs: 7, forwardedUs: 8 }],
    held: [{ account: 'a', functionName: 'f', builds: ['a/f@1' as BuildKey] }],
    host: { workers: 1, slots: 2, slotsUsed: 1, queued: 0, running: 1, parked: 0, residentBytes: 1, budgetBytes: 2, images: 1 },
  }
  let heard: unknown
  region.handler.report = (popId, value) => {
    heard = [popId, value]
    return { seq: 3, load: 0.5, versions: [{ account: 'a', functionName: 'f', seq: 2, builds: ['a/f@1' as BuildKey] }], pull: [{ account: 'a', functionName: 'g', cpuUs: 9 }] }
  }
  t.match(await client.report(report), { seq: 3, load: 0.5, versions: [{ functionName: 'f', seq: 2 }], pull: [{ functionName: 'g', cpuUs: 9 }] })
  t.strictSame(heard, ['pop-1', report])
})

t.test('after a goaway old streams finish while new ones use the next connection', async (t) => {
  const port = await freePort()
  const old = await startRegion({ port })
  const clock = new ManualClock()
  const { client } = await connectedClient(old.url, { clock })
  t.teardown(() => client.close())
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), sink)
  await until(() => old.handler.runs.length === 1)
  const drained = old.server.drain(60_000)
  const again = old.server.drain(1)
  await until(() => client.state.kind === 'backoff')
  t.match(client.state, { code: 'ERR_REGION_UNREACHABLE' }, 'a draining region takes no new link')
  t.equal(sink.over, false)
  t.equal(client.stats().streams, 1)
  old.handler.held().answer.head(200, '', 'warm', '7', Buffer.from('done'), true)
  old.handler.held().answer.end(RESULT, '7')
  await sink.whenOver()
  t.equal(sink.outcome, 'ok')
  await Promise.all([drained, again])
  t.equal(old.server.pops().length, 0)
  old.close()
  const next = await startRegion({ port })
  t.teardown(() => next.close())
  clock.advance(10_000)
  await until(() => client.state.kind === 'open')
  const after = new RecordingSink()
  client.open(openFrame(), after)
  t.equal((await after.whenOver()).outcome, 'ok')
})

t.test('a region that restarts after a goaway is found within a second, however long it drained and however the link began', async (t) => {
  const port = await freePort()
  const clock = new ManualClock()
  const { client } = makeClient(`ws://127.0.0.1:${port}/link`, { clock })
  t.teardown(() => client.close())
  client.start()
  // The POP was there long before the region: it counts many failures.
  for (let attempt = 0; attempt < 9; attempt += 1) {
    await until(() => client.state.kind === 'backoff')
    clock.advance(10_000)
  }
  const old = await startRegion({ port, clock })
  await until(() => client.state.kind === 'open' || (client.state.kind === 'backoff' && (clock.advance(10_000), false)))
  for (let second = 0; second < 20; second += 1) {
    clock.advance(500)
    await new Promise((resolve) => setImmediate(resolve))
  }
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held', remainingMs: 900_000 }), sink)
  await until(() => old.handler.runs.length === 1)
  void old.server.drain(30_000)
  await until(() => client.state.kind !== 'open')
  // It drains for half a minute; the client tries all the time and never waits for longer than a second.
  for (let drainedMs = 0; drainedMs < 29_000; drainedMs += 1_000) {
    await until(() => client.state.kind === 'backoff')
    const { state } = client
    t.ok(state.kind === 'backoff' && state.untilMs - state.sinceMs <= 1_000)
    clock.advance(1_000)
  }
  old.handler.held().answer.end(RESULT, '7')
  await sink.whenOver()
  old.close()
  const next = await startRegion({ port, clock })
  t.teardown(() => next.close())
  await until(() => client.state.kind === 'backoff' || client.state.kind === 'open')
  clock.advance(1_000)
  await until(() => client.state.kind === 'open')
  t.pass('within a second')
})

t.test('an open that crosses the goaway is refused without having run', async (t) => {
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock() })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  const crossing = new RecordingSink()
  client.open(openFrame(), crossing)
  sockets[0]?.say([FRAME.goaway, 1_000])
  t.equal(client.state.kind, 'connecting')
  t.equal(sockets.length, 2)
  sockets[0]?.say([FRAME.error, 2, 'ERR_DRAINING', []])
  t.equal(crossing.errorCode, 'ERR_DRAINING')
  t.ok(sockets[0]?.closed, 'the old connection ends with its last stream')
})

t.test('a drain of the region ends at its deadline, and runs are cancelled', async (t) => {
  const clock = new ManualClock()
  const region = await startRegion({ clock })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held', remainingMs: 1_000_000 }), sink)
  await until(() => region.handler.runs.length === 1)
  const drained = region.server.drain(5_000)
  clock.advance(5_000)
  await drained
  await sink.whenOver()
  t.equal(sink.errorCode, 'ERR_REGION_LOST')
  await until(() => region.handler.held().canceled === 1)
})

t.test('a drain of the client waits for its streams and opens nothing more', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => region.close())
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), sink)
  await until(() => region.handler.runs.length === 1)
  const drained = client.drain(60_000)
  t.equal(client.drain(1), drained)
  t.equal(client.state.kind, 'draining')
  const refused = new RecordingSink()
  client.open(openFrame(), refused)
  t.equal((await refused.whenOver()).errorCode, 'ERR_REGION_UNREACHABLE')
  region.handler.held().answer.end(RESULT, '7')
  await drained
  t.equal(sink.outcome, 'ok')
  t.equal(client.state.kind, 'closed')
  await until(() => region.server.pops().length === 0)
})

t.test('a closed client fails its streams and leaves nothing behind', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => region.close())
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), sink)
  await until(() => region.handler.runs.length === 1)
  client.close()
  t.equal(sink.errorCode, 'ERR_REGION_LOST')
  await until(() => region.server.pops().length === 0)
  t.equal(region.handler.held().canceled, 1)
  await t.rejects(client.describe('a', 'f', null), { code: 'ERR_REGION_UNREACHABLE' })
})

t.test('a run past its deadline is cancelled, and ended if it does not stop', async (t) => {
  const clock = new ManualClock()
  const region = await startRegion({ clock })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held', remainingMs: 3_000 }), sink)
  await until(() => region.handler.runs.length === 1)
  t.equal(region.handler.held().deadlineAtMs, clock.nowMs() + 3_000)
  clock.advance(2_900)
  t.equal(region.handler.held().canceled, 0)
  clock.advance(500)
  t.equal(region.handler.held().canceled, 1)
  clock.advance(2_500)
  await sink.whenOver()
  t.strictSame(sink.events, [{ kind: 'error', error: { code: 'ERR_REGION_TIMEOUT', params: [3_000] } }])
  t.equal(region.handler.held().canceled, 1)
})

t.test('a region that says nothing past the deadline is not waited for', async (t) => {
  const clock = new ManualClock()
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { clock, dial })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  const sink = new RecordingSink()
  client.open(openFrame({ remainingMs: 1_000 }), sink)
  for (let tick = 0; tick < 12; tick += 1) {
    sockets[0]?.say([FRAME.ping, 1])
    clock.advance(500)
  }
  t.strictSame(sink.events, [{ kind: 'error', error: { code: 'ERR_REGION_TIMEOUT', params: [1_000] } }])
  await until(() => sockets[0]?.sent(FRAME.cancel).length === 1)
  sockets[0]?.say([FRAME.started, 2], [FRAME.end, 2, null, null])
  t.equal(client.state.kind, 'open', 'late frames of the abandoned stream are dropped')
})

t.test('a run that ignores its cancel is ended long before its deadline', async (t) => {
  const clock = new ManualClock()
  const region = await startRegion({ clock })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  const stream = client.open(openFrame({ functionName: 'held', remainingMs: 900_000 }), sink)
  await until(() => region.handler.runs.length === 1)
  stream.cancel()
  await until(() => region.handler.held().canceled === 1)
  clock.advance(4_500)
  t.notOk(sink.over)
  clock.advance(1_000)
  await sink.whenOver()
  t.equal(sink.errorCode, 'ERR_CANCELED')
  t.equal(region.handler.held().canceled, 1)
  t.equal(region.server.pops()[0]?.streams, 0)
})

t.test('a region that ignores a cancel is not waited for', async (t) => {
  const clock = new ManualClock()
  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { clock, dial })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  const sink = new RecordingSink()
  client.open(openFrame({ remainingMs: 900_000 }), sink).cancel()
  for (let tick = 0; tick < 22 && !sink.over; tick += 1) {
    sockets[0]?.say([FRAME.ping, 1])
    clock.advance(500)
  }
  t.strictSame(sink.events, [{ kind: 'error', error: { code: 'ERR_CANCELED', params: [] } }])
  t.equal(client.stats().streams, 0)
})
