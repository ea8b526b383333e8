/** Constant expressions: initial values of globals and tables, offsets of segments, entries of element segments. */
import { OP, immediateOf, opcodeName, refusalOf } from './opcodes.ts'
import { readHeapType } from './value-types.ts'
import type { ByteReader } from './reader.ts'
import type { ByteWriter } from './writer.ts'

/** Instructions of one expression at most: real ones have one, an extended one three. */
const INSTRUCTIONS_MAX = 64

export interface ConstCounts {
  readonly types: number
  readonly functions: number
  /** Globals that may be named here: those defined so far. */
  readonly globals: number
}

/** A decoded expression: its bytes without the `end`, and where function indices stand in them. */
export interface ConstExpression {
  readonly bytes: Uint8Array
  /** The function indices of its ref.func instructions, each with the range of its encoding in `bytes`. */
  readonly functions: readonly { readonly index: number; readonly start: number; readonly end: number }[]
}

export function readConstExpression(reader: ByteReader, counts: ConstCounts): ConstExpression {
  const first = reader.offset
  const outer = reader.context
  const functions: { index: number; start: number; end: number }[] = []
  for (let count = 0; count < INSTRUCTIONS_MAX; count++) {
    const start = reader.offset
    const opcode = readOpcode(reader)
    reader.context = opcodeName(opcode)
    switch (opcode) {
      case OP.end:
        reader.context = outer
        return { bytes: reader.bytes.subarray(first, start), functions }
      case OP.i32Const: reader.skipSigned(5); break
      case OP.i64Const: reader.skipSigned(10); break
      case OP.f32Const: reader.skip(4); break
      case OP.f64Const: reader.skip(8); break
      case OP.v128Const: reader.skip(16); break
      case OP.globalGet: reader.index(counts.globals, 'global'); break
      case OP.refNull: readHeapType(reader, counts.types); break
      case OP.refFunc: {
        const at = reader.offset - first
        const index = reader.index(counts.functions, 'function')
        functions.push({ index, start: at, end: reader.offset - first })
        break
      }
      case OP.i32Add: case OP.i32Sub: case OP.i32Mul: case OP.i64Add: case OP.i64Sub: case OP.i64Mul: break
      default: reader.refuse(refusalOf(opcode) ?? 'an unknown instruction in a constant expression', start)
    }
  }
  return reader.refuse('a constant expression is too long')
}

/** Writes the expression without its `end`, with function indices of the rewritten module. */
export function writeConstExpression(writer: ByteWriter, expression: ConstExpression, functionMap: Uint32Array): void {
  let from = 0
  for (const { index, start, end } of expression.functions) {
    writer.raw(expression.bytes.subarray(from, start)).u32(functionMap[index] ?? 0)
    from = end
  }
  writer.raw(expression.bytes.subarray(from))
}

/** An opcode as `opcodes.ts` numbers them. */
export function readOpcode(reader: ByteReader): number {
  const byte = reader.u8()
  if (immediateOf(byte) !== 0 || byte < 0xfb || byte > 0xfe) return byte
  const start = reader.offset - 1
  const number = reader.u32()
  if (number > 0xfff) return reader.refuse('an unknown instruction', start)
  return byte * 0x1000 + number
}
