/** What a bundle is made of: bytes by package, and by file for the function's own code. */
import type { Metafile } from 'esbuild'

export interface ModuleSize {
  /** A package's name, or a file's path relative to the project. */
  readonly name: string
  readonly bytes: number
}

const PACKAGE = /^.*node_modules\/((?:@[^/]+\/)?[^/]+)\//

/** The largest first. Files that leave nothing in the output are not listed. */
export function moduleSizes({ inputs }: Pick<Metafile['outputs'][string], 'inputs'>): readonly ModuleSize[] {
  const sizes = new Map<string, number>()
  for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
    const name = PACKAGE.exec(path)?.[1] ?? path
    sizes.set(name, (sizes.get(name) ?? 0) + bytesInOutput)
  }
  return [...sizes].filter(([, bytes]) => bytes > 0).map(([name, bytes]) => ({ name, bytes })).sort((one, other) => other.bytes - one.bytes || (one.name < other.name ? -1 : 1))
}
