/**
 * Rewrites function bodies. Bytes that stay are copied in runs; only instructions in the switch below are replaced.
 *
 * C1. The page of a store is marked before the store. Its operands wait in locals meanwhile: optimising compilers see
 *     through them, and one local of each type is enough because nothing else runs between. Where the value is a constant
 *     or a local, the mark comes before it instead, which needs fewer locals and fewer bytes.
 * C2. What is inserted leaves the operand stack as it found it, so it may stand in unreachable code too.
 * C3. Running out of fuel is said to be unlikely in a branch hint section, so that an engine that reads it keeps the call
 *     out of the way of the loop: measured 5 to 8 % of the run time of compute-heavy scripts, of 25 to 30 % in all. V8
 *     reads it with --experimental-wasm-branch-hinting. The guest's own hints are dropped with its custom sections.
 * C4. An instruction of the original names memory 0 only (checked while reading); only inserted ones name memory 1.
 */
import { REWRITTEN_BODY_BYTES_MAX, REWRITTEN_BYTES_MAX } from './bounds.ts'
import { CONTROL_FUEL, CONTROL_TABLE_WRITTEN, CONTROL_VIRTUAL_PAGES, GRANULE_SHIFT } from './layout.ts'
import { InstructionReader } from './instruction-reader.ts'
import { ByteWriter } from './writer.ts'
import { OP, STORE_BY_OPCODE, type Store, type StoreKind, type StoredType } from './opcodes.ts'
import { refuse } from './refusal.ts'
import { VALUE_TYPE } from './value-types.ts'
import type { Generated } from './generated.ts'
import type { Charges } from './charges.ts'
import type { DecodedModule } from './module.ts'

export interface CodeCounts {
  stores: number
  bulk: number
  payments: number
}

export class CodeRewriter {
  readonly counts: CodeCounts = { stores: 0, bulk: 0, payments: 0 }
  readonly storeKinds = new Set<StoreKind>()
  readonly #module: DecodedModule
  readonly #functionMap: Uint32Array
  readonly #charges: Charges
  readonly #generated: Generated
  readonly #omitMarking: StoreKind | undefined
  readonly #code = new ByteWriter(65_536)
  readonly #body = new ByteWriter(65_536)
  /** Types of the locals added to the function at hand, in order, and where each is. */
  readonly #scratchTypes: number[] = []
  readonly #scratch = new Map<string, number>()
  #scratchFirst = 0
  /** Where the last instruction begins if all it does is push a value, else -1; and the local that it pushes, or -1. */
  #valueStart = -1
  #pushedLocal = -1
  /** The local that the instruction before that one pushed, or -1. */
  #addressLocal = -1
  /** Where in `#code` the branches are that ask for fuel. */
  readonly #branches: number[] = []
  readonly #hints = new ByteWriter(16_384)
  #hintedFunctions = 0

  constructor(module: DecodedModule, functionMap: Uint32Array, charges: Charges, generated: Generated, omitMarking: StoreKind | undefined) {
    this.#module = module
    this.#functionMap = functionMap
    this.#charges = charges
    this.#generated = generated
    this.#omitMarking = omitMarking
  }

