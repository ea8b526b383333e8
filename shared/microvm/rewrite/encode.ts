/**
 * Puts the rewritten module together: the original's sections with the rewriter's additions behind each, no start
 * section, all data segments passive, no custom sections but hints for branches.
 */
import {
  FLAGS_IMPORT, FLAGS_MAXIMUM_PAGES, FLAGS_PAGES, HOST_MODULE, INIT_DATA_EXPORT, MEMORY_IMPORT, REFUEL_IMPORT, START_EXPORT,
} from './layout.ts'
import { TABLE_ENTRIES_MAX } from './bounds.ts'
import { writeConstExpression } from './const-expression.ts'
import { writeElementSegment } from './element-segments.ts'
import { EXTERNAL_KIND, type DecodedModule } from './module.ts'
import { OP } from './opcodes.ts'
import { VALUE_TYPE } from './value-types.ts'
import { ByteWriter } from './writer.ts'
import type { Generated } from './generated.ts'
import type { ListedGlobal } from './index.ts'

export interface EncodeInput {
  readonly module: DecodedModule
  /** New index of each original function. */
  readonly map: Uint32Array
  readonly resolved: Uint32Array
  readonly generated: Generated
  /** The rewritten bodies, each with its length. */
  readonly code: Uint8Array
  /** Content of the custom section that comes before the code. */
  readonly branchHints: Uint8Array
  readonly initData: number | null
  readonly mutableGlobals: readonly ListedGlobal[]
  readonly maximumPages: number
}

export function encodeModule(input: EncodeInput): Uint8Array<ArrayBuffer> {
  const { module, generated } = input
  const out = new ByteWriter(input.code.length + module.bytes.length)
  out.raw(Buffer.from('\0asm\x01\0\0\0'))
  section(out, 1, module.types.length + generated.types.length, (body) => {
    for (const { bytes } of module.types) body.raw(bytes)
    for (const bytes of generated.types) body.raw(bytes)
  })
  encodeImports(out, input)
  const defined = module.functionTypes.slice(module.importedFunctionCount)
  section(out, 3, defined.length + generated.functions.length, (body) => {
    for (const typeIndex of defined) body.u32(typeIndex)
    for (const { typeIndex } of generated.functions) body.u32(typeIndex)
  })
  encodeTables(out, input)
  encodeGlobals(out, input)
  encodeExports(out, input)
  section(out, 9, module.elements.length, (body) => {
    for (const segment of module.elements) writeElementSegment(body, segment, input.map)
  })
  if (module.data.length > 0) out.u8(12).sized(new ByteWriter().u32(module.data.length).view())
  out.u8(0).sized(new ByteWriter().name('metadata.code.branch_hint').raw(input.branchHints).view())
  section(out, 10, defined.length + generated.functions.length, (body) => {
    body.raw(input.code)
    for (const { body: code } of generated.functions) body.sized(code)
  })
  section(out, 11, module.data.length, (body) => {
    for (const { bytes } of module.data) body.u32(1).sized(bytes)
  })
  return out.copy()
}

/** Imports keep their order; memory 0 comes before the flags whether the module imported it or not. */
function encodeImports(out: ByteWriter, { module, resolved, generated, maximumPages }: EncodeInput): void {
  const body = new ByteWriter()
  let count = 0
  let functionIndex = 0
  const add = (moduleName: string, name: string, kind: number): ByteWriter => {
    count++
    return body.name(moduleName).name(name).u8(kind)
  }
  const addMemory = (moduleName: string, name: string): void => {
    add(moduleName, name, EXTERNAL_KIND.memory).u8(1).u32(module.memory?.limits.minimum ?? 0).u32(maximumPages)
  }
  for (const { module: moduleName, name, kind, bytes } of module.imports) {
    if (kind === 'memory') addMemory(moduleName, name)
    else if (kind !== 'function' || resolved[functionIndex] === functionIndex) add(moduleName, name, EXTERNAL_KIND[kind]).raw(bytes)
    if (kind === 'function') functionIndex++
  }
  if (module.memory?.imported !== true) addMemory(HOST_MODULE, MEMORY_IMPORT)
  add(HOST_MODULE, FLAGS_IMPORT, EXTERNAL_KIND.memory).u8(1).u32(FLAGS_PAGES).u32(FLAGS_MAXIMUM_PAGES)
  add(HOST_MODULE, REFUEL_IMPORT, EXTERNAL_KIND.function).u32(generated.refuelType)
  section(out, 2, count, (content) => content.raw(body.view()))
}

function encodeTables(out: ByteWriter, { module, map }: EncodeInput): void {
  const tables = module.tables.slice(module.importedTableCount)
  section(out, 4, tables.length, (body) => {
    for (const { typeBytes, limits, initial } of tables) {
      if (initial !== null) body.u8(0x40).u8(0)
      // table.grow fails at the maximum, so there always is one.
      body.raw(typeBytes).u8(1).u32(limits.minimum).u32(Math.min(limits.maximum ?? TABLE_ENTRIES_MAX, TABLE_ENTRIES_MAX))
      if (initial === null) continue
      writeConstExpression(body, initial, map)
      body.op(OP.end)
    }
  })
}

function encodeGlobals(out: ByteWriter, { module, map, generated }: EncodeInput): void {
  const globals = module.globals.slice(module.importedGlobalCount)
  section(out, 6, globals.length + generated.globals.length, (body) => {
    for (const { bytes, initial } of globals) {
      body.raw(bytes)
      if (initial !== null) writeConstExpression(body, initial, map)
      body.op(OP.end)
    }
    for (let index = 0; index < generated.globals.length; index++) body.u8(VALUE_TYPE.i32).u8(1).i32Const(0).op(OP.end)
  })
}

function encodeExports(out: ByteWriter, { module, map, initData, mutableGlobals }: EncodeInput): void {
  const body = new ByteWriter()
  let count = 0
  const add = (name: string, kind: number, index: number): void => {
    count++
    body.name(name).u8(kind).u32(index)
  }
  for (const { name, kind, index } of module.exports) add(name, kind, kind === EXTERNAL_KIND.function ? (map[index] ?? 0) : index)
  for (const { exportName, index, added } of mutableGlobals) if (added) add(exportName, EXTERNAL_KIND.global, index)
  if (module.start !== null) add(START_EXPORT, EXTERNAL_KIND.function, map[module.start] ?? 0)
  if (initData !== null) add(INIT_DATA_EXPORT, EXTERNAL_KIND.function, initData)
  section(out, 7, count, (content) => content.raw(body.view()))
}

/** A section of `count` entries; none if there are no entries. */
function section(out: ByteWriter, id: number, count: number, write: (body: ByteWriter) => unknown): void {
  if (count === 0) return
  const body = new ByteWriter(1024)
  body.u32(count)
  write(body)
  out.u8(id).sized(body.view())
}
