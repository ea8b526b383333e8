import t from 'tap'
import { SHARES_BUCKET, ShareManager, type ManagerGroup, type ShareAnswer } from '../../../region/limits/share-manager.ts'
import { ManualClock } from '../../../shared/clock.ts'
import type { Documents } from '../../../shared/coordination/types.ts'
import { CodedError } from '../../../shared/errors.ts'
import { LEASE_GRACE_MS } from '../../../shared/limits.ts'
import { silentLog } from '../../../shared/log.ts'
import type { LeaseQuestion } from '../../../shared/place/share-ledger.ts'
import type { ShareQuota } from '../../../shared/place/slot-line.ts'
import { MemoryCoordination } from '../../support/memory-coordination.ts'

const A = '111111111111'
const LEASE_MS = 60_000
const QUOTA: ShareQuota = { slots: 4, of: () => 4 }

const question = (lessee: string, number: number, changes: Partial<LeaseQuestion> = {}): LeaseQuestion => ({ lessee, life: 1, pool: null, number, held: 0, inUse: 0, need: 0, spare: 0, leaseMs: LEASE_MS, ...changes })

function ask(manager: ShareManager, asked: LeaseQuestion): Promise<ShareAnswer> {
  return new Promise((resolve) => manager.ask(A, 0, asked, () => QUOTA, resolve))
}

const makeDocuments = (): Promise<Documents> => new MemoryCoordination().documents(SHARES_BUCKET)
const open = (documents: Documents, clock: ManualClock, group: ManagerGroup | null = null): Promise<ShareManager> => ShareManager.open({ documents, group, unrecorded: group === null ? 'self' : null, clock, log: silentLog })

function member(self: string, alive: Set<string>): ManagerGroup {
  return { self, holds: () => alive.has(self), isAlive: (id) => alive.has(id), isElsewhere: (id) => id.split('/')[0] !== self.split('/')[0], isFormerSelf: () => false }
}

t.test('a grant that could not be stored is not given, and what is there is read again', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const manager = await open(documents, clock)
  t.match(await ask(manager, question('a', 1, { need: 1 })), { slots: 1 })
  const update = documents.update.bind(documents)
  documents.update = () => Promise.reject(new CodedError('ERR_COORDINATION_UNREACHABLE', ['test']))
  t.equal(await ask(manager, question('b', 1, { need: 3 })), null)
  documents.update = update
  await new Promise((resolve) => setImmediate(resolve))
  t.match(await ask(manager, question('b', 2, { need: 4 })), { slots: 3 }, 'one is with the first lessee still')
  manager.close()
})

t.test('what was granted before a restart counts for a whole lease from then on', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const before = await open(documents, clock)
  t.match(await ask(before, question('pop:p', 1, { need: 3 })), { slots: 3 })
  before.close()
  const after = await open(documents, clock)
  t.match(await ask(after, question('self', 1, { need: 4 })), { slots: 1 })
  clock.advance(LEASE_MS + LEASE_GRACE_MS - 1)
  t.match(await ask(after, question('self', 2, { held: 1, inUse: 1, need: 3 })), { slots: 1 })
  clock.advance(1)
  t.match(await ask(after, question('self', 3, { held: 1, inUse: 1, need: 3 })), { slots: 4 })
  after.close()
})

t.test('a lessee that has come back has nothing of what it held, asked for or not', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const manager = await open(documents, clock)
  await ask(manager, question('pop:p', 1, { need: 4 }))
  manager.begin('pop:p', 2)
  t.match(await ask(manager, question('self', 1, { need: 4 })), { slots: 4 })
  manager.close()
})

t.test('of two managers one answers for a share; the other one when the first is no member any more', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const alive = new Set(['eu/one', 'eu/two'])
  const [one, two] = [await open(documents, clock, member('eu/one', alive)), await open(documents, clock, member('eu/two', alive))]
  t.match(await ask(one, question('a', 1, { need: 3 })), { slots: 3 })
  t.equal(await ask(two, question('b', 1, { need: 1 })), null)
  alive.delete('eu/one')
  t.equal(await ask(one, question('a', 2, { held: 3, inUse: 3 })), null, 'its membership is lost')
  t.match(await ask(two, question('b', 2, { need: 4 })), { slots: 1 }, 'what was granted before is respected')
  alive.add('eu/one')
  t.equal(await ask(one, question('c', 1, { need: 1 })), null, 'its next write finds the other one')
  t.equal(await ask(one, question('c', 2, { need: 1 })), null)
  t.equal(one.counts.conflicts, 1)
  one.close()
  two.close()
})

t.test('a share that a node of another region counts is that region\'s, and is said to be', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const alive = new Set(['eu/one', 'us/one'])
  const [here, there] = [await open(documents, clock, member('eu/one', alive)), await open(documents, clock, member('us/one', alive))]
  t.match(await ask(here, question('a', 1, { need: 1 })), { slots: 1 })
  t.equal(await ask(there, question('b', 1, { need: 1 })), 'elsewhere')
  t.match(await ask(here, question('a', 2)), { slots: 0 }, 'given back')
  clock.advance(10_000)
  await new Promise((resolve) => setImmediate(resolve))
  t.match(await ask(there, question('b', 2, { need: 1 })), { slots: 1 }, 'free for the next one')
  here.close()
  there.close()
})

t.test('a share that was let go of is the next one\'s at once, with its leases', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const alive = new Set(['eu/one', 'eu/two'])
  const [one, two] = [await open(documents, clock, member('eu/one', alive)), await open(documents, clock, member('eu/two', alive))]
  await ask(one, question('a', 1, { need: 3 }))
  one.release(() => false)
  await new Promise((resolve) => setImmediate(resolve))
  t.match(await ask(two, question('a', 2, { held: 3, inUse: 3, need: 2 })), { slots: 4 })
  t.equal(await ask(one, question('b', 1, { need: 1 })), null)
  one.close()
  two.close()
})

t.test('a manager that resigns leaves what others hold, and nothing of what was given back', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const alive = new Set(['eu/one', 'us/one'])
  const [here, there] = [await open(documents, clock, member('eu/one', alive)), await open(documents, clock, member('us/one', alive))]
  t.match(await ask(here, question('node', 1, { need: 3 })), { slots: 3 })
  t.match(await ask(here, question('pop:p', 1, { need: 1 })), { slots: 1 })
  t.match(await ask(here, question('node', 2)), { slots: 0 })
  await here.resign()
  t.equal(await ask(here, question('node', 3, { need: 1 })), null)
  t.match(await ask(there, question('other', 1, { need: 4 })), { slots: 3 }, 'though the first is a member still')
  here.close()
  there.close()
})

t.test('what nobody holds is forgotten, also in the store', async (t) => {
  const documents = await makeDocuments()
  const clock = new ManualClock()
  const manager = await open(documents, clock)
  await ask(manager, question('a', 1, { need: 2 }))
  await ask(manager, question('a', 2))
  for (let round = 0; round < 3; round++) {
    clock.advance(10_000)
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(manager.count, 0)
  t.equal(await documents.get(`${A}/0`), null)
  t.match(await ask(manager, question('a', 3, { need: 4 })), { slots: 4 })
  manager.close()
})
