/** The store's numbers as a scrape gives them. */
import { Registry } from 'prom-client'
import t from 'tap'
import { registerRegionMetrics } from '../../region/metrics.ts'
import { silentLog } from '../../shared/log.ts'
import { systemClock } from '../../shared/clock.ts'
import { Scrubber } from '../../shared/store/repair.ts'
import { Collector } from '../../shared/store/roots.ts'
import { ALICE, makeStore, objectOf } from '../shared/store/store-fixtures.ts'

t.test('counts of what is stored, shared, read and collected', async (t) => {
  const { store } = makeStore(t)
  const collector = new Collector({ store, live: () => [], clock: systemClock, log: silentLog, graceMs: 0 })
  const scrubber = new Scrubber({ store, clock: systemClock, log: silentLog, bytesPerSecond: 1, pauseMs: 1 })
  const registry = new Registry()
  registerRegionMetrics(registry, { store, collector, scrubber, popReports: { popCount: 3, counts: { reports: 5, replays: 1, arrivals: 9, local: 6, forwarded: 3, failed: 1, advised: 2 } } })
  const first = objectOf(['a', 'b'], '1')
  await store.put(ALICE, first)
  await store.put(ALICE, objectOf(['a', 'c'], '2'))
  store.open(ALICE, first.objectId)?.piece(0)
  const before = await registry.metrics()
  for (const line of ['region_store_objects_count 2', 'region_store_blocks_count 3', 'region_store_blocks_put_total{kind="new"} 3', 'region_store_blocks_put_total{kind="shared"} 1', 'region_store_blocks_read_total 1', 'region_store_logical_bytes 16384', 'region_store_retired_reads_total 0']) {
    t.ok(before.includes(`${line}\n`), line)
  }
  await collector.run()
  const after = await registry.metrics()
  for (const line of ['region_store_objects_count 0', 'region_store_gc_cycles_total 1', 'region_store_gc_deleted_total{kind="block"} 3']) t.ok(after.includes(`${line}\n`), line)
})
