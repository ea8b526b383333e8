/** Service bindings in a region of several nodes: caller and called at home at different ones. Real processes over NATS. */
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { startRegionNodes, untilRing } from '../support/region-nodes.ts'
import { call, type AdminTier } from '../support/site.ts'

const BACKS = Array.from({ length: 8 }, (_, index) => `back${index}`)
const BACK = 'let n = 0; export default { async fetch(request, env) { return Response.json({ n: ++n, name: env.NAME, token: env.TOKEN, body: await request.text() }) } }'
const FRONT = `export default { async fetch(request, env) {
  const to = new URL(request.url).searchParams.get('to')
  try { return Response.json({ name: env.NAME, token: env.TOKEN, back: await (await env[to].fetch('http://back/', { method: 'POST', body: 'for ' + to })).json() }) }
  catch (error) { return Response.json({ code: error.code, message: error.message }) }
} }`
const settings = (name: string): object => ({ Environment: { Variables: { NAME: name } } })

t.setTimeout(240_000)
const region = await startRegionNodes(t, 3)
if (region === null) process.exit(0)
const { nodes } = region
for (const name of BACKS) await region.deploy(name, BACK, { ...settings(name), Outpost: { Secrets: { TOKEN: `secret of ${name}` } } })
await region.deploy('front', FRONT, { ...settings('front'), Outpost: { Secrets: { TOKEN: 'secret of front' }, Services: BACKS.map((name) => ({ Binding: name.toUpperCase(), Service: name })) } })

/** The node that a function is at home at. */
async function homeOf(name: string, among: readonly AdminTier[] = nodes): Promise<string> {
  const { headers } = await eventually(() => call(among[0] as AdminTier, name), ({ status }) => status === 200)
  return headers.get('x-outpost-node') ?? ''
}

async function ask(at: AdminTier, name: string): Promise<{ readonly status: number; readonly node: string | null; readonly answer: { readonly code?: string } }> {
  const { status, headers, body } = await call(at, 'front', { path: `/?to=${name.toUpperCase()}` })
  return { status, node: headers.get('x-outpost-node'), answer: status === 200 ? JSON.parse(body) as object : { code: (JSON.parse(body) as { error: { code: string } }).error.code } }
}

const right = (name: string): object => ({ name: 'front', token: 'secret of front', back: { n: 1, name, token: `secret of ${name}`, body: `for ${name.toUpperCase()}` } })
const homes = new Map<string, string>()
for (const name of [...BACKS, 'front']) homes.set(name, await homeOf(name))
const front = homes.get('front')

await t.test('whichever node a call comes to and wherever both functions are at home: each runs as itself, in a fresh machine', async (t) => {
  t.ok(new Set(BACKS.map((name) => homes.get(name))).size > 1, 'not all at the same')
  t.ok(BACKS.some((name) => homes.get(name) !== front), 'some are at another node than their caller')
  for (const node of nodes) {
    for (const name of BACKS) t.match(await ask(node, name), { status: 200, node: front, answer: right(name) }, name)
    // Many at once: some are run elsewhere, as their homes are full.
    const answers = await Promise.all([...BACKS, ...BACKS, ...BACKS].map(async (name) => ({ name, told: await ask(node, name) })))
    for (const { name, told } of answers) t.match(told, { status: 200, answer: right(name) }, name)
  }
})

await t.test('the node that a called function is at home at is killed: its callers are told or answered, and soon all are answered', async (t) => {
  const name = BACKS.find((each) => homes.get(each) !== front) ?? ''
  // A node's name has its port in it.
  const victim = nodes.find(({ url }) => homes.get(name)?.includes(`-${new URL(url).port}-`)) as AdminTier
  const rest = nodes.filter((node) => node !== victim)
  const running = Promise.all(Array.from({ length: 40 }, (_, index) => ask(rest[index % rest.length] as AdminTier, name)))
  await victim.kill('SIGKILL')
  // So many at once that the caller too runs at other nodes than its home.
  for (const { status, answer } of await running) t.ok(answer.code === undefined || answer.code === 'ERR_PEER_LOST', JSON.stringify({ status, answer }))
  await untilRing(rest)
  t.not(await homeOf(name, rest), homes.get(name))
  for (const node of rest) t.match(await ask(node, name), { status: 200, answer: right(name) })
})
