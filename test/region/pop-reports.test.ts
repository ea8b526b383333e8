import t from 'tap'
import type { BuildKey } from '../../shared/brand.ts'
import { ManualClock } from '../../shared/clock.ts'
import { POP_ACTIVITY_FUNCTIONS_MAX } from '../../shared/limits.ts'
import type { PopReport } from '../../shared/link/types.ts'
import { loadOf, PopReports } from '../../region/pop-reports.ts'

const HOST = { workers: 1, slots: 4, slotsUsed: 1, queued: 0, running: 1, parked: 0, residentBytes: 1, budgetBytes: 2, images: 1 }

function make(granted: (popId: string, name: string) => boolean = () => true): { readonly reports: PopReports; readonly clock: ManualClock } {
  const clock = new ManualClock()
  const reports = new PopReports({
    clock, seq: () => 42, load: () => 0.25, mayHold: (popId, _account, name) => granted(popId, name),
    versions: (_popId, functions) => functions.map(({ account, functionName }) => ({ account, functionName, seq: 7, builds: [`${functionName}@1` as BuildKey] })),
  })
  return { reports, clock }
}

/** `arrivals` by function, all of them local; everything is held unless told otherwise. */
function report(sequence: number, arrivals: Record<string, number>, change: Partial<PopReport> & { readonly holds?: readonly string[] } = {}): PopReport {
  const { holds = Object.keys(arrivals), ...rest } = change
  return {
    epoch: 'e1', area: 'berlin', sequence, part: 0, parts: 1, periodMs: 10_000, host: HOST,
    functions: Object.entries(arrivals).map(([functionName, count]) => ({ account: 'a', functionName, arrivals: count, local: count, forwarded: 0, failed: 0, cpuUs: count * 100, localUs: count * 200, forwardedUs: 0 })),
    held: holds.map((functionName) => ({ account: 'a', functionName, builds: [`${functionName}@1` as BuildKey] })),
    ...rest,
  }
}

t.test('a report that comes twice, or after its successor, is counted once; one that was lost is in the next', async (t) => {
  const { reports } = make()
  reports.take('paris', report(1, { f: 10 }))
  reports.take('paris', report(1, { f: 10 }))
  t.equal(reports.counts.arrivals, 10)
  reports.take('paris', report(3, { f: 35 }))
  reports.take('paris', report(2, { f: 20 }))
  t.equal(reports.counts.arrivals, 35)
  t.same([reports.counts.reports, reports.counts.replays], [2, 2])
})

t.test('each part once; another life of the POP, and a function that it had forgotten, begin anew', async (t) => {
  const { reports } = make()
  reports.take('paris', report(1, { f: 10 }, { parts: 2 }))
  reports.take('paris', report(1, { g: 5 }, { part: 1, parts: 2 }))
  reports.take('paris', report(1, { g: 5 }, { part: 1, parts: 2 }))
  t.equal(reports.counts.arrivals, 15)
  reports.take('paris', report(2, { f: 3 }))
  t.equal(reports.counts.arrivals, 18, 'fewer than before: counted from nothing')
  reports.take('paris', report(1, { f: 4 }, { epoch: 'e2' }))
  t.equal(reports.counts.arrivals, 22)
})

t.test('the answer says how far and how busy the region is, and what is current of what is held', async (t) => {
  const { reports } = make()
  t.same(reports.take('paris', report(1, { f: 1 })), { seq: 42, load: 0.25, versions: [{ account: 'a', functionName: 'f', seq: 7, builds: ['f@1'] }], pull: [] })
  t.same(loadOf({ ...HOST, queued: 1 }), 1)
  t.same(loadOf(HOST), 0.25)
  t.same(loadOf({ ...HOST, slots: 0, running: 32 }), 0.5)
})

t.test('a POP is advised to hold what others of its area are asked for, if it is granted, and not again at once', async (t) => {
  const { reports, clock } = make((popId, name) => popId !== 'rome' || name !== 'secret')
  reports.take('paris', report(1, { f: 100, secret: 50, rare: 1 }))
  reports.take('oslo', report(1, { f: 100 }, { area: 'north' }))
  t.same(reports.take('oslo', report(2, {}, { area: 'north' })).pull, [], 'another area')
  t.same(reports.take('rome', report(1, {})).pull, [{ account: 'a', functionName: 'f', cpuUs: 100 }])
  t.same(reports.take('rome', report(2, {})).pull, [])
  t.match(reports.take('bonn', report(1, { f: 1 })).pull, [{ functionName: 'secret' }])
  clock.advance(5_000)
  for (let sequence = 3; sequence < 40; sequence++) {
    clock.advance(10_000)
    reports.take('paris', report(sequence, { f: 100 * sequence, secret: 50 }))
    const { pull } = reports.take('rome', report(sequence, {}))
    t.equal(pull.length, sequence === 32 ? 1 : 0, `report ${sequence}`)
  }
  t.equal(reports.counts.advised, 3)
})

t.test('of a report in parts nothing is advised before all that is held is known', async (t) => {
  const { reports } = make()
  reports.take('paris', report(1, { f: 100 }))
  t.same(reports.take('rome', report(1, {}, { parts: 2 })).pull, [])
  t.same(reports.take('rome', report(1, {}, { part: 1, parts: 2, held: [{ account: 'a', functionName: 'f', builds: [] }] })).pull, [])
})

t.test('what nobody asks for any more is not advised, and a POP that is silent is forgotten', async (t) => {
  const { reports, clock } = make()
  reports.take('paris', report(1, { f: 100 }))
  for (let sequence = 2; sequence < 20; sequence++) {
    clock.advance(10_000)
    reports.take('paris', report(sequence, {}, { holds: ['f'] }))
  }
  t.same(reports.take('rome', report(1, {})).pull, [])
  t.equal(reports.popCount, 2)
  clock.advance(60_001)
  t.equal(reports.popCount, 0)
})

t.test('a POP with endless names costs no more than its bound', async (t) => {
  const { reports } = make()
  for (let round = 1; round <= 5; round++) {
    reports.take('paris', report(round, Object.fromEntries(Array.from({ length: POP_ACTIVITY_FUNCTIONS_MAX }, (_, index) => [`f${round}-${index}`, 1]))))
  }
  t.equal(reports.counts.arrivals, 5 * POP_ACTIVITY_FUNCTIONS_MAX)
  const { pull } = reports.take('rome', report(1, {}))
  t.equal(pull.length, 0, 'once a period is no demand')
})
