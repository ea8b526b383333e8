/**
 * A minimal linker for the engine and its extensions, rewritten or plain, so that tests can evaluate scripts and look
 * at the memory. One instance for each call; nothing here is shared with the product's own linker on purpose.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ENGINE_BINARY } from '../../../../shared/microvm/engine.ts'
import {
  CONTROL_FUEL, CONTROL_LIMIT_PAGES, CONTROL_VIRTUAL_PAGES, FLAGS_PAGES, compileRewritten, rewriteModule, type RewriteOptions, type RewrittenModule,
} from '../../../../shared/microvm/rewrite/index.ts'

export const EXTENSIONS = ['url', 'encoding', 'headers', 'structured-clone'] as const
const MAXIMUM_PAGES = 4096

export interface TestEngine {
  readonly memory: WebAssembly.Memory
  readonly flags: WebAssembly.Memory
  readonly table: WebAssembly.Table
  readonly exports: Record<string, (...args: number[]) => number>
  /** All mutable globals of all modules; empty for the plain engine. */
  readonly globals: readonly WebAssembly.Global[]
  refuels: number
  /** Result of a script as a string; throws its exception as an Error. */
  evaluate(source: string): string
  setFuel(fuel: number): void
}

export function engineFile(name: string): Buffer<ArrayBuffer> {
  return readFileSync(name === 'engine' ? ENGINE_BINARY : fileURLToPath(import.meta.resolve(`quickjs-wasi/${name}.so`)))
}

const cache = new Map<string, { module: WebAssembly.Module; rewritten: RewrittenModule | null }>()

function load(name: string, form: 'plain' | 'rewritten', omitMarking?: RewriteOptions['omitMarking']): { module: WebAssembly.Module; rewritten: RewrittenModule | null } {
  const key = `${name} ${form} ${omitMarking ?? ''}`
  let found = cache.get(key)
  if (found === undefined) {
    const original = engineFile(name)
    const rewritten = form === 'plain' ? null : rewriteModule(original, { selfResolve: true, maximumPages: MAXIMUM_PAGES, ...(omitMarking === undefined ? {} : { omitMarking }) })
    found = { module: rewritten === null ? new WebAssembly.Module(original) : compileRewritten(rewritten.bytes), rewritten }
    cache.set(key, found)
  }
  return found
}

