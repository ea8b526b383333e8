import t from 'tap'
import type { ImageId } from '../../shared/brand.ts'
import { CodedError } from '../../shared/errors.ts'
import { PAGE_BYTES } from '../../shared/microvm/manifest.ts'
import { MemoryDisk, makeBuild, makeImage, makePop, refOf, settle, type FakeImage } from './harness.ts'

const BASE = makeImage([1, 2, 3])
const PRELUDE = makeImage([4, 5], BASE.imageId)
const APP = makeImage([6, 7, 8], PRELUDE.imageId)
const OTHER = makeImage([6, 9], PRELUDE.imageId)

function region(link: { images: Map<string, FakeImage> }, ...images: FakeImage[]): void {
  for (const image of images) link.images.set(image.imageId, image)
}

t.test('a pull without a region, without the image, or with a block missing fails and applies nothing', async (t) => {
  const { images, link, host } = makePop()
  link.connect()
  t.match(await images.pull(refOf(APP)), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
  link.failure = new CodedError('ERR_REGION_LOST')
  t.match(await images.pull(refOf(APP)), { kind: 'failed', error: { code: 'ERR_REGION_LOST' } })
  link.failure = null
  region(link, { ...BASE, blocks: new Map() })
  t.match(await images.pull(refOf(BASE)), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
  t.equal(host.images.size, 0)
  t.equal(images.counts.pullFailures, 3)
})

t.test('an image of another engine build cannot run here, and one that finds no memory says so', async (t) => {
  const { images, link, host } = makePop()
  const foreign = makeImage([1], null, 'engine-2')
  region(link, foreign, BASE)
  t.same(await images.pull(refOf(foreign)), { kind: 'incapable' })
  host.imagesMax = 0
  t.same(await images.pull(refOf(BASE)), { kind: 'no-room' })
})

t.test('a chain without an end is refused', async (t) => {
  const { images, link } = makePop()
  let parent = BASE
  region(link, BASE)
  for (let layer = 0; layer < 70; layer++) {
    parent = makeImage([100 + layer], parent.imageId)
    region(link, parent)
  }
  t.match(await images.pull(refOf(parent)), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
})

t.test('ancestors come first, and what is here already is not fetched', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, PRELUDE, APP, OTHER)
  t.same(await images.pull(refOf(APP)), { kind: 'ready' })
  t.same([...host.images.keys()], [BASE.imageId, PRELUDE.imageId, APP.imageId])
  t.equal(link.blocksAsked.length, 8)
  t.same(await images.pull(refOf(OTHER)), { kind: 'ready' })
  t.equal(link.blocksAsked.length, 9, 'one of its two pages was on disk')
  t.equal(link.chainsAsked, 2)
  t.equal(link.blockRequests, 2)
  t.equal(await images.sizeOf(refOf(APP)), 3 * PAGE_BYTES)
})

t.test('pulls of one image at once are one pull', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE)
  const outcomes = await Promise.all([images.pull(refOf(BASE)), images.pull(refOf(BASE)), images.pull(refOf(BASE))])
  t.same(outcomes.map(({ kind }) => kind), ['ready', 'ready', 'ready'])
  t.equal(link.chainsAsked, 1)
  t.equal(host.adds, 1)
  t.equal(images.counts.pulls, 1)
})

t.test('many pulls at once take turns, and all come to an end', async (t) => {
  const { images, link } = makePop()
  const many = Array.from({ length: 30 }, (_, index) => makeImage([1000 + index]))
  region(link, ...many)
  link.held = []
  const pulls = many.map((image) => images.pull(refOf(image)))
  await settle()
  t.equal(link.chainsAsked, 4)
  link.release()
  t.ok((await Promise.all(pulls)).every(({ kind }) => kind === 'ready'))
})

t.test('after a restart the disk is enough', async (t) => {
  const disk = new MemoryDisk()
  const before = makePop({ disk })
  region(before.link, BASE, PRELUDE, APP)
  await before.images.pull(refOf(APP))
  const after = makePop({ disk })
  t.same(await after.images.pull(refOf(APP)), { kind: 'ready' })
  t.equal(after.link.chainsAsked, 0)
  t.same(after.link.blocksAsked, [])
})

