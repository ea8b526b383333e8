/**
 * Walks the instructions of one function body. `next()` decodes one instruction into the fields and checks what it
 * names against the original module (D1 in module.ts); the caller looks at `opcode` and the fields that its form has.
 *
 * Types are not checked: WebAssembly.validate has done that. Block structure is, because labels and nesting need it.
 */
import { BRANCH_TABLE_MAX, LOCALS_MAX, NESTING_MAX } from './bounds.ts'
import { IMMEDIATE, PLAIN_IMMEDIATES, PREFIX_FIRST, PREFIX_LAST, immediateOf, opcodeName, refusalOf } from './opcodes.ts'
import { ByteReader } from './reader.ts'
import { readHeapType, readValueType, skipBlockType } from './value-types.ts'
import type { DecodedModule, FunctionBody } from './module.ts'

export class InstructionReader {
  /** Byte range of the instruction in the module. */
  start = 0
  /** As `opcodes.ts` numbers them. */
  opcode = 0
  /** Blocks around the next instruction, the function's own included; 0 after its last `end`. */
  depth = 1
  /** The index that the instruction names: function, type, local, global, table, segment or label. */
  index = 0
  /** The second index of call_indirect (table), table.init (table) and table.copy (source). */
  second = 0
  /** Constant offset of a load or store. */
  memoryOffset = 0
  /** Byte range of the local declarations, without their count. */
  readonly declarationsStart: number
  readonly declarationsEnd: number
  readonly declarationCount: number
  /** Parameters and locals together. */
  readonly localCount: number
  /** Labels of the br_table just read, its default last; the same array each time. */
  readonly labels: number[] = []
  readonly #reader: ByteReader
  readonly #module: DecodedModule

  /** `defined` is the function's index among the defined ones. */
  constructor(module: DecodedModule, body: FunctionBody, defined: number) {
    this.#module = module
    const type = module.types[module.functionTypes[module.importedFunctionCount + defined] ?? 0]
    this.#reader = new ByteReader(module.bytes, body.start, body.end, '(locals)')
    const reader = this.#reader
    this.declarationCount = reader.count(LOCALS_MAX, 2)
    this.declarationsStart = reader.offset
    let localCount = type?.parameterCount ?? 0
    for (let index = 0; index < this.declarationCount; index++) {
      localCount += reader.u32()
      if (localCount > LOCALS_MAX) reader.refuse(`more than ${LOCALS_MAX} locals`)
      readValueType(reader, module.types.length)
    }
    this.localCount = localCount
    this.declarationsEnd = reader.offset
    reader.context = () => opcodeName(this.opcode)
  }

  /** Byte offset of the next instruction. */
  get offset(): number {
    return this.#reader.offset
  }

  /** Decodes the next instruction; false after the function's last `end`. */
  next(): boolean {
    const reader = this.#reader
    if (this.depth === 0) {
      reader.finish()
      return false
    }
    this.start = reader.offset
    const byte = reader.u8()
    let immediate = PLAIN_IMMEDIATES[byte] ?? IMMEDIATE.unknown
    this.opcode = byte
    if (byte >= PREFIX_FIRST && byte <= PREFIX_LAST) {
      const number = reader.u32()
      this.opcode = byte * 0x1000 + Math.min(number, 0xfff)
      immediate = immediateOf(this.opcode)
    }
    if (immediate !== IMMEDIATE.none) this.#readImmediate(immediate)
    return true
  }

