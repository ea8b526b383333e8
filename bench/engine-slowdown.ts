/** What tracking every store and counting fuel costs where it hurts most: two compute-heavy scripts, against the same engine without them. */
import { readFileSync } from 'node:fs'
import { ENGINE_BINARY } from '../shared/microvm/engine.ts'
import { QuickJS } from 'quickjs-wasi'
import { EngineLab, TEXT_REQUEST } from './engine/lab.ts'
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { alternate, median, ratios } from './harness/stats.ts'

const SCRIPTS = ['numbers', 'objects'] as const
/** As our engine has it: no collection during a run, in either. */
const GC_THRESHOLD_NEVER = 0x7fff_ffff

export const engineSlowdown: Benchmark = {
  name: 'engine-slowdown',
  needs: [],
  figures: SCRIPTS.map((script) => ({
    key: `engine-slowdown-${script}`,
    what: `engine with tracking and fuel against the plain engine: compute-heavy script "${script}"`,
    bar: atMost(1.35, 'x'),
  })),
  async run(context) {
    const lab = await EngineLab.create()
    const executor = lab.executor(1)
    const plainEngine = new WebAssembly.Module(readFileSync(ENGINE_BINARY))
    const measurements = []
    for (const script of SCRIPTS) {
      const source = readFileSync(new URL(`fixtures/compute-${script}.js`, import.meta.url), 'utf8')
      const tracked = lab.build(`compute-${script}`, `${source}\nexport default { fetch: () => new Response(String(work())) }`, [])
      const plain = await QuickJS.create({ wasm: plainEngine })
      plain.gcThreshold = GC_THRESHOLD_NEVER
      plain.evalCode(source).dispose()

      const answers = new Set<string>()
      const run = {
        tracked: (): number => {
          const before = threadCpuMs()
          const answer = executor.call(tracked, TEXT_REQUEST)
          const ms = threadCpuMs() - before
          answers.add(answer.body)
          return ms
        },
        plain: (): number => {
          const before = threadCpuMs()
          const result = plain.evalCode('work()')
          const ms = threadCpuMs() - before
          answers.add(result.toString())
          result.dispose()
          plain.runGC()
          return ms
        },
      }
      const repeats = context.quick ? 1 : 5
      for (let warmUp = 0; warmUp < (context.quick ? 1 : 8); warmUp++) {
        run.tracked()
        run.plain()
      }
      const results = await alternate(['tracked', 'plain'] as const, context.rounds, (name, round) => {
        context.progress(`round ${round + 1}: ${script}, ${name}`)
        return median(Array.from({ length: repeats }, run[name]))
      })
      plain.dispose()
      if (answers.size !== 1) throw new Error(`${script} gave different results: ${[...answers].join(' and ')}`)
      const values = ratios(results.tracked, results.plain)
      measurements.push({
        key: `engine-slowdown-${script}`, value: median(values), rounds: values,
        detail: { trackedCpuMs: median(results.tracked), plainCpuMs: median(results.plain) }, note: `result ${[...answers].join('')}`,
      })
    }
    return measurements
  },
}

/** CPU time, so that being descheduled on a busy machine does not count. */
function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
