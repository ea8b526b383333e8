import { execFileSync, fork, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import type { ImageId } from '../../shared/brand.ts'
import { ManualClock } from '../../shared/clock.ts'
import { toCodedError } from '../../shared/errors.ts'
import { MIB } from '../../shared/limits.ts'
import { createLog, silentLog } from '../../shared/log.ts'
import { LmdbEnvironment } from '../../shared/store/lmdb-environment.ts'
import type { SealedBlockId } from '../../shared/store/types.ts'
import { DiskCache, type StoredImage } from '../../pop/disk-cache.ts'
import { makeImage, refOf, type FakeImage } from './harness.ts'
import { mountTmpfs } from '../support/tmpfs.ts'

const BASE = makeImage([1, 2, 3])
const APP = makeImage([3, 4, 5], BASE.imageId)
const OTHER = makeImage([5, 6], BASE.imageId)

function storedOf(image: FakeImage): StoredImage {
  return { imageId: image.imageId, parentId: image.manifest.parentId, askedFor: refOf(image), blocks: [...image.blocks.keys()], ...image.sealed }
}

/** Writes a cache's file behind its back. */
async function tamper(path: string, table: string, key: string, change: (stored: Buffer) => Uint8Array): Promise<void> {
  const environment = LmdbEnvironment.open({ path })
  const rows = environment.table(table, 'binary')
  const stored = Buffer.from(rows.getBinary(Buffer.from(key, 'hex')) ?? [])
  await environment.write({ kind: 'adds', bytes: 1 }, () => void rows.put(Buffer.from(key, 'hex'), change(stored)))
  await environment.close()
}

function flip(stored: Buffer): Buffer {
  stored.writeUInt8(stored.readUInt8(stored.length - 1) ^ 1, stored.length - 1)
  return stored
}

t.test('an image without one of its blocks, or with an altered one, is not taken', async (t) => {
  const cache = await DiskCache.open({ path: t.testdir(), clock: new ManualClock(), log: silentLog })
  t.teardown(() => cache.close())
  const [first] = APP.blocks.keys()
  if (first === undefined) return
  const lacking = new Map(APP.blocks)
  lacking.delete(first)
  await t.rejects(cache.put(storedOf(APP), lacking), { code: 'ERR_STORE_BLOCK' })
  await t.rejects(cache.put(storedOf(APP), new Map([...APP.blocks, [first, Buffer.alloc(4096, 1)]])), { code: 'ERR_STORE_BLOCK' })
  t.equal(cache.image(APP.imageId), null)
  t.equal(cache.contentBytes, 0)
  t.same(cache.audit(), [])
})

t.test('a disk that is full takes nothing and goes on', async (t) => {
  const cache = await DiskCache.open({ path: t.testdir(), clock: new ManualClock(), log: silentLog, diskReserveBytes: Number.MAX_SAFE_INTEGER })
  t.teardown(() => cache.close())
  await t.rejects(cache.put(storedOf(APP), APP.blocks), { code: 'ERR_STORE_FULL' })
  t.equal(cache.image(APP.imageId), null)
})

t.test('images, what they would free, and rates survive a restart; rates go down meanwhile', async (t) => {
  const path = t.testdir()
  const clock = new ManualClock()
  const before = await DiskCache.open({ path, clock, log: silentLog })
  for (const image of [BASE, APP, OTHER]) await before.put(storedOf(image), image.blocks)
  before.use(APP.imageId, 64)
  before.use(OTHER.imageId, 4)
  const entries = before.entries()
  t.same(before.audit(), [])
  await before.close()
  clock.advance(6 * 3_600_000)
  const after = await DiskCache.open({ path, clock, log: silentLog })
  t.teardown(() => after.close())
  t.same(after.entries().map(({ id, rate }) => [id, rate]).sort(), [[BASE.imageId, 0], [APP.imageId, 32], [OTHER.imageId, 2]].sort())
  t.same(after.entries().map(({ id, freedBytes }) => [id, freedBytes]), entries.map(({ id, freedBytes }) => [id, freedBytes]).sort())
  t.same(after.image(APP.imageId), storedOf(APP))
  for (const [id, block] of APP.blocks) t.ok(Buffer.from(after.block(id) ?? []).equals(block))
  t.same(after.parents(), [BASE.imageId])
  after.use(APP.imageId, 1)
  t.equal(after.entries().find(({ id }) => id === APP.imageId)?.rate, 32, 'what it was used for lately is not forgotten at once')
  t.same(after.audit(), [])
})

t.test('rates are written once a minute, not with every use', async (t) => {
  const path = t.testdir()
  const clock = new ManualClock()
  const cache = await DiskCache.open({ path, clock, log: silentLog })
  t.teardown(() => cache.close())
  await cache.put(storedOf(APP), APP.blocks)
  const size = (): string => readFileSync(join(path, readdirSync(path).find((name) => name === 'data.mdb') ?? '')).toString('latin1')
  const unwritten = size()
  cache.use(APP.imageId, 7)
  await cache.writeUses()
  t.ok(size() === unwritten)
  clock.advance(60_000)
  await cache.writeUses()
  t.notOk(size() === unwritten)
})

t.test('an altered block is missing until it is put back, at use and in the scrub', async (t) => {
  const path = t.testdir()
  const [first, second] = APP.blocks.keys()
  if (first === undefined || second === undefined) return
  const before = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
  for (const image of [BASE, APP]) await before.put(storedOf(image), image.blocks)
  await before.close()
  await tamper(path, 'cacheBlocks', first, flip)
  await tamper(path, 'cacheBlocks', second, flip)
  const cache = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
  t.teardown(() => cache.close())
  t.equal(cache.block(first), null)
  const found = new Set<SealedBlockId>()
  for (let round = 0; round < 6; round++) for (const id of await cache.scrub(4_096)) found.add(id)
  t.same(found, new Set([first, second]), 'each call goes on where the last one ended')
  t.same(cache.naming(new Set([second])).map(({ imageId }) => imageId), [APP.imageId])
  await t.rejects(cache.restore(new Map([[first, Buffer.alloc(1)]])), { code: 'ERR_STORE_BLOCK' }, 'what is not the block is not taken')
  await cache.restore(new Map([[first, APP.blocks.get(first) ?? Buffer.alloc(0)], ...OTHER.blocks]))
  t.ok(cache.block(first))
  t.equal(cache.block(second), null)
  await cache.put(storedOf(APP), APP.blocks)
  t.ok(cache.block(second))
  t.same(cache.audit(), [])
})

t.test('an altered row or books that do not balance cost the cache its content, never a wrong answer', async (t) => {
  for (const [table, key] of [['cacheImages', APP.imageId], ['cacheRefs', [...APP.blocks.keys()][0] ?? '']] as const) {
    const path = t.testdir({ [table]: {} })
    const before = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
    for (const image of [BASE, APP]) await before.put(storedOf(image), image.blocks)
    await before.close()
    await tamper(path, table, key, flip)
    const cache = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
    t.equal(cache.contentBytes, 0)
    t.equal(cache.image(APP.imageId), null)
    await cache.put(storedOf(APP), APP.blocks)
    t.same(cache.audit(), [])
    await cache.close()
  }
})

t.test('a file that is no database costs the cache its content, and is told', async (t) => {
  for (const [name, content] of [['text', 'x'.repeat(20_000)], ['zeros', '\0'.repeat(20_000)], ['short', 'x'], ['empty', '']] as const) {
    const path = join(t.testdir({ [name]: { 'data.mdb': content } }), name)
    const told: string[] = []
    const cache = await DiskCache.open({ path, clock: new ManualClock(), log: createLog((level, _component, message) => told.push(`${level} ${message}`)) })
    t.same(told, name === 'empty' ? [] : ['error the cache on disk is no database and is begun anew'], name)
    await cache.put(storedOf(APP), APP.blocks)
    t.same(cache.audit(), [])
    await cache.close()
    const again = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
    t.ok(again.image(APP.imageId), 'and a good one is kept')
    await again.close()
  }
})

t.test('whatever is put and deleted in whatever order, the books balance', async (t) => {
  const path = t.testdir()
  let cache = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
  t.teardown(() => cache.close())
  const images = Array.from({ length: 6 }, (_, index) => makeImage([index, index + 1, index + 2, 100 + index]))
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.constantFrom('put', 'delete', 'rewrite', 'reopen'), fc.subarray(images, { minLength: 1 })), { maxLength: 12 }), async (steps) => {
    const model = new Set<ImageId>()
    await cache.delete(images.map(({ imageId }) => imageId))
    for (const [what, some] of steps) {
      if (what === 'reopen') {
        await cache.close()
        cache = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
        continue
      }
      if (what === 'delete') await cache.delete(some.map(({ imageId }) => imageId))
      for (const image of some) {
        if (what === 'delete') model.delete(image.imageId)
        else {
          await cache.put(what === 'put' ? storedOf(image) : { ...storedOf(image), manifest: Buffer.concat([image.sealed.manifest, Buffer.from(' ')]) }, image.blocks)
          model.add(image.imageId)
        }
      }
    }
    const problems = cache.audit()
    if (problems.length > 0) throw new Error(problems.join('\n'))
    const there = images.filter(({ imageId }) => cache.image(imageId) !== null).map(({ imageId }) => imageId)
    if (there.length !== model.size || !there.every((id) => model.has(id))) throw new Error('other images than were put')
    if (model.size === 0 && cache.contentBytes !== 0) throw new Error(`${cache.contentBytes} bytes of nothing`)
  }), { numRuns: 30 })
  t.pass('for all orders tried')
})

