/**
 * What a snapshot store has to keep of real functions, with library layers and without, and what an edit changes.
 *
 * Logical bytes are the pages in which a function's image differs from the prelude's, bundled whole. Stored bytes are the
 * distinct pieces of all images, and for each piece that an image names what a manifest needs for it.
 */
import { DEFAULT_FUNCTION_LIMITS, KIB, MIB } from '../shared/limits.ts'
import { bundlePrelude } from '../shared/guest/bundle.ts'
import { warmUpPrelude } from '../shared/guest/warm-up.ts'
import { ImageArena } from '../shared/microvm/arena.ts'
import { buildImage } from '../shared/microvm/build.ts'
import type { Chunk } from '../shared/microvm/build-types.ts'
import { loadEngine } from '../shared/microvm/engine.ts'
import { LayerBuilder } from '../shared/microvm/layers.ts'
import { GROUP_BYTES } from '../shared/microvm/page-patch.ts'
import { createRuntime, type RuntimeImages } from '../shared/microvm/runtime.ts'
import { atLeast, atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { median } from './harness/stats.ts'
import { bundleCorpusFunction, corpusNames } from './store/corpus.ts'
import { deltasOf, type Encoding, type ImageDelta, logicalBytes, piecesOf, totalBytes } from './store/deltas.ts'

const ARENA_BYTES = 1024 * MIB
const WINDOWS_KIB = [4, 8, 16, 32, 64]
/** Id, key and authentication tag of a block, and its place in a manifest. */
const PIECE_OVERHEAD_BYTES = 112
const EXTRA_LINE = '\nconsole.debug("one line more")'

interface Modules {
  readonly source: string
  readonly chunks: readonly Chunk[]
  readonly ownCodeFirst: boolean
}

interface Made {
  readonly deltas: readonly ImageDelta[]
  readonly tookMs: number
}

interface Measured {
  readonly name: string
  readonly flat: Made
  readonly flatEdited: Made
  readonly layered: Made
  readonly layeredEdited: Made
  readonly layers: number
}

export const store: Benchmark = {
  name: 'store',
  needs: [],
  figures: [
    { key: 'store-logical-to-stored', what: 'corpus of npm functions: deltas over the prelude to what is stored, with layers', bar: atLeast(2, 'x') },
    { key: 'store-edit', what: 'the same: what one more line of own code changes, of the function\'s delta, all together', bar: atMost(1 / 10, 'x') },
    { key: 'store-known-layers', what: 'the same: building a function whose layers are known against building it whole, p50', bar: atMost(1, 'x') },
  ],
  async run(context) {
    const corpus = await measure(context)
    const logical = corpus.reduce((sum, { flat }) => sum + totalLogical(flat), 0)
    const ratio = (pick: (each: Measured) => Made, encoding: Encoding, windowBytes: number): number => logical / storedBytes(corpus.map(pick), encoding, windowBytes)
    const detail: Record<string, number> = { functions: corpus.length, logicalMiB: logical / MIB }
    for (const encoding of ['page', 'patch'] as const) {
      for (const kib of WINDOWS_KIB) {
        detail[`${encoding}${kib}KibLayers`] = ratio((each) => each.layered, encoding, kib * KIB)
        detail[`${encoding}${kib}KibWhole`] = ratio((each) => each.flat, encoding, kib * KIB)
      }
    }
    const split = corpus.filter(({ layers }) => layers > 0)
    const builds = split.map(({ layeredEdited, flatEdited }) => layeredEdited.tookMs / flatEdited.tookMs)
    return [
      { key: 'store-logical-to-stored', value: ratio((each) => each.layered, 'patch', GROUP_BYTES), rounds: [], detail, note: `${split.length} functions have layers` },
      {
        key: 'store-edit', value: editShare(corpus, 'layered', 'patch', GROUP_BYTES), rounds: [], note: '',
        detail: {
          whole: editShare(corpus, 'flat', 'patch', GROUP_BYTES), medianFunction: median(corpus.map((each) => editShare([each], 'layered', 'patch', GROUP_BYTES))),
          worstFunction: Math.max(...corpus.map((each) => editShare([each], 'layered', 'patch', GROUP_BYTES))),
          ...Object.fromEntries(WINDOWS_KIB.map((kib) => [`patch${kib}Kib`, editShare(corpus, 'layered', 'patch', kib * KIB)])),
          ...Object.fromEntries(WINDOWS_KIB.map((kib) => [`page${kib}Kib`, editShare(corpus, 'layered', 'page', kib * KIB)])),
        },
      },
      {
        key: 'store-known-layers', value: median(builds), rounds: [], note: 'bundling not counted',
        detail: { knownMs: median(split.map(({ layeredEdited }) => layeredEdited.tookMs)), wholeMs: median(split.map(({ flatEdited }) => flatEdited.tookMs)) },
      },
    ]
  },
}

async function measure(context: BenchmarkContext): Promise<Measured[]> {
  const arena = new ImageArena(ARENA_BYTES)
  const images = createRuntime(loadEngine(), await bundlePrelude(), arena, warmUpPrelude)
  const layers = new LayerBuilder(images, arena)
  const corpus: Measured[] = []
  const names = corpusNames()
  for (const name of context.quick ? names.filter((_name, index) => index % 10 === 0) : names) {
    context.progress(name)
    const [before, after] = [await bundleCorpusFunction(name), await bundleCorpusFunction(name, EXTRA_LINE)]
    const make = (modules: Modules): Made => build(images, arena, layers, name, modules)
    const whole = (source: string): Modules => ({ source, chunks: [], ownCodeFirst: false })
    corpus.push({
      name, flat: make(whole(before.whole)), layered: make(before.split), flatEdited: make(whole(after.whole)), layeredEdited: make(after.split),
      layers: before.split.chunks.length,
    })
  }
  return corpus
}

function build(images: RuntimeImages, arena: ImageArena, layers: LayerBuilder, name: string, modules: Modules): Made {
  const startedAtMs = performance.now()
  const result = buildImage(images, arena, {
    ...modules, fileName: `${name}.js`, handlerExport: null, vars: {}, secrets: {}, prime: null, account: 'bench', functionName: name, version: '1', arn: `arn:bench:${name}`,
    limits: DEFAULT_FUNCTION_LIMITS,
  }, layers)
  const tookMs = performance.now() - startedAtMs
  if (result.kind === 'refused') throw new Error(`${name} was refused: ${result.error.code} ${result.error.params.join(' ')}`)
  return { deltas: deltasOf(result.images), tookMs }
}

function totalLogical({ deltas }: Made): number {
  return deltas.reduce((sum, delta) => sum + logicalBytes(delta), 0)
}

function storedBytes(made: readonly Made[], encoding: Encoding, windowBytes: number): number {
  const pieces = new Map<string, Uint8Array>()
  const named = new Map<string, number>()
  for (const delta of made.flatMap(({ deltas }) => deltas)) {
    const own = piecesOf(delta, encoding, windowBytes)
    named.set(delta.imageId, own.size)
    for (const [id, piece] of own) pieces.set(id, piece)
  }
  return totalBytes(pieces.values()) + [...named.values()].reduce((sum, count) => sum + count, 0) * PIECE_OVERHEAD_BYTES
}

/** Bytes of pieces that the edited functions have and the ones before had not, to the functions' deltas. */
function editShare(corpus: readonly Measured[], kind: 'flat' | 'layered', encoding: Encoding, windowBytes: number): number {
  const [before, after] = kind === 'flat' ? (['flat', 'flatEdited'] as const) : (['layered', 'layeredEdited'] as const)
  let shipped = 0
  let logical = 0
  for (const each of corpus) {
    const known = new Set(each[before].deltas.flatMap((delta) => [...piecesOf(delta, encoding, windowBytes).keys()]))
    const fresh = new Map(each[after].deltas.flatMap((delta) => [...piecesOf(delta, encoding, windowBytes)].filter(([id]) => !known.has(id))))
    shipped += totalBytes(fresh.values())
    logical += totalLogical(each.flat)
  }
  return shipped / logical
}
