/** Stacks as the engine writes them, and as people are shown them. */
import { KIB } from '../../limits.ts'
import type { OriginalPlaces } from './original-places.ts'

const PLACE = /(\(| at )([^\s()]+):(\d{1,9}):(\d{1,9})(?=\)|\s|$)/g

/** Places of modules in a text, mapped; for what top-level code reports. `placesOf` gives a module's map by the module's name. */
export function mapStack(text: string, placesOf: (module: string) => OriginalPlaces | null): string {
  return text.replace(PLACE, (whole, before: string, module: string, line: string, column: string) => {
    const place = placesOf(module)?.find(Number(line), Number(column)) ?? null
    return place === null ? whole : `${before}${place.file}:${place.line}:${place.column}`
  })
}

/** A text with stacks in it, as it is logged. */
export function shownText(text: string): string {
  return text.includes('\n') && HAS_FRAMES.test(text) ? shownLines(text.split('\n')).join('\n') : text
}

/** Indents are of one line: a run of empty lines would be tried from each of them to its end. */
const HAS_FRAMES = /^[^\S\n]+at .*(?:\(native\)|\(missing\)|outpost:[\w-]+:\d+:\d+\)?)(?: \{)?$/m
const FRAME = /^(\s*)at (.*?)(?: \(([^()]*)\))?$/
/** Modules of ours: the prelude, what the bundler made. */
const OURS = 'outpost:'
const NATIVE = 'native'
/** A guest may set any text as its error's stack; nobody is shown more than a part of this. */
const STACK_MAX_CHARS = 64 * KIB

/**
 * Frames of the function as V8 writes them, `    at NAME (FILE:LINE:COLUMN)` a line; without those of the prelude and
 * the native functions that it called. Lines that are no frames (of a function that sets `stack` itself) stay.
 */
export function shownFrames(stack: string): readonly string[] {
  return shownLines(stack.slice(0, STACK_MAX_CHARS).split('\n').filter((line) => line.trim() !== ''))
}

function shownLines(lines: readonly string[]): string[] {
  const shown: string[] = []
  // From the outermost: a native frame counts as its caller's.
  let calledByUs = false
  // What an error's causes begin with stands behind its last frame.
  let opening = ''
  const show = (line: string): void => {
    shown.push(line + opening)
    opening = ''
  }
  for (const full of lines.toReversed()) {
    const isOpening = /^\s+at .* \{$/.test(full)
    const line = isOpening ? full.slice(0, -2) : full
    if (isOpening) opening = ' {'
    const frame = FRAME.exec(line)
    if (frame === null) {
      calledByUs = false
      show(line)
      continue
    }
    const [, indent = '', name = '', place = name] = frame
    if (place === NATIVE || place === 'missing') {
      if (!calledByUs) show(`${indent}at ${name} (<anonymous>)`)
      continue
    }
    calledByUs = place.startsWith(OURS)
    if (!calledByUs) show(name === '<anonymous>' || frame[3] === undefined ? `${indent}at ${place}` : `${indent}at ${name} (${place})`)
  }
  return shown.reverse()
}