const tiny = mountTmpfs(8 * MIB)
// Also when the test before it ends the process: a mount outlives it. The second time there is nothing to undo.
process.once('exit', () => {
  if (tiny !== null) spawnSync('umount', [tiny], { stdio: 'ignore' })
})
t.test('a disk that is really full gives ERR_STORE_FULL, and the cache goes on', { skip: tiny === null ? 'needs a mount of tmpfs, which only root has' : false }, async (t) => {
  const path = tiny ?? ''
  t.teardown(() => {
    execFileSync('umount', [path])
    rmSync(path, { recursive: true })
  })
  // Without reserve, so that the write itself meets the full disk.
  const cache = await DiskCache.open({ path: join(path, 'db'), clock: new ManualClock(), log: silentLog, diskReserveBytes: -1_000_000_000 })
  const stored: FakeImage[] = []
  let refused = 0
  for (let index = 0; index < 40; index += 1) {
    const image = makeImage(Array.from({ length: 60 }, (_each, page) => index * 1_000 + page))
    try {
      await cache.put(storedOf(image), image.blocks)
      stored.push(image)
    } catch (error) {
      t.equal(toCodedError(error).code, 'ERR_STORE_FULL')
      refused += 1
    }
  }
  t.ok(stored.length > 3, `${stored.length} images went in`)
  t.ok(refused > 3, `${refused} were refused`)
  t.same(cache.audit(), [], 'every image that was acknowledged is complete, and nothing of the others is there')
  await cache.delete(stored.slice(0, 1).map(({ imageId }) => imageId))
  await cache.put(storedOf(APP), APP.blocks)
  t.equal(cache.entries().length, stored.length)
  t.same(cache.audit(), [])
  await cache.close()
  const again = await DiskCache.open({ path: join(path, 'db'), clock: new ManualClock(), log: silentLog, diskReserveBytes: 0 })
  t.equal(again.entries().length, stored.length)
  t.same(again.audit(), [])
  await again.close()
})

t.test('killed at any moment, the books balance, and what was acknowledged is there', async (t) => {
  const path = t.testdir()
  const child = fileURLToPath(new URL('../fixtures/cache-writer.ts', import.meta.url))
  let acknowledged = 0
  for (let round = 0; round < 8; round += 1) {
    const lines = await runAndKill(child, [path, String(round)], 40 + round * 35)
    const cache = await DiskCache.open({ path, clock: new ManualClock(), log: silentLog })
    t.same(cache.audit(), [])
    const deleted = new Set(lines.filter((line) => line.startsWith('-')).map((line) => line.slice(1)))
    const put = lines.filter((line) => line.startsWith('+')).map((line) => line.slice(1) as ImageId)
    // The last deletion may have happened without having been told.
    const lost = put.filter((id) => !deleted.has(id) && cache.image(id) === null)
    t.ok(lost.length <= 1 && lost.every((id) => id === put.find((other) => !deleted.has(other))), `round ${round}: ${put.length} acknowledged`)
    t.same([...deleted].filter((id) => cache.image(id as ImageId) !== null), [])
    acknowledged += put.length
    await cache.close()
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
