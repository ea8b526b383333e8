import t from 'tap'
import { CodedError } from '../../shared/errors.ts'
import type { FunctionVersions } from '../../shared/link/types.ts'
import type { FakeLink, FakeStream } from './fake-link.ts'
import { ACCOUNT, makeBuild, makeImage, makePop, OK, settle, type PopHarness, type PopHarnessOptions } from './harness.ts'

const IMAGE = makeImage([1, 2])
const BUILD = makeBuild('hello', IMAGE, '4')
const NEXT_IMAGE = makeImage([7])
const NEXT = makeBuild('hello', NEXT_IMAGE, '5')

/** Two regions that are current; the first is nearer. Nothing is hot. */
function two(options: PopHarnessOptions = {}): PopHarness & { readonly a: FakeLink; readonly b: FakeLink } {
  const pop = makePop({ regions: 2, admitCount: 100, ...options })
  const [a, b] = pop.links
  if (a === undefined || b === undefined) throw new Error('two regions')
  for (const link of [a, b]) {
    link.deploy(BUILD, [IMAGE])
    link.connect()
  }
  a.onRtt(5)
  b.onRtt(50)
  return { ...pop, a, b }
}

function changed(seq: number, builds: FunctionVersions['builds']): { kind: 'changed'; versions: FunctionVersions } {
  return { kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq, builds } }
}

const lost = (stream: FakeStream): void => queueMicrotask(() => stream.sink.error({ code: 'ERR_REGION_LOST', params: [] }))
const startedThenLost = (stream: FakeStream): void => queueMicrotask(() => {
  stream.sink.started()
  stream.sink.error({ code: 'ERR_REGION_LOST', params: [] })
})

t.test('a region that fails after it started is not asked again, nor is another; the client is told, with the number of attempts', async (t) => {
  const { call, a, b } = two()
  a.onOpen = startedThenLost
  const sink = await call('hello')
  t.equal(sink.place, 'ERR_REGION_LOST')
  t.equal(sink.failures[0]?.placement?.attempts, undefined)
  t.same([a.streams.length, b.streams.length], [1, 0])
})

t.test('one that fails before is replaced by the next, which gets the whole request; then no third attempt', async (t) => {
  const { begin, a, b, logged } = two()
  a.onOpen = () => {}
  const { sink, answer } = begin('hello', { body: Buffer.from('one '), bodyMore: true, method: 'POST' })
  answer.write(Buffer.from('two '))
  answer.write(Buffer.from('three'))
  b.onOpen = () => {}
  a.streams[0]?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  t.same(b.streams[0]?.written, ['two ', 'three'])
  t.equal(Buffer.from(b.streams[0]?.frame.body ?? []).toString(), 'one ')
  answer.write(Buffer.from('!'))
  answer.writeEnd()
  t.same([b.streams[0]?.written, b.streams[0]?.writeEnds], [['two ', 'three', '!'], 1])
  b.streams[0]?.reply('from b')
  await settle()
  t.equal(sink.place, 'region; not-hot')
  t.equal(sink.heads[0]?.placement.attempts, 2)
  t.match(logged.filter(({ message }) => message === 'tried elsewhere').map(({ fields }) => fields), [{ region: 'region-1', next: 'region-2', code: 'ERR_REGION_LOST', requestId: 'request-1' }])
  a.onOpen = lost
  b.onOpen = lost
  const failed = begin('hello').sink
  await settle()
  t.equal(failed.place, 'ERR_REGION_LOST')
  t.equal(failed.failures[0]?.placement?.attempts, 2)
})

