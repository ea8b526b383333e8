/** Several nodes of one region: where calls run, and what happens when nodes come and go. */
import t from 'tap'
import { ringKey } from '../../shared/place/ring.ts'
import { LinkClient } from '../../shared/link/link-client.ts'
import { systemClock } from '../../shared/clock.ts'
import { systemRandom } from '../../shared/random.ts'
import { silentLog } from '../../shared/log.ts'
import { MemoryCoordination } from '../support/memory-coordination.ts'
import { openFrame, PUBLIC_KEY, RecordingSink, until } from '../shared/link/harness.ts'
import { answer, okResult } from './fakes.ts'
import { ACCOUNT, call, deploy, startNode, startNodes, untilRing, type TestNode } from './nodes-harness.ts'

type Three = readonly [TestNode, TestNode, TestNode]

function ownerOf(node: TestNode, functionName: string): string {
  return node.nodes.cluster?.ring?.owners(ringKey(ACCOUNT, functionName), 'pool')[0] ?? ''
}

/** A function that `owner` is the home of. */
function functionOf(node: TestNode, owner: string, functionNames: readonly string[]): string {
  const found = functionNames.find((name) => ownerOf(node, name) === owner)
  if (found === undefined) throw new Error(`no function is at home at ${owner}`)
  return found
}

const NAMES = Array.from({ length: 20 }, (_, index) => `f${index}`)

await t.test('calls of one function run at its home from whichever node they come to, and find its image there', async (t) => {
  const coordination = new MemoryCoordination()
  const nodes = await startNodes(t, coordination, ['a', 'b', 'c'])
  for (const name of NAMES) await deploy(nodes, name)
  for (const name of NAMES) {
    const answers = []
    for (const node of nodes) answers.push(await call(node, name))
    t.same(new Set(answers.map(({ node }) => node)), new Set([ownerOf(nodes[0] as TestNode, name)]), name)
    t.same(answers.map(({ start }) => start), ['cold', 'warm', 'warm'], 'one of them had to load the image')
    t.ok(answers.every(({ code, body }) => code === null && body.includes('"version":"$LATEST"')))
  }
  t.equal(nodes.reduce((sum, { host }) => sum + host.runs.length, 0), 3 * NAMES.length, 'each ran once')
  t.ok(nodes.every(({ host }) => host.runs.length > 0), 'all of them are the home of some')
})

await t.test('a POP and Invoke by the control plane get there as well', async (t) => {
  const nodes = await startNodes(t, new MemoryCoordination(), ['a', 'b', 'c']) as Three
  for (const name of NAMES) await deploy(nodes, name)
  const [a, b] = nodes
  const name = functionOf(a, 'b', NAMES)
  const pop = new LinkClient({ url: a.url, token: 'of POPs', popId: 'pop-1', publicKey: PUBLIC_KEY, clock: systemClock, random: systemRandom, log: silentLog })
  t.teardown(() => pop.close())
  pop.start()
  await until(() => pop.state.kind === 'open')
  const sink = new RecordingSink()
  pop.open(openFrame({ account: ACCOUNT, functionName: name, body: Buffer.from('x') }), sink)
  t.match(await sink.whenOver(), { outcome: 'ok', kinds: 'started head bodyEnd end' })
  const reply = await a.region.control({ requestId: 'r', method: 'POST', rawPath: `/2015-03-31/functions/${name}/invocations`, headers: 'authorization\nAWS4-HMAC-SHA256 any', body: Buffer.from('{}'), clientIp: '' })
  t.equal(reply.status, 200)
  t.equal(b.host.runs.length, 2)
  t.equal(a.host.runs.length, 0)
  const looping = new RecordingSink()
  pop.open(openFrame({ account: ACCOUNT, functionName: name, hops: 2 }), looping)
  t.equal((await looping.whenOver()).errorCode, 'ERR_LINK_LOOP', 'a POP forwards once')
})

await t.test('bodies go through in both directions, and a client that leaves ends the run at the owner', async (t) => {
  const nodes = await startNodes(t, new MemoryCoordination(), ['a', 'b', 'c']) as Three
  for (const name of NAMES) await deploy(nodes, name)
  const [a, b] = nodes
  const name = functionOf(a, 'b', NAMES)
  b.host.onInvoke = (run) => {
    void until(() => run.writeEnded).then(() => answer(run))
  }
  const streamed = await call(a, name, { body: Buffer.from('begin'), bodyMore: true }, (run) => {
    run.write(Buffer.from('middle'))
    run.write(Buffer.from('end'))
    run.writeEnd()
  })
  t.match(JSON.parse(streamed.body), { body: 'begin', more: 'middleend' })
  b.host.onInvoke = () => undefined
  const canceled = call(a, name, {}, (run) => {
    void until(() => b.host.runs.length === 2).then(() => run.cancel())
  })
  t.match(await canceled, { result: { outcome: 'canceled' } })
  t.equal(b.host.runs[1]?.canceled, true)
})

