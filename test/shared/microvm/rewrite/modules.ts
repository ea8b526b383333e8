/** Small modules for the rewriter's tests: compiled from text or put together byte by byte, then run plain or rewritten. */
import loadWabt from 'wabt'
import { CodedError } from '../../../../shared/errors.ts'
import {
  CONTROL_FUEL, CONTROL_LIMIT_PAGES, CONTROL_TABLE_WRITTEN, CONTROL_VIRTUAL_PAGES, FLAGS_BYTES, FLAGS_PAGES, rewriteModule,
  type RewriteOptions, type RewrittenModule,
} from '../../../../shared/microvm/rewrite/index.ts'

const wabt = await loadWabt()
const FEATURES = {
  exceptions: true, mutable_globals: true, sat_float_to_int: true, sign_extension: true, simd: true, threads: true, function_references: true,
  multi_value: true, tail_call: true, bulk_memory: true, reference_types: true, gc: true, memory64: true, multi_memory: true,
  extended_const: true, relaxed_simd: true,
}

export const MAXIMUM_PAGES = 64

/** The binary of a module in text form. `check: false` leaves out wabt's own validation, for modules that must not be valid. */
export function wat(text: string, options: { readonly check?: boolean } = {}): Uint8Array<ArrayBuffer> {
  const module = wabt.parseWat('test.wat', text, FEATURES)
  try {
    if (options.check ?? true) module.validate()
    return Uint8Array.from(module.toBinary({}).buffer)
  } finally {
    module.destroy()
  }
}

export function rewrite(original: Uint8Array, options: Partial<RewriteOptions> = {}): RewrittenModule {
  return rewriteModule(original, { selfResolve: false, maximumPages: MAXIMUM_PAGES, ...options })
}

export interface Refusal {
  readonly reason: string
  readonly opcodeName: string
  readonly byteOffset: number
}

/** Why a module is refused; null if it is not. Anything thrown but ERR_MODULE_REFUSED comes through. */
export function refusalOf(original: Uint8Array, options: Partial<RewriteOptions> = {}): Refusal | null {
  try {
    rewrite(original, options)
    return null
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'ERR_MODULE_REFUSED') throw error
    const [reason, opcodeName, byteOffset] = error.params
    return { reason: String(reason), opcodeName: String(opcodeName), byteOffset: Number(byteOffset) }
  }
}

export type Value = number | bigint
export type Callable = (...args: Value[]) => Value

export interface Machine {
  readonly memory: WebAssembly.Memory
  readonly flags: WebAssembly.Memory
  readonly exports: WebAssembly.Exports
  readonly rewritten: RewrittenModule | null
  call(name: string, ...args: Value[]): Value
  global(name: string): Value
  /** Indices of the flagged 4 KiB pages; clears them. */
  drain(): number[]
  bytes(): Uint8Array
  fuel(): number
  setFuel(fuel: number): void
  virtualPages(): number
  setLimit(pages: number): void
  tableWritten(): boolean
}

export interface MachineOptions {
  readonly imports?: WebAssembly.Imports
  /** Called when fuel is below zero; without it the guest gets no more. */
  readonly refuel?: () => number
  readonly fuel?: number
  readonly rewrite?: Partial<RewriteOptions>
  /** Leave `outpost.initData` and `outpost.start` to the test. */
  readonly bare?: boolean
}

