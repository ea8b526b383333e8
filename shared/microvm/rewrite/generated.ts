/**
 * The functions, types and globals that the rewriter adds to a module. They stand behind the module's own, so that no
 * index of the original but those of functions moves.
 *
 * Rewritten code calls them where an instruction needs more than a few bytes in its place. Bulk operations are whole
 * functions here: paying, marking and the operation itself, so that the caller's operands can stay on the stack.
 */
import {
  CONTROL_FUEL, CONTROL_LIMIT_PAGES, CONTROL_TABLE_WRITTEN, CONTROL_VIRTUAL_PAGES, DATA_DROPPED_EXPORT_PREFIX, GRANULE_SHIFT,
  ELEMENT_DROPPED_EXPORT_PREFIX, GROW_SLACK_PAGES,
} from './layout.ts'
import { writeConstExpression } from './const-expression.ts'
import { OP, type StoreKind } from './opcodes.ts'
import { VALUE_TYPE } from './value-types.ts'
import { ByteWriter } from './writer.ts'
import type { DecodedModule } from './module.ts'

export interface GeneratedFunction {
  readonly typeIndex: number
  /** Local declarations and code, `end` included. */
  readonly body: Uint8Array
}

const PREFIX_BULK = 0xfc
const BLOCK_EMPTY = 0x40
/** Bulk operations pay one unit more for each 64 bytes or entries. */
const BULK_UNIT_SHIFT = 6
const MINUS_ONE = -1

export class Generated {
  readonly functions: GeneratedFunction[] = []
  /** Encoded types behind those of the module. */
  readonly types: Uint8Array[] = []
  /** Export names of added i32 globals, which begin as 0. */
  readonly globals: string[] = []
  /** The import `outpost.refuel`, behind all other imported functions. */
  readonly refuel: number
  /** `() -> ()`: asks for more fuel, and traps if there is none. */
  readonly exhausted: number
  /** `(delta) -> i32` in place of memory.grow. */
  readonly grow: number
  /** `(n) -> ()`: pays for a table operation on n entries and notes that a table is written. */
  readonly tableWrite: number
  /** `(d, v, n) -> ()` and `(d, s, n) -> ()` in place of memory.fill and memory.copy. */
  readonly fill: number
  readonly copy: number
  /** Type of `outpost.refuel`. */
  readonly refuelType: number
  readonly #module: DecodedModule
  readonly #functionMap: Uint32Array
  readonly #firstFunction: number
  readonly #omitMarking: StoreKind | undefined
  readonly #made = new Map<string, number>()
  readonly #mark: number

