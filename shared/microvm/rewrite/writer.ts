/** Writes the bytes of a module into one growing buffer. Integers come out in their shortest form. */
import { OP } from './opcodes.ts'

export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>
  #length = 0

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity)
  }

  get length(): number {
    return this.#length
  }

  /** A view of what was written, valid until the next write. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  copy(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length)
  }

  clear(): void {
    this.#length = 0
  }

  u8(value: number): this {
    if (this.#length === this.#bytes.length) this.#reserve(1)
    this.#bytes[this.#length++] = value
    return this
  }

  u32(value: number): this {
    let rest = value >>> 0
    while (rest >= 0x80) {
      this.u8((rest & 0x7f) | 0x80)
      rest >>>= 7
    }
    return this.u8(rest)
  }

  s32(value: number): this {
    let rest = value | 0
    while (rest < -64 || rest > 63) {
      this.u8((rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return this.u8(rest & 0x7f)
  }

  raw(bytes: Uint8Array): this {
    this.#reserve(bytes.length)
    this.#bytes.set(bytes, this.#length)
    this.#length += bytes.length
    return this
  }

  name(text: string): this {
    const bytes = Buffer.from(text)
    return this.u32(bytes.length).raw(bytes)
  }

  /** A length and then the bytes: the form of sections and function bodies. */
  sized(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes)
  }

  // The instructions that generated code is made of.

  op(opcode: number): this {
    return this.u8(opcode)
  }

  i32Const(value: number): this {
    return this.u8(OP.i32Const).s32(value)
  }

  localGet(index: number): this {
    return this.u8(OP.localGet).u32(index)
  }

  localSet(index: number): this {
    return this.u8(OP.localSet).u32(index)
  }

  localTee(index: number): this {
    return this.u8(OP.localTee).u32(index)
  }

  call(functionIndex: number): this {
    return this.u8(OP.call).u32(functionIndex)
  }

  /** A load or store of memory 1. Bit 6 of the alignment says that a memory index follows. */
  flagsAccess(opcode: number, alignment: number, offset: number): this {
    return this.u8(opcode).u8(alignment | 0x40).u8(1).u32(offset)
  }

  #reserve(count: number): void {
    const needed = this.#length + count
    if (needed <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
    grown.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = grown
  }
}
