/** Keeps comparisons of long texts short. */
import { INTL_COMPARED_MAX_CHARS } from '../limits.ts'

/**
 * ICU orders the marks of a run in time that grows with the square of its length (16 Ki marks: 100 ms), so a text with such a run is
 * compared by this much of it.
 */
const MARKS_COMPARED_MAX_CHARS = 1_024
const LONG_RUN_OF_MARKS = /\p{M}{64}/u
/** What is equal before the first difference still counts as far as a character may be joined with those before it. */
const JOINED_CHARS = 32

/**
 * Two texts that compare as `a` and `b` do. Those of more than INTL_COMPARED_MAX_CHARS are compared from a little before their first
 * difference on, and by so many characters.
 */
export function comparable(a: string, b: string): [string, string] {
  if (a.length <= MARKS_COMPARED_MAX_CHARS && b.length <= MARKS_COMPARED_MAX_CHARS) return [a, b]
  let from = 0
  if (a.length > INTL_COMPARED_MAX_CHARS || b.length > INTL_COMPARED_MAX_CHARS) {
    const shorter = Math.min(a.length, b.length)
    while (from < shorter && a.charCodeAt(from) === b.charCodeAt(from)) from++
    from = Math.max(0, from - JOINED_CHARS)
  }
  const parts: [string, string] = [a.slice(from, from + INTL_COMPARED_MAX_CHARS), b.slice(from, from + INTL_COMPARED_MAX_CHARS)]
  if (!parts.some((part) => LONG_RUN_OF_MARKS.test(part))) return parts
  return [parts[0].slice(0, MARKS_COMPARED_MAX_CHARS), parts[1].slice(0, MARKS_COMPARED_MAX_CHARS)]
}