/** `form` plain has no flags and no fuel; it is what rewritten runs are compared with. */
export function createEngine(form: 'plain' | 'rewritten', options: { extensions?: readonly string[]; omitMarking?: RewriteOptions['omitMarking']; refuel?: () => number } = {}): TestEngine {
  const main = load('engine', form, options.omitMarking)
  const initial = main.rewritten?.initialPages ?? 1
  const hostMemory = new WebAssembly.Memory({ initial, maximum: MAXIMUM_PAGES })
  const flags = new WebAssembly.Memory({ initial: FLAGS_PAGES, maximum: FLAGS_PAGES })
  const control = (offset: number, value: number): void => { new DataView(flags.buffer).setInt32(offset, value, true) }
  control(CONTROL_FUEL, 0x7fffffff)
  control(CONTROL_VIRTUAL_PAGES, initial)
  control(CONTROL_LIMIT_PAGES, MAXIMUM_PAGES)
  let memory = hostMemory
  const refuel = (): number => {
    engine.refuels++
    if (options.refuel !== undefined) return options.refuel()
    control(CONTROL_FUEL, 0x7fffffff)
    return 0
  }
  const view = (): DataView => new DataView(memory.buffer)
  const wasi = {
    clock_time_get: (_id: number, _precision: bigint, pointer: number) => {
      view().setBigUint64(pointer, 1_700_000_000_000_000_000n, true)
      return 0
    },
    random_get: (pointer: number, length: number) => {
      new Uint8Array(memory.buffer, pointer, length).fill(7)
      return 0
    },
    fd_write: () => 8, fd_close: () => 52, fd_fdstat_get: () => 8, fd_seek: () => 52,
  }
  const outpost = { memory: hostMemory, flags, refuel }
  const env = {
    host_call: () => 0, host_interrupt: () => 0, host_promise_rejection: () => undefined, host_module_normalize: () => 0, host_module_load: () => 0,
    host_get_timezone_offset: () => 0,
  }
  const instance = new WebAssembly.Instance(main.module, { outpost, env, wasi_snapshot_preview1: wasi })
  const exports = instance.exports as unknown as TestEngine['exports']
  const values = instance.exports
  memory = values['memory'] as WebAssembly.Memory
  const table = values['__indirect_function_table'] as WebAssembly.Table
  const call = (name: string, ...args: number[]): number => {
    const target = exports[name]
    if (target === undefined) throw new Error(`the engine does not export ${name}`)
    return target(...args)
  }
  const globals = (main.rewritten?.mutableGlobals ?? []).map(({ exportName }) => values[exportName] as WebAssembly.Global)
  const text = (source: string): number => {
    const encoded = Buffer.from(`${source}\0`)
    const pointer = call('malloc', encoded.length)
    new Uint8Array(memory.buffer, pointer, encoded.length).set(encoded)
    // The host's own writes set flags too.
    for (let granule = pointer >>> 9; granule <= (pointer + encoded.length - 1) >>> 9; granule++) new Uint8Array(flags.buffer)[granule] = 1
    return pointer
  }
  const engine: TestEngine = {
    memory, flags, table, exports, globals, refuels: 0,
    setFuel: (fuel) => { control(CONTROL_FUEL, fuel) },
    evaluate: (source) => {
      const code = text(source)
      const name = text('test.js')
      const result = call('qjs_eval', code, Buffer.byteLength(source), name, 0)
      const failed = call('qjs_is_exception', result) !== 0
      const value = failed ? call('qjs_get_exception') : result
      const pointer = call('qjs_get_string', value)
      const bytes = new Uint8Array(memory.buffer)
      const answer = Buffer.from(bytes.slice(pointer, bytes.indexOf(0, pointer))).toString()
      call('qjs_free_cstring', pointer)
      call('qjs_free_value', value)
      call('free', code)
      call('free', name)
      if (failed) throw new Error(answer)
      return answer
    },
  }
  if (form === 'rewritten') call('outpost.initData')
  call('_initialize')
  if (call('qjs_init') !== 0) throw new Error('qjs_init failed')
  // Well below what the thread's native stack holds, so that deep recursion is an error the script can catch.
  call('qjs_set_max_stack_size', 64 * 1024)
  for (const extension of options.extensions ?? EXTENSIONS) {
    const { module, rewritten } = load(extension, form, options.omitMarking)
    const { memoryBytes, memoryAlign, tableEntries } = dylinkOf(engineFile(extension))
    const allocated = call('malloc', memoryBytes + memoryAlign)
    const memoryBase = Math.ceil(allocated / memoryAlign) * memoryAlign
    new Uint8Array(memory.buffer, memoryBase, memoryBytes).fill(0)
    for (let granule = memoryBase >>> 9; granule <= (memoryBase + memoryBytes) >>> 9; granule++) new Uint8Array(flags.buffer)[granule] = 1
    const tableBase = table.grow(tableEntries)
    const imports: Record<string, WebAssembly.ModuleImports> = { outpost, env: {}, 'GOT.mem': {}, 'GOT.func': {}, wasi_snapshot_preview1: wasi }
    let self: WebAssembly.Exports = {}
    for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
      const target = imports[from]
      if (target === undefined) throw new Error(`unknown import module ${from}`)
      if (from === 'GOT.mem' || from === 'GOT.func') target[name] = new WebAssembly.Global({ value: 'i32', mutable: true }, 0)
      else if (from !== 'env') continue
      else if (name === '__memory_base' || name === '__table_base') target[name] = new WebAssembly.Global({ value: 'i32', mutable: false }, name === '__memory_base' ? memoryBase : tableBase)
      else if (name === 'memory') target[name] = memory
      else target[name] = values[name] ?? (kind === 'function' ? (...args: number[]) => (self[name] as (...a: number[]) => number)(...args) : 0)
    }
    const extended = new WebAssembly.Instance(module, imports)
    self = extended.exports
    const run = (name: string, ...args: number[]): number => (extended.exports[name] as ((...a: number[]) => number) | undefined)?.(...args) ?? 0
    run('outpost.initData')
    run('outpost.start')
    run('__wasm_apply_data_relocs')
    run('__wasm_call_ctors')
    globals.push(...(rewritten?.mutableGlobals ?? []).map(({ exportName }) => extended.exports[exportName] as WebAssembly.Global))
    if (run(`qjs_ext_${extension.replaceAll('-', '_')}_init`, call('qjs_get_context_ptr'), call('qjs_get_runtime_ptr')) !== 0) throw new Error(`${extension} did not start`)
  }
  return engine
}

function dylinkOf(original: Uint8Array<ArrayBuffer>): { memoryBytes: number; memoryAlign: number; tableEntries: number } {
  const bytes = new Uint8Array(WebAssembly.Module.customSections(new WebAssembly.Module(original), 'dylink.0')[0] ?? new ArrayBuffer(0))
  let at = 2
  const next = (): number => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const [memoryBytes, alignment, tableEntries] = [next(), next(), next()]
  return { memoryBytes, memoryAlign: 2 ** alignment, tableEntries }
}
