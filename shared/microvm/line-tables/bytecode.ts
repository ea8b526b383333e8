/**
 * What QuickJS writes of a compiled module (JS_WriteObject2 of quickjs.c, BC_VERSION 27 and its like), read as far as
 * line tables go: where the atoms end, and where each function says which file and lines it is of.
 *
 *   version u8, checksum u32, atoms, module -> function -> constants (functions among them), code, debug block
 *   debug block: file name (atom), line, column, pc2line bytes, source
 *
 * The bytes come from the engine in a machine that read a hostile source: every read is bounded, and what is not as
 * expected throws UnknownBytecode.
 */
export class UnknownBytecode extends Error {}

/** Where a function's debug block says what. Offsets are of the whole bytecode. */
export interface DebugBlock {
  /** From the file name's atom to the end of the pc2line bytes. */
  readonly startAt: number
  readonly endAt: number
  /** As written: an atom's number times two. */
  readonly fileNameReference: number
  /** 1-based; columns count UTF-8 bytes. */
  readonly line: number
  readonly column: number
  readonly table: Uint8Array
  /** The code of the module itself, which holds statements of all its files. */
  readonly isTopLevel: boolean
}

export interface BytecodeLayout {
  readonly atomCount: number
  /** Of the leb128 that says how many atoms there are. */
  readonly atomCountAt: number
  readonly firstAtomAt: number
  readonly atomsEndAt: number
  /** Texts of atoms that have one, by index. */
  readonly atoms: readonly (string | null)[]
  /** What the module is called, as a reference to an atom. */
  readonly moduleNameReference: number
  readonly functions: readonly DebugBlock[]
}

const ATOM_CONST = 0
const TAG = { null: 1, undefined: 2, false: 3, true: 4, int32: 5, float64: 6, string: 7, array: 9, bigInt: 10, template: 11, function: 12, module: 13 } as const
const HAS_DEBUG = 1 << 11
const DEPTH_MAX = 2_000
const EXPORT_LOCAL = 0

export function readLayout(bytecode: Uint8Array): BytecodeLayout {
  const reader = new Reader(bytecode)
  reader.skip(5)
  const atomCountAt = reader.at
  const atomCount = reader.unsigned()
  const firstAtomAt = reader.at
  const atoms: (string | null)[] = []
  for (let index = 0; index < atomCount; index++) {
    if (reader.byte() === ATOM_CONST) {
      reader.skip(4)
      atoms.push(null)
    } else atoms.push(reader.text())
  }
  const atomsEndAt = reader.at
  if (reader.byte() !== TAG.module) throw new UnknownBytecode('it is no module')
  const moduleNameReference = reader.unsigned()
  const functions: DebugBlock[] = []
  skipModule(reader)
  readValue(reader, functions, 0, true)
  if (reader.at !== bytecode.length) throw new UnknownBytecode('more follows')
  return { atomCount, atomCountAt, firstAtomAt, atomsEndAt, atoms, moduleNameReference, functions }
}

function skipModule(reader: Reader): void {
  for (let count = reader.unsigned(); count > 0; count--) reader.unsigned()
  for (let count = reader.unsigned(); count > 0; count--) {
    const isLocal = reader.byte() === EXPORT_LOCAL
    reader.unsigned()
    if (!isLocal) reader.unsigned()
    reader.unsigned()
  }
  for (let count = reader.unsigned(); count > 0; count--) reader.unsigned()
  for (let count = reader.unsigned(); count > 0; count--) {
    reader.unsigned()
    reader.unsigned()
    reader.unsigned()
  }
  reader.byte()
}

function readValue(reader: Reader, functions: DebugBlock[], depth: number, isTopLevel: boolean): void {
  if (depth > DEPTH_MAX) throw new UnknownBytecode('it is nested too deeply')
  const tag = reader.byte()
  switch (tag) {
    case TAG.null: case TAG.undefined: case TAG.false: case TAG.true: return
    case TAG.int32: reader.unsigned(); return
    case TAG.float64: reader.skip(8); return
    case TAG.string: reader.text(); return
    case TAG.bigInt: reader.skip(reader.unsigned()); return
    case TAG.array: case TAG.template:
      for (let count = reader.unsigned(); count > 0; count--) readValue(reader, functions, depth + 1, false)
      if (tag === TAG.template) readValue(reader, functions, depth + 1, false)
      return
    case TAG.function: readFunction(reader, functions, depth, isTopLevel); return
    default: throw new UnknownBytecode(`tag ${tag}`)
  }
}

