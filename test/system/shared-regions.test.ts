/** Two regions with one registry over NATS, and three POPs: what is deployed in one is served by both, and never by one that lacks it. */
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { series, startGrid } from '../support/grid.ts'
import { startNats } from '../support/nats.ts'
import { call, type AdminTier } from '../support/site.ts'

const saying = (text: string): string => `export default { fetch: () => new Response(${JSON.stringify(text)}) }`

t.setTimeout(240_000)
const nats = await startNats(t)
if (nats === null) process.exit(0)
const grid = await startGrid(t, { regions: 2, pops: 3, nats: nats.url })
const { pops, regions } = grid
const [pop] = pops
const [first, second] = regions
if (pop === undefined || first === undefined || second === undefined) throw new Error('a grid')

async function untilOpen(open: string): Promise<void> {
  for (const each of pops) await eventually(() => series(each, 'pop_regions_open', 'region'), (states) => [...states.values()].join() === open, 60_000)
}

const both = (index: number): AdminTier => (index % 2 === 0 ? first : second)

await untilOpen('1,1')

await t.test('what was just published in either region is answered at every POP at once: no region is asked that lacks it', async (t) => {
  for (let round = 0; round < 10; round++) {
    await grid.deploy(`new-${round}`, saying(`new ${round}`), {}, [both(round)])
    const answers = await Promise.all(pops.map((each) => call(each, `new-${round}`)))
    t.same(answers.map(({ status, body }) => `${status} ${body}`), pops.map(() => `200 new ${round}`))
  }
})

await t.test('a new version is answered at each of three POPs within 2 s, and the old one never after it; equal bytes from both regions', async (t) => {
  await grid.deploy('hot', saying('round 0'), {}, [first])
  for (const each of pops) await eventually(() => call(each, 'hot'), ({ place }) => place === 'pop')
  const tookMs: number[] = []
  for (let round = 1; round <= 6; round++) {
    await grid.deploy('hot', saying(`round ${round}`), {}, [both(round)])
    const publishedAtMs = performance.now()
    await Promise.all(pops.map(async (each) => {
      await eventually(() => call(each, 'hot'), ({ body }) => body === `round ${round}`)
      tookMs.push(Math.round(performance.now() - publishedAtMs))
      for (let again = 0; again < 10; again++) t.equal((await call(each, 'hot')).body, `round ${round}`)
    }))
  }
  t.comment(`from publish to the first new answer at each POP, ms: ${tookMs.join(' ')}`)
  t.ok(Math.max(...tookMs) <= 2_000, `at most ${Math.max(...tookMs)} ms`)
  const direct = await Promise.all(regions.map((region) => eventually(() => call(region, 'hot'), ({ body }) => body === 'round 6')))
  t.same(new Set(direct.map(({ status, body }) => `${status} ${body}`)).size, 1)
})

await t.test('a region that stood still while another published: nobody gets the old version from it', async (t) => {
  await grid.deploy('moved', saying('old'), {}, [first])
  for (const each of pops) t.equal((await call(each, 'moved')).body, 'old')
  second.process().child.kill('SIGSTOP')
  await grid.deploy('moved', saying('new'), {}, [first])
  for (const each of pops) await eventually(() => call(each, 'moved'), ({ body }) => body === 'new')
  const seen = new Set<string>()
  const look = async (): Promise<void> => {
    for (const each of pops) {
      const { status, body } = await call(each, 'moved')
      seen.add(status === 200 ? body : String(status))
    }
  }
  // The one that has the new version goes, the one that lacks it comes back.
  await first.kill('SIGKILL')
  second.process().child.kill('SIGCONT')
  await eventually(async () => {
    await look()
    return series(pop, 'pop_regions_open', 'region')
  }, (states) => [...states.values()].join() === '0,1', 60_000)
  for (let round = 0; round < 20; round++) await look()
  await eventually(() => call(pop, 'moved'), ({ body }) => body === 'new', 60_000)
  t.notOk(seen.has('old'), [...seen].join(' '))
  t.comment(`seen meanwhile: ${[...seen].join(' ')}`)
})
