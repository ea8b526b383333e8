/**
 * Reads the bytes of a module. Every read is bounded by `end`; what is too short, too long or malformed is refused with
 * its offset in the module. Nothing here trusts a count or a length that the module states.
 */
import { refuse } from './refusal.ts'

export class ByteReader {
  readonly bytes: Uint8Array
  readonly end: number
  offset: number
  /** What is being read, for refusals: a section in parentheses or, found out only when asked, the name of an instruction. */
  context: string | (() => string)

  constructor(bytes: Uint8Array, offset: number, end: number, context: string) {
    this.bytes = bytes
    this.offset = offset
    this.end = end
    this.context = context
  }

  get remaining(): number {
    return this.end - this.offset
  }

  refuse(reason: string, byteOffset = this.offset): never {
    return refuse(reason, typeof this.context === 'string' ? this.context : this.context(), byteOffset)
  }

  u8(): number {
    if (this.offset >= this.end) this.refuse('the module ends too early')
    return this.bytes[this.offset++] ?? 0
  }

  /** The next byte without taking it, or -1 at the end. */
  peek(): number {
    return this.offset < this.end ? (this.bytes[this.offset] ?? -1) : -1
  }

  /** Unsigned LEB128 of 32 bits: at most five bytes, no bits beyond the 32nd. */
  u32(): number {
    let byte = this.u8()
    if (byte < 0x80) return byte
    const start = this.offset - 1
    let value = byte & 0x7f
    for (let shift = 7; shift < 28; shift += 7) {
      byte = this.u8()
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    byte = this.u8()
    if (byte > 0x0f) this.refuse('an integer is encoded in too many bits', start)
    return (value | (byte << 28)) >>> 0
  }

  /** Signed LEB128 of 33 bits, as in block types and heap types. */
  s33(): number {
    const start = this.offset
    let value = 0
    let scale = 1
    for (let index = 0; index < 5; index++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      scale *= 128
      if (byte < 0x80) return (byte & 0x40) !== 0 ? value - scale : value
    }
    return this.refuse('an integer is encoded in too many bits', start)
  }

  /** Passes over a signed LEB128 of at most `bytesMax` bytes: 5 for i32, 10 for i64. */
  skipSigned(bytesMax: number): void {
    const start = this.offset
    for (let index = 0; index < bytesMax; index++) if (this.u8() < 0x80) return
    this.refuse('an integer is encoded in too many bits', start)
  }

  skip(count: number): void {
    if (count > this.remaining) this.refuse('the module ends too early')
    this.offset += count
  }

  /** A view of the next `count` bytes. */
  take(count: number): Uint8Array {
    const start = this.offset
    this.skip(count)
    return this.bytes.subarray(start, this.offset)
  }

  /** A reader of the next `count` bytes, which this one passes over. */
  section(count: number, context: string): ByteReader {
    const start = this.offset
    this.skip(count)
    return new ByteReader(this.bytes, start, this.offset, context)
  }

  /** The number of entries of a vector, each at least `entryBytesMin` long. */
  count(maximum: number, entryBytesMin: number): number {
    const start = this.offset
    const count = this.u32()
    if (count > maximum) this.refuse(`${count} entries are more than ${maximum}`, start)
    if (count * entryBytesMin > this.remaining) this.refuse('a count is larger than what follows it', start)
    return count
  }

  /** An index that must be below `count`. */
  index(count: number, what: string): number {
    const start = this.offset
    const index = this.u32()
    if (index >= count) this.refuse(`there is no ${what} ${index}`, start)
    return index
  }

  finish(): void {
    if (this.offset !== this.end) this.refuse('bytes are left over')
  }
}
