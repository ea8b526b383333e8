/**
 * A checkout of web-platform-tests, or a part of one: which files a directory has, and what their META lines ask for.
 *
 * What a realm without a document or without the suite's own server cannot run is not left out silently: it is listed
 * with the reason, and expectations say which of it is known.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import type { TestFile } from './types.ts'

/** What the suite's own server gives out under another name. */
const ALIASES: Readonly<Record<string, string>> = { 'resources/WebIDLParser.js': 'resources/webidl2/lib/webidl2.js' }
const TIMEOUT_MS = 20_000
const TIMEOUT_LONG_MS = 90_000

export interface SuiteFiles {
  readonly tests: readonly TestFile[]
  readonly notRun: readonly { readonly path: string; readonly reason: string }[]
}

/** The files of `directory` in the suite at `root`. `timeoutMs`: of a file instead of the suite's own. */
export function listTests(root: string, directory: string, timeoutMs: number | null = null): SuiteFiles {
  const tests: TestFile[] = []
  const notRun: { path: string; reason: string }[] = []
  for (const path of walk(root, directory)) {
    if (/\.html?$|\.xhtml$|\.svg$/.test(path)) {
      if (/testharness\.js/.test(readFileSync(join(root, path), 'utf8'))) notRun.push({ path, reason: 'is a document' })
      continue
    }
    if (!/\.(any|window|worker)\.js$/.test(path)) continue
    const source = readFileSync(join(root, path), 'utf8')
    const reason = unfit(path, source)
    if (reason === null) tests.push(...variants(root, path, source, timeoutMs))
    else notRun.push({ path, reason })
  }
  return { tests, notRun }
}

export function hasTests(root: string, directory: string): boolean {
  return existsSync(join(root, directory)) && walk(root, directory).some((path) => /\.(any|window|worker)\.js$/.test(path))
}

function unfit(path: string, source: string): string | null {
  if (/\.(sub|h2)\./.test(path) || /META: script=.*\.sub\.js/.test(source)) return 'needs a server that fills in templates'
  if (path.includes('shadowrealm')) return 'needs ShadowRealm'
  if (/\.py\b/.test(source)) return 'needs the suite\'s server and its handlers'
  if (/\bdocument\.|\bwindow\.(open|frames|document)|createElement|new Worker\(|XMLHttpRequest|\bframes\[/.test(source)) return 'needs a document, a worker or XMLHttpRequest'
  return null
}

function variants(root: string, path: string, source: string, ownTimeoutMs: number | null): readonly TestFile[] {
  const meta = [...source.matchAll(/^\/\/ META: (\w+)=(.*?)\s*$/gm)].map((match) => ({ key: match[1] ?? '', value: match[2] ?? '' }))
  const valuesOf = (key: string): readonly string[] => meta.filter((line) => line.key === key).map((line) => line.value)
  const imported = path.endsWith('.worker.js') ? importedScripts(source) : []
  const helpers = [...valuesOf('script'), ...imported].map((name) => posix.join(name.startsWith('/') ? '' : dirname(path), name).replace(/^\//, ''))
  const scripts = [...helpers.filter((name) => name !== 'resources/testharness.js').map((name) => (existsSync(join(root, name)) ? name : (ALIASES[name] ?? name))), path]
  const timeoutMs = ownTimeoutMs ?? (valuesOf('timeout').includes('long') ? TIMEOUT_LONG_MS : TIMEOUT_MS)
  const asked = valuesOf('variant')
  return (asked.length === 0 ? [''] : asked).map((variant) => ({ id: path + variant, path, scripts, timeoutMs }))
}

function importedScripts(source: string): readonly string[] {
  return [...source.matchAll(/importScripts\(([^)]*)\)/g)].flatMap((match) => [...(match[1] ?? '').matchAll(/["']([^"']+)["']/g)].map((name) => name[1] ?? ''))
}

function walk(root: string, directory: string): readonly string[] {
  const paths: string[] = []
  for (const entry of readdirSync(join(root, directory), { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = posix.join(directory, entry.name)
    if (entry.isDirectory()) {
      if (entry.name !== 'resources' && entry.name !== 'support') paths.push(...walk(root, path))
    } else paths.push(path)
  }
  return paths
}
