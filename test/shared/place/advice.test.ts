import t from 'tap'
import { adviseHotSet, areaDemand, DEFAULT_ADVICE_POLICY, type PopActivity } from '../../../shared/place/advice.ts'

function pop(rates: Record<string, number>, held = Object.keys(rates), area = 'berlin'): PopActivity {
  return { area, rates: new Map(Object.entries(rates)), held: new Set(held) }
}

const demand = (...pops: PopActivity[]): string[] => areaDemand('berlin', pops, DEFAULT_ADVICE_POLICY).map(({ key }) => key)

t.test('no demand: too seldom, not held, or elsewhere', async (t) => {
  t.same(demand(), [])
  t.same(demand(pop({ f: 5.9 }), pop({ g: 100 }, []), pop({ h: 100 }, ['h'], 'tokyo')), [])
})

t.test('at how many POPs goes before how often', async (t) => {
  t.same(demand(pop({ busy: 1_000, both: 10, rare: 6 }), pop({ both: 10, also: 50 })), ['both', 'busy', 'also', 'rare'])
  t.equal(areaDemand('berlin', [pop(Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`f${index}`, 10])))], DEFAULT_ADVICE_POLICY).length, 256)
})

t.test('a POP is told of what it does not hold and may, so much at once', async (t) => {
  const asking = pop({ a: 10 })
  const former = pop({ z: 10 }, [])
  const other = pop({ a: 10, b: 10, c: 10, d: 10, e: 10 })
  const all = areaDemand('berlin', [asking, other], DEFAULT_ADVICE_POLICY)
  t.same(adviseHotSet(asking, all, (key) => key !== 'c', 2), ['b', 'd'])
  t.same(adviseHotSet(other, all, () => true, 2), [])
  t.same(adviseHotSet(former, [{ key: 'z', onlyAt: former }, { key: 'y', onlyAt: null }], () => true, 2), ['y'], 'its own demand alone is no advice')
})
