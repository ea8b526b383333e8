/** `outpost store`: numbers, checks, backup and restore of a region's data. */
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { ImageId } from '../../../shared/brand.ts'
import { ZERO_BLOCK } from '../../../shared/microvm/manifest.ts'
import { ALL_ZEROS } from '../../../shared/store/page-groups.ts'
import { renderBar } from '../../../shared/cli/progress.ts'
import { ONE_COPY, SaltPolicy } from '../../../shared/store/salts.ts'
import { runHere, type Ran } from '../../support/cli.ts'
import { handlerZip, openParts, startRegion, type RegionParts, type TestRegion } from '../../region/fakes.ts'

const ACCOUNT = '000000000000'
const zip = (text: string): string => Buffer.from(handlerZip(`export const handler = ${JSON.stringify(text)}`)).toString('base64')

async function deploy({ region }: TestRegion, method: string, path: string, body: unknown): Promise<void> {
  const reply = await region.control({ requestId: 'r', method, rawPath: `/2015-03-31/functions${path}`, headers: 'authorization\nAWS4-HMAC-SHA256 any', body: Buffer.from(JSON.stringify(body)), clientIp: '' })
  if (reply.status >= 300) throw new Error(Buffer.from(reply.body).toString())
}

interface Data {
  readonly dir: string
  readonly run: (action: string, ...more: string[]) => Promise<Ran>
}

function dataIn(dir: string, keyring = join(dir, 'store', 'keyring.json')): Data {
  return { dir, run: (action, ...more) => runHere(['store', action, ...more, '--data', dir, '--keyring', keyring]) }
}

/** Two functions with secrets, versions, aliases and something that nobody names any more. */
async function filled(dir: string, salts = new SaltPolicy(ONE_COPY)): Promise<Data> {
  const made = await startRegion({ path: join(dir, 'store'), salts })
  for (const name of ['f', 'g']) await deploy(made, 'POST', '', { FunctionName: name, Code: { ZipFile: zip(name) }, Outpost: { Secrets: { TOKEN: `secret of ${name}` } } })
  await deploy(made, 'POST', '/f/versions', {})
  await deploy(made, 'POST', '/f/aliases', { Name: 'prod', FunctionVersion: '1' })
  await deploy(made, 'PUT', '/g/code', { ZipFile: zip('g again') })
  await made.close()
  return dataIn(dir)
}

async function within<T>({ dir }: Data, action: (parts: RegionParts) => T | Promise<T>): Promise<T> {
  const parts = openParts(join(dir, 'store'))
  try {
    return await action(parts)
  } finally {
    await parts.environment.close()
  }
}

t.test('a folder without a store or a keyring is refused, and nothing is made there', async (t) => {
  const dir = t.testdir({ empty: {} })
  t.match(await dataIn(join(dir, 'empty')).run('stats'), { code: 1, out: '', err: /ERR_STORE_FAILED.*there is no store in .*--data/ })
  const data = await filled(join(dir, 'data'))
  t.match(await dataIn(data.dir, join(dir, 'none.json')).run('stats'), { code: 1, err: /ERR_STORE_KEY.*none.json.*--keyring/ })
  t.match(await runHere(['store', 'nonsense']), { code: 2 })
})

t.test('what changes data wants the region stopped', async (t) => {
  const data = await filled(join(t.testdir({}), 'data'))
  writeFileSync(join(data.dir, 'outpost.pid'), String(process.ppid))
  for (const action of ['gc', 'rotate-keys']) t.match(await data.run(action), { code: 1, err: /ERR_DATA_LOCKED/ })
  t.match(await data.run('verify'), { code: 0 })
})

t.test('numbers, and a collection that changes them', async (t) => {
  const data = await filled(join(t.testdir({}), 'data'))
  const before = JSON.parse((await data.run('stats', '--json')).out) as { objects: number; liveObjects: number }
  t.ok(before.objects > before.liveObjects, 'the old code of g is named by nobody')
  t.match(await data.run('gc'), { code: 0, out: /^\d+ objects and \d+ blocks .* were deleted\n$/ })
  const after = JSON.parse((await data.run('stats', '--json')).out) as { objects: number; liveObjects: number }
  t.same([after.objects, after.liveObjects], [before.liveObjects, before.liveObjects])
  t.match((await data.run('stats')).out, /objects +\d+ .*\nblocks/)
  t.match(await data.run('verify'), { code: 0, out: /are as they should be/ })
})

t.test('verify names what is damaged and fails', async (t) => {
  const data = await filled(join(t.testdir({}), 'data'))
  const id = await within(data, async ({ store, environment }) => {
    const [first] = store.tables.blocksAfter(null, 1)
    await environment.write({ kind: 'removes' }, () => void environment.table<Buffer>('sealedBlocks', 'binary').put(Buffer.from(first ?? '', 'hex'), Buffer.alloc(100)))
    return first ?? ''
  })
  t.match(await data.run('verify'), { code: 1, out: new RegExp(id) })
  const json = JSON.parse((await data.run('verify', '--json')).out) as { ok: boolean; problems: string[] }
  t.equal(json.ok, false)
  t.ok(json.problems.some((line) => line.includes(id)))
  t.match(await data.run('export', join(data.dir, 'x')), { code: 1, err: new RegExp(`ERR_STORE_BLOCK.*${id}`) })
})

