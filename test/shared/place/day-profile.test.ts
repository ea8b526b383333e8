import t from 'tap'
import { DayProfile } from '../../../shared/place/day-profile.ts'

const HOUR_MS = 3_600_000
const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (24 * HOUR_MS))

/** Days of `atNoon` arrivals at noon and `otherwise` in every other hour. */
function profileOf(days: number, atNoon: number, otherwise: number): DayProfile {
  const profile = new DayProfile()
  for (let hour = 0; hour < days * 24; hour++) profile.record(START_MS + hour * HOUR_MS, hour % 24 === 12 ? atNoon : otherwise)
  return profile
}

const at = (hour: number): number => START_MS + 10 * 24 * HOUR_MS + hour * HOUR_MS

t.test('before a whole day was seen every hour is like the others', async (t) => {
  t.equal(new DayProfile().weightAt(START_MS), 1)
  const young = new DayProfile()
  for (let hour = 0; hour < 23; hour++) young.record(START_MS + hour * HOUR_MS, hour === 12 ? 1_000 : 0)
  t.equal(young.weightAt(at(12)), 1)
})

t.test('the hour that comes weighs as it did on days before, within bounds', async (t) => {
  const profile = profileOf(3, 1_000, 10)
  t.equal(profile.weightAt(at(12)), 2)
  t.equal(profile.weightAt(at(11.6)), 2, 'in half an hour it is noon')
  t.equal(profile.weightAt(at(12.6)), 0.5)
  const even = profileOf(3, 50, 50).weightAt(at(12))
  t.ok(even > 0.8 && even < 1.25)
  t.ok(profileOf(3, 1, 0).weightAt(at(12)) < 1.2, 'one call makes no hour')
})

t.test('habits change within days, and long silence forgets them', async (t) => {
  const profile = profileOf(3, 1_000, 10)
  for (let hour = 72; hour < 216; hour++) profile.record(START_MS + hour * HOUR_MS, hour % 24 === 3 ? 1_000 : 10)
  t.ok(profile.weightAt(at(3)) === 2 && profile.weightAt(at(12)) < 1)
  for (let day = 10; day < 30; day++) profile.record(START_MS + day * 24 * HOUR_MS, 0)
  t.ok(Math.abs(profile.weightAt(at(3)) - 1) < 0.1)
})
