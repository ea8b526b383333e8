/**
 * What a page of an image has that its parent's page has not. Evaluating code changes a few words (reference counts,
 * ends of lists) in most pages that it touches and fills a few others, so an image as patches is a fraction of the same
 * image as pages, and functions with much in common have equal patches where pages differ by a word.
 *
 * Patches of pages that lie in one window of the address space are stored, sealed and shipped as one group. A group is
 * decoded with the parent's pages at hand, which every holder of an image has; the page that results is checked
 * against the manifest by whoever asked.
 *
 *   group   page page ...            ascending by index
 *   page    index u32, size u16, runs (size bytes), or index u32, RAW u16, the page
 *   run     first word u16, words u16, the words          ascending, at least MERGE_WORDS + 1 equal words between two
 *
 * All numbers little-endian. Equal pages over equal parents give equal bytes.
 */
import { CodedError } from '../errors.ts'
import { PAGE_BYTES } from './manifest.ts'

/** Pages whose patches are one group; see ARCHITECTURE.md, "Patches over the parent's pages". It is part of the stored form. */
export const GROUP_BYTES = 64 * 1024
export const GROUP_PAGES = GROUP_BYTES / PAGE_BYTES

export interface PatchedPage {
  readonly index: number
  readonly content: Uint8Array
  /** The page that the parent has there; zeros if it has none. */
  readonly before: Uint8Array
}

const WORDS = PAGE_BYTES / 4
const PAGE_HEAD_BYTES = 6
const RUN_HEAD_BYTES = 4
/** A run's head takes as much as one equal word. */
const MERGE_WORDS = 1
const RAW = 0xffff

/** `pages`: of one group, ascending by index. */
export function encodeGroup(pages: readonly PatchedPage[]): Uint8Array {
  const parts = pages.map(({ index, content, before }) => {
    const page = Buffer.alloc(PAGE_HEAD_BYTES + PAGE_BYTES)
    page.writeUInt32LE(index, 0)
    const end = writeRuns(page, content, before)
    if (end !== null) {
      page.writeUInt16LE(end - PAGE_HEAD_BYTES, 4)
      return page.subarray(0, end)
    }
    page.writeUInt16LE(RAW, 4)
    page.set(content, PAGE_HEAD_BYTES)
    return page
  })
  return Buffer.concat(parts)
}

/** The pages of a group from an untrusted place, by index. `before` gives the parent's. Throws ERR_STORE_BLOCK. */
export function decodeGroup(group: Uint8Array, before: (index: number) => Uint8Array): ReadonlyMap<number, Uint8Array> {
  const bytes = Buffer.from(group.buffer, group.byteOffset, group.byteLength)
  const pages = new Map<number, Uint8Array>()
  let last = -1
  for (let at = 0; at < bytes.length; ) {
    if (at + PAGE_HEAD_BYTES > bytes.length) refuse('ends within a page')
    const index = bytes.readUInt32LE(at)
    const size = bytes.readUInt16LE(at + 4)
    const start = at + PAGE_HEAD_BYTES
    at = start + (size === RAW ? PAGE_BYTES : size)
    if (at > bytes.length) refuse('ends within a page')
    if (index <= last || (last !== -1 && groupOf(index) !== groupOf(last))) refuse('has pages out of order')
    last = index
    const content = size === RAW ? Uint8Array.from(bytes.subarray(start, at)) : Uint8Array.from(before(index))
    if (size !== RAW) applyRuns(bytes.subarray(start, at), content)
    pages.set(index, content)
  }
  return pages
}

export function groupOf(pageIndex: number): number {
  return Math.floor(pageIndex / GROUP_PAGES)
}

/** Where the runs end; null: they are no shorter than the page. */
function writeRuns(page: Buffer, content: Uint8Array, before: Uint8Array): number | null {
  const next = wordsOf(content)
  const previous = wordsOf(before)
  let at = PAGE_HEAD_BYTES
  for (let first = 0; first < WORDS; ) {
    if (next[first] === previous[first]) {
      first += 1
      continue
    }
    let end = first + 1
    for (let word = end; word < WORDS && word - end <= MERGE_WORDS; word++) if (next[word] !== previous[word]) end = word + 1
    const bytes = (end - first) * 4
    if (at + RUN_HEAD_BYTES + bytes >= PAGE_HEAD_BYTES + PAGE_BYTES) return null
    page.writeUInt16LE(first, at)
    page.writeUInt16LE(end - first, at + 2)
    page.set(content.subarray(first * 4, end * 4), at + RUN_HEAD_BYTES)
    at += RUN_HEAD_BYTES + bytes
    first = end
  }
  return at
}

function applyRuns(runs: Buffer, content: Uint8Array): void {
  for (let at = 0, last = 0; at < runs.length; ) {
    if (at + RUN_HEAD_BYTES > runs.length) refuse('ends within a run')
    const first = runs.readUInt16LE(at)
    const end = first + runs.readUInt16LE(at + 2)
    const start = at + RUN_HEAD_BYTES
    at = start + (end - first) * 4
    if (first < last || end === first || end > WORDS || at > runs.length) refuse('has a run that does not fit')
    content.set(runs.subarray(start, at), first * 4)
    last = end
  }
}

/** Little-endian like the guest: Node runs nowhere else. */
function wordsOf(page: Uint8Array): Int32Array {
  return new Int32Array(page.byteOffset % 4 === 0 ? page.buffer : page.slice().buffer, page.byteOffset % 4 === 0 ? page.byteOffset : 0, WORDS)
}

function refuse(why: string): never {
  throw new CodedError('ERR_STORE_BLOCK', ['a group of pages', why])
}
