/** A POP with two regions, of which the nearer one hears it and cannot answer any more. What clients see. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { codesOf, look, percentileMs, summary } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { apiOf, deploy, type NetTier } from '../support/net-site.ts'
import { BUSY_MS } from './far.ts'
import { after, FAR_MS, startPlace, untilLinked } from './two-regions.ts'

/** A link that says nothing for this long is dead: two pings, and the half second between two looks. */
const FOUND_MS = 10_500
/** By then a ping has no answer, and the region counts as farther away than the other. */
const PING_MS = 6_000

await t.test('no cold call fails but what was known to run at the cut: those under way wait until the link is known to be dead, later ones do not; what was known to have started is told to have run, what was not may run once in each region', async (t) => {
  const place = await startPlace(t)
  if (place === null) return
  const { net, pop, near, far } = place
  for (const region of [near, far]) await deploy(region, 'notes', 'export default { fetch: (request) => { console.log(new URL(request.url).search); return new Response("noted") } }')
  const notes = async (region: NetTier): Promise<number> => (await apiOf(region).logs('notes', null)).Events.filter(({ Message }) => Message === '?once').length
  const cold = place.cold(t, 2)
  const slow = look(pop, 'slow')
  await eventually(async () => cold.seen.length, (length) => length > 40)
  await net.wan.set('near', 'pop', { blocked: true })
  const cutAtMs = performance.now()
  const once = look(pop, 'notes', { method: 'POST', body: 'x', path: '/?once' })
  await sleep(PING_MS)
  const later = place.cold(t, 2)
  t.match(await slow, { status: 502, code: 'ERR_REGION_LOST' })
  await eventually(async () => after(cold.seen, cutAtMs + FOUND_MS).length, (length) => length > 20)
  t.match(await once, { status: 200, body: 'noted' })
  t.ok(await notes(near) <= 1)
  t.equal(await notes(far), 1)
  const [seen, laterSeen] = [await cold.stop(), await later.stop()]
  // Of the two clients each may have had a call at the cut of which the near region had said that it runs.
  const failed = [...seen, ...laterSeen].filter(({ code }) => code !== null)
  t.same(codesOf(failed).filter((code) => code !== 'ERR_REGION_LOST'), [], summary([...seen, ...laterSeen]))
  t.ok(failed.length <= 2 && failed.every(({ atMs }) => atMs < cutAtMs), `${failed.length} failed`)
  t.ok(percentileMs(seen, 1) < FOUND_MS + FAR_MS + BUSY_MS, `those under way took ${Math.round(percentileMs(seen, 1))} ms`)
  t.ok(percentileMs(laterSeen, 0.9) < FAR_MS + BUSY_MS, `90 % of those that began ${PING_MS} ms after the cut took ${Math.round(percentileMs(laterSeen, 0.9))} ms`)
  await net.wan.heal('pop', 'near')
  await untilLinked(pop)
})
