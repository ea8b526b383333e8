import { randomBytes } from 'node:crypto'
import t from 'tap'
import type { ImageId } from '../../../shared/brand.ts'
import { CodedError } from '../../../shared/errors.ts'
import { LINK_BLOCK_MAX_BYTES, LINK_BLOCKS_PER_REQUEST_MAX, LINK_DATA_MAX_BYTES } from '../../../shared/limits.ts'
import { BlockWriter, type WantedBlock } from '../../../shared/link/blocks.ts'
import type { BlockSelection, LinkAnswer } from '../../../shared/link/types.ts'
import { imageIdOf, PAGE_BYTES } from '../../../shared/microvm/manifest.ts'
import { sealedBlockId } from '../../../shared/store/block-seal.ts'
import type { SealedBlockId } from '../../../shared/store/types.ts'
import { connectedClient, PUBLIC_KEY, startRegion, TestHandler, until } from './harness.ts'

const OWN = imageIdOf(Buffer.from('own'))
const LAYER = imageIdOf(Buffer.from('layer'))
const IMAGE = { account: 'a', functionName: 'f', imageId: OWN }

function someBlocks(count: number, bytes = PAGE_BYTES): Map<SealedBlockId, Uint8Array> {
  return new Map(Array.from({ length: count }, () => randomBytes(bytes)).map((page) => [sealedBlockId(page), page]))
}

/** All of them, as blocks of one image after another. */
function wantedOf(blocks: ReadonlyMap<SealedBlockId, Uint8Array>, imageIds: readonly ImageId[] = [OWN]): WantedBlock[] {
  const perImage = Math.ceil(blocks.size / imageIds.length)
  return [...blocks.keys()].map((id, index) => ({ imageId: imageIds[Math.floor(index / perImage)] ?? OWN, number: index, id }))
}

/** Serves blocks by their numbers, counted through all images. */
function supply(blocks: readonly (Uint8Array | null)[], onRead: (number: number) => void = () => undefined): TestHandler['blocks'] {
  return (_popId, _image, wanted) => {
    const numbers = wanted.flatMap((selection) => selection.numbers)
    return (at) => {
      const number = numbers[at] ?? -1
      onRead(number)
      return blocks[number] ?? null
    }
  }
}

t.test('a chain of any size arrives in one answer, asked for in the name of a function', async (t) => {
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  for (const bytes of [0, 1, 2_000_000]) {
    const links = [{ imageId: OWN, manifest: randomBytes(bytes), wrappedKey: randomBytes(112) }, { imageId: LAYER, manifest: randomBytes(100), wrappedKey: randomBytes(112) }]
    let asked: unknown
    handler.chain = (...question) => {
      asked = question
      return { links }
    }
    const chain = await client.getChain(IMAGE, OWN, [LAYER])
    t.strictSame(asked, [{ popId: 'pop-1', publicKey: PUBLIC_KEY }, IMAGE, OWN, new Set([LAYER])])
    t.ok(chain?.links.every(({ imageId, manifest, wrappedKey }, index) => imageId === links[index]?.imageId && Buffer.from(manifest).equals(links[index].manifest) && Buffer.from(wrappedKey).equals(links[index].wrappedKey)), `${bytes} bytes`)
  }
  handler.chain = () => Promise.resolve(null)
  t.equal(await client.getChain(IMAGE, OWN, []), null)
  await t.rejects(client.getChain(IMAGE, '../../etc/passwd' as ImageId, []), { code: 'ERR_LINK_PROTOCOL' })
  handler.chain = () => ({ links: [] })
  await t.rejects(client.getChain(IMAGE, OWN, []), { code: 'ERR_LINK_PROTOCOL' }, 'an answer without any')
  handler.chain = () => {
    throw new CodedError('ERR_LINK_IDENTITY', ['not granted'])
  }
  await t.rejects(client.getChain(IMAGE, OWN, []), { code: 'ERR_LINK_IDENTITY' })
})

