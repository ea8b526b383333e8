/**
 * Rewrites a WebAssembly module so that a host can stop it, bound it and put its memory back:
 *
 *     bytes -> decode and check -> plan charges -> WebAssembly.validate -> rewrite code -> encode -> WebAssembly.validate
 *
 * - Every write to guest memory sets the flag of its page in a second memory that the guest cannot name.
 * - memory.size and memory.grow act on a virtual size below the real one.
 * - Loops, functions on call cycles and bulk operations pay with fuel.
 * - Nothing runs or is written at instantiation but the element segments that build the tables.
 * - All other mutable state is in exported globals.
 *
 * What host and generated code agree on is in layout.ts, what is refused and why in module.ts and opcodes.ts, bounds in
 * bounds.ts. Rewriting is a pure function of bytes and options: equal inputs give equal bytes.
 */
import { planCharges } from './charges.ts'
import { CodeRewriter, type CodeCounts } from './code.ts'
import { encodeModule } from './encode.ts'
import { Generated } from './generated.ts'
import { EXTERNAL_KIND, decodeModule, type DecodedModule } from './module.ts'
import { GLOBAL_EXPORT_PREFIX, HOST_MODULE, MEMORY_IMPORT } from './layout.ts'
import { MODULE_BYTES_MAX } from './bounds.ts'
import { refuse } from './refusal.ts'
import { ByteWriter } from './writer.ts'
import type { NumericType, StoreKind } from './opcodes.ts'

export * from './layout.ts'
export { compileRewritten } from './compile.ts'
export { STORE_KINDS, type NumericType, type StoreKind } from './opcodes.ts'

export interface RewriteOptions {
  /**
   * Use the module's own function for a function import that has the name of one of its function exports and the same
   * type: weak symbols of C++ side modules. Such imports are left out of the result.
   */
  readonly selfResolve: boolean
  /** Declared maximum of the guest memory, in 64 KiB pages. A module that asks for more at the start is refused. */
  readonly maximumPages: number
  /** For the mutation test only: leave out the marking of one kind of store. */
  readonly omitMarking?: StoreKind
}

export interface MutableGlobal {
  readonly exportName: string
  readonly type: NumericType
}

export interface RewrittenModule {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Whether the module brought its own memory, or none; its import is then `outpost.memory`. */
  readonly definesMemory: boolean
  /** Names under which the result imports the guest memory. */
  readonly memoryImport: { readonly module: string; readonly name: string }
  /** Pages of 64 KiB that the guest memory must have at the start. */
  readonly initialPages: number
  /** The maximum that the module itself declares for its memory; null for none. Its memory.grow obeys it. */
  readonly declaredMaximumPages: number | null
  /** Every mutable global, in a fixed order: imported ones, the module's own, and the flags of dropped segments. */
  readonly mutableGlobals: readonly MutableGlobal[]
  readonly hasStart: boolean
  readonly hasInitData: boolean
  /** Kinds of stores that occur. */
  readonly storeKinds: readonly StoreKind[]
  /** Instructions rewritten: stores, bulk operations on memory and tables, loops, and function entries that pay. */
  readonly counts: Readonly<CodeCounts>
}

