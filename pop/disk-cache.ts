/**
 * The images of a POP on disk: a cache in LMDB that outlives the process. It holds them as they travel, sealed, and cannot
 * open them: it knows ids, lengths and who is made from whom.
 *
 * Tables: `images` (image id -> SHA-256 of the rest, header, block ids, wrapped key, manifest), `blocks` (block id -> bytes), `refs`
 * (block id -> how many images name it, the XOR of their numbers, its length), `uses` (image id -> rate, as of when),
 * `cacheMeta`.
 *
 * K1: an image and all its blocks appear in one transaction. A block that was altered later is missing until it is put
 *     again; the image stays.
 * K2: what leaves has been hashed and compared: blocks with their ids, the rest of an image with its own sum. What fails
 *     is as good as not there.
 * K3: `freedBytes` of an image is what the disk gets back if it goes: its row and the blocks that no other image names.
 *     While one image names a block, the XOR of the numbers is that image's number; so a change of one image finds the
 *     other one whose bytes it moves, without a search.
 * K4: at start the books are balanced: references against images, bytes against both. A cache where they do not, or that is
 *     no database, is begun anew: it keeps no POP from serving.
 * K5: rates are written every minute and at the end: what a crash loses of them costs a worse choice at most.
 */
import { createHash } from 'node:crypto'
import { closeSync, existsSync, openSync, readSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError } from '../shared/errors.ts'
import { KIB } from '../shared/limits.ts'
import type { ImageRef } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import { parseImageId } from '../shared/microvm/manifest.ts'
import type { CacheEntry } from '../shared/place/disk-eviction.ts'
import { sealedBlockId } from '../shared/store/block-seal.ts'
import { LmdbEnvironment, type LmdbEnvironmentOptions, type Table } from '../shared/store/lmdb-environment.ts'
import { POP_WRAP_BYTES } from '../shared/store/pop-keys.ts'
import type { SealedBlockId } from '../shared/store/types.ts'

/** An image as it is kept: what came over the link, and in whose name. */
export interface StoredImage {
  readonly imageId: ImageId
  readonly parentId: ImageId | null
  /** The function's image in whose name it was asked for; blocks that are lost are asked for again in the same name. */
  readonly askedFor: ImageRef
  /** Each once. */
  readonly blocks: readonly SealedBlockId[]
  /** Sealed. */
  readonly manifest: Uint8Array
  /** What opens the manifest, wrapped for this POP. */
  readonly wrappedKey: Uint8Array
}

export interface DiskCacheOptions extends LmdbEnvironmentOptions {
  readonly clock: Clock
  readonly log: Log
}

interface Indexed {
  readonly number: number
  readonly parentId: ImageId | null
  freedBytes: number
  rate: number
  /** Wall clock. */
  rateAtMs: number
}

interface Refs {
  readonly count: number
  readonly numbersXor: number
  readonly bytes: number
}

interface Row {
  readonly header: Header
  readonly blocks: readonly SealedBlockId[]
  readonly manifest: Uint8Array
  readonly wrappedKey: Uint8Array
}

interface Header {
  readonly number: number
  readonly parentId: ImageId | null
  readonly askedFor: ImageRef
  readonly blocks: number
}

/** A function that is not asked for any more is worth half every so often: what was hot yesterday is not all dropped for what is tried today. */
const RATE_HALF_LIFE_MS = 6 * 3_600_000
const USES_WRITE_PERIOD_MS = 60_000
/** Blocks hashed in one go, about 1 ms. */
const HASHED_BYTES_PER_TURN = 256 * KIB
const SUM_BYTES = 32
const ID_BYTES = 32
const LMDB_MAGIC_AT = 24
const LMDB_MAGIC = 0xbeefc0de
const CONTENT_BYTES_KEY = 'contentBytes'
const NEXT_NUMBER_KEY = 'nextNumber'

export class DiskCache {
  readonly #environment: LmdbEnvironment
  readonly #clock: Clock
  readonly #images: Table<Buffer>
  readonly #blocks: Table<Buffer>
  readonly #refs: Table<Buffer>
  readonly #uses: Table<Buffer>
  readonly #meta: Table<string>
  #index = new Map<ImageId, Indexed>()
  #idOfNumber = new Map<number, ImageId>()
  /** Blocks that failed K2; the next put of them writes them anew. */
  readonly #altered = new Set<SealedBlockId>()
  readonly #unwrittenUses = new Set<ImageId>()
  #usesWrittenAtMs: number
  #scrubbedTo: Buffer | null = null

