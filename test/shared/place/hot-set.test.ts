import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { HotSet, type HotEntry, type HotSetOptions } from '../../../shared/place/hot-set.ts'
import { seededRandom } from '../../../shared/random.ts'

const MINUTE_MS = 60_000

interface Made {
  readonly clock: ManualClock
  readonly hot: HotSet & { entry: (key: string) => HotEntry }
  readonly arrive: (key: string, times: number) => HotEntry
}

function make(options: Partial<HotSetOptions> = {}): Made {
  const clock = new ManualClock()
  const set = new HotSet({ clock, budgetBytes: 1000, ...options })
  const entries = new Map<string, HotEntry>()
  const hot = Object.assign(set, {
    entry(key: string): HotEntry {
      const entry = entries.get(key) ?? set.newEntry(key)
      entries.set(key, entry)
      return entry
    },
  })
  const arrive = (key: string, times: number): HotEntry => {
    const entry = hot.entry(key)
    for (let time = 0; time < times; time++) hot.arrived(entry)
    return entry
  }
  return { clock, hot, arrive }
}

t.test('three arrivals within five minutes earn a place, two or slower ones do not', async (t) => {
  const { clock, hot, arrive } = make()
  const entry = arrive('a', 2)
  t.same(hot.admit(entry, 100), { kind: 'refused', why: 'early' })
  t.ok(hot.arrived(entry))
  t.same(hot.admit(entry, 100), { kind: 'admitted', evicted: [] })
  const slow = hot.entry('slow')
  for (let time = 0; time < 10; time++) {
    clock.advance(3 * MINUTE_MS)
    t.notOk(hot.arrived(slow))
  }
})

t.test('one arrival is enough where it is configured so', async (t) => {
  const { hot } = make({ admitCount: 1 })
  const entry = hot.entry('a')
  t.ok(hot.arrived(entry))
  t.equal(hot.admit(entry, 100).kind, 'admitted')
  t.notOk(hot.arrived(entry), 'a member asks for nothing')
})

t.test('a member leaves after an hour without arrivals, and may come back', async (t) => {
  const { clock, hot, arrive } = make()
  const entry = arrive('a', 3)
  hot.admit(entry, 100)
  clock.advance(20 * MINUTE_MS)
  t.same(hot.sweep(), [])
  clock.advance(40 * MINUTE_MS)
  t.same(hot.sweep(), [entry])
  t.equal(hot.usedBytes, 0)
  t.notOk(entry.member)
  t.notOk(hot.arrived(entry))
  hot.arrived(entry)
  t.ok(hot.arrived(entry))
})

t.test('the rate halves every half-life', async (t) => {
  const { clock, hot, arrive } = make()
  const entry = arrive('a', 8)
  clock.advance(10 * MINUTE_MS)
  t.equal(Math.round(hot.rateOf(entry) * 1000), 4000)
  clock.advance(20 * MINUTE_MS)
  t.equal(Math.round(hot.rateOf(entry) * 1000), 1000)
})

t.test('the lowest score per byte leaves first, and no more leave than needed', async (t) => {
  const { hot, arrive } = make()
  const large = arrive('large', 10)
  const small = arrive('small', 10)
  const busy = arrive('busy', 50)
  hot.admit(large, 600)
  hot.admit(small, 200)
  hot.admit(busy, 200)
  const asking = arrive('asking', 40)
  t.same(hot.admit(asking, 300), { kind: 'admitted', evicted: [large] })
  t.equal(hot.usedBytes, 700)
})

t.test('near equals do not displace each other', async (t) => {
  const { hot, arrive } = make()
  hot.admit(arrive('a', 100), 1000)
  t.same(hot.admit(arrive('b', 119), 1000), { kind: 'refused', why: 'outscored' })
  t.equal(hot.admit(arrive('c', 121), 1000).kind, 'admitted')
  t.notOk(hot.entry('a').member)
})

t.test('a weight makes up for bytes', async (t) => {
  const { hot, arrive } = make()
  hot.admit(arrive('a', 10), 1000)
  const entry = arrive('b', 10)
  t.equal(hot.admit(entry, 1000).kind, 'refused')
  entry.weight = 2
  t.equal(hot.admit(entry, 1000).kind, 'admitted')
})

t.test('what is larger than the budget never gets in, and a member that outgrows it leaves', async (t) => {
  const { hot, arrive } = make()
  const entry = arrive('a', 10)
  t.same(hot.admit(entry, 1001), { kind: 'refused', why: 'budget' })
  hot.admit(entry, 500)
  t.equal(hot.admit(entry, 700).kind, 'admitted')
  t.equal(hot.usedBytes, 700)
  t.same(hot.admit(entry, 2000), { kind: 'refused', why: 'budget' })
  t.notOk(entry.member)
  t.equal(hot.usedBytes, 0)
})

t.test('whatever happens, the bytes of members add up and stay within the budget', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed)
    const { clock, hot } = make({ admitCount: 2 })
    for (let step = 0; step < 2000; step++) {
      const entry = hot.entry(`f${random.below(30)}`)
      switch (random.below(6)) {
        case 0:
          hot.admit(entry, 1 + random.below(500))
          break
        case 1:
          clock.advance(random.below(10 * MINUTE_MS))
          break
        case 2:
          hot.sweep()
          break
        default:
          hot.arrived(entry)
      }
      const sum = hot.members().reduce((total, { bytes }) => total + bytes, 0)
      if (sum !== hot.usedBytes || sum > 1000) t.fail(`seed ${seed} step ${step}: ${sum} of ${hot.usedBytes}`)
    }
  }
})

t.test('what members share takes its part of the budget; a member that shrinks keeps its place', async (t) => {
  let sharedBytes = 0
  const { hot, arrive } = make({ sharedBytes: () => sharedBytes })
  const [a, b] = [arrive('a', 3), arrive('b', 30)]
  t.equal(hot.admit(a, 400).kind, 'admitted')
  sharedBytes = 500
  t.same(hot.admit(b, 200), { kind: 'admitted', evicted: [a] }, '100 bytes were left')
  t.equal(hot.admit(a, 400).kind, 'refused')
  sharedBytes = 5_000
  t.equal(hot.admit(b, 100).kind, 'admitted')
  t.equal(hot.usedBytes, 100)
})
