/**
 * Two nodes of a region and the NATS server that they agree by, each at a host of its own, with calendars that differ by
 * twenty minutes. The server is out of reach of one node, and then is killed. What clients of either node see.
 */
import t from 'tap'
import { Keyring } from '../../shared/store/keyring.ts'
import { codesOf, look, startCallers, summary } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { apiOf, deploy, startNet, type NetTier } from '../support/net-site.ts'
import { answering, BUSY_MS } from './far.ts'

/** A node whose lease was not renewed for this long is out of the ring: 6 s, and what the leader waits. */
const OUT_MS = 10_000
/** A publish that cannot be agreed on is refused within this. */
const REFUSED_MS = 15_000
const SHIFT_S = 600

async function ringOf(node: NetTier): Promise<number> {
  return Number(/^region_ring_members_count (\d+)$/m.exec(await node.metrics())?.[1])
}

await t.test('nodes of a region go on without their NATS server', async (t) => {
  const net = await startNet(t, ['nats', 'a', 'b'])
  if (net === null) return
  const nats = await net.nats('nats')
  if (nats === null) return
  Keyring.load(net.path('keyring.json'))
  const argv = ['--nats', nats.url, '--keyring', net.path('keyring.json'), '--workers', '1', '--memory', '256']
  const [a, b] = await Promise.all([net.region('a', { argv, clockShiftS: SHIFT_S }), net.region('b', { argv, clockShiftS: -SHIFT_S })])
  for (const node of [a, b]) await eventually(() => ringOf(node), (members) => members === 2, 40_000)
  for (let index = 0; index < 8; index += 1) await deploy(a, `f${index}`, answering('one'))
  for (let index = 0; index < 8; index += 1) await eventually(() => look(b, `f${index}`), ({ body }) => body === 'one')
  let next = 0
  const calls = [a, b].map((node) => startCallers(t, () => [node, `f${next++ % 8}`], { count: 1, pauseMs: 20 }))

  await t.test('out of reach of one: no call fails, that node publishes nothing and says so, and leaves the ring; at the heal it is up to date before it is back', async (t) => {
    await net.wan.partition('b', 'nats')
    const cutAtMs = performance.now()
    await deploy(a, 'f0', answering('two'))
    await t.rejects(deploy(b, 'f1', answering('never')), { code: 'ERR_COORDINATION_UNREACHABLE' })
    t.ok(performance.now() - cutAtMs < REFUSED_MS, `refused ${Math.round(performance.now() - cutAtMs)} ms after the cut`)
    await eventually(() => ringOf(a), (members) => members === 1, OUT_MS + 5_000)
    t.comment(`out of the ring ${Math.round(performance.now() - cutAtMs)} ms after the cut`)
    t.match(await look(a, 'f0'), { status: 200, body: 'two' })
    t.match(await look(b, 'f1'), { status: 200, body: 'one' })
    await net.wan.heal('b', 'nats')
    const healedAtMs = performance.now()
    await eventually(() => look(b, 'f0'), ({ body }) => body === 'two')
    t.comment(`what was published meanwhile is there ${Math.round(performance.now() - healedAtMs)} ms after the heal`)
    for (const node of [a, b]) await eventually(() => ringOf(node), (members) => members === 2, 40_000)
    t.comment(`back in the ring after ${Math.round(performance.now() - healedAtMs)} ms`)
    t.match(await look(b, 'f1'), { body: 'one' })
  })

  await t.test('killed: no call fails, nothing can be published; back again, everything can', async (t) => {
    await nats.kill('SIGKILL')
    const killedAtMs = performance.now()
    await t.rejects(deploy(a, 'f2', answering('never')), { code: 'ERR_COORDINATION_UNREACHABLE' })
    t.ok(performance.now() - killedAtMs < REFUSED_MS, `refused after ${Math.round(performance.now() - killedAtMs)} ms`)
    await nats.start()
    const upAtMs = performance.now()
    await eventually(() => deploy(a, 'f3', answering('three')).then(() => true), (done) => done, 30_000)
    t.comment(`published again ${Math.round(performance.now() - upAtMs)} ms after the server is up`)
    for (const node of [a, b]) await eventually(() => look(node, 'f3'), ({ body }) => body === 'three')
    t.match(await look(b, 'f2'), { body: 'one' })
    t.ok(await apiOf(b).getConfiguration('f3'))
  })
  const seen = (await Promise.all(calls.map((each) => each.stop()))).flat()
  t.same(codesOf(seen), [], summary(seen))
  t.ok(seen.every(({ tookMs }) => tookMs < 5 * BUSY_MS), `the slowest took ${Math.round(Math.max(...seen.map(({ tookMs }) => tookMs)))} ms`)
})
