import t from 'tap'
import { ReservationFleet } from './reservation-fleet.ts'
import { firstFailure, runSeeds } from './seeds.ts'

t.setTimeout(3_600_000)

t.test('a reserved sandbox is used once, every search ends in time, and nothing stays reserved', async (t) => {
  t.ok(runSeeds((seed) => new ReservationFleet(seed), 30, 10_000) >= 1)
})

t.test('rules broken on purpose are found', async (t) => {
  t.ok(firstFailure((seed) => new ReservationFleet(seed, { claimsTwice: true }), /used by two requests/, 20))
  t.ok(firstFailure((seed) => new ReservationFleet(seed, { neverExpires: true }), /and \d+ reserved/, 20))
})
