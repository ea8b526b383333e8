/**
 * Splits a bundle into the function's own code and chunks, one per library, each a module that is the same in every
 * function that imports the same entries of the same version. The same code works for files on a disk (deploy) and in
 * a zip (region): how imports are resolved and files are read is the caller's esbuild options.
 *
 *   measure  the graph and sizes of the plain bundle    -> groups that may be split (groups.ts)
 *   probe    what each entry exports                     -> a chunk's list of exports
 *   chunks   each group on its own, with all it exports  -> kept if it pays (C1, C2)
 *   own      the function again, each entry replaced by a stand-in that re-exports the chunk
 *
 * An entry's exports become exports of the chunk under their own prefix, so bindings stay live. A CommonJS entry
 * becomes its `module.exports`, and its stand-in a CommonJS file, so that esbuild gives importers what it would have.
 *
 * C1  A chunk is decided by the function's bundle alone, so that equal bundles give equal layers.
 * C2  A chunk's name holds the hash of its content. Whoever made a bundle, a name stands for one content.
 */
import { resolve } from 'node:path'
import type { BuildOptions, BuildResult, Metafile, Plugin } from 'esbuild'
import { CodedError } from '../errors.ts'
import { LAYERS_MAX } from '../limits.ts'
import type { Chunk } from '../microvm/build-types.ts'
import { isStandIn, STAND_INS } from '../node-compat/plugin.ts'
import { chunkName } from './upload.ts'
import { type FileGraph, type FileNode, findGroups, type Group, orderGroups } from './groups.ts'

export type SplitOptions = BuildOptions & { readonly metafile: true; readonly write: false }
export type MoreOptions = Pick<BuildOptions, 'entryPoints' | 'sourcemap'> & { readonly plugins: Plugin[] }

export interface SplitRequest {
  /** Where relative names of files in `plain` start; null: they are in no folder. */
  readonly folder: string | null
  /** The function bundled whole: one entry point, one output. */
  readonly plain: Metafile
  /** Bundles as `plain` was, but with what is given in addition; the plugins come first. */
  readonly run: (more: MoreOptions) => Promise<BuildResult<SplitOptions>>
  /** Names of chunks that must stay in the function. */
  readonly inseparable: ReadonlySet<string>
  /** `version` of the package a file belongs to; null: unknown. `folder` ends in the package's name. */
  readonly versionOf: (folder: string) => Promise<string | null>
}

export interface Split {
  /** The function's own part. */
  readonly code: Uint8Array
  /** Empty if none was asked for. */
  readonly sourceMap: Uint8Array
  readonly chunks: readonly Chunk[]
  readonly ownCodeFirst: boolean
}

/** Less is not worth one of the few layers. */
export const CHUNK_MIN_BYTES = 8 * 1024
/**
 * A whole library may be so many times what the function uses of it. Measured over the corpus of `npm run bench -- store`
 * with 2 and 4: 1/4.2 and 1/4.1 of the functions' pages are stored; a line of own code changes 8.9 and 6.9 % of them together,
 * and 46 and 22 % of the worst one, which is a library of that ratio left in the function.
 */
export const CHUNK_WASTE_MAX = 4
/** Each is bundled a few times. */
const GROUPS_TRIED_MAX = 2 * LAYERS_MAX
/** A library that reads variables of the function when it is evaluated would find none. */
const ENVIRONMENT = '__OUTPOST_ENV__'
const CHUNK_ENTRY = 'outpost-chunk:'
const INSTALLED = 'node_modules/'
const VALUE = 'outpost-value:'
const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u

interface Made {
  readonly group: Group
  readonly chunk: Chunk
  readonly exports: ReadonlyMap<string, readonly string[]>
}

/** Null: nothing to split. Rejects as esbuild does. */
export async function splitBundle(request: SplitRequest): Promise<Split | null> {
  const graph = graphOf(request.plain)
  const output = Object.values(request.plain.outputs).find(({ entryPoint }) => entryPoint !== undefined)
  if (output?.entryPoint === undefined) return null
  const heavy = (group: Group): boolean => group.usedBytes >= CHUNK_MIN_BYTES
  const candidates = findGroups(graph, output.entryPoint)
  const heaviest = candidates.filter(heavy).sort((a, b) => b.usedBytes - a.usedBytes).slice(0, GROUPS_TRIED_MAX)
  const wanted = new Set(heaviest.flatMap((group) => [group, ...group.dependsOn]))
  const made = new Map<Group, Made>()
  for (const group of candidates.filter((each) => wanted.has(each))) {
    const below = group.dependsOn.map((each) => made.get(each))
    if (below.includes(undefined)) continue
    const one = await tryChunk(request, graph, group, [...made.values()])
    if (one !== null) made.set(group, one)
  }
  const bytesOf = (group: Group): number => Buffer.byteLength(made.get(group)?.chunk.source ?? '')
  const kept = orderGroups([...made.keys()].filter((group) => heavy(group) || [...made.keys()].some((other) => other.dependsOn.includes(group))), bytesOf, LAYERS_MAX)
  const chosen = kept.map((group) => made.get(group)).filter((each) => each !== undefined)
  if (chosen.length === 0) return null
  const own = await request.run({ plugins: [standIns(graph, chosen, request.folder)] })
  const code = own.outputFiles.find(({ path }) => !path.endsWith('.map'))?.contents
  if (code === undefined || repeats(own.metafile, chosen)) return null
  return {
    code,
    sourceMap: own.outputFiles.find(({ path }) => path.endsWith('.map'))?.contents ?? new Uint8Array(0),
    chunks: chosen.map(({ chunk }) => chunk),
    ownCodeFirst: chosen.some(({ group }) => group.ownCodeFirst),
  }
}

