/** A region of several nodes, from outside: real processes over NATS. One region for all of it: four nodes take a while to start. */
import t from 'tap'
import type { RingDocument } from '../../shared/place/ring.ts'
import { runProcess } from '../support/cli.ts'
import { eventually } from '../support/dev-server.ts'
import { metric, startRegionNodes, untilRing } from '../support/region-nodes.ts'
import { call, type AdminTier, type Called } from '../support/site.ts'

const COUNTER = 'let n = 0; export default { async fetch(request) { return Response.json({ n: ++n, method: request.method, body: await request.text() }) } }'
const NAMES = Array.from({ length: 8 }, (_, index) => `f${index}`)

t.setTimeout(240_000)
const region = await startRegionNodes(t, 4)
if (region === null) process.exit(0)
const { nodes, nats } = region
for (const name of NAMES) await region.deploy(name, COUNTER)

async function ring(...argv: readonly string[]): Promise<{ readonly code: number | null; readonly err: string; readonly document: RingDocument | null }> {
  const { code, out, err } = await runProcess(['region', 'ring', ...argv, '--nats', nats.url, '--region-name', 'eu-1', '--json'])
  return { code, err, document: code === 0 ? JSON.parse(out) as RingDocument : null }
}

async function untilVersion(version: number): Promise<void> {
  for (const node of nodes) await eventually(() => metric(node, 'region_ring_version'), (seen) => seen >= version)
}

/** Which nodes run calls of a function that come to all nodes in turn. */
async function homesOf(name: string, among: readonly AdminTier[], calls: number): Promise<Set<string | null>> {
  const answers = await Promise.all(Array.from({ length: calls }, (_, index) => call(among[index % among.length] as AdminTier, name, { method: 'POST', body: 'x' })))
  t.ok(answers.every(({ status, body }) => status === 200 && (JSON.parse(body) as { n: number }).n === 1), `${name}: every call is answered, and by a fresh machine`)
  return new Set(answers.map(({ headers }) => headers.get('x-outpost-node')))
}

await t.test('calls of one function run at one node, whichever they come to', async (t) => {
  const all = new Set<string | null>()
  for (const name of NAMES) {
    const homes = await homesOf(name, nodes, nodes.length)
    t.equal(homes.size, 1, name)
    for (const home of homes) all.add(home)
  }
  t.ok(all.size > 1, 'not all at the same')
  for (const node of nodes) t.equal(await metric(node, 'region_peers_reachable_count'), 3)
})

await t.test('an operator has more nodes serve a function, and fewer, and takes it back', async (t) => {
  const first = await ring('show')
  t.match(first.document, { version: Number, attributes: { managersPerKey: 1 } })
  t.equal(first.document?.members.length, 4)
  let version = first.document?.version ?? 0
  for (const managersPerKey of [2, 4, 1]) {
    const changed = await ring('set', `managersPerKey=${managersPerKey}`)
    t.match(changed.document, { version: version + 1, attributes: { managersPerKey } }, changed.err)
    version += 1
    await untilVersion(version)
    const homes = await homesOf('f0', nodes, 24)
    t.ok(managersPerKey === 1 ? homes.size === 1 : homes.size > 1 && homes.size <= managersPerKey, `${homes.size} of ${managersPerKey}`)
  }
  const back = await ring('rollback')
  t.match(back.document, { version: version + 1, attributes: { managersPerKey: 4 } }, back.err)
  await untilVersion(version + 1)
  for (const [wrong, code] of [['managersPerKey=5', 'ERR_RING_REFUSED'], ['managersPerKey=0', 'ERR_RING_REFUSED'], ['managersPerKey=x', 'ERR_USAGE'], ['sandwiches=2', 'ERR_USAGE']] as const) {
    const refused = await ring('set', wrong)
    t.not(refused.code, 0)
    t.match(refused.err, code)
  }
  t.match((await ring('show')).document, { version: version + 1 }, 'what was refused has changed nothing')
  t.match((await ring('set', 'managersPerKey=1')).document, { version: version + 2 })
  await untilVersion(version + 2)
})

await t.test('a node that is killed under load fails only what may have run there', async (t) => {
  const victim = nodes[0] as AdminTier
  const rest = nodes.slice(1)
  const dead = (await call(victim, 'f0')).headers.get('x-outpost-node')
  t.ok(dead !== null)
  const answers: Called[] = []
  let going = true
  const client = async (seed: number): Promise<void> => {
    for (let index = seed; going; index += 1) answers.push(await call(rest[index % rest.length] as AdminTier, NAMES[index % NAMES.length] ?? ''))
  }
  const clients = Array.from({ length: 4 }, (_, seed) => client(seed))
  await eventually(() => Promise.resolve(answers.length), (count) => count > 100, 60_000)
  const before = answers.length
  const gone = nodes.find((node) => node === victim)
  await gone?.kill('SIGKILL')
  await eventually(() => Promise.resolve(answers.length), (count) => count > before + 400, 60_000)
  await untilRing(rest)
  const settled = answers.length
  await eventually(() => Promise.resolve(answers.length), (count) => count > settled + 50, 60_000)
  going = false
  await Promise.all(clients)
  const failed = answers.filter(({ status }) => status !== 200)
  t.ok(failed.every(({ status, body }) => status === 502 && (JSON.parse(body) as { error: { code: string } }).error.code === 'ERR_PEER_LOST'), failed[0]?.body ?? 'none')
  t.ok(failed.length <= 4, `${failed.length} of ${answers.length} failed: at most what the four clients had under way`)
  t.ok(answers.slice(settled).every(({ status }) => status === 200))
  t.comment(`killed under load: ${failed.length} of ${answers.length} failed, all of them may have run`)
})
