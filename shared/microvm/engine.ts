/**
 * The JavaScript engine of a microVM as Outpost uses it: QuickJS compiled to WebAssembly (npm quickjs-wasi; the engine
 * itself with small functions inlined, see test/support/engine-binary.ts), with its URL, encoding, headers and structured-clone extensions as side modules, each rewritten so that every write is
 * tracked. Compiled once per process; the compiled modules are shared with worker threads.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { CodedError } from '../errors.ts'
import { compilePageOps } from './page-ops.ts'
import { compileRewritten, rewriteModule, type RewriteOptions, type StoreKind } from './rewrite/index.ts'

/** Declared maximum of every guest memory: 1 GiB in 64 KiB pages. A function's own limit is below it and checked at growth. */
export const GUEST_MEMORY_MAX_PAGES = 16_384

/** Loaded in this order, always: their static data and table entries lie one after the other. */
const EXTENSIONS = ['url', 'encoding', 'headers', 'structured-clone'] as const

/** Made by test/support/engine-binary.ts. */
export const ENGINE_BINARY = new URL('./quickjs-inlined.wasm', import.meta.url)

export interface EngineModule {
  readonly name: string
  readonly module: WebAssembly.Module
  /** Mutable numeric globals by export name; part of every image. */
  readonly globals: readonly { readonly exportName: string; readonly type: 'i32' | 'i64' | 'f32' | 'f64' }[]
  /** Size and alignment of a side module's static data, and its table entries; null for the engine itself. */
  readonly dylink: Dylink | null
  readonly initialPages: number
  readonly storeKinds: readonly StoreKind[]
}

export interface Engine {
  readonly main: EngineModule
  readonly extensions: readonly EngineModule[]
  readonly pageOps: WebAssembly.Module
  /** Identity of what runs: originals, rewriter and page size. The prelude adds itself to make the engine build. */
  readonly fingerprint: string
  /** Every kind of store that occurs in it. */
  readonly storeKinds: readonly StoreKind[]
}

interface Dylink {
  readonly memoryBytes: number
  readonly memoryAlign: number
  readonly tableEntries: number
}

/** Bumped when the rewriter or the layout of an image changes in a way that old images cannot bear. */
const ENGINE_FORMAT = 1

/** Reads, rewrites and compiles the engine. Takes some hundred milliseconds; once per process. */
export function loadEngine(options: { readonly omitMarking?: RewriteOptions['omitMarking'] } = {}): Engine {
  const hash = createHash('sha256').update(`outpost engine ${ENGINE_FORMAT}`)
  const load = (name: string, url: string): EngineModule => {
    const original = readFileSync(fileURLToPath(url))
    hash.update(name).update(original)
    return compileEngineModule(name, original, options)
  }
  const main = load('engine', ENGINE_BINARY.href)
  const extensions = EXTENSIONS.map((name) => load(name, import.meta.resolve(`quickjs-wasi/${name}.so`)))
  const storeKinds = [...new Set([main, ...extensions].flatMap((each) => each.storeKinds))]
  return { main, extensions, pageOps: compilePageOps(), fingerprint: hash.digest('hex'), storeKinds }
}

function compileEngineModule(name: string, original: Uint8Array, options: { readonly omitMarking?: RewriteOptions['omitMarking'] }): EngineModule {
  const rewritten = rewriteModule(original, {
    selfResolve: true,
    maximumPages: GUEST_MEMORY_MAX_PAGES,
    ...(options.omitMarking === undefined ? {} : { omitMarking: options.omitMarking }),
  })
  const module = compileRewritten(rewritten.bytes)
  return { name, module, globals: rewritten.mutableGlobals, dylink: parseDylink(original), initialPages: rewritten.initialPages, storeKinds: rewritten.storeKinds }
}

/** The `dylink.0` section of a side module: WASM_DYLINK_MEM_INFO of the WebAssembly tool conventions. */
function parseDylink(original: Uint8Array): Dylink | null {
  const section = WebAssembly.Module.customSections(new WebAssembly.Module(original), 'dylink.0')[0]
  if (section === undefined) return null
  const bytes = new Uint8Array(section)
  let at = 0
  const leb = (): number => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
  }
  while (at < bytes.length) {
    const kind = leb()
    const end = leb() + at
    if (kind === 1) {
      const [memoryBytes, memoryAlign, tableEntries] = [leb(), leb(), leb()]
      return { memoryBytes, memoryAlign, tableEntries }
    }
    at = end
  }
  throw new CodedError('ERR_INTERNAL', ['an engine extension has no memory information'])
}