t.test('thousands of blocks of several images arrive verified, each read once, in one request', async (t) => {
  const blocks = someBlocks(3_000)
  const handler = new TestHandler()
  let reads = 0
  const asked: { image: unknown; wanted: readonly BlockSelection[] }[] = []
  const serve = supply([...blocks.values()], () => void (reads += 1))
  handler.blocks = (popId, image, wanted) => {
    asked.push({ image, wanted })
    return serve(popId, image, wanted)
  }
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const got = new Map<SealedBlockId, Uint8Array>()
  await client.getBlocks(IMAGE, wantedOf(blocks, [LAYER, OWN]), (id, block) => void got.set(id, block))
  t.equal(got.size, blocks.size)
  t.ok([...blocks].every(([id, block]) => Buffer.from(got.get(id) ?? []).equals(block)))
  t.strictSame([...got.keys()], [...blocks.keys()], 'in the order asked for')
  t.equal(reads, blocks.size)
  t.strictSame(asked.map(({ image, wanted }) => [image, wanted.map(({ imageId, numbers }) => [imageId, numbers.length])]), [[IMAGE, [[LAYER, 1_500], [OWN, 1_500]]]])
  t.equal(client.stats().streams, 0)
  t.equal(client.stats().bufferedBytes, 0)
  await client.getBlocks(IMAGE, [], () => t.fail('nothing was asked for'))
  t.equal(asked.length, 1)
})

t.test('more blocks than one request holds come in several', async (t) => {
  const page = randomBytes(64)
  const handler = new TestHandler()
  let requests = 0
  handler.blocks = () => {
    requests += 1
    return () => page
  }
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  let got = 0
  await client.getBlocks(IMAGE, Array.from({ length: LINK_BLOCKS_PER_REQUEST_MAX + 1 }, (_, number) => ({ imageId: OWN, number: number * 30, id: sealedBlockId(page) })), () => void (got += 1))
  t.equal(got, LINK_BLOCKS_PER_REQUEST_MAX + 1)
  t.equal(requests, 2)
})

t.test('blocks of every size cross frames whole, also those that the region has to get from elsewhere', async (t) => {
  const blocks = new Map([1, 100, PAGE_BYTES, LINK_DATA_MAX_BYTES - 5, LINK_DATA_MAX_BYTES - 4, LINK_DATA_MAX_BYTES, LINK_BLOCK_MAX_BYTES, 3, LINK_BLOCK_MAX_BYTES - 1, 60_000, 9_000].flatMap((bytes) => [...someBlocks(1, bytes)]))
  const values = [...blocks.values()]
  const handler = new TestHandler()
  handler.blocks = (_popId, _image, wanted) => (at) => {
    const block = values[wanted[0]?.numbers[at] ?? -1] ?? null
    return at % 3 === 0 ? new Promise((resolve) => setImmediate(() => resolve(block))) : block
  }
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const got: Uint8Array[] = []
  await client.getBlocks(IMAGE, wantedOf(blocks), (_id, block) => void got.push(block))
  t.ok(got.length === values.length && got.every((block, index) => Buffer.from(block).equals(values[index] ?? Buffer.alloc(0))))
  handler.blocks = () => () => Promise.reject(new CodedError('ERR_STORE_BLOCK', ['x', 'altered']))
  await t.rejects(client.getBlocks(IMAGE, wantedOf(blocks), () => undefined), { code: 'ERR_STORE_BLOCK', params: ['x', 'altered'] })
})

