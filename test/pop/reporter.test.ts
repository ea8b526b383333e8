import t from 'tap'
import { LINK_REPORT_BYTES } from '../../shared/limits.ts'
import { encodeValue } from '../../shared/link/codec.ts'
import type { BuildKey } from '../../shared/brand.ts'
import { CodedError } from '../../shared/errors.ts'
import { PAGE_BYTES } from '../../shared/microvm/manifest.ts'
import { Reporter } from '../../pop/reporter.ts'
import { ACCOUNT, makeBuild, makeImage, makePop, settle, type PopHarness } from './harness.ts'

const IMAGE = makeImage([1])

function reporterOf({ regions, table, versions, residency, host, clock, log }: PopHarness): Reporter {
  return new Reporter({ regions, table, versions, residency, host, clock, log, epoch: 'epoch-1', area: 'berlin' })
}

t.test('counts of a report that is lost are in the next one, those of a part that was answered too, since they are totals', async (t) => {
  const pop = makePop({ functionsMax: 20_000 })
  pop.link.connect()
  for (let index = 0; index < 10_000; index++) pop.table.get(ACCOUNT, `function-${index}-${'x'.repeat(100)}`).counts.arrivals = 1
  const reporter = reporterOf(pop)
  const report = pop.link.report.bind(pop.link)
  let parts = 0
  pop.link.report = (value) => (++parts === 2 ? Promise.reject(new CodedError('ERR_REGION_LOST')) : report(value))
  await reporter.report()
  const told = pop.link.reports.length
  t.equal(told, 1)
  await reporter.report()
  const again = pop.link.reports.slice(told)
  t.equal(again.reduce((sum, { functions }) => sum + functions.length, 0), 10_000)
  t.ok(again.every(({ sequence, functions }) => sequence === 2 && functions.every(({ arrivals }) => arrivals === 1)))
  await reporter.report()
  t.same(pop.link.reports.at(-1)?.functions, [], 'nothing has changed since')
})

t.test('each region is told by itself: one that was away hears of all that changed meanwhile', async (t) => {
  const pop = makePop({ regions: 2 })
  const [a, b] = pop.links
  a?.connect()
  const reporter = reporterOf(pop)
  pop.table.get(ACCOUNT, 'f').counts.arrivals = 1
  await reporter.report()
  pop.table.get(ACCOUNT, 'g').counts.arrivals = 2
  b?.connect()
  await reporter.report()
  t.match(a?.reports.map(({ sequence, functions }) => [sequence, ...functions.map(({ functionName }) => functionName)]), [[1, 'f'], [2, 'g']])
  t.match(b?.reports.map(({ sequence, functions }) => [sequence, ...functions.map(({ functionName }) => functionName)]), [[2, 'f', 'g']])
  t.match(a?.reports[0], { epoch: 'epoch-1', area: 'berlin' })
})

t.test('25 builds of each of 10,000 functions go in parts that fit, each held function once', async (t) => {
  const pop = makePop({ functionsMax: 20_000 })
  pop.link.connect()
  for (let index = 0; index < 10_000; index++) {
    const entry = pop.table.get(ACCOUNT, `function-${index}`)
    const build = makeBuild(`function-${index}`, IMAGE)
    for (let number = 0; number < 25; number++) entry.resident.set(`${ACCOUNT}/function-${index}@${String(number).padStart(32, '0')}` as BuildKey, { build, bytes: 1 })
    entry.counts.arrivals = 1
  }
  await reporterOf(pop).report()
  const { reports } = pop.link
  t.ok(reports.length > 1)
  t.ok(reports.every((report) => encodeValue(report).length <= LINK_REPORT_BYTES * 1.1), reports.map((report) => encodeValue(report).length).join(' '))
  t.same(new Set(reports.map(({ sequence, parts }) => `${sequence} of ${parts}`)), new Set([`1 of ${reports.length}`]))
  t.same(reports.map(({ part }) => part), reports.map((_, index) => index))
  t.equal(new Set(reports.flatMap(({ held }) => held.map(({ functionName }) => functionName))).size, 10_000)
  t.equal(reports.reduce((sum, { held }) => sum + held.length, 0), 10_000)
  t.ok(reports.every(({ held }) => held.every(({ builds }) => builds.length === 25)))
})

