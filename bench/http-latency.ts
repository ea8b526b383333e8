/** Latency of the hot JSON handler: the tail at equal offered load, open loop; and the median at one connection. */
import { atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { startOutpostWith, startWorkerdWith, warmUp, type Peer } from './harness/peers.ts'
import { alternate, median, ratios } from './harness/stats.ts'
import { runLoad } from './load/generator.ts'
import type { StreamResult } from './load/load-spec.ts'
import { runWrk } from './load/wrk.ts'

const PEERS = ['outpost', 'workerd'] as const

export const httpLatency: Benchmark = {
  name: 'http-latency',
  needs: ['wrk', 'peers', 'linux'],
  figures: [
    { key: 'json-p99-vs-workerd', what: 'hot JSON handler: p99 at half of workerd\'s maximum, against workerd\'s', bar: atMost(0.5, 'x') },
    { key: 'json-p50-one-connection', what: 'the same: p50 at one connection, against workerd\'s', bar: atMost(1, 'x') },
  ],
  async run(context) {
    const peers = { outpost: (await startOutpostWith(context, 'json-fetch')).peer, workerd: await startWorkerdWith(context, 'json-fetch') }
    await warmUp(context, Object.values(peers))

    context.progress('finding workerd\'s maximum')
    const maxima: number[] = []
    for (let run = 0; run < (context.quick ? 1 : 3); run++) {
      const { requestsPerSecond } = await runWrk(context.scope, peers.workerd.target, { connections: 32, durationS: context.quick ? 1 : 3, check: 'any' })
      maxima.push(requestsPerSecond)
    }
    const ratePerSecond = context.quick ? 200 : median(maxima) / 2

    const offered = await alternate(PEERS, context.rounds, (name, round) => {
      context.progress(`round ${round + 1}: ${name} at ${ratePerSecond.toFixed(0)} requests/s`)
      return offer(context, peers[name], ratePerSecond)
    })
    const single = await alternate(PEERS, context.rounds, (name, round) => {
      context.progress(`round ${round + 1}: ${name}, one connection`)
      return runWrk(context.scope, peers[name].target, { connections: 1, durationS: context.quick ? 1 : 3, check: peers[name].check })
    })

    const p99 = (name: (typeof PEERS)[number]): number[] => offered[name].map((result) => result.p99Us)
    const p50 = (name: (typeof PEERS)[number]): number[] => single[name].map((result) => result.p50Us)
    const tail = ratios(p99('outpost'), p99('workerd'))
    const middle = ratios(p50('outpost'), p50('workerd'))
    return [
      {
        key: 'json-p99-vs-workerd', value: median(tail), rounds: tail,
        detail: {
          offeredPerS: ratePerSecond,
          outpostP50Us: median(offered.outpost.map((result) => result.p50Us)), workerdP50Us: median(offered.workerd.map((result) => result.p50Us)),
          outpostP99Us: median(p99('outpost')), workerdP99Us: median(p99('workerd')),
        },
        note: '',
      },
      { key: 'json-p50-one-connection', value: median(middle), rounds: middle, detail: { outpostP50Us: median(p50('outpost')), workerdP50Us: median(p50('workerd')) }, note: '' },
    ]
  },
}

async function offer(context: BenchmarkContext, peer: Peer, ratePerSecond: number): Promise<StreamResult> {
  const result = await runLoad(context.scope, {
    host: peer.target.host,
    port: peer.target.port,
    streams: [{
      label: 'json',
      plan: { kind: 'json', path: peer.target.path, counter: peer.check === 'fresh' ? 'fresh' : 'any' },
      connections: 32,
      arrivals: { kind: 'open', ratePerSecond },
    }],
    warmupMs: context.quick ? 200 : 1_000,
    durationMs: context.quick ? 700 : 6_000,
    drainMs: 10_000,
    seed: 20_260,
  })
  return result.stream('json')
}