t.test('what is altered on disk is pulled again', async (t) => {
  const disk = new MemoryDisk()
  const before = makePop({ disk })
  region(before.link, BASE)
  await before.images.pull(refOf(BASE))
  const [first] = [...BASE.blocks.keys()]
  if (first !== undefined) disk.blocks.set(first, Buffer.alloc(PAGE_BYTES, 0xff))
  const after = makePop({ disk })
  region(after.link, BASE)
  t.same(await after.images.pull(refOf(BASE)), { kind: 'ready' })
  t.same(after.link.blocksAsked, [first])
  const stored = disk.images.get(BASE.imageId)
  if (stored !== undefined) disk.images.set(BASE.imageId, { ...stored, manifest: Buffer.from('{}') })
  const again = makePop({ disk })
  region(again.link, BASE)
  t.same(await again.images.pull(refOf(BASE)), { kind: 'ready' })
  t.equal(again.link.chainsAsked, 1)
})

t.test('a full disk keeps nothing, and the image runs all the same', async (t) => {
  const { images, link, disk, host } = makePop()
  disk.full = true
  region(link, BASE)
  t.same(await images.pull(refOf(BASE)), { kind: 'ready' })
  t.ok(host.hasImage(BASE.imageId))
  t.equal(disk.images.size, 0)
})

t.test('beyond the disk budget those leave whose use is worth least per byte, parents of others stay', async (t) => {
  const rates = new Map<ImageId, number>()
  const { images, link, disk } = makePop({ diskBudgetBytes: 45_000, rates: () => rates })
  const apps = Array.from({ length: 6 }, (_, index) => makeImage([2000 + index], BASE.imageId))
  region(link, BASE, ...apps)
  const [rare, ...others] = apps
  if (rare === undefined) return
  for (const app of others) rates.set(app.imageId, 50)
  rates.set(rare.imageId, 2)
  for (const app of apps) await images.pull(refOf(app))
  await images.sweep()
  t.ok(disk.images.has(BASE.imageId))
  t.notOk(disk.images.has(rare.imageId), 'though it is not the one that was used longest ago')
  t.ok(disk.images.size <= 4)
  t.ok(images.counts.diskEvictions >= 1)
  const worthless = makeImage([3000, 3001, 3002], BASE.imageId)
  region(link, worthless)
  for (const app of apps) disk.rates.set(app.imageId, 1000)
  rates.set(worthless.imageId, 0.001)
  t.same(await images.pull(refOf(worthless)), { kind: 'ready' })
  t.notOk(disk.images.has(worthless.imageId), 'it runs, but takes no place from those that are worth more')
  t.equal(images.counts.diskRefusals, 1)
})

t.test('a smaller budget is reached by the next sweep', async (t) => {
  const disk = new MemoryDisk()
  const before = makePop({ disk })
  const apps = Array.from({ length: 6 }, (_, index) => makeImage([2000 + index]))
  region(before.link, ...apps)
  for (const app of apps) await before.images.pull(refOf(app))
  const after = makePop({ disk, diskBudgetBytes: 30_000 })
  await after.images.sweep()
  t.ok(disk.images.size <= 3)
  t.equal(disk.usesWritten, 1)
})

t.test('a chain is one question, also after the question how large the image is, and says what is known', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, PRELUDE, APP, OTHER)
  host.images.set(BASE.imageId, new Map())
  host.images.set(PRELUDE.imageId, new Map())
  t.equal(await images.sizeOf(refOf(APP)), 3 * PAGE_BYTES)
  await images.pull(refOf(APP))
  t.equal(link.chainsAsked, 1)
  t.equal(link.blockRequests, 1)
  await images.pull(refOf(OTHER))
  t.ok(link.known.includes(PRELUDE.imageId), "the engine's own images need not be sent again")
})

t.test('a chain that does not hang together, or a manifest that is altered, is refused', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, PRELUDE)
  link.images.set(APP.imageId, { ...APP, sealed: OTHER.sealed })
  t.match(await images.pull(refOf(APP)), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
  link.images.set(APP.imageId, { ...APP, manifest: { ...APP.manifest, parentId: BASE.imageId } })
  t.match(await images.pull(refOf(APP)), { kind: 'failed', error: { code: 'ERR_LINK_PROTOCOL' } })
  t.equal(host.images.size, 0)
})

t.test('what two pulls at once both need is fetched once', async (t) => {
  const { images, link, host } = makePop()
  const layer = makeImage([70, 71, 72], BASE.imageId)
  const [one, two] = [makeImage([80, 81], layer.imageId), makeImage([80, 82], layer.imageId)]
  region(link, BASE, layer, one, two)
  t.same((await Promise.all([images.pull(refOf(one, 'one')), images.pull(refOf(two, 'two'))])).map(({ kind }) => kind), ['ready', 'ready'])
  t.equal(link.blocksAsked.length, new Set(link.blocksAsked).size)
  t.equal(link.blocksAsked.length, 3 + 3 + 3)
  t.equal(host.adds, 4)
})

