/** What it costs to undo: resetting a slot that has a number of dirty pages, and for comparison copying the whole memory back. */
import { EngineLab } from './engine/lab.ts'
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { alternate, at, median, percentile } from './harness/stats.ts'
import { PAGE_BYTES } from '../shared/microvm/manifest.ts'
import { Slot } from '../shared/microvm/slot.ts'
import { seededRandom, type Random } from '../shared/random.ts'

const DIRTY_PAGES = [32, 128, 512] as const
/** Bytes changed in each dirty page: what a request writes is spread over a few cache lines. */
const WRITTEN_BYTES = 256
const FULL_COPY = 'copy'

export const resetCost: Benchmark = {
  name: 'reset-cost',
  needs: [],
  figures: [
    { key: 'reset-32-p50', what: 'reset at 32 dirty pages, p50', bar: atMost(5, 'us') },
    { key: 'reset-128-p50', what: 'reset at 128 dirty pages, p50', bar: atMost(20, 'us') },
    { key: 'reset-512-p50', what: 'reset at 512 dirty pages, p50', bar: atMost(80, 'us') },
    { key: 'reset-32-vs-copy', what: 'reset at 32 dirty pages as a share of a plain full-memory copy', bar: atMost(1 / 12, 'x') },
  ],
  async run(context) {
    const lab = await EngineLab.create()
    const { image } = lab.build('hono-app', fixture('hono-app'))
    const { engine, arena, bases } = lab.images.runtime
    const refuse = (): never => {
      throw new Error('no guest runs in this benchmark')
    }
    const slot = new Slot(engine, arena, bases, image, { hostCall: refuse, refuel: refuse, interrupt: refuse, promiseRejection: refuse, clock: refuse, random: refuse })
    const filled = filledPages(slot.bytes)
    // What a plain snapshot holds: everything up to the last page that is not zero.
    const snapshot = slot.bytes.slice(0, ((filled.at(-1) ?? 0) + 1) * PAGE_BYTES)

    const repeats = context.quick ? 20 : 2_000
    const resetUs = (count: number, round: number): number => {
      const random = seededRandom(round * 1000 + count)
      const times: number[] = []
      // Requests to one function dirty mostly the same pages, so each round has one set.
      const pages = choose(filled, slot.physicalBytes / PAGE_BYTES, count, random)
      for (let repeat = 0; repeat < repeats; repeat++) {
        for (const page of pages) {
          const from = page * PAGE_BYTES + random.below(PAGE_BYTES - WRITTEN_BYTES)
          slot.markWrite(from, WRITTEN_BYTES)
          slot.bytes.fill(0xa5, from, from + WRITTEN_BYTES)
        }
        const startedAtMs = performance.now()
        const restored = slot.reset()
        times.push((performance.now() - startedAtMs) * 1000)
        if (restored !== count) throw new Error(`${restored} pages were restored instead of ${count}`)
        if (repeat % 100 === 0) assertClean(slot)
      }
      assertClean(slot)
      return percentile(times, 50)
    }
    const copyUs = (): number => {
      const times: number[] = []
      for (let repeat = 0; repeat < repeats / 4; repeat++) {
        const memory = slot.bytes
        const startedAtMs = performance.now()
        memory.set(snapshot)
        times.push((performance.now() - startedAtMs) * 1000)
      }
      return percentile(times, 50)
    }

    const variants = ['32', '128', '512', FULL_COPY] as const
    const measure = (name: (typeof variants)[number], round: number): number => (name === FULL_COPY ? copyUs() : resetUs(Number(name), round))
    for (const name of variants) measure(name, 99)
    const results = await alternate(variants, context.rounds, (name, round) => measure(name, round))
    const shares = results['32'].map((us, round) => us / at(results.copy, round))
    return [
      ...DIRTY_PAGES.map((count) => {
        const rounds = results[`${count}`]
        return { key: `reset-${count}-p50`, value: median(rounds), rounds, detail: { repeats }, note: `${WRITTEN_BYTES} bytes written in each page` }
      }),
      {
        key: 'reset-32-vs-copy', value: median(shares), rounds: shares,
        detail: { copyUs: median(results.copy), copiedMib: snapshot.length / 2 ** 20, memoryMib: slot.physicalBytes / 2 ** 20 }, note: '',
      },
    ]
  },
}

function filledPages(bytes: Uint8Array): number[] {
  const pages: number[] = []
  for (let page = 0; page * PAGE_BYTES < bytes.length; page++) {
    if (bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES).some((byte) => byte !== 0)) pages.push(page)
  }
  return pages
}

/** Different pages: half of the image's at most, the others anywhere, as a growing heap would take them. */
function choose(filled: readonly number[], pageCount: number, wanted: number, random: Random): Set<number> {
  if (wanted > pageCount * 0.9) throw new Error(`a memory of ${pageCount} pages is too small to dirty ${wanted}`)
  const chosen = new Set<number>()
  while (chosen.size < Math.min(wanted, filled.length / 2)) chosen.add(at(filled, random.below(filled.length)))
  while (chosen.size < wanted) chosen.add(random.below(pageCount))
  return chosen
}

function assertClean(slot: Slot): void {
  const difference = slot.verify()
  if (difference !== null) throw new Error(`the reset slot differs from its image: ${difference.what}`)
}
