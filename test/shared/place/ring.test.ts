import t from 'tap'
import fc from 'fast-check'
import { execFileSync } from 'node:child_process'
import { firstRing, isNewer, neededVersions, nextRing, parseRing, predecessorsOf, retire, Ring, ringKey, rollback, serializeRing } from '../../../shared/place/ring.ts'
import type { RingDocument, RingMember, RingWord } from '../../../shared/place/ring.ts'

/** No state lies by any older version. */
const SETTLED: ReadonlySet<number> = new Set()

function members(count: number, prefix = 'm', weight = 1): RingMember[] {
  return Array.from({ length: count }, (_, index) => ({ id: `${prefix}${String(index).padStart(3, '0')}`, weight }))
}

const keys = Array.from({ length: 20_000 }, (_, index) => ringKey('123456789012', `function-${index}`))

function placesOf(document: RingDocument): Map<string, string> {
  const ring = new Ring(document)
  return new Map(keys.map((key) => [key, ring.owners(key, 'single')[0] ?? '']))
}

t.test('what cannot be right is refused before there is any ring, unknown attributes are ignored', async (t) => {
  const ring = firstRing(members(4))
  for (const bad of [0, -1, 1.5, 5, Number.NaN, '2', null, 10_000_000]) {
    t.throws(() => nextRing(ring, { attributes: { managersPerKey: bad } }, SETTLED), { code: 'ERR_RING_REFUSED' }, String(bad))
  }
  for (const attribute of ['perManagerShare', 'maxLive']) {
    for (const bad of [0, -1, 1_000_001]) t.throws(() => nextRing(ring, { attributes: { [attribute]: bad } }, SETTLED), { code: 'ERR_RING_REFUSED' })
  }
  for (const bad of [[{ id: 'a', weight: 0 }], [{ id: 'a', weight: 17 }], [{ id: '', weight: 1 }], [{ id: 'a', weight: 1 }, { id: 'a', weight: 2 }], members(513)]) {
    t.throws(() => firstRing(bad), { code: 'ERR_RING_REFUSED' })
  }
  t.throws(() => firstRing(members(2), { managersPerKey: 3 }), { code: 'ERR_RING_REFUSED' })
  const next = nextRing(ring, { attributes: { managersPerKey: 2, colour: 'green' } }, SETTLED)
  t.same(next.attributes, { ...ring.attributes, managersPerKey: 2 })
  t.equal(next.version, 2)
  const fewer = nextRing(next, { members: members(1) }, SETTLED)
  t.same(new Ring(fewer).owners('k', 'pool'), ['m000'], 'members that are lost do not make a ring wrong')
})

t.test('only a whole document is read', async (t) => {
  const document = nextRing(firstRing(members(3)), { members: members(5) }, SETTLED)
  t.same(parseRing(serializeRing(document)), document)
  const text = Buffer.from(serializeRing(document)).toString()
  for (let length = 0; length < text.length; length += 7) t.throws(() => parseRing(Buffer.from(text.slice(0, length))), { code: 'ERR_RING_REFUSED' })
  const broken = [{ ...document, version: 0 }, { ...document, extra: 1 }, { ...document, previous: [document] }, { ...document, version: 1 }, { ...document, members: [...document.members].reverse() }, { ...document, previous: undefined }, null, [], 'x']
  for (const value of broken) t.throws(() => parseRing(Buffer.from(JSON.stringify(value))), { code: 'ERR_RING_REFUSED' })
})

t.test('three older versions are kept, and what state lies by stays as long as it does', async (t) => {
  const versions = (document: RingDocument): number[] => document.previous.map(({ version }) => version)
  let ring = firstRing(members(1))
  for (let version = 2; version <= 5; version++) ring = nextRing(ring, { members: members(version) }, SETTLED)
  t.same(versions(ring), [4, 3, 2])
  t.same(versions(nextRing(ring, { members: members(6) }, new Set([2]))), [5, 4, 2], 'in the place of one that nobody needs')
  let held = ring
  for (let more = 0; more < 5; more++) held = nextRing(held, { members: members(7 + more) }, new Set(held.previous.map(({ version }) => version).concat(held.version)))
  t.same(versions(held), [9, 8, 7, 6, 5, 4, 3, 2])
  t.throws(() => nextRing(held, { members: members(5) }, new Set([2, 3, 4, 5, 6, 7, 8, 9, 10])), { code: 'ERR_RING_UNSETTLED', params: [2] })
  const retired = retire(ring, new Set([3]))
  t.same(retired?.previous.map(({ version }) => version), [3])
  t.equal(retire(ring, new Set([2, 3, 4])), null)
  t.ok(retired !== null && isNewer(retired, ring) && !isNewer(ring, retired) && isNewer(held, ring) && isNewer(ring, null) && !isNewer(ring, ring))
})

