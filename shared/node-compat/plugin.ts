/**
 * What bundlers do for Node's modules. Whoever finds files (on a disk, in a zip) asks `standInFor` where an import leads that
 * nothing of the function's own answers; `standIns` loads what it named.
 *
 *   node-compat:crypto.js     the module, as `import` sees it
 *   node-compat:cjs/crypto    the same, as `require` sees it: the function or object itself
 */
import type { ImportKind, Plugin } from 'esbuild'
import { fileOf, nodeLibrary } from './library.ts'
import { NODE_MODULES, nodeModuleName } from './modules.ts'

export const STAND_INS = 'node-compat'
const CJS = 'cjs/'
const SKIP = 'outpost-skip'

/** A file's name in a metafile. */
export function isStandIn(file: string): boolean {
  return file.startsWith(`${STAND_INS}:`)
}

interface Located {
  readonly path: string
  readonly namespace: string
}

/** Null: no module of Node, or none that functions have. */
export function standInFor(specifier: string, kind: ImportKind): Located | null {
  const name = nodeModuleName(specifier)
  if (name === null) return null
  const path = kind === 'require-call' || kind === 'require-resolve' ? `${CJS}${name}` : fileOf(name)
  // Its effects count: what a module shares with others is set up by its own file.
  return { path, namespace: STAND_INS }
}

/** A package that has the name of a module of Node, which comes first, as in Node. */
export function isShadowed(specifier: string, path: string): boolean {
  return path.replaceAll('\\', '/').includes(`/node_modules/${specifier}/`) || path.startsWith(`node_modules/${specifier}/`)
}

/** Loads the stand-ins, and resolves what they import. Comes before the plugin that resolves everything else. */
export function standIns(): Plugin {
  return {
    name: 'outpost-node',
    setup(build) {
      build.onResolve({ filter: /.*/, namespace: STAND_INS }, ({ path }) => (path.startsWith('./') ? { path: path.slice(2), namespace: STAND_INS } : undefined))
      build.onResolve({ filter: /^outpost-free-/ }, ({ path }) => ({ path: `${path}.js`, namespace: STAND_INS }))
      build.onLoad({ filter: /.*/, namespace: STAND_INS }, async ({ path }) => {
        if (path.startsWith(CJS)) return { contents: `module.exports = require(${JSON.stringify(`./${fileOf(path.slice(CJS.length))}`)}).default`, loader: 'js' }
        const contents = (await nodeLibrary()).get(path)
        return contents === undefined ? undefined : { contents, loader: 'js' }
      })
    },
  }
}

/**
 * Finds Node's modules for files on a disk. A package's `browser` map comes first: it names what it takes instead where there
 * is no Node.
 */
export function nodeModules(): Plugin {
  const names = new RegExp(`^(?:node:)?(?:${Object.keys(NODE_MODULES).join('|')})$`)
  return {
    name: 'outpost-node-modules',
    setup(build) {
      build.onResolve({ filter: names }, async ({ path, kind, importer, resolveDir, namespace, pluginData }) => {
        if (pluginData === SKIP || namespace === STAND_INS) return undefined
        if (path.startsWith('node:')) return standInFor(path, kind)
        const found = await build.resolve(path, { kind, importer, resolveDir, namespace, pluginData: SKIP })
        const mapped = found.errors.length === 0 && !isShadowed(path, found.path)
        return mapped ? undefined : standInFor(path, kind)
      })
    },
  }
}
