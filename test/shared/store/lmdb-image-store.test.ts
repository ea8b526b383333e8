/** The image store on disk: what it refuses, what it shares, and what it survives. */
import { execFileSync, fork, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { ImageId } from '../../../shared/brand.ts'
import { toCodedError } from '../../../shared/errors.ts'
import { MIB } from '../../../shared/limits.ts'
import { PAGE_BYTES, ZERO_BLOCK, blockIdOf, encodeManifest, imageIdOf, type BlockId } from '../../../shared/microvm/manifest.ts'
import type { BlockCodec } from '../../../shared/store/block-codec.ts'
import { LmdbEnvironment } from '../../../shared/store/lmdb-environment.ts'
import { LmdbImageStore } from '../../../shared/store/lmdb-image-store.ts'

interface TestImage {
  readonly imageId: ImageId
  readonly encoded: Uint8Array
  readonly blocks: Map<BlockId, Uint8Array>
}

function page(seed: string): Uint8Array {
  const content = new Uint8Array(PAGE_BYTES)
  for (let offset = 0; offset < PAGE_BYTES; offset += 32) content.set(createHash('sha256').update(`${seed}/${offset}`).digest(), offset)
  return content
}

function makeImage(seeds: readonly string[], name = ''): TestImage {
  const pages = seeds.map(page)
  const named = [...pages.map((content, index) => [index, blockIdOf(content)] as const), [seeds.length, ZERO_BLOCK] as const]
  const encoded = encodeManifest({ format: 1, engineBuild: `engine${name}`, parentId: null, layer: 'function', virtualPages: 4, globals: {}, entries: {}, pages: named })
  return { imageId: imageIdOf(encoded), encoded, blocks: new Map(pages.map((content) => [blockIdOf(content), content])) }
}

const put = (store: LmdbImageStore, { imageId, encoded, blocks }: TestImage): Promise<void> => store.putImage(imageId, encoded, blocks)

interface Teardown {
  teardown(undo: () => void | Promise<void>): unknown
}

function tempDir(test: Teardown): string {
  const path = mkdtempSync(join(tmpdir(), 'outpost-store-'))
  test.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function sameBytes(a: Uint8Array | null, b: Uint8Array): boolean {
  return a !== null && Buffer.compare(a, b) === 0
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    return toCodedError(error).code
  }
}

function thrownBy(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return `${toCodedError(error).code} ${toCodedError(error).message}`
  }
}

function openStore(test: Teardown, options: { readonly contentMaxBytes?: number; readonly codec?: BlockCodec } = {}): { store: LmdbImageStore; environment: LmdbEnvironment; path: string } {
  const path = tempDir(test)
  const environment = LmdbEnvironment.open({ path, diskReserveBytes: 0 })
  test.teardown(() => environment.close())
  return { store: LmdbImageStore.within(environment, options), environment, path }
}

await t.test('an image with a missing, altered or short block is refused and nothing is stored', async (t) => {
  const { store } = openStore(t)
  const good = makeImage(['a', 'b'])
  const [first = ZERO_BLOCK] = good.blocks.keys()
  t.equal(await codeOf(store.putImage(good.imageId, good.encoded, new Map([...good.blocks].slice(1)))), 'ERR_STORE_BLOCK', 'missing')
  t.equal(await codeOf(store.putImage(good.imageId, good.encoded, new Map([...good.blocks, [first, page('x')]]))), 'ERR_STORE_BLOCK', 'altered')
  t.equal(await codeOf(store.putImage(good.imageId, good.encoded, new Map([...good.blocks, [first, page('a').subarray(0, 100)]]))), 'ERR_STORE_BLOCK', 'short')
  t.equal(await codeOf(store.putImage(makeImage(['c']).imageId, good.encoded, good.blocks)), 'ERR_STORE_BLOCK', 'another id')
  t.same(store.stats(), { images: 0, blocks: 0, contentBytes: 0 })
  t.equal(store.getManifest(good.imageId), null)
  t.equal(store.getBlock(first), null)
  t.notOk(store.hasBlock(first))
})

await t.test('a block that was altered on disk is refused, and mended by the next image that brings it', async (t) => {
  const { store, environment } = openStore(t)
  const image = makeImage(['a', 'b'])
  await put(store, image)
  const [first = ZERO_BLOCK] = image.blocks.keys()
  const raw = environment.table<Buffer>('blocks', 'binary')
  const flipped = page('a')
  flipped[17] = (flipped[17] ?? 0) ^ 1
  await environment.write({ kind: 'removes' }, () => void raw.put(Buffer.from(first, 'hex'), flipped))
  t.match(thrownBy(() => store.getBlock(first)), /^ERR_STORE_BLOCK .* is altered$/)
  t.notOk(store.hasBlock(first), 'so that it is fetched again')
  t.not(store.audit().length, 0)
  await put(store, image)
  t.ok(sameBytes(store.getBlock(first), page('a')))
  t.same(store.audit(), [])
})