t.test('needed is what a live member holds by, or may have taken up since it spoke', async (t) => {
  let ring = firstRing(members(2))
  for (let version = 2; version <= 4; version++) ring = nextRing(ring, { members: members(2) }, SETTLED)
  const needed = (words: Record<string, RingWord>, over: string[] = []): number[] => [...neededVersions(ring, (id) => words[id] ?? null, (id) => over.includes(id))].sort()
  t.same(needed({ m000: { ring: 4, held: [] }, m001: { ring: 4, held: [] } }), [4])
  t.same(needed({ m000: { ring: 4, held: [1, 4] }, m001: { ring: 3, held: [] } }), [1, 3, 4])
  t.same(needed({ m000: { ring: 4, held: [] } }), [1, 2, 3, 4], 'nothing is known of one')
  t.same(needed({ m000: { ring: 4, held: [] } }, ['m001']), [4])
  t.same(needed({ m000: { ring: 0, held: [] }, m001: { ring: 4, held: [] } }), [1, 2, 3, 4])
})

t.test('a rollback is a new version with the members and attributes of the one before', async (t) => {
  const first = firstRing(members(3), { managersPerKey: 2 })
  t.throws(() => rollback(first, SETTLED), { code: 'ERR_RING_REFUSED' })
  const failed = nextRing(first, { members: members(3, 'new'), attributes: { managersPerKey: 1 } }, SETTLED)
  const back = rollback(failed, SETTLED)
  t.equal(back.version, 3)
  t.same(back.members, first.members)
  t.same(back.attributes, first.attributes)
  const ring = new Ring(back)
  for (const key of keys.slice(0, 200)) {
    const [owner = ''] = ring.owners(key, 'single')
    t.same(ring.predecessorLevels(key, owner, 'single'), [new Ring(failed).owners(key, 'single'), []])
  }
  const retired = retire(failed, new Set())
  t.match(rollback(retired ?? failed, SETTLED), { members: first.members, attributes: first.attributes }, 'also when nobody looks for state by it any more')
})

t.test('keys are spread as weights say', async (t) => {
  for (const count of [3, 10, 30]) {
    const counts = new Map<string, number>()
    for (const owner of placesOf(firstRing(members(count))).values()) counts.set(owner, (counts.get(owner) ?? 0) + 1)
    const shares = [...counts.values()].map((value) => (value / keys.length) * count)
    t.ok(shares.length === count && Math.max(...shares) < 1.35 && Math.min(...shares) > 0.65, `${count} members: ${Math.min(...shares).toFixed(2)} to ${Math.max(...shares).toFixed(2)} of a fair share`)
  }
  const weighted = placesOf(firstRing([{ id: 'a', weight: 1 }, { id: 'b', weight: 3 }]))
  const share = [...weighted.values()].filter((owner) => owner === 'b').length / keys.length
  t.ok(Math.abs(share - 0.75) < 0.08, String(share))
})

t.test('one that joins or leaves moves only its own keys', async (t) => {
  const before = placesOf(firstRing(members(10)))
  const joined = placesOf(firstRing([...members(10), { id: 'joined', weight: 1 }]))
  const left = placesOf(firstRing(members(10).filter(({ id }) => id !== 'm004')))
  let moved = 0
  for (const [key, owner] of before) {
    if (joined.get(key) !== owner) {
      moved++
      if (joined.get(key) !== 'joined') t.fail(`${key} went from ${owner} to ${joined.get(key) ?? ''}`)
    }
    if (owner !== 'm004' && left.get(key) !== owner) t.fail(`${key} left ${owner}, which has stayed`)
  }
  t.ok(moved / keys.length < 1.35 / 11, `${moved} of ${keys.length} moved`)
})