/** A rewritten module with a memory of its own, its data written and its start function run, flags clear. */
export function machine(original: Uint8Array, options: MachineOptions = {}): Machine {
  const rewritten = rewrite(original, options.rewrite)
  const memory = new WebAssembly.Memory({ initial: rewritten.initialPages, maximum: MAXIMUM_PAGES })
  const flags = new WebAssembly.Memory({ initial: FLAGS_PAGES, maximum: FLAGS_PAGES })
  const control = (): DataView => new DataView(flags.buffer)
  control().setInt32(CONTROL_FUEL, options.fuel ?? 0x7fffffff, true)
  control().setInt32(CONTROL_VIRTUAL_PAGES, rewritten.initialPages, true)
  control().setInt32(CONTROL_LIMIT_PAGES, MAXIMUM_PAGES, true)
  const imports = mergeImports(options.imports ?? {}, {
    [rewritten.memoryImport.module]: { [rewritten.memoryImport.name]: memory },
    outpost: { flags, refuel: options.refuel ?? (() => 1), memory },
  })
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(rewritten.bytes), imports)
  const call = (name: string, ...args: Value[]): Value => callExport(exports, name, args)
  const result: Machine = {
    memory, flags, exports, rewritten, call,
    global: (name) => (exports[name] as WebAssembly.Global).value,
    drain: () => {
      const table = new Uint8Array(flags.buffer, 0, FLAGS_BYTES)
      const granules: number[] = []
      for (let granule = table.indexOf(1); granule >= 0; granule = table.indexOf(1, granule + 1)) granules.push(granule)
      table.fill(0)
      return granules
    },
    bytes: () => new Uint8Array(memory.buffer),
    fuel: () => control().getInt32(CONTROL_FUEL, true),
    setFuel: (fuel) => { control().setInt32(CONTROL_FUEL, fuel, true) },
    virtualPages: () => control().getInt32(CONTROL_VIRTUAL_PAGES, true),
    setLimit: (pages) => { control().setInt32(CONTROL_LIMIT_PAGES, pages, true) },
    tableWritten: () => control().getInt32(CONTROL_TABLE_WRITTEN, true) !== 0,
  }
  if (options.bare !== true) {
    if (rewritten.hasInitData) call('outpost.initData')
    if (rewritten.hasStart) call('outpost.start')
    result.drain()
  }
  return result
}

/** The module as it is, for comparison. An imported memory is made with `initialPages`. */
export function plain(original: Uint8Array<ArrayBuffer>, options: { readonly imports?: WebAssembly.Imports; readonly initialPages?: number } = {}): Pick<Machine, 'call' | 'bytes' | 'exports'> {
  const module = new WebAssembly.Module(original)
  const wanted = WebAssembly.Module.imports(module).find(({ kind }) => kind === 'memory')
  let memory = new WebAssembly.Memory({ initial: options.initialPages ?? 1, maximum: MAXIMUM_PAGES })
  const imports = mergeImports(options.imports ?? {}, wanted === undefined ? {} : { [wanted.module]: { [wanted.name]: memory } })
  const { exports } = new WebAssembly.Instance(module, imports)
  const exported = Object.values(exports).find((value) => value instanceof WebAssembly.Memory)
  if (exported !== undefined) memory = exported
  return { exports, call: (name, ...args) => callExport(exports, name, args), bytes: () => new Uint8Array(memory.buffer) }
}

function callExport(exports: WebAssembly.Exports, name: string, args: readonly Value[]): Value {
  const target = exports[name]
  if (typeof target !== 'function') throw new Error(`nothing called ${name} is exported`)
  return (target as Callable)(...args)
}

/** What a call comes to: its result, or the kind of its trap. */
export function outcomeOf(run: () => Value): string {
  try {
    return String(run())
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return `trap: ${error.message}`
    throw error
  }
}

function mergeImports(...all: readonly WebAssembly.Imports[]): WebAssembly.Imports {
  const merged: Record<string, WebAssembly.ModuleImports> = {}
  for (const imports of all) for (const [module, names] of Object.entries(imports)) merged[module] = { ...merged[module], ...names }
  return merged
}

/** A module byte by byte: sections as `[id, ...content]`, their lengths filled in. Nested arrays are flattened. */
export type Bytes = readonly (number | Bytes)[]

export function binary(...sections: readonly (readonly [id: number, ...content: Bytes])[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flatMap(([id, ...content]) => [id, ...sized(content)])])
}

/** Bytes with their length before them. */
export function sized(content: Bytes): number[] {
  const bytes = flatten(content)
  return [...uleb(bytes.length), ...bytes]
}

export function uleb(value: number): number[] {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest]
    bytes.push((rest % 128) + 128)
  }
}

export function name(text: string): number[] {
  return sized([...Buffer.from(text)])
}

function flatten(content: Bytes): number[] {
  return content.flatMap((entry) => (typeof entry === 'number' ? [entry] : flatten(entry)))
}

/** One function `() -> ()` with the given code (no locals, `end` added), a memory of one page and a funcref table of one entry. */
export function withCode(...code: Bytes): Uint8Array<ArrayBuffer> {
  return binary([1, 1, 0x60, 0, 0], [3, 1, 0], [4, 1, 0x70, 0, 1], [5, 1, 0, 1], [10, 1, ...sized([0, ...code, 0x0b])])
}
