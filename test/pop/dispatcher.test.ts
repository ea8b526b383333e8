import t from 'tap'
import { CodedError } from '../../shared/errors.ts'
import { PAGE_BYTES } from '../../shared/microvm/manifest.ts'
import { ACCOUNT, OK, makeBuild, makeImage, makePop, refused, settle, type PopHarness, type PopHarnessOptions } from './harness.ts'

const MINUTE_MS = 60_000
const IMAGE = makeImage([1, 2])
const BUILD = makeBuild('hello', IMAGE, '4')

/** A POP at which `hello` is hot and complete. */
async function hot(options: PopHarnessOptions = {}): Promise<PopHarness> {
  const pop = makePop({ admitCount: 1, ...options })
  pop.link.deploy(BUILD, [IMAGE])
  pop.link.connect()
  await pop.call('hello')
  return pop
}

t.test('a full POP refuses at once, and an account beyond its limit too', async (t) => {
  const { begin, host, dispatcher } = await hot({ inFlightMax: 3, accountInFlightMax: 2 })
  host.onInvoke = () => {}
  const [first, second] = [begin('hello'), begin('hello')]
  t.equal(begin('hello').sink.place, 'ERR_ACCOUNT_LIMIT')
  t.equal(begin('hello', { account: '111111111111' }).sink.place, 'nothing')
  t.equal(begin('hello', { account: '222222222222' }).sink.place, 'ERR_QUEUE_FULL')
  t.equal(dispatcher.inFlight, 3)
  host.runs[0]?.reply('x')
  t.equal(dispatcher.inFlight, 2)
  t.equal(begin('hello').sink.place, 'nothing')
  t.same([first.sink.place, second.sink.place], ['local', 'nothing'])
})

t.test('the first calls are forwarded as not hot; three within five minutes bring the function here', async (t) => {
  const { call, link, clock, logged } = makePop()
  link.deploy(BUILD, [IMAGE])
  link.connect()
  t.equal((await call('hello')).place, 'region; not-hot')
  t.equal((await call('hello')).place, 'region; not-hot')
  t.equal((await call('hello')).place, 'region; not-hot', 'the third earns it')
  const local = await call('hello')
  t.equal(local.place, 'local')
  t.match(local.heads[0]?.placement, { version: '4', startKind: 'warm', stale: false, memoryMib: 128 })
  t.match(logged.filter(({ message }) => message === 'placement').map(({ fields }) => fields['reason']), ['not-hot'])
  clock.advance(1_001)
  await call('hello')
  t.match(logged.filter(({ message }) => message === 'placement').map(({ fields }) => fields['place']), ['forward', 'local'])
})

t.test('after an idle hour it is gone, and comes back the same way', async (t) => {
  const { call, clock, residency, host, hotSet } = await hot({ admitCount: 3 })
  for (let round = 0; round < 3; round++) await call('hello')
  t.equal((await call('hello')).place, 'local')
  clock.advance(60 * MINUTE_MS)
  await residency.sweep()
  t.equal(hotSet.memberCount, 0)
  t.notOk(host.hasImage(IMAGE.imageId))
  t.equal((await call('hello')).place, 'region; not-hot')
})

t.test('an image that is not complete is not used', async (t) => {
  const { call, link, host } = makePop({ admitCount: 1 })
  link.deploy(BUILD, [IMAGE])
  link.connect()
  link.held = []
  await call('hello')
  link.release()
  link.held = []
  await settle()
  t.notOk(host.hasImage(IMAGE.imageId))
  t.match((await call('hello')).place, /^region; (not-hot|no-image)$/)
  link.release()
  await settle()
  t.equal((await call('hello')).place, 'local')
})

t.test('a pull that fails gives the place back and is tried again later', async (t) => {
  const { call, clock, link, hotSet } = makePop({ admitCount: 1 })
  link.deploy(BUILD, [{ ...IMAGE, blocks: new Map() }])
  link.connect()
  await call('hello')
  await call('hello')
  t.equal(hotSet.memberCount, 0)
  link.deploy(BUILD, [IMAGE])
  t.equal((await call('hello')).place, 'region; not-hot')
  clock.advance(6_000)
  await call('hello')
  t.equal((await call('hello')).place, 'local')
})

