/** Value types, and reading the encoded forms that name them. */
import type { ByteReader } from './reader.ts'
import type { NumericType } from './opcodes.ts'

export const VALUE_TYPE = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b, funcref: 0x70, externref: 0x6f } as const
const REF_NULL = 0x63
const REF = 0x64

export const NUMERIC_TYPES: ReadonlyMap<number, NumericType> = new Map([
  [VALUE_TYPE.i32, 'i32'], [VALUE_TYPE.i64, 'i64'], [VALUE_TYPE.f32, 'f32'], [VALUE_TYPE.f64, 'f64'],
])

/** Heap types as signed numbers: func and nofunc are references to functions, extern and noextern values of the host. */
const HEAP_FUNCTION: readonly number[] = [-0x10, -0x0d]
const HEAP_EXTERN: readonly number[] = [-0x11, -0x0e]

export type ValueClass = 'number' | 'v128' | 'function' | 'extern'

/** Reads one value type. References to garbage-collected types and to exceptions are refused wherever they are named. */
export function readValueType(reader: ByteReader, typeCount: number): ValueClass {
  const start = reader.offset
  switch (reader.u8()) {
    case VALUE_TYPE.i32: case VALUE_TYPE.i64: case VALUE_TYPE.f32: case VALUE_TYPE.f64: return 'number'
    case VALUE_TYPE.v128: return 'v128'
    case VALUE_TYPE.funcref: case 0x73: return 'function'
    case VALUE_TYPE.externref: case 0x72: return 'extern'
    case REF_NULL: case REF: return readHeapType(reader, typeCount)
    case 0x69: case 0x74: return reader.refuse('exception references are not supported', start)
    case 0x6e: case 0x6d: case 0x6c: case 0x6b: case 0x6a: case 0x71: return reader.refuse('state of the garbage-collected types cannot be restored', start)
    default: return reader.refuse('an unknown value type', start)
  }
}

export function readHeapType(reader: ByteReader, typeCount: number): ValueClass {
  const start = reader.offset
  const heapType = reader.s33()
  if (heapType >= 0) {
    if (heapType >= typeCount) reader.refuse(`there is no type ${heapType}`, start)
    return 'function'
  }
  if (HEAP_FUNCTION.includes(heapType)) return 'function'
  if (HEAP_EXTERN.includes(heapType)) return 'extern'
  return reader.refuse('state of the garbage-collected types cannot be restored', start)
}

/** Passes over a block type: none, one value type or the index of a function type. */
export function skipBlockType(reader: ByteReader, typeCount: number): void {
  const first = reader.peek()
  if (first === 0x40) {
    reader.offset++
    return
  }
  if (first >= 0x40 && first < 0x80) {
    readValueType(reader, typeCount)
    return
  }
  const start = reader.offset
  const index = reader.s33()
  if (index < 0 || index >= typeCount) reader.refuse(`there is no type ${index}`, start)
}
