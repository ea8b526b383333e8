/** 1,000 requests that each touch 100 MB, four at a time: what stays resident must fit `--memory`. */
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { residentBytes } from './harness/proc.ts'
import { runLoad } from './load/generator.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'

const BUDGET_MIB = 1_024
const SAMPLE_EVERY_MS = 50

export const memoryBudget: Benchmark = {
  name: 'memory-budget',
  needs: ['linux'],
  figures: [{ key: 'memory-budget', what: '1,000 requests that each touch 100 MB: highest resident memory of the POP against --memory', bar: atMost(1, 'x') }],
  async run(context) {
    const requests = context.quick ? 8 : 1_000
    const mebibytes = context.quick ? 16 : 100
    const outpost = await context.startOutpost(context.scope, { ...OUTPOST_DEFAULTS, memoryMib: BUDGET_MIB })
    await outpost.deploy({ name: 'memory', source: fixture('memory'), cpuMs: 5_000, memoryMib: 128 })
    await outpost.untilHot('memory', 30_000)
    const { host, port, path } = outpost.pop.target('memory')

    let highest = 0
    const sample = (): void => {
      highest = Math.max(highest, residentBytes(outpost.pop.pids))
    }
    const timer = setInterval(sample, SAMPLE_EVERY_MS)
    try {
      context.progress(`${requests} requests of ${mebibytes} MiB`)
      await runLoad(context.scope, {
        host,
        port,
        streams: [{ label: 'memory', plan: { kind: 'memory', path, mebibytes }, connections: 4, arrivals: { kind: 'closed', count: requests } }],
        warmupMs: 0,
        durationMs: 240_000,
        drainMs: 30_000,
        seed: 5,
      })
    } finally {
      clearInterval(timer)
    }
    sample()
    const highestMib = highest / 2 ** 20
    return [{
      key: 'memory-budget', value: highestMib / BUDGET_MIB, rounds: [],
      detail: { requests, touchedMib: mebibytes, budgetMib: BUDGET_MIB, highestMib }, note: `sampled every ${SAMPLE_EVERY_MS} ms`,
    }]
  },
}