  /** `refuel` is the index of that import, `firstFunction` the one that follows the module's own functions. */
  constructor(module: DecodedModule, functionMap: Uint32Array, refuel: number, firstFunction: number, omitMarking: StoreKind | undefined) {
    this.#module = module
    this.#functionMap = functionMap
    this.#firstFunction = firstFunction
    this.#omitMarking = omitMarking
    this.refuel = refuel
    this.refuelType = this.#type(0, 1)
    this.exhausted = this.#add(0, 0, 0, (code) => code.call(refuel).op(OP.if).u8(BLOCK_EMPTY).op(OP.unreachable).op(OP.end))
    this.grow = this.#add(1, 1, 3, (code) => writeGrow(code, module.memory?.limits.maximum ?? null))
    this.#mark = this.#add(2, 0, 1, writeMarkRange)
    this.tableWrite = this.#add(1, 0, 1, (code) => {
      this.#pay(code, 0, 1)
      code.i32Const(0).i32Const(1).flagsAccess(OP.i32Store, 2, CONTROL_TABLE_WRITTEN)
    })
    this.fill = this.#bulk('memory.fill', (code) => code.u8(PREFIX_BULK).u8(0x0b).u8(0))
    this.copy = this.#bulk('memory.copy', (code) => code.u8(PREFIX_BULK).u8(0x0a).u8(0).u8(0))
  }

  /** `(d, s, n) -> ()` in place of memory.init of that segment, and in place of table.init. */
  init(segment: number): number {
    return this.#once(`memory.init ${segment}`, () => this.#bulk('memory.init', (code) => code.u8(PREFIX_BULK).u8(0x08).u32(segment).u8(0), (code) => {
      this.#trapIfDropped(code, this.dataDropped(segment))
    }))
  }

  tableInit(segment: number, table: number): number {
    return this.#once(`table.init ${segment} ${table}`, () => this.#add(3, 0, 0, (code) => {
      code.localGet(2).call(this.tableWrite)
      // Active and declared segments are dropped by the engine itself before any code runs.
      if (this.#module.elements[segment]?.mode === 'passive') this.#trapIfDropped(code, this.elementDropped(segment))
      code.localGet(0).localGet(1).localGet(2).u8(PREFIX_BULK).u8(0x0c).u32(segment).u32(table)
    }))
  }

  /** The i32 global that says whether a data segment is dropped; null for an active one, which always is. */
  dataDropped(segment: number): number | null {
    if (this.#module.data[segment]?.offset !== null) return null
    return this.#once(`data ${segment}`, () => this.#global(`${DATA_DROPPED_EXPORT_PREFIX}${segment}`))
  }

  elementDropped(segment: number): number | null {
    if (this.#module.elements[segment]?.mode !== 'passive') return null
    return this.#once(`element ${segment}`, () => this.#global(`${ELEMENT_DROPPED_EXPORT_PREFIX}${segment}`))
  }

  /** `outpost.initData`: what instantiating the original would write; null if that is nothing. */
  initData(): number | null {
    const { data } = this.#module
    if (data.every(({ offset }) => offset === null)) return null
    return this.#add(0, 0, 1, (code) => {
      data.forEach(({ offset, bytes }, segment) => {
        if (offset === null) return
        writeConstExpression(code, offset, this.#functionMap)
        code.localTee(0).i32Const(bytes.length).call(this.#mark)
        code.localGet(0).i32Const(0).i32Const(bytes.length).u8(PREFIX_BULK).u8(0x08).u32(segment).u8(0)
      })
    })
  }

  /** A bulk operation on (destination, value or source, length). */
  #bulk(kind: StoreKind, operation: (code: ByteWriter) => unknown, check?: (code: ByteWriter) => unknown): number {
    return this.#add(3, 0, 1, (code) => {
      this.#pay(code, 2, 3)
      check?.(code)
      if (kind !== this.#omitMarking) code.localGet(0).localGet(2).call(this.#mark)
      operation(code.localGet(0).localGet(1).localGet(2))
    })
  }

  /** Subtracts 1 + (n >> 6) for the n in local `count`; `scratch` is another local. */
  #pay(code: ByteWriter, count: number, scratch: number): void {
    code.i32Const(0)
      .i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_FUEL)
      .localGet(count).i32Const(BULK_UNIT_SHIFT).op(OP.i32ShrU).i32Const(1).op(OP.i32Add).op(OP.i32Sub).localTee(scratch)
      .flagsAccess(OP.i32Store, 2, CONTROL_FUEL)
      .localGet(scratch).i32Const(0).op(OP.i32LtS)
      .op(OP.if).u8(BLOCK_EMPTY).call(this.exhausted).op(OP.end)
  }

  /** A dropped segment is empty: an init of (s, n) = (0, 0) does nothing, any other traps. */
  #trapIfDropped(code: ByteWriter, dropped: number | null): void {
    code.localGet(1).localGet(2).op(OP.i32Or)
    if (dropped !== null) code.i32Const(0).op(OP.i32Ne).op(OP.globalGet).u32(dropped).op(OP.i32And)
    code.op(OP.if).u8(BLOCK_EMPTY).op(OP.unreachable).op(OP.end)
  }

  #add(parameters: number, results: number, locals: number, write: (code: ByteWriter) => unknown): number {
    const code = new ByteWriter()
    if (locals > 0) code.u32(1).u32(locals).u8(VALUE_TYPE.i32)
    else code.u32(0)
    write(code)
    code.op(OP.end)
    this.functions.push({ typeIndex: this.#type(parameters, results), body: code.copy() })
    return this.#firstFunction + this.functions.length - 1
  }

  /** The type with so many i32 parameters and results. */
  #type(parameters: number, results: number): number {
    return this.#once(`type ${parameters} ${results}`, () => {
      const i32s = (count: number): number[] => new Array<number>(count).fill(VALUE_TYPE.i32)
      this.types.push(Uint8Array.of(0x60, parameters, ...i32s(parameters), results, ...i32s(results)))
      return this.#module.types.length + this.types.length - 1
    })
  }

  #global(exportName: string): number {
    this.globals.push(exportName)
    return this.#module.globals.length + this.globals.length - 1
  }

  #once(key: string, make: () => number): number {
    const made = this.#made.get(key) ?? make()
    this.#made.set(key, made)
    return made
  }
}

