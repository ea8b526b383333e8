/** Each benchmark in small, with a stub for Outpost: it runs, checks its answers, and gives every figure that it names. */
import t from 'tap'
import { BENCHMARKS } from '../../bench/all.ts'
import { missingFor, runAll } from '../../bench/harness/run.ts'
import { httpEvent } from '../../bench/http-event.ts'
import { httpJson } from '../../bench/http-json.ts'
import { noisyNeighbour } from '../../bench/noisy-neighbour.ts'
import { stubOutpost, type Fault } from './stub-outpost.ts'
import type { Benchmark } from '../../bench/harness/benchmark.ts'

function run(benchmark: Benchmark, fault: Fault = 'none'): ReturnType<typeof runAll> {
  return runAll([benchmark], { rounds: 1, quick: true, startOutpost: stubOutpost(fault), progress: (line) => t.comment(line), scopeChanged: () => undefined })
}

function whySkip(benchmark: Benchmark): string | false {
  return benchmark.needs.map(missingFor).find((reason) => reason !== null) ?? false
}

void t.test('keys of figures are unique', (t) => {
  const keys = BENCHMARKS.flatMap((benchmark) => benchmark.figures.map((figure) => figure.key))
  t.equal(new Set(keys).size, keys.length)
  t.end()
})

for (const benchmark of BENCHMARKS) {
  void t.test(`${benchmark.name} measures every figure it names`, { skip: whySkip(benchmark) }, async (t) => {
    const { rows, failures } = await run(benchmark)
    t.same(failures, [])
    t.same(rows.map((row) => row.figure.key), benchmark.figures.map((figure) => figure.key))
    for (const row of rows) t.ok(Number.isFinite(row.measurement?.value), `${row.figure.key} ${row.measurement?.value}`)
  })
}

void t.test('state that outlives a request breaks a benchmark', { skip: whySkip(httpEvent) }, async (t) => {
  const { rows, failures } = await run(httpEvent, 'leaks-state')
  t.match(failures[0]?.reason, /wrong \d+/)
  t.ok(rows.every((row) => row.measurement === null))
})

void t.test('an answer to another request breaks a benchmark', { skip: whySkip(httpJson) }, async (t) => {
  t.match((await run(httpJson, 'mixes-up')).failures[0]?.reason, /wrong \d+/)
})

void t.test('an error status breaks a benchmark', { skip: whySkip(noisyNeighbour) }, async (t) => {
  t.match((await run(noisyNeighbour, 'fails')).failures[0]?.reason, /requests failed; first: 500/)
})