await t.test('an owner that cannot be reached, is full, drains or is behind: the call runs where it came to, once', async (t) => {
  const nodes = await startNodes(t, new MemoryCoordination(), ['a', 'b', 'c']) as Three
  for (const name of NAMES) await deploy(nodes, name)
  const [a, b] = nodes
  const name = functionOf(a, 'b', NAMES)
  const body = { body: Buffer.from('begin'), bodyMore: true }
  const write = (run: { write(chunk: Uint8Array): void; writeEnd(): void }): void => {
    run.write(Buffer.from('rest'))
    run.writeEnd()
  }
  a.host.onInvoke = (run) => void until(() => run.writeEnded).then(() => answer(run))

  b.host.capacityPages = 0
  const full = await call(a, name, body, write)
  t.match(full, { node: 'a', code: null })
  t.match(JSON.parse(full.body), { body: 'begin', more: 'rest' }, 'with all of its body')
  b.host.capacityPages = Number.POSITIVE_INFINITY

  // What was published at one node has not come to the other yet: nothing of it, or only that it was another one before.
  for (const fresh of ['news', 'news2', 'news3', 'news4', 'news5', 'news6']) {
    await deploy([a], fresh)
    t.match(await call(a, fresh, body, write), { node: 'a', code: null }, fresh)
  }
  await deploy([a], name, 'export const handler = "another one"')
  t.match(await call(a, name, body, write), { node: 'a', code: null })
  t.equal(b.host.runs.length, 0, 'b knows that its own word on the function is old')

  b.kill()
  await until(() => !a.nodes.peers.reachable('b'))
  t.match(await call(a, name, body, write), { node: 'a', code: null })
})

await t.test('what may have run at an owner that is lost is not run again', async (t) => {
  const nodes = await startNodes(t, new MemoryCoordination(), ['a', 'b', 'c']) as Three
  for (const name of NAMES) await deploy(nodes, name)
  const [a, b] = nodes
  const name = functionOf(a, 'b', NAMES)
  b.host.onInvoke = () => undefined
  const lost = call(a, name)
  await until(() => b.host.runs.length === 1)
  b.kill()
  t.match(await lost, { code: 'ERR_PEER_LOST' })
  t.equal(a.host.runs.length, 0)
})

await t.test('a hot function fills its home and then asks the others to help', async (t) => {
  const nodes = await startNodes(t, new MemoryCoordination(), ['a', 'b', 'c']) as Three
  for (const name of NAMES) await deploy(nodes, name)
  const [a] = nodes
  const name = functionOf(a, 'b', NAMES)
  for (const { host } of nodes) host.onInvoke = () => undefined
  const calls = Array.from({ length: 60 }, () => call(a, name))
  await until(() => nodes.reduce((sum, { host }) => sum + host.runs.length, 0) === 60)
  const [atA, atB, atC] = nodes.map(({ host }) => host.runs.length) as [number, number, number]
  t.ok(atB >= atA && atB >= atC, 'its home has most')
  t.ok(atA > 5 && atC > 5, `the others help: ${atA} ${atB} ${atC}`)
  for (const { host } of nodes) for (const run of host.runs) run.sink.end(okResult)
  t.ok((await Promise.all(calls)).every(({ code }) => code === null))
  for (const { host } of nodes) host.onInvoke = (run) => setImmediate(() => answer(run))
  t.match(await call(a, name), { node: 'b' })
})

await t.test('nodes that come and go: calls find their images in memory before and after', async (t) => {
  const coordination = new MemoryCoordination()
  const first = await startNodes(t, coordination, ['a', 'b', 'c']) as Three
  for (const name of NAMES) await deploy(first, name)
  for (const name of NAMES) await call(first[0], name)
  const d = await startNode(t, coordination, 'd')
  // It has a registry of its own in this test, so the images are there only now: a join loads what it can.
  for (const name of NAMES) await deploy([d], name)
  await untilRing([...first, d], ['a', 'b', 'c', 'd'])
  for (const name of NAMES) await call(d, name)
  await first[0].nodes.drain(20_000)
  await untilRing([first[1], first[2], d], ['b', 'c', 'd'])
  const starts = []
  for (const name of NAMES) starts.push((await call(d, name)).start)
  t.same(starts, NAMES.map(() => 'warm'), 'those of the one that left were loaded by their next owners')
  t.match(await call(first[0], NAMES[0] ?? ''), { code: null, node: ownerOf(d, NAMES[0] ?? '') }, 'one that has drained forwards')
})
