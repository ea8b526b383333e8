import { randomBytes } from 'node:crypto'
import t from 'tap'
import { blockIdOf, encodeManifest, imageIdOf, PAGE_BYTES } from '../../../shared/microvm/manifest.ts'
import type { BlockId, ImageManifest } from '../../../shared/microvm/manifest.ts'
import { connectedClient, startRegion, TestHandler } from './harness.ts'
import type { ImageId } from '../../../shared/brand.ts'

function someBlocks(count: number): Map<BlockId, Uint8Array> {
  return new Map(Array.from({ length: count }, () => randomBytes(PAGE_BYTES)).map((page) => [blockIdOf(page), page]))
}

t.test('a manifest of any size arrives verified', async (t) => {
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  for (const pages of [0, 1, 20_000]) {
    const id = '0123456789abcdef'.repeat(4) as BlockId
    const manifest: ImageManifest = {
      format: 1, engineBuild: 'engine', parentId: null, layer: 'function', virtualPages: 20, globals: { g: '1' }, entries: { dispatch: 1 },
      pages: Array.from({ length: pages }, (_, index) => [index, id] as const),
    }
    const encoded = encodeManifest(manifest)
    handler.manifest = (popId, imageId) => (popId === 'pop-1' && imageId === imageIdOf(encoded) ? encoded : null)
    t.ok(Buffer.from((await client.getManifest(imageIdOf(encoded))) ?? []).equals(encoded), `${pages} pages, ${encoded.length} bytes`)
    handler.manifest = () => Buffer.concat([encoded, Buffer.from(' ')])
    await t.rejects(client.getManifest(imageIdOf(encoded)), { code: 'ERR_STORE_BLOCK' }, 'altered')
  }
  handler.manifest = () => Promise.resolve(null)
  t.equal(await client.getManifest('0'.repeat(64) as ImageId), null)
  await t.rejects(client.getManifest('../../etc/passwd' as ImageId), { code: 'ERR_LINK_PROTOCOL' })
})

t.test('thousands of blocks arrive verified, each read once', async (t) => {
  const blocks = someBlocks(3_000)
  const handler = new TestHandler()
  let reads = 0
  handler.block = ({}, id) => {
    reads += 1
    return blocks.get(id) ?? null
  }
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const got = new Map<BlockId, Uint8Array>()
  await client.getBlocks([...blocks.keys()], (id, block) => void got.set(id, block))
  t.equal(got.size, blocks.size)
  t.ok([...blocks].every(([id, block]) => Buffer.from(got.get(id) ?? []).equals(block)))
  t.equal(reads, blocks.size)
  t.equal(client.stats().streams, 0)
  t.equal(client.stats().bufferedBytes, 0)
  await client.getBlocks([], () => t.fail('nothing was asked for'))
})

t.test('one block that is missing, altered or too long fails the whole request', async (t) => {
  const blocks = someBlocks(700)
  const ids = [...blocks.keys()]
  const bad = ids[650]
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  for (const [what, value] of [['missing', null], ['altered', Buffer.alloc(PAGE_BYTES)], ['too short', Buffer.alloc(10)], ['too long', Buffer.alloc(PAGE_BYTES + 1)]] as const) {
    handler.block = ({}, id) => (id === bad ? value : (blocks.get(id) ?? null))
    let wrong = 0
    await t.rejects(client.getBlocks(ids, (id, block) => {
      if (blockIdOf(block) !== id) wrong += 1
    }), { code: 'ERR_STORE_BLOCK', params: [bad ?? ''] }, what)
    t.equal(wrong, 0)
  }
  handler.block = () => {
    throw new Error('disk')
  }
  await t.rejects(client.getBlocks(ids, () => undefined), { code: 'ERR_INTERNAL' })
  t.equal(client.stats().streams, 0)
})

t.test('a receiver of blocks that throws fails its request', async (t) => {
  const blocks = someBlocks(10)
  const handler = new TestHandler()
  handler.block = ({}, id) => blocks.get(id) ?? null
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  await t.rejects(client.getBlocks([...blocks.keys()], () => {
    throw new Error('cannot keep it')
  }), { message: 'cannot keep it' })
  await t.rejects(client.getBlocks(['nonsense' as BlockId], () => undefined), { code: 'ERR_LINK_PROTOCOL' })
  t.equal(client.state.kind, 'open')
})

t.test('blocks of a region that goes away are not waited for', async (t) => {
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => client.close())
  const blocks = someBlocks(2_000)
  let served = 0
  handler.block = ({}, id) => {
    served += 1
    if (served === 100) region.close()
    return blocks.get(id) ?? null
  }
  await t.rejects(client.getBlocks([...blocks.keys()], () => undefined), { code: 'ERR_REGION_LOST' })
  await t.rejects(client.getBlocks([...blocks.keys()], () => undefined), { code: 'ERR_REGION_UNREACHABLE' })
})