t.test('with nothing to tell there is one report, and a deletion that was lost is heard with the next one', async (t) => {
  const pop = makePop({ admitCount: 1 })
  pop.link.deploy(makeBuild('hello', IMAGE), [IMAGE])
  pop.link.connect()
  const reporter = reporterOf(pop)
  await reporter.report()
  t.match(pop.link.reports, [{ sequence: 1, part: 0, parts: 1, functions: [], held: [] }])
  await pop.call('hello')
  await pop.call('hello')
  t.equal((await pop.call('hello')).place, 'local')
  pop.link.gone.add('hello')
  await reporter.report()
  t.match(pop.link.reports.at(-1)?.held, [{ functionName: 'hello' }])
  t.equal((await pop.call('hello')).place, 'region; not-hot')
})

t.test('what a region advises is brought into spare room, leaves first, and takes nobody\u2019s place', async (t) => {
  // Room for four pages, of which advice may take three.
  const pop = makePop({ admitCount: 1, hotSetBytes: 4 * PAGE_BYTES })
  const images = ['advised', 'large', 'earned'].map((_, index) => makeImage(Array.from({ length: [2, 2, 3][index] ?? 1 }, (_page, page) => 10 * index + page + 1)))
  const [advised, large, earned] = images
  if (advised === undefined || large === undefined || earned === undefined) return
  pop.link.deploy(makeBuild('advised', advised), [advised])
  pop.link.deploy(makeBuild('large', large), [large])
  pop.link.deploy(makeBuild('earned', earned), [earned])
  pop.link.connect()
  pop.link.advice = { pull: ['advised', 'large', 'none'].map((functionName) => ({ account: ACCOUNT, functionName, cpuUs: 500 })) }
  const reporter = reporterOf(pop)
  await reporter.report()
  await settle()
  t.equal((await pop.call('advised')).place, 'local', 'its first call')
  t.equal(pop.table.find(ACCOUNT, 'advised')?.hot.member, true)
  t.equal(pop.table.find(ACCOUNT, 'large')?.hot.member, false, 'no spare room left')
  t.ok(pop.host.hasImage(advised.imageId))
  const idle = makePop({ admitCount: 1, hotSetBytes: 4 * PAGE_BYTES })
  idle.link.deploy(makeBuild('advised', advised), [advised])
  idle.link.deploy(makeBuild('earned', earned), [earned])
  idle.link.connect()
  idle.link.advice = { pull: [{ account: ACCOUNT, functionName: 'advised', cpuUs: 500 }] }
  await reporterOf(idle).report()
  await settle()
  await idle.residency.sweep()
  t.ok(idle.host.hasImage(advised.imageId), 'nobody has asked for it, and it stays for a while')
  await idle.call('earned')
  t.equal((await idle.call('earned')).place, 'local')
  t.notOk(idle.host.hasImage(advised.imageId), 'who earns a place gets it')
})

t.test('advice that nobody followed up is forgotten after ten minutes', async (t) => {
  const pop = makePop({ admitCount: 1 })
  pop.link.deploy(makeBuild('hello', IMAGE), [IMAGE])
  pop.link.connect()
  pop.link.advice = { pull: [{ account: ACCOUNT, functionName: 'hello', cpuUs: 50_000 }] }
  await reporterOf(pop).report()
  await settle()
  t.equal((await pop.call('hello')).place, 'region; heavy', 'what it takes was told along')
  const { host, clock, residency } = pop
  t.ok(host.hasImage(IMAGE.imageId))
  clock.advance(7_200_000)
  await residency.sweep()
  t.notOk(host.hasImage(IMAGE.imageId))
})
