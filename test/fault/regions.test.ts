/** A POP with two regions: one is killed, both are restarted. What clients see. */
import t from 'tap'
import { codesOf, startCallers, summary } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { BUSY_MS } from './far.ts'
import { after, startPlace, untilLinked } from './two-regions.ts'

await t.test('the nearer of two regions is killed, and both are restarted', async (t) => {
  const place = await startPlace(t)
  if (place === null) return
  const { pop, near, far } = place

  await t.test('killed: calls that had started there may have run, all others are answered by the other region', async (t) => {
    const cold = place.cold(t)
    const brief = startCallers(t, () => [pop, 'brief'], { count: 4 })
    await eventually(async () => brief.seen.length, (length) => length > 8)
    const killedAtMs = performance.now()
    await near.kill('SIGKILL')
    await eventually(async () => after(brief.seen, killedAtMs).length, (length) => length > 8)
    const seen = [...await cold.stop(), ...await brief.stop()]
    t.same(codesOf(seen).filter((code) => code !== 'ERR_REGION_LOST'), [], summary(seen))
    const lost = seen.filter(({ code }) => code !== null).length
    t.ok(lost <= 6, `${lost} calls of 6 clients: at most what each had under way`)
    t.same(codesOf(after(seen, killedAtMs + BUSY_MS)), [])
    await near.start()
    await untilLinked(pop)
  })

  await t.test('restarted one after the other under load: no call fails', async (t) => {
    const cold = place.cold(t)
    const brief = startCallers(t, () => [pop, 'brief'], { count: 4 })
    for (const region of [near, far]) {
      await eventually(async () => brief.seen.length, (length) => length > 8)
      await region.kill('SIGTERM')
      await region.start()
      await untilLinked(pop)
    }
    const seen = [...await cold.stop(), ...await brief.stop()]
    t.same(codesOf(seen), [], summary(seen))
  })
})
