/**
 * Where segments of a text end, found in a window of it: the host keeps no text between calls, and a whole one would take too long at once.
 * ICU goes on from one end of a segment without looking back, so a window that begins at one gives the same ends as the whole
 * text, but for the last, which may depend on what follows. Those within MARGIN of a window's end are left to the next window.
 */
import { INTL_SEGMENT_WINDOW_CHARS, INTL_SEGMENT_WINDOW_MARGIN_CHARS } from '../limits.ts'

/**
 * `text` begins where a segment does. Answers `length` for each segment, joined by commas, with a `w` behind it if it is like a word
 * and a `-` if it is not (for words only). Empty if the window must be larger; at its most it is the caller who cuts.
 */
export function segmentsFrom(segmenter: Intl.Segmenter, text: string, isLast: boolean): string {
  const end = isLast ? text.length : text.length - INTL_SEGMENT_WINDOW_MARGIN_CHARS
  let answer = ''
  for (const { segment, index, isWordLike } of segmenter.segment(text)) {
    if (index + segment.length > end || index >= INTL_SEGMENT_WINDOW_CHARS) break
    answer += `${answer === '' ? '' : ','}${segment.length}${wordMark(isWordLike)}`
  }
  return answer
}

/** The segment of `text` that holds the character `at`: `start,length` and the mark of segmentsFrom. */
export function segmentAround(segmenter: Intl.Segmenter, text: string, at: number): string {
  const found = segmenter.segment(text).containing(at)
  return found === undefined ? '' : `${found.index},${found.segment.length}${wordMark(found.isWordLike)}`
}

function wordMark(isWordLike: boolean | undefined): string {
  return isWordLike === undefined ? '' : isWordLike ? 'w' : '-'
}
