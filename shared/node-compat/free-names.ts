/**
 * `Buffer`, `process`, `setImmediate` and the like, used as globals. A function's global object has none of them, or libraries that
 * look for them would take the machine for Node. But a file that uses one without asking was written for Node and would
 * throw: in such a file, and there only, the name is bound to the stand-in. A file that asks (`typeof Buffer`) has an
 * answer for both cases and keeps the one it has for the web.
 */
import { transform, type Loader } from 'esbuild'
import { FREE_NAME } from './library.ts'

const NAMES = ['Buffer', 'process', 'setImmediate', 'clearImmediate'] as const
/** Of a file that Lambda would have unpacked. */
const PLACES: Readonly<Record<string, string>> = { __dirname: '"/var/task"', __filename: '"/var/task/index.js"' }
const MENTIONED = /\b(?:Buffer|process|setImmediate|clearImmediate|__dirname|__filename)\b/
const PREFIX = '__outpost_'

/** True if the text may use one of the names: then it is worth a closer look. */
export function mentionsFreeNames(text: string): boolean {
  return MENTIONED.test(text)
}

export interface BoundNames {
  readonly code: string
  /** For esbuild's `inject`, with whatever else is injected. */
  readonly inject: readonly string[]
}

/** Null: nothing to bind. Rejects as esbuild does for bad syntax. `define` is the bundle's, which comes first. */
export async function bindFreeNames(source: string, loader: Loader, fileName: string, define: Readonly<Record<string, string>>): Promise<BoundNames | null> {
  const names = NAMES.filter((name) => uses(source, name))
  const places = Object.keys(PLACES).filter((name) => uses(source, name))
  if (names.length + places.length === 0) return null
  const bound = Object.fromEntries([...names.map((name) => [name, PREFIX + name]), ...places.map((name) => [name, PLACES[name] ?? ''])]) as Record<string, string>
  const { code } = await transform(source, {
    loader, define: { ...define, ...bound }, target: 'esnext', platform: 'neutral', legalComments: 'none', charset: 'utf8', tsconfigRaw: '{}', logLevel: 'silent', sourcefile: fileName, sourcemap: 'inline', sourcesContent: false,
  })
  const inject = names.filter((name) => new RegExp(`\\b${PREFIX}${name}\\b`).test(code)).map((name) => FREE_NAME + name)
  return inject.length > 0 || places.length > 0 ? { code, inject } : null
}

/** Used somewhere, and nowhere asked for. `process.env` is the bundle's to replace. */
function uses(source: string, name: string): boolean {
  const others = name === 'process' ? '(?!\\s*\\.\\s*env\\b)' : ''
  return new RegExp(`(?<![\\w$.])${name}\\b${others}(?!\\s*:)`).test(source) && !new RegExp(`\\btypeof\\s+\\(?\\s*${name}\\b`).test(source)
}
