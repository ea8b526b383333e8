import t from 'tap'
import type { ImageManifest } from '../../shared/microvm/manifest.ts'
import { PAGE_BYTES, ZERO_BLOCK, blockIdOf, encodeManifest, imageIdOf } from '../../shared/microvm/manifest.ts'
import { encodeGroup, GROUP_PAGES } from '../../shared/microvm/page-patch.ts'
import { blockKey, contentDigest, sealBlock } from '../../shared/store/block-seal.ts'
import { ALL_ZEROS, imageObjectId } from '../../shared/store/page-groups.ts'
import { makePopKeys, wrapForPop } from '../../shared/store/pop-keys.ts'
import { encodeSealedManifest, newDataKey, sealManifest } from '../../shared/store/sealed-manifest.ts'
import { inFetchOrder, openImage, openPages, type OpenedImage } from '../../pop/sealed-image.ts'
import { ENGINE, POP_KEYS, makeImage, sealImage, type FakeImage } from './harness.ts'

function page(value: number): Buffer {
  return Buffer.alloc(PAGE_BYTES, value)
}

function manifestOf(pages: ImageManifest['pages'], workingSet: readonly number[] | null = null): ImageManifest {
  return { format: 1, engineBuild: ENGINE, parentId: null, layer: 'function', virtualPages: 4, globals: {}, entries: {}, pages, ...(workingSet === null ? {} : { workingSet }) }
}

function open({ imageId, sealed }: FakeImage, keys = POP_KEYS): OpenedImage {
  return openImage(keys, imageId, sealed.manifest, sealed.wrappedKey)
}

t.test('another POP’s keys, another image’s manifest and an altered one do not open', (t) => {
  const [one, two] = [makeImage([1]), makeImage([2])]
  t.throws(() => open(one, makePopKeys()), { code: 'ERR_STORE_KEY' })
  t.throws(() => openImage(POP_KEYS, one.imageId, two.sealed.manifest, two.sealed.wrappedKey), { code: 'ERR_STORE_BLOCK' })
  t.throws(() => openImage(POP_KEYS, one.imageId, one.sealed.manifest, two.sealed.wrappedKey), { code: 'ERR_STORE_KEY' })
  for (const at of [20, one.sealed.manifest.byteLength - 40]) {
    const altered = Buffer.from(one.sealed.manifest)
    altered.writeUInt8(altered.readUInt8(at) ^ 1, at)
    t.throws(() => openImage(POP_KEYS, one.imageId, altered, one.sealed.wrappedKey), { code: /ERR_STORE_(KEY|BLOCK)/ })
  }
  t.end()
})

t.test('a manifest that lies about its image is refused: whoever sealed it', (t) => {
  const head = encodeManifest(manifestOf([[0, blockIdOf(page(1))]]))
  const objectId = imageObjectId(imageIdOf(encodeManifest(manifestOf([]))))
  const dataKey = newDataKey()
  const sealed = encodeSealedManifest(sealManifest(dataKey, { objectId, kind: 'image', parentId: null, pieces: [] }, { head, keys: [], saltIds: [] }))
  t.throws(() => openImage(POP_KEYS, imageIdOf(encodeManifest(manifestOf([]))), sealed, wrapForPop(POP_KEYS.publicKey, objectId, dataKey)), { code: 'ERR_STORE_BLOCK' })
  t.end()
})

t.test('pages come out as they went in, those of zeros left out', async (t) => {
  const pages = [1, 2, 3, 4, 5].map(page)
  const image = open(sealImage(manifestOf([[0, blockIdOf(page(1))], [1, ZERO_BLOCK], [3, blockIdOf(page(2))], [7, blockIdOf(page(3))], [8, blockIdOf(page(4))], [9, blockIdOf(page(5))]]), pages))
  const { blocks } = sealImage(image.plain, pages)
  const opened = await openPages(image, (id) => blocks.get(id), ALL_ZEROS)
  t.same(new Set(opened.keys()), new Set(pages.map(blockIdOf)))
  for (const [id, content] of opened) t.equal(blockIdOf(content), id)
})

t.test('a block that is missing, altered or not the content that the image names is an error that names it', async (t) => {
  const image = makeImage([1, 2])
  const opened = open(image)
  const [first, second] = opened.blocks
  if (first === undefined || second === undefined) return
  await t.rejects(openPages(opened, (id) => (id === second ? undefined : image.blocks.get(id)), ALL_ZEROS), { code: 'ERR_STORE_BLOCK', params: [second, 'missing'] })
  await t.rejects(openPages(opened, (id) => image.blocks.get(id === second ? first : id), ALL_ZEROS), { code: 'ERR_STORE_BLOCK', params: [second, 'altered'] })
  // Well sealed, but other pages than the image's own manifest names.
  const lie = encodeGroup([{ index: 0, content: page(9), before: ALL_ZEROS(0) }])
  const liar = sealBlock(blockKey('', 0, contentDigest(lie)), lie)
  const lying: OpenedImage = { ...opened, sealed: { ...opened.sealed, pieces: [{ id: liar.id, bytes: lie.byteLength }, ...opened.sealed.pieces.slice(1)] }, opened: { ...opened.opened, keys: [liar.key, ...opened.opened.keys.slice(1)] } }
  await t.rejects(openPages(lying, (id) => (id === liar.id ? liar.bytes : image.blocks.get(id)), ALL_ZEROS), { code: 'ERR_STORE_BLOCK', params: [opened.groups[0]?.[0]?.[1] ?? '', 'not what its image says'] })
  await t.rejects(openPages({ ...opened, opened: { ...opened.opened, keys: [] } }, (id) => image.blocks.get(id), ALL_ZEROS), { code: 'ERR_STORE_BLOCK' })
  // Right blocks over other pages than they were made for.
  const sparse = Buffer.alloc(PAGE_BYTES)
  sparse.writeUInt32LE(5, 8)
  const patched = sealImage(manifestOf([[0, blockIdOf(sparse)]]), [sparse])
  await t.rejects(openPages(open(patched), (id) => patched.blocks.get(id), () => page(7)), { code: 'ERR_STORE_BLOCK', params: [blockIdOf(sparse), 'not what its image says'] })
  t.equal((await openPages(open(patched), (id) => patched.blocks.get(id), ALL_ZEROS)).size, 1)
})

t.test('blocks with pages that a request was seen to need come first, each once', (t) => {
  const pages = [1, 2, 3, 4, 5, 6].map(page)
  const image = open(sealImage(manifestOf([0, 1, GROUP_PAGES, GROUP_PAGES + 1, GROUP_PAGES * 2, GROUP_PAGES * 10].map((index, at) => [index, blockIdOf(pages[at] ?? page(0))] as const), [GROUP_PAGES * 10, GROUP_PAGES + 1, 999]), pages))
  t.same(inFetchOrder(imageIdOf(encodeManifest(image.plain)), image).map(({ number }) => number), [1, 3, 0, 2])
  t.same(inFetchOrder(imageIdOf(encodeManifest(image.plain)), open(makeImage([1, 2, 3]))).map(({ number }) => number), [0, 1, 2])
  t.end()
})
