import t from 'tap'
import fc from 'fast-check'
import { ClairvoyantBound, HotSetPolicy, LfuPolicy, LruPolicy, PULL_MS, type CacheOptions, type CachePolicy } from '../../../bench/sim/policies.ts'

const SEED = Number(process.env['OUTPOST_TEST_SEED'] ?? 20_260_101)
const MAKE: Readonly<Record<string, (options: CacheOptions) => CachePolicy>> = { 'hot set': (options) => new HotSetPolicy(options), LRU: (options) => new LruPolicy(options), LFU: (options) => new LfuPolicy(options) }

/** Calls of a few functions with sizes, and a memory. */
const cases = fc.record({
  sizes: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 }),
  calls: fc.array(fc.record({ gapMs: fc.integer({ min: 0, max: 2_000 }), pick: fc.nat(100) }), { maxLength: 40 }),
  budget: fc.integer({ min: 1, max: 12 }),
})

t.test('no policy, and not even the best schedule, answers more than the clairvoyant bound', async (t) => {
  fc.assert(fc.property(cases, ({ sizes, calls, budget }) => {
    const bytesOf = (index: number): number => sizes[index] ?? 1
    const bound = new ClairvoyantBound(bytesOf)
    const policies = Object.values(MAKE).map((make) => make({ budgetBytes: budget, bytesOf }))
    const hits = policies.map(() => 0)
    let atMs = 1
    const trace = calls.map(({ gapMs, pick }) => ({ atMs: (atMs += gapMs), index: pick % sizes.length }))
    for (const call of trace) {
      bound.arrive(call.atMs, call.index)
      policies.forEach((policy, at) => {
        if (policy.arrive(call.atMs, call.index)) hits[at] = (hits[at] ?? 0) + 1
      })
    }
    const most = bound.hits(budget)
    return hits.every((count) => count <= most) && bestSchedule(trace, bytesOf, budget) <= most
  }), { seed: SEED, numRuns: 300 })
  t.pass('bounded')
})

for (const [name, make] of Object.entries(MAKE)) {
  t.test(`${name}: what is called all the time is answered here once its image has come`, async (t) => {
    const policy = make({ budgetBytes: 10, bytesOf: () => 4 })
    for (let atMs = 0; atMs < 3 * PULL_MS; atMs += PULL_MS / 10) policy.arrive(atMs, 1)
    t.ok(policy.arrive(3 * PULL_MS, 1))
  })

  t.test(`${name}: an image larger than the memory is never here`, async (t) => {
    const policy = make({ budgetBytes: 3, bytesOf: () => 4 })
    t.notOk(Array.from({ length: 600 }, (_, call) => policy.arrive(call * 100, 1)).includes(true))
  })
}

/** By trying every set of waits to keep an image through: exact, for a dozen calls. */
function bestSchedule(trace: readonly { readonly atMs: number; readonly index: number }[], bytesOf: (index: number) => number, budget: number): number {
  const waits = trace.slice(0, 12).flatMap(({ atMs, index }, at, calls) => {
    const next = calls.slice(at + 1).find((later) => later.index === index)
    return next === undefined ? [] : [{ fromMs: atMs, toMs: next.atMs, bytes: bytesOf(index) }]
  })
  let best = 0
  for (let chosen = 0; chosen < 1 << waits.length; chosen++) {
    const kept = waits.filter((_, at) => (chosen & (1 << at)) !== 0)
    const fits = kept.every(({ fromMs }) => kept.reduce((sum, wait) => sum + (wait.fromMs <= fromMs && fromMs < wait.toMs ? wait.bytes : 0), 0) <= budget)
    if (fits) best = Math.max(best, kept.length)
  }
  return best
}
