/** Runs benchmarks one after another, each in a scope of its own, and collects their rows. One that breaks does not stop the rest. */
import { NotMeasurable, type Benchmark, type BenchmarkContext, type Need } from './benchmark.ts'
import type { Row } from './report.ts'
import { Scope } from './scope.ts'
import type { StartOutpost } from '../servers/outpost.ts'
import { workerdBinary } from '../servers/workerd.ts'
import { hasWrk } from '../load/wrk.ts'

export interface RunOptions {
  readonly rounds: number
  readonly quick: boolean
  readonly startOutpost: StartOutpost
  readonly progress: (line: string) => void
  readonly plot: (name: string, svg: string) => void
  /** Told of the scope of the benchmark that runs, so that an interrupted process can clean up. */
  readonly scopeChanged: (scope: Scope) => void
}

export interface RunResult {
  readonly rows: readonly Row[]
  readonly failures: readonly { readonly benchmark: string; readonly reason: string }[]
}

export async function runAll(benchmarks: readonly Benchmark[], options: RunOptions): Promise<RunResult> {
  const rows: Row[] = []
  const failures: { benchmark: string; reason: string }[] = []
  for (const benchmark of benchmarks) {
    const result = await runOne(benchmark, options)
    rows.push(...result.rows)
    if (result.failure !== null) failures.push({ benchmark: benchmark.name, reason: result.failure })
  }
  return { rows, failures }
}

async function runOne(benchmark: Benchmark, options: RunOptions): Promise<{ readonly rows: readonly Row[]; readonly failure: string | null }> {
  const without = (note: string): Row[] => benchmark.figures.map((figure) => ({ benchmark: benchmark.name, figure, measurement: null, note }))
  const missing = benchmark.needs.map(missingFor).find((reason) => reason !== null)
  if (missing !== undefined) return { rows: without(missing), failure: null }

  const scope = new Scope()
  options.scopeChanged(scope)
  const context: BenchmarkContext = {
    rounds: options.rounds,
    quick: options.quick,
    scope,
    startOutpost: options.startOutpost,
    plot: options.plot,
    progress: (line) => options.progress(`${benchmark.name}: ${line}`),
  }
  try {
    const measurements = await benchmark.run(context)
    const rows = benchmark.figures.map((figure): Row => {
      const measurement = measurements.find((each) => each.key === figure.key)
      if (measurement === undefined) throw new Error(`${benchmark.name} did not measure ${figure.key}`)
      return { benchmark: benchmark.name, figure, measurement, note: measurement.note }
    })
    return { rows, failure: null }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return { rows: without(reason.split('\n')[0] ?? reason), failure: error instanceof NotMeasurable ? null : reason }
  } finally {
    await scope.close()
  }
}

/** Why this machine lacks it, with what would help; null if it is there. */
export function missingFor(need: Need): string | null {
  switch (need) {
    case 'linux':
      return process.platform === 'linux' ? null : 'needs /proc, which only Linux has'
    case 'wrk':
      return hasWrk() ? null : 'needs the Debian package wrk'
    case 'peers':
      try {
        workerdBinary()
        return null
      } catch {
        return 'needs the npm package workerd with a binary for this platform (npm ci without --omit)'
      }
  }
}
