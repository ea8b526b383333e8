/** Small functions over real npm libraries, bundled as `outpost deploy` does: bench/fixtures/corpus. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'esbuild'
import { bundleOptions } from '../../shared/cli/bundle.ts'
import { splitBundle, type SplitOptions } from '../../shared/chunks/split.ts'
import type { Chunk } from '../../shared/microvm/build-types.ts'

const FOLDER = new URL('../fixtures/corpus/', import.meta.url)
const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export interface CorpusFunction {
  readonly name: string
  /** Everything in one module. */
  readonly whole: string
  readonly split: { readonly source: string; readonly chunks: readonly Chunk[]; readonly ownCodeFirst: boolean }
}

export function corpusNames(): string[] {
  return readdirSync(FOLDER).filter((file) => file.endsWith('.js')).map((file) => file.slice(0, -3)).sort()
}

/** `extraLine` stands at the end of the function's file, as an edit would leave it. */
export async function bundleCorpusFunction(name: string, extraLine = ''): Promise<CorpusFunction> {
  const file = fileURLToPath(new URL(`${name}.js`, FOLDER))
  const contents = `${readFileSync(file, 'utf8')}${extraLine}\n`
  const options: SplitOptions = { ...bundleOptions(file, ROOT), sourcemap: false }
  const edited: Plugin = {
    name: 'edited',
    setup: (builder) => builder.onLoad({ filter: /\/corpus\/[^/]+\.js$/ }, ({ path }) => (path === file ? { contents, loader: 'js', resolveDir: dirname(file) } : undefined)),
  }
  const whole = await build({ ...options, plugins: [edited] })
  const split = await splitBundle({
    folder: ROOT, plain: whole.metafile, inseparable: new Set(),
    run: (more) => build({ ...options, ...more, plugins: [...more.plugins, edited] }),
    versionOf: (folder) => Promise.resolve((JSON.parse(readFileSync(`${ROOT}${folder}/package.json`, 'utf8')) as { version: string }).version),
  })
  const source = whole.outputFiles[0]?.text ?? ''
  return { name, whole: source, split: split === null ? { source, chunks: [], ownCodeFirst: false } : { source: Buffer.from(split.code).toString(), chunks: split.chunks, ownCodeFirst: split.ownCodeFirst } }
}
