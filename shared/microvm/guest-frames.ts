/**
 * Where a guest is, read from its memory: the engine's chain of stack frames and the line tables of the functions in
 * them. It is read when a run is stopped at a limit, and needs nothing of the guest: no code of it runs.
 *
 * Structures are those of quickjs.c for 32 bits. Where they begin is found once, in a machine that spins in functions
 * whose names and lines are known, so an engine that differs is noticed: it has no layout, and stacks of stopped runs are
 * missing. A guest may have written anything anywhere in its memory: every read is bounded, and so is their number.
 */
import { Reader, UnknownBytecode } from './line-tables/bytecode.ts'
import { readRow } from './line-tables/rows.ts'
import type { Slot } from './slot.ts'

export interface FrameLayout {
  /** Addresses of words of the runtime: the innermost frame, and the table of atoms. */
  readonly currentFrame: number
  readonly atoms: number
  /** Classes of functions that have bytecode. */
  readonly classes: readonly number[]
}

export interface Frame {
  /** Address of the frame. */
  readonly at: number
  readonly hasBytecode: boolean
  /** Where the function goes on, as saved at its last call. */
  readonly savedPc: number
  readonly func: number
  readonly bytecode: number
}

const TAG_OBJECT = -1
const TAG_STRING = -7
const VALUE_BYTES = 8
/** JSStackFrame. */
const FRAME = { previous: 0, func: 8, tag: 12, pc: 28 } as const
/** JSObject. */
const OBJECT = { classId: 10, properties: 16, bytecode: 24 } as const
/** JSFunctionBytecode. */
const CODE = { start: 12, name: 20, fileName: 56, line: 60, column: 64, tableBytes: 72, table: 76 } as const
/** JSString, with the link that builds with dumps have. */
const STRING = { length: 0, flags: 4, text: 24 } as const
const STRING_WIDE = 0x8000_0000
const STRING_KIND = 0x3000_0000
const FRAMES_READ_MAX = 256
const FRAMES_SHOWN_MAX = 16
/** A function's name is among its first properties. */
const NAME_PROPERTIES = 3
const NAME_MAX_CHARS = 256
const TABLE_MAX_BYTES = 64 * 1024

/**
 * In the engine's own form, innermost first, from the frame at `from` on or from the innermost. `inLoop`: that frame was
 * stopped where it goes on, not behind a call.
 */
export function readFrames(slot: Slot, layout: FrameLayout, from: number | null, inLoop: boolean): string {
  const lines: string[] = []
  for (const frame of framesOf(slot, layout)) {
    if (lines.length === FRAMES_SHOWN_MAX) break
    if (lines.length === 0 && from !== null && frame.at !== from) continue
    lines.push(frame.hasBytecode ? describe(slot, layout, frame, inLoop && lines.length === 0 ? 0 : -1) : `    at ${nameOf(slot, frame.func)} (native)`)
  }
  return lines.map((line) => `${line}\n`).join('')
}

export function innermostFrame(slot: Slot, layout: FrameLayout): Frame | null {
  return framesOf(slot, layout).next().value ?? null
}

/** The innermost frame of a function that has bytecode. */
export function innermostCode(slot: Slot, layout: FrameLayout): Frame | null {
  for (const frame of framesOf(slot, layout)) if (frame.hasBytecode) return frame
  return null
}

function* framesOf(slot: Slot, layout: FrameLayout): Generator<Frame, undefined> {
  let at = word(slot, layout.currentFrame)
  for (let count = 0; count < FRAMES_READ_MAX && at !== 0; count++) {
    const object = word(slot, at + FRAME.func)
    const hasBytecode = (word(slot, at + FRAME.tag) | 0) === TAG_OBJECT && layout.classes.includes(classOf(slot, object))
    yield { at, hasBytecode, savedPc: word(slot, at + FRAME.pc), bytecode: hasBytecode ? word(slot, object + OBJECT.bytecode) : 0, func: object }
    at = word(slot, at + FRAME.previous)
  }
  return undefined
}

function describe(slot: Slot, layout: FrameLayout, { bytecode, savedPc, func }: Frame, behind: number): string {
  const name = atomText(slot, layout, word(slot, bytecode + CODE.name)) || nameOf(slot, func)
  const file = atomText(slot, layout, word(slot, bytecode + CODE.fileName))
  const tableBytes = word(slot, bytecode + CODE.tableBytes)
  const start = { line: word(slot, bytecode + CODE.line), column: word(slot, bytecode + CODE.column) }
  const pc = savedPc === 0 ? 0 : savedPc - word(slot, bytecode + CODE.start) + behind
  const tableAt = word(slot, bytecode + CODE.table)
  const table = tableBytes <= TABLE_MAX_BYTES ? slot.bytes.subarray(tableAt, tableAt + tableBytes) : slot.bytes.subarray(0, 0)
  const { line, column } = find(table, start, pc)
  return `    at ${name} (${file}:${line}:${column})`
}