t.test('a function declared idempotent is tried elsewhere also in the middle of its run, but not of its answer', async (t) => {
  const { call, begin, a, b } = two()
  for (const link of [a, b]) link.deploy({ ...BUILD, traits: { ...BUILD.traits, idempotent: true } }, [IMAGE])
  await call('hello')
  a.onOpen = startedThenLost
  const sink = await call('hello', { body: Buffer.from('whole'), method: 'POST' })
  t.equal(sink.place, 'region; not-hot')
  t.equal(sink.heads[0]?.placement.attempts, 2)
  t.equal(Buffer.from(b.streams.at(-1)?.frame.body ?? []).toString(), 'whole')
  const before = b.streams.length
  b.onOpen = () => {}
  a.onOpen = () => {}
  const begun = begin('hello').sink
  const asked = b.streams.length > before ? b.streams.at(-1) : a.streams.at(-1)
  asked?.sink.started()
  asked?.sink.head(200, '', 'warm', '4', Buffer.from('half'), false)
  asked?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  t.equal(begun.failures[0]?.error.code, 'ERR_REGION_LOST')
})

t.test('of a body more than can be kept was sent: the error says so', async (t) => {
  const { begin, a, b } = two()
  a.onOpen = () => {}
  const { sink, answer } = begin('hello', { bodyMore: true, method: 'POST' })
  for (let chunk = 0; chunk < 17; chunk++) answer.write(Buffer.alloc(64 * 1024))
  a.streams[0]?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  t.equal(sink.failures[0]?.error.code, 'ERR_REGION_BODY')
  t.equal(sink.failures[0]?.error.params[0], 17 * 64 * 1024)
  t.equal(b.streams.length, 0)
})

t.test('a pause that the failed region asked for ends with the next one, or is its own', async (t) => {
  for (const flowing of [true, false]) {
    const { begin, a, b } = two()
    a.onOpen = (stream) => void (stream.flowing = false)
    b.onOpen = (stream) => void (stream.flowing = flowing)
    const { sink, answer } = begin('hello', { bodyMore: true, method: 'POST' })
    answer.write(Buffer.from('x'))
    t.equal(sink.pauses, 1)
    a.streams[0]?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
    t.equal(sink.resumes, flowing ? 1 : 0)
    b.streams[0]?.sink.drain()
    t.equal(sink.resumes, flowing ? 2 : 1)
  }
})

t.test('a client that has gone is not run for anywhere else', async (t) => {
  const { begin, a, b } = two()
  a.onOpen = () => {}
  const { answer } = begin('hello')
  answer.cancel()
  t.equal(a.streams[0]?.cancels, 1)
  a.streams[0]?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  t.equal(b.streams.length, 0)
})

t.test('what a region answers is the answer: full or refused is not tried elsewhere', async (t) => {
  for (const code of ['ERR_QUEUE_FULL', 'ERR_NO_CAPACITY', 'ERR_ACCOUNT_LIMIT', 'ERR_LINK_IDENTITY'] as const) {
    const { call, a, b } = two()
    a.onOpen = (stream) => queueMicrotask(() => stream.sink.error({ code, params: [1] }))
    t.equal((await call('hello')).place, code)
    t.equal(b.streams.length, 0)
  }
})

t.test('an account that another region counts is tried there, and from then on first', async (t) => {
  const { call, a, b } = two()
  await call('hello')
  t.same([a.streams.length, b.streams.length], [1, 0], 'a has run it')
  a.onOpen = (stream) => queueMicrotask(() => stream.sink.error({ code: 'ERR_ACCOUNT_ELSEWHERE', params: [4] }))
  const { place, heads } = await call('hello')
  t.match([place, heads[0]?.placement.attempts], [/^region; /, 2])
  await call('hello')
  t.same([a.streams.length, b.streams.length], [2, 2])
  b.onOpen = (stream) => queueMicrotask(() => stream.sink.error({ code: 'ERR_ACCOUNT_LIMIT', params: [4] }))
  t.equal((await call('hello')).place, 'ERR_ACCOUNT_LIMIT', 'full there: that is the answer')
  t.equal(a.streams.length, 2)
})

