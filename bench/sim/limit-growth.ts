/** How an account's current limit follows demand: raised share by share when managers are full, lowered when they stand idle. */
import { atMost, type Benchmark, type BenchmarkContext } from '../harness/benchmark.ts'
import { at } from '../harness/stats.ts'
import { ACCOUNT, Cluster } from '../../test/sim/limit-cluster.ts'
import { toSvg } from './plot.ts'
import { SEED } from './world.ts'

const FRONTENDS = 20
const MANAGERS = 12
const MAXIMUM = 400
const SHARE_SLOTS = 40
const RUN_MS = 1_000
const STEP_MS = 500
/** Calls that clients want under way, from when on, s. */
const DEMAND = [[0, 20], [60, 600], [120, 20]] as const
const SECONDS = 480
const QUICK_SECONDS = 70
/** A client that was refused waits so long, as `Retry-After` tells it. */
const RETRY_MS = 1_000

interface Sample {
  readonly atS: number
  readonly wanted: number
  readonly running: number
  readonly limit: number
}

export const simLimits: Benchmark = {
  name: 'sim-limits',
  needs: [],
  figures: [
    { key: 'sim-limits-over', what: 'simulated: most that an account ran at once against its maximum of 400, 20 frontends, 12 managers', bar: atMost(1, 'x') },
    { key: 'sim-limits-growth', what: 'the same: from the step of demand until 95 % of the maximum run', bar: atMost(10, 's') },
  ],
  run(context) {
    const { cluster, samples } = simulate(context)
    const stepAtS = DEMAND[1][0]
    const grown = samples.find(({ atS, running }) => atS >= stepAtS && running >= 0.95 * MAXIMUM)
    if (!context.quick) {
      const series = (of: (sample: Sample) => number): (readonly [number, number])[] => samples.map((sample) => [sample.atS, of(sample)] as const)
      context.plot('limits', toSvg({
        title: "An account's calls and its current limit",
        note: `${FRONTENDS} frontends, ${MANAGERS} managers, shares of ${SHARE_SLOTS}; calls of ${RUN_MS / 1000} s; lowered at most once a minute`,
        x: { label: 'seconds', scale: 'linear', ticks: [0, 60, 120, 180, 240, 300, 360, 420, 480] },
        y: { label: 'calls', scale: 'linear', ticks: [0, 100, 200, 300, 400, 500, 600] },
        series: [
          { name: 'wanted', points: series(({ wanted }) => wanted) },
          { name: 'running', points: series(({ running }) => running) },
          { name: 'current limit', points: series(({ limit }) => limit) },
          { name: 'maximum', style: 'dashes', points: [[0, MAXIMUM], [SECONDS, MAXIMUM]] },
        ],
      }))
    }
    return Promise.resolve([
      { key: 'sim-limits-over', value: cluster.peak / MAXIMUM, rounds: [], detail: { peak: cluster.peak, maximum: MAXIMUM }, note: cluster.violation ?? '' },
      { key: 'sim-limits-growth', value: grown === undefined ? null : grown.atS - stepAtS, rounds: [], detail: { lastLimit: at(samples, samples.length - 1).limit }, note: grown === undefined ? 'it was never reached' : '' },
    ])
  },
}

function simulate(context: BenchmarkContext): { readonly cluster: Cluster; readonly samples: readonly Sample[] } {
  const cluster = new Cluster({ managers: MANAGERS, frontends: FRONTENDS, limits: { maximum: MAXIMUM, reserved: new Map() }, shareSlots: SHARE_SLOTS, seed: SEED, delayMaxMs: 5 })
  const samples: Sample[] = []
  let clients = 0
  const wantedAt = (atS: number): number => DEMAND.findLast(([fromS]) => fromS <= atS)?.[1] ?? 0
  const client = (number: number): void => {
    if (number >= wantedAt(cluster.clock.monotonicMs() / 1000)) {
      clients -= 1
      return
    }
    at(cluster.frontends, number % FRONTENDS).call(RUN_MS, (verdict) => {
      if (verdict === 'ran') client(number)
      else cluster.clock.after(RETRY_MS, () => client(number))
    })
  }
  for (let atMs = 0; atMs < (context.quick ? QUICK_SECONDS : SECONDS) * 1000; atMs += STEP_MS) {
    const wanted = wantedAt(atMs / 1000)
    while (clients < wanted) client(clients++)
    cluster.run(STEP_MS)
    if (atMs % 60_000 === 0) context.progress(`second ${atMs / 1000} of ${SECONDS}`)
    const sizes = cluster.frontends.map(({ sets }) => sets.size(ACCOUNT, null))
    samples.push({ atS: (atMs + STEP_MS) / 1000, wanted, running: cluster.running, limit: Math.min(MAXIMUM, Math.max(...sizes) * SHARE_SLOTS) })
  }
  return { cluster, samples }
}
