/**
 * What functions consist of besides their records: images, zips and modules, as sealed objects of the account that
 * published them. Images that hold nothing of any customer, base and prelude, belong to the platform and are there once.
 */
import { hash } from 'node:crypto'
import type { ImageId } from '../shared/brand.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import type { BuiltImage } from '../shared/microvm/build-types.ts'
import { decodeManifest, type BlockId, type ImageManifest } from '../shared/microvm/manifest.ts'
import type { ObjectStore, OpenObject, SealedObject } from '../shared/store/object-store.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import { chainObjects, imageObjectId, pagesOf, storedGroupsOf, type PageBefore } from '../shared/store/page-groups.ts'
import { parseObjectId } from '../shared/store/sealed-manifest.ts'
import type { SealedBlockId } from '../shared/store/types.ts'

/** No customer's account: those are twelve digits. */
export const PLATFORM_ACCOUNT = 'platform'
/** Zips and modules are cut into pieces of this size; little of them is shared, so larger ones only cost memory. */
const BUNDLE_PIECE_BYTES = 65_536

/** An image to be applied, over its parent. */
export interface StoredImage {
  readonly manifest: ImageManifest
  readonly encodedManifest: Uint8Array
  /** Its pages, read when they are asked for, and verified: that throws ERR_STORE_BLOCK. */
  readonly pages: (before: PageBefore) => (id: BlockId) => Uint8Array
  readonly has: (id: BlockId) => boolean
}

export class Content {
  readonly #store: ObjectStore

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /** `images`: each the parent of the next. Throws ERR_STORE_FULL, ERR_STORE_BLOCK if a page is not what its manifest says. */
  async putImages(account: string, images: readonly BuiltImage[]): Promise<void> {
    for (const { manifest, object } of chainObjects(images)) {
      const ofPlatform = manifest.layer === 'base' || manifest.layer === 'prelude'
      await this.#store.put(ofPlatform ? PLATFORM_ACCOUNT : account, object)
    }
  }

  /** Throws ERR_STORE_BLOCK if it is missing or altered. */
  readImage(account: string, imageId: ImageId): StoredImage {
    const object = this.#openImage(account, imageId)
    if (object === null) throw new CodedError('ERR_STORE_BLOCK', [imageId, 'missing, as image'])
    return toStoredImage(imageId, object)
  }

  hasImage(account: string, imageId: ImageId): boolean {
    return this.#store.has(account, imageObjectId(imageId)) || this.#store.has(PLATFORM_ACCOUNT, imageObjectId(imageId))
  }

  /** For a POP that was granted a function of `account`. Null if it is not there. */
  sealedImage(account: string, imageId: ImageId): SealedObject | null {
    return this.#store.openSealed(account, imageObjectId(imageId)) ?? this.#store.openSealed(PLATFORM_ACCOUNT, imageObjectId(imageId))
  }

  /** A block as it is stored. Throws ERR_STORE_BLOCK if it is missing or altered. */
  sealedBlock(id: SealedBlockId): Uint8Array {
    return this.#store.sealedBlock(id)
  }

  /** The same, or null: what is damaged here as well cannot mend anything. */
  blockForPeer(id: SealedBlockId): Uint8Array | null {
    try {
      return this.#store.sealedBlock(id)
    } catch (error) {
      if (toCodedError(error).code === 'ERR_STORE_BLOCK') return null
      throw error
    }
  }

  /** `id`: SHA-256 of the bytes. */
  async putBundle(account: string, id: string, bytes: Uint8Array): Promise<void> {
    const pieces: Uint8Array[] = []
    for (let at = 0; at < bytes.byteLength; at += BUNDLE_PIECE_BYTES) pieces.push(bytes.subarray(at, at + BUNDLE_PIECE_BYTES))
    await this.#store.put(account, { objectId: parseObjectId(id), kind: 'bundle', parentId: null, head: new Uint8Array(0), pieces })
  }

  /** Throws ERR_STORE_FAILED if it is missing, ERR_STORE_BLOCK if it is altered. */
  readBundle(account: string, id: string): Uint8Array {
    const object = this.#store.open(account, parseObjectId(id))
    if (object === null) throw new CodedError('ERR_STORE_FAILED', [`source ${id} is missing`])
    const bytes = Buffer.concat(object.pieceBytes.map((_bytes, index) => object.piece(index)))
    if (hash('sha256', bytes) !== id) throw new CodedError('ERR_STORE_FAILED', [`source ${id} is altered`])
    return bytes
  }

  hasBundle(account: string, id: string): boolean {
    return this.#store.has(account, parseObjectId(id))
  }

  /** Inside a transaction; see ObjectStore.claimInTransaction. */
  claimImage(account: string, imageId: ImageId): boolean {
    const objectId = imageObjectId(imageId)
    return this.#store.claimInTransaction(account, objectId) || this.#store.claimInTransaction(PLATFORM_ACCOUNT, objectId)
  }

  claimBundle(account: string, id: string): boolean {
    return this.#store.claimInTransaction(account, parseObjectId(id))
  }

  /** What has to live for records of `account` that name this image. */
  imageKey(account: string, imageId: ImageId): ObjectKey {
    const objectId = imageObjectId(imageId)
    return { account: this.#store.has(account, objectId) ? account : PLATFORM_ACCOUNT, objectId }
  }

  bundleKey(account: string, id: string): ObjectKey {
    return { account, objectId: parseObjectId(id) }
  }

  #openImage(account: string, imageId: ImageId): OpenObject | null {
    return this.#store.open(account, imageObjectId(imageId)) ?? this.#store.open(PLATFORM_ACCOUNT, imageObjectId(imageId))
  }
}

function toStoredImage(imageId: ImageId, object: OpenObject): StoredImage {
  const manifest = decodeManifest(object.head, imageId)
  const groups = storedGroupsOf(manifest, object.pieceBytes.length)
  const pieceOf = new Map(groups.flatMap((group, index) => group.map(([, id]) => [id, index] as const)))
  const pages = (before: PageBefore): ((id: BlockId) => Uint8Array) => {
    const opened = new Map<BlockId, Uint8Array>()
    return (id) => {
      const index = pieceOf.get(id)
      if (index === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'not of this image'])
      if (!opened.has(id)) for (const [pageId, content] of pagesOf(groups[index] ?? [], object.piece(index), before)) opened.set(pageId, content)
      const found = opened.get(id)
      if (found === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
      return found
    }
  }
  return { manifest, encodedManifest: object.head, pages, has: (id) => pieceOf.has(id) }
}
