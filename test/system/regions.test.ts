/** Two POPs before two regions, from outside: where calls go, what a failing region costs, and what clients see of it. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { series, startGrid } from '../support/grid.ts'
import { call, type AdminTier, type Called } from '../support/site.ts'

const ECHO = 'let n = 0; export default { async fetch(request) { return Response.json({ n: ++n, method: request.method, body: await request.text() }) } }'
/** Asks an upstream by its path and the body it was sent, and tells both. */
const asking = (port: number): string => `export default { async fetch(request) { const body = await request.text(); const answer = await fetch('http://127.0.0.1:${port}/' + body); return new Response(body + '; ' + await answer.text()) } }`
/** A few ms of work, the same each time. */
const BUSY = 'export default { fetch() { let sum = 0; for (let n = 0; n < 150000; n++) sum = (sum * 31 + n) % 1000003; return new Response(String(sum)) } }'

const errorOf = ({ body }: Called): { code: string; requestId: string } => (JSON.parse(body) as { error: { code: string; requestId: string } }).error
const post = (pop: AdminTier, name: string, path: string, body: string): Promise<Called> => call(pop, name, { method: 'POST', path, body })

interface Upstream {
  readonly port: number
  /** Requests that were not answered yet, by what was sent: a function that asked is in the middle of its run. */
  readonly held: Map<string, ServerResponse>
}

