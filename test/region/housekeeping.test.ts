/** What a region does for its store by the clock. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { Housekeeping } from '../../region/housekeeping.ts'
import { silentLog } from '../../shared/log.ts'
import { Repairer, Scrubber } from '../../shared/store/repair.ts'
import { Collector } from '../../shared/store/roots.ts'
import { SaltPolicy } from '../../shared/store/salts.ts'
import { ALICE, BOB, blockIds, damageBlock, failureOf, makeStore, objectOf } from '../shared/store/store-fixtures.ts'

const PERIOD_MS = 1000
const GRACE_MS = 5000

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn()
}

t.test('collects each period, goes on after a failure, mends what is found damaged, and stops for good', async (t) => {
  const made = makeStore(t, { salts: new SaltPolicy({ by: 'state', copies: 2 }) })
  const { store, clock, environment } = made
  const state = { failing: true }
  const live = (): [] => {
    if (state.failing) throw new Error('records cannot be read')
    return []
  }
  const collector = new Collector({ store, live, clock, log: silentLog, graceMs: GRACE_MS })
  const scrubber = new Scrubber({ store, clock, log: silentLog, bytesPerSecond: 1_000_000, pauseMs: 1_000_000 })
  const repairer = new Repairer({ store, log: silentLog, peer: null })
  const housekeeping = new Housekeeping({ collector, scrubber, repairer, clock, log: silentLog, gcPeriodMs: PERIOD_MS })
  for (const account of [ALICE, BOB]) await store.put(account, objectOf(['a']))
  const [damaged] = blockIds(store)
  if (damaged === undefined) throw new Error('nothing was stored')
  await damageBlock(made, damaged)
  housekeeping.start()
  clock.advance(PERIOD_MS)
  await repairer.idle()
  t.equal(failureOf(() => store.sealedBlock(damaged)), 'none', 'the scrub found it, and it was mended')
  await until(() => store.roots().readOnly === 1)
  t.equal(store.counts().objects, 2, 'a pass that failed deletes nothing')
  state.failing = false
  for (let period = 0; period < 20 && store.counts().objects > 0; period += 1) {
    clock.advance(PERIOD_MS)
    await collector.run()
    // The write that a run ends with, and the timer that it sets then.
    await environment.write({ kind: 'removes' }, () => undefined)
    await turn()
  }
  t.same(store.counts(), { objects: 0, blocks: 0, blockBytes: 0, manifestBytes: 0, logicalBytes: 0 })
  await housekeeping.stop()
  const { cycles } = collector.events
  clock.advance(PERIOD_MS * 100)
  await turn()
  t.equal(collector.events.cycles, cycles)
})
