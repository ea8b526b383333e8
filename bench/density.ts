/**
 * Memory of one more ready function: slope of resident memory over many copies of one Hono application that differ in a
 * constant. Equal pages are held once at a POP, so copies that also differ in size, and so in where everything lies in
 * memory, are measured beside it.
 */
import { atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { residentBytes } from './harness/proc.ts'
import { at, slope } from './harness/stats.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'
import { startWorkerd } from './servers/workerd.ts'
import { urlOf, type Target } from './servers/server.ts'

/** More than enough for all of them; what counts is what is really resident. */
const MEMORY_MIB = 4_096

type Point = readonly [functions: number, bytes: number]

export const density: Benchmark = {
  name: 'density',
  needs: ['peers', 'linux'],
  figures: [{ key: 'density-vs-workerd', what: 'memory of one more ready function (Hono app, slope over 1,000), against one more workerd isolate', bar: atMost(1 / 3, 'x') }],
  async run(context) {
    const isolates = await workerdPoints(context, context.quick ? [1, 3] : [10, 40, 70, 100])
    const functions = await outpostPoints(context, context.quick ? [1, 3] : [100, 350, 600, 850, 1_100], (index) => fixture('hono-app', index))
    const unlike = await outpostPoints(context, context.quick ? [1, 2] : [50, 100, 150, 200], unlikeCopy)
    const isolateKib = slope(isolates) / 1024
    const functionKib = slope(functions) / 1024
    return [{
      key: 'density-vs-workerd', value: functionKib / isolateKib, rounds: [],
      detail: { functionKib, isolateKib, functions: at(functions, functions.length - 1)[0], unlikeFunctionKib: slope(unlike) / 1024 },
      note: 'copies differ in a constant; the unlike ones also in size',
    }]
  },
}

/** A fresh process per count: an isolate that served a request stays. */
async function workerdPoints(context: BenchmarkContext, counts: readonly number[]): Promise<Point[]> {
  const points: Point[] = []
  for (const count of counts) {
    context.progress(`workerd with ${count} isolates`)
    const server = await startWorkerd(context.scope, Array.from({ length: count }, (_, index) => fixture('hono-app', index)), { router: true })
    for (let index = 0; index < count; index++) await callHono(server.target(`/${index}/api/users/7`), index)
    await settle(context)
    points.push([count, residentBytes(server.pids)])
    await server.stop()
  }
  return points
}

/** Text of another length at the start moves what comes after it. */
function unlikeCopy(index: number): string {
  return `globalThis.catalogue = Array.from({ length: ${(index * 97) % 499} }, (_, entry) => 'entry ' + entry)\n${fixture('hono-app', index)}`
}

async function outpostPoints(context: BenchmarkContext, counts: readonly number[], sourceOf: (index: number) => string): Promise<Point[]> {
  const outpost = await context.startOutpost(context.scope, { ...OUTPOST_DEFAULTS, popMemoryMib: MEMORY_MIB })
  const points: Point[] = []
  let deployed = 0
  for (const count of counts) {
    context.progress(`Outpost with ${count} functions`)
    for (; deployed < count; deployed++) {
      const name = `hono-${deployed}`
      await outpost.deploy({ name, source: sourceOf(deployed), cpuMs: null })
      await outpost.untilHot(name, 30_000)
      const target = outpost.pop.target(name)
      await callHono({ ...target, path: `${target.path}api/users/7` }, deployed)
    }
    await settle(context)
    points.push([count, residentBytes(outpost.pop.pids)])
  }
  await outpost.stop()
  return points
}

async function callHono(target: Target, copy: number): Promise<void> {
  const response = await fetch(urlOf(target))
  const body = await response.text()
  if (response.status !== 200 || response.headers.get('x-copy') !== String(copy) || !body.startsWith('{"id":"7"')) {
    throw new Error(`${urlOf(target)} answered ${response.status} ${body.slice(0, 300)}`)
  }
}

/** Lets garbage collectors and lazy frees come to rest. */
async function settle(context: BenchmarkContext): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, context.quick ? 100 : 3_000))
}