/** Answers at once what begins with `quick`, anything else when the test does. */
async function startUpstream(): Promise<Upstream> {
  const held = new Map<string, ServerResponse>()
  const server = createServer((request, response) => {
    const name = (request.url ?? '').slice(1)
    if (name.startsWith('quick')) response.end('quick')
    else held.set(name, response)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, held }
}

await t.test('two POPs and two regions', { timeout: 240_000 }, async (t) => {
  const upstream = await startUpstream()
  const grid = await startGrid(t, {
    regions: 2, pops: 2, region: ['--egress-allow', `127.0.0.1:${upstream.port}`], pop: ['--egress-allow', `127.0.0.1:${upstream.port}`],
    before: async (deploy) => {
      await deploy('echo', ECHO)
      await deploy('cold', ECHO)
      await deploy('other', ECHO)
      await deploy('slow', asking(upstream.port), { Timeout: 60 })
      await deploy('again', asking(upstream.port), { Timeout: 60, Outpost: { Idempotent: true } })
      await deploy('large', ECHO, { Outpost: { Limits: { CpuMs: 5_000 } } })
      await deploy('busy', BUSY)
    },
  })
  const { pops, regions } = grid
  const [pop] = pops
  if (pop === undefined) return
  const first = pop
  for (const each of pops) await eventually(() => series(each, 'pop_regions_open', 'region'), (open) => [...open.values()].join() === '1,1')

  /** The region that a call of a POP goes to, and one that is not it. */
  async function ways(make: () => Promise<Called>): Promise<{ readonly called: Called; readonly asked: AdminTier; readonly other: AdminTier }> {
    const chosen = (): Promise<ReadonlyMap<string, number>> => series(first, 'pop_regions_attempts_total', 'region', 'fate="passed"')
    const before = await chosen()
    const called = await make()
    const after = await chosen()
    const asked = regions.find(({ url }) => (after.get(new URL(url).host) ?? 0) > (before.get(new URL(url).host) ?? 0))
    const other = regions.find((region) => region !== asked)
    if (asked === undefined || other === undefined) throw new Error(`no region was asked: ${called.status} ${called.body}`)
    return { called, asked, other }
  }

  await t.test('a region that dies after it started: 502 with the request’s id; an idempotent function is run by the other one', async (t) => {
    const { called, asked } = await ways(() => post(pop, 'slow', '/', 'quick'))
    t.equal(called.body, 'quick; quick')
    t.equal((await post(pop, 'again', '/', 'quick')).status, 200)
    const lost = post(pop, 'slow', '/', 'lost')
    const moved = post(pop, 'again', '/', 'moved')
    await eventually(() => Promise.resolve(upstream.held), (held) => held.size === 2)
    const firstRun = upstream.held.get('moved')
    await asked.kill('SIGKILL')
    const failed = await lost
    t.equal(failed.status, 502)
    t.equal(errorOf(failed).code, 'ERR_REGION_LOST')
    t.equal(errorOf(failed).requestId, failed.headers.get('x-outpost-request-id'))
    const secondRun = await eventually(() => Promise.resolve(upstream.held.get('moved')), (held) => held !== firstRun)
    secondRun?.end('from upstream')
    const answered = await moved
    t.match([answered.status, answered.body, answered.headers.get('x-outpost-attempts')], [200, 'moved; from upstream', '2'])

    await t.test('the next calls go to the other region, as if nothing had happened', async (t) => {
      for (let round = 0; round < 20; round++) {
        const next = await post(pop, 'cold', '/', 'x')
        t.match([next.status, next.headers.get('x-outpost-attempts')], [200, null])
        t.equal((await post(pop, 'slow', '/', 'quick')).status, 200)
      }
    })
    await asked.start()
    for (const each of pops) await eventually(() => series(each, 'pop_regions_open', 'region'), (open) => [...open.values()].join() === '1,1')
  })

  await t.test('a region that stands still before it started is replaced by the other, and not asked any more', async (t) => {
    const { asked } = await ways(() => post(pop, 'other', '/', 'warm'))
    asked.process().child.kill('SIGSTOP')
    const began = performance.now()
    const replaced = await post(pop, 'other', '/', 'x')
    const tookMs = Math.round(performance.now() - began)
    t.match([replaced.status, replaced.headers.get('x-outpost-attempts')], [200, '2'])
    t.ok(tookMs < 15_000, `${tookMs} ms`)
    const next = performance.now()
    t.equal((await post(pop, 'other', '/', 'x')).status, 200)
    t.ok(performance.now() - next < 5_000, 'at once')
    asked.process().child.kill('SIGCONT')
    await eventually(() => series(pop, 'pop_regions_open', 'region'), (open) => [...open.values()].join() === '1,1')
  })

  await t.test('first forwarded, then here, with equal answers; large ones always forwarded; a full POP forwards; the client sees one address', async (t) => {
    const answers = new Set<string>()
    for (const each of pops) {
      const places: string[] = []
      for (let round = 0; round < 3; round++) {
        const called = await call(each, 'echo', { method: 'POST', body: 'x', redirect: 'manual' })
        places.push(called.place ?? '')
        answers.add(called.body)
        t.equal(called.headers.get('location'), null)
      }
      t.equal(places[0], 'region; reason=not-hot')
      answers.add((await eventually(() => post(each, 'echo', '/', 'x'), ({ place }) => place === 'pop')).body)
      for (let round = 0; round < 10; round++) t.match((await post(each, 'large', '/', 'x')).place, /^region; reason=(not-hot|heavy)$/)
      t.equal((await post(each, 'large', '/', 'x')).place, 'region; reason=heavy')
    }
    t.same([...answers], ['{"n":1,"method":"POST","body":"x"}'])
    await eventually(() => call(pop, 'busy'), ({ place }) => place === 'pop')
    // The first burst finds few leased slots and is forwarded for that; as soon as there are enough the sandboxes are what is full.
    const burst = (): Promise<Called[]> => Promise.all(Array.from({ length: 150 }, () => call(pop, 'busy')))
    const many = await eventually(burst, (all) => ['pop', 'region; reason=capacity'].every((wanted) => all.some(({ place }) => place === wanted)))
    t.equal(new Set(many.map(({ status, body }) => `${status} ${body}`)).size, 1)
  })

  await t.test('a new version in one region: the POP answers it within 10 s and never the old one again; the region without it is not asked', async (t) => {
    const [ahead] = regions
    if (ahead === undefined) return
    const next = 'export default { fetch: () => new Response("v2") }'
    await grid.deploy('echo', next, {}, [ahead])
    await grid.deploy('cold', next, {}, [ahead])
    const publishedAtMs = performance.now()
    for (const each of pops) await eventually(() => call(each, 'echo'), ({ body }) => body === 'v2', 10_000)
    t.ok(performance.now() - publishedAtMs < 10_000)
    for (let round = 0; round < 30; round++) for (const each of pops) for (const name of ['echo', 'cold']) t.equal((await call(each, name)).body, 'v2')
    await eventually(() => call(pop, 'echo'), ({ place }) => place === 'pop')
    await ahead.kill('SIGKILL')
    await eventually(() => series(pop, 'pop_regions_open', 'region'), (open) => [...open.values()].join() === '0,1')
    // A call that finds no leased slot at hand is told to come again, as the region that is left is behind.
    t.equal((await eventually(() => call(pop, 'echo'), ({ status }) => status !== 503)).body, 'v2', 'the POP has it')
    t.equal((await post(pop, 'large', '/', 'x')).status, 200, 'of this one the other region has the current version')
    await ahead.start()
    await eventually(() => series(pop, 'pop_regions_open', 'region'), (open) => [...open.values()].join() === '1,1')
    await grid.deploy('large', ECHO, { Outpost: { Limits: { CpuMs: 6_000 } } }, [ahead])
    await ahead.kill('SIGKILL')
    const behind = await eventually(() => post(pop, 'large', '/', 'x'), ({ status }) => status === 503)
    t.equal(errorOf(behind).code, 'ERR_REGION_BEHIND')
    t.equal(behind.headers.get('retry-after'), '1')
  })

  await t.test('with no region left: 502 at once for what is not here, and what is hot is answered', async (t) => {
    await regions[1]?.kill('SIGKILL')
    await eventually(() => series(pop, 'pop_regions_open', 'region'), (open) => [...open.values()].join() === '0,0')
    const began = performance.now()
    const failed = await post(pop, 'large', '/', 'x')
    t.match([failed.status, errorOf(failed).code], [502, 'ERR_REGION_UNREACHABLE'])
    t.ok(performance.now() - began < 2_000)
    const hot = await call(pop, 'echo')
    t.match([hot.body, hot.place, hot.headers.get('x-outpost-stale')], ['v2', 'pop', '1'])
  })
})
