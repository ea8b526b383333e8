import t from 'tap'
import { parseHotList, HotList } from '../../../shared/cluster/hot-list.ts'
import { RingStore } from '../../../shared/cluster/ring-store.ts'
import { firstRing, nextRing, ringKey, serializeRing } from '../../../shared/place/ring.ts'
import { HOT_LIST_MAX } from '../../../shared/limits.ts'
import { MemoryCoordination } from '../../support/memory-coordination.ts'
import { testLog, until } from '../link/harness.ts'
import { imageOf, startItemNode, startNode, TestImages, type TestNode } from './harness.ts'

const GROUP = 'region-test'

function membersOf({ cluster }: TestNode): readonly string[] {
  return cluster.ring?.document.members.map(({ id }) => id) ?? []
}

async function untilRing(nodes: readonly TestNode[], ...members: readonly string[]): Promise<void> {
  await until(() => nodes.every((node) => membersOf(node).join() === members.join()), `ring of ${members.join()}`)
}

t.test('the leader makes one version of what happens together; every member has it, and says so', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startNode(t, coordination, 'a')
  await untilRing([a], 'a')
  const b = await startNode(t, coordination, 'b')
  const c = await startNode(t, coordination, 'c')
  await untilRing([a, b, c], 'a', 'b', 'c')
  t.equal(a.cluster.ring?.version, 2, 'two joins within a second are one version')
  t.same([a, b, c].map(({ cluster }) => cluster.leads), [true, false, false])
  await until(() => a.peers.members().every(({ info }) => info.ring === 2))
})

t.test('a member that joins has loaded what it will own before it is in the ring', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startNode(t, coordination, 'a')
  for (let index = 0; index < 60; index += 1) await a.images.load(imageOf(`f${index}`))
  await untilRing([a], 'a')
  const early: number[] = []
  const b = await startNode(t, coordination, 'b')
  a.cluster.onRing(() => early.push(b.images.here.size))
  await untilRing([a, b], 'a', 'b')
  const owned = a.images.list().filter(({ account, functionName }) => b.cluster.ring?.owners(ringKey(account, functionName), 'pool').includes('b'))
  t.ok(owned.length > 10, 'its share')
  t.same([...b.images.here.keys()].sort(), owned.map(({ imageId }) => imageId).sort(), 'what it owns and nothing else')
  t.same(early, [owned.length])
})

t.test('one with little room loads the latest used and serves', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startNode(t, coordination, 'a')
  for (let index = 0; index < 60; index += 1) await a.images.load(imageOf(`f${index}`))
  await untilRing([a], 'a')
  const b = await startNode(t, coordination, 'b')
  const images = new TestImages()
  images.room = 3
  const small = await startNode(t, coordination, 'c', { images })
  await untilRing([a, b, small], 'a', 'b', 'c')
  t.equal(images.here.size, 3)
})

t.test('a member that drains has others load what they will own, leaves the ring, and stays its predecessor', async (t) => {
  const coordination = new MemoryCoordination()
  const nodes = [await startNode(t, coordination, 'a'), await startNode(t, coordination, 'b'), await startNode(t, coordination, 'c')]
  const [a, b, c] = nodes as [TestNode, TestNode, TestNode]
  await untilRing(nodes, 'a', 'b', 'c')
  const names = Array.from({ length: 60 }, (_, index) => `f${index}`)
  for (const name of names) {
    for (const node of nodes) if (a.cluster.ring?.owners(ringKey('a', name), 'pool')[0] === node.cluster.self) await node.images.load(imageOf(name))
  }
  const had = a.images.list()
  await a.cluster.drain(20_000)
  t.same(membersOf(a), ['b', 'c'])
  await untilRing([b, c], 'b', 'c')
  for (const { account, functionName, imageId } of had) {
    const owner = b.cluster.ring?.owners(ringKey(account, functionName), 'pool')[0] === 'b' ? b : c
    t.ok(owner.images.here.has(imageId), `${functionName} is at its next owner`)
    t.same(owner.cluster.ring?.predecessors(ringKey(account, functionName), owner.cluster.self, 'pool'), ['a'])
  }
  await a.cluster.leave()
  t.ok(had.length > 5)
  await until(() => b.cluster.leads || c.cluster.leads, 'another one leads')
  const d = await startNode(t, coordination, 'd')
  await untilRing([b, c, d], 'b', 'c', 'd')
})

t.test('one that is alone drains at once', async (t) => {
  const a = await startNode(t, new MemoryCoordination(), 'a')
  const startedAtMs = performance.now()
  await a.cluster.drain(20_000)
  t.ok(performance.now() - startedAtMs < 1_000)
})

t.test('a member whose lease is lost leaves the ring, forgets its state and comes back as another one', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startNode(t, coordination, 'a')
  const b = await startNode(t, coordination, 'b', { names: ['b2'] })
  await untilRing([a, b], 'a', 'b')
  const members = await coordination.members(GROUP)
  members.expire('b')
  await until(() => b.lost.length === 1)
  t.same(b.lost, ['b'])
  await untilRing([a, b], 'a', 'b2')
  t.equal(b.cluster.self, 'b2')
})