  private constructor(environment: LmdbEnvironment, clock: Clock) {
    this.#environment = environment
    this.#clock = clock
    this.#images = environment.table('cacheImages', 'binary')
    this.#blocks = environment.table('cacheBlocks', 'binary')
    this.#refs = environment.table('cacheRefs', 'binary')
    this.#uses = environment.table('cacheUses', 'binary')
    this.#meta = environment.table('cacheMeta', 'ordered')
    this.#usesWrittenAtMs = clock.monotonicMs()
  }

  /** Reads every image and every block's references: a second for some hundred thousand blocks (K4). Throws ERR_STORE_FAILED. */
  static async open(options: DiskCacheOptions): Promise<DiskCache> {
    const log = options.log.child('disk-cache')
    const cache = new DiskCache(openEnvironment(options, log), options.clock)
    const books = cache.#readBooks()
    if (books === 'unbalanced') {
      log.error('the cache on disk is damaged and is begun anew', { path: options.path })
      await cache.#clear()
    } else {
      cache.#index = books.index
      cache.#idOfNumber = books.idOfNumber
    }
    return cache
  }

  /** Bytes of all images and blocks; LMDB takes up to twice that on disk. */
  get contentBytes(): number {
    return this.#readMeta(CONTENT_BYTES_KEY)
  }

  /** Null if it is not there, or altered (K2). */
  image(imageId: ImageId): StoredImage | null {
    this.#environment.requireOpen()
    const row = this.#row(imageId)
    if (row === null) return null
    const { header, blocks, manifest, wrappedKey } = row
    return { imageId, parentId: header.parentId, askedFor: header.askedFor, blocks, manifest, wrappedKey }
  }

  /** Null if it is not there, or altered (K2). The bytes are the caller's own. */
  block(id: SealedBlockId): Uint8Array | null {
    this.#environment.requireOpen()
    const stored = this.#blocks.getBinary(idKey(id))
    if (stored === undefined || this.#altered.has(id)) return null
    if (sealedBlockId(stored) === id) return stored
    this.#altered.add(id)
    return null
  }

  /** K1. Blocks that are here may be left out. Nothing is written if all of it is here. Throws ERR_STORE_FULL with nothing stored, ERR_STORE_BLOCK if one is missing. */
  async put(image: StoredImage, blocks: ReadonlyMap<SealedBlockId, Uint8Array>): Promise<void> {
    if (image.wrappedKey.byteLength !== POP_WRAP_BYTES) throw new CodedError('ERR_STORE_KEY', [image.imageId, 'it is not wrapped for a POP'])
    if (this.#isWhole(image)) return
    await requireIntact(blocks)
    const bytes = image.blocks.reduce((sum, id) => sum + (blocks.get(id)?.byteLength ?? 0), image.manifest.byteLength)
    await this.#environment.write({ kind: 'adds', bytes }, () => {
      const moved = new Moves()
      const old = this.#row(image.imageId)
      const number = this.#readMeta(NEXT_NUMBER_KEY)
      this.#writeMeta(NEXT_NUMBER_KEY, number + 1)
      const row = encodeRow(image, number)
      let addedBytes = row.byteLength
      moved.add(number, row.byteLength)
      for (const id of image.blocks) addedBytes += this.#addRef(id, number, blocks.get(id), moved)
      // After the new references, so that what both name stays.
      if (old !== null) addedBytes -= this.#removeRefs(old, moved) + this.#rowBytes(image.imageId)
      void this.#images.put(idKey(image.imageId), row)
      this.#writeMeta(CONTENT_BYTES_KEY, this.contentBytes + addedBytes)
      return () => this.#indexed(image, number, moved)
    }).then((apply) => apply())
    for (const id of blocks.keys()) this.#altered.delete(id)
  }

