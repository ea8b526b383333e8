/** What clients see when POP and region are far from each other, or the line between them loses packets. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { codesOf, look, percentileMs, type Seen } from '../support/callers.ts'
import { startNetSite } from '../support/net-site.ts'
import { answering, BUSY_MS, calls, HOT_MS, setLine, untilHotMs, untilSeenMs } from './far.ts'

const ECHO = 'export default { async fetch(request) { return new Response(await request.arrayBuffer()) } }'
/** What one stream has under way at most (LINK_CREDIT_BYTES). */
const WINDOW_BYTES = 256 * 1024

await t.test('one round trip for a cold call, none for a hot one, whatever the delay', async (t) => {
  const site = await startNetSite(t, { pop: { argv: ['--hot-min-requests', '1'] } })
  if (site === null) return
  for (const rttMs of [0, 70, 150, 300]) {
    await setLine(site, rttMs)
    await t.test(`${rttMs} ms`, async (t) => {
      const name = `f${rttMs}`
      await site.deploy(name, answering('one'))
      const others = Array.from({ length: 4 }, (_, index) => `${name}-${index}`)
      for (const other of others) await site.deploy(other, answering('one'))
      const cold: Seen[] = []
      for (const each of [name, ...others]) cold.push(await look(site.pop, each))
      t.same(codesOf(cold), [])
      t.match(cold[0], { status: 200, body: 'one', place: 'region; reason=not-hot' })
      // The quickest of five, for the machine may be busy, but none is quicker than the line.
      t.ok(percentileMs(cold, 0) >= rttMs && percentileMs(cold, 0) < rttMs + 100, `cold call ${Math.round(percentileMs(cold, 0))} ms`)
      // Describe, manifests, blocks: one round trip each, and TCP's slow start.
      const hot = await untilHotMs(site, name)
      t.ok(hot.tookMs < 4 * rttMs + 2 * BUSY_MS, `hot ${Math.round(hot.tookMs)} ms after its first answer`)
      const hotCalls = await calls(site, name, 20)
      t.same(codesOf([...hot.seen, ...hotCalls]), [])
      t.ok(percentileMs(hotCalls, 0.25) < HOT_MS, `hot calls ${percentileMs(hotCalls, 0.25).toFixed(1)} ms`)
      t.equal(hotCalls.every(({ place }) => place === 'pop'), true)

      await site.deploy(name, answering('two'))
      const visible = await untilSeenMs(site, name, 'two')
      t.ok(visible.tookMs < 2 * rttMs + 2 * BUSY_MS, `a new version after ${Math.round(visible.tookMs)} ms`)
      t.same(codesOf(visible.seen), [])
      t.equal((await calls(site, name, 20)).every(({ body }) => body === 'two'), true, 'and the old one never again')
    })
  }

  await t.test('bodies of 5 MiB go both ways, at least a window each round trip', async (t) => {
    await site.deploy('echo', ECHO, { Timeout: 60, Outpost: { Limits: { CpuMs: 5_000 } } })
    for (const rttMs of [0, 70, 150]) {
      await setLine(site, rttMs)
      const body = randomBytes(5 * 1024 * 1024)
      const startedAtMs = performance.now()
      const answer = await fetch(`${site.pop.url}/fn/echo/`, { method: 'POST', body })
      const bytes = Buffer.from(await answer.arrayBuffer())
      const tookMs = performance.now() - startedAtMs
      t.equal(bytes.equals(body), true)
      t.comment(`${rttMs} ms: ${Math.round(tookMs)} ms at ${answer.headers.get('x-outpost-place') ?? ''}`)
      t.ok(tookMs < 2 * (body.length / WINDOW_BYTES + 4) * rttMs + 25 * BUSY_MS, `${Math.round(tookMs)} ms`)
    }
  })
})
