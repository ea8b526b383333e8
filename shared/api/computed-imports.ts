/**
 * Takes computed imports, `import("./" + name)` and `require("../" + name)`, out of a source before it is bundled.
 *
 * When esbuild bundles such a call it lists the files that could be meant, on the disk of the machine it runs on, and
 * puts them all into the bundle; no plugin is asked. A hostile source could read any file that way. So every file that
 * may hold such a call is first rewritten by esbuild's transform, which never touches a disk: dynamic imports become
 * calls of `require`, and every free `require` gets a name that occurs nowhere else. Calls of it with a plain string
 * are turned back, all others stay and throw when they run.
 */
import { randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { transform, type Loader } from 'esbuild'

/** A plain string as the only or the first argument: nothing there can be computed. */
const PLAIN_ARGUMENT = /^\(\s*(?:"[^"\\\n]*"|'[^'\\\n]*')\s*[,)]/
/** `require` spelled with escapes, which esbuild reads as `require`: one of its letters, escaped. */
const ESCAPED_LETTER = /\\u\{?0*(?:72|65|71|75|69)\}?/i

/** The source without computed imports; the same text if it has none. Rejects as esbuild does for bad syntax. */
export async function removeComputedImports(source: string, loader: Loader, fileName: string): Promise<string> {
  if (!mayComputeImports(source)) return source
  const options = { legalComments: 'none', charset: 'utf8', target: 'esnext', platform: 'neutral', tsconfigRaw: '{}', logLevel: 'silent', sourcefile: basename(fileName), sourcemap: 'inline', sourcesContent: false } as const
  const imported = await transform(source, { ...options, loader, supported: { 'dynamic-import': false } })
  const name = `__outpost_require_${randomBytes(8).toString('hex')}`
  const renamed = await transform(imported.code, { ...options, loader: 'js', define: { require: name } })
  const plainCall = new RegExp(`\\b${name}\\(\\s*("(?:[^"\\\\\\n]|\\\\.)*"|'(?:[^'\\\\\\n]|\\\\.)*')\\s*\\)`, 'g')
  const typeCheck = new RegExp(`\\btypeof ${name}\\b(?!\\s*[(?\`.[])`, 'g')
  const restored = renamed.code.replace(plainCall, 'require($1)').replace(typeCheck, 'typeof require')
  if (!restored.includes(name)) return restored
  // A declaration at the end is hoisted and leaves a directive at the top alone.
  return `${restored}\nfunction ${name}(path) { throw new Error("Imports of computed paths are not supported: " + path) }\n`
}

/**
 * True when there may be one, never false when there is one: esbuild's parser sees through parentheses, types and
 * comments, so anything but the plainest form counts, strings and comments included.
 */
function mayComputeImports(source: string): boolean {
  if (ESCAPED_LETTER.test(source)) return true
  for (const match of source.matchAll(/require|import/g)) {
    const after = source.slice(match.index + match[0].length, match.index + match[0].length + 300)
    if (match[0] === 'require' ? !isPlainRequire(after) : !isPlainImport(after)) return true
  }
  return false
}

function isPlainRequire(after: string): boolean {
  return PLAIN_ARGUMENT.test(after) || /^[a-zA-Z0-9_$]/.test(after)
}

/** A statement, `import.meta`, part of a longer name, or a call with a plain string. */
function isPlainImport(after: string): boolean {
  return PLAIN_ARGUMENT.test(after) || /^[a-zA-Z0-9_$]/.test(after) || /^\.meta\b/.test(after) || /^\s*["'{*]/.test(after) || /^\s+[a-zA-Z_$]/.test(after)
}
