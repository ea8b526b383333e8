/** What POPs answer themselves, by policy and memory, against what a clairvoyant could at most. */
import { atLeast, type Benchmark, type BenchmarkContext, type Measurement } from '../harness/benchmark.ts'
import { at } from '../harness/stats.ts'
import { type CacheOptions, type CachePolicy, ClairvoyantBound, HotSetPolicy, LfuPolicy, LruPolicy } from './policies.ts'
import { toSvg } from './plot.ts'
import { Traffic } from './traffic.ts'
import { FULL, QUICK, SEED, shapeText } from './world.ts'

/** Default memory of a POP is 512 MiB, of which half is for images. */
const DEFAULT_MIB = 256
const SIZES_MIB = [8, 16, 32, 64, 128, DEFAULT_MIB, 512, 1024]
const HOUR_MS = 3_600_000
const TICK_MS = 10_000
const POLICIES: readonly (readonly [name: string, make: (options: CacheOptions) => CachePolicy])[] = [
  ['hot set', (options) => new HotSetPolicy(options)],
  ['LRU', (options) => new LruPolicy(options)],
  ['LFU', (options) => new LfuPolicy(options)],
]

export const simHotSet: Benchmark = {
  name: 'sim-hot-set',
  needs: [],
  figures: [{ key: 'sim-hot-set-share', what: 'simulated: calls answered at POPs of default memory, against the bound of a clairvoyant', bar: atLeast(0.9, 'x') }],
  run(context) {
    const world = context.quick ? QUICK : FULL
    const traffic = new Traffic({ ...world, seed: SEED })
    const sizesMib = context.quick ? [DEFAULT_MIB] : SIZES_MIB
    // Two POPs of each region stand for all: POPs do not influence each other here.
    const pops = Array.from({ length: world.regions * 2 }, (_, index) => Math.floor(((index + 0.5) * world.pops) / (world.regions * 2)))
    const totals = { calls: 0, hits: POLICIES.map(() => sizesMib.map(() => 0)), bound: sizesMib.map(() => 0) }
    for (const pop of pops) {
      context.progress(`POP ${pop} of ${world.pops}`)
      replay(traffic, pop, sizesMib, context.quick ? HOUR_MS / 60 : HOUR_MS, totals)
    }
    const share = (hits: number): number => hits / totals.calls
    if (!context.quick) {
      context.plot('hot-set', toSvg({
        title: 'Calls answered at the POP, by memory for images',
        note: `Synthetic traffic, ${shapeText(world)}; ${pops.length} POPs, one hour, ${totals.calls} calls`,
        x: { label: 'memory for images at a POP, MiB', scale: 'log', ticks: SIZES_MIB },
        y: { label: 'share of calls answered at the POP', scale: 'linear', ticks: [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1] },
        series: [
          ...POLICIES.map(([name], policy) => ({ name, points: sizesMib.map((mib, size) => [mib, share(at(at(totals.hits, policy), size))] as const) })),
          { name: 'clairvoyant, at most', style: 'dashes', points: sizesMib.map((mib, size) => [mib, share(at(totals.bound, size))] as const) },
        ],
      }))
    }
    return Promise.resolve([measurement(context, sizesMib, totals)])
  },
}

interface Totals {
  calls: number
  readonly hits: number[][]
  readonly bound: number[]
}

function replay(traffic: Traffic, pop: number, sizesMib: readonly number[], durationMs: number, totals: Totals): void {
  const bytesOf = (index: number): number => traffic.bytes[index] ?? 0
  const caches = POLICIES.map(([, make]) => sizesMib.map((mib) => make({ budgetBytes: mib * 2 ** 20, bytesOf })))
  const bound = new ClairvoyantBound(bytesOf)
  const arrivals = traffic.pop(pop)
  for (let untilMs = TICK_MS; untilMs <= durationMs; untilMs += TICK_MS) {
    arrivals.advance(untilMs, (atMs, index) => {
      totals.calls++
      bound.arrive(atMs, index)
      caches.forEach((sizes, policy) => sizes.forEach((cache, size) => {
        if (cache.arrive(atMs, index)) at(totals.hits, policy)[size] = at(at(totals.hits, policy), size) + 1
      }))
    })
    for (const cache of caches.flat()) cache.tick(untilMs)
  }
  sizesMib.forEach((mib, size) => (totals.bound[size] = at(totals.bound, size) + bound.hits(mib * 2 ** 20)))
}

function measurement(context: BenchmarkContext, sizesMib: readonly number[], totals: Totals): Measurement {
  const size = sizesMib.indexOf(DEFAULT_MIB)
  const [hotSet, lru, lfu] = totals.hits.map((hits) => at(hits, size) / totals.calls)
  const bound = at(totals.bound, size)
  const least = context.quick ? {} : Object.fromEntries(sizesMib.map((mib, index) => [`at${mib}Mib`, at(at(totals.hits, 0), index) / at(totals.bound, index)]))
  return {
    key: 'sim-hot-set-share', value: at(at(totals.hits, 0), size) / bound, rounds: [],
    detail: { calls: totals.calls, hotSetShare: hotSet ?? 0, lruShare: lru ?? 0, lfuShare: lfu ?? 0, clairvoyantShare: bound / totals.calls, ...least },
    note: 'synthetic traffic',
  }
}
