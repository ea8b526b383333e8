/**
 * Modules that are no JavaScript, for esbuild: `cloudflare:workers`, and files by their endings as wrangler has them. Both
 * bundlers use this plugin, before what resolves files. Other modules of `cloudflare:` are left to them, which say that
 * there is none.
 */
import { readFile } from 'node:fs/promises'
import type { Loader, Plugin } from 'esbuild'
import { WORKERS_MODULE, WORKERS_SOURCE } from '../guest/workers-module.ts'

export const VIRTUAL_NAMESPACE = 'outpost-virtual'
/** The default export is the file's text. */
export const TEXT_LOADERS: Readonly<Record<string, Loader>> = { '.txt': 'text', '.html': 'text', '.sql': 'text' }
/** The default export is an ArrayBuffer of the file's bytes. */
export const DATA_EXTENSION = '.bin'

export function dataModule(bytes: Uint8Array): string {
  return `export default Uint8Array.fromBase64(${JSON.stringify(Buffer.from(bytes).toString('base64'))}).buffer`
}

export function virtualModules(): Plugin {
  return {
    name: 'outpost-virtual',
    setup(build) {
      build.onResolve({ filter: /^cloudflare:workers$/ }, () => ({ path: WORKERS_MODULE, namespace: VIRTUAL_NAMESPACE }))
      build.onLoad({ filter: /^cloudflare:workers$/, namespace: VIRTUAL_NAMESPACE }, () => ({ contents: WORKERS_SOURCE, loader: 'js' }))
      build.onResolve({ filter: /\.wasm(?:\?module)?$/ }, ({ path }) => ({ errors: [{ text: `Could not resolve ${JSON.stringify(path)}: there is no WebAssembly inside of functions; use a JavaScript build of the package` }] }))
      build.onLoad({ filter: /\.bin$/, namespace: 'file' }, async ({ path }) => ({ contents: dataModule(await readFile(path)), loader: 'js' }))
    },
  }
}
