/** What somebody has who carries a POP's disk away: its key file and its cache, and what these open. */
import { readdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DiskCache } from '../../pop/disk-cache.ts'
import { openImage, openPages } from '../../pop/sealed-image.ts'
import type { ImageId } from '../../shared/brand.ts'
import { systemClock } from '../../shared/clock.ts'
import { toCodedError } from '../../shared/errors.ts'
import { silentLog } from '../../shared/log.ts'
import { ALL_ZEROS, imageObjectId } from '../../shared/store/page-groups.ts'
import { loadPopKeys, makePopKeys } from '../../shared/store/pop-keys.ts'
import { FakeHost } from '../pop/harness.ts'
import { pageOf, startImageLine, type ImageLine, type LinePop } from '../support/image-line.ts'
import { ownedBy } from '../support/owner.ts'

const [ALICE, BOB] = ['111111111111', '222222222222']
/** Long enough not to be found by chance. */
const FRAGMENT_BYTES = 16

function seeds(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${name}/${index}`)
}

function dump(folder: string): Buffer {
  return Buffer.concat(readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => readFileSync(join(entry.parentPath, entry.name))))
}

function codeOf(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return toCodedError(error).code
  }
}

async function scene(t: Test, folder: string): Promise<{ line: ImageLine; pop: LinePop; granted: Awaited<ReturnType<ImageLine['publish']>>; secret: Awaited<ReturnType<ImageLine['publish']>>; layer: ImageId }> {
  const line = await startImageLine(ownedBy(t), { allows: (popId, functionName) => popId !== 'stolen' || functionName === 'granted' })
  const { imageId: layer } = await line.publish(ALICE, 'layer', seeds('layer', 20))
  const granted = await line.publish(ALICE, 'granted', seeds('granted', 30), [layer])
  const secret = await line.publish(BOB, 'secret', [...seeds('secret', 30), ...seeds('granted', 2)])
  return { line, pop: await line.pop('stolen', folder, new FakeHost()), granted, secret, layer }
}

await t.test('no fragment of any page or manifest is on the disk in the clear', async (t) => {
  const folder = t.testdir({})
  const { pop, granted, layer } = await scene(t, folder)
  t.same(await pop.images.pull(granted), { kind: 'ready' })
  const plain = pop.disk.image(granted.imageId)
  t.ok(plain)
  await pop.close()
  const disk = dump(folder)
  t.ok(disk.byteLength > 50 * 4096, 'all of it is there')
  for (const seed of [...seeds('granted', 30), ...seeds('layer', 20)]) {
    const page = pageOf(seed)
    for (let at = 0; at < page.byteLength; at += 512) if (disk.includes(page.subarray(at, at + FRAGMENT_BYTES))) t.fail(`${seed} at ${at} is there in the clear`)
  }
  for (const text of ['engineBuild', 'engine-1', 'virtualPages', '"pages"']) t.notOk(disk.includes(text), text)
  t.ok(disk.includes(Buffer.from(layer, 'hex')), 'ids are, so the search finds what there is')
})

await t.test('the keys on it open what was granted, byte for byte, and nothing else', async (t) => {
  const folder = t.testdir({})
  const { line, pop, granted, secret, layer } = await scene(t, folder)
  await pop.images.pull(granted)
  t.match(await pop.images.pull(secret), { kind: 'failed', error: { code: 'ERR_LINK_IDENTITY' } })
  // What another POP, which was granted it, was sent for the secret function.
  const other = makePopKeys()
  const sent = (await line.supply.chain({ popId: 'other', publicKey: other.publicKey }, secret, secret.imageId, new Set()))?.links[0]
  if (sent === undefined) throw new Error('not sent')
  await pop.close()

  t.equal(statSync(join(folder, 'pop-key.json')).mode & 0o777, 0o600)
  const keys = loadPopKeys(join(folder, 'pop-key.json'))
  const stolen = await DiskCache.open({ path: join(folder, 'cache'), clock: systemClock, log: silentLog })
  t.teardown(() => stolen.close())
  t.same(new Set(stolen.entries().map(({ id }) => id)), new Set([layer, granted.imageId]))
  for (const [imageId, name, count] of [[layer, 'layer', 20], [granted.imageId, 'granted', 30]] as const) {
    const image = stolen.image(imageId)
    if (image === null) throw new Error('not on the disk')
    const pages = await openPages(openImage(keys, imageId, image.manifest, image.wrappedKey), (id) => stolen.block(id) ?? undefined, ALL_ZEROS)
    t.same(new Set([...pages.values()].map((page) => Buffer.from(page).toString('hex'))), new Set(seeds(name, count).map((seed) => pageOf(seed).toString('hex'))))
    t.equal(codeOf(() => openImage(other, imageId, image.manifest, image.wrappedKey)), 'ERR_STORE_KEY', "another POP's key does not open it")
    t.equal(codeOf(() => openImage(keys, secret.imageId, sent.manifest, image.wrappedKey)), 'ERR_STORE_KEY', 'nor is a key for it of use for another manifest')
  }
  t.equal(codeOf(() => openImage(keys, secret.imageId, sent.manifest, sent.wrappedKey)), 'ERR_STORE_KEY')
  t.equal(codeOf(() => openImage(other, secret.imageId, sent.manifest, sent.wrappedKey)), 'none', 'it is good, for whom it is for')
  const dataKeys = [line.store.openSealed(BOB, imageObjectId(secret.imageId)), line.store.openSealed(ALICE, imageObjectId(granted.imageId))].map((sealed) => Buffer.from(sealed?.dataKey ?? []))
  const disk = dump(folder)
  for (const key of dataKeys) t.notOk(disk.includes(key), 'no data key is there unwrapped')
  for (const id of openImage(other, secret.imageId, sent.manifest, sent.wrappedKey).blocks) t.notOk(stolen.block(id), 'nor a block of the other function')
})

await t.test('a POP that lost its key file pulls again, with a new one', async (t) => {
  const folder = t.testdir({})
  const { line, pop, granted } = await scene(t, folder)
  await pop.images.pull(granted)
  await pop.close()
  renameSync(join(folder, 'pop-key.json'), join(folder, 'lost.json'))
  const again = await line.pop('stolen', folder, new FakeHost())
  t.not(again.keys.publicKey, pop.keys.publicKey)
  t.same(await again.images.pull(granted), { kind: 'ready' })
  t.equal(again.images.counts.blocksFetched, 0, 'only keys are missing: the blocks are still good')
  t.same(again.disk.audit(), [])
})
