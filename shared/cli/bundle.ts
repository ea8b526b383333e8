/**
 * ES modules from a function's entry file, by esbuild: everything inside, nothing external, made for a web-like
 * runtime. The same settings in `deploy` and in `dev`, so that what ran here is what runs there.
 *
 * An import that no function can have (`node:fs`) fails the build, and esbuild then gives no metafile: the chain of
 * imports that led there comes from a second build with Node's modules left external.
 */
import { builtinModules } from 'node:module'
import { readFile } from 'node:fs/promises'
import { basename, isAbsolute, join, relative, resolve } from 'node:path'
import * as esbuild from 'esbuild'
import { settingOptions, type BundleSettings } from './bundle-settings.ts'
import { TEXT_LOADERS, VIRTUAL_NAMESPACE, virtualModules } from '../chunks/virtual-modules.ts'
import { type SplitOptions, splitBundle } from '../chunks/split.ts'
import { CodedError } from '../errors.ts'
import { BUNDLE_MAX_BYTES } from '../limits.ts'
import type { Chunk } from '../microvm/build-types.ts'
import { type Adaptation, adaptationFor } from '../node-compat/adapt.ts'
import { isStandIn, nodeModules, standIns } from '../node-compat/plugin.ts'
import { type ModuleSize, moduleSizes } from './module-sizes.ts'

export interface Bundle {
  /** The function's own code, which imports `chunks` by name. */
  readonly code: Uint8Array
  /** As in BuildRequest, like `ownCodeFirst`. */
  readonly chunks: readonly Chunk[]
  readonly ownCodeFirst: boolean
  readonly sourceMap: Uint8Array
  /** Names the module exports. */
  readonly exports: readonly string[]
  /** Absolute paths of the files it was made from, packages included. */
  readonly inputs: readonly string[]
  /** What it is made of, chunks included. */
  readonly modules: readonly ModuleSize[]
  readonly warnings: readonly string[]
  readonly tookMs: number
}

const OUTPUT = 'index.mjs'
const DEFINE: Readonly<Record<string, string>> = { 'process.env.NODE_ENV': '"production"', 'process.env': '__OUTPOST_ENV__', 'global': 'globalThis' }

export function bundleOptions(entry: string, cwd: string, source: BundleSettings = {}): SplitOptions {
  const { define, plugins, ...given } = settingOptions(source, cwd)
  return {
    absWorkingDir: cwd,
    entryPoints: [entry],
    outfile: OUTPUT,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    conditions: ['workerd', 'worker', 'browser'],
    mainFields: ['browser', 'module', 'main'],
    target: 'es2023',
    define: { ...define, ...DEFINE },
    charset: 'utf8',
    legalComments: 'none',
    // Beside the code, not at its end: a comment there would be part of what is hashed and measured.
    sourcemap: 'external',
    sourcesContent: false,
    logLevel: 'silent',
    loader: TEXT_LOADERS,
    ...given,
    plugins: [...plugins, virtualModules(), standIns(), nodeModules()],
  }
}

/** With libraries split off as chunks. Throws ERR_BUNDLE_SYNTAX, ERR_BUNDLE_IMPORT, ERR_BUNDLE_TOO_LARGE. */
export async function bundle(entry: string, cwd: string, source: BundleSettings = {}): Promise<Bundle> {
  const startedAtMs = performance.now()
  const plainOptions = bundleOptions(entry, cwd, source)
  const build = (options: SplitOptions): Promise<esbuild.BuildResult<SplitOptions>> => esbuild.build(options).catch(async (error: unknown) => {
    throw isBuildFailure(error) ? await explain(error, entry, cwd, source) : error
  })
  const plain = await build(plainOptions)
  const adaptation = await adaptationOf(plain, plainOptions)
  const options = adapted(plainOptions, adaptation)
  const whole = adaptation === null ? plain : await build(options)
  const split = adaptation?.lowered === true ? null : await splitBundle({
    folder: cwd,
    plain: whole.metafile,
    inseparable: new Set(),
    run: (more) => esbuild.build({ ...options, ...more, plugins: [...more.plugins, ...(options.plugins ?? [])] }),
    versionOf: async (folder) => await readVersion(resolve(cwd, folder)),
  })
  const made = toBundle(whole, cwd, Math.round(performance.now() - startedAtMs))
  return split === null ? made : { ...made, code: split.code, sourceMap: split.sourceMap, chunks: split.chunks, ownCodeFirst: split.ownCodeFirst }
}

async function adaptationOf(result: esbuild.BuildResult<SplitOptions>, { absWorkingDir = '', define = DEFINE }: SplitOptions): Promise<Adaptation | null> {
  const code = result.outputFiles.find((file) => file.path.endsWith(OUTPUT))?.contents ?? new Uint8Array(0)
  return await adaptationFor(code, result.metafile, absWorkingDir, define)
}

function adapted(options: SplitOptions, adaptation: Adaptation | null): SplitOptions {
  return adaptation === null ? options : { ...options, ...adaptation.options, plugins: [...adaptation.plugins, ...(options.plugins ?? [])] }
}

async function readVersion(folder: string): Promise<string | null> {
  try {
    const json: unknown = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
    return typeof json === 'object' && json !== null && 'version' in json && typeof json.version === 'string' ? json.version : null
  } catch {
    // Only a label is lost.
    return null
  }
}

export interface Bundler {
  /** Throws what `bundle` throws; may be called again afterwards. One call at a time. */
  build(): Promise<Bundle>
  close(): Promise<void>
}

