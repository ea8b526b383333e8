/**
 * Bundles that use AsyncLocalStorage. The engine's `await` continues by no function that could be patched, so in these bundles, and
 * only in these, async functions become generators over promises, whose every step goes by `Promise.prototype.then`.
 */
import type { Metafile } from 'esbuild'
import { fileOf } from './library.ts'
import { STAND_INS } from './plugin.ts'

/** Of esbuild. */
export const LOWERED_SYNTAX: Readonly<Record<string, boolean>> = { 'async-await': false, 'async-generator': false, 'for-await': false }
const FILE = `${STAND_INS}:${fileOf('async_hooks')}`

/** True if the result of a bundle contains `node:async_hooks`. */
export function usesAsyncContext({ inputs }: Metafile): boolean {
  return Object.hasOwn(inputs, FILE)
}
