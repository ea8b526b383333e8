/**
 * The stand-ins for Node's modules as files that any bundle can take in: made once in a process, when a bundle first asks for one,
 * from the sources beside this file and the packages that they use. They import only each other, so whoever bundles them
 * reads nothing of any disk, and their names are the same everywhere.
 */
import { build, type Plugin } from 'esbuild'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { siblingModule } from '../module-url.ts'
import { NODE_MODULES, nodeModuleName } from './modules.ts'

/** Names of files by the modules' names, `crypto.js`, and of what they share; to their sources. */
export type Library = ReadonlyMap<string, string>

/** Of files that bind one of Node's globals each (free-names.ts). Names for esbuild's `inject`. */
export const FREE_NAME = 'outpost-free-'
const ENTRY = 'outpost-node:'
const FREE_NAMES: Readonly<Record<string, string>> = { Buffer: 'buffer', process: 'process', setImmediate: 'timers', clearImmediate: 'timers' }
const GUEST = fileURLToPath(new URL('guest/', import.meta.url))

let made: Promise<Library> | null = null

/** Rejects with esbuild's error if a source of ours does not compile. */
export function nodeLibrary(): Promise<Library> {
  made ??= makeLibrary()
  return made
}

/** Where a module's file is. */
export function fileOf(name: string): string {
  return `${name.replaceAll('/', '-')}.js`
}

async function makeLibrary(): Promise<Library> {
  const names = Object.keys(NODE_MODULES)
  const result = await build({
    entryPoints: [...names.map((name) => ({ in: ENTRY + name, out: fileOf(name).slice(0, -'.js'.length) })), ...Object.keys(FREE_NAMES).map((name) => ({ in: ENTRY + FREE_NAME + name, out: FREE_NAME + name }))],
    absWorkingDir: GUEST,
    outdir: GUEST,
    chunkNames: 'shared-[hash]',
    bundle: true,
    splitting: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    conditions: ['import'],
    target: 'es2023',
    legalComments: 'none',
    charset: 'utf8',
    logLevel: 'silent',
    define: { 'process.env.NODE_ENV': '"production"', 'global': 'globalThis' },
    plugins: [sources()],
  })
  return new Map(result.outputFiles.map(({ path, text }) => [basename(path), withoutPaths(text)]))
}

/** Comments tell which file a piece is of, and with it where this is installed. */
function withoutPaths(text: string): string {
  return text.replace(/^ *\/\/ (?:\.\.\/|outpost-node:|[\w@-]).*$\n/gm, '').replace(/"(?:\.\.\/)+node_modules\//g, '"node_modules/')
}

/** Each module is its source, with what it lacks; packages find our modules for Node's. */
function sources(): Plugin {
  const requireHere = createRequire(import.meta.url)
  return {
    name: 'outpost-node-sources',
    setup(build) {
      build.onResolve({ filter: /^outpost-node:/ }, ({ path }) => ({ path: path.slice(ENTRY.length), namespace: 'entry' }))
      build.onLoad({ filter: /.*/, namespace: 'entry' }, ({ path }) => ({ contents: path.startsWith(FREE_NAME) ? freeName(path.slice(FREE_NAME.length)) : entryOf(path), resolveDir: GUEST }))
      build.onResolve({ filter: /^(node:)?[a-z_]+(\/[a-z]*)?$/ }, ({ path, importer }) => {
        const own = importer.startsWith(GUEST)
        // With a slash at its end the package is meant, which only its own stand-in may see.
        if (path.endsWith('/') && own) return { path: requireHere.resolve(path) }
        const name = path === 'safe-buffer' ? 'buffer' : nodeModuleName(path.replace(/\/$/, ''))
        const entry = name === null || own ? undefined : NODE_MODULES[name]?.entry
        return entry === undefined ? undefined : { path: fileURLToPath(entry) }
      })
      // Both names are globals here.
      build.onResolve({ filter: /^abort-controller$/ }, ({ path }) => ({ path, namespace: 'empty' }))
      build.onResolve({ filter: /^safe-buffer$/ }, () => ({ path: fileURLToPath(siblingModule(import.meta.url, './guest/buffer')) }))
      // It looks for a global Buffer; bytes do as well, and bring no Buffer with them.
      build.onLoad({ filter: /[\\/]unenv[\\/].*[\\/]node[\\/]querystring\.mjs$/ }, async ({ path }) => ({
        contents: (await readFile(path, 'utf8')).replace('globalThis.Buffer.allocUnsafe(s.length)', 'new Uint8Array(s.length)').replace('unescapeBuffer(s, decodeSpaces).toString()', 'new TextDecoder().decode(unescapeBuffer(s, decodeSpaces))'),
      }))
      // Where a bundle's async functions are lowered, what these look at has to stay the engine's.
      build.onLoad({ filter: /[\\/]node_modules[\\/](node-inspect-extracted[\\/]dist[\\/]inspect|readable-stream[\\/]lib[\\/]ours[\\/]util)\.js$/ }, async ({ path }) => {
        const source = await readFile(path, 'utf8')
        // The engine has no Atomics, which one of them takes apart with the other globals and never uses.
        return { contents: source.replace(/async function\s*\*?\s*\(\)\s*\{\s*\}/g, '(0, eval)("($&)")').replace('"Atomics",', '') }
      })
      build.onLoad({ filter: /.*/, namespace: 'empty' }, () => ({ contents: '' }))
    },
  }
}

function entryOf(name: string): string {
  const { entry, absent } = NODE_MODULES[name] ?? { entry: new URL(import.meta.url), absent: [] }
  // Both halves of `path` and `path/posix` are one object.
  const [prefix = name] = name.split('/')
  const from = JSON.stringify(`./${basename(fileURLToPath(entry))}`)
  const helper = JSON.stringify(`./${basename(fileURLToPath(siblingModule(import.meta.url, './guest/absent')))}`)
  return [
    `import module from ${from}`,
    `export * from ${from}`,
    `import { absent, complete } from ${helper}`,
    ...absent.map((missing) => `export const ${missing} = /* @__PURE__ */ absent(${JSON.stringify(`${prefix}.${missing}`)})`),
    absent.length === 0 ? 'export default module' : `export default /* @__PURE__ */ complete(module, ${JSON.stringify(prefix)}, ${JSON.stringify(absent)})`,
  ].join('\n')
}

function freeName(name: string): string {
  return `export { ${name === 'process' ? 'default' : name} as __outpost_${name} } from ${JSON.stringify(ENTRY + (FREE_NAMES[name] ?? ''))}`
}
