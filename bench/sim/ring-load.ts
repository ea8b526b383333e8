/** How evenly the nodes of a region are loaded when a few functions have most of the calls: by the ring alone, and with bounded loads. */
import { chooseFromPool, LOAD_SLACK } from '../../shared/place/bounded-load.ts'
import { firstRing, Ring, ringKey } from '../../shared/place/ring.ts'
import { type Random, seededRandom } from '../../shared/random.ts'
import { atMost, type Benchmark } from '../harness/benchmark.ts'
import { at } from '../harness/stats.ts'
import { toSvg } from './plot.ts'
import { SEED } from './world.ts'

const NODES = [2, 4, 8, 16, 32, 64]
const FIGURE_NODES = 16
const FUNCTIONS = 10_000
/** Calls under way at a node, on the mean. */
const MEAN_LOAD = 40
const RUN_MS = 50

interface Loads {
  /** The busiest node's calls under way over the mean, at the mean moment. */
  readonly imbalance: number
  /** Calls that ran where their function is at home. */
  readonly atHome: number
}

export const simRing: Benchmark = {
  name: 'sim-ring',
  needs: [],
  figures: [{ key: 'sim-ring-imbalance', what: 'simulated: busiest of 16 nodes of a region against their mean, Zipf(1.0) calls', bar: atMost(1.5, 'x') }],
  run(context) {
    const calls = context.quick ? 4_000 : 60_000
    const sizes = context.quick ? [FIGURE_NODES] : NODES
    const plain = sizes.map((nodes) => load(nodes, calls, Infinity))
    const bounded = sizes.map((nodes) => load(nodes, calls, LOAD_SLACK))
    if (!context.quick) {
      context.plot('ring', toSvg({
        title: 'Calls under way at the busiest node, against the mean of all',
        note: `${FUNCTIONS} functions, Zipf(1.0); ${MEAN_LOAD} calls under way at a node on the mean; ${calls} calls for each point`,
        x: { label: 'nodes of a region', scale: 'log', ticks: NODES },
        y: { label: 'busiest / mean', scale: 'linear', ticks: [0, 1, 2, 3, 4, 5, 6, 7, 8] },
        series: [
          { name: 'home only', points: sizes.map((nodes, index) => [nodes, at(plain, index).imbalance] as const) },
          { name: 'bounded loads', points: sizes.map((nodes, index) => [nodes, at(bounded, index).imbalance] as const) },
          { name: 'at home (share)', style: 'dashes', points: sizes.map((nodes, index) => [nodes, at(bounded, index).atHome] as const) },
        ],
      }))
    }
    const figure = sizes.indexOf(FIGURE_NODES)
    const { imbalance, atHome } = at(bounded, figure)
    return Promise.resolve([{ key: 'sim-ring-imbalance', value: imbalance, rounds: [], detail: { homeOnly: at(plain, figure).imbalance, atHomeShare: atHome, nodes: FIGURE_NODES, calls }, note: 'loads as the caller sees them, without delay' }])
  },
}

function load(nodes: number, calls: number, slack: number): Loads {
  const random = seededRandom(SEED + nodes)
  const ring = new Ring(firstRing(Array.from({ length: nodes }, (_, node) => ({ id: `node-${node}`, weight: 1 }))))
  const underWay = new Map(ring.document.members.map(({ id }) => [id, 0]))
  const loadOf = (id: string): number => underWay.get(id) ?? 0
  const keys = Array.from({ length: FUNCTIONS }, (_, index) => ringKey('account', `function-${index}`))
  const pick = zipf(random)
  const ends: { readonly atMs: number; readonly id: string }[] = []
  const gapMs = RUN_MS / (MEAN_LOAD * nodes)
  let nowMs = 0
  let nextEnd = 0
  let imbalances = 0
  let samples = 0
  let atHome = 0
  for (let call = 0; call < calls; call++) {
    nowMs += -Math.log(1 - random.next()) * gapMs
    // Every call takes as long, so they end in the order in which they came.
    for (let end = ends[nextEnd]; end !== undefined && end.atMs <= nowMs; end = ends[++nextEnd]) underWay.set(end.id, loadOf(end.id) - 1)
    const choice = chooseFromPool(ring, keys[pick()] ?? '', loadOf, () => true, slack)
    if (choice === null) throw new Error('no member could take a call')
    underWay.set(choice.member, loadOf(choice.member) + 1)
    ends.push({ atMs: nowMs + RUN_MS, id: choice.member })
    if (choice.owner) atHome++
    if (nowMs < 2 * RUN_MS) continue
    const loads = [...underWay.values()]
    imbalances += (Math.max(...loads) * nodes) / loads.reduce((sum, value) => sum + value, 0)
    samples++
  }
  return { imbalance: imbalances / samples, atHome: atHome / calls }
}

/** An index below FUNCTIONS, the first asked for most. */
function zipf(random: Random): () => number {
  const sums: number[] = []
  let total = 0
  for (let index = 0; index < FUNCTIONS; index++) sums.push((total += 1 / (index + 1)))
  return () => {
    const wanted = random.next() * total
    let low = 0
    let high = FUNCTIONS - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if ((sums[middle] ?? 0) < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}
