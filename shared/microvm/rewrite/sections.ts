/** Reads each section of a module into a DecodedModule. The rules D1 to D3 are in module.ts. */
import * as bounds from './bounds.ts'
import { EXPORT_PREFIX, HOST_MODULE } from './layout.ts'
import { readConstExpression, type ConstExpression } from './const-expression.ts'
import { readElementSegments } from './element-segments.ts'
import { EXTERNAL_KIND, type DecodedModule, type Import, type Table } from './module.ts'
import { NUMERIC_TYPES, readValueType, type ValueClass } from './value-types.ts'
import type { ByteReader } from './reader.ts'

export function readSection(id: number, reader: ByteReader, module: DecodedModule): void {
  switch (id) {
    case 1: return readTypes(reader, module)
    case 2: return readImports(reader, module)
    case 3: return readFunctions(reader, module)
    case 4: return readTables(reader, module)
    case 5: return readMemories(reader, module)
    case 6: return readGlobals(reader, module)
    case 7: return readExports(reader, module)
    case 8: {
      module.start = reader.index(module.functionTypes.length, 'function')
      return
    }
    case 9: {
      module.elements.push(...readElementSegments(reader, module))
      return
    }
    case 10: return readBodies(reader, module)
    case 11: return readData(reader, module)
    default: return reader.refuse('exception tags are not supported')
  }
}

function readTypes(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.TYPES_MAX, 1)
  for (let index = 0; index < count; index++) {
    const start = reader.offset
    const form = reader.u8()
    if (form >= 0x4d && form < 0x60) reader.refuse('state of the garbage-collected types cannot be restored', start)
    if (form !== 0x60) reader.refuse('an unknown form of type', start)
    const parameterCount = reader.count(bounds.PARAMETERS_MAX, 1)
    // A type may name itself, so the bound is the index after it.
    const readTypes = (count: number): void => {
      for (let at = 0; at < count; at++) if (readValueType(reader, index + 1) === 'function') module.takesReferences = true
    }
    readTypes(parameterCount)
    readTypes(reader.count(bounds.PARAMETERS_MAX, 1))
    module.types.push({ parameterCount, bytes: reader.bytes.subarray(start, reader.offset) })
  }
}

function readImports(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.IMPORTS_MAX, 4)
  for (let index = 0; index < count; index++) {
    const start = reader.offset
    const moduleName = readName(reader)
    const name = readName(reader)
    if (moduleName === HOST_MODULE) reader.refuse(`a module may not import from "${HOST_MODULE}"`, start)
    const kind = reader.u8()
    const description = reader.offset
    const add = (word: Import['kind']): void => {
      module.imports.push({ module: moduleName, name, kind: word, bytes: reader.bytes.subarray(description, reader.offset) })
    }
    switch (kind) {
      case EXTERNAL_KIND.function: {
        module.functionTypes.push(reader.index(module.types.length, 'type'))
        module.importedFunctionCount++
        add('function')
        break
      }
      case EXTERNAL_KIND.table: {
        module.tables.push(readTableType(reader, module))
        module.importedTableCount++
        add('table')
        break
      }
      case EXTERNAL_KIND.memory: {
        readMemoryType(reader, module, true)
        add('memory')
        break
      }
      case EXTERNAL_KIND.global: {
        if (readGlobal(reader, module, null) === 'function') module.takesReferences = true
        module.importedGlobalCount++
        add('global')
        break
      }
      case EXTERNAL_KIND.tag: return reader.refuse('exception tags are not supported', start)
      default: return reader.refuse('an unknown kind of import', start)
    }
  }
}

function readFunctions(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.FUNCTIONS_MAX, 1)
  for (let index = 0; index < count; index++) module.functionTypes.push(reader.index(module.types.length, 'type'))
  if (module.functionTypes.length > bounds.FUNCTIONS_MAX) reader.refuse(`more than ${bounds.FUNCTIONS_MAX} functions`)
}

function readTables(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.TABLES_MAX, 3)
  for (let index = 0; index < count; index++) {
    if (reader.peek() !== 0x40) {
      module.tables.push(readTableType(reader, module))
      continue
    }
    reader.skip(1)
    if (reader.u8() !== 0) reader.refuse('an unknown form of table', reader.offset - 1)
    const type = readTableType(reader, module)
    const initial = readConstExpression(reader, { types: module.types.length, functions: module.functionTypes.length, globals: module.globals.length })
    module.tables.push({ ...type, initial })
  }
}

