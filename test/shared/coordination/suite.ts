/** What every driver does, whatever is behind it: run by the test of each. */
import type { Test } from 'tap'
import { ManualClock, systemClock, type Clock } from '../../../shared/clock.ts'
import type { BlobEntry, Coordination, DocumentListener, Documents, Member, Watch } from '../../../shared/coordination/types.ts'
import { COORDINATION_BLOB_MAX_BYTES, COORDINATION_DOCUMENT_MAX_BYTES, COORDINATION_INFO_MAX_BYTES, LEASE_MARGIN_MS, LEASE_RENEW_MS, LEASE_TTL_MS } from '../../../shared/limits.ts'
import { eventually } from '../../support/dev-server.ts'

export interface CoordinationDriver {
  /** Another client of the same store, as another process would have one. To be closed by the test. */
  open(clock: Clock): Promise<Coordination>
}

export interface Told {
  readonly events: string[]
  readonly watch: Watch
}

export function coordinationSuite(t: Test, driver: CoordinationDriver): void {
  const openFor = async (test: Test, clock: Clock = systemClock): Promise<Coordination> => {
    const coordination = await driver.open(clock)
    test.teardown(() => coordination.close())
    return coordination
  }
  let buckets = 0
  /** Nobody's but this test's. */
  const fresh = (): string => `b${(buckets += 1)}-${Date.now().toString(36)}`

  t.test('a document is made, changed and deleted from the revision that was seen', async (t) => {
    const documents = await (await openFor(t)).documents(fresh())
    t.equal(await documents.get('a'), null)
    const first = await documents.update('a', bytes('1'), 0)
    t.same(await read(documents, 'a'), ['1', first])
    const second = await documents.update('a', bytes('2'), first)
    t.ok(second > first, 'revisions grow')
    await t.rejects(documents.update('a', bytes('x'), first), { code: 'ERR_COORDINATION_CONFLICT' })
    await t.rejects(documents.update('a', bytes('x'), 0), { code: 'ERR_COORDINATION_CONFLICT' })
    await t.rejects(documents.delete('a', first), { code: 'ERR_COORDINATION_CONFLICT' })
    t.same(await read(documents, 'a'), ['2', second])
    const other = await documents.update('b.c/d', bytes(''), 0)
    t.ok(other > second, 'of one bucket, whichever document')
    const gone = await documents.delete('a', second)
    t.ok(gone > other)
    t.equal(await documents.get('a'), null)
    await t.rejects(documents.update('a', bytes('x'), second), { code: 'ERR_COORDINATION_CONFLICT' }, 'what is deleted is not there')
    await t.rejects(documents.delete('a', gone), { code: 'ERR_COORDINATION_CONFLICT' })
    const again = await documents.update('a', bytes('3'), 0)
    t.ok(again > gone)
    t.same(await read(documents, 'a'), ['3', again])
    t.same(await read(documents, 'b.c/d'), ['', other], 'an empty value is a value')
  })

  t.test('buckets are apart', async (t) => {
    const coordination = await openFor(t)
    const [one, two] = [await coordination.documents(fresh()), await coordination.documents(fresh())]
    await one.update('a', bytes('1'), 0)
    t.equal(await two.get('a'), null)
  })

  t.test('of writers that saw the same one wins, whichever client they use', async (t) => {
    const name = fresh()
    const clients = await Promise.all([1, 2, 3].map(async () => (await openFor(t)).documents(name)))
    let revision = 0
    for (let round = 0; round < 10; round += 1) {
      const results = await Promise.allSettled(clients.map((documents, writer) => documents.update('raced', bytes(`${round}-${writer}`), revision)))
      const won = results.flatMap((result, writer) => (result.status === 'fulfilled' ? [{ writer, revision: result.value }] : []))
      t.equal(won.length, 1, `round ${round}: one wins`)
      for (const result of results) if (result.status === 'rejected') t.match(result.reason, { code: 'ERR_COORDINATION_CONFLICT' })
      const winner = won[0] ?? { writer: -1, revision: 0 }
      revision = winner.revision
      for (const documents of clients) t.same(await read(documents, 'raced'), [`${round}-${winner.writer}`, revision])
    }
  })

  t.test('a watch tells what is there, that this was all, then every change in order', async (t) => {
    const name = fresh()
    const [writer, watcher] = [await (await openFor(t)).documents(name), await (await openFor(t)).documents(name)]
    const a = await writer.update('a', bytes('1'), 0)
    const b = await writer.update('b', bytes('1'), 0)
    await writer.delete('b', b)
    const told = watchAll(watcher)
    t.same(told.events, [], 'nothing from within the call')
    await eventuallySame(told, [`a=1@${a}`, 'current'])
    const a2 = await writer.update('a', bytes('2'), a)
    const a3 = await writer.delete('a', a2)
    const c = await writer.update('c', bytes('1'), 0)
    await eventually(() => Promise.resolve(told.events), (events) => events.includes(`c=1@${c}`))
    const after = told.events.slice(2)
    // A driver that polls may see only the last of several changes of one document.
    t.same(after.filter((event) => event !== `a=2@${a2}`), [`a deleted@${a3}`, `c=1@${c}`])
    t.same(after, [...after].sort((one, two) => revisionOf(one) - revisionOf(two)))
    told.watch.stop()
    await writer.update('d', bytes('1'), 0)
    const last = watchAll(watcher)
    await eventually(() => Promise.resolve(last.events), (events) => events.includes('current'))
    t.notOk(told.events.some((event) => event.startsWith('d=')), 'nothing after stop')
    last.watch.stop()
  })

  t.test('a watch of nothing is current at once, and hears what comes', async (t) => {
    const documents = await (await openFor(t)).documents(fresh())
    const told = watchAll(documents)
    await eventuallySame(told, ['current'])
    const revision = await documents.update('a', bytes('1'), 0)
    await eventuallySame(told, ['current', `a=1@${revision}`])
    told.watch.stop()
  })

  t.test('a listener that throws goes on being told', async (t) => {
    const documents = await (await openFor(t)).documents(fresh())
    const keys: string[] = []
    const watch = documents.watch({
      onDocument(key) {
        keys.push(key)
        throw new Error('of the test')
      },
      onCurrent: () => undefined,
    })
    await documents.update('a', bytes('1'), 0)
    await documents.update('b', bytes('1'), 0)
    await eventually(() => Promise.resolve(keys.join()), (seen) => seen === 'a,b')
    t.pass()
    watch.stop()
  })

  t.test('a watch goes on after a revision: changes and deletions since, nothing else', async (t) => {
    const documents = await (await openFor(t)).documents(fresh())
    const a = await documents.update('a', bytes('1'), 0)
    const b = await documents.update('b', bytes('1'), 0)
    const c = await documents.update('c', bytes('1'), 0)
    const gone = await documents.delete('a', a)
    const changed = await documents.update('b', bytes('2'), b)
    const told = watchAll(documents, c)
    await eventuallySame(told, [`a deleted@${gone}`, `b=2@${changed}`, 'current'])
    told.watch.stop()
    const nothing = watchAll(documents, changed)
    await eventuallySame(nothing, ['current'])
    nothing.watch.stop()
  })

  t.test('who is further behind than what is remembered of deletions is told of everything', async (t) => {
    const documents = await (await openFor(t)).documents(fresh())
    const a = await documents.update('a', bytes('1'), 0)
    const b = await documents.update('b', bytes('1'), 0)
    const c = await documents.update('c', bytes('1'), 0)
    await documents.delete('a', a)
    const later = await documents.delete('b', b)
    t.equal(await documents.forgetDeleted(1), 1)
    t.equal(await documents.forgetDeleted(1), 0)
    const gap = watchAll(documents, c)
    await eventuallySame(gap, ['gap', `c=1@${c}`, 'current'])
    gap.watch.stop()
    const told = watchAll(documents, later - 1)
    await eventuallySame(told, [`b deleted@${later}`, 'current'])
    told.watch.stop()
    const future = watchAll(documents, later + 1000)
    await eventuallySame(future, ['gap', `c=1@${c}`, 'current'])
    future.watch.stop()
    const again = await documents.update('a', bytes('2'), 0)
    t.ok(again > later, 'a forgotten document can be made again')
  })

  t.test('what a driver cannot hold is refused, at its limit it is not', async (t) => {
    const coordination = await openFor(t)
    const documents = await coordination.documents(fresh())
    const blobs = await coordination.blobs(fresh())
    const refused = { code: 'ERR_COORDINATION_REFUSED' }
    await documents.update('a', new Uint8Array(COORDINATION_DOCUMENT_MAX_BYTES), 0)
    await t.rejects(documents.update('b', new Uint8Array(COORDINATION_DOCUMENT_MAX_BYTES + 1), 0), refused)
    await blobs.put('a', new Uint8Array(COORDINATION_BLOB_MAX_BYTES))
    await t.rejects(blobs.put('b', new Uint8Array(COORDINATION_BLOB_MAX_BYTES + 1)), refused)
    t.equal((await blobs.get('a'))?.byteLength, COORDINATION_BLOB_MAX_BYTES)
    for (const key of ['', '.', 'a.', '.a', 'a..b', 'a b', 'a*', '>', 'a/', 'ä', 'a\n', 'x'.repeat(513)]) {
      await t.rejects(documents.get(key), refused, `no key: ${JSON.stringify(key).slice(0, 30)}`)
      await t.rejects(documents.update(key, bytes('1'), 0), refused)
      await t.rejects(blobs.put(key, bytes('1')), refused)
    }
    for (const name of ['', 'A', 'a.b', 'a/b', 'x'.repeat(33)]) {
      await t.rejects(coordination.documents(name), refused, `no bucket: ${name}`)
      await t.rejects(coordination.blobs(name), refused)
      await t.rejects(coordination.members(name), refused)
      await t.rejects(coordination.leadership(name), refused)
    }
    const members = await coordination.members(fresh())
    await t.rejects(members.join('m', { text: 'x'.repeat(COORDINATION_INFO_MAX_BYTES) }), refused)
  })

  t.test('blobs are put, read, listed, and deleted only as they were listed', async (t) => {
    const name = fresh()
    const [one, two] = [await (await openFor(t)).blobs(name), await (await openFor(t)).blobs(name)]
    t.equal(await one.get('a'), null)
    t.equal(await one.ageMs('a'), null)
    t.same(await listed(one), [])
    await one.put('a', bytes('content'))
    await one.put('b/c', bytes(''))
    t.same(await two.get('a'), bytes('content'))
    t.same(await two.get('b/c'), bytes(''))
    const ageMs = await two.ageMs('a')
    t.ok(ageMs !== null && ageMs >= 0 && ageMs < 60_000, `${ageMs} ms old`)
    const entries = await listed(two)
    t.same(entries.map(({ id, bytes: size }) => [id, size]), [['a', 7], ['b/c', 0]])
    const [a, b] = entries
    if (a === undefined || b === undefined) return
    await one.put('a', bytes('content'))
    t.equal(await two.deleteListed(a), false, 'it was put again')
    t.same(await one.get('a'), bytes('content'))
    t.equal(await two.deleteListed(b), true)
    t.equal(await one.get('b/c'), null)
    t.equal(await one.ageMs('b/c'), null)
    t.same((await listed(one)).map(({ id }) => id), ['a'])
    await one.put('b/c', bytes('again'))
    t.same(await two.get('b/c'), bytes('again'))
    t.equal(await two.deleteListed(b), false, 'nor what was put after a deletion')
  })

  t.test('many blobs are listed once each', async (t) => {
    const blobs = await (await openFor(t)).blobs(fresh())
    const ids = Array.from({ length: 350 }, (_, index) => `id${String(index).padStart(4, '0')}`)
    await Promise.all(ids.map((id) => blobs.put(id, bytes(id))))
    t.same((await listed(blobs)).map(({ id }) => id), ids)
  })

  t.test('members see each other come, change and leave', async (t) => {
    const group = fresh()
    const [one, two] = [await openFor(t), await openFor(t)]
    const seen = watchMembers(await two.members(group))
    await eventually(() => Promise.resolve(seen.states.length), (count) => count === 1)
    t.same(seen.states, [[]], 'told of an empty group')
    const membership = await (await one.members(group)).join('m1', { at: 1 })
    t.equal(membership.id, 'm1')
    t.ok(membership.holds())
    await eventuallyMembers(seen, [{ id: 'm1', info: { at: 1 } }])
    await t.rejects((await two.members(group)).join('m1', {}), { code: 'ERR_COORDINATION_CONFLICT' })
    await membership.update({ at: 2 })
    await eventuallyMembers(seen, [{ id: 'm1', info: { at: 2 } }])
    const other = await (await two.members(group)).join('m2', null)
    await eventuallyMembers(seen, [{ id: 'm1', info: { at: 2 } }, { id: 'm2', info: null }])
    await membership.leave()
    await membership.leave()
    t.notOk(membership.holds())
    await eventuallyMembers(seen, [{ id: 'm2', info: null }])
    await t.rejects(membership.update({}), { code: 'ERR_COORDINATION_UNREACHABLE' })
    await other.leave()
    await eventuallyMembers(seen, [])
    seen.watch.stop()
  })

  t.test('a member that stops renewing has stopped by its own clock before a watcher drops it by its own', async (t) => {
    const group = fresh()
    const [memberClock, watcherClock] = [new ManualClock(5_000), new ManualClock(9_000_000)]
    const [one, two] = [await openFor(t, memberClock), await openFor(t, watcherClock)]
    const membership = await (await one.members(group)).join('m1', {})
    const seen = watchMembers(await two.members(group))
    await eventuallyMembers(seen, [{ id: 'm1', info: {} }], () => watcherClock.advance(0))
    // Renewals need the member's clock: with it stands the lease. The watcher's goes on.
    const tellMs = LEASE_TTL_MS + LEASE_MARGIN_MS
    watcherClock.advance(LEASE_TTL_MS)
    t.same(seen.states.at(-1)?.length, 1, 'not before the margin')
    let lost = false
    void membership.lost.then(() => (lost = true))
    watcherClock.advance(LEASE_MARGIN_MS)
    await eventuallyMembers(seen, [], () => watcherClock.advance(300))
    // The same time passes for the member at last: it may find its document deleted, or its time over; it does not hold.
    memberClock.advance(tellMs)
    t.notOk(membership.holds())
    await eventually(() => Promise.resolve(lost), Boolean)
    await t.rejects(membership.update({}), { code: 'ERR_COORDINATION_UNREACHABLE' })
    seen.watch.stop()
  })

  t.test('a member that renews is kept for as long as it does', async (t) => {
    const group = fresh()
    const [memberClock, watcherClock] = [new ManualClock(1), new ManualClock(2)]
    const [one, two] = [await openFor(t, memberClock), await openFor(t, watcherClock)]
    const membership = await (await one.members(group)).join('m1', {})
    const documents = watchMembers(await two.members(group))
    await eventuallyMembers(documents, [{ id: 'm1', info: {} }], () => watcherClock.advance(0))
    for (let renewal = 0; renewal < 8; renewal += 1) {
      memberClock.advance(LEASE_RENEW_MS)
      await pause()
      watcherClock.advance(LEASE_RENEW_MS)
      await pause()
    }
    t.ok(membership.holds(), `after ${8 * LEASE_RENEW_MS} ms`)
    t.equal(documents.states.filter((members) => members.length === 0).length, 0, 'never seen to be gone')
    documents.watch.stop()
    await membership.leave()
  })

  t.test('one leads; who gives up is followed at once, by a higher term', async (t) => {
    const name = fresh()
    const [one, two] = [await openFor(t), await openFor(t)]
    const events: string[] = []
    const stand = async (coordination: Coordination, id: string) =>
      (await coordination.leadership(name)).stand(id, { onElected: (term) => events.push(`${id} ${term}`), onLost: () => events.push(`${id} lost`) })
    const first = await stand(one, 'c1')
    await eventually(() => Promise.resolve(events.length), (count) => count === 1)
    const second = await stand(two, 'c2')
    await pause()
    t.same(events, ['c1 1'])
    t.equal(first.term(), 1)
    t.equal(second.term(), null)
    await first.stop()
    await first.stop()
    t.equal(first.term(), null)
    await eventually(() => Promise.resolve(events.length), (count) => count === 3)
    t.same(events, ['c1 1', 'c1 lost', 'c2 2'])
    t.equal(second.term(), 2)
    await second.stop()
    const third = await stand(one, 'c3')
    await eventually(() => Promise.resolve(third.term()), (term) => term !== null)
    t.equal(third.term(), 3, 'terms go on over a time without a leader')
    await third.stop()
  })

  t.test('a leader that stops renewing is followed only when its own clock says that it does not lead', async (t) => {
    const name = fresh()
    const [leaderClock, followerClock] = [new ManualClock(77), new ManualClock(1_000_000)]
    const [one, two] = [await openFor(t, leaderClock), await openFor(t, followerClock)]
    const listener = { onElected: () => undefined, onLost: () => undefined }
    const leader = (await one.leadership(name)).stand('c1', listener)
    await eventually(() => Promise.resolve(leader.term()), (term) => term === 1)
    const follower = (await two.leadership(name)).stand('c2', listener)
    await pause()
    let bothLed = 0
    // Both clocks tick alike; the leader's timers do not run (its process is stopped): ManualClock runs timers only in `advance`.
    const frozen = leaderClock.monotonicMs()
    for (let passedMs = 0; passedMs <= LEASE_TTL_MS + LEASE_MARGIN_MS + 1000; passedMs += 250) {
      followerClock.advance(250)
      await pause(5)
      const leaderHolds = frozen + passedMs + 250 < frozen + LEASE_TTL_MS
      if (leaderHolds && follower.term() !== null) bothLed += 1
    }
    t.equal(bothLed, 0)
    await eventually(() => Promise.resolve(follower.term()), (term) => term === 2)
    // The stopped process goes on: whatever its timers do first, it does not lead.
    leaderClock.advance(LEASE_TTL_MS)
    t.equal(leader.term(), null)
    t.equal(follower.term(), 2)
    await Promise.all([leader.stop(), follower.stop()])
  })

  t.test('candidates that come and go are never two leaders', async (t) => {
    const name = fresh()
    const clients = await Promise.all([1, 2, 3, 4].map(() => openFor(t)))
    const terms: number[] = []
    for (let round = 0; round < 5; round += 1) {
      const candidacies = await Promise.all(clients.map(async (client, index) => (await client.leadership(name)).stand(`c${index}`, { onElected: (term) => terms.push(term), onLost: () => undefined })))
      await eventually(() => Promise.resolve(candidacies.filter((candidacy) => candidacy.term() !== null).length), (leaders) => leaders >= 1)
      t.equal(candidacies.filter((candidacy) => candidacy.term() !== null).length, 1)
      await Promise.all(candidacies.map((candidacy) => candidacy.stop()))
    }
    t.same(terms, [...new Set(terms)].sort((a, b) => a - b), 'each term once, growing')
  })

  t.test('after close everything fails with a code, twice is once', async (t) => {
    const coordination = await driver.open(systemClock)
    const documents = await coordination.documents(fresh())
    const blobs = await coordination.blobs(fresh())
    const group = fresh()
    const members = await coordination.members(group)
    const membership = await members.join('m1', {})
    t.ok(coordination.connected)
    await Promise.all([coordination.close(), coordination.close()])
    await coordination.close()
    t.notOk(coordination.connected)
    t.notOk(membership.holds())
    const unreachable = { code: 'ERR_COORDINATION_UNREACHABLE' }
    await t.rejects(documents.get('a'), unreachable)
    await t.rejects(documents.update('a', bytes('1'), 0), unreachable)
    await t.rejects(blobs.get('a'), unreachable)
    await t.rejects(members.join('m2', {}), unreachable)
    await t.rejects(coordination.documents('other'), unreachable)
    const other = await openFor(t)
    const seen = watchMembers(await other.members(group))
    await eventually(() => Promise.resolve(seen.states.length), (count) => count > 0)
    t.same(seen.states, [[]], 'a member that closes has left')
    seen.watch.stop()
  })
}

