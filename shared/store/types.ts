/**
 * What a store holds: sealed objects. An object is a head and an ordered list of pieces; a piece becomes one sealed
 * block, and the object's sealed manifest says which blocks, in order, and holds the head and the blocks' keys sealed
 * under a data key of its own. Disks, links and other accounts see ids, lengths and ciphertext only.
 *
 *   object = head + pieces          an image: head = encoded ImageManifest, pieces = groups of pages (page-groups.ts)
 *     piece -> block                block-seal.ts: key from the content, id from the ciphertext
 *     head + keys -> manifest       sealed-manifest.ts: sealed under a random data key
 *     data key -> wrapped           keyring.ts for the account, pop-keys.ts for a POP that the function is granted to
 */
import type { Brand } from '../brand.ts'

/** SHA-256 of a sealed block, ciphertext and tag: 64 hex digits. */
export type SealedBlockId = Brand<string, 'SealedBlockId'>
/** SHA-256 of what an object is in the clear, 64 hex digits: of an image its ImageId, of a bundle or module that of its bytes. */
export type ObjectId = Brand<string, 'ObjectId'>
/** 32 bytes that open one manifest. */
export type DataKey = Brand<Uint8Array, 'DataKey'>
/** 32 bytes that open one block; they follow from its content. */
export type BlockKey = Brand<Uint8Array, 'BlockKey'>

export const OBJECT_KINDS = ['image', 'bundle'] as const
export type ObjectKind = (typeof OBJECT_KINDS)[number]

/** An object in the clear. */
export interface PlainObject {
  readonly objectId: ObjectId
  readonly kind: ObjectKind
  /** The object that an image is a difference to. */
  readonly parentId: ObjectId | null
  readonly head: Uint8Array
  readonly pieces: readonly Uint8Array[]
}

/** One piece as its manifest names it. `id` null: all zeros, not stored anywhere. */
export interface SealedPiece {
  readonly id: SealedBlockId | null
  /** Of the piece in the clear; its block has SEAL_TAG_BYTES more. */
  readonly bytes: number
}

/** A manifest as it is stored and shipped. Everything but `keyPart` is readable by anybody and bound to it. */
export interface SealedManifest {
  readonly format: 1
  readonly objectId: ObjectId
  readonly kind: ObjectKind
  readonly parentId: ObjectId | null
  readonly pieces: readonly SealedPiece[]
  /** Head, keys and salts under the data key. */
  readonly keyPart: Uint8Array
}

/** What a data key opens of a manifest. */
export interface OpenedManifest {
  /** An image's encoded ImageManifest; empty for other kinds. */
  readonly head: Uint8Array
  /** One per piece, in order; null for a piece of zeros. */
  readonly keys: readonly (BlockKey | null)[]
  /** Salt that each key was made with; 0 for a piece of zeros. */
  readonly saltIds: readonly number[]
}

/** Where blocks may come from besides this disk: another region. */
export interface BlockSource {
  /** The sealed block, not yet verified, or null. */
  fetchBlock(id: SealedBlockId): Promise<Uint8Array | null>
}