function readTableType(reader: ByteReader, module: DecodedModule): Table {
  const start = reader.offset
  if (readValueType(reader, module.types.length) !== 'function') reader.refuse('a table of other things than functions cannot be restored', start)
  const typeBytes = reader.bytes.subarray(start, reader.offset)
  const flags = reader.u8()
  if (flags > 1) reader.refuse('a shared or 64-bit table', reader.offset - 1)
  const minimum = reader.u32()
  if (minimum > bounds.TABLE_ENTRIES_MAX) reader.refuse(`a table of more than ${bounds.TABLE_ENTRIES_MAX} entries`, start)
  return { typeBytes, limits: { minimum, maximum: flags === 1 ? reader.u32() : null }, initial: null }
}

function readMemories(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.TABLES_MAX, 2)
  for (let index = 0; index < count; index++) readMemoryType(reader, module, false)
}

function readMemoryType(reader: ByteReader, module: DecodedModule, imported: boolean): void {
  const start = reader.offset
  const flags = reader.u8()
  if (module.memory !== null) reader.refuse('more than one memory', start)
  if ((flags & 2) !== 0) reader.refuse('shared memory cannot be restored', start)
  if ((flags & 4) !== 0) reader.refuse('a 64-bit memory', start)
  if (flags > 1) reader.refuse('an unknown form of memory', start)
  const minimum = reader.u32()
  const maximum = flags === 1 ? reader.u32() : null
  if (minimum > 65_536) reader.refuse('a memory of more than 4 GiB', start)
  module.memory = { imported, limits: { minimum, maximum } }
}

function readGlobals(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.GLOBALS_MAX, 3)
  for (let index = 0; index < count; index++) {
    readGlobal(reader, module, () => readConstExpression(reader, { types: module.types.length, functions: module.functionTypes.length, globals: module.globals.length }))
  }
}

function readGlobal(reader: ByteReader, module: DecodedModule, readInitial: (() => ConstExpression) | null): ValueClass {
  const start = reader.offset
  const code = reader.peek()
  const valueClass = readValueType(reader, module.types.length)
  if (valueClass === 'extern') reader.refuse('a global that holds a value of the host cannot be restored', start)
  const mutability = reader.u8()
  if (mutability > 1) reader.refuse('an unknown or shared form of global', reader.offset - 1)
  const bytes = reader.bytes.subarray(start, reader.offset)
  const mutableType = mutability === 0 ? null : NUMERIC_TYPES.get(code)
  if (mutableType === undefined) return reader.refuse('a mutable global that is not an i32, i64, f32 or f64 cannot be restored', start)
  module.globals.push({ mutableType, bytes, initial: readInitial?.() ?? null })
  return valueClass
}

function readExports(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.EXPORTS_MAX, 3)
  for (let index = 0; index < count; index++) {
    const start = reader.offset
    const name = readName(reader)
    if (name.startsWith(EXPORT_PREFIX)) reader.refuse(`a module may not export names that begin with "${EXPORT_PREFIX}"`, start)
    const kind = reader.u8()
    const counts = [module.functionTypes.length, module.tables.length, module.memory === null ? 0 : 1, module.globals.length]
    const bound = counts[kind]
    if (bound === undefined) return reader.refuse('an unknown kind of export', start)
    module.exports.push({ name, kind, index: reader.index(bound, 'such thing to export,') })
  }
}

function readBodies(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.FUNCTIONS_MAX, 3)
  for (let index = 0; index < count; index++) {
    const at = reader.offset
    const size = reader.u32()
    if (size > bounds.BODY_BYTES_MAX) reader.refuse(`a function of more than ${bounds.BODY_BYTES_MAX} bytes`, at)
    const start = reader.offset
    reader.skip(size)
    module.bodies.push({ start, end: reader.offset })
  }
}

function readData(reader: ByteReader, module: DecodedModule): void {
  const count = reader.count(bounds.SEGMENTS_MAX, 2)
  for (let index = 0; index < count; index++) {
    const start = reader.offset
    const mode = reader.u32()
    if (mode > 2) reader.refuse('an unknown form of data segment', start)
    if (mode === 2) reader.index(1, 'memory')
    if (mode !== 1 && module.memory === null) reader.refuse('there is no memory 0', start)
    const offset = mode === 1 ? null : readConstExpression(reader, { types: module.types.length, functions: module.functionTypes.length, globals: module.globals.length })
    module.data.push({ offset, bytes: reader.take(reader.u32()) })
  }
}

function readName(reader: ByteReader): string {
  const start = reader.offset
  const length = reader.u32()
  if (length > bounds.NAME_BYTES_MAX) reader.refuse('a name is too long', start)
  return Buffer.from(reader.take(length)).toString()
}
