import t from 'tap'
import { LEASE_GRACE_MS, LESSEES_PER_SHARE_MAX, NEW_LEASE_MS, RECALL_MS } from '../../../shared/limits.ts'
import { ShareLedger, type LeaseAnswer, type LeaseQuestion } from '../../../shared/place/share-ledger.ts'
import type { ShareQuota } from '../../../shared/place/slot-line.ts'

const LEASE_MS = 60_000
const quota = (slots: number, pools: Record<string, number> = {}): ShareQuota => ({ slots, of: (pool) => (pool === null ? slots - Object.values(pools).reduce((sum, of) => sum + of, 0) : (pools[pool] ?? 0)) })
const question = (lessee: string, number: number, changes: Partial<LeaseQuestion> = {}): LeaseQuestion => ({ lessee, life: 1, pool: null, number, held: 0, inUse: 0, need: 0, spare: 0, leaseMs: LEASE_MS, ...changes })

/** The answer; a stale question fails the test. */
function ask(ledger: ShareLedger, of: ShareQuota, asked: LeaseQuestion, nowMs = 0): LeaseAnswer {
  const { answer } = ledger.ask(asked, of, nowMs)
  if (answer === null) throw new Error('the question was stale')
  return answer
}

t.test('a question that comes twice or late changes nothing and is not answered', async (t) => {
  const ledger = new ShareLedger([], 0)
  t.equal(ask(ledger, quota(8), question('a', 5, { need: 3 })).slots, 3)
  t.equal(ledger.ask(question('a', 5, { need: 3 }), quota(8), 0).answer, null)
  t.equal(ledger.ask(question('a', 4, { need: 3, held: 0 }), quota(8), 0).answer, null)
  t.equal(ledger.leased, 3)
})

t.test('what is claimed without having been granted is not had', async (t) => {
  const ledger = new ShareLedger([], 0)
  t.equal(ask(ledger, quota(8), question('a', 1, { held: 8, inUse: 8 })).slots, 0)
  ask(ledger, quota(8), question('a', 2, { need: 2 }))
  t.equal(ask(ledger, quota(8), question('a', 3, { held: 7 })).slots, 2)
})

t.test('an earlier life is over once a later one has asked, and its late questions are stale', async (t) => {
  const ledger = new ShareLedger([], 0)
  ask(ledger, quota(4), question('a', 9, { need: 4 }))
  t.equal(ask(ledger, quota(4), question('a', 1, { life: 2, need: 3 })).slots, 3, 'what the earlier one held is free')
  t.equal(ledger.ask(question('a', 10, { held: 4 }), quota(4), 0).answer, null)
  t.equal(ledger.leased, 3)
  t.equal(ledger.begin('a', 3), 3)
  t.equal(ledger.leased, 0)
})

t.test('never more than the share, nor more of a pool than its part, over any questions', async (t) => {
  const ledger = new ShareLedger([], 0)
  const of = quota(10, { f: 3 })
  for (let index = 0; index < 6; index++) ask(ledger, of, question(`o${index}`, 1, { need: 2, spare: 9 }))
  for (let index = 0; index < 6; index++) ask(ledger, of, question(`f${index}`, 1, { pool: 'f', need: 2, spare: 9 }))
  t.equal(ledger.load(null).leased, 7)
  t.equal(ledger.load('f').leased, 3)
})

t.test('when the limits were lowered nothing is granted until enough came back, and idle slots are asked for', async (t) => {
  const ledger = new ShareLedger([], 0)
  ask(ledger, quota(8), question('a', 1, { need: 4, spare: 2 }))
  t.equal(ledger.leased, 6)
  t.equal(ask(ledger, quota(3), question('a', 2, { held: 6, inUse: 4, need: 1 })).slots, 6)
  t.equal(ask(ledger, quota(3), question('a', 3, { held: 6, inUse: 4 })).give, 3, 'also of those in use, as soon as they are free')
  t.equal(ask(ledger, quota(3), question('b', 1, { need: 1 })).slots, 0)
  t.equal(ask(ledger, quota(3), question('a', 4, { held: 2, inUse: 2 })).slots, 2)
  t.equal(ask(ledger, quota(3), question('b', 2, { need: 1 })).slots, 1)
  // A pool that has become smaller in a share that is not full.
  const fenced = new ShareLedger([], 0)
  ask(fenced, quota(8), question('a', 1, { need: 8 }))
  t.equal(ask(fenced, quota(8, { f: 6 }), question('f', 1, { pool: 'f', need: 2 })).slots, 0, 'the sum counts: what is open is still out')
  ask(fenced, quota(8, { f: 6 }), question('a', 2, { held: 5, inUse: 5 }))
  t.equal(ask(fenced, quota(8, { f: 6 }), question('f', 2, { pool: 'f', need: 6 })).slots, 3)
  t.equal(ask(fenced, quota(8, { f: 6 }), question('b', 1, { need: 1 })).slots, 0)
})

