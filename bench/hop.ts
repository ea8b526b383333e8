/** What forwarding costs: the same call at a region directly, and at a POP that keeps nothing hot and forwards it there. */
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { startOutpostWith } from './harness/peers.ts'
import { alternate, median } from './harness/stats.ts'
import { runWrk } from './load/wrk.ts'

export const hop: Benchmark = {
  name: 'hop',
  needs: ['wrk', 'linux'],
  figures: [{ key: 'hop-p50', what: 'hop POP -> region -> POP on loopback: p50 above the same call at the region', bar: atMost(250, 'us') }],
  async run(context) {
    const { outpost, peer } = await startOutpostWith(context, 'json-fetch', { forwardsAll: true })
    const targets = { forwarded: peer.target, direct: outpost.region.target('json-fetch') }
    const p50 = await alternate(['forwarded', 'direct'] as const, context.rounds, async (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      return (await runWrk(context.scope, targets[name], { connections: 1, durationS: context.quick ? 1 : 3, check: 'fresh' })).p50Us
    })
    const added = p50.forwarded.map((value, round) => value - (p50.direct[round] ?? 0))
    return [{ key: 'hop-p50', value: median(added), rounds: added, detail: { forwardedUs: median(p50.forwarded), directUs: median(p50.direct) }, note: '' }]
  },
}
