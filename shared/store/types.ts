/**
 * Where images live: at a region the store of record, at a POP a cache on disk. Blocks are found by their content.
 * Encryption of blocks is added behind this interface.
 */
import type { ImageId } from '../brand.ts'
import type { BlockId, ImageManifest } from '../microvm/manifest.ts'

export interface ImageStore {
  /**
   * Stores an image and all its blocks atomically; resolves once it is on disk. Storing what is there already writes
   * nothing. Throws ERR_STORE_FULL with nothing stored.
   */
  putImage(imageId: ImageId, encodedManifest: Uint8Array, blocks: ReadonlyMap<BlockId, Uint8Array>): Promise<void>
  /** The encoded manifest, or null. */
  getManifest(imageId: ImageId): Uint8Array | null
  /** A verified block, or null if it is not there. Throws ERR_STORE_BLOCK if it is altered. The bytes are the caller's own. */
  getBlock(id: BlockId): Uint8Array | null
  hasBlock(id: BlockId): boolean
  /** Drops an image and the blocks that no other image names. */
  deleteImage(imageId: ImageId): Promise<void>
  close(): Promise<void>
}

export type { ImageManifest }
