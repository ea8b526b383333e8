/** The rules of limits one by one, over several managers and frontends; histories of faults are in test/sim/limits.test.ts. */
import t from 'tap'
import { managersOf } from '../../../shared/place/slot-line.ts'
import { ACCOUNT, Cluster } from '../../sim/limit-cluster.ts'

const EIGHT = { maximum: 8, reserved: new Map<string, number>() }

function burst(cluster: Cluster, calls: number, runMs: number): { ran: number; refused: number } {
  const verdicts = { ran: 0, refused: 0 }
  for (let index = 0; index < calls; index++) cluster.frontends[index % cluster.frontends.length]?.call(runMs, (verdict) => verdicts[verdict]++)
  return verdicts
}

t.test('20 calls of 5 s over 4 frontends: 8 run, 12 are refused, the limit goes 2, 4, 6, 8 over neighbours on the ring', async (t) => {
  const cluster = new Cluster({ managers: 6, frontends: 4, limits: EIGHT, shareSlots: 2 })
  const verdicts = burst(cluster, 20, 5_000)
  cluster.run(4_000)
  t.equal(cluster.running, 8)
  t.same(verdicts, { ran: 0, refused: 12 })
  cluster.run(3_000)
  t.same(verdicts, { ran: 8, refused: 12 })
  t.equal(cluster.peak, 8)
  const sizes = cluster.events.flatMap((event) => (event.kind === 'raise' ? [event.size * 2] : []))
  t.same([...new Set(sizes)], [4, 6, 8], 'from 2 on, one share at a time')
  const ids = cluster.managers.map(({ id }) => id)
  const ring = managersOf(ids, ACCOUNT, 0)
  t.same(cluster.managers.filter(({ used }) => used.size > 0).map(({ id }) => id).sort(), [...ring.slice(0, 4)].sort(), 'four managers in a row from the account on')
  for (const share of [0, 1, 2, 3]) t.equal(managersOf(ids, ACCOUNT, share)[0], ring[share])
  cluster.run(240_000)
  for (const { id, sets } of cluster.frontends) t.equal(sets.size(ACCOUNT, null), 1, `${id} is back at one share`)
  const lowered = cluster.events.flatMap((event) => (event.kind === 'lower' ? [event.size * 2] : []))
  t.same([...new Set(lowered)], [6, 4, 2], 'one share at a time')
  t.equal(cluster.violation, null)
})

t.test('20 frontends and a maximum of 8: exactly 8, although each was used before and may hold idle slots', async (t) => {
  const cluster = new Cluster({ managers: 3, frontends: 20, limits: EIGHT, shareSlots: 2 })
  for (const frontend of cluster.frontends) {
    frontend.call(10, () => undefined)
    cluster.run(700)
  }
  const verdicts = burst(cluster, 60, 5_000)
  cluster.run(4_900)
  t.equal(cluster.running, 8, 'what others held idle was called back')
  t.equal(verdicts.refused, 52)
  // All of it may be had by one.
  cluster.run(30_000)
  for (let index = 0; index < 10; index++) cluster.frontends[7]?.call(5_000, () => undefined)
  cluster.run(3_000)
  t.equal(cluster.running, 8)
  t.equal(cluster.violation, null)
})

t.test('a frontend that hears nothing of the others stays within the maximum, and sees the limit soon after', async (t) => {
  const cluster = new Cluster({ managers: 4, frontends: 4, limits: EIGHT, shareSlots: 2 })
  for (const id of ['f0', 'f1', 'f2']) {
    cluster.cuts.add(`${id}>f3`)
    cluster.cuts.add(`f3>${id}`)
  }
  burst(cluster, 20, 5_000)
  cluster.run(4_000)
  t.equal(cluster.running, 8)
  const sizes = (): number[] => cluster.frontends.map(({ sets }) => sets.size(ACCOUNT, null))
  cluster.run(3_000)
  cluster.frontends[0]?.sets.heard({ account: ACCOUNT, pool: null, size: 3, version: 50, origin: 'f0' }, cluster.clock.monotonicMs() + 60_001)
  t.notSame(new Set(sizes()).size, 1, 'views differ')
  cluster.cuts.clear()
  cluster.frontends[0]?.sets.heard({ account: ACCOUNT, pool: null, size: 4, version: 51, origin: 'f0' }, cluster.clock.monotonicMs())
  cluster.run(10_100)
  t.same(sizes(), [4, 4, 4, 4], 'within two periods of gossip')
  t.equal(cluster.violation, null)
})

t.test('a manager that dies in the middle is replaced: its share is counted by the next one, and nothing grows', async (t) => {
  const cluster = new Cluster({ managers: 6, frontends: 4, limits: EIGHT, shareSlots: 2 })
  const ring = managersOf(cluster.managers.map(({ id }) => id), ACCOUNT, 0)
  burst(cluster, 4, 20_000)
  cluster.run(2_000)
  const before = cluster.frontends.map(({ sets }) => sets.size(ACCOUNT, null))
  t.ok(cluster.running === 4)
  cluster.managers.find(({ id }) => id === ring[1])?.kill()
  cluster.run(10_000)
  t.equal(cluster.running, 4, 'runs go on: their leases were taken over')
  t.same(cluster.frontends.map(({ sets }) => sets.size(ACCOUNT, null)), before)
  t.ok(cluster.events.some((event) => event.kind === 'replace' && event.manager === ring[1]), 'said so')
  t.ok(cluster.managers.find(({ id }) => id === ring[2])?.used.has(1), 'the next manager counts its share')
  burst(cluster, 20, 5_000)
  cluster.run(3_000)
  t.equal(cluster.running, 8)
  t.equal(cluster.violation, null)
})

t.test('a reserved function has its part, no more than that, and others cannot take it', async (t) => {
  const limits = { maximum: 12, reserved: new Map([['cron', 3], ['off', 0]]) }
  const cluster = new Cluster({ managers: 3, frontends: 4, limits, shareSlots: 5 })
  const open = burst(cluster, 30, 8_000)
  cluster.run(4_000)
  t.equal(cluster.running, 9, 'the part of the reserved function stays free')
  t.equal(open.refused, 21)
  const verdicts = { ran: 0, refused: 0 }
  for (let index = 0; index < 8; index++) cluster.frontends[index % 4]?.call(3_000, (verdict) => verdicts[verdict]++, 'cron')
  cluster.frontends[0]?.call(3_000, (verdict) => verdicts[verdict]++, 'off')
  cluster.run(2_500)
  t.equal(cluster.running, 12)
  t.same(verdicts, { ran: 0, refused: 6 })
  t.equal(cluster.violation, null)
})
