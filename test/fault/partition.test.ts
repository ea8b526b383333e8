/**
 * POP and region cannot reach each other; nobody is told. What clients of the POP see, from the first lost packet to the
 * heal. The POP finds out by its pings (PING_INTERVAL_MS and PONG_TIMEOUT_MS of the link).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { codesOf, look, percentileMs, startCallers, summary, type Seen } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { startNetSite } from '../support/net-site.ts'
import { answering, BUSY_MS, untilConfirmed } from './far.ts'

/** A link that says nothing for this long is dead: two pings, and the half second between two looks. */
const FOUND_MS = 10_500
/** From the heal to an open link at most: an attempt that began before it has 10 s, the pause after it as much. */
const BACK_MS = 21_000
/** A region cancels what it runs for a POP that it has not heard of for this long. */
const RUN_ENDS_MS = 20_500
const COLD = 20

await t.test('hot functions go on and are marked stale, cold ones get a coded 502; what changed meanwhile counts from the heal on', async (t) => {
  const site = await startNetSite(t)
  if (site === null) return
  await site.wan.between('pop', 'region', { delayMs: 10 })
  await site.deploy('hot', answering('one'))
  await site.deploy('doomed', answering('doomed'))
  // Many, so that none is asked for often enough to become hot before the cut.
  for (let index = 0; index < COLD; index += 1) await site.deploy(`cold${index}`, answering('cold'))
  await site.deploy('slow', 'export default { async fetch() { console.log("begun"); for (let tick = 0; tick < 600; tick++) { await new Promise((r) => setTimeout(r, 100)); console.log("tick " + tick) } } }', { Timeout: 60 })
  await site.deploy('streaming', 'export default { fetch: () => new Response(new ReadableStream({ async pull(c) { await new Promise((r) => setTimeout(r, 100)); c.enqueue(new TextEncoder().encode("x")) } })) }', { Timeout: 60 })
  await site.untilHot('hot')
  await site.untilHot('doomed')
  const logs = async (): Promise<readonly string[]> => (await site.api('region').logs('slow', null)).Events.map(({ Message }) => Message)

  let next = 0
  const hot = startCallers(t, () => [site.pop, 'hot'], { count: 2 })
  await untilConfirmed(hot)
  const cold = startCallers(t, () => [site.pop, `cold${next++ % COLD}`], { count: 2, pauseMs: 50 })
  const underWay = look(site.pop, 'slow')
  const streaming = await fetch(`${site.pop.url}/fn/streaming/`)
  const broken = streaming.text().then(() => null, () => performance.now())
  await eventually(logs, (lines) => lines.includes('begun'))
  await eventually(async () => cold.seen, (seen) => seen.length > 5)
  t.same(codesOf([...hot.seen, ...cold.seen]), [])

  await site.wan.partition('pop', 'region')
  const cutAtMs = performance.now()
  const slow = await underWay
  t.match(slow, { status: 502, code: 'ERR_REGION_LOST' }, 'a call under way: may have run')
  const lostAfterMs = slow.atMs + slow.tookMs - cutAtMs
  t.ok(lostAfterMs < FOUND_MS + BUSY_MS, `told ${Math.round(lostAfterMs)} ms after the cut`)
  const brokenAtMs = await broken
  t.ok(brokenAtMs !== null && brokenAtMs - cutAtMs < FOUND_MS + BUSY_MS, 'an answer that had begun breaks off, it does not seem complete')
  await eventually(async () => hot.seen.at(-1), (latest) => latest?.stale === true)
  const stale = hot.seen.find((seen) => seen.stale)
  t.ok(stale !== undefined && stale.atMs - cutAtMs < FOUND_MS + BUSY_MS, `hot functions are marked stale ${Math.round((stale?.atMs ?? 0) - cutAtMs)} ms after the cut`)

  const knownAtMs = performance.now()
  t.match(await look(site.pop, 'cold0'), { status: 502, code: 'ERR_REGION_UNREACHABLE' })
  t.match(await look(site.pop, 'nobody-has-this'), { status: 502, code: 'ERR_REGION_UNREACHABLE' })
  await t.rejects(site.api('pop').getConfiguration('hot'), { code: 'ERR_REGION_UNREACHABLE' }, 'so is a management call')

  // Meanwhile, at the region.
  await site.deploy('hot', answering('two'))
  await site.api('region').deleteFunction('doomed')
  const last = await eventually(logs, (lines) => lines.length > 0)
  t.ok(last.length > 0)
  await sleep(Math.max(0, cutAtMs + RUN_ENDS_MS + BUSY_MS - performance.now()))
  const ticks = (await logs()).length
  await sleep(500)
  t.equal((await logs()).length, ticks, 'the region has cancelled what it ran for a POP that it does not hear')
  t.match(await look(site.pop, 'doomed'), { status: 200, body: 'doomed', stale: true }, 'a deletion that the POP cannot know of')

  await site.wan.heal('pop', 'region')
  const healedAtMs = performance.now()
  const doomed = startCallers(t, () => [site.pop, 'doomed'], { count: 1 })
  await eventually(async () => cold.seen.at(-1), (latest) => latest?.code === null, BACK_MS + BUSY_MS)
  t.comment(`the link is back ${Math.round(performance.now() - healedAtMs)} ms after the heal`)
  await eventually(async () => hot.seen.at(-1), (latest) => latest?.body === 'two' && latest.place === 'pop')
  const all = { hot: await hot.stop(), cold: await cold.stop(), doomed: await doomed.stop() }

  t.same(codesOf(all.hot), [], `no hot call failed: ${summary(all.hot)}`)
  t.ok(percentileMs(all.hot, 0.99) < BUSY_MS, `and 99 % took less than ${Math.ceil(percentileMs(all.hot, 0.99))} ms`)
  t.equal(all.hot.some(({ code }) => code === 'hung') || all.cold.some(({ code }) => code === 'hung'), false, 'nothing hung')
  const during = all.cold.filter(({ atMs }) => atMs > cutAtMs && atMs < healedAtMs)
  t.same(codesOf(during), ['ERR_REGION_LOST', 'ERR_REGION_UNREACHABLE'], summary(during))
  t.ok(percentileMs(during, 1) < FOUND_MS + BUSY_MS, `the longest cold call took ${Math.round(percentileMs(during, 1))} ms`)
  const known = during.filter(({ atMs }) => atMs > knownAtMs)
  t.ok(known.length > 10 && percentileMs(known, 1) < BUSY_MS, `and once the POP knows, ${Math.round(percentileMs(known, 1))} ms`)

  const everything: Seen[] = [...all.hot, ...all.cold, ...all.doomed].filter(({ atMs }) => atMs > healedAtMs)
  const first = everything.filter(({ code, stale: marked }) => code === null && !marked).sort((a, b) => a.atMs + a.tookMs - b.atMs - b.tookMs)[0]
  t.ok(first !== undefined)
  const afterwards = everything.filter(({ atMs }) => first !== undefined && atMs > first.atMs + first.tookMs)
  t.equal(afterwards.filter(({ body, stale: marked }) => marked || body === 'one' || body === 'doomed').length, 0, 'after the first answer that is not stale nothing old is answered')
  t.ok(all.doomed.some(({ code }) => code === 'ERR_FUNCTION_NOT_FOUND'))
})
