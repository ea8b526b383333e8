/**
 * Decodes a module into what rewriting needs, and checks it on the way.
 *
 * D1. Every index is checked against the counts of the *original* module: rewriting adds a memory, globals and
 *     functions, and an index that only exists then would give the guest our state.
 * D2. What is not known is refused: sections, flags, types, instructions.
 * D3. What a machine's restore would not cover is refused: shared or 64-bit memory, more than one memory, tables of
 *     other things than functions, mutable globals that are not numbers.
 *
 * The caller runs WebAssembly.validate on the bytes as well, but nothing here relies on it. What the sections hold is
 * read in sections.ts.
 */
import * as bounds from './bounds.ts'
import { ByteReader } from './reader.ts'
import { readSection } from './sections.ts'
import type { ConstExpression } from './const-expression.ts'
import type { ElementSegment } from './element-segments.ts'
import type { NumericType } from './opcodes.ts'

export interface FunctionType {
  readonly parameterCount: number
  /** The encoded form, for copying and for comparing two types. */
  readonly bytes: Uint8Array
}

export interface Import {
  readonly module: string
  readonly name: string
  readonly kind: 'function' | 'table' | 'memory' | 'global'
  /** The encoded description after the kind byte. */
  readonly bytes: Uint8Array
}

export interface Limits {
  readonly minimum: number
  readonly maximum: number | null
}

export interface Table {
  /** The encoded type of its entries. */
  readonly typeBytes: Uint8Array
  readonly limits: Limits
  /** Initial value of a defined table that states one. */
  readonly initial: ConstExpression | null
}

export interface Global {
  /** Type of a mutable number; null for what never changes. */
  readonly mutableType: NumericType | null
  readonly bytes: Uint8Array
  /** Null for an import. */
  readonly initial: ConstExpression | null
}

export interface Export {
  readonly name: string
  readonly kind: number
  readonly index: number
}

export interface DataSegment {
  /** Where it is written when the module starts; null for a passive one. */
  readonly offset: ConstExpression | null
  readonly bytes: Uint8Array
}

export interface FunctionBody {
  /** The byte range in the module: local declarations and code. */
  readonly start: number
  readonly end: number
}

export interface DecodedModule {
  readonly bytes: Uint8Array
  readonly types: FunctionType[]
  readonly imports: Import[]
  /** Type index of every function, imported ones first. */
  readonly functionTypes: number[]
  importedFunctionCount: number
  /** Imported ones first. */
  readonly tables: Table[]
  importedTableCount: number
  /** The one memory; null if there is none. */
  memory: { readonly imported: boolean; readonly limits: Limits } | null
  readonly globals: Global[]
  importedGlobalCount: number
  /** Whether references to functions may come in as parameters, results or imported globals. */
  takesReferences: boolean
  readonly exports: Export[]
  start: number | null
  readonly elements: ElementSegment[]
  readonly data: DataSegment[]
  /** Without that section code may not name data segments. */
  hasDataCount: boolean
  readonly bodies: FunctionBody[]
}

export const EXTERNAL_KIND = { function: 0, table: 1, memory: 2, global: 3, tag: 4 } as const

/** Section ids in the order in which a module must hold them; 13 (tags) is refused by name. */
const SECTION_ORDER: readonly number[] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11]
const SECTION_NAMES = ['custom', 'type', 'import', 'function', 'table', 'memory', 'global', 'export', 'start', 'element', 'code', 'data', 'data count', 'tag']

export function decodeModule(bytes: Uint8Array): DecodedModule {
  const reader = new ByteReader(bytes, 0, bytes.length, '(module)')
  if (bytes.length > bounds.MODULE_BYTES_MAX) reader.refuse(`a module of more than ${bounds.MODULE_BYTES_MAX} bytes`)
  const header = reader.take(8)
  if (!Buffer.from('\0asm\x01\0\0\0').equals(header)) reader.refuse('not a WebAssembly module of version 1', 0)
  const module: DecodedModule = {
    bytes, types: [], imports: [], functionTypes: [], importedFunctionCount: 0, tables: [], importedTableCount: 0, memory: null,
    globals: [], importedGlobalCount: 0, takesReferences: false, exports: [], start: null, elements: [], data: [], hasDataCount: false, bodies: [],
  }
  let dataCount: number | null = null
  let order = -1
  while (reader.remaining > 0) {
    const start = reader.offset
    const id = reader.u8()
    const section = reader.section(reader.u32(), `(${SECTION_NAMES[id] ?? 'unknown'} section)`)
    if (id === 0) {
      section.take(section.u32())
      continue
    }
    const position = SECTION_ORDER.indexOf(id)
    if (position < 0) section.refuse(`an unknown section ${id}`, start)
    if (position <= order) section.refuse('a section is out of order or appears twice', start)
    order = position
    if (id === 12) dataCount = section.count(bounds.SEGMENTS_MAX, 0)
    else readSection(id, section, module)
    section.finish()
  }
  const defined = module.functionTypes.length - module.importedFunctionCount
  if (module.bodies.length !== defined) reader.refuse(`${defined} functions are declared and ${module.bodies.length} have a body`)
  module.hasDataCount = dataCount !== null
  if (dataCount !== null && dataCount !== module.data.length) reader.refuse(`${dataCount} data segments are announced and ${module.data.length} are there`)
  return module
}
