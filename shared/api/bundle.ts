/**
 * From a zip to the ES modules an image is built of: finds the entry that `Handler` names, lets esbuild join it
 * with what it imports, and splits libraries off as chunks (or finds them split, when our own tool made the zip). esbuild sees files of the zip only: every import goes through our resolver and every file
 * comes from the archive in memory.
 *
 * A zip whose entry is a single ES module without imports is used as it is, so its line numbers stay the client's.
 */
import { context, stop, type BuildContext, type BuildOptions, type BuildResult, type Loader, type Message, type Plugin } from 'esbuild'
import { CHUNK_LIST, NO_UPLOADED_CHUNKS, readUploadedChunks, type UploadedChunks } from '../chunks/upload.ts'
import { type MoreOptions, splitBundle } from '../chunks/split.ts'
import { DATA_EXTENSION, dataModule, TEXT_LOADERS, virtualModules } from '../chunks/virtual-modules.ts'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { BUNDLE_INPUT_MAX_BYTES, BUNDLE_MAX_BYTES, BUNDLE_TIME_MAX_MS } from '../limits.ts'
import type { Chunk } from '../microvm/build-types.ts'
import { LOWERED_SYNTAX, usesAsyncContext } from '../node-compat/async-lowering.ts'
import { bindFreeNames, mentionsFreeNames } from '../node-compat/free-names.ts'
import { isNodeModule } from '../node-compat/modules.ts'
import { isShadowed, standInFor, standIns } from '../node-compat/plugin.ts'
import { removeComputedImports } from './computed-imports.ts'
import { ZipResolver } from './zip-resolver.ts'
import { sourceMapOf, withSourceMap } from './zip-source-maps.ts'
import type { ZipArchive } from './zip.ts'

export interface BundleRequest {
  readonly archive: ZipArchive
  /** Lambda's `Handler`: `file.export`. */
  readonly handler: string
  /** False when `handler` is the default: then a fetch handler is looked for first. */
  readonly handlerGiven: boolean
  /** Names of chunks that an earlier bundle of the same zip had and that are to stay in the function. */
  readonly inseparable?: ReadonlySet<string>
}

export interface Bundle {
  readonly source: string
  /** As in BuildRequest. */
  readonly sourceMap: string | null
  /** As in BuildRequest, like `ownCodeFirst`. */
  readonly chunks: readonly Chunk[]
  readonly ownCodeFirst: boolean
  readonly fileName: string
  /** As in BuildRequest. */
  readonly handlerExport: string | null
}

// A guest has no `process`: libraries would take their Node path. Its environment is there, as the prelude's binding.
const DEFINE: Readonly<Record<string, string>> = { 'process.env.NODE_ENV': '"production"', 'process.env': '__OUTPOST_ENV__', 'global': 'globalThis' }
const NAMESPACE = 'zip'
const EMPTY_NAMESPACE = 'empty'
/** All that a bundle may be made of: files of the zip, empty modules, and what stands in for chunks. */
const INPUTS = /^(zip|empty|outpost-chunk|outpost-value|outpost-virtual|node-compat):/
const ENTRY_POINT = 'main'
const WRAPPER = 'outpost-entry.js'
/** Of no meaning but for names in source maps, which are relative to it. */
const OUTPUT = 'index.mjs'
const MODULE_EXTENSIONS = ['.mjs', '.js', '.ts', '.mts', '.cjs', '.cts', '.tsx', '.jsx']
const PLAIN_EXTENSIONS: ReadonlySet<string> = new Set(['.mjs', '.js'])
const LOADERS: Readonly<Record<string, Loader>> = {
  '.mjs': 'js', '.js': 'js', '.cjs': 'js', '.jsx': 'jsx', '.ts': 'ts', '.mts': 'ts', '.cts': 'ts', '.tsx': 'tsx',
  '.json': 'json', ...TEXT_LOADERS, '.md': 'text', '.css': 'text', '.data': 'binary', [DATA_EXTENSION]: 'js',
}
const SCRIPT_LOADERS: ReadonlySet<string> = new Set(['js', 'jsx', 'ts', 'tsx'])
const MESSAGES_SHOWN_MAX = 5