  /** Writes the body of the `defined`-th defined function, with its length before it. Call once for each, in order. */
  rewrite(defined: number, out: ByteWriter): void {
    const module = this.#module
    const body = module.bodies[defined]
    if (body === undefined) throw new RangeError(`no function ${defined}`)
    const reader = new InstructionReader(module, body, defined)
    const code = this.#code
    code.clear()
    this.#branches.length = 0
    this.#valueStart = this.#pushedLocal = this.#addressLocal = -1
    this.#scratch.clear()
    this.#scratchTypes.length = 0
    this.#scratchFirst = reader.localCount
    const points = this.#charges[defined] ?? []
    let point = 0
    let copied = reader.offset
    while (reader.next()) {
      if (points[point] === reader.start) {
        point++
        code.raw(module.bytes.subarray(copied, reader.start))
        copied = reader.start
        this.#pay()
      }
      const end = this.#replace(reader, copied)
      if (end >= 0) copied = end
      this.#remember(reader)
    }
    code.raw(module.bytes.subarray(copied, reader.offset))
    const declarations = module.bytes.subarray(reader.declarationsStart, reader.declarationsEnd)
    this.#body.clear()
    this.#body.u32(reader.declarationCount + this.#scratchTypes.length).raw(declarations)
    for (const scratchType of this.#scratchTypes) this.#body.u32(1).u8(scratchType)
    this.#hint(defined, this.#body.length)
    this.#body.raw(code.view())
    if (this.#body.length > REWRITTEN_BODY_BYTES_MAX) refuse('a function is too large once rewritten', '(function body)', body.start)
    if (out.length + this.#body.length > REWRITTEN_BYTES_MAX) refuse('the module is too large once rewritten', '(function body)', body.start)
    out.sized(this.#body.view())
  }

  /** Content of the section `metadata.code.branch_hint` for all bodies written so far. */
  branchHints(): Uint8Array {
    return new ByteWriter(this.#hints.length + 8).u32(this.#hintedFunctions).raw(this.#hints.view()).view()
  }

  /** `codeStart` is where the code begins in the function's body; a hint counts from the body's start. */
  #hint(defined: number, codeStart: number): void {
    if (this.#branches.length === 0) return
    this.#hintedFunctions++
    this.#hints.u32(this.#functionMap[this.#module.importedFunctionCount + defined] ?? 0).u32(this.#branches.length)
    for (const offset of this.#branches) this.#hints.u32(codeStart + offset).u8(1).u8(BRANCH_UNLIKELY)
  }

  /** Writes what comes in place of the instruction, after the bytes kept before it. Returns up to where the original is used up; -1 if it stays. */
  #replace(reader: InstructionReader, copied: number): number {
    const code = this.#code
    const generated = this.#generated
    const keep = (to = reader.start): void => {
      code.raw(this.#module.bytes.subarray(copied, to))
    }
    switch (reader.opcode) {
      case OP.call: case OP.returnCall: case OP.refFunc: {
        const mapped = this.#functionMap[reader.index] ?? 0
        if (mapped === reader.index) return -1
        keep()
        code.op(reader.opcode).u32(mapped)
        return reader.offset
      }
      case OP.memorySize:
        keep()
        code.i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_VIRTUAL_PAGES)
        return reader.offset
      case OP.memoryGrow: keep(); code.call(generated.grow); return reader.offset
      case OP.memoryFill: keep(); this.#bulk('memory.fill'); code.call(generated.fill); return reader.offset
      case OP.memoryCopy: keep(); this.#bulk('memory.copy'); code.call(generated.copy); return reader.offset
      case OP.memoryInit: keep(); this.#bulk('memory.init'); code.call(generated.init(reader.index)); return reader.offset
      case OP.dataDrop: keep(); this.#drop(generated.dataDropped(reader.index)); return reader.offset
      case OP.elemDrop: keep(); this.#drop(generated.elementDropped(reader.index)); return reader.offset
      case OP.tableSet:
        keep(reader.offset)
        code.i32Const(0).i32Const(1).flagsAccess(OP.i32Store, 2, CONTROL_TABLE_WRITTEN)
        return reader.offset
      case OP.tableInit:
        keep()
        this.counts.bulk++
        code.call(generated.tableInit(reader.index, reader.second))
        return reader.offset
      case OP.tableCopy: case OP.tableFill: case OP.tableGrow: {
        keep()
        this.counts.bulk++
        const count = this.#local('count', VALUE_TYPE.i32)
        code.localTee(count).localGet(count).call(generated.tableWrite)
        code.raw(this.#module.bytes.subarray(reader.start, reader.offset))
        return reader.offset
      }
      default: {
        const store = STORE_BY_OPCODE.get(reader.opcode)
        if (store === undefined) return -1
        this.counts.stores++
        this.storeKinds.add(store.kind)
        if (store.kind === this.#omitMarking) return -1
        // What was already copied, because a payment stands before the store, cannot be split any more.
        if (this.#valueStart < copied) {
          keep()
          this.#markBelowValue(reader, store)
          return reader.start
        }
        keep(this.#valueStart)
        this.#mark(reader)
        return this.#valueStart
      }
    }
  }

  #drop(flag: number | null): void {
    if (flag !== null) this.#code.i32Const(1).op(OP.globalSet).u32(flag)
  }

  #bulk(kind: StoreKind): void {
    this.counts.bulk++
    this.storeKinds.add(kind)
  }

  /** Notes whether the instruction just read only pushes a value, and whether the one before pushed a local. */
  #remember(reader: InstructionReader): void {
    this.#addressLocal = this.#pushedLocal
    this.#valueStart = SIMPLE_PUSHES.has(reader.opcode) ? reader.start : -1
    this.#pushedLocal = reader.opcode === OP.localGet ? reader.index : -1
  }

  /** Sets the flag of the page at the address below the value on the stack. */
  #markBelowValue(reader: InstructionReader, store: Store): void {
    const value = this.#local(store.valueType, TYPE_CODES[store.valueType])
    const address = this.#local('address', VALUE_TYPE.i32)
    this.#code.localSet(value).localTee(address)
    this.#flag(reader)
    this.#code.localGet(address).localGet(value)
  }

  /** Sets the flag of the page at the address on the stack, and leaves it there. */
  #mark(reader: InstructionReader): void {
    if (this.#addressLocal >= 0) this.#code.localGet(this.#addressLocal)
    else {
      const address = this.#local('address', VALUE_TYPE.i32)
      this.#code.localTee(address).localGet(address)
    }
    this.#flag(reader)
  }

  /** Sets the flag of the page at the address on the stack and takes it off. */
  #flag(reader: InstructionReader): void {
    const code = this.#code
    if (reader.memoryOffset !== 0) code.i32Const(reader.memoryOffset).op(OP.i32Add)
    code.i32Const(GRANULE_SHIFT).op(OP.i32ShrU).i32Const(1).flagsAccess(OP.i32Store8, 0, 0)
  }

  /** Takes one unit of fuel and asks for more if there is none. */
  #pay(): void {
    this.counts.payments++
    const fuel = this.#local('fuel', VALUE_TYPE.i32)
    this.#code
      .i32Const(0)
      .i32Const(0).flagsAccess(OP.i32Load, 2, CONTROL_FUEL).i32Const(1).op(OP.i32Sub).localTee(fuel)
      .flagsAccess(OP.i32Store, 2, CONTROL_FUEL)
      .localGet(fuel).i32Const(0).op(OP.i32LtS)
    this.#branches.push(this.#code.length)
    this.#code.op(OP.if).u8(0x40).call(this.#generated.exhausted).op(OP.end)
  }

  /** A local of our own: one for each purpose in a function. */
  #local(purpose: string, type: number): number {
    let index = this.#scratch.get(purpose)
    if (index === undefined) {
      index = this.#scratchFirst + this.#scratchTypes.length
      this.#scratchTypes.push(type)
      this.#scratch.set(purpose, index)
    }
    return index
  }
}

/** Instructions that take nothing, push one value and cannot trap. */
const SIMPLE_PUSHES: ReadonlySet<number> = new Set([OP.localGet, OP.globalGet, OP.i32Const, OP.i64Const, OP.f32Const, OP.f64Const, OP.v128Const])
const BRANCH_UNLIKELY = 0

const TYPE_CODES: Readonly<Record<StoredType, number>> = {
  i32: VALUE_TYPE.i32, i64: VALUE_TYPE.i64, f32: VALUE_TYPE.f32, f64: VALUE_TYPE.f64, v128: VALUE_TYPE.v128,
}
