/** Images as the pages in which each differs from its parent, and as what a store would keep of them. Pure but for hashing. */
import { createHash } from 'node:crypto'
import type { ImageId } from '../../shared/brand.ts'
import type { BuiltImage } from '../../shared/microvm/build-types.ts'
import { decodeManifest, PAGE_BYTES, ZERO_BLOCK } from '../../shared/microvm/manifest.ts'
import { encodeGroup, type PatchedPage } from '../../shared/microvm/page-patch.ts'

export interface ImageDelta {
  readonly imageId: ImageId
  readonly pages: readonly PatchedPage[]
}

/** `page`: pages as they are; `patch`: what differs from the parent's. */
export type Encoding = 'page' | 'patch'

/** Content of a piece by its hash. */
export type Pieces = ReadonlyMap<string, Uint8Array>

const ZEROS = new Uint8Array(PAGE_BYTES)

/** The images of one build, ancestors first, without base and prelude. */
export function deltasOf(images: readonly BuiltImage[]): ImageDelta[] {
  const memory = new Map<number, Uint8Array>()
  return images.map(({ imageId, encodedManifest, blocks }): ImageDelta => {
    const pages = decodeManifest(encodedManifest, imageId).pages.map(([index, block]) => {
      const content = block === ZERO_BLOCK ? ZEROS : (blocks.get(block) ?? ZEROS)
      const before = memory.get(index) ?? ZEROS
      memory.set(index, content)
      return { index, content, before }
    })
    return { imageId, pages }
  }).slice(2)
}

/** Bytes of pages that are not zero. */
export function logicalBytes(delta: ImageDelta): number {
  return delta.pages.filter(({ content }) => content !== ZEROS).length * PAGE_BYTES
}

/** One piece for each window of the address space in which the image has pages. */
export function piecesOf({ pages }: ImageDelta, encoding: Encoding, windowBytes: number): Pieces {
  const groups = new Map<number, PatchedPage[]>()
  for (const page of pages) {
    const window = Math.floor((page.index * PAGE_BYTES) / windowBytes)
    const group = groups.get(window)
    if (group === undefined) groups.set(window, [page])
    else group.push(page)
  }
  return new Map([...groups.values()].map((group) => (encoding === 'patch' ? encodeGroup(group) : Buffer.concat(group.map(({ content }) => content).filter((content) => content !== ZEROS)))).filter(({ length }) => length > 0).map((piece) => [createHash('sha256').update(piece).digest('hex'), piece]))
}

export function totalBytes(pieces: Iterable<Uint8Array>): number {
  let sum = 0
  for (const { length } of pieces) sum += length
  return sum
}
