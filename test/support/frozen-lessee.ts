/**
 * A process that leases slots, takes some and stops itself, as a host that is frozen. What it does in the turn in which it goes
 * on comes before any timer of it. Prints what it was allowed before and after, and how many runs it was told to stop.
 */
import { systemClock } from '../../shared/clock.ts'
import { SlotTable } from '../../shared/concurrency/slot-table.ts'

const LEASE_MS = Number(process.argv[2])
const HELD = 4

let stopped = 0
const table = new SlotTable({
  clock: systemClock,
  lease: { leaseMs: LEASE_MS, renewMs: LEASE_MS / 4, answerMs: LEASE_MS / 2, keepMs: 600_000 },
  lookMs: 50,
  // Whoever grants is a trip away.
  ask: (items, done) => void setTimeout(() => done(items.map(({ question: { number } }) => ({
    reservations: null, missing: 0, recallable: 0, elsewhere: false, answer: { number, parts: [{ share: 0, slots: HELD, validMs: LEASE_MS, give: 0, scarce: false, recallable: 0 }] },
  }))), 100),
  onOver: (over, count) => {
    stopped += count
    for (let run = 0; run < count; run++) over.leave()
  },
})
const pool = table.pool('account', 'function')
pool.expect()
await untilFree()
const before = [pool.enter(), pool.enter(), pool.enter()]
process.kill(process.pid, 'SIGSTOP')
const after = [pool.enter(), pool.enter()]
const { isOver } = pool
await untilFree()
process.stdout.write(JSON.stringify({ before, after, isOver, stopped, inUse: pool.lease.inUse }))
process.exit(0)

async function untilFree(): Promise<void> {
  while (!pool.lease.hasFree) await new Promise((resolve) => setTimeout(resolve, 10))
}