t.test('an export is refused if any byte of it is altered, missing, or sealed with another keyring', async (t) => {
  const dir = t.testdir({})
  const data = await filled(join(dir, 'data'))
  const file = join(dir, 'backup')
  t.match(await data.run('export', file), { code: 0, out: /records, .*\nIt opens only with the keyring .*keyring.json: keep a copy/ })
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.match(await data.run('export', file), { code: 1, err: /ERR_STORE_FAILED.*EEXIST/ }, 'not over a file that is there')
  const bytes = readFileSync(file)
  for (const text of ['export const handler', 'secret of']) t.equal(bytes.indexOf(text), -1)
  t.match(await data.run('import', file), { code: 1, err: /needs a region without functions/ })
  mkdirSync(join(dir, 'new'))
  const restored = dataIn(join(dir, 'new'), join(data.dir, 'store', 'keyring.json'))
  const broken = join(dir, 'broken')
  for (let at = 3; at < bytes.byteLength; at += Math.ceil(bytes.byteLength / 23)) {
    const copy = Buffer.from(bytes)
    copy[at] = (copy[at] ?? 0) ^ 0x10
    writeFileSync(broken, copy)
    t.match(await restored.run('import', broken), { code: 1, err: /ERR_STORE_/ }, `byte ${at}`)
  }
  for (const length of [0, 10, bytes.byteLength - 1]) {
    writeFileSync(broken, bytes.subarray(0, length))
    t.match(await restored.run('import', broken), { code: 1, err: /ERR_STORE_FAILED/ }, `${length} bytes`)
  }
  const other = await filled(join(dir, 'other'))
  t.match(await dataIn(join(dir, 'new'), join(other.dir, 'store', 'keyring.json')).run('import', file), { code: 1, err: /ERR_STORE_KEY/ })
  t.match(await restored.run('import', file), { code: 0 }, 'after all that the good one goes in')
})

/** Content of every page of a chain of images, ancestors first. */
function pagesOf(content: RegionParts['content'], imageIds: readonly ImageId[]): string[] {
  const under = new Map<number, Uint8Array>()
  return imageIds.flatMap((imageId) => {
    const { manifest, pages } = content.readImage(ACCOUNT, imageId)
    const page = pages((index) => under.get(index) ?? ALL_ZEROS(index))
    const own = manifest.pages.filter(([, id]) => id !== ZERO_BLOCK).map(([index, id]) => [index, page(id)] as const)
    for (const [index, bytes] of own) under.set(index, bytes)
    return own.map(([index, bytes]) => `${index} ${Buffer.from(bytes).toString('hex')}`)
  })
}

t.test('what was exported and imported is all there, and salts beyond the bound are refused', async (t) => {
  const dir = t.testdir({})
  const data = await filled(join(dir, 'data'))
  const file = join(dir, 'backup')
  await data.run('export', file)
  const keyring = join(data.dir, 'store', 'keyring.json')
  const restored = dataIn(join(dir, 'new'), keyring)
  t.match(await restored.run('import', file), { code: 0 })
  t.match(await restored.run('verify'), { code: 0 })
  copyFileSync(keyring, join(restored.dir, 'store', 'keyring.json'))
  const describe = ({ registry, content }: RegionParts): unknown => ['f', 'g'].map((name) => {
    const reader = registry.read(ACCOUNT, name)
    const latest = reader.function()?.latest
    return {
      record: reader.function(), versions: reader.versions(0, 100), aliases: reader.aliases('', 100), spec: registry.resolve(ACCOUNT, name, null), seq: registry.seq(),
      zip: Buffer.from(content.readBundle(ACCOUNT, latest?.code.zipId ?? '')).toString('hex'),
      pages: pagesOf(content, latest?.build.imageIds ?? []),
    }
  })
  t.same(await within(restored, describe), await within(data, describe))
  t.same(await within(restored, ({ audit }) => audit()), [])
  const ofMany = await filled(join(dir, 'many'), new SaltPolicy({ by: 'user', copies: 50 }))
  const fileOfMany = join(dir, 'backup of many')
  await ofMany.run('export', fileOfMany)
  const target = dataIn(join(dir, 'newer'), join(ofMany.dir, 'store', 'keyring.json'))
  t.match(await target.run('import', fileOfMany), { code: 1, err: /ERR_STORE_SALT: Salt \d+ is refused: this store makes 1 copies at most/ })
  t.match(await target.run('import', fileOfMany, '--copies', '50'), { code: 0 })
})

t.test('after a rotation everything opens, and an older export still does', async (t) => {
  const dir = t.testdir({})
  const data = await filled(join(dir, 'data'))
  const file = join(dir, 'backup')
  await data.run('export', file)
  t.match(await data.run('rotate-keys'), { code: 0, out: /^version 2 of the keyring is active: \d+ keys and 2 sets of secrets/ })
  t.match(await data.run('verify'), { code: 0 })
  t.same(await within(data, ({ registry }) => registry.resolve(ACCOUNT, 'f', null).secrets), { TOKEN: 'secret of f' })
  t.match(await dataIn(join(dir, 'new'), join(data.dir, 'store', 'keyring.json')).run('import', file), { code: 0 })
})

t.test('a bar on a terminal, and nothing elsewhere', async (t) => {
  const data = await filled(join(t.testdir({}), 'data'))
  const argv = ['store', 'verify', '--data', data.dir, '--keyring', join(data.dir, 'store', 'keyring.json')]
  t.match((await runHere(argv, { stderrIsTerminal: true })).err, /\r.*verify \[#+ *\] \d+ %/)
  t.equal((await runHere(argv)).err, '')
  t.equal(renderBar('x', 1, 2), `x [${'#'.repeat(15)}${' '.repeat(15)}] 50 % (1 of 2)`)
  t.equal(renderBar('x', 7, null), 'x 7')
  t.match(renderBar('x', 0, 0), /100 %/)
})
