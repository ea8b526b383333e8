/** Far more functions than fit: 2,000 deployed, Zipf(1.0) traffic, memory at the POP for 500 of them. Every answer must be right. */
import { EngineLab } from './engine/lab.ts'
import { atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { at, slope } from './harness/stats.ts'
import { runLoadUnjudged } from './load/generator.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'

const FUNCTIONS = 2_000
const FUNCTIONS_THAT_FIT = 500
/** Functions are deployed this many at a time, so that the region's builder never waits. */
const DEPLOYS_AT_ONCE = 4
/** The least that `--memory` takes. */
const BUDGET_MIN_MIB = 64
/** A host gives half of its budget to images. */
const IMAGE_SHARE = 0.5

export const zipf: Benchmark = {
  name: 'zipf',
  needs: ['linux'],
  figures: [{ key: 'zipf-errors', what: '2,000 functions deployed, Zipf(1.0) traffic, POP memory for 500 of them: errors and wrong answers', bar: atMost(0, 'errors') }],
  async run(context) {
    const functions = context.quick ? 8 : FUNCTIONS
    const requests = context.quick ? 200 : 60_000
    const functionBytes = await imageBytes(context)
    const memoryMib = Math.max(BUDGET_MIN_MIB, Math.ceil((FUNCTIONS_THAT_FIT * functionBytes) / IMAGE_SHARE / 2 ** 20))
    const outpost = await context.startOutpost(context.scope, { ...OUTPOST_DEFAULTS, popMemoryMib: memoryMib })
    for (let deployed = 0; deployed < functions; deployed += DEPLOYS_AT_ONCE) {
      if (deployed % 100 === 0) context.progress(`${deployed} of ${functions} functions deployed`)
      await Promise.all(Array.from({ length: Math.min(DEPLOYS_AT_ONCE, functions - deployed) }, (_, offset) => {
        const index = deployed + offset
        return outpost.deploy({ name: `numbered-${index}`, source: fixture('numbered', index), cpuMs: null })
      }))
    }
    context.progress(`${requests} requests`)
    const { host, port, path } = outpost.pop.target('numbered-{}')
    const { streams: [stream] } = await runLoadUnjudged(context.scope, {
      host,
      port,
      streams: [{ label: 'zipf', plan: { kind: 'zipf', path, functions, exponent: 1 }, connections: 32, arrivals: { kind: 'closed', count: requests } }],
      warmupMs: 0,
      durationMs: 180_000,
      drainMs: 30_000,
      seed: 1_000,
    })
    if (stream === undefined) throw new Error('the generator gave no result')
    return [{
      key: 'zipf-errors', value: stream.failed, rounds: [],
      detail: {
        functions, requests: stream.sent, answered: stream.answered, memoryMib, imageKib: functionBytes / 1024,
        p50Us: stream.p50Us, p99Us: stream.p99Us, perS: (stream.answered * 1000) / stream.elapsedMs,
      },
      note: stream.firstFailure,
    }]
  },
}

/** Memory that one more of these functions takes, pages shared with the others not counted. */
async function imageBytes(context: BenchmarkContext): Promise<number> {
  context.progress('measuring the size of an image')
  const lab = await EngineLab.create()
  const sizes = Array.from({ length: context.quick ? 3 : 24 }, (_, index) => {
    // Every power of ten has its own text length and so its own layout: sample all over the range.
    lab.build(`numbered-${index}`, fixture('numbered', (index * 83) % FUNCTIONS))
    return [index, lab.arena.usedBytes] as const
  })
  return slope(sizes.slice(sizes.length > 4 ? 4 : 0).map((size, index) => [index, at(size, 1)] as const))
}
