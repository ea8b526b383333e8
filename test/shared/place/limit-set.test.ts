import t from 'tap'
import { FORGET_MS, LimitSets, LOWER_PERIOD_MS, TRIES_MAX, type LimitEvent } from '../../../shared/place/limit-set.ts'
import { decideOwner } from '../../../shared/place/share-owner.ts'

const SHARES = [0, 1, 2, 3, 4, 5, 6, 7]

function makeSets(setsMax = 100): { sets: LimitSets; events: string[] } {
  const events: string[] = []
  const onEvent = (event: LimitEvent): void => void events.push(event.kind === 'replace' ? `replace ${event.share}` : `${event.kind} ${event.size}`)
  return { sets: new LimitSets({ self: 'n1', setsMax, onEvent }), events }
}

/** Asks shares in turn until `full` does not hold for one; which were asked. */
function acquire(sets: LimitSets, full: (share: number) => boolean, nowMs = 0, tried: readonly number[] = [], purpose: 'need' | 'spare' = 'need', shares: readonly number[] = SHARES): number[] {
  const acquisition = sets.acquire('acme', null, shares, new Set(tried), purpose, nowMs)
  const asked: number[] = []
  for (let share = acquisition.next(); share !== null; share = acquisition.next()) {
    asked.push(share)
    acquisition.answered(share, full(share) ? 'full' : 'met')
  }
  return asked
}

const grow = (sets: LimitSets, size: number, nowMs = 0): number[] => acquire(sets, (share) => share < size - 1, nowMs)

t.test('a pool without shares is refused', async (t) => {
  const { sets, events } = makeSets()
  t.same(acquire(sets, () => false, 0, [], 'need', []), [])
  t.same(events, ['throttle 1'])
})

t.test('at the maximum nothing is added, and the refusal is told', async (t) => {
  const { sets, events } = makeSets()
  t.same(acquire(sets, () => true), SHARES)
  t.equal(sets.size('acme', null), 8)
  t.same(events, [...[2, 3, 4, 5, 6, 7, 8].map((size) => `raise ${size}`), 'throttle 8'])
  t.same(acquire(sets, () => true), SHARES, 'all are asked: no slot is left unused')
  t.equal(events.at(-1), 'throttle 8')
})

t.test('the set grows after a few of it were full, and not because the asker has slots beyond it', async (t) => {
  const { sets, events } = makeSets()
  t.same(acquire(sets, (share) => share < 6, 0, [5]), [0, 1, 2, 3, 4, 6], 'what the asker holds is asked first, elsewhere')
  t.equal(sets.size('acme', null), 7)
  events.length = 0
  t.same(acquire(sets, (share) => share < 7), [0, 1, 2, 7].slice(0, TRIES_MAX + 1))
  t.same(events, ['raise 8'])
})

t.test('for calls that may come the set does not grow, and nothing is said', async (t) => {
  const { sets, events } = makeSets()
  t.same(acquire(sets, () => true, 0, [], 'spare'), [0])
  t.same(events, [])
})

t.test('lowered by one at a time, once in a period, and only if nothing was refused in it', async (t) => {
  const { sets, events } = makeSets()
  grow(sets, 4)
  events.length = 0
  const idle = (size: number): { inUse: number; quota: number }[] => Array.from({ length: size }, () => ({ inUse: 0, quota: 2 }))
  t.same(sets.toLower(LOWER_PERIOD_MS - 1), [])
  sets.lower('acme', null, idle(4), LOWER_PERIOD_MS - 1)
  t.same(events, [], 'not before the period is over')
  acquire(sets, (share) => share !== 1, 30_000)
  t.same(sets.toLower(LOWER_PERIOD_MS), [], 'full a moment ago')
  t.same(sets.toLower(30_000 + LOWER_PERIOD_MS), [{ account: 'acme', pool: null, size: 4 }])
  let nowMs = 30_000
  for (const size of [4, 3, 2]) {
    nowMs += LOWER_PERIOD_MS
    sets.lower('acme', null, idle(size), nowMs)
    sets.lower('acme', null, idle(size - 1), nowMs + 1)
  }
  t.same(events, ['lower 3', 'lower 2', 'lower 1'])
  t.same(sets.toLower(nowMs + LOWER_PERIOD_MS), [], 'never below one')
  sets.toLower(nowMs + FORGET_MS)
  t.equal(sets.count, 0, 'forgotten')
})

