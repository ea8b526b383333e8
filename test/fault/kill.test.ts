/** `kill -9` of each process under load: what clients see, and how soon they see nothing of it any more. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { codesOf, look, startCallers, summary, type Seen } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { startNetSite, type NetTier } from '../support/net-site.ts'
import { answering, BUSY_MS } from './far.ts'

/** A region that is back is found within this: the longest pause between two attempts to connect. */
const REDIAL_MAX_MS = 10_000
/** What a process takes to start on a machine that is busy with other things; no promise. */
const START_MAX_MS = 30_000
const COLD = 20

/** Kills a tier, counts until its host has it again, and says when each began, ms of `performance.now()`. */
async function killAndStart(tier: NetTier): Promise<{ readonly killedAtMs: number; readonly upAtMs: number }> {
  const killedAtMs = performance.now()
  await tier.kill('SIGKILL')
  await tier.start()
  return { killedAtMs, upAtMs: performance.now() }
}

function after(seen: readonly Seen[], atMs: number): readonly Seen[] {
  return seen.filter((call) => call.atMs >= atMs)
}

await t.test('a region that is killed: hot functions do not notice, cold calls under way may have run, later ones did not, and all is well within 10 s of its return', async (t) => {
  const site = await startNetSite(t)
  if (site === null) return
  await site.wan.between('pop', 'region', { delayMs: 10 })
  await site.deploy('hot', answering('one'))
  await site.deploy('slow', 'export default { async fetch() { await new Promise((r) => setTimeout(r, 60_000)) } }', { Timeout: 60 })
  for (let index = 0; index < COLD; index += 1) await site.deploy(`cold${index}`, answering('cold'))
  await site.untilHot('hot')
  let next = 0
  const hot = startCallers(t, () => [site.pop, 'hot'], { count: 2 })
  const cold = startCallers(t, () => [site.pop, `cold${next++ % COLD}`], { count: 2, pauseMs: 50 })
  const underWay = look(site.pop, 'slow')
  await eventually(async () => cold.seen.length, (length) => length > 5)

  const { killedAtMs, upAtMs } = await killAndStart(site.region)
  const told = await underWay
  t.match(told, { status: 502, code: 'ERR_REGION_LOST' })
  // The kernel of the region's host says so at once.
  t.ok(told.atMs + told.tookMs - killedAtMs < BUSY_MS, `told after ${Math.round(told.atMs + told.tookMs - killedAtMs)} ms`)
  await eventually(async () => after(cold.seen, upAtMs).at(-1), (latest) => latest?.code === null, REDIAL_MAX_MS + BUSY_MS)
  const backMs = (after(cold.seen, upAtMs).find(({ code }) => code === null)?.atMs ?? Infinity) - upAtMs
  t.ok(backMs < REDIAL_MAX_MS + BUSY_MS, `cold calls are answered ${Math.round(backMs)} ms after the region is up`)
  t.match(await site.api('region').getConfiguration('hot'), { FunctionName: 'hot' }, 'what was published is there')
  const [hotSeen, coldSeen] = [await hot.stop(), await cold.stop()]
  t.same(codesOf(hotSeen), [], summary(hotSeen))
  t.same(codesOf(coldSeen).filter((code) => code !== 'ERR_REGION_LOST'), ['ERR_REGION_UNREACHABLE'], summary(coldSeen))
  t.ok(coldSeen.filter(({ code }) => code === 'ERR_REGION_LOST').length <= 2, 'only what was under way may have run')
})

await t.test('a POP that is killed: its connections end, it comes back with what it had, and the region ends what it ran for it', async (t) => {
  const site = await startNetSite(t)
  if (site === null) return
  await site.deploy('hot', answering('one'))
  await site.deploy('slow', 'export default { async fetch() { console.log("begun"); for (let tick = 0; tick < 600; tick++) { await new Promise((r) => setTimeout(r, 100)); console.log("tick " + tick) } } }', { Timeout: 60, Outpost: { Limits: { CpuMs: 5_000 } } })
  await site.untilHot('hot')
  const logs = async (): Promise<readonly string[]> => (await site.api('region').logs('slow', null)).Events.map(({ Message }) => Message)
  const hot = startCallers(t, () => [site.pop, 'hot'], { count: 4 })
  const underWay = look(site.pop, 'slow')
  await eventually(logs, (lines) => lines.includes('begun'))
  await eventually(async () => hot.seen.length, (length) => length > 20)

  const { killedAtMs, upAtMs } = await killAndStart(site.pop)
  t.ok(upAtMs - killedAtMs < START_MAX_MS)
  t.match(await underWay, { status: null, code: 'connection lost' })
  const ticks = (await logs()).length
  await eventually(async () => after(hot.seen, upAtMs).at(-1), (latest) => latest?.code === null)
  await eventually(() => look(site.pop, 'hot'), ({ place }) => place === 'pop')
  await sleep(500)
  t.equal((await logs()).length, ticks, 'the region has cancelled what it ran for that POP')
  const seen = await hot.stop()
  // It listens a moment before its link to the region is open.
  t.same(codesOf(seen).filter((code) => code !== 'no connection' && code !== 'ERR_REGION_UNREACHABLE'), ['connection lost'], summary(seen))
  t.ok(seen.filter(({ code }) => code === 'connection lost').length <= 8, 'no client loses more than the call under way and one on a connection that it thought open')
  t.same(codesOf(after(seen, upAtMs + BUSY_MS)), [], 'and none once it is up')
})
