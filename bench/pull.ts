/**
 * What it takes to bring a function to a POP over a line of 70 ms: round trips, counted by what depends on what, and time.
 * Real images, a region's sealed store, a POP's disk and sandboxes; between them a proxy that delays.
 */
import { buildImage } from '../shared/microvm/build.ts'
import { DEFAULT_FUNCTION_LIMITS, MIB } from '../shared/limits.ts'
import { systemClock } from '../shared/clock.ts'
import { formatMessage } from '../shared/errors.ts'
import { silentLog } from '../shared/log.ts'
import type { BuiltImage } from '../shared/microvm/build-types.ts'
import { createSandboxHost } from '../shared/worker/create-host.ts'
import { startImageLine } from '../test/support/image-line.ts'
import { EngineLab } from './engine/lab.ts'
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { median } from './harness/stats.ts'

const DELAY_MS = 35
const ACCOUNT = '000000000000'
/** What the images hold besides the app, so that there is one of about each size. */
const DATA_MIB = [1, 2, 4]

export const pull: Benchmark = {
  name: 'store-pull',
  needs: [],
  figures: [
    { key: 'pull-round-trips', what: 'pull of an image of 1 to 4 MiB at a POP over a 70 ms line: round trips, the most', bar: atMost(3, 'x') },
  ],
  async run(context) {
    const { scope } = context
    const line = await startImageLine({ defer: (undo) => scope.defer(undo), folder: () => scope.temporaryDirectory('outpost-bench-pull-') }, { delayMs: DELAY_MS })
    const host = await createSandboxHost({ workers: 1, slots: 1, memoryMib: 512, queueMax: 1, clock: systemClock, log: silentLog, egressAllowed: [], ownPorts: [] })
    scope.defer(() => host.close())
    await host.start()
    const lab = await EngineLab.create()
    const sizes = context.quick ? [1] : DATA_MIB
    const roundTrips: number[] = []
    const timesMs: number[] = []
    const detail: Record<string, number> = {}
    for (let round = 0; round < context.rounds; round++) {
      const pop = await line.pop(`pop-${round}`, scope.temporaryDirectory('outpost-bench-pop-'), host)
      for (const mib of sizes) {
        context.progress(`round ${round + 1}: ${mib} MiB`)
        // Another one each round: the host keeps what it has.
        const image = await line.publishBuilt(ACCOUNT, `app-${mib}`, build(lab, mib, round))
        line.proxy.restart()
        const startedAtMs = performance.now()
        const bytes = await pop.images.sizeOf(image)
        const outcome = await pop.images.pull(image)
        const tookMs = performance.now() - startedAtMs
        if (outcome.kind !== 'ready' || !host.hasImage(image.imageId)) throw new Error(`the image of ${mib} MiB did not come: ${outcome.kind}`)
        if (bytes < mib * MIB) throw new Error(`an image of ${bytes} bytes is not one of ${mib} MiB`)
        roundTrips.push(line.proxy.rounds)
        timesMs.push(tookMs)
        detail[`image${mib}Kib`] = Math.round(bytes / 1024)
        detail[`shipped${mib}Kib`] = Math.round(line.proxy.downBytes / 1024)
        pop.images.drop(image.imageId)
      }
      // Its pings would count as round trips of the next round's pulls: the proxy is one for all.
      await pop.close()
    }
    return [{ key: 'pull-round-trips', value: Math.max(...roundTrips), rounds: roundTrips, detail: { ...detail, medianMs: median(timesMs) }, note: 'in the time is the write to disk, when the image can run already' }]
  },
}

function build(lab: EngineLab, mib: number, round: number): readonly BuiltImage[] {
  // Numbers that do not repeat, so that no two pages are equal.
  const source = `${fixture('hono-app')}\nglobalThis.data = new Uint32Array(${(mib * MIB) / 4}).map((_, index) => Math.imul(index + ${round * 7919 + mib}, 2654435761))\n`
  const result = buildImage(lab.images, lab.arena, {
    source, chunks: [], ownCodeFirst: true, fileName: 'app.js', handlerExport: null, vars: {}, secrets: {}, prime: null, account: ACCOUNT, functionName: `app-${mib}`, version: '1', arn: 'arn:bench', limits: { ...DEFAULT_FUNCTION_LIMITS, cpuMs: 10_000 },
  })
  if (result.kind === 'refused') throw new Error(formatMessage(result.error.code, result.error.params))
  return result.images
}
