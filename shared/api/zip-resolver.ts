/**
 * Node's module resolution over the files of a zip. Looks at names and at package.json files of the zip and at nothing
 * else: no path it returns exists outside. Follows `exports`, `imports`, `browser`, `module` and `main`.
 */
import { CodedError } from '../errors.ts'
import type { ZipArchive } from './zip.ts'

export type ImportKind = 'import' | 'require'

export type Resolution =
  | { readonly kind: 'file'; readonly path: string }
  /** A package's `browser` map says `false`: an empty module stands in. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'missing' }

const EXTENSIONS = ['.mjs', '.js', '.ts', '.mts', '.cjs', '.cts', '.tsx', '.jsx', '.json']
/** An import of `./a.js` in TypeScript may mean `./a.ts`. */
const REWRITES: Readonly<Record<string, readonly string[]>> = { '.js': ['.ts', '.tsx'], '.mjs': ['.mts'], '.cjs': ['.cts'], '.jsx': ['.tsx'] }
const CONDITIONS: ReadonlySet<string> = new Set(['workerd', 'worker', 'browser', 'module', 'default'])
const EXPORTS_DEPTH_MAX = 16
const MISSING: Resolution = { kind: 'missing' }

type Json = Readonly<Record<string, unknown>>

export class ZipResolver {
  readonly #archive: ZipArchive
  /** By folder; null: there is none. */
  readonly #packages = new Map<string, Promise<Json | null>>()
  readonly #folders = new Set<string>()

  constructor(archive: ZipArchive) {
    this.#archive = archive
    for (const name of archive.names) for (let folder = parentOf(name); folder !== ''; folder = parentOf(folder)) this.#folders.add(folder)
  }

  /** `importer` is a path in the zip, or '' for its root. Throws ERR_BUNDLE_SYNTAX for a package.json that is not JSON. */
  async resolve(specifier: string, importer: string, kind: ImportKind): Promise<Resolution> {
    const folder = parentOf(importer)
    if (specifier.startsWith('./') || specifier.startsWith('../') || specifier === '.' || specifier === '..') {
      const path = join(folder, specifier)
      return path === null ? MISSING : await this.#fileOrFolder(path)
    }
    if (specifier.startsWith('/') || specifier === '') return MISSING
    const home = await this.#packageAround(folder)
    if (specifier.startsWith('#')) return home === null ? MISSING : await this.#target(home.folder, matchSubpath(home.json['imports'], specifier), kind)
    const replaced = home === null ? undefined : browserMap(home.json)[specifier]
    if (replaced === false) return { kind: 'empty' }
    if (typeof replaced === 'string' && home !== null) {
      const path = join(home.folder, replaced)
      return path === null ? MISSING : await this.#fileOrFolder(path)
    }
    return await this.#bare(specifier, folder, kind)
  }