t.test('a build that this POP cannot run is forwarded for ever, by its reason', async (t) => {
  const foreign = makeImage([1], null, 'engine-2')
  const { call, link, images } = makePop({ admitCount: 1 })
  link.deploy(makeBuild('native', foreign), [foreign])
  link.connect()
  await call('native')
  for (let round = 0; round < 3; round++) t.equal((await call('native')).place, 'region; capability')
  t.equal(images.counts.pulls, 1)
})

t.test('what declares or takes much CPU is forwarded, but not while there is no region', async (t) => {
  const { call, host, link } = await hot()
  link.deploy(makeBuild('declared', IMAGE, '1', { cpuMs: 5_000 }), [IMAGE])
  await call('declared')
  t.equal((await call('declared')).place, 'region; heavy')
  host.onInvoke = (run) => run.reply('slow', { ...OK, cpuUs: 200_000 })
  t.equal((await call('hello')).place, 'local')
  for (let round = 0; round < 30; round++) await call('hello')
  t.equal((await call('hello')).place, 'region; heavy')
  link.disconnect()
  t.equal((await call('hello')).place, 'local')
})

t.test('a host without room sends the call to the region, and says so', async (t) => {
  const { begin, call, host, link, dispatcher } = await hot({ localInFlightMax: 1 })
  host.onInvoke = () => {}
  begin('hello')
  t.equal((await call('hello')).place, 'region; capacity')
  host.runs[0]?.reply('x')
  host.onInvoke = (run) => run.sink.end(refused('ERR_QUEUE_FULL'))
  const { sink, answer } = begin('hello', { body: Buffer.from('one'), bodyMore: true })
  answer.write(Buffer.from('two'))
  await settle()
  t.equal(sink.place, 'region; capacity')
  t.equal(sink.ends.length, 1)
  t.same(link.streams.at(-1)?.written, ['two'], 'the rest of the body follows')
  t.equal(dispatcher.counts.shedToRegion, 1)
  t.equal(dispatcher.inFlight, 0)
  t.equal(dispatcher.localInFlight, 0)
})

t.test('a refusal stands when no region is there, when the body has gone in part, and when waiting was in vain', async (t) => {
  const { begin, host, link, dispatcher } = await hot()
  host.onInvoke = () => {}
  const streamed = begin('hello', { bodyMore: true })
  streamed.answer.write(Buffer.from('x'))
  host.runs.at(-1)?.sink.end(refused('ERR_QUEUE_FULL'))
  t.equal(streamed.sink.ends[0]?.result.error?.code, 'ERR_QUEUE_FULL')
  const waited = begin('hello')
  host.runs.at(-1)?.sink.end(refused('ERR_QUEUE_DEADLINE'))
  t.equal(waited.sink.ends[0]?.result.error?.code, 'ERR_QUEUE_DEADLINE')
  link.disconnect()
  host.onInvoke = (run) => run.sink.end(refused('ERR_QUEUE_FULL'))
  t.equal(begin('hello').sink.ends[0]?.result.error?.code, 'ERR_QUEUE_FULL')
  t.equal(dispatcher.inFlight, 0)
})

t.test('a run that began is never run again elsewhere', async (t) => {
  const { begin, host, link } = await hot()
  const before = link.streams.length
  host.onInvoke = (run) => run.sink.end({ ...OK, outcome: 'platformFault', error: { code: 'ERR_WORKER_LOST', params: ['x'] } })
  const { sink } = begin('hello')
  t.equal(sink.ends[0]?.result.outcome, 'platformFault')
  t.equal(link.streams.length, before)
})

t.test('cancel, resume and body reach the run that is here', async (t) => {
  const { begin, host } = await hot()
  host.onInvoke = () => {}
  const { answer } = begin('hello', { bodyMore: true })
  answer.write(Buffer.from('a'))
  answer.writeEnd()
  answer.resume()
  answer.cancel()
  const run = host.runs.at(-1)
  t.same([run?.written, run?.writeEnds, run?.resumes, run?.cancels], [['a'], 1, 1, 1])
})

t.test('when the hot set is full, more asked for displaces less asked for', async (t) => {
  const pop = makePop({ admitCount: 1, hotSetBytes: 3 * PAGE_BYTES })
  const other = makeBuild('other', makeImage([5, 6]))
  pop.link.deploy(BUILD, [IMAGE])
  pop.link.deploy(other, [makeImage([5, 6])])
  pop.link.connect()
  for (let round = 0; round < 3; round++) await pop.call('hello')
  t.equal((await pop.call('hello')).place, 'local')
  await pop.call('other')
  t.equal((await pop.call('other')).place, 'region; not-hot')
  for (let round = 0; round < 10; round++) {
    pop.clock.advance(6_000)
    await pop.call('other')
  }
  t.equal((await pop.call('other')).place, 'local')
  t.equal((await pop.call('hello')).place, 'region; not-hot')
  t.notOk(pop.host.hasImage(IMAGE.imageId))
})

