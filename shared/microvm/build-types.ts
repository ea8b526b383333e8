/** What goes into the image builder and what comes out. The builder is a process of its own; see build.ts. */
import type { BlockId } from './manifest.ts'
import type { CodedErrorData } from '../errors.ts'
import type { FunctionLimits } from '../limits.ts'
import type { HandlerKind } from '../worker/types.ts'
import type { ImageId } from '../brand.ts'

/** A library as a module of its own, self-contained but for imports of chunks before it. */
export interface Chunk {
  /** What importers call it: `npm:NAME@VERSION#HASH`. The hash is of `source` and `sourceMap`, so no name ever stands for two contents. */
  readonly name: string
  readonly source: string
  /** JSON; absent: places in it are its own. Part of what the hash is of. */
  readonly sourceMap?: string
}

export interface BuildRequest {
  /** One ES module: the function's own code, which imports nothing but `chunks`. */
  readonly source: string
  /** JSON; null or absent: places in `source` are the user's own. One that cannot be used is a warning of the report. */
  readonly sourceMap?: string | null
  /** Evaluated before the function's code, in this order, each as an image over the one before. At most LAYERS_MAX. */
  readonly chunks: readonly Chunk[]
  /** In the order of imports some of the function's own code comes before a chunk, which then may not matter to it. */
  readonly ownCodeFirst: boolean
  /** Shown in stack traces instead of any path. */
  readonly fileName: string
  /** Export to use, from Lambda's `Handler` (`index.handler` gives `handler`); null: `default.fetch`, else `handler`. */
  readonly handlerExport: string | null
  /** Texts, or whatever JSON can hold. */
  readonly vars: Readonly<Record<string, unknown>>
  /** Names of service bindings, by index. Absent: none. */
  readonly services?: readonly string[]
  /** `http://host:port` of the server that answers for the function when it asks for that. Null or absent: none. */
  readonly origin?: string | null
  /** Values that must not be found in the image; names are offered as getters on `env`. */
  readonly secrets: Readonly<Record<string, string>>
  /** Paths of synthetic requests run before capture; null: one `GET /` for fetch handlers; empty: none. */
  readonly prime: readonly string[] | null
  readonly account: string
  readonly functionName: string
  readonly version: string
  readonly arn: string
  readonly limits: FunctionLimits
}

export interface BuiltImage {
  readonly imageId: ImageId
  readonly encodedManifest: Uint8Array
  /** Content of every block that the manifest names, by id. */
  readonly blocks: ReadonlyMap<BlockId, Uint8Array>
}

export type BuildResult =
  | {
      readonly kind: 'built'
      /** Ancestors first, the function's own image last. */
      readonly images: readonly BuiltImage[]
      readonly handlerKind: HandlerKind
      /** Names of exports that a service binding may name as its entrypoint. */
      readonly entrypoints: readonly string[]
      /** What the publish report says: whether priming was kept and why not, warnings with their line. */
      readonly report: { readonly primed: boolean; readonly primeNote: string; readonly warnings: readonly string[]; readonly buildMs: number; readonly pages: number; readonly layers: readonly string[]; readonly images: readonly ImageSize[] }
    }
  /** With `inseparable`: evaluating those chunks ahead would not be the same; bundled without them the function may be built. */
  | { readonly kind: 'refused'; readonly error: CodedErrorData; readonly inseparable?: readonly InseparableChunk[] }

/** How much of an image over the prelude's is whose. `name`: a layer's package and version, or OWN_CODE. */
export interface ImageSize {
  readonly name: string
  readonly kib: number
}

export const OWN_CODE = 'own code'

export interface InseparableChunk {
  readonly name: string
  readonly reason: string
}

export interface ImageBuilder {
  /** Never rejects for a fault of the bundle: that is `refused`. Rejects with ERR_BUILD_FAILED for a fault of the builder. */
  build(request: BuildRequest): Promise<BuildResult>
  close(): Promise<void>
}
