/** A Lambda-style handler doing the same JSON work, against workerd's fetch handler. */
import { atLeast, type Benchmark } from './harness/benchmark.ts'
import { startOutpostWith, startWorkerdWith, warmUp } from './harness/peers.ts'
import { alternate, median, ratios } from './harness/stats.ts'
import { runWrk } from './load/wrk.ts'

export const httpEvent: Benchmark = {
  name: 'http-event',
  needs: ['wrk', 'peers', 'linux'],
  figures: [{ key: 'event-rps-vs-workerd', what: 'hot Lambda-style handler: requests/s against workerd\'s fetch handler', bar: atLeast(3, 'x') }],
  async run(context) {
    const peers = { outpost: (await startOutpostWith(context, 'event-handler')).peer, workerd: await startWorkerdWith(context, 'json-fetch') }
    await warmUp(context, Object.values(peers))
    const results = await alternate(['outpost', 'workerd'] as const, context.rounds, async (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      const result = await runWrk(context.scope, peers[name].target, { connections: 32, durationS: context.quick ? 1 : 4, check: peers[name].check })
      return result.requestsPerSecond
    })
    const values = ratios(results.outpost, results.workerd)
    return [{ key: 'event-rps-vs-workerd', value: median(values), rounds: values, detail: { outpostPerS: median(results.outpost), workerdPerS: median(results.workerd) }, note: '' }]
  },
}