/** Throws ERR_ZIP_INVALID, ERR_BUNDLE_SYNTAX, ERR_BUNDLE_LIMIT, ERR_BUNDLE_TOO_LARGE, ERR_BUILD_FAILED. */
export async function bundleZip(request: BundleRequest, clock: Clock): Promise<Bundle> {
  const handler = parseHandler(request.handler)
  const entry = findEntry(request.archive, handler.file, request.handlerGiven)
  const uploaded = request.archive.names.has(CHUNK_LIST) ? await readUploadedChunks(request.archive, request.inseparable ?? new Set()) : NO_UPLOADED_CHUNKS
  const first = await runEsbuild({ archive: request.archive, entry, wrapper: null, uploaded }, clock)
  const input = first.metafile.inputs[`${NAMESPACE}:${entry}`]
  if (input?.format === 'cjs' || handler.path.length > 1) return await bundleWrapped(request, entry, handler.path, uploaded, clock)
  const exported = Object.values(first.metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined)?.exports ?? []
  const name = handler.path[0] ?? null
  const handlerExport = !request.handlerGiven || name === null || (!exported.includes(name) && exported.includes('default')) ? null : name
  const plain = input?.format === 'esm' && input.imports.length === 0 && PLAIN_EXTENSIONS.has(extensionOf(entry))
  const original = plain ? decodeSource(entry, await request.archive.read(entry)) : null
  if (original !== null && !mentionsFreeNames(original)) return checkSize({ source: original, sourceMap: await sourceMapOf(request.archive, entry, original), chunks: [], ownCodeFirst: false, fileName: entry, handlerExport })
  return checkSize({ ...(await split(request, { archive: request.archive, entry, wrapper: null, uploaded }, first, clock)), fileName: entry, handlerExport })
}

/**
 * CommonJS has no exports that can be known beforehand, and a nested handler has no export of its own: a small module
 * in front gives both one.
 */
async function bundleWrapped(request: BundleRequest, entry: string, path: readonly string[], uploaded: UploadedChunks, clock: Clock): Promise<Bundle> {
  const access = path.map((part) => `?.[${JSON.stringify(part)}]`).join('')
  const wrapper = `import * as main from ${JSON.stringify(`./${entry}`)}\nexport const handler = main${access}\nexport default main.default\n`
  const input: EsbuildInput = { archive: request.archive, entry: WRAPPER, wrapper, uploaded }
  const result = await runEsbuild(input, clock)
  const onlyHandler = path.length === 1 && path[0] === 'handler'
  return checkSize({ ...(await split(request, input, result, clock)), fileName: entry, handlerExport: request.handlerGiven && !onlyHandler ? 'handler' : null })
}

async function split(request: BundleRequest, input: EsbuildInput, whole: EsbuildResult, clock: Clock): Promise<Modules> {
  const { archive, uploaded } = input
  // With lowered async functions a library is this function's alone.
  if (usesAsyncContext(whole.metafile)) return { ...outputOf(whole), chunks: [], ownCodeFirst: false }
  if (uploaded.chunks.length > 0) return { ...outputOf(whole), chunks: uploaded.chunks, ownCodeFirst: uploaded.ownCodeFirst }
  const startedAtMs = clock.monotonicMs()
  const found = await splitBundle({
    folder: null,
    plain: whole.metafile,
    inseparable: request.inseparable ?? new Set(),
    run: async (more) => {
      if (clock.monotonicMs() - startedAtMs > BUNDLE_TIME_MAX_MS) throw new CodedError('ERR_BUNDLE_LIMIT', ['time', `${BUNDLE_TIME_MAX_MS} ms`])
      return await runEsbuild(input, clock, more)
    },
    versionOf: async (folder) => await readVersion(archive, folder.replace(/^zip:/, '')),
  })
  if (found === null) return { ...outputOf(whole), chunks: [], ownCodeFirst: false }
  return { source: Buffer.from(found.code).toString(), sourceMap: Buffer.from(found.sourceMap).toString(), chunks: found.chunks, ownCodeFirst: found.ownCodeFirst }
}

async function readVersion(archive: ZipArchive, folder: string): Promise<string | null> {
  const path = `${folder}/package.json`
  if (!archive.names.has(path)) return null
  const json: unknown = JSON.parse(Buffer.from(await archive.read(path)).toString())
  return typeof json === 'object' && json !== null && 'version' in json && typeof json.version === 'string' ? json.version : null
}

interface EsbuildInput {
  readonly archive: ZipArchive
  readonly entry: string
  readonly wrapper: string | null
  readonly uploaded: UploadedChunks
}

