/**
 * All nodes of a region replaced one after the other under load that comes through a POP: no request fails, and requests
 * find their image in memory.
 */
import t from 'tap'
import { startRegionNodes, untilRing } from '../support/region-nodes.ts'
import { call, freePort, tier, type Called } from '../support/site.ts'

const NAMES = Array.from({ length: 20 }, (_, index) => `f${index}`)
const CLIENTS = 6

t.setTimeout(240_000)
const region = await startRegionNodes(t, 3)
if (region === null) process.exit(0)
const { nodes } = region
for (const name of NAMES) await region.deploy(name, `let n = 0; export default { fetch: () => new Response(${JSON.stringify(name)} + ++n) }`)
const pop = await tier(t, 'pop', await freePort(), [...nodes.flatMap(({ url }) => ['--region', url]), '--token', 'site', '--hot-min-requests', '1000000', '--workers', '1'])

await t.test('all nodes are replaced under load', async (t) => {
  const answers: (Called & { readonly name: string; readonly phase: string })[] = []
  let going = true
  let phase = 'before'
  const client = async (seed: number): Promise<void> => {
    for (let index = seed; going; index += CLIENTS) {
      const name = NAMES[index % NAMES.length] ?? ''
      const during = phase
      answers.push({ ...(await call(pop, name)), name, phase: during })
    }
  }
  const first = []
  for (const name of NAMES) first.push((await call(pop, name)).headers.get('x-outpost-start'))
  t.ok(first.every((start) => start === 'cold'), 'an image that has to be loaded is seen')
  const clients = Array.from({ length: CLIENTS }, (_, seed) => client(seed))
  for (const [index, node] of nodes.entries()) {
    phase = `leaving ${index}`
    await node.kill('SIGTERM')
    t.equal((await node.process().ended).code, 0)
    phase = `joining ${index}`
    await node.start()
    await untilRing(nodes)
  }
  going = false
  await Promise.all(clients)
  const failed = answers.filter(({ status, body, name }) => status !== 200 || body !== `${name}1`)
  t.equal(failed.length, 0, failed.map(({ phase: at, status, body }) => `${at}: ${status} ${body}`).slice(0, 5).join('\n'))
  const cold = answers.filter(({ headers }) => headers.get('x-outpost-start') === 'cold')
  const share = 1 - cold.length / answers.length
  t.ok(share >= 0.95, `${(100 * share).toFixed(2)} % of ${answers.length} requests found their image in memory`)
  t.comment(`${answers.length} requests, ${failed.length} failed, ${cold.length} had to have their image loaded: ${cold.map(({ phase: at }) => at).join(', ')}`)
})
