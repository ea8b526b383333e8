/**
 * Line tables of a function's bytecode, rewritten to name the user's files and lines instead of the bundle's. It is done
 * once, before the image is made: from then on the engine itself gives the right places, in every stack, at every tier,
 * and nothing has to be looked up when something fails.
 *
 * A function is of one file, that from which most of its places come. The module's own code is of many, so it keeps
 * the bundle's lines; it runs only while an image is built, and the builder maps what it reports (`mapStack`).
 */
import { type BytecodeLayout, checksum, type DebugBlock, Reader, readLayout, UnknownBytecode, Writer } from './bytecode.ts'
import type { OriginalPlaces, Place } from './original-places.ts'
import { readRow, type Row, writeRow } from './rows.ts'

/** Names functions that the bundler made: they are of no file of the user's and not shown in stacks. */
export const MADE_BY_BUNDLER = 'outpost:bundle'

const ATOM_STRING = 1
interface MappedBlock {
  readonly block: DebugBlock
  readonly file: string
  readonly start: Row
  readonly rows: readonly Row[]
}

/** The bytecode with places of `places`; the same bytes if it is not of the form that is known here, or none of it is mapped. */
export function mapLines(bytecode: Uint8Array, places: OriginalPlaces): Uint8Array {
  try {
    const layout = readLayout(bytecode)
    const mapped = layout.functions.filter(({ isTopLevel }) => !isTopLevel).map((block) => mapBlock(block, places))
    return mapped.every(({ file }) => file === MADE_BY_BUNDLER) ? bytecode : assemble(bytecode, layout, mapped)
  } catch (error) {
    // Stacks then name lines of the bundle, which is better than no function.
    if (error instanceof UnknownBytecode) return bytecode
    throw error
  }
}

function mapBlock(block: DebugBlock, places: OriginalPlaces): MappedBlock {
  const first: Row = { pc: 0, line: block.line, column: block.column }
  const found = [first, ...readTable(block)].map((row) => ({ pc: row.pc, place: places.find(row.line, row.column) }))
  const counts = new Map<string, number>()
  for (const { place } of found) if (place !== null) counts.set(place.file, (counts.get(place.file) ?? 0) + 1)
  const file = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0]
  if (file === undefined) return { block, file: MADE_BY_BUNDLER, start: first, rows: readTable(block) }
  const own = found.flatMap(({ pc, place }) => (place?.file === file ? [toRow(pc, place)] : []))
  const start = { ...(own[0] ?? first), pc: 0 }
  return { block, file, start, rows: own.slice(own[0]?.pc === 0 ? 1 : 0) }
}

function toRow(pc: number, { line, column }: Place): Row {
  return { pc, line, column }
}

function readTable({ table, line, column }: DebugBlock): Row[] {
  const reader = new Reader(table)
  const rows: Row[] = []
  for (let row: Row = { pc: 0, line, column }; !reader.ended;) rows.push(row = readRow(reader, row))
  return rows
}

function writeTable(start: Row, rows: readonly Row[]): Uint8Array {
  const writer = new Writer()
  let last = start
  for (const row of rows) {
    if (row.line === last.line && row.column === last.column) continue
    writeRow(writer, last, row)
    last = row
  }
  return writer.take()
}

function assemble(bytecode: Uint8Array, layout: BytecodeLayout, mapped: readonly MappedBlock[]): Uint8Array {
  const files = [...new Set(mapped.map(({ file }) => file))]
  const firstNumber = firstAtomNumber(layout)
  const referenceOf = new Map(files.map((file, index) => [file, (firstNumber + layout.atomCount + index) * 2]))
  const parts: Uint8Array[] = [bytecode.subarray(0, 1), new Uint8Array(4), atomCount(layout.atomCount + files.length), bytecode.subarray(layout.firstAtomAt, layout.atomsEndAt)]
  for (const file of files) {
    const writer = new Writer()
    writer.byte(ATOM_STRING)
    writer.text(file)
    parts.push(writer.take())
  }
  let at = layout.atomsEndAt
  for (const { block, file, start, rows } of mapped) {
    const writer = new Writer()
    writer.unsigned(referenceOf.get(file) ?? block.fileNameReference)
    writer.unsigned(start.line)
    writer.unsigned(start.column)
    const table = writeTable(start, rows)
    writer.unsigned(table.length)
    parts.push(bytecode.subarray(at, block.startAt), writer.take(), table)
    at = block.endAt
  }
  parts.push(bytecode.subarray(at))
  const made = Buffer.concat(parts)
  made.writeUInt32LE(checksum(made.subarray(5)), 1)
  return made
}

/** Numbers below it are the engine's own atoms. The module's name, which is in the table, tells. */
function firstAtomNumber({ atoms, moduleNameReference, functions }: BytecodeLayout): number {
  const top = functions.find(({ isTopLevel }) => isTopLevel)
  // It is the first atom that is written, and file and module are named alike.
  if (top?.fileNameReference !== moduleNameReference || atoms[0] === null || atoms.length === 0) throw new UnknownBytecode('the module has no name')
  return moduleNameReference >>> 1
}

function atomCount(count: number): Uint8Array {
  const writer = new Writer()
  writer.unsigned(count)
  return writer.take()
}