t.test('a pull that waited for another one, which failed, asks itself', async (t) => {
  const { images, link } = makePop()
  const [one, two] = [makeImage([80, 81], BASE.imageId), makeImage([80, 82], BASE.imageId)]
  region(link, BASE, one, two)
  link.held = []
  const pulls = [images.pull(refOf(one, 'one')), images.pull(refOf(two, 'two'))]
  await settle()
  // Both have asked for their chains. From here on the first is not granted its function any more.
  const held = link.held
  link.held = null
  for (const go of held) go()
  await settle()
  link.refused.add('one')
  t.match(await Promise.all(pulls), [{ kind: 'ready' }, { kind: 'ready' }])
  const late = makePop()
  region(late.link, BASE, one, two)
  const chains = [late.images.sizeOf(refOf(one, 'one')), late.images.sizeOf(refOf(two, 'two'))]
  await Promise.all(chains)
  late.link.refused.add('one')
  t.match(await Promise.all([late.images.pull(refOf(one, 'one')), late.images.pull(refOf(two, 'two'))]), [{ kind: 'failed', error: { code: 'ERR_LINK_IDENTITY' } }, { kind: 'ready' }])
})

t.test('pages that a request was seen to need are fetched first', async (t) => {
  const { images, link } = makePop()
  const app = makeImage([10, 11, 12, 13, 14], null, undefined, [3, 1])
  region(link, app)
  await images.pull(refOf(app))
  const order = link.blocksAsked.map((id) => [...app.blocks.keys()].indexOf(id))
  t.same(order, [1, 3, 0, 2, 4])
})

t.test('ancestors leave memory after the last image made from them, and not while a pull builds on them', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, PRELUDE, APP, OTHER)
  await images.pull(refOf(APP))
  await images.pull(refOf(OTHER))
  t.equal(images.sharedBytes, 5 * PAGE_BYTES, 'base and prelude')
  images.drop(APP.imageId)
  t.same([...host.images.keys()], [BASE.imageId, PRELUDE.imageId, OTHER.imageId])
  link.held = []
  await images.sizeOf(refOf(OTHER))
  const third = makeImage([90], PRELUDE.imageId)
  region(link, third)
  const pull = images.pull(refOf(third))
  await settle()
  images.drop(OTHER.imageId)
  link.release()
  t.same(await pull, { kind: 'ready' })
  t.ok(host.hasImage(third.imageId))
  images.drop(third.imageId)
  t.equal(host.images.size, 0)
})

t.test('a member whose image the host has let go of after all is brought back when it is asked for', async (t) => {
  const { link, host, call, hotSet } = makePop({ admitCount: 1 })
  link.deploy(makeBuild('hello', BASE), [BASE])
  link.connect()
  await call('hello')
  await call('hello')
  t.equal((await call('hello')).place, 'local')
  const { usedBytes } = hotSet
  host.images.delete(BASE.imageId)
  t.equal((await call('hello')).place, 'region; no-image')
  t.equal((await call('hello')).place, 'local')
  t.equal(hotSet.usedBytes, usedBytes)
})

t.test('blocks that the scrub finds altered are fetched again, in the name in which they were asked for', async (t) => {
  const { images, link, disk } = makePop()
  region(link, BASE, PRELUDE, APP)
  await images.pull(refOf(APP, 'app'))
  const [first] = [...APP.blocks.keys()]
  if (first === undefined) return
  disk.blocks.set(first, Buffer.alloc(PAGE_BYTES, 0xff))
  link.refused.add('app')
  await images.sweep()
  t.equal(disk.block(first), null, 'it could not be had')
  link.refused.clear()
  await images.sweep()
  t.ok(disk.block(first))
  t.same(link.blocksAsked.slice(-1), [first])
  t.equal(images.counts.blocksAltered, 2)
})

t.test('an image in use is dropped once it is free, unless it is wanted again', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, OTHER, PRELUDE)
  await images.pull(refOf(BASE))
  host.busy.add(BASE.imageId)
  images.drop(BASE.imageId)
  t.ok(host.hasImage(BASE.imageId))
  host.busy.clear()
  await images.sweep()
  t.notOk(host.hasImage(BASE.imageId))
  await images.pull(refOf(BASE))
  host.busy.add(BASE.imageId)
  images.drop(BASE.imageId)
  await images.pull(refOf(BASE))
  host.busy.clear()
  await images.sweep()
  t.ok(host.hasImage(BASE.imageId))
})
