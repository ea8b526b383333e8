/** What forwarding costs: the same call at a region directly, and at a POP that forwards it there because it declares much CPU. */
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { alternate, median } from './harness/stats.ts'
import { runWrk } from './load/wrk.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'
import { urlOf, type Target } from './servers/server.ts'

/** Above what a POP runs itself (shared/place, DEFAULT_PLACE_POLICY). */
const DECLARED_CPU_MS = 5_000

export const hop: Benchmark = {
  name: 'hop',
  needs: ['wrk', 'linux'],
  figures: [{ key: 'hop-p50', what: 'hop POP -> region -> POP on loopback: p50 above the same call at the region', bar: atMost(250, 'us') }],
  async run(context) {
    const outpost = await context.startOutpost(context.scope, OUTPOST_DEFAULTS)
    await outpost.deploy({ name: 'json-fetch', source: fixture('json-fetch'), cpuMs: DECLARED_CPU_MS })
    const targets = { forwarded: outpost.pop.target('json-fetch'), direct: outpost.region.target('json-fetch') }
    const names = ['forwarded', 'direct'] as const
    if (!context.quick) for (const name of names) await runWrk(context.scope, targets[name], { connections: 4, durationS: 2, check: 'fresh' })
    const p50 = await alternate(names, context.rounds, async (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      return (await runWrk(context.scope, targets[name], { connections: 1, durationS: context.quick ? 1 : 3, check: 'fresh' })).p50Us
    })
    const place = await placeOf(targets.forwarded)
    if (!place.startsWith('region')) throw new Error(`the calls were not forwarded: ${place}`)
    const added = p50.forwarded.map((value, round) => value - (p50.direct[round] ?? 0))
    return [{ key: 'hop-p50', value: median(added), rounds: added, detail: { forwardedUs: median(p50.forwarded), directUs: median(p50.direct) }, note: place }]
  },
}

async function placeOf(target: Target): Promise<string> {
  const response = await fetch(urlOf(target))
  await response.arrayBuffer()
  return response.headers.get('x-outpost-place') ?? 'nowhere'
}