t.test('equal documents give equal places in another process', async (t) => {
  const document = nextRing(firstRing(members(7)), { members: members(9, 'n', 2), attributes: { managersPerKey: 3 } }, SETTLED)
  const module = new URL('../../../shared/place/ring.ts', import.meta.url).href
  const script = `
    const { parseRing, Ring } = await import(${JSON.stringify(module)})
    const ring = new Ring(parseRing(Buffer.from(process.argv[1], 'base64')))
    console.log(JSON.stringify(JSON.parse(process.argv[2]).map((key) => [ring.owners(key, 'pool'), ring.predecessorLevels(key, ring.owners(key, 'pool')[1], 'pool')])))`
  const some = keys.slice(0, 300)
  const out = execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script, Buffer.from(serializeRing(document)).toString('base64'), JSON.stringify(some)], { encoding: 'utf8' })
  const ring = new Ring(document)
  t.same(JSON.parse(out), some.map((key) => [ring.owners(key, 'pool'), ring.predecessorLevels(key, ring.owners(key, 'pool')[1] ?? '', 'pool')]))
})

t.test('predecessors: every older owner that is gone is asked, nobody asks himself, the mapping is one for all', async (t) => {
  t.same(predecessorsOf(['a'], ['b'], 'a'), ['b'])
  t.same(predecessorsOf(['a'], ['a'], 'a'), [], 'unchanged: no traffic')
  t.same(['c', 'd', 'e', 'f'].map((owner) => predecessorsOf(['c', 'd', 'e', 'f'], ['a', 'b'], owner)), [['a'], ['a'], ['b'], ['b']], '2 to 4')
  t.same(predecessorsOf(['e'], ['a', 'b', 'c', 'd'], 'e'), ['a', 'b', 'c', 'd'], '4 to 1')
  t.same(['a', 'b', 'c', 'd'].map((owner) => predecessorsOf(['a', 'b', 'c', 'd'], ['a', 'b'], owner)), [[], [], ['a'], ['b']], '2 to 4 of the same fleet')
  t.same(predecessorsOf(['a'], ['a', 'b', 'c'], 'a'), ['b', 'c'], '3 to 1 of the same fleet')
  t.same(predecessorsOf(['a', 'b'], ['c'], 'x'), [], 'who is no owner inherits nothing')
  const ids = fc.uniqueArray(fc.integer({ min: 0, max: 9 }).map((n) => `m${n}`), { minLength: 1, maxLength: 6 })
  fc.assert(fc.property(ids, ids, (now, before) => {
    const asked = now.map((owner) => predecessorsOf(now, before, owner))
    const gone = before.filter((id) => !now.includes(id))
    return gone.every((id) => asked.some((list) => list.includes(id))) && now.every((owner, index) => !(asked[index] ?? []).includes(owner)) && (gone.length === 0 || now.every((owner, index) => before.includes(owner) || (asked[index] ?? []).length > 0))
  }))
})

t.test('sharers are the owners that draw, and each is one', async (t) => {
  const grown = new Ring(nextRing(firstRing(members(8), { managersPerKey: 2 }), { attributes: { managersPerKey: 4 } }, SETTLED))
  for (const key of keys.slice(0, 100)) {
    const now = grown.owners(key, 'pool')
    for (const before of grown.ownersBy(1, key, 'pool')) {
      const sharers = grown.sharers(key, before)
      t.same(sharers, [before, ...now.filter((owner) => grown.predecessors(key, owner, 'pool').includes(before))])
      t.equal(sharers.length, 2)
    }
  }
})

t.test('parts of a key cannot run into each other', async () => {
  fc.assert(fc.property(fc.array(fc.string(), { minLength: 2, maxLength: 3 }), fc.array(fc.string(), { minLength: 2, maxLength: 3 }), (a, b) => {
    const key = ([account = '', name = '', session]: string[]): string => ringKey(account, name, session ?? null)
    return (key(a) === key(b)) === (JSON.stringify(a) === JSON.stringify(b))
  }))
})