function readFunction(reader: Reader, functions: DebugBlock[], depth: number, isTopLevel: boolean): void {
  const flags = reader.byte() | (reader.byte() << 8)
  reader.byte()
  reader.unsigned()
  for (let count = 0; count < 5; count++) reader.unsigned()
  const closureCount = reader.unsigned()
  const constantCount = reader.unsigned()
  const codeBytes = reader.unsigned()
  for (let count = reader.unsigned(); count > 0; count--) {
    reader.unsigned()
    reader.unsigned()
    reader.unsigned()
    const isCaptured = (reader.byte() & (1 << 6)) !== 0
    if (isCaptured) reader.unsigned()
  }
  for (let count = closureCount; count > 0; count--) {
    reader.unsigned()
    reader.unsigned()
    reader.unsigned()
  }
  for (let count = constantCount; count > 0; count--) readValue(reader, functions, depth + 1, false)
  reader.skip(codeBytes)
  if ((flags & HAS_DEBUG) === 0) return
  const startAt = reader.at
  const fileNameReference = reader.unsigned()
  const line = reader.unsigned()
  const column = reader.unsigned()
  const table = reader.bytes(reader.unsigned())
  functions.push({ startAt, endAt: reader.at, fileNameReference, line, column, table, isTopLevel })
  reader.skip(reader.unsigned())
}

/** Bounded; throws UnknownBytecode past the end. */
export class Reader {
  at = 0
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get ended(): boolean {
    return this.at >= this.#bytes.length
  }

  byte(): number {
    const byte = this.#bytes[this.at++]
    if (byte === undefined) throw new UnknownBytecode('it ends too early')
    return byte
  }

  /** A leb128 of 32 bits. */
  unsigned(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
    throw new UnknownBytecode('a number is too long')
  }

  /** As dbuf_put_sleb128: zigzag. */
  signed(): number {
    const value = this.unsigned()
    return (value >>> 1) ^ -(value & 1)
  }

  skip(count: number): void {
    this.at += count
    if (this.at > this.#bytes.length) throw new UnknownBytecode('it ends too early')
  }

  bytes(count: number): Uint8Array {
    this.skip(count)
    return this.#bytes.subarray(this.at - count, this.at)
  }

  text(): string {
    const head = this.unsigned()
    const isWide = (head & 1) === 1
    const content = this.bytes((head >>> 1) * (isWide ? 2 : 1))
    return Buffer.from(content.buffer, content.byteOffset, content.length).toString(isWide ? 'utf16le' : 'latin1')
  }
}

export class Writer {
  readonly #bytes: number[] = []

  byte(value: number): void {
    this.#bytes.push(value & 0xff)
  }

  unsigned(value: number): void {
    let rest = value >>> 0
    for (; rest >= 0x80; rest >>>= 7) this.#bytes.push((rest & 0x7f) | 0x80)
    this.#bytes.push(rest)
  }

  signed(value: number): void {
    this.unsigned((value << 1) ^ (value >> 31))
  }

  /** Characters of `text` one byte each if they fit, else two. */
  text(text: string): void {
    const isWide = /[^\0-\xff]/.test(text)
    this.unsigned((text.length << 1) | (isWide ? 1 : 0))
    for (const byte of Buffer.from(text, isWide ? 'utf16le' : 'latin1')) this.#bytes.push(byte)
  }

  take(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }
}

/** bc_csum of quickjs.c, over everything behind version and checksum. */
export function checksum(bytes: Uint8Array): number {
  const factor = 0x9e37_0001
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let sum = 0
  let at = 0
  for (; at + 4 < bytes.length; at += 4) sum = Math.imul(sum + view.getUint32(at, true), factor)
  const rest = bytes.length - at
  const tail = rest > 3 ? 0 : (bytes[at] ?? 0) | ((rest > 1 ? (bytes[at + 1] ?? 0) : 0) << 8) | ((rest > 2 ? (bytes[at + 2] ?? 0) : 0) << 16)
  return Math.imul(sum + tail, factor) >>> 0
}
