/** Hot sets, residency and advice under faults, by seeds (see hot-sites.ts for what must hold); then the same with one rule broken on purpose. */
import t from 'tap'
import { HotSet, type Admission, type HotEntry } from '../../shared/place/hot-set.ts'
import { HotSites, SWAPS_MAX, type HotFault } from './hot-sites.ts'
import { firstSettledFailure, settleSeeds } from './seeds.ts'

t.setTimeout(3_600_000)

/** S1: who is refused is let in all the same. */
class OverfullHotSet extends HotSet {
  override admit(entry: HotEntry, bytes: number): Admission {
    const verdict = super.admit(entry, bytes)
    if (verdict.kind !== 'refused' || verdict.why !== 'outscored' || super.admit(entry, 0).kind !== 'admitted') return verdict
    entry.bytes = bytes
    return { kind: 'admitted', evicted: [] }
  }
}

/** Advice takes a place whoever has it. */
class ObedientHotSet extends HotSet {
  override admitSpare(entry: HotEntry, bytes: number, forMs: number): 'admitted' | 'refused' {
    for (let lowest = this.lowest(() => true); lowest !== null && super.admitSpare(entry, bytes, forMs) === 'refused'; lowest = this.lowest(() => true)) this.evict(lowest)
    return super.admitSpare(entry, bytes, forMs)
  }
}

/** Nothing has to be earned. */
class OpenHotSet extends HotSet {
  override hasEarned(): boolean {
    return true
  }

  override arrived(entry: HotEntry): boolean {
    super.arrived(entry)
    for (let index = 0; index < 3; index++) entry.arrivalsAtMs[index] ??= entry.asOfMs
    return !entry.member
  }
}

const BROKEN: Readonly<Record<string, { readonly fault: HotFault; readonly found: RegExp }>> = {
  'more than the budget': { fault: { hotSet: (options) => new OverfullHotSet(options) }, found: /take \d+ bytes of/ },
  'a place that was not earned': { fault: { hotSet: (options) => new OpenHotSet(options) }, found: /has not earned it/ },
  'advice that takes the place of others': { fault: { hotSet: (options) => new ObedientHotSet(options) }, found: /advice of .* evicts/ },
  'a deletion that is not heeded': { fault: { ignoresDeletions: true }, found: /after it was deleted/ },
  'an image that stays though its function went while it was pulled': { fault: { keepsLatePulls: true }, found: /is kept at/ },
  'near equals that push each other out': { fault: { hotSet: (options) => new HotSet({ ...options, hysteresis: 0 }) }, found: /changed places/ },
  'a place is never given up for what is worth more': { fault: { hotSet: (options) => new HotSet({ ...options, hysteresis: 1e9 }) }, found: /what is worth most/ },
}

t.test(`within the budget, earned or advised into spare room, nothing deleted, advice evicts nobody, steady demand has its place, near equals change at most ${SWAPS_MAX} times an hour`, async (t) => {
  let advised = 0
  const ran = await settleSeeds((seed) => {
    const sites = new HotSites(seed)
    return { world: sites.world, run: async () => { await sites.run(); advised += sites.spares } }
  }, 20, 8_000)
  t.ok(ran >= 1)
  t.ok(advised > 0, 'advice was followed')
  t.comment(`${advised} places on advice`)
})

t.test('a seed repeats itself to the last event', async (t) => {
  const [first, second] = [new HotSites(3), new HotSites(3)]
  await first.run()
  await second.run()
  t.same(first.world.trace, second.world.trace)
  t.same(first.sites.map(({ changes }) => changes), second.sites.map(({ changes }) => changes))
})

if (process.env.OUTPOST_SIM_SEED === undefined) {
  for (const [rule, { fault, found }] of Object.entries(BROKEN)) {
    t.test(`it is found: ${rule}`, async (t) => {
      const failure = await firstSettledFailure((seed) => new HotSites(seed, fault), found, 10)
      t.ok(failure !== null)
      t.comment(`seed ${failure?.seed ?? 'none'}: ${failure?.message ?? ''}`)
    })
  }
}
