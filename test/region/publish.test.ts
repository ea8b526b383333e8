/** Publishing is all or nothing, bounded, and leaves no waste; the registry's feed of changes. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { strToU8, zipSync } from 'fflate'
import t from 'tap'
import { Content } from '../../region/content.ts'
import { Publisher } from '../../region/publish.ts'
import { BoundedTurns, SingleTurns } from '../../region/turns.ts'
import { DEFAULT_SETTINGS } from '../../shared/api/settings.ts'
import type { FunctionRecord, PublishOrder, Published } from '../../shared/api/records.ts'
import { systemClock } from '../../shared/clock.ts'
import { CodedError, toCodedError } from '../../shared/errors.ts'
import { silentLog } from '../../shared/log.ts'
import { ObjectStore } from '../../shared/store/object-store.ts'
import { ONE_COPY, SaltPolicy } from '../../shared/store/salts.ts'
import { blocksOf, decodeSealedManifest, parseObjectId } from '../../shared/store/sealed-manifest.ts'
import { FakeBuilder, handlerZip, image, startRegion, tempDir, type TestRegion, type TestRegionOptions } from './fakes.ts'

const ACCOUNT = '000000000000'

interface Teardown {
  teardown(undo: () => Promise<void>): unknown
}

async function make(test: Teardown, options: TestRegionOptions = {}): Promise<TestRegion> {
  const made = await startRegion(options)
  test.teardown(() => made.close())
  return made
}

interface Reply {
  readonly status: number
  readonly headers: string
  readonly json: Record<string, unknown>
}

async function control({ region }: TestRegion, method: string, path: string, body: unknown = null): Promise<Reply> {
  const reply = await region.control({
    requestId: 'r', method, rawPath: `/2015-03-31/functions${path}`, headers: 'authorization\nAWS4-HMAC-SHA256 any', body: body === null ? new Uint8Array(0) : Buffer.from(JSON.stringify(body)), clientIp: '',
  })
  const text = Buffer.from(reply.body).toString()
  return { status: reply.status, headers: reply.headers, json: text === '' ? {} : JSON.parse(text) as Record<string, unknown> }
}

const NOTHING = { objects: 0, blocks: 0, blockBytes: 0, manifestBytes: 0, logicalBytes: 0 }
const zip = (text: string): string => Buffer.from(handlerZip(`export const handler = ${JSON.stringify(text)}`)).toString('base64')
const createBody = (name: string, text = name): unknown => ({ FunctionName: name, Code: { ZipFile: zip(text) } })

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    return toCodedError(error).code
  }
}

function order(name: string, more: Partial<PublishOrder> = {}): PublishOrder {
  return { account: ACCOUNT, functionName: name, code: { kind: 'zip', bytes: handlerZip(`export const handler = ${JSON.stringify(name)}`) }, settings: DEFAULT_SETTINGS, handlerGiven: false, secrets: null, current: null, ...more }
}

/** Objects that are stored and that no record names. */
function unnamed(made: TestRegion): string[] {
  const live = new Set([...made.registry.liveObjects()].map(({ account, objectId }) => `${account}/${objectId}`))
  return made.store.tables.objectsAfter(null, 1_000_000).map(({ account, objectId }) => `${account}/${objectId}`).filter((key) => !live.has(key))
}

function recordOf(name: string, published: Published): FunctionRecord {
  return { account: ACCOUNT, name, latest: { version: '$LATEST', ...published, modifiedAtMs: 1, revisionId: 'r' }, nextVersion: 1, published: null, tags: {}, createdAtMs: 1 }
}

await t.test('beyond the bound publishes are refused with a time to come back', async (t) => {
  const builder = new FakeBuilder()
  const gate = Promise.withResolvers<undefined>()
  builder.gate = gate.promise.then(() => undefined)
  const made = await make(t, { builder })
  const all = Array.from({ length: 24 }, (_each, index) => control(made, 'POST', '', createBody(`f${index}`)))
  while (builder.requests.length < 2) await sleep(5)
  const refused = await Promise.race(all)
  t.equal(refused.status, 429)
  t.match(refused.headers, /x-amzn-errortype\nTooManyRequestsException/)
  t.match(refused.headers, /retry-after\n1/)
  t.match(refused.json, { OutpostCode: 'ERR_BUILD_QUEUE_FULL', Reason: 'CallerRateLimitExceeded' })
  gate.resolve(undefined)
  const replies = await Promise.all(all)
  t.equal(replies.filter(({ status }) => status === 201).length, 18, '2 build, 16 wait')
  t.equal(replies.filter(({ status }) => status === 429).length, 6)
  t.equal((await control(made, 'POST', '', createBody('later'))).status, 201)
})

