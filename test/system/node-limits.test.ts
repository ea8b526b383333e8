/** Concurrency limits of a region with several nodes over NATS: each of them admits calls, all of them count one account. */
import t from 'tap'
import { runProcess } from '../support/cli.ts'
import { startUpstream, waiter } from '../support/counting-upstream.ts'
import { eventually } from '../support/dev-server.ts'
import { metric, startRegionNodes, untilRing } from '../support/region-nodes.ts'
import { call, type AdminTier, type Called } from '../support/site.ts'

const MAXIMUM = 6
const NAMES = Array.from({ length: 6 }, (_, index) => `waiter${index}`)

t.setTimeout(240_000)
const upstream = await startUpstream(t)
const region = await startRegionNodes(t, 3, ['--egress-allow', `127.0.0.1:${upstream.port}`, '--account-concurrency', String(MAXIMUM)])
if (region === null) process.exit(0)
const { nodes, nats } = region
for (const name of NAMES) await region.deploy(name, waiter(upstream.port))
for (const node of nodes) for (const name of NAMES) await eventually(() => call(node, name, { path: '/quick' }), ({ status }) => status === 200)

/** Calls of all functions to all nodes in turn; answers of those that were not lost. */
async function burst(count: number, among: readonly AdminTier[]): Promise<Called[]> {
  const calls = Array.from({ length: count }, (_, index) => call(among[index % among.length] as AdminTier, NAMES[index % NAMES.length] ?? '').catch(() => null))
  await eventually(() => Promise.resolve(upstream.running()), (running) => running >= MAXIMUM, 20_000)
  await new Promise((resolve) => setTimeout(resolve, 500))
  upstream.release()
  const answers = (await Promise.all(calls)).filter((answer) => answer !== null)
  await eventually(() => Promise.resolve(upstream.running()), (running) => running === 0)
  upstream.hold()
  return answers
}

await t.test('calls to all nodes: exactly the maximum runs at once, the rest is refused', async (t) => {
  const answers = await burst(24, nodes)
  t.equal(upstream.peak(), MAXIMUM)
  t.same([...new Set(answers.map(({ status }) => status))].sort(), [200, 429])
  t.ok(new Set(answers.filter(({ status }) => status === 200).map(({ headers }) => headers.get('x-outpost-node'))).size > 1, 'at several nodes')
  const leased = await Promise.all(nodes.map((node) => metric(node, 'region_limits_shares_count')))
  t.equal(leased.filter((count) => count > 0).length, 1, 'one node counts the account')
})

await t.test('the node that counts an account is killed: another one does, and never too many run', async (t) => {
  const counts = await Promise.all(nodes.map((node) => metric(node, 'region_limits_shares_count')))
  const counting = nodes[counts.findIndex((count) => count > 0)] as AdminTier
  await counting.kill('SIGKILL')
  const rest = nodes.filter((node) => node !== counting)
  await untilRing(rest)
  // What the dead node had leased for itself is free when its lease and the grace are over.
  await eventually(() => burst(18, rest).then(() => true, () => false), (full) => full, 90_000)
  t.equal(upstream.peak(), MAXIMUM)
})

await t.test('an operator changes the maximum, and all nodes go by it', async (t) => {
  const { code, err } = await runProcess(['region', 'account', 'set', '000000000000', '--concurrency', '2', '--nats', nats.url])
  t.equal(code, 0, err)
  const before = upstream.peak()
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  upstream.release()
  const rest = (await Promise.all(nodes.map(async (node) => ((await fetch(`${node.adminUrl}/readyz`).catch(() => null))?.ok === true ? node : null)))).filter((node) => node !== null)
  await Promise.all(NAMES.map((name, index) => call(rest[index % rest.length] as AdminTier, name)))
  upstream.hold()
  const calls = Array.from({ length: 8 }, (_, index) => call(rest[index % rest.length] as AdminTier, NAMES[index % NAMES.length] ?? ''))
  const refused: Called[] = []
  for (const each of calls) void each.then((answer) => answer.status === 429 && refused.push(answer))
  // One that waits for a slot that was called back hears within two seconds that there is none.
  await eventually(() => Promise.resolve(refused.length), (count) => count >= 6)
  t.equal(upstream.running(), 2)
  upstream.release()
  t.same((await Promise.all(calls)).filter(({ status }) => status === 200).length, 2)
  t.equal(upstream.peak(), before)
})
