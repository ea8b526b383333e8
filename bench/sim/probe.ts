/** How often random probing finds a ready sandbox, against the formula 1-(1-p)^k. */
import { ProbeSearch } from '../../shared/place/probe.ts'
import { type Random, seededRandom } from '../../shared/random.ts'
import { atMost, type Benchmark } from '../harness/benchmark.ts'
import { toSvg } from './plot.ts'
import { SEED } from './world.ts'

const MANAGERS = 100
const PARTS = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
/** Questions in all: the pure ones, and the final request, which looks too. */
const QUESTIONS = [1, 2, 4]

export const simProbe: Benchmark = {
  name: 'sim-probe',
  needs: [],
  figures: [{ key: 'sim-probe-difference', what: 'simulated: largest difference between the hit rate of probing and 1-(1-p)^k, percentage points', bar: atMost(3, 'points') }],
  run(context) {
    const random = seededRandom(SEED)
    const trials = context.quick ? 2_000 : 50_000
    let largest = { points: 0, part: 0, questions: 0 }
    const found = QUESTIONS.map((questions) => PARTS.map((part) => {
      const rate = hitRate(part, questions, trials, random)
      const points = Math.abs(rate - formula(part, questions)) * 100
      if (points > largest.points) largest = { points, part, questions }
      return [part, rate] as const
    }))
    if (!context.quick) {
      context.plot('probe', toSvg({
        title: 'Random probing: how often a ready sandbox is found',
        note: `${MANAGERS} managers, ${trials} requests for each point; dashes: 1-(1-p)^k`,
        x: { label: 'part of the managers that have one', scale: 'linear', ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] },
        y: { label: 'share of requests that found one', scale: 'linear', ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] },
        series: [
          ...QUESTIONS.map((questions, index) => ({ name: `${questions} asked`, points: found[index] ?? [] })),
          ...QUESTIONS.map((questions) => ({ name: `formula, k = ${questions}`, style: 'dashes' as const, points: PARTS.map((part) => [part, formula(part, questions)] as const) })),
        ],
      }))
    }
    return Promise.resolve([{ key: 'sim-probe-difference', value: largest.points, rounds: [], detail: { managers: MANAGERS, trials, part: largest.part, questions: largest.questions }, note: 'the largest of all points of the plot' }])
  },
}

/** One request after another; who has one is drawn anew each time. */
function hitRate(part: number, questions: number, trials: number, random: Random): number {
  const weights = new Array<number>(MANAGERS).fill(1)
  let hits = 0
  for (let trial = 0; trial < trials; trial++) {
    const having = new Set(sample(Math.round(part * MANAGERS), random))
    const search = new ProbeSearch({ weights, budget: { probes: questions - 1, timeMs: 1_000 }, finalTimeoutMs: 1_000, deadlineMs: 10_000, random })
    let step = search.start(0)
    // The last request would make one: that it had none is a miss all the same.
    while (step.kind === 'ask' && !having.has(step.index) && !step.final) step = search.answered(step.attempt, 'none', 0) ?? step
    if (step.kind === 'ask' && having.has(step.index)) hits++
  }
  return hits / trials
}

function sample(count: number, random: Random): number[] {
  const all = Array.from({ length: MANAGERS }, (_, index) => index)
  for (let index = 0; index < count; index++) {
    const other = index + random.below(MANAGERS - index)
    ;[all[index], all[other]] = [all[other] ?? 0, all[index] ?? 0]
  }
  return all.slice(0, count)
}

function formula(part: number, questions: number): number {
  return 1 - (1 - part) ** questions
}
