/** POPs whose regions go away, come back and change: what clients see, with figures. */
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { series, startGrid } from '../support/grid.ts'
import { call, type AdminTier, type Called } from '../support/site.ts'

const HOT = ['hot-0', 'hot-1', 'hot-2']
const STALE_MAX_MS = 6_000
const saying = (text: string): string => `export default { fetch: () => new Response(${JSON.stringify(text)}) }`
const codeOf = ({ body }: Called): string | null => (body.startsWith('{') ? (JSON.parse(body) as { error: { code: string } }).error.code : null)

async function untilOpen(pop: AdminTier, open: string): Promise<void> {
  await eventually(() => series(pop, 'pop_regions_open', 'region'), (states) => [...states.values()].join() === open, 60_000)
}

await t.test('cut off from all regions', { timeout: 240_000 }, async (t) => {
  const grid = await startGrid(t, {
    regions: 2, pops: 3, pop: ['--hot-min-requests', '1', '--stale-max', String(STALE_MAX_MS)],
    before: async (deploy) => {
      for (const name of [...HOT, 'doomed']) await deploy(name, saying(name))
    },
  })
  const { pops, regions } = grid
  const [pop] = pops
  if (pop === undefined) return
  const first = pop
  for (const each of pops) await untilOpen(each, '1,1')
  const untilHot = async (): Promise<void> => {
    for (const name of HOT) await eventually(() => call(pop, name), ({ place, headers }) => place === 'pop' && headers.get('x-outpost-stale') === null)
  }

  let counted = 0

  /** Hot traffic, eight at a time, until told otherwise: how many there were, and those that were not answered as they should. */
  async function traffic(until: () => boolean): Promise<{ readonly count: number; readonly failed: readonly string[]; readonly stale: number }> {
    const failed: string[] = []
    let count = 0
    let stale = 0
    await Promise.all(Array.from({ length: 8 }, async (_, lane) => {
      while (!until()) {
        const name = HOT[(count + lane) % HOT.length] ?? ''
        count++
        counted++
        try {
          const called = await call(first, name)
          if (called.headers.get('x-outpost-stale') === '1') stale++
          if (called.status !== 200 || called.body !== name) failed.push(`${called.status} ${called.place ?? ''} ${codeOf(called) ?? called.body.slice(0, 100)}`)
        } catch (error) {
          failed.push(String(error))
        }
      }
    }))
    return { count, failed, stale }
  }

  await t.test('what was published is answered at each of three POPs within 2 s, old answers never after it', async (t) => {
    for (const name of HOT) for (const each of pops) await eventually(() => call(each, name), ({ place }) => place === 'pop')
    const tookMs: number[] = []
    for (let round = 1; round <= 5; round++) {
      const text = `hot-0, round ${round}`
      await grid.deploy('hot-0', saying(text))
      const publishedAtMs = performance.now()
      await Promise.all(pops.map(async (each) => {
        await eventually(() => call(each, 'hot-0'), ({ body }) => body === text)
        tookMs.push(Math.round(performance.now() - publishedAtMs))
        for (let again = 0; again < 10; again++) t.equal((await call(each, 'hot-0')).body, text)
      }))
    }
    t.comment(`from publish to the first new answer at each POP, ms: ${tookMs.join(' ')}`)
    t.ok(Math.max(...tookMs) <= 2_000, `at most ${Math.max(...tookMs)} ms`)
    await grid.deploy('hot-0', saying('hot-0'))
    for (const each of pops) await eventually(() => call(each, 'hot-0'), ({ body }) => body === 'hot-0')
  })

  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    await t.test(`${signal}: hot traffic is answered until staleMax, then refused with a code`, async (t) => {
      await untilHot()
      counted = 0
      let cutOffAtMs = Infinity
      const running = traffic(() => performance.now() > cutOffAtMs + STALE_MAX_MS * 0.8)
      await eventually(() => Promise.resolve(counted), (count) => count > 100)
      for (const region of regions) region.process().child.kill(signal)
      // A silent region is found out after ten seconds; until then its link counts as open.
      void untilOpen(pop, '0,0').then(() => (cutOffAtMs = performance.now()))
      const { count, failed, stale } = await running
      t.comment(`${signal}: ${count} requests, ${stale} of them marked stale, ${failed.length} not answered: ${failed.slice(0, 5).join('; ')}`)
      t.ok(count >= 1_000 && stale > 0)
      t.ok(failed.length <= count * 0.001, failed.slice(0, 5).join('; '))
      const refused = await eventually(() => call(pop, 'hot-0'), ({ status }) => status === 502, STALE_MAX_MS)
      t.equal(codeOf(refused), 'ERR_REGION_UNREACHABLE')
      if (signal === 'SIGSTOP') for (const region of regions) region.process().child.kill('SIGCONT')
      else await Promise.all(regions.map((region) => region.start()))
      await untilOpen(pop, '1,1')
      t.equal((await eventually(() => call(pop, 'hot-0'), ({ status }) => status === 200)).headers.get('x-outpost-stale'), null)
    })
  }

  await t.test('what was deleted meanwhile is not answered once a region is in reach again', async (t) => {
    await eventually(() => call(pop, 'doomed'), ({ place }) => place === 'pop')
    await Promise.all(regions.map((each) => each.kill('SIGKILL')))
    await untilOpen(pop, '0,0')
    t.match(await call(pop, 'doomed'), { status: 200, body: 'doomed' })
    // It lets no POP in, so that the deletion reaches none before the links open again; the other region stays away.
    const [region] = regions
    if (region === undefined) return
    await region.start(['--token', 'another'])
    await grid.api(region).deleteFunction('doomed')
    const seen: string[] = []
    const watch = { state: 'on' }
    const watching = (async () => {
      while (watch.state === 'on') {
        const { status, headers } = await call(pop, 'doomed')
        seen.push(`${status}${headers.get('x-outpost-stale') === '1' ? ' stale' : ''}`)
      }
    })()
    await region.kill('SIGKILL')
    await region.start()
    await untilOpen(pop, '1,0')
    await eventually(() => call(pop, 'doomed'), ({ status }) => status === 404)
    watch.state = 'over'
    await watching
    t.same([...new Set(seen)].filter((each) => !['200 stale', '404', '502'].includes(each)), [], 'an answer of the old function is marked stale, or none')
    t.ok(seen.includes('404'))
  })
})
