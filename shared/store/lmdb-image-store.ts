/**
 * ImageStore on LMDB: a region's store of record and a POP's cache on disk.
 *
 * Tables: `images` (image id -> encoded manifest), `blocks` (block id -> encoded content), `blockRefs` (block id ->
 * number of images that name it, u32), `meta` (`contentBytes` -> bytes of all blocks and manifests).
 *
 * S1: a manifest is there only if every block it names is; both appear in one transaction.
 * S2: a block's count equals the number of stored images that name it; at zero the block goes in the same transaction.
 * S3: what leaves the store has been hashed and compared with its id.
 */
import type { ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'
import { PAGE_BYTES, ZERO_BLOCK, blockIdOf, decodeManifest, parseImageId, type BlockId, type ImageManifest } from '../microvm/manifest.ts'
import { identityCodec, type BlockCodec } from './block-codec.ts'
import { LmdbEnvironment, type LmdbEnvironmentOptions, type Table } from './lmdb-environment.ts'
import type { ImageStore } from './types.ts'

export interface LmdbImageStoreOptions {
  /** Bytes of blocks and manifests at most; beyond it ERR_STORE_FULL. Null: what the disk holds. Default null. */
  readonly contentMaxBytes?: number | null
  readonly codec?: BlockCodec
}

export interface ImageStoreStats {
  readonly images: number
  readonly blocks: number
  /** Bytes of blocks and manifests as stored; LMDB takes up to twice that on disk. */
  readonly contentBytes: number
}

/** Ids of blocks found altered and not yet replaced; more than this are still refused, only not remembered. */
const ALTERED_REMEMBERED_MAX = 10_000
const CONTENT_BYTES_KEY = 'contentBytes'

export class LmdbImageStore implements ImageStore {
  readonly #environment: LmdbEnvironment
  readonly #ownsEnvironment: boolean
  readonly #contentMaxBytes: number
  readonly #codec: BlockCodec
  readonly #images: Table<Buffer>
  readonly #blocks: Table<Buffer>
  readonly #blockRefs: Table<Buffer>
  readonly #meta: Table<string>
  /** Blocks that failed S3. The next image that brings one writes it anew. */
  readonly #altered = new Set<BlockId>()

  /** A store in an environment that others use too; `close` leaves it open. */
  static within(environment: LmdbEnvironment, options: LmdbImageStoreOptions = {}): LmdbImageStore {
    return new LmdbImageStore(environment, false, options)
  }

  /** A store with a folder of its own. Throws ERR_STORE_FAILED. */
  static open(options: LmdbEnvironmentOptions & LmdbImageStoreOptions): LmdbImageStore {
    return new LmdbImageStore(LmdbEnvironment.open(options), true, options)
  }

  private constructor(environment: LmdbEnvironment, ownsEnvironment: boolean, options: LmdbImageStoreOptions) {
    this.#environment = environment
    this.#ownsEnvironment = ownsEnvironment
    this.#contentMaxBytes = options.contentMaxBytes ?? Number.POSITIVE_INFINITY
    this.#codec = options.codec ?? identityCodec
    this.#images = environment.table('images', 'binary')
    this.#blocks = environment.table('blocks', 'binary')
    this.#blockRefs = environment.table('blockRefs', 'binary')
    this.#meta = environment.table('imageMeta', 'ordered')
  }

  async putImage(imageId: ImageId, encodedManifest: Uint8Array, blocks: ReadonlyMap<BlockId, Uint8Array>): Promise<void> {
    const named = blocksOf(decodeManifest(encodedManifest, imageId))
    if (this.#holds(imageId, encodedManifest) && !named.some((id) => this.#altered.has(id))) return
    const encoded = this.#encodeBlocks(named, blocks)
    let addedBytes = encodedManifest.byteLength
    for (const [id, bytes] of encoded) if (!this.hasBlock(id)) addedBytes += bytes.byteLength
    await this.#environment.write({ kind: 'adds', bytes: addedBytes }, () => this.#putInTransaction(imageId, encodedManifest, named, encoded))
    for (const id of encoded.keys()) this.#altered.delete(id)
  }

  getManifest(imageId: ImageId): Uint8Array | null {
    this.#environment.requireOpen()
    return this.#images.getBinary(imageKey(imageId)) ?? null
  }

  getBlock(id: BlockId): Uint8Array | null {
    if (id === ZERO_BLOCK) throw new CodedError('ERR_STORE_BLOCK', [id, 'all zeros, which is not stored'])
    this.#environment.requireOpen()
    // Not the fast kind: that buffer is overwritten by lmdb's next read, and is longer than the value.
    const stored = this.#blocks.getBinary(blockKey(id))
    if (stored === undefined) return null
    const content = this.#codec.decode(id, stored)
    if (blockIdOf(content) !== id) {
      if (this.#altered.size < ALTERED_REMEMBERED_MAX) this.#altered.add(id)
      throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
    }
    return content
  }

  hasBlock(id: BlockId): boolean {
    this.#environment.requireOpen()
    return id !== ZERO_BLOCK && !this.#altered.has(id) && this.#blocks.doesExist(blockKey(id))
  }

  async deleteImage(imageId: ImageId): Promise<void> {
    if (this.getManifest(imageId) === null) return
    await this.#environment.write({ kind: 'removes' }, () => this.#deleteInTransaction(imageId))
  }

  /** Ids of all images, in order of id; a snapshot of the moment. */
  imageIds(): ImageId[] {
    return [...this.#images.getKeys()].map((key) => parseImageId(key.toString('hex')))
  }

  /** Costs a walk over the tables' roots only. */
  stats(): ImageStoreStats {
    return { images: entryCount(this.#images), blocks: entryCount(this.#blocks), contentBytes: this.#contentBytes() }
  }

  /** Compares everything with S1 to S3 and returns what is wrong, one line each. Reads the whole store. */
  audit(): string[] {
    const problems: string[] = []
    const counts = new Map<BlockId, number>()
    let contentBytes = 0
    for (const imageId of this.imageIds()) {
      const encoded = this.getManifest(imageId)
      if (encoded === null) continue
      contentBytes += encoded.byteLength
      try {
        for (const id of blocksOf(decodeManifest(encoded, imageId))) counts.set(id, (counts.get(id) ?? 0) + 1)
      } catch (error) {
        problems.push(`image ${imageId}: ${String(error)}`)
      }
    }
    for (const [id, count] of counts) {
      if (this.#refsOf(id) !== count) problems.push(`block ${id}: counted ${this.#refsOf(id)} times, named by ${count}`)
      if (!this.#blocks.doesExist(blockKey(id))) problems.push(`block ${id}: missing`)
    }
    for (const key of this.#blocks.getKeys()) {
      const id = key.toString('hex') as BlockId
      contentBytes += this.#blocks.getBinary(key)?.byteLength ?? 0
      if (!counts.has(id)) problems.push(`block ${id}: named by no image`)
      try {
        this.getBlock(id)
      } catch (error) {
        problems.push(String(error))
      }
    }
    if (entryCount(this.#blockRefs) !== counts.size) problems.push(`${entryCount(this.#blockRefs)} counts for ${counts.size} blocks`)
    if (contentBytes !== this.#contentBytes()) problems.push(`content is ${contentBytes} bytes, counted ${this.#contentBytes()}`)
    return problems
  }

  async close(): Promise<void> {
    if (this.#ownsEnvironment) await this.#environment.close()
  }

  #encodeBlocks(named: readonly BlockId[], blocks: ReadonlyMap<BlockId, Uint8Array>): Map<BlockId, Uint8Array> {
    const encoded = new Map<BlockId, Uint8Array>()
    for (const id of named) {
      const content = blocks.get(id)
      if (content === undefined) {
        if (!this.hasBlock(id)) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
        continue
      }
      if (content.byteLength !== PAGE_BYTES || blockIdOf(content) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
      encoded.set(id, this.#codec.encode(id, content))
    }
    return encoded
  }

  #putInTransaction(imageId: ImageId, encodedManifest: Uint8Array, named: readonly BlockId[], encoded: ReadonlyMap<BlockId, Uint8Array>): void {
    // Another write may have come first: whether image and blocks are there is decided here, not before.
    const stored = this.getManifest(imageId)
    const isNew = stored === null
    let addedBytes = encodedManifest.byteLength - (stored?.byteLength ?? 0)
    for (const id of named) {
      const refs = this.#refsOf(id)
      const content = encoded.get(id)
      if (refs === 0) {
        if (content === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
        addedBytes += content.byteLength
        this.#put(this.#blocks, id, content)
      } else if (content !== undefined && this.#altered.has(id)) {
        addedBytes += content.byteLength - (this.#blocks.getBinary(blockKey(id))?.byteLength ?? 0)
        this.#put(this.#blocks, id, content)
      }
      if (isNew) this.#put(this.#blockRefs, id, u32(refs + 1))
    }
    void this.#images.put(imageKey(imageId), encodedManifest)
    const contentBytes = this.#contentBytes() + addedBytes
    if (contentBytes > this.#contentMaxBytes) throw new CodedError('ERR_STORE_FULL', [`${contentBytes} bytes of ${this.#contentMaxBytes}`])
    this.#setContentBytes(contentBytes)
  }

  #deleteInTransaction(imageId: ImageId): void {
    const encoded = this.getManifest(imageId)
    if (encoded === null) return
    let contentBytes = this.#contentBytes() - encoded.byteLength
    for (const id of blocksOf(decodeManifest(encoded, imageId))) {
      const refs = this.#refsOf(id)
      if (refs > 1) {
        this.#put(this.#blockRefs, id, u32(refs - 1))
        continue
      }
      contentBytes -= this.#blocks.getBinary(blockKey(id))?.byteLength ?? 0
      void this.#blocks.remove(blockKey(id))
      void this.#blockRefs.remove(blockKey(id))
      this.#altered.delete(id)
    }
    void this.#images.remove(imageKey(imageId))
    this.#setContentBytes(contentBytes)
  }

  /** Inside a transaction a put is done when it returns; the promise is a constant. */
  #put(table: Table<Buffer>, id: BlockId, value: Uint8Array): void {
    void table.put(blockKey(id), value)
  }

  /** False also if the manifest on disk is altered: putting the image again mends it. */
  #holds(imageId: ImageId, encodedManifest: Uint8Array): boolean {
    const stored = this.getManifest(imageId)
    return stored !== null && Buffer.compare(stored, encodedManifest) === 0
  }

  #refsOf(id: BlockId): number {
    const stored = this.#blockRefs.getBinary(blockKey(id))
    return stored === undefined ? 0 : stored.readUInt32LE(0)
  }

  #contentBytes(): number {
    const stored = this.#meta.getBinary(CONTENT_BYTES_KEY)
    return stored === undefined ? 0 : stored.readDoubleLE(0)
  }

  #setContentBytes(bytes: number): void {
    const stored = Buffer.alloc(8)
    stored.writeDoubleLE(bytes)
    void this.#meta.put(CONTENT_BYTES_KEY, stored)
  }
}

/** The distinct stored blocks of an image. */
function blocksOf(manifest: ImageManifest): BlockId[] {
  const ids = new Set<BlockId>()
  for (const [, id] of manifest.pages) if (id !== ZERO_BLOCK) ids.add(id)
  return [...ids]
}

function imageKey(id: ImageId): Buffer {
  return Buffer.from(id, 'hex')
}

function blockKey(id: BlockId): Buffer {
  return Buffer.from(id, 'hex')
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function entryCount(table: Table<Buffer> | Table<string>): number {
  const stats: { entryCount?: number } = table.getStats()
  return stats.entryCount ?? 0
}
