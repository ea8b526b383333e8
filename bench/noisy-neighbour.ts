/**
 * Does a heavy request hurt the light ones? The same offered load twice: light requests only, and with one in a hundred that
 * computes for 50 ms (a function of its own, on connections of its own). Only the light ones are timed.
 */
import { atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { startOutpostWith } from './harness/peers.ts'
import { fixture } from './harness/fixtures.ts'
import { alternate, median, ratios } from './harness/stats.ts'
import { runLoad } from './load/generator.ts'
import type { StreamSpec } from './load/load-spec.ts'
import type { Target } from './servers/server.ts'

const HEAVY_MS = 50
const HEAVY_SHARE = 0.01
/** One per cent of it keeps a quarter of a core busy for 50 ms each: enough to meet nearly always one of them, not to saturate. */
const RATE_PER_SECOND = 500
/** First guess of loops of fixtures/cpu.js in 50 ms; then measured. */
const LOOPS_FIRST = 200_000

export const noisyNeighbour: Benchmark = {
  name: 'noisy-neighbour',
  needs: ['linux'],
  figures: [{ key: 'noisy-neighbour-p99', what: 'hot handler\'s p99 with 1 % of requests taking 50 ms of CPU, against its p99 alone', bar: atMost(3, 'x') }],
  async run(context) {
    const { outpost, peer } = await startOutpostWith(context, 'json-fetch')
    await outpost.deploy({ name: 'cpu', source: fixture('cpu'), cpuMs: 1_000 })
    await outpost.untilHot('cpu', 30_000)
    const heavyTarget = outpost.pop.target('cpu')
    const loops = await loopsFor(context, heavyTarget)

    const light: StreamSpec = {
      label: 'light',
      plan: { kind: 'json', path: peer.target.path, counter: 'fresh' },
      connections: 32,
      arrivals: { kind: 'open', ratePerSecond: RATE_PER_SECOND * (1 - HEAVY_SHARE) },
    }
    const heavy: StreamSpec = {
      label: 'heavy',
      plan: { kind: 'cpu', path: heavyTarget.path, loops },
      connections: 16,
      arrivals: { kind: 'open', ratePerSecond: RATE_PER_SECOND * HEAVY_SHARE },
    }
    const results = await alternate(['alone', 'mixed'] as const, context.rounds, async (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      const result = await runLoad(context.scope, {
        host: peer.target.host,
        port: peer.target.port,
        streams: name === 'alone' ? [light] : [light, heavy],
        warmupMs: context.quick ? 100 : 1_000,
        durationMs: context.quick ? 1_500 : 9_000,
        drainMs: 10_000,
        seed: 77 + round,
      })
      return { p99Us: result.stream('light').p99Us, heavyP50Us: name === 'alone' ? null : result.stream('heavy').p50Us }
    })
    const alone = results.alone.map((result) => result.p99Us)
    const mixed = results.mixed.map((result) => result.p99Us)
    const values = ratios(mixed, alone)
    return [{
      key: 'noisy-neighbour-p99', value: median(values), rounds: values,
      detail: {
        offeredPerS: RATE_PER_SECOND, aloneP99Us: median(alone), mixedP99Us: median(mixed),
        heavyP50Ms: median(results.mixed.map((result) => (result.heavyP50Us ?? 0) / 1000)),
      },
      note: '',
    }]
  },
}

/** Loops that take HEAVY_MS when nothing else runs. */
async function loopsFor(context: BenchmarkContext, target: Target): Promise<number> {
  let loops = context.quick ? LOOPS_FIRST / 20 : LOOPS_FIRST
  for (let attempt = 0; attempt < 4 && !context.quick; attempt++) {
    const result = await runLoad(context.scope, {
      host: target.host,
      port: target.port,
      streams: [{ label: 'heavy', plan: { kind: 'cpu', path: target.path, loops }, connections: 1, arrivals: { kind: 'closed', count: 10 } }],
      warmupMs: 0,
      durationMs: 20_000,
      drainMs: 5_000,
      seed: 1,
    })
    loops = Math.round((loops * HEAVY_MS) / (result.stream('heavy').p50Us / 1000))
  }
  return loops
}