export function bytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text))
}

export function watchAll(documents: Documents, afterRevision = 0): Told {
  const events: string[] = []
  const listener: DocumentListener = {
    onDocument: (key, value, revision) => events.push(`${key}${value === null ? ' deleted' : `=${Buffer.from(value).toString()}`}@${revision}`),
    onCurrent: () => events.push('current'),
    onGap: () => events.push('gap'),
  }
  return { events, watch: documents.watch(listener, { afterRevision }) }
}

export function revisionOf(event: string): number {
  return Number(event.slice(event.lastIndexOf('@') + 1))
}

/** As a pause of real time for I/O of the store under a clock that stands; nothing is decided by its length. */
export function pause(ms = 30): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

export async function eventuallySame(told: Told, expected: readonly string[]): Promise<void> {
  await eventually(() => Promise.resolve(told.events.join()), (events) => events === expected.join(), 10_000).catch(() => {
    throw new Error(`told ${told.events.join()}, expected ${expected.join()}`)
  })
}

interface SeenMembers {
  readonly states: (readonly Member[])[]
  readonly watch: Watch
}

function watchMembers(members: { watch(listener: (members: readonly Member[]) => void): Watch }): SeenMembers {
  const states: (readonly Member[])[] = []
  return { states, watch: members.watch((now) => states.push(now)) }
}

async function eventuallyMembers(seen: SeenMembers, expected: readonly Member[], meanwhile: () => void = () => undefined): Promise<void> {
  const sorted = (members: readonly Member[] | undefined): string => JSON.stringify([...(members ?? [{ id: 'never told', info: null }])].sort((a, b) => (a.id < b.id ? -1 : 1)))
  await eventually(
    () => {
      meanwhile()
      return Promise.resolve(sorted(seen.states.at(-1)))
    },
    (now) => now === sorted(expected),
    10_000,
  ).catch(() => {
    throw new Error(`members ${sorted(seen.states.at(-1))}, expected ${sorted(expected)}`)
  })
}

async function listed(blobs: { list(): AsyncIterable<BlobEntry> }): Promise<BlobEntry[]> {
  const entries: BlobEntry[] = []
  for await (const entry of blobs.list()) entries.push(entry)
  return entries.sort((a, b) => (a.id < b.id ? -1 : 1))
}

async function read(documents: Documents, key: string): Promise<[string, number] | null> {
  const found = await documents.get(key)
  return found === null ? null : [Buffer.from(found.value).toString(), found.revision]
}
