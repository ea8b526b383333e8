/** Far more functions than fit: 2,000 deployed, Zipf(1.0) traffic, memory at the POP for 500 of them. Every answer must be right. */
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { runLoadUnjudged } from './load/generator.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'

/** Functions are deployed this many at a time: the region builds on all its builders. */
const DEPLOYS_AT_ONCE = 4

export const zipf: Benchmark = {
  name: 'zipf',
  needs: ['linux'],
  figures: [{ key: 'zipf-errors', what: '2,000 functions deployed, Zipf(1.0) traffic, POP memory for 500 of them: errors and wrong answers', bar: atMost(0, 'errors') }],
  async run(context) {
    const functions = context.quick ? 8 : 2_000
    const requests = context.quick ? 200 : 60_000
    const outpost = await context.startOutpost(context.scope, { ...OUTPOST_DEFAULTS, hotFunctions: context.quick ? 4 : 500 })
    for (let deployed = 0; deployed < functions; deployed += DEPLOYS_AT_ONCE) {
      if (deployed % 100 === 0) context.progress(`${deployed} of ${functions} functions deployed`)
      await Promise.all(Array.from({ length: Math.min(DEPLOYS_AT_ONCE, functions - deployed) }, (_, offset) => {
        const index = deployed + offset
        return outpost.deploy({ name: `numbered-${index}`, source: fixture('numbered', index), cpuMs: null, memoryMib: null })
      }))
    }
    context.progress(`${requests} requests`)
    const { host, port, path } = outpost.pop.target('numbered-{}')
    const { streams: [stream] } = await runLoadUnjudged(context.scope, {
      host,
      port,
      streams: [{ label: 'zipf', plan: { kind: 'zipf', path, functions, exponent: 1 }, connections: 32, arrivals: { kind: 'closed', count: requests } }],
      warmupMs: 0,
      durationMs: 180_000,
      drainMs: 30_000,
      seed: 1_000,
    })
    if (stream === undefined) throw new Error('the generator gave no result')
    return [{
      key: 'zipf-errors', value: stream.failed, rounds: [],
      detail: { functions, requests: stream.sent, answered: stream.answered, p50Us: stream.p50Us, p99Us: stream.p99Us, perS: (stream.answered * 1000) / stream.elapsedMs },
      note: stream.firstFailure,
    }]
  },
}
