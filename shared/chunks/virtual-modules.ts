/**
 * Modules that are neither files nor packages, for esbuild: `cloudflare:workers`. Both bundlers use this plugin, before
 * what resolves files. Other modules of `cloudflare:` are left to them, which say that there is none.
 */
import type { Plugin } from 'esbuild'
import { WORKERS_MODULE, WORKERS_SOURCE } from '../guest/workers-module.ts'

export const VIRTUAL_NAMESPACE = 'outpost-virtual'

export function virtualModules(): Plugin {
  return {
    name: 'outpost-virtual',
    setup(build) {
      build.onResolve({ filter: /^cloudflare:workers$/ }, () => ({ path: WORKERS_MODULE, namespace: VIRTUAL_NAMESPACE }))
      build.onLoad({ filter: /^cloudflare:workers$/, namespace: VIRTUAL_NAMESPACE }, () => ({ contents: WORKERS_SOURCE, loader: 'js' }))
    },
  }
}
