/**
 * Every call of 300 POPs for a while after everything was deployed: answered at the POP, forwarded to a node that has the
 * image in memory, or forwarded to one that has to load it first. The same forwarded calls are given to the nodes of a
 * region by the ring and, for comparison, to any node at random.
 */
import { atMost, type Benchmark } from '../harness/benchmark.ts'
import { at } from '../harness/stats.ts'
import { firstRing, Ring, ringKey } from '../../shared/place/ring.ts'
import { seededRandom } from '../../shared/random.ts'
import { HotSetPolicy, LruPolicy, PULL_MS } from './policies.ts'
import { toSvg } from './plot.ts'
import { Traffic } from './traffic.ts'
import { FULL, QUICK, SEED, shapeText } from './world.ts'

const NODES_PER_REGION = 8
const NODE_IMAGES_BYTES = 512 * 2 ** 20
const POP_IMAGES_BYTES = 256 * 2 ** 20
const TICK_MS = 10_000
const MINUTE_MS = 60_000
const MINUTES = 20

interface Minute {
  calls: number
  forwarded: number
  coldByRing: number
  coldAtRandom: number
}

export const simCold: Benchmark = {
  name: 'sim-cold',
  needs: [],
  figures: [{ key: 'sim-cold-share', what: 'simulated: calls that wait for an image to be loaded, by ring against by a random node, after the first five minutes', bar: atMost(0.5, 'x') }],
  run(context) {
    const world = context.quick ? QUICK : FULL
    const minutes = context.quick ? 7 : MINUTES
    const traffic = new Traffic({ ...world, seed: SEED })
    const random = seededRandom(SEED)
    const bytesOf = (index: number): number => traffic.bytes[index] ?? 0
    const pops = Array.from({ length: world.pops }, (_, pop) => ({ arrivals: traffic.pop(pop), cache: new HotSetPolicy({ budgetBytes: POP_IMAGES_BYTES, bytesOf }) }))
    const ownerOf = nodeOfFunction(world.functions)
    const nodes = (): LruPolicy[][] => Array.from({ length: world.regions }, () => Array.from({ length: NODES_PER_REGION }, () => new LruPolicy({ budgetBytes: NODE_IMAGES_BYTES, bytesOf })))
    const byRing = nodes()
    const atRandom = nodes()
    const counts: Minute[] = Array.from({ length: minutes }, () => ({ calls: 0, forwarded: 0, coldByRing: 0, coldAtRandom: 0 }))
    for (let untilMs = TICK_MS; untilMs <= minutes * MINUTE_MS; untilMs += TICK_MS) {
      const minute = at(counts, Math.floor((untilMs - 1) / MINUTE_MS))
      if (untilMs % MINUTE_MS === 0) context.progress(`minute ${untilMs / MINUTE_MS} of ${minutes}`)
      for (const { arrivals, cache } of pops) {
        arrivals.advance(untilMs, (atMs, index) => {
          minute.calls++
          if (cache.arrive(atMs, index)) return
          minute.forwarded++
          // Order within a tick is by POP; an image that is loaded counts as there from then on.
          if (!at(at(byRing, arrivals.region), ownerOf(index)).arrive(atMs + 2 * PULL_MS, index)) minute.coldByRing++
          if (!at(at(atRandom, arrivals.region), random.below(NODES_PER_REGION)).arrive(atMs + 2 * PULL_MS, index)) minute.coldAtRandom++
        })
        cache.tick(untilMs)
      }
    }
    const late = counts.slice(5)
    const sum = (of: (minute: Minute) => number): number => late.reduce((total, minute) => total + of(minute), 0)
    const share = (of: (minute: Minute) => number): (readonly [number, number])[] => counts.map((minute, index) => [index + 1, Math.max(1e-5, of(minute) / minute.calls)] as const)
    if (!context.quick) {
      context.plot('cold', toSvg({
        title: 'Calls that a POP does not answer itself, after everything was deployed',
        note: `Synthetic traffic, ${shapeText(world)}, ${NODES_PER_REGION} nodes each; ${counts.reduce((total, { calls }) => total + calls, 0)} calls`,
        x: { label: 'minutes', scale: 'linear', ticks: [0, 5, 10, 15, 20] },
        y: { label: 'share of all calls', scale: 'log', ticks: [0.0001, 0.001, 0.01, 0.1, 1], text: (tick) => `${tick * 100} %` },
        series: [
          { name: 'forwarded to a region', points: share(({ forwarded }) => forwarded) },
          { name: 'image loaded, by ring', points: share(({ coldByRing }) => coldByRing) },
          { name: 'image loaded, random', points: share(({ coldAtRandom }) => coldAtRandom) },
        ],
      }))
    }
    return Promise.resolve([{
      key: 'sim-cold-share', value: sum(({ coldByRing }) => coldByRing) / sum(({ coldAtRandom }) => coldAtRandom), rounds: [],
      detail: { calls: sum(({ calls }) => calls), forwardedShare: sum(({ forwarded }) => forwarded) / sum(({ calls }) => calls), coldShare: sum(({ coldByRing }) => coldByRing) / sum(({ calls }) => calls), coldShareAtRandom: sum(({ coldAtRandom }) => coldAtRandom) / sum(({ calls }) => calls) },
      note: 'synthetic traffic',
    }])
  },
}

/** Which node of a region the ring gives a function to; asked for once. */
function nodeOfFunction(functions: number): (index: number) => number {
  const ids = Array.from({ length: NODES_PER_REGION }, (_, node) => `node-${node}`)
  const ring = new Ring(firstRing(ids.map((id) => ({ id, weight: 1 }))))
  const known = new Int8Array(functions).fill(-1)
  return (index) => {
    if (known[index] === -1) known[index] = ids.indexOf(ring.owners(ringKey('account', `function-${index}`), 'pool')[0] ?? '')
    return known[index] ?? 0
  }
}
