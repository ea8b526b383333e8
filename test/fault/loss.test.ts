/** What clients see when the line between POP and region loses packets. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { codesOf, look, percentileMs, summary, type Seen } from '../support/callers.ts'
import { startNetSite } from '../support/net-site.ts'
import { answering, BUSY_MS, calls, HOT_MS, setLine, untilSeenMs } from './far.ts'

const ECHO = 'export default { async fetch(request) { return new Response(await request.arrayBuffer()) } }'

for (const loss of [0.01, 0.05]) {
  await t.test(`${loss * 100} % of packets lost at 70 ms: no call fails, and a publish is seen within 2 s`, async (t) => {
    const site = await startNetSite(t)
    if (site === null) return
    await site.deploy('hot', answering('one'))
    await site.untilHot('hot')
    await setLine(site, 70, loss)
    const cold: Seen[] = []
    // Each function is asked for once, so all are cold.
    for (let index = 0; index < 20; index += 1) await site.deploy(`cold${index}`, answering('cold'))
    for (let index = 0; index < 20; index += 1) cold.push(await look(site.pop, `cold${index}`))
    t.same(codesOf(cold), [], summary(cold))
    t.ok(percentileMs(cold, 0.5) < 70 + BUSY_MS && percentileMs(cold, 1) < 3_000, `cold calls p50 ${Math.round(percentileMs(cold, 0.5))} ms, the slowest ${Math.round(percentileMs(cold, 1))} ms`)
    const hot = await calls(site, 'hot', 20)
    t.ok(percentileMs(hot, 0.25) < HOT_MS, `hot calls ${percentileMs(hot, 0.25).toFixed(1)} ms`)
    for (const text of ['two', 'three', 'four']) {
      await site.deploy('hot', answering(text))
      const visible = await untilSeenMs(site, 'hot', text)
      t.ok(visible.tookMs < 2_000, `a new version after ${Math.round(visible.tookMs)} ms`)
      t.same(codesOf(visible.seen), [], summary(visible.seen))
    }
    await site.deploy('echo', ECHO, { Timeout: 60, Outpost: { Limits: { CpuMs: 5_000 } } })
    const body = randomBytes(512 * 1024)
    const startedAtMs = performance.now()
    const echoed = await fetch(`${site.pop.url}/fn/echo/`, { method: 'POST', body })
    t.equal(Buffer.from(await echoed.arrayBuffer()).equals(body), true)
    t.comment(`512 KiB both ways: ${Math.round(performance.now() - startedAtMs)} ms`)
  })
}