/** G1 in the result: a file that esbuild put into the function though a chunk holds it. */
function repeats({ outputs }: Metafile, chosen: readonly Made[]): boolean {
  const inFunction = Object.values(outputs).flatMap(({ inputs }) => Object.keys(inputs))
  return chosen.some(({ group }) => inFunction.some((file) => group.files.has(file) && !group.entries.includes(file)))
}

/** What does not bundle on its own stays in the function, which did bundle. */
async function tryChunk(request: SplitRequest, graph: FileGraph, group: Group, below: readonly Made[]): Promise<Made | null> {
  try {
    return await makeChunk(request, graph, group, below)
  } catch (error) {
    if (error instanceof CodedError && error.code !== 'ERR_BUNDLE_SYNTAX') throw error
    return null
  }
}

async function makeChunk(request: SplitRequest, graph: FileGraph, group: Group, below: readonly Made[]): Promise<Made | null> {
  const { folder } = request
  const exports = new Map<string, readonly string[]>()
  for (const entry of group.entries) {
    const names = graph.get(entry)?.format === 'cjs' ? [] : await exportsOf(request, entry)
    if (!names.every((name) => IDENTIFIER.test(name))) return null
    exports.set(entry, names)
  }
  const lines = group.entries.map((entry, index) => {
    const from = JSON.stringify(`${CHUNK_ENTRY}${entry}`)
    const names = exports.get(entry) ?? []
    if (graph.get(entry)?.format === 'cjs') return `export const ${cjsName(index)} = require(${from})`
    return names.length === 0 ? `import ${from}` : `export { ${names.map((name) => `${name} as ${exportName(index, name)}`).join(', ')} } from ${from}`
  })
  const contents = lines.join('\n')
  const result = await request.run({ entryPoints: [CHUNK_ENTRY], plugins: [chunkEntry(contents, folder), standIns(graph, below, folder)] })
  const output = Object.values(result.metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined)
  const wholeBytes = Object.entries(output?.inputs ?? {}).reduce((sum, [file, { bytesInOutput }]) => sum + (group.files.has(file) ? bytesInOutput : 0), 0)
  const source = withoutPlaces(result.outputFiles.find(({ path }) => !path.endsWith('.map'))?.text ?? '', group.files)
  if (wholeBytes > group.usedBytes * CHUNK_WASTE_MAX || source.includes(ENVIRONMENT)) return null
  const map = result.outputFiles.find(({ path }) => path.endsWith('.map'))
  const sourceMap = map === undefined ? undefined : withoutPlaces(map.text, group.files)
  const name = await nameOf(request, group, source, sourceMap)
  return request.inseparable.has(name) ? null : { group, exports, chunk: { name, source, ...(sourceMap === undefined ? {} : { sourceMap }) } }
}

async function exportsOf({ run, folder }: SplitRequest, entry: string): Promise<readonly string[]> {
  const { metafile } = await run({ sourcemap: false, entryPoints: [`${CHUNK_ENTRY}${entry}`], plugins: [chunkEntry('', folder)] })
  return [...(Object.values(metafile.outputs)[0]?.exports ?? [])].sort()
}

/** Paths stand in comments and in names of CommonJS wrappers; where a package is installed must not matter. */
function withoutPlaces(source: string, files: ReadonlySet<string>): string {
  const places = new Set([...files].map((file) => file.slice(0, Math.max(0, file.indexOf(INSTALLED)))))
  return [...places].filter((place) => place !== '').reduce((text, place) => text.replaceAll(`${place}${INSTALLED}`, INSTALLED), source)
}

