import t from 'tap'
import { Traffic } from '../../../bench/sim/traffic.ts'

const OPTIONS = { functions: 20_000, pops: 24, regions: 6, seed: 5 }
const HOUR_MS = 3_600_000

function arrivals(traffic: Traffic, pop: number, stepsMs: readonly number[]): (readonly [number, number])[] {
  const found: (readonly [number, number])[] = []
  const of = traffic.pop(pop)
  for (const untilMs of stepsMs) of.advance(untilMs, (atMs, index) => found.push([atMs, index]))
  return found
}

t.test('rates have the published shape: 45 % at most once an hour, 81 % at most once a minute, over eight orders of magnitude', async (t) => {
  const daily = [...new Traffic(OPTIONS).dailyCalls].sort((a, b) => a - b)
  const partBelow = (calls: number): number => daily.filter((value) => value <= calls).length / daily.length
  t.ok(Math.abs(partBelow(24) - 0.45) < 0.02, String(partBelow(24)))
  t.ok(Math.abs(partBelow(1_440) - 0.81) < 0.02, String(partBelow(1_440)))
  t.ok((daily.at(-1) ?? 0) / (daily[0] ?? Infinity) >= 1e7)
  const total = daily.reduce((sum, value) => sum + value, 0)
  const mostCalled = daily.slice(-Math.round(daily.length * 0.186)).reduce((sum, value) => sum + value, 0)
  t.ok(mostCalled / total > 0.99, `18.6 % of the functions have ${mostCalled / total} of the calls; published: 99.6 %`)
})

t.test('arrivals follow from the seed, however time is cut, in order of time', async (t) => {
  const whole = arrivals(new Traffic(OPTIONS), 3, [10_000])
  // As text: comparing thousands of pairs one by one takes tap minutes.
  t.equal(JSON.stringify(arrivals(new Traffic(OPTIONS), 3, [1, 2_000, 2_001, 10_000])), JSON.stringify(whole))
  t.not(JSON.stringify(arrivals(new Traffic({ ...OPTIONS, seed: 6 }), 3, [10_000])), JSON.stringify(whole))
  t.ok(whole.length > 100)
  t.ok(whole.every(([atMs], index) => atMs >= (whole[index - 1]?.[0] ?? 0) && atMs < 10_000))
})

t.test('a POP is called as often as its functions are', async (t) => {
  const traffic = new Traffic({ ...OPTIONS, functions: 1_000 })
  const hours = 24 // a whole day, as the rate follows the hour
  let count = 0
  traffic.pop(0).advance(hours * HOUR_MS, () => count++)
  const expected = traffic.meanPerS(0) * 3_600 * hours
  // Bursts of the few that are called most make the difference.
  t.ok(Math.abs(count / expected - 1) < 0.15, `${count} against ${expected}`)
})
