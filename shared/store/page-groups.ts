/**
 * An image's pages as the pieces of an object, and back. A piece is what an image changes in one window of the address
 * space: the patches of the pages that fall in it and are not zeros (microvm/page-patch.ts). Whoever opens a piece has the
 * parent's pages at hand, and checks each page that results against the image's manifest: a patch over another page than
 * the one it was made for, by whatever mistake, gives an error and no page.
 */
import type { ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'
import type { BuiltImage } from '../microvm/build-types.ts'
import { PAGE_BYTES, ZERO_BLOCK, blockIdOf, decodeManifest, type BlockId, type ImageManifest } from '../microvm/manifest.ts'
import { decodeGroup, encodeGroup, groupOf } from '../microvm/page-patch.ts'
import type { ObjectId, PlainObject } from './types.ts'

/** Pages of one piece, in order of address. */
export type PageGroup = readonly (readonly [index: number, id: BlockId])[]
/** The page that an image's parent has at an index; zeros where it has none. */
export type PageBefore = (index: number) => Uint8Array

const ZEROS = new Uint8Array(PAGE_BYTES)
/** For images without a parent. */
export const ALL_ZEROS: PageBefore = () => ZEROS

/** What each piece of an image holds, in order. Windows of zeros only, and without pages, have no piece. */
export function groupsOf(manifest: ImageManifest): PageGroup[] {
  const groups: [number, BlockId][][] = []
  let window = -1
  for (const [index, id] of manifest.pages) {
    if (id === ZERO_BLOCK) continue
    if (groupOf(index) !== window) groups.push([])
    window = groupOf(index)
    groups.at(-1)?.push([index, id])
  }
  return groups
}

/** The same of an image that is stored in so many pieces. Throws ERR_STORE_BLOCK if it cannot be. */
export function storedGroupsOf(manifest: ImageManifest, pieces: number): PageGroup[] {
  const groups = groupsOf(manifest)
  if (groups.length !== pieces) throw new CodedError('ERR_STORE_BLOCK', [groups[0]?.[0]?.[1] ?? 'of no page', 'not in the pieces of its image'])
  return groups
}

/** The image's pieces. Throws ERR_STORE_BLOCK if a page is missing or is not what its id says. */
export function piecesOf(manifest: ImageManifest, blocks: ReadonlyMap<BlockId, Uint8Array>, before: PageBefore): Uint8Array[] {
  return groupsOf(manifest).map((group) =>
    encodeGroup(group.map(([index, id]) => {
      const content = blocks.get(id)
      if (content === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
      if (content.byteLength !== PAGE_BYTES || blockIdOf(content) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
      return { index, content, before: before(index) }
    })))
}

/** Pages of one piece by id, each what its id says. Throws ERR_STORE_BLOCK. */
export function pagesOf(group: PageGroup, piece: Uint8Array, before: PageBefore): [id: BlockId, page: Uint8Array][] {
  const pages = decodeGroup(piece, before)
  if (pages.size !== group.length) throw new CodedError('ERR_STORE_BLOCK', [group[0]?.[1] ?? 'of no page', `one of ${pages.size} pages, its image wants ${group.length}`])
  return group.map(([index, id]) => {
    const page = pages.get(index)
    if (page === undefined || blockIdOf(page) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'not what its image says'])
    return [id, page]
  })
}

/** Images as objects, each over the one before, which is its parent: ancestors first. Throws as `piecesOf`. */
export function* chainObjects(images: readonly BuiltImage[]): Generator<{ readonly manifest: ImageManifest; readonly object: PlainObject }> {
  const under = new Map<number, Uint8Array>()
  for (const { imageId, encodedManifest, blocks } of images) {
    const manifest = decodeManifest(encodedManifest, imageId)
    const pieces = piecesOf(manifest, blocks, (index) => under.get(index) ?? ZEROS)
    const parentId = manifest.parentId === null ? null : imageObjectId(manifest.parentId)
    yield { manifest, object: { objectId: imageObjectId(imageId), kind: 'image', parentId, head: encodedManifest, pieces } }
    for (const [index, id] of manifest.pages) under.set(index, blocks.get(id) ?? ZEROS)
  }
}

/** An image and its object have the same id: SHA-256 of the encoded manifest, which is the object's head. */
export function imageObjectId(imageId: ImageId): ObjectId {
  return imageId as string as ObjectId
}
