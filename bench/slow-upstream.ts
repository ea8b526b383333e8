/** Many requests that only wait: 2,000 at once, each awaiting a 1 s upstream, on the 64 slots of a POP's default. Machines park. */
import { fileURLToPath } from 'node:url'
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { Child } from './harness/child.ts'
import { startOutpostWith } from './harness/peers.ts'
import { median } from './harness/stats.ts'
import { runLoadUnjudged } from './load/generator.ts'
import { LOOPBACK } from './servers/server.ts'

const UPSTREAM = fileURLToPath(new URL('servers/upstream-main.ts', import.meta.url))

export const slowUpstream: Benchmark = {
  name: 'slow-upstream',
  needs: ['linux'],
  figures: [
    { key: 'slow-upstream-errors', what: '2,000 concurrent requests that each await a 1 s upstream, 64 slots: errors', bar: atMost(0, 'errors') },
    { key: 'slow-upstream-time', what: 'the same: all answered after', bar: atMost(2, 's') },
  ],
  async run(context) {
    const requests = context.quick ? 50 : 2_000
    const delayMs = context.quick ? 100 : 1_000
    const upstream = await Child.start(context.scope, { command: process.execPath, args: [UPSTREAM] })
    const { port } = JSON.parse(await upstream.firstLine(1, 10_000)) as { port: number }
    const { peer } = await startOutpostWith(context, 'slow-upstream', { egressAllowed: [`${LOOPBACK}:${port}`] })

    const seconds: number[] = []
    const errors: number[] = []
    let firstFailure = ''
    for (let round = 0; round < context.rounds; round++) {
      context.progress(`round ${round + 1}: ${requests} at once`)
      const { streams: [stream] } = await runLoadUnjudged(context.scope, {
        host: peer.target.host,
        port: peer.target.port,
        streams: [{
          label: 'upstream',
          plan: { kind: 'upstream', path: peer.target.path, upstream: `http://${LOOPBACK}:${port}`, delayMs },
          connections: requests,
          arrivals: { kind: 'burst' },
        }],
        warmupMs: 0,
        durationMs: 1_000,
        drainMs: 30_000,
        seed: round,
      })
      if (stream === undefined) throw new Error('the generator gave no result')
      errors.push(stream.failed)
      seconds.push(stream.elapsedMs / 1000)
      if (firstFailure === '') firstFailure = stream.firstFailure
    }
    return [
      { key: 'slow-upstream-errors', value: Math.max(...errors), rounds: errors, detail: { requests }, note: firstFailure },
      { key: 'slow-upstream-time', value: median(seconds), rounds: seconds, detail: { requests, upstreamMs: delayMs }, note: '' },
    ]
  },
}