t.test('rolled back to a ring without it, a member gives its state away and does not come back by itself', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startNode(t, coordination, 'a')
  await untilRing([a], 'a')
  const b = await startNode(t, coordination, 'b')
  await untilRing([a, b], 'a', 'b')
  const store = new RingStore(await coordination.documents('ring'), GROUP, testLog().log)
  await store.start()
  await store.change((document) => (document === null ? null : nextRing(document, { members: [{ id: 'a', weight: 1 }] }, new Set())))
  await untilRing([a, b], 'a')
  await until(() => a.peers.member('b')?.info.state === 'draining')
  const c = await startNode(t, coordination, 'c')
  await untilRing([a, b, c], 'a', 'c')
  t.equal(b.cluster.self, 'b', 'it goes on under its name, without owning anything')
  store.stop()
})

t.test('an attribute that has more members serve a key has the new ones load what they own', async (t) => {
  const coordination = new MemoryCoordination()
  const nodes = [await startNode(t, coordination, 'a'), await startNode(t, coordination, 'b'), await startNode(t, coordination, 'c')]
  const [a] = nodes as [TestNode]
  await untilRing(nodes, 'a', 'b', 'c')
  for (let index = 0; index < 30; index += 1) {
    for (const node of nodes) if (a.cluster.ring?.owners(ringKey('a', `f${index}`), 'pool')[0] === node.cluster.self) await node.images.load(imageOf(`f${index}`))
  }
  const store = new RingStore(await coordination.documents('ring'), GROUP, testLog().log)
  await store.start()
  await store.change((document) => (document === null ? null : nextRing(document, { attributes: { managersPerKey: 3 } }, new Set())))
  await until(() => nodes.every(({ images }) => images.here.size === 30))
  t.same(nodes.map(({ cluster }) => cluster.ring?.document.attributes.managersPerKey), [3, 3, 3])
  t.throws(() => nextRing(a.cluster.ring?.document ?? firstRing([]), { attributes: { managersPerKey: 4 } }, new Set()), { code: 'ERR_RING_REFUSED' })
  store.stop()
})

t.test('state with one owner follows the ring: a member that joins gets its share, one that drains keeps none', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startItemNode(t, coordination, 'a')
  await untilRing([a], 'a')
  const keys = Array.from({ length: 40 }, (_, index) => ringKey('a', 'f', `session-${index}`))
  for (const key of keys) t.equal(await a.use(key), 'new')
  for (const key of keys) t.equal(await a.use(key), 'held')
  const b = await startItemNode(t, coordination, 'b')
  const c = await startItemNode(t, coordination, 'c')
  await untilRing([a, b, c], 'a', 'b', 'c')
  const nodes = [a, b, c]
  const ownerOf = (key: string): (typeof nodes)[number] => nodes.find(({ cluster }) => cluster.self === b.cluster.ring?.owners(key, 'single')[0]) ?? a
  await until(() => keys.every((key) => ownerOf(key).items.has(key)), 'each is with its owner')
  for (const key of keys) t.not(await ownerOf(key).use(key), 'new')
  await until(() => keys.every((key) => nodes.filter(({ items }) => items.has(key)).length === 1), 'each is with one member')
  await a.cluster.drain(20_000)
  t.equal(a.items.size, 0)
  t.equal(b.items.size + c.items.size, keys.length)
  for (const key of keys) t.equal([...(ownerOf(key).items.get(key) ?? [])].length, 3, 'and knows all that was done')
  await a.cluster.leave()
})

t.test('what comes from outside: a ring that is none is passed over, lists that are none are refused', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startNode(t, coordination, 'a')
  await untilRing([a], 'a')
  const documents = await coordination.documents('ring')
  const seen = await documents.get(GROUP)
  await documents.update(GROUP, Buffer.from('{"version":99}'), seen?.revision ?? 0)
  await until(() => a.logged.lines.some(({ message }) => message === 'a ring document cannot be used'))
  t.equal(a.cluster.ring?.version, 1)
  const b = await startNode(t, coordination, 'b')
  await untilRing([a, b], 'a', 'b')
  t.equal(await b.peers.ask('a', 'hot-push', [{ account: 1 }], 5_000), 0)
  t.equal(await b.peers.ask('a', 'hot-push', 'images', 5_000), 0)
  const older = await documents.get(GROUP)
  await documents.update(GROUP, serializeRing(firstRing([{ id: 'z', weight: 1 }])), older?.revision ?? 0)
  await new Promise((resolve) => setImmediate(resolve))
  t.same(membersOf(a), ['a', 'b'], 'an older version does not come back')
})

t.test('a hot list is bounded and knows what was used last', (t) => {
  const list = new HotList()
  for (let index = 0; index <= HOT_LIST_MAX; index += 1) list.used('a', `f${index}`, imageOf(`f${index}`).imageId)
  list.used('a', 'f5', imageOf('f5').imageId)
  const all = list.list(() => true)
  t.equal(all.length, HOT_LIST_MAX)
  t.equal(all[0]?.functionName, 'f5')
  t.notOk(all.some(({ functionName }) => functionName === 'f0'))
  t.equal(list.list((imageId) => imageId === imageOf('f7').imageId).length, 1)
  t.equal(list.list(() => true).length, 1, 'what was not here is forgotten')
  t.equal(parseHotList([{ ...imageOf('f'), imageId: 'x' }]), null)
  t.equal(parseHotList(new Array(HOT_LIST_MAX + 1).fill(imageOf('f'))), null)
  t.same(parseHotList([imageOf('f')]), [imageOf('f')])
  t.end()
})
