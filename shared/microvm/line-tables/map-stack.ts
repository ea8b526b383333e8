/** Stacks as the engine writes them, and as people are shown them. */
import type { OriginalPlaces } from './original-places.ts'

const PLACE = /(\(| at )([^\s()]+):(\d{1,9}):(\d{1,9})(?=\)|\s|$)/g

/** Places of modules in a text, mapped; for what top-level code reports. `placesOf` gives a module's map by the module's name. */
export function mapStack(text: string, placesOf: (module: string) => OriginalPlaces | null): string {
  return text.replace(PLACE, (whole, before: string, module: string, line: string, column: string) => {
    const place = placesOf(module)?.find(Number(line), Number(column)) ?? null
    return place === null ? whole : `${before}${place.file}:${place.line}:${place.column}`
  })
}

const FRAME = /^\s*at (.*?)(?: \(([^()]*)\))?$/
/** Modules of ours: the prelude, what the bundler made. */
const OURS = 'outpost:'
const NATIVE = 'native'

/**
 * Frames of the function as V8 writes them, `    at NAME (FILE:LINE:COLUMN)` a line; without those of the prelude and
 * the native functions that it called. Lines that are no frames (of a function that sets `stack` itself) stay.
 */
export function shownFrames(stack: string): readonly string[] {
  const lines = stack.split('\n').filter((line) => line.trim() !== '')
  const shown: string[] = []
  // From the outermost: a native frame counts as its caller's.
  let calledByUs = false
  for (const line of lines.reverse()) {
    const frame = FRAME.exec(line)
    if (frame === null) {
      calledByUs = false
      shown.push(line)
      continue
    }
    const [, name = '', place = name] = frame
    if (place === NATIVE || place === 'missing') {
      if (!calledByUs) shown.push(`    at ${name} (<anonymous>)`)
      continue
    }
    calledByUs = place.startsWith(OURS)
    if (!calledByUs) shown.push(name === '<anonymous>' || frame[2] === undefined ? `    at ${place}` : `    at ${name} (${place})`)
  }
  return shown.reverse()
}
