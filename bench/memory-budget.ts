/**
 * 1,000 requests that each touch 100 MB, four at a time. A POP soon learns that they are heavy and forwards them, so both
 * hosts have the same `--memory`, and what stays resident must fit it at each.
 */
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { residentBytes } from './harness/proc.ts'
import { runLoad } from './load/generator.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'

const BUDGET_MIB = 1_024
const SAMPLE_EVERY_MS = 50
/** The most that a POP runs itself. */
const CPU_MS = 1_000

export const memoryBudget: Benchmark = {
  name: 'memory-budget',
  needs: ['linux'],
  figures: [{ key: 'memory-budget', what: '1,000 requests that each touch 100 MB: highest resident memory of POP or region, against --memory', bar: atMost(1, 'x') }],
  async run(context) {
    const requests = context.quick ? 8 : 1_000
    const mebibytes = context.quick ? 16 : 100
    const outpost = await context.startOutpost(context.scope, { ...OUTPOST_DEFAULTS, popMemoryMib: BUDGET_MIB, regionMemoryMib: BUDGET_MIB })
    await outpost.deploy({ name: 'memory', source: fixture('memory'), cpuMs: CPU_MS })
    await outpost.untilHot('memory', 30_000)
    const { host, port, path } = outpost.pop.target('memory')

    const highest = { pop: 0, region: 0 }
    const sample = (): void => {
      for (const tier of ['pop', 'region'] as const) highest[tier] = Math.max(highest[tier], residentBytes(outpost[tier].pids))
    }
    const timer = setInterval(sample, SAMPLE_EVERY_MS)
    try {
      context.progress(`${requests} requests of ${mebibytes} MiB`)
      await runLoad(context.scope, {
        host,
        port,
        streams: [{ label: 'memory', plan: { kind: 'memory', path, mebibytes }, connections: 4, arrivals: { kind: 'closed', count: requests } }],
        warmupMs: 0,
        durationMs: 400_000,
        drainMs: 30_000,
        seed: 5,
      })
    } finally {
      clearInterval(timer)
    }
    sample()
    const [popMib, regionMib] = [highest.pop / 2 ** 20, highest.region / 2 ** 20]
    return [{
      key: 'memory-budget', value: Math.max(popMib, regionMib) / BUDGET_MIB, rounds: [],
      detail: { requests, touchedMib: mebibytes, budgetMib: BUDGET_MIB, popMib, regionMib }, note: `sampled every ${SAMPLE_EVERY_MS} ms`,
    }]
  },
}