/**
 * `(destination, length)` with one local: flags of the pages of a range. A range that does not fit the memory is left
 * alone, because the operation on it traps without writing; so flags beyond the table cannot be meant.
 */
function writeMarkRange(code: ByteWriter): void {
  const [destination, length, last] = [0, 1, 2]
  code.localGet(length).op(OP.i32Eqz).op(OP.if).u8(BLOCK_EMPTY).op(OP.return).op(OP.end)
  // The last byte of a range that wraps around lies below its first.
  code.localGet(destination).localGet(length).op(OP.i32Add).i32Const(1).op(OP.i32Sub).localTee(last)
    .localGet(destination).op(OP.i32LtU).op(OP.if).u8(BLOCK_EMPTY).op(OP.return).op(OP.end)
  code.localGet(last).i32Const(16).op(OP.i32ShrU).op(OP.memorySize).u8(0).op(OP.i32GeU).op(OP.if).u8(BLOCK_EMPTY).op(OP.return).op(OP.end)
  // Most ranges lie in one page, and a store is cheaper than a fill.
  code.localGet(destination).i32Const(GRANULE_SHIFT).op(OP.i32ShrU).localTee(destination)
    .localGet(last).i32Const(GRANULE_SHIFT).op(OP.i32ShrU).localTee(last)
    .op(OP.i32Eq).op(OP.if).u8(BLOCK_EMPTY)
    .localGet(destination).i32Const(1).flagsAccess(OP.i32Store8, 0, 0)
    .op(OP.else)
    .localGet(destination).i32Const(1).localGet(last).localGet(destination).op(OP.i32Sub).i32Const(1).op(OP.i32Add).u8(PREFIX_BULK).u8(0x0b).u8(1)
    .op(OP.end)
}

/** `(delta) -> i32` with three locals: memory.grow on the virtual size. `maximum` is the module's own, null for none. */
function writeGrow(code: ByteWriter, maximum: number | null): void {
  const [delta, old, wanted, target] = [0, 1, 2, 3]
  const fail = (): unknown => code.op(OP.if).u8(BLOCK_EMPTY).i32Const(MINUS_ONE).op(OP.return).op(OP.end)
  code.i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_VIRTUAL_PAGES).localTee(old).localGet(delta).op(OP.i32Add).localTee(wanted)
    .localGet(old).op(OP.i32LtU)
  fail()
  code.localGet(wanted).i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_LIMIT_PAGES).op(OP.i32GtU)
  fail()
  if (maximum !== null) {
    code.localGet(wanted).i32Const(maximum).op(OP.i32GtU)
    fail()
  }
  code.localGet(wanted).op(OP.memorySize).u8(0).op(OP.i32GtU).op(OP.if).u8(BLOCK_EMPTY)
  // Grow ahead by some slack, but not beyond the limit.
  code.localGet(wanted).i32Const(GROW_SLACK_PAGES).op(OP.i32Add).localTee(target)
    .i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_LIMIT_PAGES).op(OP.i32GtU)
    .op(OP.if).u8(BLOCK_EMPTY).i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_LIMIT_PAGES).localSet(target).op(OP.end)
  for (const goal of [target, wanted]) {
    code.localGet(goal).op(OP.memorySize).u8(0).op(OP.i32Sub).op(OP.memoryGrow).u8(0).i32Const(MINUS_ONE).op(OP.i32Eq)
    if (goal === target) code.op(OP.if).u8(BLOCK_EMPTY)
    else fail()
  }
  code.op(OP.end).op(OP.end)
  code.i32Const(0).localGet(wanted).flagsAccess(OP.i32Store, 2, CONTROL_VIRTUAL_PAGES).localGet(old)
}