type EsbuildResult = BuildResult<BuildOptions & { metafile: true; write: false }>

/**
 * A source nested deep enough ends esbuild's process by exhausting its stack, and with it every other bundle that is
 * being made. A second try tells the one from the others.
 */
async function runEsbuild(input: EsbuildInput, clock: Clock, more: MoreOptions = { plugins: [] }): Promise<EsbuildResult> {
  try {
    return await tryEsbuild(input, clock, more)
  } catch (error) {
    if (toCodedError(error).code !== 'ERR_BUILD_FAILED') throw error
  }
  try {
    return await tryEsbuild(input, clock, more)
  } catch (error) {
    if (toCodedError(error).code !== 'ERR_BUILD_FAILED') throw error
    throw new CodedError('ERR_BUNDLE_SYNTAX', ['esbuild stops when it reads it; is it nested very deeply?'], { cause: error })
  }
}

async function tryEsbuild(input: EsbuildInput, clock: Clock, more: MoreOptions): Promise<EsbuildResult> {
  const seen: Seen = { failure: null, inject: new Set(), importers: new Map() }
  const plain = await buildOnce(input, clock, more, seen)
  const lowered = usesAsyncContext(plain.metafile)
  if (!lowered && seen.inject.size === 0) return plain
  return await buildOnce(input, clock, { ...more, ...(seen.inject.size > 0 ? { inject: [...seen.inject].sort() } : {}), ...(lowered ? { supported: LOWERED_SYNTAX } : {}) }, seen)
}

/** What the plugin notes of a bundle. */
interface Seen {
  failure: CodedError | null
  /** What files use of Node's globals as if they were there. */
  readonly inject: Set<string>
  /** Files and who first imported them. */
  readonly importers: Map<string, string>
}

async function buildOnce(input: EsbuildInput, clock: Clock, more: MoreOptions & Pick<BuildOptions, 'inject' | 'supported'>, seen: Seen): Promise<EsbuildResult> {
  const options = {
    // Not the file's own name: esbuild looks on the disk for an entry whose name holds `*`.
    entryPoints: [ENTRY_POINT],
    outfile: OUTPUT,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2023',
    charset: 'utf8',
    legalComments: 'none',
    sourcemap: 'external',
    sourcesContent: false,
    logLevel: 'silent',
    tsconfigRaw: '{}',
    define: DEFINE,
    ...more,
    plugins: [...more.plugins, virtualModules(), standIns(), zipPlugin(input, seen)],
  } satisfies BuildOptions
  let building: BuildContext<typeof options> | null = null
  const timeout = { reached: false }
  const cancelTimer = clock.after(BUNDLE_TIME_MAX_MS, () => {
    timeout.reached = true
    // A cancel that fails has nothing left to stop; the rebuild below rejects either way.
    building?.cancel().catch(() => undefined)
  })
  try {
    building = await context(options)
    // esbuild may take its time to begin; there was nothing to cancel then.
    if (timeout.reached) throw new CodedError('ERR_BUNDLE_LIMIT', ['time', `${BUNDLE_TIME_MAX_MS} ms`])
    return checkInputs(await building.rebuild())
  } catch (error) {
    if (timeout.reached) throw new CodedError('ERR_BUNDLE_LIMIT', ['time', `${BUNDLE_TIME_MAX_MS} ms`])
    throw seen.failure ?? toBundleError(error, seen.importers)
  } finally {
    cancelTimer()
    // The context holds the last result inside esbuild's process; if that process is gone, so is it.
    building?.dispose().catch(() => undefined)
  }
}

/** Whatever esbuild learns to look for on a disk one day must not get out. */
function checkInputs(result: EsbuildResult): EsbuildResult {
  const foreign = Object.keys(result.metafile.inputs).some((name) => !INPUTS.test(name))
  if (foreign) throw new CodedError('ERR_BUNDLE_SYNTAX', ['it imports files outside of the zip'])
  return result
}

