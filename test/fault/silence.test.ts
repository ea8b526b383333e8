/**
 * Lines that fail in one direction only, and connections that are dead without anybody having said so. Each of three POPs
 * has one of these, at the same time.
 */
import t, { type Test } from 'tap'
import { codesOf, look, startCallers, summary } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { deploy, startNet, untilHot, type Net, type NetTier } from '../support/net-site.ts'
import { answering, BUSY_MS, untilConfirmed } from './far.ts'

/** A link that says nothing for this long is dead: two pings, and the half second between two looks. */
const FOUND_MS = 10_500
/** From the heal to an open link at most: an attempt that began before it has 10 s, the pause after it as much. */
const BACK_MS = 21_000
/** A new link over a line that works: the shortest pause, a handshake and the snapshot. */
const REDIAL_MS = 1_000
const COLD = 10

interface Silence {
  readonly host: string
  readonly title: string
  readonly fall: (net: Net) => Promise<unknown>
  /** Null: what is dead is one connection, and the line works. */
  readonly heal: ((net: Net) => Promise<unknown>) | null
}

const SILENCES: readonly Silence[] = [
  { host: 'deaf', title: 'nothing arrives from the region', fall: ({ wan }) => wan.set('region', 'deaf', { blocked: true }), heal: ({ wan }) => wan.heal('region', 'deaf') },
  { host: 'mute', title: 'nothing arrives at the region', fall: ({ wan }) => wan.set('mute', 'region', { blocked: true }), heal: ({ wan }) => wan.heal('mute', 'region') },
  { host: 'forgotten', title: 'the connection is dead, the line is not', fall: ({ wan }) => wan.sever('forgotten', 'region'), heal: null },
]

await t.test('a silent link is found by its pings, calls under way fail as those that may have run, later ones as those that did not; hot functions go on', async (t) => {
  const net = await startNet(t, ['region', ...SILENCES.map(({ host }) => host)])
  if (net === null) return
  const region = await net.region('region')
  await deploy(region, 'hot', answering('hot'))
  await deploy(region, 'slow', 'export default { async fetch() { await new Promise((r) => setTimeout(r, 60_000)) } }', { Timeout: 60 })
  // Many, so that none is asked for often enough to become hot before the line fails.
  for (let index = 0; index < COLD; index += 1) await deploy(region, `cold${index}`, answering('cold'))
  const pops = await Promise.all(SILENCES.map(({ host }) => net.pop(host, region)))
  for (const pop of pops) await untilHot(pop, 'hot')
  await Promise.all(SILENCES.map((silence) => t.test(silence.title, async (t) => {
    const pop = pops.find(({ host }) => host === silence.host)
    if (pop === undefined) throw new Error('no such POP')
    await suffer(t, net, pop, silence)
  })))
})

async function suffer(t: Test, net: Net, pop: NetTier, { fall, heal }: Silence): Promise<void> {
  let next = 0
  const underWay = look(pop, 'slow')
  const hot = startCallers(t, () => [pop, 'hot'], { count: 1 })
  await untilConfirmed(hot)
  const cold = startCallers(t, () => [pop, `cold${next++ % COLD}`], { count: 2, pauseMs: 50 })
  await eventually(async () => cold.seen.length, (length) => length > 4)
  t.same(codesOf(cold.seen), [])

  await fall(net)
  const fellAtMs = performance.now()
  const told = await underWay
  t.match(told, { status: 502, code: 'ERR_REGION_LOST' })
  t.ok(told.atMs + told.tookMs - fellAtMs < FOUND_MS + BUSY_MS, `told ${Math.round(told.atMs + told.tookMs - fellAtMs)} ms after the line fell silent`)
  let healedAtMs = fellAtMs + FOUND_MS
  if (heal !== null) {
    // The attempts to connect end in nothing too.
    await eventually(async () => cold.seen.filter(({ code }) => code === 'ERR_REGION_UNREACHABLE').length, (count) => count > 20)
    t.match(await look(pop, 'hot'), { status: 200, stale: true })
    await heal(net)
    healedAtMs = performance.now()
  }
  const backWithinMs = heal === null ? REDIAL_MS : BACK_MS
  await eventually(async () => cold.seen.at(-1), (latest) => latest !== undefined && latest.atMs > fellAtMs && latest.code === null, backWithinMs + FOUND_MS)
  const back = cold.seen.find(({ atMs, code }) => atMs > fellAtMs && code === null)
  const tookMs = (back?.atMs ?? Infinity) - healedAtMs
  t.ok(tookMs < backWithinMs + BUSY_MS, `cold calls are answered ${Math.round(tookMs)} ms after the heal`)
  const [hotSeen, coldSeen] = [await hot.stop(), await cold.stop()]
  t.same(codesOf(hotSeen), [], summary(hotSeen))
  t.same(codesOf(coldSeen).filter((code) => code !== 'ERR_REGION_UNREACHABLE'), ['ERR_REGION_LOST'], summary(coldSeen))
  const refused = coldSeen.filter(({ code }) => code === 'ERR_REGION_UNREACHABLE')
  t.ok(refused.every(({ tookMs: refusedAfterMs }) => refusedAfterMs < BUSY_MS), 'no call waits for a link that is known to be gone')
}
