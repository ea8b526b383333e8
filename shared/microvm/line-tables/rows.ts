/** Rows of a line table: from an instruction on, code is of this line and column. As find_line_num and compute_pc2line_info of quickjs.c. */
import type { Reader, Writer } from './bytecode.ts'

export interface Row {
  readonly pc: number
  readonly line: number
  readonly column: number
}

/** PC2LINE_* of quickjs.c. */
const LINE_BASE = -1
const LINE_RANGE = 5
const FIRST_SHORT = 1
const SHORT_PC_MAX = Math.floor((255 - FIRST_SHORT) / LINE_RANGE)

/** Throws UnknownBytecode. */
export function readRow(reader: Reader, last: Row): Row {
  const op = reader.byte()
  const short = op - FIRST_SHORT
  const pc = last.pc + (op === 0 ? reader.unsigned() : Math.floor(short / LINE_RANGE))
  const line = last.line + (op === 0 ? reader.signed() : (short % LINE_RANGE) + LINE_BASE)
  return { pc, line, column: last.column + reader.signed() }
}

export function writeRow(writer: Writer, last: Row, row: Row): void {
  const pc = row.pc - last.pc
  const line = row.line - last.line
  if (line >= LINE_BASE && line < LINE_BASE + LINE_RANGE && pc <= SHORT_PC_MAX) writer.byte(line - LINE_BASE + pc * LINE_RANGE + FIRST_SHORT)
  else {
    writer.byte(0)
    writer.unsigned(pc)
    writer.signed(line)
  }
  writer.signed(row.column - last.column)
}
