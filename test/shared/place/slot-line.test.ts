import t from 'tap'
import { managersOf, poolOf, quotaOf, sharesOf, unreserved, type AccountLimits } from '../../../shared/place/slot-line.ts'
import { seededRandom } from '../../../shared/random.ts'

const limits = (maximum: number, reserved: Record<string, number> = {}): AccountLimits => ({ maximum, reserved: new Map(Object.entries(reserved)) })
const SIZE = 4

/** Slots of a pool over all shares. */
function total(of: AccountLimits, pool: string | null): number {
  return sharesOf(of, SIZE, pool).reduce((sum, share) => sum + quotaOf(of, SIZE, share).of(pool), 0)
}

t.test('an account of nothing, a function with nothing and one that is unknown have no share', async (t) => {
  t.same(sharesOf(limits(0), SIZE, null), [])
  t.same(sharesOf(limits(10, { off: 0 }), SIZE, 'off'), [])
  t.same(sharesOf(limits(10), SIZE, 'unknown'), [])
  t.equal(quotaOf(limits(10), SIZE, 99).slots, 0)
  t.same(managersOf([], 'a', 0), [])
})

t.test('shares add up to the maximum, pools to what was reserved, whatever was reserved', async (t) => {
  const random = seededRandom(7)
  for (let round = 0; round < 300; round++) {
    const maximum = random.below(60)
    const reserved: Record<string, number> = {}
    let left = maximum
    for (let index = 0; index < random.below(5); index++) {
      const slots = random.below(left + 1)
      reserved[`f${index}`] = slots
      left -= slots
    }
    const of = limits(maximum, reserved)
    let slots = 0
    for (let share = 0; share < 20; share++) {
      const quota = quotaOf(of, SIZE, share)
      const pools = [null, ...Object.keys(reserved)].reduce((sum, pool) => sum + quota.of(pool), 0)
      if (pools !== quota.slots) t.fail(`round ${round}: share ${share} has ${quota.slots} slots and ${pools} in its pools`)
      slots += quota.slots
    }
    if (slots !== maximum) t.fail(`round ${round}: ${slots} slots of ${maximum}`)
    if (total(of, null) !== unreserved(of)) t.fail(`round ${round}: open slots`)
    for (const [name, wanted] of Object.entries(reserved)) if (total(of, name) !== wanted) t.fail(`round ${round}: ${name}`)
  }
  t.pass('300 accounts')
})

t.test('no share shrinks when the maximum grows', async (t) => {
  for (let maximum = 0; maximum < 40; maximum++) {
    for (let share = 0; share < 12; share++) {
      if (quotaOf(limits(maximum), SIZE, share).slots > quotaOf(limits(maximum + 1), SIZE, share).slots) t.fail(`share ${share} of ${maximum}`)
    }
  }
  t.pass('compared')
})

t.test('a reservation that comes later leaves the others where they are', async (t) => {
  const before = limits(40, { a: 6, b: 7 })
  const after = limits(40, { a: 6, b: 7, c: 9 })
  for (const pool of ['a', 'b']) for (let share = 0; share < 10; share++) t.equal(quotaOf(after, SIZE, share).of(pool), quotaOf(before, SIZE, share).of(pool))
})

t.test('what is reserved beyond a lowered maximum has no slots, and nobody has more than there are', async (t) => {
  const of = limits(5, { a: 4, b: 4, c: 4 })
  t.equal(unreserved(of), 0)
  t.same(['a', 'b', 'c', null].map((pool) => total(of, pool)), [4, 1, 0, 0])
})

t.test('a function is in its own pool if it has one', async (t) => {
  t.equal(poolOf(limits(5, { a: 0 }), 'a'), 'a')
  t.equal(poolOf(limits(5, { a: 1 }), 'b'), null)
})

t.test('managers of neighbouring shares are neighbours, and one that goes leaves the others in place', async (t) => {
  const ids = ['m0', 'm1', 'm2', 'm3', 'm4']
  const ring = managersOf(ids, 'acme', 0)
  t.same([...ring].sort(), ids)
  for (let share = 0; share < 12; share++) t.equal(managersOf(ids, 'acme', share)[0], ring[share % 5])
  t.same(managersOf([...ids].reverse(), 'acme', 0), ring, 'in whatever order they are told')
  const gone = ring[1]
  t.same(managersOf(ids.filter((id) => id !== gone), 'acme', 0), ring.filter((id) => id !== gone))
  t.equal(new Set(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'].map((account) => managersOf(ids, account, 0)[0])).size > 1, true, 'accounts begin at different managers')
})