  #readImmediate(immediate: number): void {
    const reader = this.#reader
    const module = this.#module
    switch (immediate) {
      case IMMEDIATE.loop: case IMMEDIATE.block:
        skipBlockType(reader, module.types.length)
        if (++this.depth > NESTING_MAX) this.refuse(`blocks are nested deeper than ${NESTING_MAX}`)
        return
      case IMMEDIATE.end: this.depth--; return
      case IMMEDIATE.else: return
      case IMMEDIATE.label: this.index = this.#index(this.depth, 'label'); return
      case IMMEDIATE.labelTable: return this.#readLabels()
      case IMMEDIATE.function: this.index = this.#index(module.functionTypes.length, 'function'); return
      case IMMEDIATE.callIndirect:
        this.index = this.#index(module.types.length, 'type')
        this.second = this.#index(module.tables.length, 'table')
        return
      case IMMEDIATE.type: this.index = this.#index(module.types.length, 'type'); return
      case IMMEDIATE.local: this.index = this.#index(this.localCount, 'local'); return
      case IMMEDIATE.global: this.index = this.#index(module.globals.length, 'global'); return
      case IMMEDIATE.table: this.index = this.#index(module.tables.length, 'table'); return
      case IMMEDIATE.load: case IMMEDIATE.store: return this.#readMemoryArgument()
      case IMMEDIATE.loadLane: case IMMEDIATE.storeLane:
        this.#readMemoryArgument()
        reader.skip(1)
        return
      case IMMEDIATE.lane: reader.skip(1); return
      case IMMEDIATE.memory: return this.#readMemory()
      case IMMEDIATE.memoryCopy:
        this.#readMemory()
        return this.#readMemory()
      case IMMEDIATE.memoryInit:
        this.#readDataSegment()
        return this.#readMemory()
      case IMMEDIATE.dataDrop: return this.#readDataSegment()
      case IMMEDIATE.tableInit:
        this.index = this.#index(module.elements.length, 'element segment')
        this.second = this.#index(module.tables.length, 'table')
        return
      case IMMEDIATE.elementDrop: this.index = this.#index(module.elements.length, 'element segment'); return
      case IMMEDIATE.tableCopy:
        this.index = this.#index(module.tables.length, 'table')
        this.second = this.#index(module.tables.length, 'table')
        return
      case IMMEDIATE.i32: reader.skipSigned(5); return
      case IMMEDIATE.i64: reader.skipSigned(10); return
      case IMMEDIATE.bytes4: reader.skip(4); return
      case IMMEDIATE.bytes8: reader.skip(8); return
      case IMMEDIATE.bytes16: reader.skip(16); return
      case IMMEDIATE.selectTypes: {
        const count = reader.count(1, 1)
        for (let index = 0; index < count; index++) readValueType(reader, module.types.length)
        return
      }
      case IMMEDIATE.heapType: readHeapType(reader, module.types.length); return
      default: return this.refuse(refusalOf(this.opcode) ?? 'an unknown instruction')
    }
  }

  /** Refuses the module because of the instruction just read. */
  refuse(reason: string): never {
    return this.#reader.refuse(reason, this.start)
  }

  #index(count: number, what: string): number {
    const index = this.#reader.u32()
    if (index >= count) this.refuse(`there is no ${what} ${index}`)
    return index
  }

  #readLabels(): void {
    const count = this.#reader.u32()
    if (count > BRANCH_TABLE_MAX) this.refuse(`more than ${BRANCH_TABLE_MAX} labels`)
    if (count >= this.#reader.remaining) this.refuse('a count is larger than what follows it')
    this.labels.length = 0
    for (let index = 0; index <= count; index++) this.labels.push(this.#index(this.depth, 'label'))
  }

  #readMemoryArgument(): void {
    const alignment = this.#reader.u32()
    if (alignment >= 0x40) this.refuse('an alignment that names another memory')
    if (this.#module.memory === null) this.refuse('there is no memory 0')
    this.memoryOffset = this.#reader.u32()
  }

  #readMemory(): void {
    const memory = this.#reader.u32()
    if (memory !== 0 || this.#module.memory === null) this.refuse(`there is no memory ${memory}`)
  }

  #readDataSegment(): void {
    // Code comes before the data section, so only the data count section makes these indices checkable.
    if (!this.#module.hasDataCount) this.refuse('a data segment is named without a data count section')
    this.index = this.#index(this.#module.data.length, 'data segment')
  }
}
