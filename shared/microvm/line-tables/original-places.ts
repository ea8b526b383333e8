/**
 * Where a line and column of a bundle come from, by its source map. Maps come with uploads: they are bounded, one that
 * cannot be used is none, and what they name is text that is only ever shown.
 */
import { type SourceMapInput, traceSegment, TraceMap } from '@jridgewell/trace-mapping'
import { SOURCE_MAP_MAX_BYTES } from '../../limits.ts'

export interface Place {
  readonly file: string
  /** 1-based, like `column`. */
  readonly line: number
  readonly column: number
}

const FILE_NAME_MAX_CHARS = 256
const FILES_MAX = 20_000
const LINE_MAX = 0x3fff_ffff
const COLUMN_STEP_BYTES = 1024
/** It goes before the name of each file. */
const ROOT_MAX_CHARS = 1024

export class OriginalPlaces {
  readonly #map: TraceMap
  readonly #lines: readonly string[]
  readonly #files: readonly string[]
  /** The line that was asked for last: minified code is one line of megabytes, and has a place for every few of its bytes. */
  #looked: { readonly line: number; readonly columns: Columns | null } | null = null

  private constructor(map: TraceMap, source: string) {
    this.#map = map
    this.#lines = source.split('\n')
    this.#files = map.sources.map((name) => fileName(name ?? ''))
  }

  /** Null for a text that is no map of a file like `source`. */
  static read(json: string, source: string): OriginalPlaces | null {
    if (json.length > SOURCE_MAP_MAX_BYTES) return null
    try {
      const parsed: unknown = JSON.parse(json)
      return isMap(parsed) && countLines(parsed.mappings, ';') <= countLines(source, '\n') + 1 ? new OriginalPlaces(new TraceMap(parsed as SourceMapInput), source) : null
    } catch {
      // Whatever is wrong with it: it cannot be used.
      return null
    }
  }

  /** `line` and `column` are 1-based; a column counts bytes of UTF-8, as the engine does. */
  find(line: number, column: number): Place | null {
    if (line < 1 || column < 1) return null
    const segment = traceSegment(this.#map, line - 1, this.#character(line, column - 1))
    if (segment === null || segment.length === 1) return null
    const [, source, originalLine, originalColumn] = segment
    const file = this.#files[source] ?? ''
    return file === '' || !isSmall(originalLine) || !isSmall(originalColumn) ? null : { file, line: originalLine + 1, column: originalColumn + 1 }
  }

  #character(line: number, bytes: number): number {
    if (this.#looked?.line !== line) this.#looked = { line, columns: columnsOf(this.#lines[line - 1] ?? '') }
    const { columns } = this.#looked
    if (columns === null) return bytes
    const step = Math.min(Math.floor(bytes / COLUMN_STEP_BYTES), columns.counts.length - 1)
    return (columns.counts[step] ?? 0) + charactersIn(columns.text.subarray(step * COLUMN_STEP_BYTES, bytes))
  }
}

interface Columns {
  readonly text: Uint8Array
  /** Characters before each COLUMN_STEP_BYTES. */
  readonly counts: Uint32Array
}

/** Null for ASCII, as most lines are: a byte is a character. */
function columnsOf(line: string): Columns | null {
  if (!/[^\0-\x7f]/.test(line)) return null
  const text = Buffer.from(line)
  const counts = new Uint32Array(Math.floor(text.length / COLUMN_STEP_BYTES) + 1)
  for (let step = 1; step < counts.length; step++) {
    counts[step] = (counts[step - 1] ?? 0) + charactersIn(text.subarray((step - 1) * COLUMN_STEP_BYTES, step * COLUMN_STEP_BYTES))
  }
  return { text, counts }
}

/** UTF-16 units of UTF-8: none for the later bytes of a character, two for one of four bytes. */
function charactersIn(bytes: Uint8Array): number {
  let count = 0
  for (const byte of bytes) count += byte >= 0xf0 ? 2 : (byte & 0xc0) === 0x80 ? 0 : 1
  return count
}

function isSmall(value: number): boolean {
  return value >= 0 && value < LINE_MAX
}

interface FlatMap {
  readonly version: 3
  readonly sources: readonly string[]
  readonly mappings: string
}

function isMap(value: unknown): value is FlatMap {
  if (typeof value !== 'object' || value === null || !('version' in value) || !('sources' in value) || !('mappings' in value) || 'sections' in value) return false
  const { version, sources, mappings } = value
  const root = 'sourceRoot' in value ? value.sourceRoot : null
  if (root !== null && root !== undefined && (typeof root !== 'string' || root.length > ROOT_MAX_CHARS)) return false
  return version === 3 && typeof mappings === 'string' && Array.isArray(sources) && sources.length <= FILES_MAX && sources.every((source) => typeof source === 'string' || source === null)
}

/** A map of more lines than there are would only cost memory. */
function countLines(text: string, separator: string): number {
  let count = 1
  for (let at = text.indexOf(separator); at >= 0; at = text.indexOf(separator, at + 1)) count++
  return count
}

/** One line of plain characters, as it stands in stacks: no parentheses, which end a place there. */
function fileName(name: string): string {
  // Stands in for a file; see chunks/split.ts.
  if (/^outpost-\w+:/.test(name)) return ''
  const plain = name.replace(/^(?:zip|file):(?:\/\/)?/, '').replace(/[^\x20-\x7e\u00a0-\ud7ff\ue000-\uffff]|[()]/gu, '_')
  return plain.length <= FILE_NAME_MAX_CHARS ? plain : `...${plain.slice(3 - FILE_NAME_MAX_CHARS)}`
}
