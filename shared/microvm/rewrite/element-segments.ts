/** Element segments: the functions that fill tables. All eight encoded forms become one, and are written as one of two. */
import { ELEMENTS_MAX, SEGMENTS_MAX } from './bounds.ts'
import { readConstExpression, writeConstExpression, type ConstExpression } from './const-expression.ts'
import { readValueType } from './value-types.ts'
import type { ByteReader } from './reader.ts'
import type { ByteWriter } from './writer.ts'
import type { DecodedModule } from './module.ts'

export interface ElementSegment {
  readonly mode: 'active' | 'passive' | 'declared'
  /** Of an active one. */
  readonly table: number
  readonly offset: ConstExpression | null
  readonly content:
    | { readonly kind: 'functions'; readonly indices: Uint32Array }
    | { readonly kind: 'expressions'; readonly typeBytes: Uint8Array; readonly expressions: readonly ConstExpression[] }
}

const FUNCREF = Uint8Array.of(0x70)

export function readElementSegments(reader: ByteReader, module: DecodedModule): ElementSegment[] {
  const counts = { types: module.types.length, functions: module.functionTypes.length, globals: module.globals.length }
  const segments: ElementSegment[] = []
  const segmentCount = reader.count(SEGMENTS_MAX, 2)
  let left = ELEMENTS_MAX
  for (let segment = 0; segment < segmentCount; segment++) {
    const start = reader.offset
    // Bit 0: passive or declared; bit 1: names its table, or declared; bit 2: expressions instead of indices.
    const flags = reader.u32()
    if (flags > 7) reader.refuse('an unknown form of element segment', start)
    const active = (flags & 1) === 0
    let table = 0
    let offset: ConstExpression | null = null
    if (active) {
      if ((flags & 2) !== 0) table = reader.u32()
      if (table >= module.tables.length) reader.refuse(`there is no table ${table}`, start)
      offset = readConstExpression(reader, counts)
    }
    let typeBytes = FUNCREF
    if ((flags & 3) !== 0) typeBytes = readElementType(reader, (flags & 4) !== 0, module.types.length)
    const count = reader.count(left, 1)
    left -= count
    const mode = active ? 'active' : (flags & 2) !== 0 ? 'declared' : 'passive'
    if ((flags & 4) === 0) {
      const indices = new Uint32Array(count)
      for (let index = 0; index < count; index++) indices[index] = reader.index(counts.functions, 'function')
      segments.push({ mode, table, offset, content: { kind: 'functions', indices } })
    } else {
      const expressions: ConstExpression[] = []
      for (let index = 0; index < count; index++) expressions.push(readConstExpression(reader, counts))
      segments.push({ mode, table, offset, content: { kind: 'expressions', typeBytes, expressions } })
    }
  }
  return segments
}

function readElementType(reader: ByteReader, expressions: boolean, typeCount: number): Uint8Array<ArrayBuffer> {
  const start = reader.offset
  if (!expressions) {
    if (reader.u8() !== 0) reader.refuse('an unknown kind of element', start)
    return FUNCREF
  }
  if (readValueType(reader, typeCount) !== 'function') reader.refuse('elements of other things than functions cannot be restored', start)
  return reader.bytes.slice(start, reader.offset)
}

export function writeElementSegment(writer: ByteWriter, segment: ElementSegment, functionMap: Uint32Array): void {
  const { mode, table, offset, content } = segment
  const form = content.kind === 'expressions' ? 4 : 0
  const modeBits = mode === 'active' ? 2 : mode === 'passive' ? 1 : 3
  // Form 2 with table 0 and an explicit type says the same as form 0 and is simpler to produce. A type other than
  // funcref in form 4 cannot be written otherwise.
  writer.u32(modeBits | form)
  if (offset !== null) {
    writer.u32(table)
    writeConstExpression(writer, offset, functionMap)
    writer.op(0x0b)
  }
  if (content.kind === 'functions') {
    writer.u8(0).u32(content.indices.length)
    for (const index of content.indices) writer.u32(functionMap[index] ?? 0)
    return
  }
  writer.raw(content.typeBytes).u32(content.expressions.length)
  for (const expression of content.expressions) {
    writeConstExpression(writer, expression, functionMap)
    writer.op(0x0b)
  }
}