/** Throws ERR_MODULE_REFUSED with reason, name of the instruction or part, and byte offset. */
export function rewriteModule(original: Uint8Array, options: RewriteOptions): RewrittenModule {
  // A copy: the bytes that are checked are the bytes that are rewritten, whatever happens to the caller's.
  if (original.length > MODULE_BYTES_MAX) refuse(`a module of more than ${MODULE_BYTES_MAX} bytes`, '(module)', MODULE_BYTES_MAX)
  const bytes = original.slice()
  // Decoding comes before the engine's own validation to give a reason for what both refuse. It is bounded either way.
  const module = decodeModule(bytes)
  const resolved = resolveImports(module, options.selfResolve)
  const charges = planCharges(module, resolved)
  if (!WebAssembly.validate(bytes)) refuse('the module is not valid', '(module)', 0)
  const initialPages = module.memory?.limits.minimum ?? 0
  if (initialPages > options.maximumPages) refuse(`a memory of ${initialPages} pages at the start, of ${options.maximumPages} allowed`, '(memory section)', 0)

  const { map, refuel, firstGenerated } = mapFunctions(module, resolved)
  const generated = new Generated(module, map, refuel, firstGenerated, options.omitMarking)
  const rewriter = new CodeRewriter(module, map, charges, generated, options.omitMarking)
  const code = new ByteWriter(bytes.length * 2)
  module.bodies.forEach((_, defined) => { rewriter.rewrite(defined, code) })
  const initData = generated.initData()
  const mutableGlobals = listMutableGlobals(module, generated)
  const rewritten = encodeModule({ module, map, resolved, generated, code: code.view(), branchHints: rewriter.branchHints(), initData, mutableGlobals, maximumPages: options.maximumPages })
  if (!WebAssembly.validate(rewritten)) refuse('the module is not valid once rewritten', '(module)', 0)

  const memory = module.imports.find(({ kind }) => kind === 'memory')
  return {
    bytes: rewritten,
    definesMemory: memory === undefined,
    memoryImport: { module: memory?.module ?? HOST_MODULE, name: memory?.name ?? MEMORY_IMPORT },
    initialPages,
    declaredMaximumPages: module.memory?.limits.maximum ?? null,
    mutableGlobals: mutableGlobals.map(({ exportName, type }) => ({ exportName, type })),
    hasStart: module.start !== null,
    hasInitData: initData !== null,
    storeKinds: [...rewriter.storeKinds].sort(),
    counts: rewriter.counts,
  }
}

/** For each function the one to call in its place: itself, or for a self-resolved import the module's own. */
function resolveImports(module: DecodedModule, selfResolve: boolean): Uint32Array {
  const resolved = Uint32Array.from(module.functionTypes, (_, index) => index)
  if (!selfResolve) return resolved
  const own = new Map<string, number>()
  for (const { name, kind, index } of module.exports) if (kind === EXTERNAL_KIND.function && index >= module.importedFunctionCount) own.set(name, index)
  const typeOf = (index: number): Uint8Array => module.types[module.functionTypes[index] ?? 0]?.bytes ?? new Uint8Array()
  module.imports.filter(({ kind }) => kind === 'function').forEach(({ name }, index) => {
    const target = own.get(name)
    if (target !== undefined && Buffer.compare(typeOf(target), typeOf(index)) === 0) resolved[index] = target
  })
  return resolved
}

/** Indices of the rewritten module: remaining imports, `refuel`, the module's own functions, generated ones. */
function mapFunctions(module: DecodedModule, resolved: Uint32Array): { map: Uint32Array; refuel: number; firstGenerated: number } {
  const map = new Uint32Array(resolved.length)
  let next = 0
  for (let index = 0; index < module.importedFunctionCount; index++) if (resolved[index] === index) map[index] = next++
  const refuel = next++
  for (let index = module.importedFunctionCount; index < map.length; index++) map[index] = next++
  for (let index = 0; index < module.importedFunctionCount; index++) map[index] = map[resolved[index] ?? 0] ?? 0
  return { map, refuel, firstGenerated: next }
}

export interface ListedGlobal extends MutableGlobal {
  readonly index: number
  /** Whether the rewriter adds the export. */
  readonly added: boolean
}

function listMutableGlobals(module: DecodedModule, generated: Generated): ListedGlobal[] {
  const exported = new Map<number, string>()
  for (const { kind, index, name } of module.exports) if (kind === EXTERNAL_KIND.global && !exported.has(index)) exported.set(index, name)
  const listed: ListedGlobal[] = []
  module.globals.forEach(({ mutableType }, index) => {
    if (mutableType === null) return
    const name = exported.get(index)
    listed.push({ exportName: name ?? `${GLOBAL_EXPORT_PREFIX}${index}`, type: mutableType, index, added: name === undefined })
  })
  generated.globals.forEach((exportName, index) => listed.push({ exportName, type: 'i32', index: module.globals.length + index, added: true }))
  return listed
}
