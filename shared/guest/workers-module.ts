/**
 * The module `cloudflare:workers`: what both bundlers put in its place. An import of a name that it lacks
 * (`DurableObject`) fails the bundle with its line; other modules of `cloudflare:` do not resolve.
 */
export const WORKERS_MODULE = 'cloudflare:workers'
/** Where the prelude keeps what the module exports. */
export const WORKERS_GLOBAL = '__OUTPOST_WORKERS__'

export const WORKERS_SOURCE = `export const { env, waitUntil, WorkerEntrypoint, RpcTarget } = globalThis.${WORKERS_GLOBAL}\n`