t.test('a lease ends after its time and the grace, and a first one after a short time unless it is confirmed', async (t) => {
  const ledger = new ShareLedger([], 0)
  const first = ask(ledger, quota(4), question('a', 1, { need: 4 }))
  t.equal(first.validMs, NEW_LEASE_MS)
  t.equal(ledger.expire(NEW_LEASE_MS + LEASE_GRACE_MS - 1), 0)
  t.equal(ask(ledger, quota(4), question('a', 2, { held: 4, inUse: 4 }), 1_000).validMs, LEASE_MS)
  t.equal(ledger.expire(1_000 + LEASE_MS + LEASE_GRACE_MS - 1), 0)
  t.equal(ledger.expire(1_000 + LEASE_MS + LEASE_GRACE_MS), 4)
  t.equal(ledger.leased, 0)
})

t.test('what grows has to be written first, with its number; what is renewed or given back has not', async (t) => {
  const ledger = new ShareLedger([], 0, { unrecorded: 'self' })
  t.equal(ledger.ask(question('a', 1, { need: 2 }), quota(8), 0).mustWrite, true)
  t.same(ledger.leases(), [{ lessee: 'a', life: 1, pool: null, number: 1, slots: 2, leaseMs: LEASE_MS }])
  t.equal(ledger.ask(question('a', 2, { held: 2, inUse: 1 }), quota(8), 0).mustWrite, false)
  t.equal(ledger.ask(question('a', 3, { held: 1, inUse: 1 }), quota(8), 0).mustWrite, false)
  t.equal(ledger.ask(question('a', 4, { held: 1, inUse: 1, need: 1 }), quota(8), 0).mustWrite, true, 'also up to what is written: the number must be')
  t.equal(ledger.ask(question('self', 1, { need: 2 }), quota(8), 0).mustWrite, false)
  t.equal(ledger.leases().length, 1)
})

t.test('a manager that takes over respects what was granted for a whole lease from then on', async (t) => {
  const before = new ShareLedger([], 0)
  ask(before, quota(4), question('a', 7, { need: 3 }))
  const after = new ShareLedger(before.leases(), 5_000)
  t.equal(ask(after, quota(4), question('b', 1, { need: 4 }), 5_000).slots, 1)
  t.equal(after.ask(question('a', 6, { held: 0 }), quota(4), 5_001).answer, null, 'a question from before the last growth')
  t.equal(after.expire(5_000 + LEASE_MS + LEASE_GRACE_MS - 1), 1, 'only the new one, which was not confirmed')
  t.equal(after.leased, 3)
})

t.test('idle slots are called back for as long as somebody needs them', async (t) => {
  const ledger = new ShareLedger([], 0)
  ask(ledger, quota(8), question('a', 1, { need: 6, spare: 2 }))
  ask(ledger, quota(8), question('a', 2, { held: 7, inUse: 1 }))
  const short = ask(ledger, quota(8), question('b', 1, { need: 3 }))
  t.equal(short.slots, 1)
  t.equal(short.recallable, 6)
  t.equal(ask(ledger, quota(8), question('a', 3, { held: 7, inUse: 1 }), 100).give, 6)
  t.equal(ask(ledger, quota(8), question('a', 4, { held: 1, inUse: 1 }), 200).give, 0)
  t.equal(ask(ledger, quota(8), question('b', 2, { held: 1, inUse: 1, need: 2 }), 300).slots, 3)
  t.equal(ask(ledger, quota(8), question('a', 5, { held: 1, inUse: 0 }), 300 + RECALL_MS).give, 0, 'nobody asks any more')
})

t.test('spare slots leave half of what is free to others, and are one at a time when little is left', async (t) => {
  const ledger = new ShareLedger([], 0)
  t.equal(ask(ledger, quota(100), question('a', 1, { spare: 90 })).slots, 50)
  t.equal(ask(ledger, quota(100), question('b', 1, { spare: 90 })).slots, 25)
  const last = ask(ledger, quota(100), question('c', 1, { spare: 90 }))
  t.equal(last.slots, 12)
  t.equal(last.scarce, true)
  t.equal(ask(ledger, quota(100), question('d', 1, { spare: 90 })).slots, 6)
  const few = new ShareLedger([], 0)
  ask(few, quota(8), question('a', 1, { need: 7 }))
  t.equal(ask(few, quota(8), question('b', 1, { spare: 5 })).slots, 1)
  t.equal(ask(few, quota(8), question('a', 2, { held: 7, inUse: 7, spare: 5 })).slots, 7)
})

t.test('the bound on lessees: another one gets nothing', async (t) => {
  const ledger = new ShareLedger([], 0)
  for (let index = 0; index < LESSEES_PER_SHARE_MAX; index++) ask(ledger, quota(100_000), question(`l${index}`, 1, { need: 1 }))
  t.equal(ask(ledger, quota(100_000), question('late', 1, { need: 1 })).slots, 0)
  t.equal(ledger.leased, LESSEES_PER_SHARE_MAX)
})