await t.test('libraries that cannot be layers are bundled into the function, and what is stored is built again as it was', async (t) => {
  const builder = new FakeBuilder()
  const made = await make(t, { builder })
  const heavy = (mark: string): string => `export const x = ${JSON.stringify(mark.padEnd(10_000, '.'))}`
  const libraries = (first: string): Record<string, Uint8Array> => ({
    'index.mjs': strToU8('import { x } from "one"; import { x as y } from "two"; export const handler = () => x + y'),
    'node_modules/one/index.mjs': strToU8(heavy(first)), 'node_modules/one/package.json': strToU8('{"main":"index.mjs","version":"1.0.0"}'),
    'node_modules/two/index.mjs': strToU8(heavy('two')), 'node_modules/two/package.json': strToU8('{"main":"index.mjs"}'),
  })
  const create = (name: string, first: string): Promise<Reply> => control(made, 'POST', '', { FunctionName: name, Code: { ZipFile: Buffer.from(zipSync(libraries(first))).toString('base64') } })
  t.equal((await create('split', 'one')).status, 201)
  t.match(builder.requests[0], { ownCodeFirst: false, chunks: [{ name: /^npm:one@1\.0\.0#[0-9a-f]{16}$/, source: /one\.\.\./ }, { name: /^npm:two#[0-9a-f]{16}$/ }] })
  t.notMatch(builder.requests[0]?.source, /one\.\.\./)
  t.equal((await create('folded', 'INSEPARABLE')).status, 201)
  t.equal(builder.requests.length, 3)
  t.same(builder.requests[2]?.chunks.map(({ name }) => name.replace(/#.*/, '')), ['npm:two'])
  t.match(builder.requests[2]?.source, /INSEPARABLE/)
  const publisher = new Publisher({ content: made.content, registry: made.registry, builder, clock: systemClock, log: silentLog, regionName: 'us-east-1', engineBuild: () => null })
  for (const [name, first] of [['split', 0], ['folded', 2]] as const) {
    await publisher.rebuild(ACCOUNT, name, '$LATEST')
    const again = builder.requests.at(-1)
    t.same([again?.source, again?.chunks, again?.ownCodeFirst], [builder.requests[first]?.source, builder.requests[first]?.chunks, false])
  }
  t.same(made.audit(), [])
})

await t.test('two updates at once: one wins, the other is told of the conflict', async (t) => {
  const made = await make(t)
  await control(made, 'POST', '', createBody('f'))
  const replies = await Promise.all([control(made, 'PUT', '/f/code', { ZipFile: zip('one') }), control(made, 'PUT', '/f/code', { ZipFile: zip('two') })])
  t.same(replies.map(({ status }) => status).sort(), [200, 409])
  t.match(replies.find(({ status }) => status === 409)?.json, { message: /An update is in progress/ })
  await made.collect()
  t.equal(made.storedImages().length, 2, 'the loser left nothing')
  t.same(made.audit(), [])
})

await t.test('two creations at once: one wins', async (t) => {
  const made = await make(t)
  const replies = await Promise.all([control(made, 'POST', '', createBody('f', 'one')), control(made, 'POST', '', createBody('f', 'two'))])
  t.same(replies.map(({ status }) => status).sort(), [201, 409])
  t.same(made.audit(), [])
})

await t.test('a function deleted while it is updated stays deleted', async (t) => {
  const builder = new FakeBuilder()
  const made = await make(t, { builder })
  await control(made, 'POST', '', createBody('f'))
  const gate = Promise.withResolvers<undefined>()
  builder.gate = gate.promise.then(() => undefined)
  const update = control(made, 'PUT', '/f/code', { ZipFile: zip('new') })
  while (builder.requests.length < 2) await sleep(5)
  t.equal((await control(made, 'DELETE', '/f')).status, 204)
  gate.resolve(undefined)
  t.equal((await update).status, 404)
  await made.collect()
  t.same(made.store.counts(), NOTHING)
})

await t.test('a store that is full refuses the publish whole, and what runs goes on', async (t) => {
  const made = await make(t)
  await control(made, 'POST', '', createBody('f'))
  const before = made.registry.resolve(ACCOUNT, 'f', null)
  // Room for the base, which is there, but not for another function's image.
  const { blockBytes, manifestBytes } = made.store.counts()
  const store = new ObjectStore({ environment: made.environment, keyring: made.keyring, salts: new SaltPolicy(ONE_COPY), clock: systemClock, log: silentLog, contentMaxBytes: blockBytes + manifestBytes + 8_000 })
  const publisher = new Publisher({ content: new Content(store), registry: made.registry, builder: made.builder, clock: systemClock, log: silentLog, regionName: 'us-east-1', engineBuild: () => 'engine-1' })
  t.equal(await codeOf(publisher.publish(order('g'), (transaction, published) => transaction.putFunction(recordOf('g', published)))), 'ERR_STORE_FULL')
  t.equal(made.registry.read(ACCOUNT, 'g').function(), null)
  t.same(made.registry.resolve(ACCOUNT, 'f', null), before)
  t.same(made.audit(), [])
})

await t.test('a commit that throws takes the images with it', async (t) => {
  const made = await make(t)
  const publisher = new Publisher({ content: made.content, registry: made.registry, builder: made.builder, clock: systemClock, log: silentLog, regionName: 'us-east-1', engineBuild: () => 'engine-1' })
  t.equal(await codeOf(publisher.publish(order('f'), (transaction, published) => {
    transaction.putFunction(recordOf('f', published))
    throw new CodedError('ERR_CONFLICT', ['no'])
  })), 'ERR_CONFLICT')
  await made.collect()
  t.same(made.store.counts(), NOTHING)
  t.equal(made.registry.seq(), 0)
  t.same(made.registry.audit(), [])
})

await t.test('a record of a missing image, source or secret is refused', async (t) => {
  const made = await make(t)
  await control(made, 'POST', '', createBody('f'))
  const { latest } = made.registry.read(ACCOUNT, 'f').function() ?? { latest: null }
  if (latest === null) throw new Error('f is not there')
  const attempt = (published: Published): Promise<string> => codeOf(made.registry.commit(ACCOUNT, 'g', { kind: 'write' }, (transaction) => transaction.putFunction(recordOf('g', published))))
  t.equal(await attempt({ ...latest, build: { ...latest.build, imageIds: [image(['x']).imageId] } }), 'ERR_STORE_FAILED')
  t.equal(await attempt({ ...latest, code: { ...latest.code, zipId: '0'.repeat(64) } }), 'ERR_STORE_FAILED')
  t.equal(await attempt({ ...latest, settings: { ...latest.settings, secretsId: 'none' } }), 'ERR_STORE_FAILED')
  t.equal(await attempt(latest), 'none', 'all is there')
  t.same(made.registry.audit(), [])
})

await t.test('every write of a publish, failing before or after it reached the disk, leaves a whole', async (t) => {
  for (const when of ['before', 'after'] as const) {
    for (let failing = 0; ; failing += 1) {
      const path = tempDir()
      const made = await startRegion({ path })
      await control(made, 'POST', '', createBody('f', 'old'))
      const original = made.environment.write.bind(made.environment)
      let writes = 0
      made.environment.write = async (size, action) => {
        writes += 1
        if (writes - 1 !== failing) return await original(size, action)
        if (when === 'after') await original(size, action)
        throw new CodedError('ERR_STORE_FAILED', ['injected'])
      }
      const replies = [
        await control(made, 'PUT', '/f/code', { ZipFile: zip('new'), Publish: true }),
        await control(made, 'POST', '', createBody('g')),
        await control(made, 'DELETE', '/f'),
      ]
      made.environment.write = original
      for (const name of ['f', 'g']) {
        const record = made.registry.read(ACCOUNT, name).function()
        if (record !== null) t.equal(made.registry.resolve(ACCOUNT, name, null).key, record.latest.build.key, 'what runs is what is on disk')
      }
      t.same(made.audit(), [], `write ${failing} fails ${when}: ${replies.map(({ status }) => status).join(' ')}`)
      await made.close()
      const again = await startRegion({ path })
      await again.collect()
      t.same(unnamed(again), [], 'nothing unnamed is left')
      t.same(again.audit(), [])
      await again.close()
      rmSync(path, { recursive: true, force: true })
      if (writes <= failing) break
    }
  }
})

await t.test('images that a crash left are collected, those in use are not', async (t) => {
  const path = tempDir()
  const first = await startRegion({ path })
  await control(first, 'POST', '', createBody('f'))
  const orphan = image(['orphan', 'base-1'])
  await first.content.putImages(ACCOUNT, [orphan])
  t.ok(first.content.hasImage(ACCOUNT, orphan.imageId))
  await first.close()
  const second = await make(t, { path })
  await second.collect()
  t.notOk(second.content.hasImage(ACCOUNT, orphan.imageId))
  t.equal(second.storedImages().length, 2)
  t.same(second.audit(), [])
})

await t.test('sources are kept by content and go with the last version that names them', async (t) => {
  const made = await make(t)
  await control(made, 'POST', '', createBody('f', 'same'))
  await control(made, 'POST', '', createBody('g', 'same'))
  const code = made.registry.read(ACCOUNT, 'f').function()?.latest.code
  const zipId = code?.zipId ?? ''
  t.equal(code?.moduleId, made.registry.read(ACCOUNT, 'g').function()?.latest.code.moduleId)
  await control(made, 'DELETE', '/f')
  await made.collect()
  t.ok(made.content.hasBundle(ACCOUNT, zipId))
  t.equal(Buffer.compare(made.content.readBundle(ACCOUNT, zipId), Buffer.from(zip('same'), 'base64')), 0)
  await control(made, 'DELETE', '/g')
  await made.collect()
  t.notOk(made.content.hasBundle(ACCOUNT, zipId))
})

await t.test('a source that was altered on disk is not built from', async (t) => {
  const made = await make(t)
  await control(made, 'POST', '', createBody('f'))
  const moduleId = made.registry.read(ACCOUNT, 'f').function()?.latest.code.moduleId ?? ''
  const manifest = made.store.openSealed(ACCOUNT, parseObjectId(moduleId))?.manifest ?? Buffer.alloc(0)
  const [block = ''] = blocksOf(decodeSealedManifest(manifest, parseObjectId(moduleId)))
  const raw = made.environment.table<Buffer>('sealedBlocks', 'binary')
  await made.environment.write({ kind: 'removes' }, () => void raw.put(Buffer.from(block, 'hex'), Buffer.from('export const handler = "evil"')))
  t.match(await control(made, 'PUT', '/f/configuration', { Environment: { Variables: { A: '1' } } }), { status: 500, json: { OutpostCode: 'ERR_STORE_BLOCK', Message: new RegExp(block) } })
})

await t.test('the disk of a region shows neither code nor secrets, and a set of secrets opens at its place only', async (t) => {
  const path = tempDir()
  t.teardown(async () => rmSync(path, { recursive: true, force: true }))
  const made = await startRegion({ path })
  const code = 'a handler that nobody else has'
  for (const name of ['f', 'g']) t.equal((await control(made, 'POST', '', { FunctionName: name, Code: { ZipFile: zip(code) }, Outpost: { Secrets: { TOKEN: `the secret of ${name}` } } })).status, 201)
  t.same(made.registry.resolve(ACCOUNT, 'f', null).secrets, { TOKEN: 'the secret of f' })
  const table = made.environment.table<string[]>('secrets', 'ordered')
  const [f, g] = [...table.getRange()].map(({ key, value }) => ({ key, value: Buffer.from(value) }))
  if (f === undefined || g === undefined) throw new Error('no secrets are stored')
  await made.environment.write({ kind: 'removes' }, () => void table.put(f.key, g.value))
  t.throws(() => made.registry.secretsOf(ACCOUNT, 'f', f.key[2] ?? null), { code: 'ERR_STORE_KEY' })
  await made.environment.write({ kind: 'removes' }, () => void table.put(f.key, f.value))
  made.keyring.rotate()
  t.equal(await made.registry.resealSecrets(), 2)
  t.same(made.registry.secretsOf(ACCOUNT, 'f', f.key[2] ?? null), { TOKEN: 'the secret of f' })
  t.same(made.audit(), [])
  await made.close()
  const disk = readFileSync(join(path, 'data.mdb'))
  for (const text of [code, 'the secret of', 'export const handler']) t.equal(disk.indexOf(text), -1, text)
  t.not(disk.indexOf('"handlerExport"'), -1, 'records are in it')
})

await t.test('the feed gives the newest change of every function since a number', async (t) => {
  const made = await make(t)
  const { registry } = made
  for (const name of ['a', 'b', 'c']) await control(made, 'POST', '', createBody(name))
  await control(made, 'PUT', '/a/configuration', { Description: 'x' })
  await control(made, 'DELETE', '/b')
  const names = (seq: number, limit = 100): unknown => {
    const since = registry.changesSince(seq, limit)
    return since.kind === 'resync' ? since : [since.changes.map(({ seq: at, functionName, deleted }) => `${at} ${functionName}${deleted ? ' deleted' : ''}`), since.more]
  }
  t.same(names(0), [['3 c', '4 a', '5 b deleted'], false])
  t.same(names(0, 2), [['3 c', '4 a'], true])
  t.same(names(4), [['5 b deleted'], false])
  t.same(names(5), [[], false])
  t.same(names(6), { kind: 'resync', seq: 5 }, 'a number from the future: the store was replaced')
  await control(made, 'POST', '', createBody('b'))
  t.same(names(4), [['6 b'], false])
  t.same(registry.audit(), [])
})

await t.test('a feed that has forgotten deletions says so', async (t) => {
  const made = await make(t, { tombstonesMax: 2 })
  for (const name of ['a', 'b', 'c', 'd']) await control(made, 'POST', '', createBody(name))
  for (const name of ['a', 'b', 'c']) await control(made, 'DELETE', `/${name}`)
  t.match(made.registry.changesSince(4, 10), { kind: 'resync', seq: 7 }, 'the deletion of a, 5, is forgotten')
  t.match(made.registry.changesSince(5, 10), { kind: 'changes', changes: [{ seq: 6, functionName: 'b', deleted: true, latest: null, liveKeys: [] }, { functionName: 'c' }] })
  t.same(made.registry.audit(), [])
})

await t.test('a listener hears of a change when it can be read, and no more after it stopped', async (t) => {
  const made = await make(t)
  const heard: string[] = []
  const stop = made.registry.onChange(({ functionName, latest }) => {
    heard.push(functionName)
    t.equal(made.registry.resolve(ACCOUNT, functionName, null).key, latest)
  })
  await control(made, 'POST', '', createBody('a'))
  await control(made, 'PUT', '/a/code', { ZipFile: zip('2') })
  stop()
  await control(made, 'POST', '', createBody('b'))
  t.same(heard, ['a', 'a'])
})

await t.test('a listener that throws does not make a write fail', async (t) => {
  const made = await make(t)
  const heard: number[] = []
  made.registry.onChange(() => {
    throw new Error('broken')
  })
  made.registry.onChange(({ seq }) => void heard.push(seq))
  t.equal((await control(made, 'POST', '', createBody('f'))).status, 201)
  t.same(heard, [1])
})

await t.test('a description is never kept under a number that hides its successor', async (t) => {
  const made = await make(t)
  const { links } = made.region
  await control(made, 'POST', '', createBody('f'))
  const seen = new Map<string, number>()
  const changed = new Map<string, number>()
  made.registry.onChange(({ seq, latest }) => void changed.set(latest ?? '', seq))
  const state = { done: false }
  const watching = (async () => {
    while (!state.done) {
      const described = await links.describe('pop-1', ACCOUNT, 'f', null)
      const key = described?.routes[0]?.build.key ?? ''
      seen.set(key, Math.max(seen.get(key) ?? 0, described?.seq ?? 0))
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  for (let index = 0; index < 25; index += 1) await control(made, 'PUT', '/f/code', { ZipFile: zip(`${index}`) })
  state.done = true
  await watching
  t.ok(seen.size > 5, `${seen.size} builds were seen`)
  const order = [...changed.entries()]
  for (const [key, seq] of seen) {
    const successor = order[order.findIndex(([other]) => other === key) + 1]
    if (successor !== undefined) t.ok(seq < successor[1], `${seq} before ${successor[1]}`)
  }
})

await t.test('accounts do not see each other', async (t) => {
  const made = await make(t)
  await control(made, 'POST', '', createBody('f'))
  t.throws(() => made.registry.resolve('111111111111', 'f', null), { code: 'ERR_FUNCTION_NOT_FOUND' })
  t.same(made.registry.list('111111111111', '', 10), [])
  t.same(made.registry.list('00000000000', '', 10), [], 'nor one that is a prefix')
})

await t.test('turns: bounded, in order, and free again after a failure', async (t) => {
  const turns = new BoundedTurns(1, 2)
  const log: number[] = []
  const task = (number: number) => async (): Promise<void> => {
    log.push(number)
    await sleep(2)
    if (number === 2) throw new Error('two')
  }
  const results = await Promise.allSettled([1, 2, 3, 4].map((number) => turns.run(task(number))))
  t.same(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled', 'rejected'])
  t.same(log, [1, 2, 3])
  await turns.run(task(5))
  const single = new SingleTurns()
  await Promise.allSettled([2, 6].map((number) => single.run(task(number))))
  await single.idle()
  t.same(log, [1, 2, 3, 5, 2, 6])
})