t.test('one block that is missing, altered or too long fails the whole request', async (t) => {
  const blocks = someBlocks(700)
  const wanted = wantedOf(blocks)
  const bad = wanted[650]?.id
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  for (const [what, value] of [['missing', null], ['altered', Buffer.alloc(PAGE_BYTES)], ['too short', Buffer.alloc(10)], ['too long', Buffer.alloc(PAGE_BYTES + 1)]] as const) {
    handler.blocks = supply([...blocks].map(([id, block]) => (id === bad ? value : block)))
    let wrong = 0
    await t.rejects(client.getBlocks(IMAGE, wanted, (id, block) => {
      if (sealedBlockId(block) !== id) wrong += 1
    }), { code: 'ERR_STORE_BLOCK', params: [bad ?? ''] }, what)
    t.equal(wrong, 0)
  }
  handler.blocks = supply([Buffer.alloc(LINK_BLOCK_MAX_BYTES + 1)])
  await t.rejects(client.getBlocks(IMAGE, wanted.slice(0, 1), () => undefined), { code: 'ERR_STORE_BLOCK' })
  handler.blocks = () => () => {
    throw new Error('disk')
  }
  await t.rejects(client.getBlocks(IMAGE, wanted, () => undefined), { code: 'ERR_INTERNAL' })
  handler.blocks = () => {
    throw new CodedError('ERR_LINK_IDENTITY', ['not granted'])
  }
  await t.rejects(client.getBlocks(IMAGE, wanted, () => undefined), { code: 'ERR_LINK_IDENTITY' })
  t.equal(client.stats().streams, 0)
})

t.test('a receiver of blocks that throws fails its request', async (t) => {
  const blocks = someBlocks(10)
  const handler = new TestHandler()
  handler.blocks = supply([...blocks.values()])
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  await t.rejects(client.getBlocks(IMAGE, wantedOf(blocks), () => {
    throw new Error('cannot keep it')
  }), { message: 'cannot keep it' })
  await t.rejects(client.getBlocks(IMAGE, [{ imageId: 'nonsense' as ImageId, number: 0, id: sealedBlockId(Buffer.from('')) }], () => undefined), { code: 'ERR_LINK_PROTOCOL' })
  t.equal(client.state.kind, 'open')
})

t.test('blocks of a region that goes away are not waited for', async (t) => {
  const handler = new TestHandler()
  const region = await startRegion({ handler })
  const { client } = await connectedClient(region.url)
  t.teardown(() => client.close())
  const blocks = someBlocks(2_000)
  let served = 0
  handler.blocks = supply([...blocks.values()], () => {
    served += 1
    if (served === 100) region.close()
  })
  await t.rejects(client.getBlocks(IMAGE, wantedOf(blocks), () => undefined), { code: 'ERR_REGION_LOST' })
  t.ok(served < 2_000, 'nothing is read for somebody who is gone')
  await t.rejects(client.getBlocks(IMAGE, wantedOf(blocks), () => undefined), { code: 'ERR_REGION_UNREACHABLE' })
})

t.test('the sender reads only what its stream takes, a turn at a time', async (t) => {
  const block = randomBytes(PAGE_BYTES)
  let reads = 0
  const sent: number[] = []
  let accepts = false
  const ends: string[] = []
  const answer: LinkAnswer = {
    started: () => undefined, head: () => true, bodyEnd: () => ends.push('bodyEnd'), end: () => ends.push('end'), error: ({ code }) => ends.push(code), resumeBody: () => undefined,
    data: (chunk) => {
      sent.push(chunk.length)
      return accepts
    },
  }
  const writer = new BlockWriter(10_000, () => {
    reads += 1
    return block
  }, answer)
  writer.start()
  t.equal(sent.length, 1)
  t.ok(reads <= 16, `${reads} blocks read for one frame that waits`)
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(sent.length, 1, 'nothing more before it is asked to go on')
  accepts = true
  writer.resume()
  const before = reads
  t.ok(before <= 16 + 80, `${before} blocks read in one turn`)
  writer.resume()
  t.equal(reads, before, 'its next turn comes by itself')
  await until(() => reads > before)
  writer.cancel()
  const atCancel = reads
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(reads, atCancel)
  t.strictSame(ends, ['ERR_CANCELED'])
})
