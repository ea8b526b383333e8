/**
 * How a POP opens what a region gave it: the manifest with the data key that was wrapped for this POP alone, a block with
 * the key that the manifest holds for it, the pages by what the image's own manifest says they are.
 *
 * U1: a page is handed out only after its block's id and tag, and its own hash, were right. Nothing that was opened is
 *     written anywhere.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ImageId } from '../shared/brand.ts'
import { CodedError } from '../shared/errors.ts'
import type { WantedBlock } from '../shared/link/blocks.ts'
import { decodeManifest, type BlockId, type ImageManifest } from '../shared/microvm/manifest.ts'
import { openBlock } from '../shared/store/block-seal.ts'
import { imageObjectId, pagesOf, storedGroupsOf, type PageBefore, type PageGroup } from '../shared/store/page-groups.ts'
import { unwrapAtPop, type PopKeys } from '../shared/store/pop-keys.ts'
import { blocksOf, decodeSealedManifest, openManifest } from '../shared/store/sealed-manifest.ts'
import type { OpenedManifest, SealedBlockId, SealedManifest } from '../shared/store/types.ts'

/** An image whose manifest is open; its blocks are not. */
export interface OpenedImage {
  readonly plain: ImageManifest
  /** The sealed blocks that it needs, each once; a region knows them by their place here. */
  readonly blocks: readonly SealedBlockId[]
  readonly sealed: SealedManifest
  readonly opened: OpenedManifest
  /** Pages of each piece. */
  readonly groups: readonly PageGroup[]
}

/** Pieces opened in one go, about 1 ms. */
const PIECES_PER_TURN = 16

/** Throws ERR_STORE_KEY if it is not for this POP, ERR_STORE_BLOCK if it is not that image. */
export function openImage(keys: PopKeys, imageId: ImageId, manifest: Uint8Array, wrappedKey: Uint8Array): OpenedImage {
  const objectId = imageObjectId(imageId)
  const sealed = decodeSealedManifest(manifest, objectId)
  const opened = openManifest(unwrapAtPop(keys, objectId, wrappedKey), sealed)
  const plain = decodeManifest(opened.head, imageId)
  return { plain, blocks: blocksOf(sealed), sealed, opened, groups: storedGroupsOf(plain, sealed.pieces.length) }
}

/** U1. Every page that is not zeros, over the parent's. Throws ERR_STORE_BLOCK, which names the block or page. */
export async function openPages({ sealed, opened, groups }: OpenedImage, block: (id: SealedBlockId) => Uint8Array | undefined, before: PageBefore): Promise<Map<BlockId, Uint8Array>> {
  const pages = new Map<BlockId, Uint8Array>()
  for (const [index, { id, bytes }] of sealed.pieces.entries()) {
    for (const [pageId, page] of pagesOf(groups[index] ?? [], openPiece(id, bytes, opened.keys[index] ?? null, block), before)) pages.set(pageId, page)
    if (index % PIECES_PER_TURN === PIECES_PER_TURN - 1) await nextTurn()
  }
  return pages
}

/** What is to be fetched of an image, the blocks of pages that a request was seen to need first. */
export function inFetchOrder(imageId: ImageId, { plain, blocks, sealed, groups }: OpenedImage): WantedBlock[] {
  const wanted = blocks.map((id, number) => ({ imageId, number, id }))
  if (plain.workingSet === undefined) return wanted
  const indexes = new Set(plain.workingSet)
  const pages = new Set(plain.pages.filter(([index]) => indexes.has(index)).map(([, id]) => id))
  const needed = new Set(sealed.pieces.filter((_, index) => groups[index]?.some(([, id]) => pages.has(id))).map(({ id }) => id))
  return [...wanted.filter(({ id }) => needed.has(id)), ...wanted.filter(({ id }) => !needed.has(id))]
}

function openPiece(id: SealedBlockId | null, bytes: number, key: OpenedManifest['keys'][number], block: (id: SealedBlockId) => Uint8Array | undefined): Uint8Array {
  if (id === null) return new Uint8Array(bytes)
  const content = block(id)
  if (content === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
  if (key === null) throw new CodedError('ERR_STORE_BLOCK', [id, 'without a key in its manifest'])
  return openBlock(key, id, content)
}
