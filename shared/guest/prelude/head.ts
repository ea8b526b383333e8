/**
 * The head of a request as it crosses from the host: `requestId\nclientIp\nMETHOD\nURL\nname\nvalue...`. The first four
 * lines are cut out together when one of them is wanted, the headers when headers are.
 */
import { StringIndexOf, StringSlice, StringSplit, StringSplitUpTo } from './primordials.ts'
import type { HeaderList } from './headers.ts'

export type HeadLines = readonly string[]
export const REQUEST_ID = 0
export const CLIENT_IP = 1
export const METHOD = 2
export const URL_LINE = 3
const LINE_COUNT = 4

export function headLines(head: string): HeadLines {
  return StringSplitUpTo(head, '\n', LINE_COUNT)
}

export function headHeaders(head: string, lines: HeadLines): HeaderList {
  const start = (lines[0]?.length ?? 0) + (lines[1]?.length ?? 0) + (lines[2]?.length ?? 0) + (lines[3]?.length ?? 0) + LINE_COUNT
  return start >= head.length ? [] : StringSplit(StringSlice(head, start), '\n')
}

export function headRequestId(head: string): string {
  return StringSlice(head, 0, StringIndexOf(head, '\n'))
}
