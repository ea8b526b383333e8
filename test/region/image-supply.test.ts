import t, { type Test } from 'tap'
import type { ImageId } from '../../shared/brand.ts'
import { makePopKeys } from '../../shared/store/pop-keys.ts'
import { blocksOf, decodeSealedManifest } from '../../shared/store/sealed-manifest.ts'
import { sealedBlockId } from '../../shared/store/block-seal.ts'
import { imageObjectId } from '../../shared/store/page-groups.ts'
import { ImageSupply } from '../../region/image-supply.ts'
import { CodedError } from '../../shared/errors.ts'
import { openImage } from '../../pop/sealed-image.ts'
import { startImageLine, type ImageLine } from '../support/image-line.ts'
import { ownedBy } from '../support/owner.ts'
import type { ImageRef } from '../../shared/link/types.ts'

const KEYS = makePopKeys()
const POP = { popId: 'pop-1', publicKey: KEYS.publicKey }
const ACCOUNT = '111111111111'

async function scene(t: Test): Promise<{ line: ImageLine; layer: ImageId; mine: ImageRef; secret: ImageRef }> {
  const line = await startImageLine(ownedBy(t), { allows: (popId, functionName) => functionName !== 'secret' || popId === 'pop-2' })
  const { imageId: layer } = await line.publish(ACCOUNT, 'layer', ['layer 1', 'layer 2'])
  return { line, layer, mine: await line.publish(ACCOUNT, 'mine', ['a', 'b', 'c', 'd', 'e'], [layer]), secret: await line.publish(ACCOUNT, 'secret', ['x', 'y'], [layer]) }
}

t.test('nothing of a function that is not granted, in whoever else’s name', async (t) => {
  const { line: { supply }, mine, secret } = await scene(t)
  const wanted = [{ imageId: secret.imageId, numbers: [0] }]
  await t.rejects(supply.chain(POP, secret, secret.imageId, new Set()), { code: 'ERR_LINK_IDENTITY' })
  t.throws(() => supply.blocks('pop-1', secret, wanted), { code: 'ERR_LINK_IDENTITY' })
  t.equal(await supply.chain(POP, { ...mine, imageId: secret.imageId }, secret.imageId, new Set()), null)
  t.equal(await supply.chain(POP, mine, secret.imageId, new Set()), null)
  t.throws(() => supply.blocks('pop-1', mine, wanted), { code: 'ERR_STORE_BLOCK' })
  t.throws(() => supply.blocks('pop-1', { ...mine, imageId: secret.imageId }, wanted), { code: 'ERR_STORE_BLOCK' })
  t.ok(await supply.chain({ ...POP, popId: 'pop-2' }, secret, secret.imageId, new Set()))
  t.ok(supply.blocks('pop-2', secret, wanted)(0))
})

t.test('a chain from any image of it on, without what is known, its keys for the POP that asks', async (t) => {
  const { line: { supply }, layer, mine } = await scene(t)
  const ids = async (from: ImageId, known: readonly ImageId[]): Promise<unknown> => (await supply.chain(POP, mine, from, new Set(known)))?.links.map(({ imageId }) => imageId)
  t.same(await ids(mine.imageId, []), [mine.imageId, layer])
  t.same(await ids(mine.imageId, [layer]), [mine.imageId])
  t.same(await ids(layer, [layer]), [layer], 'what is asked for is sent, known or not')
  t.equal(await supply.chain(POP, mine, 'f'.repeat(64) as ImageId, new Set()), null)
  for (const { imageId, manifest, wrappedKey } of (await supply.chain(POP, mine, mine.imageId, new Set()))?.links ?? []) {
    t.equal(openImage(KEYS, imageId, manifest, wrappedKey).plain.engineBuild, 'engine-1')
    t.throws(() => openImage(makePopKeys(), imageId, manifest, wrappedKey), { code: 'ERR_STORE_KEY' })
  }
})

t.test('blocks leave as they are stored, by their number; one that there is not is null', async (t) => {
  const { line: { supply }, layer, mine } = await scene(t)
  const sealed = (await supply.chain(POP, mine, mine.imageId, new Set()))?.links[0]
  if (sealed === undefined) return
  const ids = blocksOf(decodeSealedManifest(sealed.manifest, imageObjectId(mine.imageId)))
  t.equal(ids.length, 2, 'five pages in two windows')
  const read = supply.blocks('pop-1', mine, [{ imageId: layer, numbers: [0] }, { imageId: mine.imageId, numbers: [1, 0, 2] }])
  const got = await Promise.all([0, 1, 2, 3, 4].map(async (at) => await read(at)))
  t.same(got.map((block) => (block === null ? null : sealedBlockId(block))).slice(1), [ids[1], ids[0], null, null])
})

t.test('a damaged block is mended while the POP waits, once for a request; one that cannot be is named', async (t) => {
  const { line, mine } = await scene(t)
  let repairs = 0
  let damaged = true
  let helps = true
  const supply = new ImageSupply({
    sealedImage: (account, imageId) => line.store.openSealed(account, imageObjectId(imageId)), chainOf: () => [mine.imageId], requireGrant: () => undefined,
    block: (id) => {
      if (damaged) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
      return line.store.sealedBlock(id)
    },
    repair: (image) => {
      t.same(image, mine)
      repairs += 1
      damaged = !helps
      return Promise.resolve(null)
    },
  })
  const read = (): ReturnType<ImageSupply['blocks']> => supply.blocks('pop-1', mine, [{ imageId: mine.imageId, numbers: [0, 1] }])
  const mended = read()
  t.ok((await mended(0))?.byteLength)
  t.ok((await mended(1))?.byteLength)
  t.equal(repairs, 1)
  damaged = true
  helps = false
  const lost = read()
  for (const at of [0, 1]) await t.rejects(async () => await lost(at), { code: 'ERR_STORE_BLOCK', params: [String, 'altered'] })
  t.equal(repairs, 2)
})

t.test('an image that is not there is named', async (t) => {
  const { mine } = await scene(t)
  const supply = new ImageSupply({ block: () => Buffer.alloc(0), sealedImage: () => null, repair: () => Promise.resolve(), chainOf: () => [mine.imageId], requireGrant: () => undefined })
  await t.rejects(supply.chain(POP, mine, mine.imageId, new Set()), { code: 'ERR_STORE_BLOCK', params: [mine.imageId, 'missing, as image'] })
})

t.test('a manifest that is damaged is mended before it is sent', async (t) => {
  const { line, mine } = await scene(t)
  let damaged = true
  const supply = new ImageSupply({
    block: (id) => line.store.sealedBlock(id), chainOf: () => [mine.imageId], requireGrant: () => undefined,
    sealedImage: (account, imageId) => {
      const sealed = line.store.openSealed(account, imageObjectId(imageId))
      if (sealed === null || !damaged) return sealed
      const manifest = Buffer.from(sealed.manifest)
      manifest.writeUInt8(manifest.readUInt8(manifest.byteLength - 30) ^ 1, manifest.byteLength - 30)
      return { ...sealed, manifest }
    },
    repair: () => {
      damaged = false
      return Promise.resolve()
    },
  })
  const [link] = (await supply.chain(POP, mine, mine.imageId, new Set()))?.links ?? []
  t.ok(link !== undefined && openImage(KEYS, mine.imageId, link.manifest, link.wrappedKey))
})