  /** Puts blocks back that were altered. Those that no image names any more are left out. Throws as `put`. */
  async restore(blocks: ReadonlyMap<SealedBlockId, Uint8Array>): Promise<void> {
    await requireIntact(blocks)
    const bytes = [...blocks.values()].reduce((sum, block) => sum + block.byteLength, 0)
    await this.#environment.write({ kind: 'adds', bytes }, () => {
      for (const [id, block] of blocks) if (this.#refsOf(id) !== null) void this.#blocks.put(idKey(id), block)
    })
    for (const id of blocks.keys()) this.#altered.delete(id)
  }

  /** Removes images in one transaction, and the blocks that no other image names. */
  async delete(imageIds: readonly ImageId[]): Promise<void> {
    await this.#environment.write({ kind: 'removes' }, () => {
      const moved = new Moves()
      let freedBytes = 0
      for (const imageId of imageIds) {
        const row = this.#row(imageId)
        // One whose row is altered keeps its references until K4.
        if (row !== null) freedBytes += this.#removeRefs(row, moved)
        freedBytes += this.#rowBytes(imageId)
        void this.#images.remove(idKey(imageId))
        void this.#uses.remove(idKey(imageId))
      }
      this.#writeMeta(CONTENT_BYTES_KEY, this.contentBytes - freedBytes)
      return moved
    }).then((moved) => {
      this.#applyMoves(moved)
      for (const imageId of imageIds) this.#forget(imageId)
    })
  }

  /** Every image with what it is worth now. */
  entries(): CacheEntry<ImageId>[] {
    const nowMs = this.#clock.nowMs()
    return [...this.#index].map(([id, { parentId, freedBytes, rate, rateAtMs }]) => ({ id, parentId, freedBytes, rate: decayed(rate, rateAtMs, nowMs) }))
  }

  /** Images here that others here are made from, those of the most used first. */
  parents(): ImageId[] {
    const nowMs = this.#clock.nowMs()
    const rates = new Map<ImageId, number>()
    for (const { parentId, rate, rateAtMs } of this.#index.values()) {
      if (parentId !== null && this.#index.has(parentId)) rates.set(parentId, Math.max(rates.get(parentId) ?? 0, decayed(rate, rateAtMs, nowMs)))
    }
    return [...rates].sort(([, a], [, b]) => b - a).map(([id]) => id)
  }

  /** An image is used at this rate now; one that was used more lately keeps what is left of that. */
  use(imageId: ImageId, rate: number): void {
    const indexed = this.#index.get(imageId)
    if (indexed === undefined) return
    const nowMs = this.#clock.nowMs()
    indexed.rate = Math.max(rate, decayed(indexed.rate, indexed.rateAtMs, nowMs))
    indexed.rateAtMs = nowMs
    this.#unwrittenUses.add(imageId)
  }

  /** Writes rates if it is time (K5). To be called every some seconds. */
  async writeUses(when: 'due' | 'now' = 'due'): Promise<void> {
    const nowMs = this.#clock.monotonicMs()
    if (this.#unwrittenUses.size === 0 || (when === 'due' && nowMs - this.#usesWrittenAtMs < USES_WRITE_PERIOD_MS)) return
    this.#usesWrittenAtMs = nowMs
    const uses = [...this.#unwrittenUses]
    this.#unwrittenUses.clear()
    await this.#environment.write({ kind: 'adds', bytes: uses.length * 64 }, () => {
      for (const imageId of uses) {
        const indexed = this.#index.get(imageId)
        if (indexed !== undefined) void this.#uses.put(idKey(imageId), encodeUse(indexed))
      }
    })
  }

  /**
   * Hashes the next blocks, at least one and about `maxBytes`, going round, and returns those that are altered: they are
   * as good as missing from then on.
   */
  async scrub(maxBytes: number): Promise<SealedBlockId[]> {
    const altered: SealedBlockId[] = []
    let bytes = 0
    let turnBytes = 0
    for (const { key, value } of this.#after(this.#scrubbedTo)) {
      this.#scrubbedTo = Buffer.from(key)
      bytes += value.byteLength
      turnBytes += value.byteLength
      const id = key.toString('hex') as SealedBlockId
      if (sealedBlockId(value) !== id) {
        this.#altered.add(id)
        altered.push(id)
      }
      if (bytes >= maxBytes) return altered
      if (turnBytes >= HASHED_BYTES_PER_TURN) {
        turnBytes = 0
        await nextTurn()
      }
    }
    this.#scrubbedTo = null
    return altered
  }

  /** Images that name any of these blocks. Reads every image. */
  naming(blocks: ReadonlySet<SealedBlockId>): StoredImage[] {
    return [...this.#index.keys()].flatMap((imageId) => {
      const image = this.image(imageId)
      return image !== null && image.blocks.some((id) => blocks.has(id)) ? [image] : []
    })
  }

  /** Compares everything with K1 to K3 and returns what is wrong, one line each. Reads the whole cache. */
  audit(): string[] {
    const problems: string[] = []
    const named = new Map<SealedBlockId, number>()
    let contentBytes = 0
    for (const imageId of this.#index.keys()) {
      const image = this.image(imageId)
      if (image === null) problems.push(`image ${imageId}: altered`)
      contentBytes += this.#rowBytes(imageId)
      for (const id of image?.blocks ?? []) named.set(id, (named.get(id) ?? 0) + 1)
    }
    for (const [id, count] of named) {
      const refs = this.#refsOf(id)
      if (refs?.count !== count) problems.push(`block ${id}: counted ${refs?.count ?? 0} times, named by ${count}`)
      if (this.block(id) === null) problems.push(`block ${id}: missing or altered`)
      contentBytes += refs?.bytes ?? 0
    }
    for (const key of this.#blocks.getKeys()) if (!named.has(key.toString('hex') as SealedBlockId)) problems.push(`block ${key.toString('hex')}: named by no image`)
    if (contentBytes !== this.contentBytes) problems.push(`content is ${contentBytes} bytes, counted ${this.contentBytes}`)
    const books = this.#readBooks()
    if (books === 'unbalanced') return [...problems, 'references and images do not balance']
    for (const [id, { freedBytes }] of books.index) {
      const thoughtBytes = this.#index.get(id)?.freedBytes
      if (thoughtBytes !== freedBytes) problems.push(`image ${id}: frees ${freedBytes} bytes, thought to free ${thoughtBytes ?? 0}`)
    }
    return problems
  }

  async close(): Promise<void> {
    // A cache that cannot be written is closed all the same (K5).
    await this.writeUses('now').catch(() => undefined)
    await this.#environment.close()
  }

  /** K4. */
  #readBooks(): { readonly index: Map<ImageId, Indexed>; readonly idOfNumber: Map<number, ImageId> } | 'unbalanced' {
    const index = new Map<ImageId, Indexed>()
    const idOfNumber = new Map<number, ImageId>()
    let references = 0
    let contentBytes = 0
    for (const key of [...this.#images.getKeys()]) {
      const imageId = parseImageId(key.toString('hex'))
      const row = this.#row(imageId)
      if (row === null) return 'unbalanced'
      const { number, parentId } = row.header
      const freedBytes = this.#rowBytes(imageId)
      references += row.blocks.length
      contentBytes += freedBytes
      index.set(imageId, { number, parentId, freedBytes, ...decodeUse(this.#uses.getBinary(idKey(imageId))) })
      idOfNumber.set(number, imageId)
    }
    for (const { value } of this.#refs.getRange()) {
      const { count, numbersXor, bytes } = decodeRefs(Buffer.from(value))
      references -= count
      contentBytes += bytes
      const imageId = count === 1 ? idOfNumber.get(numbersXor) : undefined
      const owner = imageId === undefined ? undefined : index.get(imageId)
      if (owner !== undefined) owner.freedBytes += bytes
    }
    return references === 0 && contentBytes === this.contentBytes ? { index, idOfNumber } : 'unbalanced'
  }

  async #clear(): Promise<void> {
    await this.#environment.write({ kind: 'removes' }, () => {
      for (const table of [this.#images, this.#blocks, this.#refs, this.#uses]) for (const key of [...table.getKeys()]) void table.remove(key)
      this.#writeMeta(CONTENT_BYTES_KEY, 0)
    })
  }

  #isWhole(image: StoredImage): boolean {
    const stored = this.image(image.imageId)
    return stored !== null && Buffer.compare(stored.manifest, image.manifest) === 0 && Buffer.compare(stored.wrappedKey, image.wrappedKey) === 0 && image.blocks.every((id) => !this.#altered.has(id) && this.#blocks.doesExist(idKey(id)))
  }

  /** K2. */
  #row(imageId: ImageId): Row | null {
    const stored = this.#images.getBinary(idKey(imageId))
    if (stored === undefined || sumOf(stored) !== stored.subarray(0, SUM_BYTES).toString('hex')) return null
    return decodeRow(stored)
  }

  /** Inside a transaction. Returns the bytes that came with it. */
  #addRef(id: SealedBlockId, number: number, content: Uint8Array | undefined, moved: Moves): number {
    const refs = this.#refsOf(id)
    const isHere = refs !== null && !this.#altered.has(id) && this.#blocks.doesExist(idKey(id))
    if (!isHere) {
      if (content === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
      void this.#blocks.put(idKey(id), content)
    }
    const bytes = content === undefined || isHere ? (refs?.bytes ?? 0) : content.byteLength
    if (refs === null) moved.add(number, bytes)
    else if (refs.count === 1) moved.add(refs.numbersXor, -refs.bytes)
    void this.#refs.put(idKey(id), encodeRefs({ count: (refs?.count ?? 0) + 1, numbersXor: ((refs?.numbersXor ?? 0) ^ number) >>> 0, bytes }))
    return bytes - (refs?.bytes ?? 0)
  }

  /** Inside a transaction. Returns the bytes that went with them. */
  #removeRefs({ header, blocks }: Row, moved: Moves): number {
    let freedBytes = 0
    for (const id of blocks) {
      const refs = this.#refsOf(id)
      if (refs === null) continue
      const left: Refs = { count: refs.count - 1, numbersXor: (refs.numbersXor ^ header.number) >>> 0, bytes: refs.bytes }
      if (left.count === 0) {
        freedBytes += refs.bytes
        void this.#blocks.remove(idKey(id))
        void this.#refs.remove(idKey(id))
        continue
      }
      if (left.count === 1) moved.add(left.numbersXor, refs.bytes)
      void this.#refs.put(idKey(id), encodeRefs(left))
    }
    return freedBytes
  }

  #rowBytes(imageId: ImageId): number {
    return this.#images.getBinary(idKey(imageId))?.byteLength ?? 0
  }

  #indexed({ imageId, parentId }: StoredImage, number: number, moved: Moves): void {
    const before = this.#index.get(imageId)
    if (before !== undefined) this.#idOfNumber.delete(before.number)
    this.#index.set(imageId, { number, parentId, freedBytes: 0, rate: before?.rate ?? 0, rateAtMs: before?.rateAtMs ?? this.#clock.nowMs() })
    this.#idOfNumber.set(number, imageId)
    this.#applyMoves(moved)
  }

  #applyMoves(moved: Moves): void {
    for (const [number, bytes] of moved.bytesOf) {
      const indexed = this.#indexedOf(number)
      if (indexed !== undefined) indexed.freedBytes += bytes
    }
  }

  #indexedOf(number: number): Indexed | undefined {
    const imageId = this.#idOfNumber.get(number)
    return imageId === undefined ? undefined : this.#index.get(imageId)
  }

  #forget(imageId: ImageId): void {
    const indexed = this.#index.get(imageId)
    if (indexed !== undefined) this.#idOfNumber.delete(indexed.number)
    this.#index.delete(imageId)
    this.#unwrittenUses.delete(imageId)
  }

  /** Blocks behind a key, each read as it is reached. */
  *#after(last: Buffer | null): Generator<{ readonly key: Buffer; readonly value: Uint8Array }> {
    for (let key = last; ;) {
      this.#environment.requireOpen()
      const [next] = [...this.#blocks.getRange({ ...(key === null ? {} : { start: key, exclusiveStart: true }), limit: 1 })]
      if (next === undefined) return
      key = Buffer.from(next.key)
      yield { key, value: Buffer.from(next.value) }
    }
  }

  #refsOf(id: SealedBlockId): Refs | null {
    const stored = this.#refs.getBinary(idKey(id))
    return stored === undefined ? null : decodeRefs(stored)
  }

  #readMeta(key: string): number {
    return this.#meta.getBinary(key)?.readDoubleLE(0) ?? 0
  }

  #writeMeta(key: string, value: number): void {
    const stored = Buffer.alloc(8)
    stored.writeDoubleLE(value)
    void this.#meta.put(key, stored)
  }
}

