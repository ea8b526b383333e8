/** Keeps comparisons of long texts short. */
import { INTL_COMPARED_MARKED_MAX_CHARS, INTL_COMPARED_MAX_CHARS } from '../limits.ts'

/** ICU orders the marks of a run in time that grows with the square of its length, and tries each for contractions. No language writes four. */
const RUN_OF_MARKS = /\p{M}{4}/u
/** What is equal before the first difference still counts as far as a character may be joined with those before it. */
const JOINED_CHARS = 32

/**
 * Two texts that compare as `a` and `b` do. Those of more than INTL_COMPARED_MAX_CHARS, or of more than
 * INTL_COMPARED_MARKED_MAX_CHARS if they hold runs of marks, are compared from a little before their first difference on, and by so many characters.
 */
export function comparable(a: string, b: string): readonly [string, string] {
  const cut = cutTo(INTL_COMPARED_MAX_CHARS, a, b)
  const isMarked = cut.some((text) => text.length > INTL_COMPARED_MARKED_MAX_CHARS && RUN_OF_MARKS.test(text))
  return isMarked ? cutTo(INTL_COMPARED_MARKED_MAX_CHARS, ...cut) : cut
}

function cutTo(maxChars: number, a: string, b: string): readonly [string, string] {
  if (a.length <= maxChars && b.length <= maxChars) return [a, b]
  const shorter = Math.min(a.length, b.length)
  let from = 0
  while (from < shorter && a.charCodeAt(from) === b.charCodeAt(from)) from++
  from = Math.max(0, from - JOINED_CHARS)
  return [a.slice(from, from + maxChars), b.slice(from, from + maxChars)]
}