/** Of methods and native functions, whose code has no name. */
function nameOf(slot: Slot, func: number): string {
  const properties = word(slot, func + OBJECT.properties)
  for (let index = 0; index < NAME_PROPERTIES; index++) {
    const at = properties + VALUE_BYTES * index
    if ((word(slot, at + 4) | 0) === TAG_STRING) return plain(stringAt(slot, word(slot, at))) || '<anonymous>'
  }
  return '<anonymous>'
}

function find(table: Uint8Array, start: { readonly line: number; readonly column: number }, pc: number): { readonly line: number; readonly column: number } {
  const reader = new Reader(table)
  let found = { pc: 0, ...start }
  try {
    while (!reader.ended) {
      const next = readRow(reader, found)
      if (pc < next.pc) break
      found = next
    }
  } catch (error) {
    // A guest that wrote into its own line tables: what was read so far.
    if (!(error instanceof UnknownBytecode)) throw error
  }
  return found
}

function classOf(slot: Slot, object: number): number {
  return (word(slot, (object + OBJECT.classId) & ~3) >>> 16) & 0xffff
}

export function atomText(slot: Slot, layout: FrameLayout, atom: number): string {
  return plain(stringAt(slot, word(slot, word(slot, layout.atoms) + 4 * atom)))
}

/** Characters that could end a line or a place in a stack are replaced. */
function plain(text: string): string {
  return text.replace(/[^\x20-\x7e\u00a0-\ud7ff\ue000-\uffff]|[()]/gu, '_')
}

function stringAt(slot: Slot, at: number): string {
  if (at === 0 || (word(slot, at + STRING.flags) & STRING_KIND) !== 0) return ''
  const head = word(slot, at + STRING.length)
  const isWide = (head & STRING_WIDE) !== 0
  const chars = Math.min(head & 0x7fff_ffff, NAME_MAX_CHARS)
  const bytes = slot.bytes.subarray(at + STRING.text, at + STRING.text + chars * (isWide ? 2 : 1))
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(isWide ? 'utf16le' : 'latin1')
}

/** 0 outside of the guest's memory. */
function word({ words }: Slot, at: number): number {
  return (words[at >>> 2] ?? 0) >>> 0
}

const PROBE_FILE = 'outpost:frames'
const PROBE_NAME = 'spinning'
const RUNTIME_WORDS = 256

/** Code that spins in a function of each kind, long enough to be interrupted. */
export const PROBES: readonly string[] = ['(function', '(async function', 'for (const x of (function*', '(async function*'].map((head, index) => {
  const body = `${head} ${PROBE_NAME}() { for (let i = 0; i < 30000; i++); })()`
  return index === 2 ? `${body});` : index === 3 ? `${body}.next()` : body
})
export { PROBE_FILE }

/** `idle`: words of the runtime while nothing runs. Called while one of PROBES is interrupted; null: not as known here. */
export function findLayout(slot: Slot, runtime: number, idle: Uint32Array): FrameLayout | null {
  for (let index = 0; index < RUNTIME_WORDS; index++) {
    const currentFrame = runtime + 4 * index
    const at = word(slot, currentFrame)
    const object = word(slot, at + FRAME.func)
    if (idle[index] !== 0 || at === 0 || (word(slot, at + FRAME.tag) | 0) !== TAG_OBJECT) continue
    const bytecode = word(slot, object + OBJECT.bytecode)
    for (let atomsIndex = 0; atomsIndex < RUNTIME_WORDS; atomsIndex++) {
      const layout: FrameLayout = { currentFrame, atoms: runtime + 4 * atomsIndex, classes: [classOf(slot, object)] }
      const names = [CODE.name, CODE.fileName].map((field) => atomText(slot, layout, word(slot, bytecode + field)))
      if (names[0] === PROBE_NAME && names[1] === PROBE_FILE && word(slot, bytecode + CODE.line) === 1) return layout
    }
  }
  return null
}

export function runtimeWords(slot: Slot, runtime: number): Uint32Array {
  return Uint32Array.from({ length: RUNTIME_WORDS }, (_, index) => word(slot, runtime + 4 * index))
}