t.test('the warm region is kept to; when it is gone the other takes over, and keeps it until the trip is not worth it', async (t) => {
  const { call, a, b, clock } = two()
  await call('hello')
  t.same([a.streams.length, b.streams.length], [1, 0], 'nearest')
  a.disconnect()
  await call('hello')
  t.same([a.streams.length, b.streams.length], [1, 1])
  a.connect()
  for (let sample = 0; sample < 50; sample++) a.onRtt(5)
  clock.advance(400_000)
  await call('hello')
  t.same([a.streams.length, b.streams.length], [2, 1], 'both are warm: the near one')
  clock.advance(500_000)
  await call('hello')
  t.same([a.streams.length, b.streams.length], [3, 1])
})

t.test('a region that lacks the current version is not asked, though the other is away', async (t) => {
  const { call, a, b, logged } = two()
  b.push(changed(9, [NEXT.key]))
  b.deploy(NEXT, [NEXT_IMAGE], 9)
  await call('hello')
  t.same([a.streams.length, b.streams.length], [0, 1])
  b.disconnect()
  const sink = await call('hello')
  t.equal(sink.place, 'ERR_REGION_BEHIND')
  t.same([a.streams.length, b.streams.length], [0, 1])
  t.equal((await call('other')).place, 'region; not-hot', 'of others it has the current version')
  a.push(changed(9, [NEXT.key]))
  t.equal((await call('hello')).place, 'region; not-hot')
  t.match(logged.filter(({ message }) => message === 'region').map(({ fields }) => [fields['function'], fields['region'], fields['because']]), [
    [`${ACCOUNT}/hello`, 'region-2', 'only'], [`${ACCOUNT}/hello`, 'none', 'behind'], [`${ACCOUNT}/other`, 'region-1', 'only'], [`${ACCOUNT}/hello`, 'region-1', 'only'],
  ])
})

t.test('a change that a late region tells does not bring the old version back', async (t) => {
  const { call, a, b, host } = two({ admitCount: 1 })
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  for (const link of [a, b]) link.deploy(NEXT, [NEXT_IMAGE], 9)
  a.push(changed(9, [NEXT.key]))
  await settle()
  t.equal((await call('hello')).heads[0]?.placement.version, '5')
  b.push(changed(8, [BUILD.key]))
  t.equal((await call('hello')).place, 'local')
  t.ok(host.hasImage(NEXT_IMAGE.imageId))
  b.disconnect()
  b.connect([{ account: ACCOUNT, functionName: 'hello', seq: 4, builds: [BUILD.key] }], 8)
  const sink = await call('hello')
  t.match([sink.place, sink.heads[0]?.placement.version], ['local', '5'])
})

t.test('a deletion counts from any region, at once and at reconnect before any request goes by that link', async (t) => {
  const { call, a, b, host } = two({ admitCount: 1 })
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  b.push(changed(9, []))
  t.notOk(host.hasImage(IMAGE.imageId))
  a.push(changed(10, [BUILD.key]))
  for (const link of [a, b]) link.deploy(BUILD, [IMAGE], 10)
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  a.disconnect()
  b.disconnect()
  t.equal((await call('hello')).heads[0]?.placement.stale, true)
  b.connect([], 20)
  t.notOk(host.hasImage(IMAGE.imageId), 'gone when the link opens')
})

t.test('cut off only while every region is away', async (t) => {
  const { call, a, b, versions, regions, clock } = two({ admitCount: 1, staleMaxMs: 60_000 })
  await call('hello')
  a.disconnect()
  t.equal(regions.state.kind, 'open')
  t.notOk(versions.cutOff)
  t.equal((await call('hello')).heads[0]?.placement.stale, false)
  b.disconnect()
  t.equal(regions.state.kind, 'backoff')
  t.ok(versions.cutOff)
  clock.advance(60_000)
  t.match((await call('hello')).heads[0]?.placement, { place: 'pop', stale: true })
  clock.advance(2)
  t.equal((await call('hello')).place, 'ERR_REGION_UNREACHABLE')
})

