/** Time inside the guest of the two smallest useful handlers, each call from the function's image; reset excluded. */
import { EngineLab, expectAnswer, jsonRequest, TEXT_REQUEST, type LabExecutor, type LabFunction } from './engine/lab.ts'
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { alternate, median, percentile } from './harness/stats.ts'

export const guestTime: Benchmark = {
  name: 'guest-time',
  needs: [],
  figures: [
    { key: 'guest-text-p50', what: 'guest time of a text fetch handler, reset excluded, p50', bar: atMost(10, 'us') },
    { key: 'guest-json-p50', what: 'guest time of a JSON fetch handler, reset excluded, p50', bar: atMost(16, 'us') },
  ],
  async run(context) {
    const lab = await EngineLab.create()
    const functions = { text: lab.build('text-fetch', fixture('text-fetch')), json: lab.build('json-fetch', fixture('json-fetch')) }
    const executor = lab.executor(2)
    const calls = context.quick ? 50 : 5_000
    for (const name of ['text', 'json'] as const) measure[name](executor, functions[name], context.quick ? 10 : 3_000)
    const results = await alternate(['text', 'json'] as const, context.rounds, (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      return measure[name](executor, functions[name], calls)
    })
    executor.verify(4)
    return (['text', 'json'] as const).map((name) => {
      const p50 = results[name].map((result) => percentile(result.guestUs, 50))
      return {
        key: `guest-${name}-p50`, value: median(p50), rounds: p50,
        detail: { p99Us: median(results[name].map((result) => percentile(result.guestUs, 99))), dirtyPages: results[name].at(-1)?.dirtyPages ?? 0, calls },
        note: functions[name].primeNote,
      }
    })
  },
}

interface Calls {
  readonly guestUs: readonly number[]
  readonly dirtyPages: number
}

const measure: Record<'text' | 'json', (executor: LabExecutor, target: LabFunction, calls: number) => Calls> = {
  text(executor, target, calls) {
    const guestUs: number[] = []
    let dirtyPages = 0
    for (let call = 0; call < calls; call++) {
      const answer = executor.call(target, TEXT_REQUEST)
      expectAnswer(answer, 200, 'hello')
      guestUs.push(answer.guestUs)
      dirtyPages = answer.dirtyPages
    }
    return { guestUs, dirtyPages }
  },
  json(executor, target, calls) {
    const guestUs: number[] = []
    let dirtyPages = 0
    for (let call = 1; call <= calls; call++) {
      const { request, answer: right } = jsonRequest(call)
      const answer = executor.call(target, request)
      expectAnswer(answer, 200, right)
      guestUs.push(answer.guestUs)
      dirtyPages = answer.dirtyPages
    }
    return { guestUs, dirtyPages }
  },
}