t.test('not lowered while it is in use, nor to where it would be full', async (t) => {
  const { sets, events } = makeSets()
  grow(sets, 2)
  events.length = 0
  sets.lower('acme', null, [{ inUse: 2, quota: 4 }, { inUse: 1, quota: 4 }], LOWER_PERIOD_MS)
  t.same(events, [], '3 of 8 is above 30 %')
  sets.lower('acme', null, [{ inUse: 2, quota: 2 }, { inUse: 0, quota: 6 }], 2 * LOWER_PERIOD_MS)
  t.same(events, [], 'one share of two would be full')
  sets.lower('acme', null, [{ inUse: 1, quota: 4 }, { inUse: 0, quota: 4 }], 3 * LOWER_PERIOD_MS)
  t.same(events, ['lower 1'])
})

t.test('of two views the higher version counts; a lowering only where nothing was refused', async (t) => {
  const { sets } = makeSets()
  const hear = (size: number, version: number, origin: string, nowMs = 0): number => {
    sets.heard({ account: 'acme', pool: null, size, version, origin }, nowMs)
    return sets.size('acme', null)
  }
  t.equal(hear(4, 3, 'n2'), 4, 'a raise at once')
  t.equal(hear(6, 2, 'n9'), 4, 'an old message')
  t.equal(hear(5, 3, 'n1'), 4, 'the same version from a lesser origin')
  t.equal(hear(5, 3, 'n3'), 5)
  acquire(sets, (share) => share < 1, 1_000)
  t.equal(hear(2, 9, 'n2', 1_000), 5, 'full a moment ago')
  t.equal(hear(2, 9, 'n2', 1_000 + LOWER_PERIOD_MS), 2, 'told again later')
})

t.test('what changed is told once, all of it again with each round', async (t) => {
  const { sets } = makeSets()
  grow(sets, 3)
  t.same(sets.changes(), [{ account: 'acme', pool: null, size: 3, version: 2, origin: 'n1' }])
  t.same(sets.changes(), [])
  t.equal(sets.views(1_000, 10).length, 1)
  t.same(sets.views(1_000, 0), [])
  t.same(sets.views(FORGET_MS, 10), [], 'nobody asked for it lately')
})

t.test('more pools than are kept: the one used longest ago is forgotten', async (t) => {
  const { sets } = makeSets(2)
  grow(sets, 3)
  sets.acquire('b', null, SHARES, new Set(), 'need', 1)
  sets.acquire('c', 'f', SHARES, new Set(), 'need', 2)
  t.equal(sets.count, 2)
  t.equal(sets.size('acme', null), 1)
})

t.test('a share has the owner that the store names, until it lets go or is no member any more', async (t) => {
  const facts = { self: 'n1.2', isFormerSelf: false, isAlive: (member: string) => member === 'n2.1' }
  t.same(decideOwner({ ...facts, owner: 'n1.2' }), { kind: 'mine' })
  t.same(decideOwner({ ...facts, owner: null }), { kind: 'take' })
  t.same(decideOwner({ ...facts, owner: 'n2.1' }), { kind: 'others', owner: 'n2.1' })
  t.same(decideOwner({ ...facts, owner: 'n3.1' }), { kind: 'take' })
  t.same(decideOwner({ ...facts, owner: 'n1.1', isFormerSelf: true, isAlive: () => true }), { kind: 'take' }, 'an earlier life of this process')
})
