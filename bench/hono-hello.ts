/** The first thing that a user of Hono deploys, hot at a POP and in workerd: the same bundle, a GET, 32 connections. */
import { atLeast, type Benchmark } from './harness/benchmark.ts'
import { startOutpostWith, startWorkerdWith, warmUp, type Peer } from './harness/peers.ts'
import { alternate, median, ratios } from './harness/stats.ts'
import { runWrk } from './load/wrk.ts'

export const honoHello: Benchmark = {
  name: 'hono-hello',
  needs: ['wrk', 'peers', 'linux'],
  figures: [{ key: 'hono-rps-vs-workerd', what: 'Hono hello through a hot POP, 32 connections: requests/s against workerd', bar: atLeast(2, 'x') }],
  async run(context) {
    const asked = (peer: Peer): Peer => ({ ...peer, check: 'hello' })
    const peers = {
      outpost: asked((await startOutpostWith(context, 'hono-hello')).peer),
      workerd: asked(await startWorkerdWith(context, 'hono-hello')),
    }
    await warmUp(context, Object.values(peers))
    const results = await alternate(['outpost', 'workerd'] as const, context.rounds, (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      const { target, check } = peers[name]
      return runWrk(context.scope, target, { connections: 32, durationS: context.quick ? 1 : 4, check })
    })
    const perSecond = (name: keyof typeof peers): number[] => results[name].map((result) => result.requestsPerSecond)
    const againstWorkerd = ratios(perSecond('outpost'), perSecond('workerd'))
    return [{ key: 'hono-rps-vs-workerd', value: median(againstWorkerd), rounds: againstWorkerd, detail: { outpostPerS: median(perSecond('outpost')), workerdPerS: median(perSecond('workerd')) }, note: '' }]
  },
}
