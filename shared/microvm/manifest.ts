/**
 * An image as it is stored and shipped: a manifest that names its pages by their content, and the pages themselves as
 * blocks. Equal content has equal ids everywhere; a block is verified by hashing it.
 *
 * A manifest's canonical form is the JSON below with the fields in this order; its SHA-256 is the ImageId. An image
 * holds only the pages in which it differs from its parent. A page of zeros is never stored: it is named ZERO_BLOCK.
 */
import { createHash } from 'node:crypto'
import type { Brand, ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'

/** SHA-256 of one page, 64 hex digits, or ZERO_BLOCK. */
export type BlockId = Brand<string, 'BlockId'>

export const PAGE_BYTES = 4096
/** Marks a page that is all zeros here though its parent holds something there. */
export const ZERO_BLOCK = '0' as BlockId

export interface ImageManifest {
  readonly format: 1
  /** Identity of engine, rewriter and prelude; an image runs only on the engine build that made it. */
  readonly engineBuild: string
  readonly parentId: ImageId | null
  /** What the base layer is without its parent: `base`, `prelude`, `layer` or `function`. */
  readonly layer: 'base' | 'prelude' | 'layer' | 'function'
  /** The guest's memory.size, in 64 KiB wasm pages. */
  readonly virtualPages: number
  /** Mutable numeric globals by name, as decimal text. */
  readonly globals: Readonly<Record<string, string>>
  /** Guest function handles by GUEST_ENTRIES name, and `trusted` addresses; numbers. */
  readonly entries: Readonly<Record<string, number>>
  /** Page index (4 KiB) and content, ascending by index. */
  readonly pages: readonly (readonly [index: number, block: BlockId])[]
  /** Indexes of its pages that the priming request wrote; of a primed image. They are fetched first. */
  readonly workingSet?: readonly number[]
}

/** Pages of an image at most: 1 GiB. A manifest beyond it is refused. */
const PAGES_MAX = 262_144

export function encodeManifest(manifest: ImageManifest): Uint8Array {
  const { format, engineBuild, parentId, layer, virtualPages, globals, entries, pages, workingSet } = manifest
  return Buffer.from(JSON.stringify({
    format, engineBuild, parentId, layer, virtualPages, globals: sorted(globals), entries: sorted(entries), pages, workingSet,
  }))
}

export function imageIdOf(encoded: Uint8Array): ImageId {
  return createHash('sha256').update(encoded).digest('hex') as ImageId
}

export function blockIdOf(page: Uint8Array): BlockId {
  return createHash('sha256').update(page).digest('hex') as BlockId
}

export function parseImageId(text: string): ImageId {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new CodedError('ERR_STORE_BLOCK', [text.slice(0, 80), 'not an image id'])
  return text as ImageId
}

/** Decodes and checks a manifest from an untrusted place. Throws ERR_STORE_BLOCK. */
export function decodeManifest(encoded: Uint8Array, expected: ImageId): ImageManifest {
  const refuse = (why: string): never => {
    throw new CodedError('ERR_STORE_BLOCK', [expected, why])
  }
  if (imageIdOf(encoded) !== expected) refuse('altered')
  const value = JSON.parse(Buffer.from(encoded).toString()) as ImageManifest
  const format: number = value.format
  if (format !== 1) refuse(`of format ${format}, which this version cannot read`)
  if (value.pages.length > PAGES_MAX) refuse('larger than an image can be')
  let previous = -1
  for (const [index, block] of value.pages) {
    if (!Number.isInteger(index) || index <= previous || index >= PAGES_MAX) refuse('out of order')
    if (block !== ZERO_BLOCK && !/^[0-9a-f]{64}$/.test(block)) refuse('malformed')
    previous = index
  }
  if (value.workingSet !== undefined && !(Array.isArray(value.workingSet) && value.workingSet.length <= PAGES_MAX)) refuse('malformed')
  return value
}

function sorted<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}
