/** A benchmark of an Outpost that answers wrongly gives no figure. A stub plays the broken Outpost. */
import t from 'tap'
import { httpEvent } from '../../bench/http-event.ts'
import { httpJson } from '../../bench/http-json.ts'
import { noisyNeighbour } from '../../bench/noisy-neighbour.ts'
import { zipf } from '../../bench/zipf.ts'
import { quickly, whySkip } from './quick.ts'
import { stubOutpost } from './stub-outpost.ts'

void t.test('an Outpost that answers rightly passes', { skip: whySkip(httpEvent) }, async (t) => {
  const { rows, failures } = await quickly(httpEvent, stubOutpost('none'))
  t.same(failures, [])
  t.ok((rows[0]?.measurement?.value ?? 0) > 0)
})

void t.test('state that outlives a request breaks a benchmark', { skip: whySkip(httpEvent) }, async (t) => {
  const { rows, failures } = await quickly(httpEvent, stubOutpost('leaks-state'))
  t.match(failures[0]?.reason, /wrong \d+/)
  t.ok(rows.every((row) => row.measurement === null))
})

void t.test('an answer to another request breaks a benchmark', { skip: whySkip(httpJson) }, async (t) => {
  t.match((await quickly(httpJson, stubOutpost('mixes-up'))).failures[0]?.reason, /wrong \d+/)
})

void t.test('an error status breaks a benchmark, or is what it counts', { skip: whySkip(noisyNeighbour) }, async (t) => {
  t.match((await quickly(noisyNeighbour, stubOutpost('fails'))).failures[0]?.reason, /requests failed; first: 500/)
  const { rows } = await quickly(zipf, stubOutpost('fails'))
  t.equal(rows[0]?.measurement?.value, 20)
})
