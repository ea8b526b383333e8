import t from 'tap'
import fc from 'fast-check'
import { chooseFromPool, LOAD_SLACK } from '../../../shared/place/bounded-load.ts'
import { firstRing, Ring, ringKey } from '../../../shared/place/ring.ts'

const ring = new Ring(firstRing(Array.from({ length: 8 }, (_, index) => ({ id: `m${index}`, weight: 1 + (index % 3) })), { managersPerKey: 2 }))

t.test('nobody to choose from', async (t) => {
  t.equal(chooseFromPool(new Ring(firstRing([])), 'k', () => 0), null)
  t.equal(chooseFromPool(ring, 'k', () => 0, () => false), null)
})

t.test('the least loaded owner, the first of equals', async (t) => {
  const [first = '', second = ''] = ring.owners('k', 'pool')
  t.same(chooseFromPool(ring, 'k', () => 0), { member: first, owner: true })
  t.same(chooseFromPool(ring, 'k', (id) => (id === first ? 1 : 0)), { member: second, owner: true })
  t.same(chooseFromPool(ring, 'k', () => 0, (id) => id !== first), { member: second, owner: true })
})

t.test('one hot key cannot load any member beyond its share and the slack', async () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 400 }), fc.string(), (requests, name) => {
    const key = ringKey('a', name)
    const loads = new Map<string, number>()
    const loadOf = (id: string): number => loads.get(id) ?? 0
    for (let request = 0; request < requests; request++) {
      const choice = chooseFromPool(ring, key, loadOf)
      if (choice === null) return false
      loads.set(choice.member, loadOf(choice.member) + 1)
    }
    return ring.document.members.every(({ id, weight }) => loadOf(id) <= Math.ceil(((1 + LOAD_SLACK) * requests * weight) / ring.totalWeight))
  }))
})

t.test('with loads as they usually are, keys stay with their owners', async (t) => {
  const loads = new Map<string, number>()
  let away = 0
  for (let request = 0; request < 4000; request++) {
    const choice = chooseFromPool(ring, ringKey('a', `f${request % 500}`), (id) => loads.get(id) ?? 0)
    if (choice === null) throw new Error('nobody')
    if (!choice.owner) away++
    loads.set(choice.member, (loads.get(choice.member) ?? 0) + 1)
  }
  t.ok(away / 4000 < 0.05, `${away} of 4000 away from their owners`)
})
