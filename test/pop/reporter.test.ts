import t from 'tap'
import { LINK_REPORT_BYTES } from '../../shared/limits.ts'
import { encodeValue } from '../../shared/link/codec.ts'
import type { BuildKey } from '../../shared/brand.ts'
import { CodedError } from '../../shared/errors.ts'
import { Reporter } from '../../pop/reporter.ts'
import { ACCOUNT, makeBuild, makeImage, makePop, type PopHarness } from './harness.ts'

const IMAGE = makeImage([1])

function reporterOf({ link, table, versions, host, clock, log }: PopHarness): Reporter {
  return new Reporter({ link, table, versions, host, clock, log })
}

t.test('counts are kept until the region has them, part by part', async (t) => {
  const pop = makePop({ functionsMax: 20_000 })
  pop.link.connect()
  for (let index = 0; index < 10_000; index++) pop.table.get(ACCOUNT, `function-${index}-${'x'.repeat(100)}`).counts.arrivals = 1
  const reporter = reporterOf(pop)
  const report = pop.link.report.bind(pop.link)
  let parts = 0
  pop.link.report = (value) => (++parts === 2 ? Promise.reject(new CodedError('ERR_REGION_LOST')) : report(value))
  await reporter.report()
  const told = pop.link.reports[0]?.functions.length ?? 0
  t.ok(told > 0 && told < 10_000)
  t.equal([...pop.table.all()].filter(({ counts }) => counts.arrivals > 0).length, 10_000 - told, 'those of the part that was lost, and of the parts after it')
  await reporter.report()
  t.equal(pop.link.reports.reduce((sum, { functions }) => sum + functions.length, 0), 10_000)
  t.equal([...pop.table.all()].filter(({ counts }) => counts.arrivals > 0).length, 0)
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

t.test('with nothing to tell there is one report, and a lost change is heard with the next one', async (t) => {
  const pop = makePop({ admitCount: 1 })
  pop.link.deploy(makeBuild('hello', IMAGE), [IMAGE])
  pop.link.connect()
  const reporter = reporterOf(pop)
  await reporter.report()
  t.match(pop.link.reports, [{ sequence: 1, part: 0, parts: 1, functions: [], held: [] }])
  await pop.call('hello')
  await pop.call('hello')
  t.equal((await pop.call('hello')).place, 'local')
  pop.link.snapshotAnswer = [{ account: ACCOUNT, functionName: 'hello', seq: 9, builds: [] }]
  await reporter.report()
  t.equal((await pop.call('hello')).place, 'region; not-hot')
})
