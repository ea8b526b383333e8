import t from 'tap'
import { CodedError } from '../../shared/errors.ts'
import { ACCOUNT, makeBuild, makeImage, makePop, settle } from './harness.ts'

const IMAGE_1 = makeImage([1])
const IMAGE_2 = makeImage([2])
const V1 = makeBuild('hello', IMAGE_1, '1')
const V2 = makeBuild('hello', IMAGE_2, '2')

t.test('what nobody has run is not asked about, and names that strangers make up cost no question', async (t) => {
  const { call, link } = makePop()
  link.connect()
  link.onOpen = (stream) => queueMicrotask(() => stream.sink.error({ code: 'ERR_FUNCTION_NOT_FOUND', params: ['x'] }))
  for (let index = 0; index < 20; index++) await call(`stranger-${index}`)
  t.same(link.asked, [])
})

t.test('what a region has run is asked about once', async (t) => {
  const { begin, link, versions, table } = makePop()
  link.deploy(V1, [IMAGE_1])
  link.connect()
  for (let index = 0; index < 5; index++) begin('hello')
  await settle()
  t.same(link.asked, ['hello'])
  t.equal(versions.resolve(table.get(ACCOUNT, 'hello'), null)?.build, V1)
  t.equal(versions.resolve(table.get(ACCOUNT, 'hello'), 'prod'), null)
})

t.test('a question that fails is asked again, but not at once', async (t) => {
  const { call, clock, link } = makePop()
  link.deploy(V1, [IMAGE_1])
  link.connect()
  link.failure = new CodedError('ERR_REGION_TIMEOUT', [1])
  await call('hello')
  await call('hello')
  t.same(link.asked, ['hello'])
  link.failure = null
  clock.advance(1_001)
  await call('hello')
  t.same(link.asked, ['hello', 'hello'])
})

t.test('after a change the old version is never used again, and the new one is asked for if the function is hot', async (t) => {
  const { call, link, versions, table } = makePop({ admitCount: 1 })
  link.deploy(V1, [IMAGE_1])
  link.connect()
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  const entry = table.get(ACCOUNT, 'hello')
  link.deploy(V2, [IMAGE_2], 5)
  link.held = []
  link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 5, builds: [V2.key] } })
  t.equal(versions.resolve(entry, null), null)
  t.equal((await call('hello')).place, 'region; version-unknown')
  link.release()
  await settle()
  t.equal(versions.resolve(entry, null)?.build, V2)
  t.equal((await call('hello')).place, 'local')
})

t.test('a change that was known already changes nothing', async (t) => {
  const { call, link, versions, table } = makePop()
  link.deploy(V2, [IMAGE_2], 7)
  link.connect()
  await call('hello')
  link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 5, builds: [V2.key] } })
  t.equal(versions.resolve(table.get(ACCOUNT, 'hello'), null)?.build, V2)
})

t.test('a description from before a change is not believed', async (t) => {
  const { call, clock, link, versions, table } = makePop()
  link.deploy(V1, [IMAGE_1], 3)
  link.connect()
  link.held = []
  await call('hello')
  link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 5, builds: [V2.key] } })
  link.release()
  await settle()
  t.equal(versions.resolve(table.get(ACCOUNT, 'hello'), null), null)
  link.deploy(V2, [IMAGE_2], 5)
  clock.advance(1_001)
  await call('hello')
  t.equal(versions.resolve(table.get(ACCOUNT, 'hello'), null)?.build, V2)
})

t.test('a deleted function is gone at once: no place, no image, no answer from here', async (t) => {
  const { call, link, host, hotSet } = makePop({ admitCount: 1 })
  link.deploy(V1, [IMAGE_1])
  link.connect()
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  link.descriptions.clear()
  link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 9, builds: [] } })
  t.equal(hotSet.memberCount, 0)
  t.notOk(host.hasImage(IMAGE_1.imageId))
  t.equal((await call('hello')).place, 'region; not-hot')
})

t.test('cut off, what is known is served and marked stale, but not for ever', async (t) => {
  const { call, link, clock } = makePop({ admitCount: 1, staleMaxMs: 60_000 })
  link.deploy(V1, [IMAGE_1])
  link.connect()
  await call('hello')
  t.equal((await call('hello')).heads[0]?.placement.stale, false)
  link.disconnect()
  clock.advance(59_000)
  const stale = await call('hello')
  t.match(stale.heads[0]?.placement, { place: 'pop', stale: true })
  t.equal((await call('other')).place, 'ERR_REGION_UNREACHABLE')
  clock.advance(2_000)
  t.equal((await call('hello')).place, 'ERR_REGION_UNREACHABLE')
  link.connect([{ account: ACCOUNT, functionName: 'hello', seq: 1, builds: [V1.key] }], 1)
  t.match((await call('hello')).heads[0]?.placement, { place: 'pop', stale: false })
})

t.test('what was deleted or changed while cut off is known before the first request after it', async (t) => {
  const { begin, call, link } = makePop({ admitCount: 1 })
  const other = makeBuild('other', IMAGE_2)
  link.deploy(V1, [IMAGE_1])
  link.deploy(other, [IMAGE_2])
  link.connect()
  for (const name of ['hello', 'other']) {
    await call(name)
    t.equal((await call(name)).place, 'local')
  }
  link.disconnect()
  link.descriptions.delete('hello')
  link.connect([{ account: ACCOUNT, functionName: 'other', seq: 1, builds: [other.key] }], 12)
  t.equal(begin('hello').sink.place, 'nothing', 'not answered from here')
  t.equal(begin('other').sink.place, 'local')
})

t.test('a hot function that changed while cut off is asked about at reconnect', async (t) => {
  const { call, link, versions, table } = makePop({ admitCount: 1 })
  link.deploy(V1, [IMAGE_1])
  link.connect()
  await call('hello')
  link.disconnect()
  link.deploy(V2, [IMAGE_2], 20)
  link.connect([{ account: ACCOUNT, functionName: 'hello', seq: 20, builds: [V2.key] }], 20)
  await settle()
  t.equal(versions.resolve(table.get(ACCOUNT, 'hello'), null)?.build, V2)
})

t.test('a weighted alias is drawn anew for each call, in proportion', async (t) => {
  const { call, link, versions, table } = makePop()
  link.deploy(V1, [IMAGE_1, IMAGE_2], 1, 'prod')
  link.descriptions.set('hello:prod', { seq: 1, routes: [{ weight: 0.75, build: V1 }, { weight: 0.25, build: V2 }], sessionKey: null })
  link.connect()
  await call('hello', { qualifier: 'prod' })
  const entry = table.get(ACCOUNT, 'hello')
  let first = 0
  for (let draw = 0; draw < 10_000; draw++) if (versions.resolve(entry, 'prod')?.build === V1) first++
  t.ok(Math.abs(first / 10_000 - 0.75) < 0.02, String(first))
  link.push({ kind: 'changed', versions: { account: ACCOUNT, functionName: 'hello', seq: 2, builds: [V1.key] } })
  t.equal(versions.resolve(entry, 'prod'), null, 'one of its builds is gone')
})

t.test('the link is told of every function of which anything is known', async (t) => {
  const { call, link, versions } = makePop()
  link.deploy(V1, [IMAGE_1])
  link.connect()
  await call('hello')
  await call('unknown')
  t.same(versions.holds(), [{ account: ACCOUNT, functionName: 'hello' }])
})
