import t from 'tap'
import { alternate, median, percentile, ratios, slope } from '../../bench/harness/stats.ts'

void t.test('the median of an even number of values lies between the middle two', (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 3, 2]), 2.5)
  t.throws(() => median([]))
  t.end()
})

void t.test('a percentile is a value that occurred, by nearest rank', (t) => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1)
  t.equal(percentile(hundred, 50), 50)
  t.equal(percentile(hundred, 99), 99)
  t.equal(percentile(hundred, 100), 100)
  t.equal(percentile([7], 1), 7)
  t.throws(() => percentile(hundred, 0))
  t.end()
})

void t.test('ratios are formed within a round', (t) => {
  t.same(ratios([2, 9], [1, 3]), [2, 3])
  t.throws(() => ratios([1], []))
  t.end()
})

void t.test('a slope is that of the line through the points', (t) => {
  t.equal(slope([[10, 105], [20, 205], [30, 305]]), 10)
  t.throws(() => slope([[1, 1], [1, 2]]))
  t.end()
})

void t.test('every second round runs in reverse order', async (t) => {
  const order: string[] = []
  const results = await alternate(['a', 'b', 'c'] as const, 3, (peer, round) => {
    order.push(`${peer}${round}`)
    return round
  })
  t.same(order, ['a0', 'b0', 'c0', 'c1', 'b1', 'a1', 'a2', 'b2', 'c2'])
  t.same(results, { a: [0, 1, 2], b: [0, 1, 2], c: [0, 1, 2] })
})