function zipPlugin({ archive, entry, wrapper, uploaded }: EsbuildInput, seen: Seen): Plugin {
  const fail = (error: CodedError): void => {
    seen.failure ??= error
  }
  const resolver = new ZipResolver(archive)
  let inputBytes = 0
  return {
    name: 'zip',
    setup(build) {
      build.onResolve({ filter: /.*/ }, async ({ path, importer, kind, namespace }) => {
        if (kind === 'entry-point') return { path: entry, namespace: NAMESPACE }
        const chunk = uploaded.resolve(path)
        if (chunk !== null) return chunk.external ? { path, external: true } : { path: chunk.file, namespace: NAMESPACE }
        if (namespace !== NAMESPACE) return { errors: [{ text: `Could not resolve ${JSON.stringify(path)}` }] }
        try {
          const from = importer === WRAPPER ? '' : importer
          const found = await resolver.resolve(path, from, kind === 'require-call' || kind === 'require-resolve' ? 'require' : 'import')
          const standIn = found.kind === 'missing' || (found.kind === 'file' && isShadowed(path, found.path)) ? standInFor(path, kind) : null
          if (standIn !== null) return standIn
          if (found.kind === 'file' && !seen.importers.has(found.path)) seen.importers.set(found.path, importer)
          if (found.kind === 'file') return { path: found.path, namespace: NAMESPACE }
          if (found.kind === 'empty') return { path, namespace: EMPTY_NAMESPACE }
          // Left to esbuild, which has no folder to look in: it refuses, or inside `try` lets the call throw when it runs.
          if (kind === 'require-call' && /^[a-zA-Z@]/.test(path)) return undefined
          return { errors: [{ text: unresolved(path) }] }
        } catch (error) {
          if (error instanceof CodedError) fail(error)
          throw error
        }
      })
      build.onLoad({ filter: /.*/, namespace: EMPTY_NAMESPACE }, () => ({ contents: 'module.exports = {}', loader: 'js' }))
      build.onLoad({ filter: /.*/, namespace: NAMESPACE }, async ({ path }) => {
        if (wrapper !== null && path === WRAPPER) return { contents: wrapper, loader: 'js' }
        const loader = LOADERS[extensionOf(path)]
        if (loader === undefined) return { errors: [{ text: `${path} cannot be imported: no way to load ${extensionOf(path) || 'such files'} is known` }] }
        try {
          const contents = await archive.read(path)
          inputBytes += contents.byteLength
          if (inputBytes > BUNDLE_INPUT_MAX_BYTES) throw new CodedError('ERR_BUNDLE_TOO_LARGE', [BUNDLE_INPUT_MAX_BYTES])
          if (extensionOf(path) === DATA_EXTENSION) return { contents: dataModule(contents), loader }
          if (!SCRIPT_LOADERS.has(loader)) return { contents, loader }
          const source = decodeSource(path, contents)
          const contained = await removeComputedImports(await withSourceMap(archive, path, source), loader, path)
          const bound = mentionsFreeNames(contained) ? await bindFreeNames(contained, loader, path, DEFINE) : null
          for (const name of bound?.inject ?? []) seen.inject.add(name)
          return bound === null ? { contents: contained, loader } : { contents: bound.code, loader: 'js' }
        } catch (error) {
          if (error instanceof CodedError) fail(error)
          const messages = esbuildMessages(error)
          if (messages.length === 0) throw error
          return { errors: messages.map(({ text, location }) => ({ text, location: location === null ? null : { ...location, file: `${NAMESPACE}:${location.file}` } })) }
        }
      })
    },
  }
}

function unresolved(path: string): string {
  return `Could not resolve ${JSON.stringify(path)}: it is not in the zip`
}

/** `file.export[.nested]`; dots in folders do not count. Throws ERR_PARAMETER. */
function parseHandler(handler: string): { readonly file: string; readonly path: readonly string[] } {
  const slash = handler.lastIndexOf('/') + 1
  const match = /^([^.]+)\.(.+)$/.exec(handler.slice(slash))
  const path = match?.[2]?.split('.') ?? []
  if (match === null || path.some((part) => part === '')) throw new CodedError('ERR_PARAMETER', [`Handler must be like index.handler, not ${JSON.stringify(handler.slice(0, 128))}`])
  return { file: handler.slice(0, slash) + (match[1] ?? ''), path }
}

function findEntry(archive: ZipArchive, file: string, handlerGiven: boolean): string {
  const stem = file.replace(/^(\.\/)+/, '')
  for (const extension of MODULE_EXTENSIONS) if (archive.names.has(stem + extension)) return stem + extension
  const modules = [...archive.names].filter((name) => MODULE_EXTENSIONS.includes(extensionOf(name)) && !name.includes('node_modules/'))
  if (!handlerGiven && modules.length === 1 && modules[0] !== undefined) return modules[0]
  const held = modules.length === 0 ? 'it holds no module at all' : `it holds ${modules.slice(0, 5).join(', ')}`
  throw new CodedError('ERR_ZIP_INVALID', [`it has no ${stem}.mjs, ${stem}.js or ${stem}.ts, which the handler names; ${held}`])
}