/** Libraries that are one group are named by the first of them. */
async function nameOf({ versionOf }: SplitRequest, { entries }: Group, source: string, sourceMap: string | undefined): Promise<string> {
  const [first = ''] = entries
  if (isStandIn(first)) return chunkName(first.replace(/^[^:]+:(?:cjs\/)?/, 'node-').replace(/\.js$/, ''), null, source, sourceMap)
  const folder = packageFolder(first)
  return chunkName(folder.slice(folder.lastIndexOf(INSTALLED) + INSTALLED.length), await versionOf(folder), source, sourceMap)
}

/** `outpost-chunk:` is `contents`, and with a file's name behind it that file. */
function chunkEntry(contents: string, folder: string | null): Plugin {
  return {
    name: 'outpost-chunk',
    setup(build) {
      build.onResolve({ filter: /^outpost-chunk:/ }, ({ path }) => (path === CHUNK_ENTRY ? { path: 'entry', namespace: 'outpost-chunk' } : locate(path.slice(CHUNK_ENTRY.length), folder)))
      build.onLoad({ filter: /^entry$/, namespace: 'outpost-chunk' }, () => ({ contents, loader: 'js' }))
    },
  }
}

/** Where esbuild has a file of its metafile. */
function locate(file: string, folder: string | null): { readonly path: string; readonly namespace: string } {
  if (folder !== null && !file.startsWith(`${STAND_INS}:`)) return { path: resolve(folder, file), namespace: 'file' }
  const colon = file.indexOf(':')
  return { path: file.slice(colon + 1), namespace: file.slice(0, colon) }
}

/** In place of each entry of `chosen`: a file that gives what the chunk exports. */
function standIns(graph: FileGraph, chosen: readonly Made[], folder: string | null): Plugin {
  const byKey = new Map(chosen.flatMap((made) => made.group.entries.map((entry, index) => [entry, { made, index }] as const)))
  const names = new Set(chosen.map(({ chunk }) => chunk.name))
  const locationOf = ({ namespace, path }: { readonly namespace: string; readonly path: string }): string => `${namespace}:${path}`
  const byLocation = new Map([...byKey].map(([key, value]) => [locationOf(locate(key, folder)), { ...value, key }]))
  return {
    name: 'outpost-stand-ins',
    setup(build) {
      build.onResolve({ filter: /^npm:/ }, ({ path }) => (names.has(path) ? { path, external: true } : undefined))
      build.onResolve({ filter: /^outpost-value:/ }, ({ path }) => ({ path: path.slice(VALUE.length), namespace: 'outpost-value' }))
      build.onLoad({ filter: /.*/, namespace: 'outpost-value' }, ({ path }) => {
        const found = byKey.get(path)
        return found === undefined ? undefined : { contents: `export { ${cjsName(found.index)} as value } from ${JSON.stringify(found.made.chunk.name)}`, loader: 'js' }
      })
      build.onLoad({ filter: /.*/ }, (file) => {
        const found = byLocation.get(locationOf(file))
        if (found === undefined) return undefined
        const { made, index, key } = found
        if (graph.get(key)?.format === 'cjs') return { contents: `module.exports = require(${JSON.stringify(`${VALUE}${key}`)}).value`, loader: 'js' }
        const exported = (made.exports.get(key) ?? []).map((name) => `${exportName(index, name)} as ${name}`)
        return { contents: exported.length === 0 ? `import ${JSON.stringify(made.chunk.name)}\nexport {}` : `export { ${exported.join(', ')} } from ${JSON.stringify(made.chunk.name)}`, loader: 'js' }
      })
    },
  }
}

function exportName(index: number, name: string): string {
  return `e${index}_${name}`
}

function cjsName(index: number): string {
  return `e${index}_cjs_exports`
}

/** `.../node_modules/NAME` of a library's file. */
function packageFolder(file: string): string {
  return /^.*(?:^|\/|:)node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? file
}

function graphOf({ inputs, outputs }: Metafile): FileGraph {
  const used = new Map<string, number>()
  for (const output of Object.values(outputs)) for (const [file, { bytesInOutput }] of Object.entries(output.inputs)) used.set(file, (used.get(file) ?? 0) + bytesInOutput)
  return new Map(Object.entries(inputs).map(([file, input]): [string, FileNode] => [file, {
    imports: input.imports.filter(({ external, path }) => external !== true && path in inputs).map(({ path, kind }) => ({ file: path, kind: kind === 'dynamic-import' ? 'dynamic' : kind === 'import-statement' ? 'static' : 'call' })),
    // Neither: JSON, text, or a file without imports and exports. All of them are loaded as CommonJS would be.
    format: input.format === 'esm' ? 'esm' : 'cjs',
    isLibrary: /(^|\/|:)node_modules\//.test(file) || isStandIn(file) || file.startsWith('empty:') || file.startsWith('(disabled):'),
    usedBytes: used.get(file) ?? 0,
  }]))
}
