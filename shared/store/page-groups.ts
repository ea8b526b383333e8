/**
 * An image's pages as the pieces of an object, and back. A piece is what an image holds of one window of the address
 * space: the pages that fall in it and are not zeros, in order, one after another. So pages at equal addresses with
 * equal neighbours are equal pieces in every image, and a manifest alone says what a piece is made of.
 */
import { CodedError } from '../errors.ts'
import { PAGE_BYTES, ZERO_BLOCK, blockIdOf, type BlockId, type ImageManifest } from '../microvm/manifest.ts'
import type { ImageId } from '../brand.ts'
import type { ObjectId } from './types.ts'

/**
 * Size of a window. Larger ones seal and read faster for each byte, smaller ones share more between images: see
 * ARCHITECTURE.md for the figures. A change makes new images share nothing with stored ones; old ones stay readable.
 */
export const GROUP_BYTES = 16_384
const PAGES_PER_GROUP = GROUP_BYTES / PAGE_BYTES

/** Pages of one piece, in order of address. */
export type PageGroup = readonly BlockId[]

/** What each piece of an image holds, in order. Windows of zeros only, and without pages, have no piece. */
export function groupsOf(manifest: ImageManifest): PageGroup[] {
  const groups: BlockId[][] = []
  let window = -1
  for (const [index, id] of manifest.pages) {
    if (id === ZERO_BLOCK) continue
    const next = Math.floor(index / PAGES_PER_GROUP)
    if (next !== window) groups.push([])
    window = next
    groups.at(-1)?.push(id)
  }
  return groups
}

/**
 * The same of an image that was stored, whatever the windows were then: by the lengths of its pieces. Throws
 * ERR_STORE_BLOCK if these do not add up to its pages.
 */
export function storedGroupsOf(manifest: ImageManifest, pieceBytes: readonly number[]): PageGroup[] {
  const pages = manifest.pages.flatMap(([, id]) => (id === ZERO_BLOCK ? [] : [id]))
  let at = 0
  const groups = pieceBytes.map((bytes) => pages.slice(at, (at += bytes / PAGE_BYTES)))
  if (at !== pages.length || groups.some((group, index) => group.length * PAGE_BYTES !== pieceBytes[index])) throw new CodedError('ERR_STORE_BLOCK', [pages[0] ?? 'of no page', 'not in the pieces of its image'])
  return groups
}

/** The image's pieces. Throws ERR_STORE_BLOCK if a page is missing or is not what its id says. */
export function piecesOf(manifest: ImageManifest, blocks: ReadonlyMap<BlockId, Uint8Array>): Uint8Array[] {
  return groupsOf(manifest).map((group) => {
    const piece = new Uint8Array(group.length * PAGE_BYTES)
    group.forEach((id, index) => {
      const page = blocks.get(id)
      if (page === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
      if (page.byteLength !== PAGE_BYTES || blockIdOf(page) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
      piece.set(page, index * PAGE_BYTES)
    })
    return piece
  })
}

/** Pages of one piece by id, as views of it. Throws ERR_STORE_BLOCK if it is not as long as its pages. */
export function pagesOf(group: PageGroup, piece: Uint8Array): [id: BlockId, page: Uint8Array][] {
  if (piece.byteLength !== group.length * PAGE_BYTES) throw new CodedError('ERR_STORE_BLOCK', [group[0] ?? 'of no page', `${piece.byteLength} bytes long, its image wants ${group.length * PAGE_BYTES}`])
  return group.map((id, index) => [id, piece.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES)])
}

/** An image and its object have the same id: SHA-256 of the encoded manifest, which is the object's head. */
export function imageObjectId(imageId: ImageId): ObjectId {
  return imageId as string as ObjectId
}