/** lmdb ends the process when it opens a file that is none of its own, so that is looked at first. */
function openEnvironment(options: DiskCacheOptions, log: Log): LmdbEnvironment {
  const file = join(options.path, 'data.mdb')
  if (existsSync(file) && !isDatabase(file)) {
    log.error('the cache on disk is no database and is begun anew', { path: options.path })
    rmSync(options.path, { recursive: true, force: true })
  }
  return LmdbEnvironment.open(options)
}

/** Its first page says what it is; an empty file is one that was just made. */
function isDatabase(file: string): boolean {
  const head = Buffer.alloc(LMDB_MAGIC_AT + 4)
  const descriptor = openSync(file, 'r')
  try {
    if (readSync(descriptor, head, 0, head.byteLength, 0) === 0) return true
  } finally {
    closeSync(descriptor)
  }
  return head.readUInt32LE(LMDB_MAGIC_AT) === LMDB_MAGIC
}

/** Before the transaction, so that it is short: it holds up the thread that also answers requests. Throws ERR_STORE_BLOCK. */
async function requireIntact(blocks: ReadonlyMap<SealedBlockId, Uint8Array>): Promise<void> {
  let turnBytes = 0
  for (const [id, block] of blocks) {
    if (sealedBlockId(block) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
    turnBytes += block.byteLength
    if (turnBytes < HASHED_BYTES_PER_TURN) continue
    turnBytes = 0
    await nextTurn()
  }
}

/** By how much a transaction changes what images would free, by their numbers; told to the index once it is on disk. */
class Moves {
  readonly bytesOf = new Map<number, number>()

  add(number: number, bytes: number): void {
    this.bytesOf.set(number, (this.bytesOf.get(number) ?? 0) + bytes)
  }
}

function decayed(rate: number, atMs: number, nowMs: number): number {
  return rate * 2 ** (-Math.max(0, nowMs - atMs) / RATE_HALF_LIFE_MS)
}

function idKey(id: ImageId | SealedBlockId): Buffer {
  return Buffer.from(id, 'hex')
}

function sumOf(row: Buffer): string {
  return createHash('sha256').update(row.subarray(SUM_BYTES)).digest('hex')
}

/** Sum, length of the header in four bytes, header as JSON, block ids, wrapped key, manifest. */
function encodeRow({ parentId, askedFor, blocks, manifest, wrappedKey }: StoredImage, number: number): Buffer {
  const { account, functionName, imageId } = askedFor
  const header: Header = { number, parentId, askedFor: { account, functionName, imageId }, blocks: blocks.length }
  const encoded = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(encoded.length)
  const row = Buffer.concat([Buffer.alloc(SUM_BYTES), length, encoded, ...blocks.map(idKey), wrappedKey, manifest])
  row.set(Buffer.from(sumOf(row), 'hex'))
  return row
}

function decodeRow(row: Buffer): Row | null {
  const header = readHeader(row)
  if (header === null) return null
  const idsAt = SUM_BYTES + 4 + row.readUInt32LE(SUM_BYTES)
  const blocks = Array.from({ length: header.blocks }, (_, index) => row.toString('hex', idsAt + index * ID_BYTES, idsAt + (index + 1) * ID_BYTES) as SealedBlockId)
  const keyAt = idsAt + header.blocks * ID_BYTES
  return { header, blocks, wrappedKey: Uint8Array.prototype.slice.call(row, keyAt, keyAt + POP_WRAP_BYTES), manifest: Uint8Array.prototype.slice.call(row, keyAt + POP_WRAP_BYTES) }
}

/** Null if it is not one. */
function readHeader(row: Buffer): Header | null {
  try {
    return JSON.parse(row.toString('utf8', SUM_BYTES + 4, SUM_BYTES + 4 + row.readUInt32LE(SUM_BYTES))) as Header
  } catch {
    // Altered on disk: it is replaced when its image is put again.
    return null
  }
}

function encodeRefs({ count, numbersXor, bytes }: Refs): Buffer {
  const stored = Buffer.alloc(12)
  stored.writeUInt32LE(count, 0)
  stored.writeUInt32LE(numbersXor, 4)
  stored.writeUInt32LE(bytes, 8)
  return stored
}

function decodeRefs(stored: Buffer): Refs {
  return { count: stored.readUInt32LE(0), numbersXor: stored.readUInt32LE(4), bytes: stored.readUInt32LE(8) }
}

function encodeUse({ rate, rateAtMs }: Indexed): Buffer {
  const stored = Buffer.alloc(16)
  stored.writeDoubleLE(rate, 0)
  stored.writeDoubleLE(rateAtMs, 8)
  return stored
}

function decodeUse(stored: Buffer | undefined): { readonly rate: number; readonly rateAtMs: number } {
  return stored?.byteLength === 16 ? { rate: stored.readDoubleLE(0), rateAtMs: stored.readDoubleLE(8) } : { rate: 0, rateAtMs: 0 }
}
