/** Calendars that are wrong: no lifetime, deadline or age is ever the difference of two hosts' calendars. */
import t from 'tap'
import { codesOf, look, summary } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { apiOf, deploy, startNet, untilHot } from '../support/net-site.ts'
import { answering, BUSY_MS } from './far.ts'

const HOUR_S = 3_600

await t.test('POPs whose calendars are an hour fast and an hour slow: calls, limits, publishes, staleness and reconnects are as ever', async (t) => {
  const net = await startNet(t, ['region', 'fast', 'slow'])
  if (net === null) return
  const region = await net.region('region')
  const pops = await Promise.all([net.pop('fast', region, { clockShiftS: HOUR_S }), net.pop('slow', region, { clockShiftS: -HOUR_S })])
  // Its calendar is the POP's: the shift is real.
  await deploy(region, 'now', 'export default { fetch: () => new Response(String(Date.now())) }')
  await deploy(region, 'waits', 'export default { async fetch() { await new Promise((r) => setTimeout(r, 1500)); return new Response("waited") } }', { Timeout: 5 })
  await deploy(region, 'overdue', 'export default { async fetch() { await new Promise((r) => setTimeout(r, 30_000)) } }', { Timeout: 1 })
  for (const { host } of pops) await deploy(region, `versioned-${host}`, answering('one'))
  await Promise.all(pops.map((pop, index) => t.test(pop.host, async (t) => {
    const shiftMs = (index === 0 ? HOUR_S : -HOUR_S) * 1000
    for (const name of ['waits', 'overdue']) {
      const call = await look(pop, name)
      t.match(call, name === 'waits' ? { status: 200, body: 'waited', place: /^region/ } : { status: 504, code: 'ERR_LIMIT_WALL' }, `${name} at the region`)
    }
    for (const name of ['now', 'waits', `versioned-${pop.host}`]) await untilHot(pop, name)
    const calendar = Number((await look(pop, 'now')).body) - Date.now()
    t.ok(Math.abs(calendar - shiftMs) < 60_000, `its calendar is ${Math.round(calendar / 60_000)} min off`)
    t.match(await look(pop, 'waits'), { status: 200, body: 'waited', place: 'pop' })
    t.match(await look(pop, 'overdue'), { status: 504, code: 'ERR_LIMIT_WALL' })

    await deploy(region, `versioned-${pop.host}`, answering(pop.host))
    const publishedAtMs = performance.now()
    await eventually(() => look(pop, `versioned-${pop.host}`), ({ body }) => body === pop.host)
    t.ok(performance.now() - publishedAtMs < 2_000 + BUSY_MS)
    t.match(await apiOf(pop).getConfiguration(`versioned-${pop.host}`), { FunctionName: `versioned-${pop.host}` }, 'what a client signs is judged by the region alone')
  })))
  await region.kill('SIGKILL')
  for (const pop of pops) {
    const stale = await eventually(() => look(pop, `versioned-${pop.host}`), ({ stale: marked }) => marked)
    t.match(stale, { status: 200, body: pop.host, place: 'pop' }, `${pop.host} serves what it knows, no older and no younger than an hour by its own count`)
  }
  await region.start()
  for (const pop of pops) {
    const back = await eventually(() => look(pop, `versioned-${pop.host}`), ({ stale }) => !stale)
    t.same(codesOf([back]), [], summary([back]))
  }
})

await t.test('a region whose calendar is an hour fast runs functions, and refuses signatures that are an hour old to it: AWS clients say so', async (t) => {
  const net = await startNet(t, ['region', 'pop'])
  if (net === null) return
  const region = await net.region('region', { clockShiftS: HOUR_S })
  const pop = await net.pop('pop', region)
  const linked = await eventually(() => look(pop, 'nobody'), ({ code }) => code !== 'ERR_REGION_UNREACHABLE')
  t.match(linked, { status: 404, code: 'ERR_FUNCTION_NOT_FOUND' }, 'calls need no signature')
  await t.rejects(apiOf(region).getConfiguration('any'), { message: /Signature expired|skew|time/i })
  await t.rejects(apiOf(pop).getConfiguration('any'), { message: /Signature expired|skew|time/i }, 'through a POP with the right time too')
})
