/** Damaged blocks are mended from other copies or another region, and found by a scrub that keeps to its rate. */
import t from 'tap'
import { silentLog } from '../../../shared/log.ts'
import { audit } from '../../../shared/store/audit.ts'
import { Repairer, Scrubber } from '../../../shared/store/repair.ts'
import { SaltPolicy } from '../../../shared/store/salts.ts'
import type { BlockSource } from '../../../shared/store/types.ts'
import { ALICE, BOB, PIECE_BYTES, blockIds, contentOf, damageBlock, failureOf, makeStore, objectOf, plainContent } from './store-fixtures.ts'

t.test('a block without another copy is not mended, and asking for it harms nothing', async (t) => {
  const made = makeStore(t)
  const { store } = made
  await store.put(ALICE, objectOf(['a']))
  const [id] = blockIds(store)
  if (id === undefined) throw new Error('nothing was stored')
  await damageBlock(made, id)
  t.notOk(await new Repairer({ store, log: silentLog, peer: null }).repair(id))
  const lies: BlockSource = { fetchBlock: () => Promise.resolve(Buffer.from('lies')) }
  t.notOk(await new Repairer({ store, log: silentLog, peer: lies }).repair(id), 'nor with what is not it')
  const broken: BlockSource = { fetchBlock: () => Promise.reject(new Error('unreachable')) }
  t.notOk(await new Repairer({ store, log: silentLog, peer: broken }).repair(id))
  t.match(failureOf(() => store.sealedBlock(id)), /^ERR_STORE_BLOCK/)
})

t.test('from another salt’s copy, whoever has it', async (t) => {
  for (const how of ['flip', 'remove'] as const) {
    for (const isolateAccounts of [false, true]) {
      const made = makeStore(t, { salts: new SaltPolicy({ by: 'state', copies: 2 }), isolateAccounts })
      const { store } = made
      const [first, second] = [objectOf(['a', 'b'], 'first'), objectOf(['a', 'b'], 'second')]
      await store.put(ALICE, first)
      await store.put(isolateAccounts ? ALICE : BOB, second)
      t.equal(blockIds(store).length, 4)
      const repairer = new Repairer({ store, log: silentLog, peer: null })
      repairer.watch()
      for (const id of blockIds(store)) {
        await damageBlock(made, id, how)
        t.match(failureOf(() => store.sealedBlock(id)), /^ERR_STORE_BLOCK/)
        await repairer.idle()
        t.equal(failureOf(() => store.sealedBlock(id)), 'none')
      }
      t.equal(store.events.blocksRepaired, 4)
      t.ok(contentOf(store.open(ALICE, first.objectId))?.equals(plainContent(first)))
      t.same(audit(store), [], how)
    }
  }
})

t.test('from another region', async (t) => {
  const [made, peer] = [makeStore(t), makeStore(t)]
  const object = objectOf(['a', 'b'])
  await made.store.put(ALICE, object)
  await peer.store.put(BOB, object)
  const repairer = new Repairer({ store: made.store, log: silentLog, peer: peer.store })
  for (const id of blockIds(made.store)) {
    await damageBlock(made, id)
    t.ok(await repairer.repair(id))
  }
  t.same(audit(made.store), [])
})

t.test('a scrub reads everything in time, no faster than it may, and what it finds is mended', async (t) => {
  const made = makeStore(t, { salts: new SaltPolicy({ by: 'state', copies: 2 }) })
  const { store, clock } = made
  for (const account of [ALICE, BOB]) await store.put(account, objectOf(Array.from({ length: 50 }, (_each, index) => `${index}`)))
  const [damaged] = blockIds(store)
  await damageBlock(made, damaged ?? '', 'remove')
  const repairer = new Repairer({ store, log: silentLog, peer: null })
  repairer.watch()
  const bytesPerSecond = 10 * PIECE_BYTES
  const scrubber = new Scrubber({ store, clock, log: silentLog, bytesPerSecond, pauseMs: 60_000 })
  scrubber.start()
  for (let second = 1; second <= 5; second += 1) {
    clock.advance(1000)
    t.ok(scrubber.events.bytes <= bytesPerSecond * second + PIECE_BYTES + 16, `${scrubber.events.bytes} bytes in ${second} s`)
  }
  t.ok(scrubber.events.bytes > bytesPerSecond * 4, 'nor much slower')
  clock.advance(10_000)
  await repairer.idle()
  t.match(scrubber.events, { passes: 1, blocks: 100, damaged: 1 })
  t.equal(store.events.blocksRepaired, 1)
  t.same(audit(store), [])
  clock.advance(80_000)
  t.match(scrubber.events, { passes: 2, damaged: 1 })
  scrubber.stop()
  clock.advance(200_000)
  t.equal(scrubber.events.passes, 2)
})
