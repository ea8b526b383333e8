/** What goes into the image builder and what comes out. The builder is a process of its own; see build.ts. */
import type { BlockId } from './manifest.ts'
import type { CodedErrorData } from '../errors.ts'
import type { FunctionLimits } from '../limits.ts'
import type { HandlerKind } from '../worker/types.ts'
import type { ImageId } from '../brand.ts'

export interface BuildRequest {
  /** One ES module: the function's whole bundle, self-contained. */
  readonly source: string
  /** Shown in stack traces instead of any path. */
  readonly fileName: string
  /** Export to use, from Lambda's `Handler` (`index.handler` gives `handler`); null: `default.fetch`, else `handler`. */
  readonly handlerExport: string | null
  readonly vars: Readonly<Record<string, string>>
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
      /** What the publish report says: whether priming was kept and why not, warnings with their line. */
      readonly report: { readonly primed: boolean; readonly primeNote: string; readonly warnings: readonly string[]; readonly buildMs: number; readonly pages: number }
    }
  | { readonly kind: 'refused'; readonly error: CodedErrorData }

export interface ImageBuilder {
  /** Never rejects for a fault of the bundle: that is `refused`. Rejects with ERR_BUILD_FAILED for a fault of the builder. */
  build(request: BuildRequest): Promise<BuildResult>
  close(): Promise<void>
}