  async #bare(specifier: string, from: string, kind: ImportKind): Promise<Resolution> {
    const match = /^(@[^/]+\/[^/]+|[^@/][^/]*)(?:\/(.+))?$/.exec(specifier)
    if (match === null) return MISSING
    const [, name = '', subpath] = match
    for (let folder = from; ; folder = parentOf(folder)) {
      const candidate = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`
      if (this.#folders.has(candidate)) return await this.#inPackage(candidate, subpath, kind)
      if (folder === '') return MISSING
    }
  }

  async #inPackage(folder: string, subpath: string | undefined, kind: ImportKind): Promise<Resolution> {
    const json = await this.#package(folder)
    if (json !== null && json['exports'] !== undefined && json['exports'] !== null) {
      return await this.#target(folder, matchSubpath(json['exports'], subpath === undefined ? '.' : `./${subpath}`), kind)
    }
    if (subpath === undefined) return await this.#fileOrFolder(folder)
    const path = join(folder, subpath)
    return path === null ? MISSING : await this.#fileOrFolder(path)
  }

  /** What an `exports` or `imports` entry leads to. */
  async #target(folder: string, match: SubpathMatch | null, kind: ImportKind): Promise<Resolution> {
    if (match === null) return MISSING
    const target = pickTarget(match.value, kind, 0)
    if (target === null) return MISSING
    const filled = target.replaceAll('*', match.star)
    if (!filled.startsWith('./')) return filled.startsWith('/') || filled.startsWith('../') ? MISSING : await this.#bare(filled, folder, kind)
    const path = join(folder, filled)
    if (path === null || (folder !== '' && !path.startsWith(`${folder}/`))) return MISSING
    return await this.#replaced(path)
  }

  async #fileOrFolder(path: string): Promise<Resolution> {
    const file = this.#file(path)
    if (file !== null) return await this.#replaced(file)
    if (path !== '' && !this.#folders.has(path)) return MISSING
    const json = await this.#package(path)
    for (const field of ['browser', 'module', 'main']) {
      const main = json?.[field]
      const target = typeof main === 'string' ? join(path, main) : null
      const found = target === null || target === path ? null : (this.#file(target) ?? this.#file(`${target}/index`))
      if (found !== null) return await this.#replaced(found)
    }
    const index = this.#file(path === '' ? 'index' : `${path}/index`)
    return index === null ? MISSING : await this.#replaced(index)
  }

  #file(path: string): string | null {
    if (this.#archive.names.has(path)) return path
    for (const extension of EXTENSIONS) if (this.#archive.names.has(path + extension)) return path + extension
    const dot = path.lastIndexOf('.')
    const stem = dot === -1 ? path : path.slice(0, dot)
    for (const extension of REWRITES[dot === -1 ? '' : path.slice(dot)] ?? []) {
      if (this.#archive.names.has(stem + extension)) return stem + extension
    }
    return null
  }

  /** Applies the `browser` map of the package a file is in. */
  async #replaced(path: string): Promise<Resolution> {
    if (!this.#archive.names.has(path)) return MISSING
    const home = await this.#packageAround(parentOf(path))
    if (home === null) return { kind: 'file', path }
    const relative = `./${home.folder === '' ? path : path.slice(home.folder.length + 1)}`
    const map = browserMap(home.json)
    const replaced = map[relative] ?? map[relative.replace(/\.[^./]+$/, '')]
    if (replaced === false) return { kind: 'empty' }
    const target = typeof replaced === 'string' ? join(home.folder, replaced) : null
    const file = target === null ? null : this.#file(target)
    return { kind: 'file', path: file ?? path }
  }

  async #packageAround(folder: string): Promise<{ readonly folder: string; readonly json: Json } | null> {
    for (let at = folder; ; at = parentOf(at)) {
      const json = await this.#package(at)
      if (json !== null) return { folder: at, json }
      if (at === '' || at.endsWith('/node_modules')) return null
    }
  }

  #package(folder: string): Promise<Json | null> {
    const known = this.#packages.get(folder)
    if (known !== undefined) return known
    const reading = this.#readPackage(folder === '' ? 'package.json' : `${folder}/package.json`)
    this.#packages.set(folder, reading)
    return reading
  }

  async #readPackage(path: string): Promise<Json | null> {
    if (!this.#archive.names.has(path)) return null
    const text = Buffer.from(await this.#archive.read(path)).toString()
    try {
      const json: unknown = JSON.parse(text)
      return isObject(json) ? json : null
    } catch (error) {
      throw new CodedError('ERR_BUNDLE_SYNTAX', [`${path} is not JSON: ${String(error)}`])
    }
  }
}

interface SubpathMatch {
  readonly value: unknown
  /** What `*` stands for; '' without a pattern. */
  readonly star: string
}

/** The entry of an `exports` or `imports` value for a subpath: exact first, then the longest pattern. */
function matchSubpath(map: unknown, subpath: string): SubpathMatch | null {
  const hasSubpaths = isObject(map) && Object.keys(map).some((key) => key.startsWith('.') || key.startsWith('#'))
  if (!hasSubpaths) return subpath === '.' ? { value: map, star: '' } : null
  if (Object.hasOwn(map, subpath) && !subpath.includes('*')) return { value: map[subpath], star: '' }
  let best: { readonly prefix: string; readonly match: SubpathMatch } | null = null
  for (const [key, value] of Object.entries(map)) {
    const star = key.indexOf('*')
    if (star === -1) continue
    const prefix = key.slice(0, star)
    const suffix = key.slice(star + 1)
    if (!subpath.startsWith(prefix) || !subpath.endsWith(suffix) || subpath.length < key.length) continue
    if (best === null || prefix.length > best.prefix.length) {
      best = { prefix, match: { value, star: subpath.slice(prefix.length, subpath.length - suffix.length) } }
    }
  }
  return best?.match ?? null
}

function pickTarget(value: unknown, kind: ImportKind, depth: number): string | null {
  if (depth > EXPORTS_DEPTH_MAX) return null
  if (typeof value === 'string') return value
  if (Array.isArray(value)) {
    for (const item of value) {
      const picked = pickTarget(item, kind, depth + 1)
      if (picked !== null) return picked
    }
    return null
  }
  if (!isObject(value)) return null
  for (const [condition, inner] of Object.entries(value)) {
    if (!CONDITIONS.has(condition) && condition !== kind) continue
    if (inner === null) return null
    const picked = pickTarget(inner, kind, depth + 1)
    if (picked !== null) return picked
  }
  return null
}

function browserMap(json: Json): Json {
  const browser = json['browser']
  return isObject(browser) ? browser : {}
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Null if the path leads above the root. */
function join(folder: string, relative: string): string | null {
  const segments = folder === '' ? [] : folder.split('/')
  for (const segment of relative.split('/')) {
    if (segment === '' || segment === '.') continue
    if (segment !== '..') segments.push(segment)
    else if (segments.pop() === undefined) return null
  }
  return segments.join('/')
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  return slash === -1 ? '' : path.slice(0, slash)
}
