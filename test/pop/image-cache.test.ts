import t from 'tap'
import { CodedError } from '../../shared/errors.ts'
import { PAGE_BYTES } from '../../shared/microvm/manifest.ts'
import { MemoryDisk, makeImage, makePop, settle, type FakeImage } from './harness.ts'

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
  t.match(await images.pull(APP.imageId), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
  link.failure = new CodedError('ERR_REGION_LOST')
  t.match(await images.pull(APP.imageId), { kind: 'failed', error: { code: 'ERR_REGION_LOST' } })
  link.failure = null
  region(link, { ...BASE, blocks: new Map() })
  t.match(await images.pull(BASE.imageId), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
  t.equal(host.images.size, 0)
  t.equal(images.counts.pullFailures, 3)
})

t.test('an image of another engine build cannot run here, and one that finds no memory says so', async (t) => {
  const { images, link, host } = makePop()
  const foreign = makeImage([1], null, 'engine-2')
  region(link, foreign, BASE)
  t.same(await images.pull(foreign.imageId), { kind: 'incapable' })
  host.imagesMax = 0
  t.same(await images.pull(BASE.imageId), { kind: 'no-room' })
})

t.test('a chain without an end is refused', async (t) => {
  const { images, link } = makePop()
  let parent = BASE
  region(link, BASE)
  for (let layer = 0; layer < 12; layer++) {
    parent = makeImage([100 + layer], parent.imageId)
    region(link, parent)
  }
  t.match(await images.pull(parent.imageId), { kind: 'failed', error: { code: 'ERR_STORE_BLOCK' } })
})

t.test('ancestors come first, and what is here already is not fetched', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, PRELUDE, APP, OTHER)
  t.same(await images.pull(APP.imageId), { kind: 'ready' })
  t.same([...host.images.keys()], [BASE.imageId, PRELUDE.imageId, APP.imageId])
  t.equal(link.blocksAsked.length, 8)
  t.same(await images.pull(OTHER.imageId), { kind: 'ready' })
  t.equal(link.blocksAsked.length, 9, 'one of its two pages was on disk')
  t.equal(link.manifestsAsked, 4)
  t.equal(await images.sizeOf(APP.imageId), 3 * PAGE_BYTES)
})

t.test('pulls of one image at once are one pull', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE)
  const outcomes = await Promise.all([images.pull(BASE.imageId), images.pull(BASE.imageId), images.pull(BASE.imageId)])
  t.same(outcomes.map(({ kind }) => kind), ['ready', 'ready', 'ready'])
  t.equal(link.manifestsAsked, 1)
  t.equal(host.adds, 1)
  t.equal(images.counts.pulls, 1)
})

t.test('many pulls at once take turns, and all come to an end', async (t) => {
  const { images, link } = makePop()
  const many = Array.from({ length: 30 }, (_, index) => makeImage([1000 + index]))
  region(link, ...many)
  link.held = []
  const pulls = many.map(({ imageId }) => images.pull(imageId))
  await settle()
  t.equal(link.manifestsAsked, 4)
  link.release()
  t.ok((await Promise.all(pulls)).every(({ kind }) => kind === 'ready'))
})

t.test('after a restart the disk is enough', async (t) => {
  const disk = new MemoryDisk()
  const before = makePop({ disk })
  region(before.link, BASE, PRELUDE, APP)
  await before.images.pull(APP.imageId)
  const after = makePop({ disk })
  t.same(await after.images.pull(APP.imageId), { kind: 'ready' })
  t.equal(after.link.manifestsAsked, 0)
  t.same(after.link.blocksAsked, [])
})

t.test('what is altered on disk is pulled again', async (t) => {
  const disk = new MemoryDisk()
  const before = makePop({ disk })
  region(before.link, BASE)
  await before.images.pull(BASE.imageId)
  const [first] = [...BASE.blocks.keys()]
  if (first !== undefined) disk.blocks.set(first, Buffer.alloc(PAGE_BYTES, 0xff))
  const after = makePop({ disk })
  region(after.link, BASE)
  t.same(await after.images.pull(BASE.imageId), { kind: 'ready' })
  t.same(after.link.blocksAsked, [first])
  disk.images.set(BASE.imageId, Buffer.from('{}'))
  const again = makePop({ disk })
  region(again.link, BASE)
  t.same(await again.images.pull(BASE.imageId), { kind: 'ready' })
  t.equal(again.link.manifestsAsked, 1)
})

t.test('a full disk keeps nothing, and the image runs all the same', async (t) => {
  const { images, link, disk, host } = makePop()
  disk.full = true
  region(link, BASE)
  t.same(await images.pull(BASE.imageId), { kind: 'ready' })
  t.ok(host.hasImage(BASE.imageId))
  t.equal(disk.images.size, 0)
})

t.test('beyond the disk budget the least recently used leave, parents of others stay', async (t) => {
  const { images, link, disk, clock } = makePop({ diskBudgetBytes: 45_000 })
  const apps = Array.from({ length: 6 }, (_, index) => makeImage([2000 + index], BASE.imageId))
  region(link, BASE, ...apps)
  for (const app of apps) {
    await images.pull(app.imageId)
    clock.advance(1000)
  }
  await images.sweep()
  t.ok(disk.images.has(BASE.imageId))
  t.ok(disk.images.has(apps[5]?.imageId ?? BASE.imageId))
  t.notOk(disk.images.has(apps[0]?.imageId ?? BASE.imageId))
  t.ok(disk.images.size <= 4)
  t.ok(images.counts.diskEvictions >= 2)
})

t.test('an image in use is dropped once it is free, unless it is wanted again', async (t) => {
  const { images, link, host } = makePop()
  region(link, BASE, OTHER, PRELUDE)
  await images.pull(BASE.imageId)
  host.busy.add(BASE.imageId)
  images.drop(BASE.imageId)
  t.ok(host.hasImage(BASE.imageId))
  host.busy.clear()
  await images.sweep()
  t.notOk(host.hasImage(BASE.imageId))
  await images.pull(BASE.imageId)
  host.busy.add(BASE.imageId)
  images.drop(BASE.imageId)
  await images.pull(BASE.imageId)
  host.busy.clear()
  await images.sweep()
  t.ok(host.hasImage(BASE.imageId))
})
