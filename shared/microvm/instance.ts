/**
 * One linked set of wasm instances: the engine, its extensions and the page operations over one guest memory and one
 * flags memory. Instances hold no state of their own that matters: memory comes from an image, mutable globals are
 * listed here in a fixed order, and the function table is built by the modules' own element segments.
 */
import { CodedError } from '../errors.ts'
import { type Engine, type EngineModule, GUEST_MEMORY_MAX_PAGES } from './engine.ts'
import { bindPageOps, type PageOps } from './page-ops.ts'
import { FLAGS_PAGES } from './rewrite/layout.ts'

/** Where an extension's static data and table entries lie; found once when the base image is built. */
export interface ExtensionBase {
  readonly memory: number
  readonly table: number
}

/** What the guest calls of the host: never throws, returns codes. */
export interface HostImports {
  hostCall(namePtr: number, nameLen: number, thisPtr: number, argc: number, argvPtr: number): number
  /** Fuel ran out: 0 goes on (with new fuel granted), 1 stops the guest by `unreachable`. */
  refuel(): number
  /** Asked once in some ten thousand loops and calls of the guest's code: 1 throws what no code catches, with the stack. */
  interrupt(): number
  promiseRejection(promisePtr: number, reasonPtr: number, isHandled: number): void
  /** Writes 8 bytes of nanoseconds at `resultPtr`. */
  clock(clockId: number, resultPtr: number): number
  random(ptr: number, length: number): number
}

export type EngineExports = Readonly<Record<string, (...args: number[]) => number>>

export interface LinkedInstance {
  readonly memory: WebAssembly.Memory
  readonly flags: WebAssembly.Memory
  readonly table: WebAssembly.Table
  readonly engine: EngineExports
  readonly extensions: readonly EngineExports[]
  readonly pageOps: PageOps
  /** Every mutable numeric global, in one fixed order for an engine build. */
  readonly globals: readonly WebAssembly.Global[]
}

const WASI_BADF = 8
const WASI_NOSYS = 52

export interface GuestMemories {
  readonly memory: WebAssembly.Memory
  readonly flags: WebAssembly.Memory
}

export function createMemories(initialPages: number): GuestMemories {
  return {
    memory: new WebAssembly.Memory({ initial: initialPages, maximum: GUEST_MEMORY_MAX_PAGES }),
    flags: new WebAssembly.Memory({ initial: FLAGS_PAGES, maximum: FLAGS_PAGES }),
  }
}

/** Links the engine over `memories`. `place` says where each extension's data and table entries go, before it is instantiated. */
export function linkInstance(
  engine: Engine, arena: WebAssembly.Memory, { memory, flags }: GuestMemories, host: HostImports,
  place: (extension: EngineModule, engineExports: EngineExports, table: WebAssembly.Table, index: number) => ExtensionBase,
): LinkedInstance {
  const outpost = { memory, flags, refuel: () => host.refuel() }
  const wasi = {
    clock_time_get: (clockId: number, _precision: bigint, resultPtr: number) => host.clock(clockId, resultPtr),
    random_get: (ptr: number, length: number) => host.random(ptr, length),
    fd_write: () => WASI_BADF,
    fd_close: () => WASI_NOSYS,
    fd_fdstat_get: () => WASI_BADF,
    fd_seek: () => WASI_NOSYS,
  }
  const mainInstance = new WebAssembly.Instance(engine.main.module, {
    outpost,
    env: {
      host_call: (a: number, b: number, c: number, d: number, e: number) => host.hostCall(a, b, c, d, e),
      host_interrupt: () => host.interrupt(),
      host_promise_rejection: (a: number, b: number, c: number) => host.promiseRejection(a, b, c),
      host_module_normalize: () => 0,
      host_module_load: () => 0,
      // Guests live in UTC.
      host_get_timezone_offset: () => 0,
    },
    wasi_snapshot_preview1: wasi,
  })
  const exports = mainInstance.exports
  const table = exports['__indirect_function_table'] as WebAssembly.Table
  const functions = exports as unknown as EngineExports
  const globals: WebAssembly.Global[] = engine.main.globals.map(({ exportName }) => exports[exportName] as WebAssembly.Global)
  const extensions = engine.extensions.map((extension, index) => {
    const base = place(extension, functions, table, index)
    const missing = base.table + (extension.dylink?.tableEntries ?? 0) - table.length
    if (missing > 0) table.grow(missing)
    const instance = new WebAssembly.Instance(extension.module, extensionImports(extension, exports, base, outpost, wasi, memory, table))
    for (const { exportName } of extension.globals) globals.push(instance.exports[exportName] as WebAssembly.Global)
    return instance.exports as unknown as EngineExports
  })
  return { memory, flags, table, engine: functions, extensions, globals: [...new Set(globals)], pageOps: bindPageOps(engine.pageOps, arena, memory, flags) }
}

function extensionImports(
  extension: EngineModule, engineExports: WebAssembly.Exports, base: ExtensionBase, outpost: WebAssembly.ModuleImports,
  wasi: WebAssembly.ModuleImports, memory: WebAssembly.Memory, table: WebAssembly.Table,
): WebAssembly.Imports {
  const env: Record<string, WebAssembly.ImportValue> = {}
  const imports: Record<string, WebAssembly.ModuleImports> = { outpost, env, wasi_snapshot_preview1: wasi, 'GOT.mem': {}, 'GOT.func': {} }
  for (const { module, name, kind } of WebAssembly.Module.imports(extension.module)) {
    if (module === 'env') env[name] = resolveEnv(extension.name, name, kind, engineExports, base, memory, table)
    // Symbols behind the global offset table of these extensions are never called; zero is what the linker gives to a weak one.
    else if (module === 'GOT.mem' || module === 'GOT.func') {
      const got = imports[module]
      if (got !== undefined) got[name] = new WebAssembly.Global({ value: 'i32', mutable: true }, 0)
    }
  }
  return imports
}

function resolveEnv(
  extension: string, name: string, kind: string, engineExports: WebAssembly.Exports, base: ExtensionBase,
  memory: WebAssembly.Memory, table: WebAssembly.Table,
): WebAssembly.ImportValue {
  if (name === 'memory') return memory
  if (name === '__indirect_function_table') return table
  if (name === '__memory_base') return new WebAssembly.Global({ value: 'i32', mutable: false }, base.memory)
  if (name === '__table_base') return new WebAssembly.Global({ value: 'i32', mutable: false }, base.table)
  const found = engineExports[name]
  if (found !== undefined) return found
  // Imported by the linker's leave but never called. If it were, the call must end the guest, not throw through it.
  if (kind === 'function') return missingFunction
  throw new CodedError('ERR_INTERNAL', [`engine extension ${extension} needs ${name}`])
}

/** A host exception that crosses guest frames is a platform fault: the slot that sees it is destroyed. */
function missingFunction(): never {
  throw new CodedError('ERR_SANDBOX_FAULT', ['the engine called a function that is not linked'])
}
