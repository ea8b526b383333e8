/**
 * A bundle of files on a disk, made again where Node's habits ask for it: with `Buffer` and the like bound in files that use them
 * as globals, with async functions lowered where AsyncLocalStorage is in it. Both are known only from the first bundle;
 * one that needs neither, like any made for the web, is not looked at further than by one regular expression.
 */
import type { BuildOptions, Loader, Metafile, Plugin } from 'esbuild'
import { readFile } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import { LOWERED_SYNTAX, usesAsyncContext } from './async-lowering.ts'
import { bindFreeNames, type BoundNames, mentionsFreeNames } from './free-names.ts'

export interface Adaptation {
  /** For the bundle to be made with, in addition. */
  readonly options: Pick<BuildOptions, 'inject' | 'supported'>
  /** Before the bundle's own. */
  readonly plugins: readonly Plugin[]
  /** Async functions are lowered, which no library of another function could be. */
  readonly lowered: boolean
  /** Equal for equal adaptations. */
  readonly key: string
}

const LOADERS: Readonly<Record<string, Loader>> = { '.js': 'js', '.mjs': 'js', '.cjs': 'js', '.jsx': 'jsx', '.ts': 'ts', '.mts': 'ts', '.cts': 'ts', '.tsx': 'tsx' }

/** Null: it stays as it is. `code` and `metafile` of the bundle made without; `define` as it had. */
export async function adaptationFor(code: Uint8Array, metafile: Metafile, folder: string, define: Readonly<Record<string, string>>): Promise<Adaptation | null> {
  const lowered = usesAsyncContext(metafile)
  const bound = mentionsFreeNames(Buffer.from(code.buffer, code.byteOffset, code.byteLength).toString('latin1')) ? await bindFiles(metafile, folder, define) : new Map<string, BoundNames>()
  if (!lowered && bound.size === 0) return null
  const inject = [...new Set([...bound.values()].flatMap((file) => file.inject))].sort()
  return {
    options: { ...(inject.length > 0 ? { inject } : {}), ...(lowered ? { supported: LOWERED_SYNTAX } : {}) },
    plugins: bound.size === 0 ? [] : [loadBound(bound, folder)],
    lowered,
    key: JSON.stringify([lowered, inject, [...bound.keys()].sort()]),
  }
}

/** By absolute path. */
async function bindFiles({ inputs, outputs }: Metafile, folder: string, define: Readonly<Record<string, string>>): Promise<Map<string, BoundNames>> {
  const used = new Set(Object.values(outputs).flatMap((output) => Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([file]) => file)))
  const files = Object.keys(inputs).filter((file) => used.has(file) && extname(file) in LOADERS && !/^[a-z-]+:/.test(file))
  const found = await Promise.all(files.map(async (file): Promise<readonly [string, BoundNames] | null> => {
    const path = resolve(folder, file)
    const code = await bind(await readFile(path, 'utf8'), path, define)
    return code === null ? null : [path, code]
  }))
  return new Map(found.filter((each) => each !== null))
}

async function bind(source: string, path: string, define: Readonly<Record<string, string>>): Promise<BoundNames | null> {
  if (!mentionsFreeNames(source)) return null
  return await bindFreeNames(source, LOADERS[extname(path)] ?? 'js', path, define)
}

/** Read anew each time: a bundler that is kept sees edits. */
function loadBound(bound: ReadonlyMap<string, BoundNames>, folder: string): Plugin {
  return {
    name: 'outpost-free-names',
    setup(build) {
      const { define = {} } = build.initialOptions
      build.onLoad({ filter: /\.[cm]?[jt]sx?$/, namespace: 'file' }, async ({ path }) => {
        const absolute = resolve(folder, path)
        if (!bound.has(absolute)) return undefined
        const file = await bind(await readFile(absolute, 'utf8'), absolute, define)
        return file === null ? undefined : { contents: file.code, loader: 'js' }
      })
    },
  }
}
