import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { HeldLease, SeenLease } from '../../../shared/coordination/lease.ts'
import { LEASE_MARGIN_MS, LEASE_TTL_MS } from '../../../shared/limits.ts'

t.test('a holder counts from before it sent the renewal', async (t) => {
  const clock = new ManualClock()
  const sentAtMs = clock.monotonicMs()
  clock.advance(1000)
  const lease = new HeldLease(clock, sentAtMs)
  t.equal(lease.remainingMs(), LEASE_TTL_MS - 1000)
  clock.advance(LEASE_TTL_MS - 1001)
  t.ok(lease.holds())
  clock.advance(1)
  t.notOk(lease.holds())
})

t.test('a renewal that is confirmed too late does not bring a lease back', async (t) => {
  const clock = new ManualClock()
  const lease = new HeldLease(clock, clock.monotonicMs())
  clock.advance(LEASE_TTL_MS - 1)
  const sentAtMs = clock.monotonicMs()
  clock.advance(1)
  lease.renewed(sentAtMs)
  t.notOk(lease.holds())
})

t.test('a renewal never shortens a lease, giving up ends it', async (t) => {
  const clock = new ManualClock()
  const lease = new HeldLease(clock, clock.monotonicMs())
  lease.renewed(clock.monotonicMs() - 500)
  t.equal(lease.remainingMs(), LEASE_TTL_MS)
  lease.giveUp()
  t.notOk(lease.holds())
  t.equal(lease.remainingMs(), 0)
})

t.test('whoever watches waits longer than the holder holds', async (t) => {
  const clock = new ManualClock()
  const held = new HeldLease(clock, clock.monotonicMs())
  const seen = new SeenLease(clock)
  clock.advance(LEASE_TTL_MS)
  t.notOk(held.holds())
  t.equal(seen.remainingMs(), LEASE_MARGIN_MS)
  clock.advance(LEASE_MARGIN_MS)
  t.equal(seen.remainingMs(), 0)
})