/**
 * A bundler that keeps what it has parsed: building again after an edit takes a few milliseconds. It splits nothing,
 * which would take a tenth of a second more and changes nothing that a function could notice.
 */
export async function openBundler(entry: string, cwd: string, source: BundleSettings = {}): Promise<Bundler> {
  const options = bundleOptions(entry, cwd, source)
  const context = await esbuild.context(options)
  // Its own context, opened when the first bundle that needs it comes along, and again when it needs something else.
  let second: { readonly key: string; readonly context: esbuild.BuildContext<SplitOptions> } | null = null
  const adapt = async (plain: esbuild.BuildResult<SplitOptions>): Promise<esbuild.BuildResult<SplitOptions>> => {
    const adaptation = await adaptationOf(plain, options)
    if (adaptation === null) return plain
    if (second?.key !== adaptation.key) {
      await second?.context.dispose()
      second = { key: adaptation.key, context: await esbuild.context(adapted(options, adaptation)) }
    }
    return await second.context.rebuild()
  }
  return {
    async build() {
      const startedAtMs = performance.now()
      try {
        const result = await adapt(await context.rebuild())
        return toBundle(result, cwd, Math.round(performance.now() - startedAtMs))
      } catch (error) {
        if (!isBuildFailure(error)) throw error
        throw await explain(error, entry, cwd, source)
      }
    },
    async close() {
      await context.dispose()
      await second?.context.dispose()
    },
  }
}

function toBundle(result: esbuild.BuildResult<SplitOptions>, cwd: string, tookMs: number): Bundle {
  const code = result.outputFiles.find((file) => file.path.endsWith(OUTPUT))?.contents
  const sourceMap = result.outputFiles.find((file) => file.path.endsWith('.map'))?.contents
  if (code === undefined || sourceMap === undefined) throw new CodedError('ERR_INTERNAL', ['esbuild gave no output'])
  if (code.byteLength > BUNDLE_MAX_BYTES) throw new CodedError('ERR_BUNDLE_TOO_LARGE', [BUNDLE_MAX_BYTES])
  return {
    code,
    chunks: [],
    ownCodeFirst: false,
    sourceMap,
    exports: result.metafile.outputs[OUTPUT]?.exports ?? [],
    inputs: Object.keys(result.metafile.inputs).filter((input) => !input.startsWith(`${VIRTUAL_NAMESPACE}:`) && !isStandIn(input)).map((input) => (isAbsolute(input) ? input : `${cwd}/${input}`)),
    modules: moduleSizes(result.metafile.outputs[OUTPUT] ?? { inputs: {} }),
    warnings: result.warnings.map(renderMessage),
    tookMs,
  }
}

async function explain(failure: esbuild.BuildFailure, entry: string, cwd: string, source: BundleSettings): Promise<CodedError> {
  const builtin = failure.errors.map(builtinOf).find((name) => name !== null)
  if (builtin !== undefined) {
    const chain = await importChain(entry, cwd, source, builtin)
    return new CodedError('ERR_BUNDLE_IMPORT', [builtin, chain.join(' -> ')])
  }
  const [first, ...more] = failure.errors.map(renderMessage)
  return new CodedError('ERR_BUNDLE_SYNTAX', [`${first ?? 'unknown error'}${more.length > 0 ? ` (and ${more.length} more)` : ''}`])
}

/** The module of Node or Cloudflare that esbuild could not resolve, or null if the message is about something else. */
function builtinOf(message: esbuild.Message): string | null {
  const name = /^Could not resolve "([^"]+)"/.exec(message.text)?.[1]
  if (name === undefined) return null
  return /^(node|cloudflare):/.test(name) || builtinModules.includes(name) ? name : null
}

/** From the entry to the import, shortest way, as paths a user knows. */
async function importChain(entry: string, cwd: string, source: BundleSettings, builtin: string): Promise<readonly string[]> {
  const { metafile } = await esbuild.build({ ...bundleOptions(entry, cwd, source), external: ['node:*', 'cloudflare:*', ...builtinModules] })
  const start = metafile.outputs[OUTPUT]?.entryPoint
  if (start === undefined) return [entry, builtin]
  const cameFrom = new Map<string, string | null>([[start, null]])
  // A Map keeps insertion order and takes additions while it is walked: that is the breadth-first queue.
  for (const file of cameFrom.keys()) {
    for (const { path, external } of metafile.inputs[file]?.imports ?? []) {
      if (external === true && path === builtin) return [...trail(cameFrom, file), builtin]
      if (!cameFrom.has(path)) cameFrom.set(path, file)
    }
  }
  return [start, builtin]
}

function trail(cameFrom: ReadonlyMap<string, string | null>, last: string): readonly string[] {
  const files: string[] = []
  for (let file: string | null = last; file !== null; file = cameFrom.get(file) ?? null) files.unshift(file)
  return files
}

function renderMessage(message: esbuild.Message): string {
  const { location } = message
  return location === null ? message.text : `${location.file}:${location.line}:${location.column + 1}: ${message.text}`
}

function isBuildFailure(error: unknown): error is esbuild.BuildFailure {
  return error instanceof Error && 'errors' in error && Array.isArray(error.errors)
}

/** How a path is shown: relative when that is shorter. */
export function shortPath(path: string, cwd: string): string {
  const short = relative(cwd, path)
  return short === '' ? basename(path) : short.startsWith('..') ? path : short
}
