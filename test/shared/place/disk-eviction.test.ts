import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { planEviction, type CacheEntry, type EvictionFacts } from '../../../shared/place/disk-eviction.ts'

function entry(id: string, rate: number, freedBytes: number, parentId: string | null = null): CacheEntry<string> {
  return { id, parentId, freedBytes, rate }
}

function plan(entries: readonly CacheEntry<string>[], facts: Partial<EvictionFacts<string>> = {}): ReturnType<typeof planEviction<string>> {
  const usedBytes = entries.reduce((sum, { freedBytes }) => sum + freedBytes, 0)
  return planEviction({ entries, usedBytes, budgetBytes: 100, pinned: new Set(), incoming: null, ...facts })
}

t.test('what is larger than everything that may leave is refused, and nothing leaves for it', (t) => {
  t.same(plan([entry('a', 1, 50)], { incoming: { bytes: 101, rate: 1e9 } }), { kind: 'refused', evict: [] })
  t.same(plan([entry('a', 1, 50)], { incoming: { bytes: 60, rate: 1e9 }, pinned: new Set(['a']) }), { kind: 'refused', evict: [] })
  t.end()
})

t.test('near equals do not push each other out, what is clearly worth less makes room', (t) => {
  const held = [entry('a', 10, 100)]
  t.same(plan(held, { incoming: { bytes: 50, rate: 5 * 1.1 } }), { kind: 'refused', evict: [] })
  t.same(plan(held, { incoming: { bytes: 50, rate: 5 * 1.3 } }), { kind: 'fits', evict: ['a'] })
  t.end()
})

t.test('while all fits nothing leaves', (t) => {
  t.same(plan([entry('a', 0, 60)], { incoming: { bytes: 40, rate: 0 } }), { kind: 'fits', evict: [] })
  t.same(plan([entry('a', 0, 100)]), { kind: 'fits', evict: [] })
  t.end()
})

t.test('worth is use per byte that is freed, and once something leaves so does enough for some more', (t) => {
  const held = [entry('large', 30, 60), entry('small', 2, 2), entry('rare', 1, 10), entry('shared', 1, 0), entry('middle', 20, 28)]
  t.same(plan(held, { incoming: { bytes: 5, rate: 100 } }).evict, ['rare', 'large'], '95 of 100 bytes after the first, 35 after the second')
  t.same(plan(held, { usedBytes: 101 }).evict, ['rare', 'large'])
  t.end()
})

t.test('children leave before parents, and a parent is worth what its best child was', (t) => {
  const held = [entry('base', 0, 40), entry('layer', 0, 30, 'base'), entry('app', 9, 20, 'layer'), entry('other', 5, 30)]
  t.same(plan(held, { usedBytes: 120 }).evict, ['other'], 'the parents are worth nothing by themselves, but stay')
  t.same(plan(held, { usedBytes: 200 }).evict, ['other', 'app', 'layer', 'base'])
  t.end()
})

t.test('a plan never leaves an image without its parent, takes nothing that is pinned or better than what comes, and keeps to the budget', (t) => {
  const entries = fc.array(fc.record({ parent: fc.integer({ min: -3, max: 30 }), rate: fc.integer({ min: 0, max: 100 }), freedBytes: fc.integer({ min: 0, max: 50 }), pinned: fc.boolean() }), { maxLength: 40 })
    .map((list) => list.map(({ parent, ...rest }, index) => ({ ...rest, id: index, parentId: parent >= 0 && parent < index ? parent : null })))
  fc.assert(fc.property(entries, fc.integer({ min: 1, max: 800 }), fc.option(fc.record({ bytes: fc.integer({ min: 0, max: 300 }), rate: fc.integer({ min: 0, max: 200 }) }), { nil: null }), (list, budgetBytes, incoming) => {
    const usedBytes = list.reduce((sum, { freedBytes }) => sum + freedBytes, 0)
    const pinned = new Set(list.filter((each) => each.pinned).map(({ id }) => id))
    const { kind, evict } = planEviction<number>({ entries: list, usedBytes, budgetBytes, pinned, incoming })
    const gone = new Set(evict)
    assert.equal(gone.size, evict.length)
    const freed = evict.reduce((sum, id) => sum + (list[id]?.freedBytes ?? 0), 0)
    for (const { id, parentId } of list) if (!gone.has(id) && parentId !== null) assert.ok(!gone.has(parentId), 'a parent left before its child')
    for (const id of evict) assert.ok(!pinned.has(id))
    if (incoming === null) return
    if (kind === 'refused') assert.equal(evict.length, 0)
    else assert.ok(usedBytes + incoming.bytes - freed <= budgetBytes)
    for (const id of evict) assert.ok((list[id]?.rate ?? 0) / Math.max(1, list[id]?.freedBytes ?? 0) < incoming.rate / Math.max(1, incoming.bytes))
  }))
  t.pass('for all values tried')
  t.end()
})