await t.test('a manifest that was altered on disk is mended by putting the image again', async (t) => {
  const { store, environment } = openStore(t)
  const image = makeImage(['a'])
  await put(store, image)
  const raw = environment.table<Buffer>('images', 'binary')
  await environment.write({ kind: 'removes' }, () => void raw.put(Buffer.from(image.imageId, 'hex'), Buffer.from('{}')))
  t.not(store.audit().length, 0)
  await put(store, image)
  t.ok(sameBytes(store.getManifest(image.imageId), Buffer.from(image.encoded)))
  await store.deleteImage(image.imageId)
  t.equal(store.stats().blocks, 0)
})

await t.test('beyond the bound of bytes nothing is stored, and what is deleted makes room', async (t) => {
  const small = makeImage(['a', 'b'])
  const large = makeImage(['a', 'c', 'd', 'e', 'f'])
  const { store } = openStore(t, { contentMaxBytes: 5 * PAGE_BYTES })
  await put(store, small)
  const before = store.stats()
  t.equal(await codeOf(put(store, large)), 'ERR_STORE_FULL')
  t.same(store.stats(), before)
  t.same(store.audit(), [])
  await store.deleteImage(small.imageId)
  await put(store, makeImage(['c', 'd', 'e']))
  t.equal(store.stats().images, 1)
})

await t.test('equal blocks are stored once and go with the last image that names them', async (t) => {
  const { store } = openStore(t)
  const images = [makeImage(['a', 'b', 'a']), makeImage(['b', 'c']), makeImage(['c', 'd'])] as const
  for (const image of images) await put(store, image)
  t.equal(store.stats().blocks, 4)
  await store.deleteImage(images[0].imageId)
  t.equal(store.stats().blocks, 3, 'a went')
  await store.deleteImage(images[0].imageId)
  await put(store, images[1])
  await store.deleteImage(images[1].imageId)
  t.ok(sameBytes(store.getBlock(blockIdOf(page('c'))), page('c')), 'c is still named')
  t.equal(store.getBlock(blockIdOf(page('b'))), null)
  t.same(store.audit(), [])
  await store.deleteImage(images[2].imageId)
  t.same(store.stats(), { images: 0, blocks: 0, contentBytes: 0 })
})

await t.test('an image may leave out blocks that are there, and storing it again writes nothing', async (t) => {
  const { store, environment } = openStore(t)
  await put(store, makeImage(['a', 'b']))
  const image = makeImage(['a', 'b', 'c'])
  await store.putImage(image.imageId, image.encoded, new Map([[blockIdOf(page('c')), page('c')]]))
  const stats = (): unknown => environment.table('images', 'binary').getStats()
  const before = stats()
  await Promise.all([put(store, image), put(store, image)])
  t.same(stats(), before, 'not even a transaction')
  t.same(store.audit(), [])
})

await t.test('concurrent writes of the same and of overlapping images leave exact counts', async (t) => {
  const { store } = openStore(t)
  const images = Array.from({ length: 12 }, (_each, index) => makeImage([`${index % 3}`, `${index % 4}`, 'all'], `${index}`))
  await Promise.all([...images, ...images].map((image) => put(store, image)))
  t.equal(store.stats().images, 12)
  t.same(store.audit(), [])
  await Promise.all(images.slice(0, 11).flatMap((image) => [store.deleteImage(image.imageId), store.deleteImage(image.imageId)]))
  t.same(store.audit(), [])
  t.equal(store.stats().images, 1)
})

await t.test('bytes that were handed out stay what they are', async (t) => {
  const { store } = openStore(t)
  const image = makeImage(['a', 'b'])
  await put(store, image)
  const [a = ZERO_BLOCK, b = ZERO_BLOCK] = image.blocks.keys()
  const first = store.getBlock(a)
  const manifest = store.getManifest(image.imageId)
  store.getBlock(b)?.fill(0)
  await store.deleteImage(image.imageId)
  await put(store, makeImage(['c', 'd', 'e']))
  t.ok(sameBytes(first, page('a')))
  t.ok(sameBytes(manifest, Buffer.from(image.encoded)))
  first?.fill(1)
  t.equal(first?.buffer.byteLength, PAGE_BYTES, 'a buffer of its own, which may be transferred')
})

await t.test('what was acknowledged is there after opening again', async (t) => {
  const path = tempDir(t)
  const image = makeImage(['a', 'b'])
  const first = LmdbImageStore.open({ path })
  await put(first, image)
  await first.close()
  await first.close()
  t.equal(await codeOf(put(first, makeImage(['c']))), 'ERR_STORE_FAILED', 'closed is closed')
  const second = LmdbImageStore.open({ path })
  t.teardown(() => second.close())
  t.same(second.imageIds(), [image.imageId])
  t.same(second.audit(), [])
})

await t.test('a folder that cannot be used is a coded error', async (t) => {
  const path = join(tempDir(t), 'file')
  writeFileSync(path, 'x')
  t.match(thrownBy(() => LmdbImageStore.open({ path })), /^ERR_STORE_FAILED The store failed: cannot open/)
})

