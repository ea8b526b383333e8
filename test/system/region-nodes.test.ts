/** A region of several nodes, from outside: real processes over NATS. */
import t from 'tap'
import { call } from '../support/site.ts'
import { metric, startRegionNodes } from '../support/region-nodes.ts'

const COUNTER = 'let n = 0; export default { async fetch(request) { return Response.json({ n: ++n, method: request.method, body: await request.text() }) } }'

await t.test('calls of one function run at one node, whichever they come to', async (t) => {
  const region = await startRegionNodes(t, 3)
  if (region === null) return
  const names = Array.from({ length: 8 }, (_, index) => `f${index}`)
  for (const name of names) await region.deploy(name, COUNTER)
  const homes = new Set<string | null>()
  for (const name of names) {
    const seen = new Set<string | null>()
    for (const node of region.nodes) {
      const answer = await call(node, name, { method: 'POST', body: 'x' })
      t.match(JSON.parse(answer.body), { n: 1, method: 'POST', body: 'x' })
      seen.add(answer.headers.get('x-outpost-node'))
    }
    t.equal(seen.size, 1, name)
    for (const home of seen) homes.add(home)
  }
  t.ok(homes.size > 1, 'not all at the same')
  for (const node of region.nodes) t.ok(await metric(node, 'region_peers_reachable_count') === 2)
})