function toBundleError(error: unknown, importers: ReadonlyMap<string, string>): CodedError {
  if (error instanceof CodedError) return error
  const messages = esbuildMessages(error)
  if (messages.length === 0) {
    // esbuild's process is gone or confused: the next bundle starts a new one.
    void stop()
    return new CodedError('ERR_BUILD_FAILED', [`esbuild: ${error instanceof Error ? error.message : String(error)}`], { cause: error })
  }
  if (messages.some(({ location }) => location !== null && !location.file.startsWith(`${NAMESPACE}:`))) return new CodedError('ERR_BUNDLE_SYNTAX', ['it imports files outside of the zip'])
  for (const { text, location } of messages) {
    const name = /^Could not resolve "([^"]+)"/.exec(text)?.[1]
    if (name !== undefined && isNodeModule(name)) return new CodedError('ERR_BUNDLE_IMPORT', [name, importChain(location?.file.replace(/^zip:/, ''), importers, name).join(' -> ')])
  }
  const shown = messages.slice(0, MESSAGES_SHOWN_MAX).map(({ text, location }) => {
    const file = location?.file.replace(/^zip:/, '')
    return location === null || file === undefined ? text : `${file}:${location.line}:${location.column}: ${text}`
  })
  const more = messages.length > shown.length ? ` (and ${messages.length - shown.length} more)` : ''
  return new CodedError('ERR_BUNDLE_SYNTAX', [shown.join('; ') + more])
}

/** From the entry to the import. */
function importChain(file: string | undefined, importers: ReadonlyMap<string, string>, name: string): readonly string[] {
  const files: string[] = [name]
  for (let at = file; at !== undefined && at !== WRAPPER && !files.includes(at); at = importers.get(at)) files.unshift(at)
  return files
}

function esbuildMessages(error: unknown): readonly Message[] {
  return error instanceof Error && 'errors' in error && Array.isArray(error.errors) ? (error.errors as Message[]) : []
}

type Modules = Pick<Bundle, 'source' | 'sourceMap' | 'chunks' | 'ownCodeFirst'>
/** No JavaScript begins with it. */
const SEVERAL_MODULES = 0

/** A bundle as it is kept: the module itself, or with its map or several of them as JSON behind a zero byte. */
export function encodeBundle({ source, sourceMap, chunks, ownCodeFirst }: Modules): Uint8Array {
  return chunks.length === 0 && sourceMap === null ? Buffer.from(source) : Buffer.concat([Buffer.from([SEVERAL_MODULES]), Buffer.from(JSON.stringify({ source, sourceMap, chunks, ownCodeFirst }))])
}

/** Of what `encodeBundle` gave. */
export function decodeBundle(bytes: Uint8Array): Modules {
  if (bytes[0] !== SEVERAL_MODULES) return { source: Buffer.from(bytes).toString(), sourceMap: null, chunks: [], ownCodeFirst: false }
  // Those that were stored before there were maps have none.
  const kept = JSON.parse(Buffer.from(bytes.subarray(1)).toString()) as Modules
  return { ...kept, sourceMap: (kept as Partial<Modules>).sourceMap ?? null }
}

function outputOf({ outputFiles }: EsbuildResult): Pick<Bundle, 'source' | 'sourceMap'> {
  const isMap = ({ path }: { readonly path: string }): boolean => path.endsWith('.map')
  return { source: outputFiles.find((file) => !isMap(file))?.text ?? '', sourceMap: outputFiles.find(isMap)?.text ?? null }
}

function checkSize(bundle: Bundle): Bundle {
  const bytes = [bundle, ...bundle.chunks].reduce((sum, { source }) => sum + Buffer.byteLength(source), 0)
  if (bytes > BUNDLE_MAX_BYTES) throw new CodedError('ERR_BUNDLE_TOO_LARGE', [BUNDLE_MAX_BYTES])
  return bundle
}

function decodeSource(name: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new CodedError('ERR_BUNDLE_SYNTAX', [`${name} is not UTF-8`])
  }
}

function extensionOf(path: string): string {
  const dot = path.lastIndexOf('.')
  return dot <= path.lastIndexOf('/') ? '' : path.slice(dot)
}
