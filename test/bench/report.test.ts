import t from 'tap'
import { atLeast, atMost, isMet } from '../../bench/harness/benchmark.ts'
import type { Environment } from '../../bench/harness/environment.ts'
import { barText, table, toJson, toText, valueText, verdict, type Results, type Row } from '../../bench/harness/report.ts'

const environment: Environment = {
  date: '2026-01-02T03:04:05.000Z', machine: '2 x Processor', kernel: 'linux', loadBefore: 0, node: 'v22', commit: 'abc', engine: 'quickjs-wasi 1', peers: 'workerd 1',
  generator: 'wrk', notMeasured: ['the weather'],
}

function row(key: string, value: number | null, bar = atLeast(2, 'x')): Row {
  return { benchmark: 'some', figure: { key, what: `what ${key} is`, bar }, measurement: { key, value, rounds: [1, 2], detail: { perS: 5 }, note: '' }, note: '' }
}

const unmeasured: Row = { benchmark: 'other', figure: { key: 'z', what: 'what z is', bar: atMost(1 / 12, 'x') }, measurement: null, note: 'needs the Debian package wrk' }

void t.test('a bar is met at its very value', (t) => {
  t.equal(isMet(atLeast(2.5, 'x'), 2.5), true)
  t.equal(isMet(atLeast(2.5, 'x'), 2.49), false)
  t.equal(isMet(atMost(5, 'us'), 5), true)
  t.equal(isMet(atMost(5, 'us'), 5.01), false)
  t.end()
})

void t.test('bars and values read as in the specification', (t) => {
  t.equal(barText(atLeast(2.5, 'x')), '>= 2.5x')
  t.equal(barText(atLeast(0.22, 'x')), '>= 0.22x')
  t.equal(barText(atMost(1 / 12, 'x')), '<= 1/12')
  t.equal(barText(atMost(0.5, 'x')), '<= 1/2')
  t.equal(barText(atMost(250, 'us')), '<= 250 us')
  t.equal(barText(atMost(0, 'errors')), '<= 0 errors')
  t.equal(valueText(0.0034, 'x'), '0.0034x')
  t.equal(valueText(1234.5, 'us'), '1235 us')
  t.equal(valueText(20, 'us'), '20 us')
  t.end()
})

void t.test('what was not measured, and a quick run, gets no verdict', (t) => {
  t.equal(verdict(row('a', 3), false), 'yes')
  t.equal(verdict(row('a', 1), false), 'NO')
  t.equal(verdict(row('a', 1), true), '-')
  t.equal(verdict(row('a', null), false), '-')
  t.equal(verdict(unmeasured, false), '-')
  t.end()
})

void t.test('columns of a table line up', (t) => {
  const lines = table(['a', 'long title'], [['wide cell', 'b']])
  t.equal(new Set(lines.map((line) => line.length)).size, 1)
  t.end()
})

void t.test('the results say where, with what, what is missing and why', (t) => {
  const results: Results = { environment, quick: false, rounds: 5, rows: [row('a', 3), row('b', 1), unmeasured], failures: [{ benchmark: 'bad', reason: 'a wrong answer' }] }
  const text = toText(results)
  for (const part of ['commit abc', '2 x Processor', 'Node v22', 'workerd 1', 'median of 5 rounds', 'the weather', 'needs the Debian package wrk', 'FAILED bad: a wrong answer']) {
    t.match(text, part)
  }
  t.match(text, '1 met, 1 missed, 1 without verdict, 1 failed')
  const json = JSON.parse(toJson(results)) as { figures: { key: string; value: number | null; met: boolean | null; note: string }[]; environment: Environment }
  t.same(json.figures.map(({ key, value, met }) => [key, value, met]), [['a', 3, true], ['b', 1, false], ['z', null, null]])
  t.equal(json.figures[2]?.note, 'needs the Debian package wrk')
  t.same(json.environment, environment)
  t.end()
})
