/**
 * An application with a real framework, started from its primed image for every request: is the first request as fast as the
 * hundredth, what does switching a slot to it cost, and what would evaluating its source each time cost?
 */
import { EngineLab, type LabFunction, type LabRequest } from './engine/lab.ts'
import { atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { alternate, median, percentile, ratios } from './harness/stats.ts'
import { BuildMachine } from '../shared/microvm/build-machine.ts'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits } from '../shared/limits.ts'

const REQUEST: LabRequest = { method: 'GET', url: 'http://localhost/api/users/7', headers: 'accept\napplication/json', body: null }
const LIMITS: FunctionLimits = { ...DEFAULT_FUNCTION_LIMITS, cpuMs: 10_000 }
const BUDGET_MS = 10_000

export const honoImage: Benchmark = {
  name: 'hono-image',
  needs: [],
  figures: [
    { key: 'hono-primed-vs-steady', what: 'Hono app, 18 routes: call from its primed image against its steady call, p50', bar: atMost(1.5, 'x') },
    { key: 'hono-reimaged-over-warm', what: 'the same: `reimaged` over `warm`, p50', bar: atMost(60, 'us') },
    { key: 'hono-image-vs-evaluating', what: 'the same: a request on a re-imaged slot against one that evaluates the source on a warmed engine', bar: atMost(1 / 50, 'x') },
  ],
  async run(context) {
    const lab = await EngineLab.create()
    const hono = lab.build('hono-app', fixture('hono-app'))
    if (!hono.isPrimed) throw new Error(`the Hono app is ${hono.primeNote}`)
    const text = lab.build('text-fetch', fixture('text-fetch'))

    const measures = {
      primed: () => callsFromImage(lab, hono, context),
      steady: () => steadyCalls(lab, hono, context),
      restored: () => restoredRequests(lab, hono, text, context),
      evaluating: () => evaluations(lab, hono, context),
    }
    for (const measure of Object.values(measures)) measure()
    const restored: { readonly warm: number; readonly reimaged: number }[] = []
    const results = await alternate(['primed', 'steady', 'restored', 'evaluating'] as const, context.rounds, (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      if (name !== 'restored') return measures[name]()
      const both = measures.restored()
      restored.push(both)
      return both.reimaged
    })
    const primed = ratios(results.primed, results.steady)
    const warm = restored.map((both) => both.warm)
    const over = restored.map((both) => both.reimaged - both.warm)
    const share = ratios(results.restored, results.evaluating)
    return [
      { key: 'hono-primed-vs-steady', value: median(primed), rounds: primed, detail: { primedUs: median(results.primed), steadyUs: median(results.steady), imagePages: hono.pages }, note: hono.primeNote },
      { key: 'hono-reimaged-over-warm', value: median(over), rounds: over, detail: { reimagedUs: median(results.restored), warmUs: median(warm) }, note: 'whole requests, reset included' },
      { key: 'hono-image-vs-evaluating', value: median(share), rounds: share, detail: { reimagedUs: median(results.restored), evaluatingUs: median(results.evaluating) }, note: '' },
    ]
  },
}

/** p50 of the call alone, each from the restored image. */
function callsFromImage(lab: EngineLab, hono: LabFunction, context: BenchmarkContext): number {
  const machine = new BuildMachine(lab.images.runtime, LIMITS, hono.image)
  const times: number[] = []
  for (let call = 0; call < (context.quick ? 20 : 1_000); call++) {
    machine.restore(hono.image)
    times.push(timed(machine, 1))
  }
  return percentile(times, 50)
}

/** p50 of the call alone on one machine that is never reset, after its first hundred calls. */
function steadyCalls(lab: EngineLab, hono: LabFunction, context: BenchmarkContext): number {
  const machine = new BuildMachine(lab.images.runtime, LIMITS, hono.image)
  const times: number[] = []
  const warmUp = context.quick ? 10 : 100
  for (let call = 1; call <= warmUp + (context.quick ? 20 : 1_000); call++) {
    const us = timed(machine, call)
    if (call > warmUp) times.push(us)
  }
  return percentile(times, 50)
}

/** p50 of whole requests on one slot that serves another function, then this one twice: re-imaged, then warm. */
function restoredRequests(lab: EngineLab, hono: LabFunction, other: LabFunction, context: BenchmarkContext): { readonly warm: number; readonly reimaged: number } {
  const executor = lab.executor(1)
  const times: Record<'warm' | 'reimaged', number[]> = { warm: [], reimaged: [] }
  for (let call = 0; call < (context.quick ? 20 : 1_000); call++) {
    executor.call(other, REQUEST)
    for (const kind of ['reimaged', 'warm'] as const) {
      const startedAtMs = performance.now()
      const answer = executor.call(hono, REQUEST)
      times[kind].push((performance.now() - startedAtMs) * 1000)
      if (answer.status !== 200 || answer.body !== '{"id":"7","n":1}') throw new Error(`wrong answer ${answer.status} ${answer.body}`)
      if (answer.startKind !== kind) throw new Error(`the slot was ${answer.startKind}, not ${kind}`)
    }
  }
  executor.verify(1)
  return { warm: percentile(times.warm, 50), reimaged: percentile(times.reimaged, 50) }
}

/** p50 of compiling and evaluating the source in a machine that holds only the prelude, and one call. */
function evaluations(lab: EngineLab, hono: LabFunction, context: BenchmarkContext): number {
  const { prelude } = lab.images.runtime
  const machine = new BuildMachine(lab.images.runtime, LIMITS)
  const times: number[] = []
  for (let call = 0; call < (context.quick ? 2 : 20); call++) {
    machine.restore(prelude)
    const startedAtMs = performance.now()
    evaluate(lab, machine, hono.source)
    timed(machine, 1)
    times.push((performance.now() - startedAtMs) * 1000)
  }
  return percentile(times, 50)
}

function evaluate(lab: EngineLab, machine: BuildMachine, source: string): void {
  const { configure, load } = lab.images.runtime.entries
  const { binding, call } = machine
  const configuration = { vars: {}, secretNames: [], functionName: 'hono-app', version: '1', memoryMib: 128, accountId: 'bench', arn: 'arn:bench', handlerExport: null }
  const kind = machine.within(BUDGET_MS, () => {
    binding.call(configure, [binding.newString(JSON.stringify(configuration))])
    const bytecode = machine.compile(source, 'hono-app.js')
    if (bytecode === null) return null
    const loaded = binding.call(load, [call('qjs_promise_result', machine.evaluate(bytecode))])
    machine.drainJobs()
    return binding.string(loaded)
  })
  if (kind !== 'fetch') throw new Error('the Hono app did not evaluate')
}

/** One call in the machine as it is, us. */
function timed(machine: BuildMachine, count: number): number {
  const startedAtMs = performance.now()
  const answer = machine.request(BUDGET_MS, { kind: 'http', method: REQUEST.method, url: REQUEST.url, headers: REQUEST.headers, body: null })
  const us = (performance.now() - startedAtMs) * 1000
  if (answer.problem !== null || !(answer.text ?? '').endsWith(`{"id":"7","n":${count}}`)) throw new Error(`wrong answer ${answer.problem ?? answer.text ?? 'none'}`)
  return us
}