t.test('an image comes from whichever region has it, and what one does not give of it from the next', async (t) => {
  const { call, a, b } = two({ admitCount: 1 })
  a.images.clear()
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  t.same([a.chainsAsked > 0, b.chainsAsked > 0], [true, true])
  const other = two({ admitCount: 1 })
  other.a.images.set(IMAGE.imageId, { ...IMAGE, blocks: new Map([...IMAGE.blocks].slice(0, 1)) })
  await other.call('hello')
  t.equal((await other.call('hello')).place, 'local')
  t.same(other.b.blocksAsked, [...IMAGE.blocks.keys()].slice(1))
})

t.test('a region that describes an older state than is known is not believed, and the next is asked', async (t) => {
  const { call, a, b, versions } = two({ admitCount: 1 })
  a.push(changed(9, [NEXT.key]))
  b.push(changed(9, [NEXT.key]))
  b.deploy(NEXT, [NEXT_IMAGE], 9)
  await call('hello')
  t.same([a.asked, b.asked], [['hello'], ['hello']])
  t.equal((await call('hello')).heads[0]?.placement.version, '5')
  t.equal(versions.holds().length, 1)
})

t.test('management calls go to the nearest region, and to another only if they were certainly not sent', async (t) => {
  const { regions, a, b } = two()
  const control = { requestId: 'r', method: 'POST', rawPath: '/2015-03-31/functions', headers: '', body: new Uint8Array(0), clientIp: '127.0.0.1' }
  a.onControl = () => Promise.reject(new CodedError('ERR_REGION_LOST'))
  await t.rejects(regions.control(control), { code: 'ERR_REGION_LOST' })
  t.equal(b.controls.length, 0)
  a.onControl = () => Promise.reject(new CodedError('ERR_REGION_UNREACHABLE', ['x']))
  t.equal((await regions.control(control)).status, 200)
  a.disconnect()
  await regions.control(control)
  t.same([a.controls.length, b.controls.length], [2, 2])
  a.connect()
  a.onControl = b.onControl
  b.push(changed(9, [NEXT.key]))
  await regions.control(control)
  t.same([a.controls.length, b.controls.length], [2, 3], 'the nearer one is behind')
  a.disconnect()
  a.onControl = b.onControl = () => Promise.reject(new CodedError('ERR_REGION_UNREACHABLE', ['x']))
  await t.rejects(regions.control(control), { code: 'ERR_REGION_UNREACHABLE' })
})

t.test('a region that stands still is not asked while the other answers its pings', async (t) => {
  const { call, a, b } = two()
  await call('hello')
  a.unansweredMs = 2_000
  await call('hello')
  t.same([a.streams.length, b.streams.length], [1, 1])
})

t.test('with the time of the client over nothing is tried elsewhere', async (t) => {
  const { begin, a, b, clock } = two()
  a.onOpen = () => {}
  const { sink } = begin('hello', { deadlineAtMs: clock.nowMs() + 1_000 })
  clock.advance(1_000)
  a.streams[0]?.sink.error({ code: 'ERR_REGION_TIMEOUT', params: [1_000] })
  t.equal(sink.place, 'ERR_REGION_TIMEOUT')
  t.equal(b.streams.length, 0)
  b.onOpen = () => {}
  const next = begin('hello', { deadlineAtMs: clock.nowMs() + 1_000 })
  clock.advance(400)
  t.equal(a.streams.length, 1, 'the one that failed has become the farther one')
  b.streams[0]?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  t.equal(a.streams[1]?.frame.remainingMs, 600)
  a.streams[1]?.reply('in time')
  t.equal(next.sink.place, 'region; not-hot')
})

t.test('the result of a run is passed on as it is', async (t) => {
  const { call, a } = two()
  a.onOpen = (stream) => queueMicrotask(() => {
    stream.sink.started()
    stream.sink.end({ ...OK, outcome: 'exception', error: { code: 'ERR_FUNCTION_EXCEPTION', params: ['x'] } }, '4')
  })
  t.equal((await call('hello')).ends[0]?.result.outcome, 'exception')
})