await t.test('the codec sees every block on its way in and out', async (t) => {
  const key = 0x5a
  const codec: BlockCodec = {
    encode: (_id, content) => content.map((byte) => byte ^ key),
    decode: (_id, stored) => stored.map((byte) => byte ^ key),
  }
  const { store, environment } = openStore(t, { codec })
  const image = makeImage(['a'])
  await put(store, image)
  const id = blockIdOf(page('a'))
  t.ok(sameBytes(store.getBlock(id), page('a')))
  t.not(Buffer.compare(environment.table<Buffer>('blocks', 'binary').getBinary(Buffer.from(id, 'hex')) ?? Buffer.alloc(0), page('a')), 0)
  t.same(store.audit(), [])
})

await t.test('a write that throws half way leaves nothing behind', async (t) => {
  const { environment } = openStore(t)
  const table = environment.table<string>('probe', 'ordered')
  t.equal(await codeOf(environment.write({ kind: 'removes' }, () => {
    void table.put('a', Buffer.from('1'))
    throw new Error('half way')
  })), 'ERR_STORE_FAILED')
  await environment.write({ kind: 'removes' }, () => void table.put('b', Buffer.from('2')))
  t.same([...table.getKeys()], ['b'])
})

await t.test('a growing write leaves the reserve of the disk alone, a removal may use it', async (t) => {
  const path = tempDir(t)
  const open = (diskReserveBytes: number): LmdbImageStore => LmdbImageStore.open({ path, diskReserveBytes })
  const image = makeImage(['a'])
  const before = open(0)
  await put(before, image)
  await before.close()
  const store = open(Number.MAX_SAFE_INTEGER)
  t.teardown(() => store.close())
  t.equal(await codeOf(put(store, makeImage(['b']))), 'ERR_STORE_FULL')
  await store.deleteImage(image.imageId)
  t.equal(store.stats().images, 0)
})

const tiny = mountTmpfs(8 * MIB)
// Also when the test before it ends the process: a mount outlives it. The second time there is nothing to undo.
process.once('exit', () => {
  if (tiny !== null) spawnSync('umount', [tiny], { stdio: 'ignore' })
})
await t.test('a disk that is really full gives ERR_STORE_FULL, and the store goes on', { skip: tiny === null ? 'needs a mount of tmpfs, which only root has' : false }, async (t) => {
  const path = tiny ?? ''
  t.teardown(() => {
    execFileSync('umount', [path])
    rmSync(path, { recursive: true })
  })
  // Without reserve, so that the write itself meets the full disk.
  const environment = LmdbEnvironment.open({ path: join(path, 'db'), diskReserveBytes: -1_000_000_000 })
  const store = LmdbImageStore.within(environment)
  const stored: TestImage[] = []
  let refused = 0
  for (let index = 0; index < 40; index += 1) {
    const image = makeImage(Array.from({ length: 60 }, (_each, pageIndex) => `${index}/${pageIndex}`))
    const code = await codeOf(put(store, image))
    if (code === 'none') stored.push(image)
    else t.equal(code, 'ERR_STORE_FULL')
    if (code !== 'none') refused += 1
  }
  t.ok(stored.length > 3, `${stored.length} images went in`)
  t.ok(refused > 3, `${refused} were refused`)
  t.same(store.audit(), [], 'every image that was acknowledged is complete, and nothing of the others is there')
  const [victim, ...others] = stored
  if (victim !== undefined) await store.deleteImage(victim.imageId)
  await put(store, makeImage(['afterwards']))
  t.equal(store.stats().images, others.length + 1)
  t.same(store.audit(), [])
  await environment.close()
  const again = LmdbImageStore.open({ path: join(path, 'db'), diskReserveBytes: 0 })
  t.same(again.audit(), [])
  await again.close()
})

await t.test('killed at any moment, every image that was acknowledged is complete', async (t) => {
  const path = tempDir(t)
  const child = fileURLToPath(new URL('../../fixtures/store-writer.ts', import.meta.url))
  let acknowledged = 0
  for (let round = 0; round < 8; round += 1) {
    const acks = await runAndKill(child, [path, String(round)], 40 + round * 35)
    const store = LmdbImageStore.open({ path })
    t.same(store.audit(), [])
    const there = new Set<string>(store.imageIds())
    t.same(acks.filter((id) => !there.has(id)), [], `round ${round}: ${acks.length} acknowledged`)
    acknowledged += acks.length
    await store.close()
  }
  t.ok(acknowledged > 8, `${acknowledged} images were acknowledged over all rounds`)
})

/** Starts a writer, kills it some time after its first line, and returns all complete lines it wrote. */
function runAndKill(file: string, args: readonly string[], afterFirstMs: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const child = fork(file, args, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], execArgv: ['--disable-warning=ExperimentalWarning'] })
    let output = ''
    child.once('error', reject)
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      if (output === '') setTimeout(() => child.kill('SIGKILL'), afterFirstMs)
      output += text
    })
    child.once('close', () => resolve(output.split('\n').slice(0, -1)))
  })
}

function mountTmpfs(bytes: number): string | null {
  const path = mkdtempSync(join(tmpdir(), 'outpost-full-'))
  try {
    mkdirSync(path, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path], { stdio: 'ignore' })
    return path
  } catch {
    // No right to mount: the test is skipped and says so.
    return null
  }
}