t.test('when the host has less memory than the hot set, the lowest makes room', async (t) => {
  const pop = await hot()
  pop.host.imagesMax = 1
  const image = makeImage([5, 6])
  pop.link.deploy(makeBuild('other', image), [image])
  await pop.call('other')
  t.equal((await pop.call('other')).place, 'local')
  t.equal((await pop.call('hello')).place, 'region; not-hot')
})

t.test('two functions with equal code share the image, and it stays until both are gone', async (t) => {
  const pop = await hot()
  pop.link.deploy(makeBuild('twin', IMAGE), [IMAGE])
  await pop.call('twin')
  t.equal((await pop.call('twin')).place, 'local')
  t.equal(pop.host.adds, 1)
  pop.link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 9, builds: [] } })
  t.ok(pop.host.hasImage(IMAGE.imageId))
  pop.link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'twin', seq: 10, builds: [] } })
  t.notOk(pop.host.hasImage(IMAGE.imageId))
})

t.test('a new version is served from here once its image is, and the old image leaves', async (t) => {
  const { call, host, link, hotSet } = await hot()
  const next = makeImage([7])
  const build = makeBuild('hello', next, '5')
  link.deploy(build, [next], 5)
  link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 5, builds: [build.key] } })
  await settle()
  const sink = await call('hello')
  t.match(sink.heads[0]?.placement, { place: 'pop', version: '5' })
  t.notOk(host.hasImage(IMAGE.imageId))
  t.equal(hotSet.usedBytes, PAGE_BYTES)
})

t.test('a function deleted while its image is on its way leaves nothing behind', async (t) => {
  const { call, host, link, hotSet } = makePop({ admitCount: 1 })
  link.deploy(BUILD, [IMAGE])
  link.connect()
  await call('hello')
  await settle()
  const pop = makePop({ admitCount: 1 })
  pop.link.deploy(BUILD, [IMAGE])
  pop.link.connect()
  pop.begin('hello')
  await new Promise(setImmediate)
  pop.link.held = []
  await settle()
  pop.link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 9, builds: [] } })
  pop.link.release()
  await settle()
  t.equal(pop.hotSet.memberCount, 0)
  t.equal(pop.host.images.size, 0)
  t.ok(host.hasImage(IMAGE.imageId))
  t.equal(hotSet.memberCount, 1)
})

t.test('names that strangers make up do not push out what is hot, nor grow without end', async (t) => {
  const { call, begin, table } = await hot({ functionsMax: 20 })
  for (let index = 0; index < 500; index++) begin(`stranger-${index}`)
  await settle()
  t.ok(table.size <= 20)
  t.equal((await call('hello')).place, 'local')
})

t.test('management calls go to the region, or fail at once', async (t) => {
  const { dispatcher, link } = makePop()
  const control = { requestId: 'r', method: 'GET', rawPath: '/2015-03-31/functions', headers: '', body: new Uint8Array(0), clientIp: '127.0.0.1' }
  await t.rejects(dispatcher.control(control), { code: 'ERR_REGION_UNREACHABLE' })
  t.same(link.controls, [])
  link.connect()
  t.equal((await dispatcher.control(control)).status, 200)
  t.equal(link.controls[0], control)
  link.onControl = () => Promise.reject(new CodedError('ERR_REGION_LOST'))
  await t.rejects(dispatcher.control(control), { code: 'ERR_REGION_LOST' })
})

t.test('it is ready with sandboxes and a region, or cut off with something to serve', async (t) => {
  const { dispatcher, link, call } = makePop({ admitCount: 1 })
  t.same(dispatcher.readiness(), { ready: false, checks: { sandboxes: true, region: false } })
  link.deploy(BUILD, [IMAGE])
  link.connect()
  t.ok(dispatcher.readiness().ready)
  await call('hello')
  link.disconnect()
  t.same(dispatcher.readiness(), { ready: true, checks: { sandboxes: true, region: false } })
})
