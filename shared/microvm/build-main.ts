/** Entry of the builder process: one build at a time, asked for by the parent over the process channel. */
import { bundlePrelude } from '../guest/bundle.ts'
import { warmUpPrelude } from '../guest/warm-up.ts'
import { toCodedError } from '../errors.ts'
import { MIB } from '../limits.ts'
import { ImageArena } from './arena.ts'
import { buildImage } from './build.ts'
import type { BuildRequest, BuildResult } from './build-types.ts'
import { loadEngine } from './engine.ts'
import { LayerBuilder } from './layers.ts'
import { createRuntime } from './runtime.ts'

/** Room for base, prelude, the layers that are kept and the candidates of one build. */
const ARENA_BYTES = 1024 * MIB

export type ToBuilder = { readonly id: number; readonly request: BuildRequest }
export type FromBuilder =
  | { readonly kind: 'ready'; readonly engineBuild: string }
  | { readonly kind: 'result'; readonly id: number; readonly result: BuildResult }

const arena = new ImageArena(ARENA_BYTES)
const images = createRuntime(loadEngine(), await bundlePrelude(), arena, warmUpPrelude)
const layers = new LayerBuilder(images, arena)
const send = (message: FromBuilder): void => void process.send?.(message)

process.on('message', ({ id, request }: ToBuilder) => {
  let result: BuildResult
  try {
    result = buildImage(images, arena, request, layers)
  } catch (error) {
    result = { kind: 'refused', error: { code: 'ERR_BUILD_FAILED', params: [toCodedError(error).message] } }
  }
  send({ kind: 'result', id, result })
})
process.on('disconnect', () => process.exit(0))
send({ kind: 'ready', engineBuild: images.runtime.engineBuild })
