/** A registry that several nodes share, over the embedded driver: each node is a client of its own. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Content } from '../../region/content.ts'
import { SharedContent } from '../../region/shared-content.ts'
import { systemClock } from '../../shared/clock.ts'
import { EmbeddedCoordination } from '../../shared/coordination/embedded.ts'
import { silentLog } from '../../shared/log.ts'
import { eventually } from '../support/dev-server.ts'
import { ACCOUNT, createBody, describe, startSharedNode, zipText, type SharedNode } from './shared-harness.ts'

interface Site {
  readonly folder: string
  readonly node: (name: string) => Promise<SharedNode>
}

function site(t: Test): Site {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-shared-'))
  const nodes: SharedNode[] = []
  t.teardown(async () => {
    await Promise.all(nodes.map((node) => node.close().catch(() => undefined)))
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    folder,
    async node(name) {
      const node = await startSharedNode(folder, name, EmbeddedCoordination.open({ path: join(folder, 'coordination'), clock: systemClock }))
      nodes.push(node)
      await eventually(() => Promise.resolve(node.registry.status().current), Boolean)
      return node
    },
  }
}

async function same(t: Test, nodes: readonly SharedNode[], name: string): Promise<void> {
  const states = (): string[] => [...new Set(nodes.map((node) => describe(node, name)))]
  await eventually(() => Promise.resolve(states().length), (count) => count === 1, 10_000).catch(() => t.fail(`they differ: ${states().join('  ')}`))
  for (const node of nodes) {
    await eventually(() => Promise.resolve(node.audit().length), (count) => count === 0, 10_000).catch(() => undefined)
    t.same(node.audit(), [])
  }
}

await t.test('what is published at one node is everywhere, with its images, versions, aliases and secrets', async (t) => {
  const { node } = site(t)
  const [a, b] = [await node('a'), await node('b')]
  const created = await a.call('POST', '', { ...createBody('hello'), Outpost: { Secrets: { KEY: 'a secret' } } })
  t.equal(created.status, 201)
  await same(t, [a, b], 'hello')
  t.equal(b.registry.resolve(ACCOUNT, 'hello', null).secrets['KEY'], 'a secret')
  t.equal((await b.call('POST', '/hello/versions', {})).json['Version'], '1', 'a node publishes what another has made')
  t.equal((await a.call('PUT', '/hello/code', { ZipFile: zipText('changed') })).status, 200)
  t.equal((await b.call('POST', '/hello/aliases', { Name: 'prod', FunctionVersion: '1' })).status, 201)
  await same(t, [a, b], 'hello')
  await eventually(() => Promise.resolve(a.registry.seq() === b.registry.seq()), Boolean)
  t.equal((await b.call('DELETE', '/hello')).status, 204)
  await eventually(() => Promise.resolve(a.registry.read(ACCOUNT, 'hello').function()), (record) => record === null)
  await same(t, [a, b], 'hello')
  t.equal((await a.call('POST', '', createBody('hello', 'again'))).status, 201, 'a name that was deleted is free')
  await same(t, [a, b], 'hello')
})

await t.test('listeners of every node hear of each change, in order, with the same numbers', async (t) => {
  const { node } = site(t)
  const [a, b] = [await node('a'), await node('b')]
  const heard = [a, b].map((node) => {
    const seqs: string[] = []
    node.registry.onChange(({ seq, functionName, deleted }) => seqs.push(`${seq} ${functionName} ${deleted}`))
    return seqs
  })
  for (const name of ['f1', 'f2', 'f3']) await a.call('POST', '', createBody(name))
  await same(t, [a, b], 'f3')
  await b.call('DELETE', '/f2')
  await b.call('POST', '/f3/versions', {})
  await same(t, [a, b], 'f3')
  await eventually(() => Promise.resolve(heard.every(({ length }) => length === 5)), Boolean)
  t.same(heard[1], heard[0])
  const numbers = heard[0]?.map((line) => Number(line.split(' ')[0])) ?? []
  t.same(numbers, [...numbers].sort((one, two) => one - two))
  const since = b.registry.changesSince(numbers[2] ?? 0, 10)
  t.match(since, { kind: 'changes', more: false })
  t.same(since.kind === 'changes' ? since.changes.map(({ functionName, deleted }) => [functionName, deleted]) : [], [['f2', true], ['f3', false]])
})

await t.test('nodes that publish versions of one function at once give each number once, and all are everywhere', async (t) => {
  const { node } = site(t)
  const nodes = [await node('a'), await node('b'), await node('c')]
  const [a] = nodes
  if (a === undefined) return
  await a.call('POST', '', createBody('hot'))
  await same(t, nodes, 'hot')
  const given: string[] = []
  await Promise.all(nodes.map(async (each, writer) => {
    for (let round = 0; round < 6; round += 1) {
      // A client whose update was overtaken is told so, as Lambda does, and tries again.
      const updated = await eventually(() => each.call('PUT', '/hot/code', { ZipFile: zipText(`${writer} ${round}`), Publish: true }), ({ status }) => status !== 409)
      t.equal(updated.status, 200, String(updated.json['message']))
      given.push(String(updated.json['Version']))
    }
  }))
  t.same([...new Set(given)].length, 18, `numbers ${given.join()}`)
  await same(t, nodes, 'hot')
  for (const each of nodes) for (const version of given) t.ok(each.registry.read(ACCOUNT, 'hot').version(version), `${version} is there`)
})

await t.test('a node that was away catches up: changes, deletions and images', async (t) => {
  const { node } = site(t)
  const a = await node('a')
  const away = await node('b')
  for (const name of ['kept', 'changed', 'gone']) await a.call('POST', '', createBody(name))
  await same(t, [a, away], 'gone')
  await away.close()
  await a.call('DELETE', '/gone')
  await a.call('PUT', '/changed/code', { ZipFile: zipText('anew') })
  await a.call('POST', '', createBody('new'))
  const back = await node('b')
  for (const name of ['kept', 'changed', 'gone', 'new']) {
    t.equal(describe(back, name), describe(a, name), name)
  }
  await eventually(() => Promise.resolve(back.audit().join()), (problems) => problems === '')
  const fresh = await node('c')
  for (const name of ['kept', 'changed', 'gone', 'new']) {
    // A deletion that it never knew of is none to it.
    if (name !== 'gone') t.equal(describe(fresh, name), describe(a, name), name)
  }
  await eventually(() => Promise.resolve(fresh.audit().join()), (problems) => problems === '')
  t.pass()
})

await t.test('a node further behind than deletions are remembered drops what is gone', async (t) => {
  const { node, folder } = site(t)
  const a = await node('a')
  const away = await node('b')
  for (const name of ['f1', 'f2', 'f3', 'kept']) await a.call('POST', '', createBody(name))
  await same(t, [a, away], 'kept')
  const seen = away.registry.seq()
  await away.close()
  for (const name of ['f1', 'f2', 'f3']) await a.call('DELETE', `/${name}`)
  const other = EmbeddedCoordination.open({ path: join(folder, 'coordination'), clock: systemClock })
  t.equal(await (await other.documents('registry')).forgetDeleted(0), 3)
  await other.close()
  const back = await node('b')
  for (const name of ['f1', 'f2', 'f3']) t.equal(back.registry.read(ACCOUNT, name).function(), null)
  t.equal(describe(back, 'kept'), describe(a, 'kept'))
  t.equal(back.registry.changesSince(seen, 10).kind, 'resync', 'and so do its POPs')
  t.same(back.audit(), [])
})

await t.test('a region without other nodes brings its functions along, and a store that was lost is filled again', async (t) => {
  const { node, folder } = site(t)
  const a = await node('a')
  await a.call('POST', '', createBody('mine', 'first'))
  await a.call('PUT', '/mine/code', { ZipFile: zipText('second'), Publish: true })
  const before = describe(a, 'mine')
  await a.close()
  rmSync(join(folder, 'coordination'), { recursive: true })
  const b = await node('b')
  await b.call('POST', '', createBody('other'))
  const again = await node('a')
  await eventually(() => Promise.resolve(b.registry.read(ACCOUNT, 'mine').version('1')), (version) => version !== null)
  await same(t, [again, b], 'mine')
  await same(t, [again, b], 'other')
  const withoutSeq = (text: string): unknown => (JSON.parse(text) as unknown[]).slice(0, 3)
  t.same(withoutSeq(describe(b, 'mine')), withoutSeq(before))
  t.equal((await b.call('PUT', '/mine/code', { ZipFile: zipText('third'), Publish: true })).json['Version'], '2')
  await same(t, [again, b], 'mine')
})

await t.test('a store that lost its end, as in a power cut, gets back what was acknowledged', async (t) => {
  const { node, folder } = site(t)
  const a = await node('a')
  await a.call('POST', '', createBody('changed', 'old'))
  await a.call('POST', '', createBody('gone'))
  await a.close()
  cpSync(join(folder, 'coordination'), join(folder, 'earlier'), { recursive: true })
  const later = await node('a')
  await later.call('DELETE', '/gone')
  await later.call('PUT', '/changed/code', { ZipFile: zipText('acknowledged'), Publish: true })
  await later.call('POST', '', createBody('new'))
  const expected = ['changed', 'new'].map((name) => (JSON.parse(describe(later, name)) as unknown[]).slice(0, 3))
  await later.close()
  rmSync(join(folder, 'coordination'), { recursive: true })
  cpSync(join(folder, 'earlier'), join(folder, 'coordination'), { recursive: true })
  const again = await node('a')
  const fresh = await node('b')
  await eventually(() => Promise.resolve(fresh.registry.read(ACCOUNT, 'new').function()), (record) => record !== null)
  await same(t, [again, fresh], 'changed')
  await same(t, [again, fresh], 'new')
  for (const each of [again, fresh]) t.equal(each.registry.read(ACCOUNT, 'gone').function(), null, 'deletions too')
  t.same(['changed', 'new'].map((name) => (JSON.parse(describe(fresh, name)) as unknown[]).slice(0, 3)), expected)
})

await t.test('a pass over the shared content deletes what nothing names any more, and nothing else', async (t) => {
  const { node, folder } = site(t)
  const [a, b] = [await node('a'), await node('b')]
  await a.call('POST', '', createBody('kept'))
  await a.call('POST', '', createBody('gone'))
  await same(t, [a, b], 'gone')
  await b.call('PUT', '/kept/code', { ZipFile: zipText('newer'), Publish: true })
  await b.call('DELETE', '/gone')
  await eventually(() => Promise.resolve(a.registry.read(ACCOUNT, 'gone').function()), (record) => record === null)
  await same(t, [a, b], 'kept')
  const other = EmbeddedCoordination.open({ path: join(folder, 'coordination'), clock: systemClock })
  t.teardown(() => other.close())
  const blobs = await other.blobs('content')
  const count = async (): Promise<number> => {
    let blobCount = 0
    for await (const entry of blobs.list()) blobCount += entry.bytes > 0 ? 1 : 0
    return blobCount
  }
  const before = await count()
  t.equal(await a.housekeeping.run() + await b.housekeeping.run(), 0, 'all of it is young')
  const shared = new SharedContent({ blobs, coordination: other, store: a.store, content: new Content(a.store), clock: systemClock, log: silentLog, graceMs: -1 })
  const deleted = await shared.collect({ objects: a.registry.liveObjects(), rows: a.registry.liveRows() }, () => false)
  t.ok(deleted > 0, `${deleted} of ${before} deleted`)
  t.equal(await count(), before - deleted)
  t.equal(await shared.collect({ objects: a.registry.liveObjects(), rows: a.registry.liveRows() }, () => false), 0)
  const fresh = await node('c')
  t.equal(describe(fresh, 'kept'), describe(a, 'kept'))
  await eventually(() => Promise.resolve(fresh.audit().join()), (problems) => problems === '')
  t.pass('a node that starts from nothing finds everything')
})

await t.test('an image that is not here is fetched when it is wanted', async (t) => {
  const { node } = site(t)
  const [a, b] = [await node('a'), await node('b')]
  await a.call('POST', '', createBody('hello'))
  await same(t, [a, b], 'hello')
  // As if it had not come in time: the object goes, its record stays.
  const { imageId } = b.registry.resolve(ACCOUNT, 'hello', null)
  await b.store.environment.write({ kind: 'removes' }, () => {
    for (const key of b.store.tables.objectsAfter(null, 1_000)) b.store.tables.removeObject(key)
  })
  t.not(b.audit().length, 0)
  const builds = b.builder.requests.length
  const invoked = await b.call('POST', '/hello/invocations', {})
  t.equal(invoked.status, 200)
  t.equal(b.host.hasImage(imageId), true)
  t.equal(b.builder.requests.length, builds, 'not built again')
})
