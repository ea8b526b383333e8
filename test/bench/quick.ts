/** Runs benchmarks in small on the real Outpost: each works from end to end, checks its answers, and gives every figure that it names. */
import t from 'tap'
import type { Benchmark } from '../../bench/harness/benchmark.ts'
import { missingFor, runAll, type RunResult } from '../../bench/harness/run.ts'
import { startOutpost, type StartOutpost } from '../../bench/servers/outpost.ts'

export function quickly(benchmark: Benchmark, start: StartOutpost = startOutpost): Promise<RunResult> {
  return runAll([benchmark], { rounds: 1, quick: true, startOutpost: start, progress: (line) => t.comment(line), plot: () => undefined, scopeChanged: () => undefined })
}

export function whySkip(benchmark: Benchmark): string | false {
  return benchmark.needs.map(missingFor).find((reason) => reason !== null) ?? false
}

export function testEach(benchmarks: readonly Benchmark[]): void {
  for (const benchmark of benchmarks) {
    void t.test(`${benchmark.name} measures every figure it names`, { skip: whySkip(benchmark) }, async (t) => {
      const { rows, failures } = await quickly(benchmark)
      t.same(failures, [])
      t.same(rows.map((row) => row.figure.key), benchmark.figures.map((figure) => figure.key))
      for (const row of rows) t.ok(Number.isFinite(row.measurement?.value), `${row.figure.key} ${row.measurement?.value}`)
    })
  }
}
