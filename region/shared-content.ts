/**
 * Sealed objects and rows of functions as all nodes have them, in one bucket of blobs:
 *
 *   o/<account>/<object>   its data key wrapped under the account's key, and its sealed manifest
 *   b/<block>              a sealed block
 *   r/<digest>             a row of a function (function-state.ts)
 *
 * S1: an object's blob is put after all its blocks, so who finds the one finds the others. Both are put again when the
 *     object's is older than half the grace, in the same order: what a commit relies on is younger than that.
 * S2: what comes is opened with every check before it is stored (foreign-object.ts): whoever can write into the bucket
 *     can take functions away, not alter them.
 * S3: a pass deletes what no record of this node names and is older than the grace; a put meanwhile makes it young, and
 *     the deletion does not happen (Blobs.deleteListed).
 *
 * Nodes share one keyring file. What two of them put under one object's name differs, as each seals with a data key of its
 * own; either can be used.
 */
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import type { BlobEntry, Blobs, Coordination } from '../shared/coordination/types.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { SHARED_CONTENT_GRACE_MS } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import type { ObjectStore } from '../shared/store/object-store.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import { imageObjectId } from '../shared/store/page-groups.ts'
import { blocksOf, decodeSealedManifest, parseObjectId } from '../shared/store/sealed-manifest.ts'
import type { SealedBlockId } from '../shared/store/types.ts'
import { PLATFORM_ACCOUNT, type Content } from './content.ts'
import { openForeignObject, type ForeignObject } from './foreign-object.ts'
import { rowDigest } from './function-state.ts'

export interface SharedContentOptions {
  readonly blobs: Blobs
  /** Of the store behind them: nothing is asked of one that is known to be away. */
  readonly coordination: Pick<Coordination, 'connected'>
  readonly store: ObjectStore
  readonly content: Content
  readonly clock: Clock
  readonly log: Log
  /** Default SHARED_CONTENT_GRACE_MS. */
  readonly graceMs?: number
}

/** Blobs that travel at once: 64 KiB each, so a few megabytes of memory, and enough for a line of 100 ms. */
const IN_FLIGHT_MAX = 32
/** Objects whose age is remembered, by when they were put. Emptied as a whole when full. */
const REMEMBERED_MAX = 100_000
const WRAPPED_LENGTH_BYTES = 4

export class SharedContent {
  readonly #options: SharedContentOptions
  readonly #log: Log
  readonly #graceMs: number
  /** Until when, by the monotonic clock, an object's blob is young enough. */
  readonly #youngUntilMs = new Map<string, number>()
  readonly #fetching = new Map<string, Promise<boolean>>()

  constructor(options: SharedContentOptions) {
    this.#options = options
    this.#log = options.log.child('region-shared-content')
    this.#graceMs = options.graceMs ?? SHARED_CONTENT_GRACE_MS
  }

  /** S1. Resolves when all of them are there for as long as a commit takes. Throws ERR_COORDINATION_*, ERR_STORE_BLOCK. */
  async putObjects(keys: readonly ObjectKey[]): Promise<void> {
    await inParallel(keys, 4, (key) => this.#putObject(key))
  }

  async putRows(rows: ReadonlyMap<string, Uint8Array>): Promise<void> {
    await inParallel([...rows], IN_FLIGHT_MAX, ([digest, row]) => this.#options.blobs.put(`r/${digest}`, row))
  }

  /** Null if it is not there, or is not what its name says. */
  async row(digest: string): Promise<Uint8Array | null> {
    const row = await this.#options.blobs.get(`r/${digest}`)
    return row !== null && rowDigest(row) === digest ? row : null
  }

  /** Objects of these that are not here, brought; those of them that could not be. Never rejects. */
  async bring(account: string, { images, bundles }: { readonly images: readonly ImageId[]; readonly bundles: readonly string[] }): Promise<ObjectKey[]> {
    const missing = this.missing(account, { images, bundles })
    if (!this.#options.coordination.connected) return missing
    const failed: ObjectKey[] = []
    await inParallel(missing, 4, async (key) => {
      if (!(await this.#bringOne(key))) failed.push(key)
    })
    return failed
  }

  missing(account: string, { images, bundles }: { readonly images: readonly ImageId[]; readonly bundles: readonly string[] }): ObjectKey[] {
    const { content } = this.#options
    const missing = new Map<string, ObjectKey>()
    for (const imageId of images) if (!content.hasImage(account, imageId)) missing.set(imageId, { account, objectId: imageObjectId(imageId) })
    for (const id of bundles) if (!content.hasBundle(account, id)) missing.set(id, { account, objectId: parseObjectId(id) })
    return [...missing.values()]
  }

  /** The bucket may be another one than before. */
  forgetAges(): void {
    this.#youngUntilMs.clear()
  }

  /** S3. `live`: all objects and digests of rows that records name. Resolves with how many blobs went. */
  async collect(live: { readonly objects: Iterable<ObjectKey>; readonly rows: Iterable<string> }, isOver: () => boolean): Promise<number> {
    const { blobs } = this.#options
    const objects = new Set<string>()
    for (const key of live.objects) objects.add(objectBlobId(key))
    const rows = new Set<string>()
    for (const digest of live.rows) rows.add(`r/${digest}`)
    const old: BlobEntry[] = []
    const blocksOfLive = new Set<string>()
    const liveObjects: string[] = []
    for await (const entry of blobs.list()) {
      if (objects.has(entry.id)) liveObjects.push(entry.id)
      else if (!rows.has(entry.id) && entry.ageMs > this.#graceMs) old.push(entry)
    }
    if (old.length === 0) return 0
    // Which blocks an object has at the moment says its own blob: another node may have put it.
    await inParallel(liveObjects, IN_FLIGHT_MAX, async (id) => {
      const foreign = await this.#read(parseObjectBlobId(id))
      for (const block of foreign === null ? [] : blocksOf(decodeSealedManifest(foreign.manifest, foreign.objectId))) blocksOfLive.add(`b/${block}`)
    })
    let deleted = 0
    await inParallel(old, 4, async (entry) => {
      if (isOver() || blocksOfLive.has(entry.id)) return
      if (await blobs.deleteListed(entry)) deleted += 1
    })
    if (deleted > 0) this.#log.info('what nothing names was deleted from the shared content', { deleted })
    return deleted
  }

  async #putObject(key: ObjectKey): Promise<void> {
    const { blobs, store, clock } = this.#options
    const id = objectBlobId(key)
    if ((this.#youngUntilMs.get(id) ?? 0) > clock.monotonicMs()) return
    const ageMs = await blobs.ageMs(id)
    if (ageMs !== null && ageMs < this.#graceMs / 2) {
      this.#remember(id, this.#graceMs / 2 - ageMs)
      return
    }
    const manifest = store.tables.manifest(key)
    const row = store.tables.object(key)
    if (manifest === null || row === null) throw new CodedError('ERR_STORE_FAILED', [`${key.objectId} is missing`])
    await inParallel(blocksOf(decodeSealedManifest(manifest, key.objectId)), IN_FLIGHT_MAX, (block) => blobs.put(`b/${block}`, store.sealedBlock(block)))
    await blobs.put(id, encodeObject(row.wrapped, manifest))
    this.#remember(id, this.#graceMs / 2)
  }

  #remember(id: string, forMs: number): void {
    if (this.#youngUntilMs.size >= REMEMBERED_MAX) this.#youngUntilMs.clear()
    this.#youngUntilMs.set(id, this.#options.clock.monotonicMs() + forMs)
  }

  /** Once for all who want it. Never rejects. */
  #bringOne(key: ObjectKey): Promise<boolean> {
    const id = objectBlobId(key)
    const fetching = this.#fetching.get(id) ?? this.#bringNow(key).finally(() => this.#fetching.delete(id))
    this.#fetching.set(id, fetching)
    return fetching
  }

  /** S2. */
  async #bringNow(key: ObjectKey): Promise<boolean> {
    const { blobs, store } = this.#options
    try {
      const foreign = (await this.#read(key)) ?? (await this.#read({ ...key, account: PLATFORM_ACCOUNT }))
      if (foreign === null) return false
      const blocks = new Map<SealedBlockId, Uint8Array>()
      await inParallel(blocksOf(decodeSealedManifest(foreign.manifest, foreign.objectId)), IN_FLIGHT_MAX, async (block) => {
        const bytes = store.hasBlock(block) ? store.sealedBlock(block) : await blobs.get(`b/${block}`)
        if (bytes !== null) blocks.set(block, bytes)
      })
      await store.put(foreign.account, openForeignObject(store, foreign, (block) => blocks.get(block) ?? null))
      return true
    } catch (error) {
      const { code, message } = toCodedError(error)
      this.#log.warn('an object could not be brought from the other nodes', { objectId: key.objectId, code, reason: message })
      return false
    }
  }

  async #read(key: ObjectKey): Promise<ForeignObject | null> {
    const stored = await this.#options.blobs.get(objectBlobId(key))
    if (stored === null) return null
    const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength)
    const wrappedBytes = bytes.byteLength < WRAPPED_LENGTH_BYTES ? -1 : bytes.readUInt32LE(0)
    if (wrappedBytes < 0 || WRAPPED_LENGTH_BYTES + wrappedBytes > bytes.byteLength) throw new CodedError('ERR_STORE_BLOCK', [`manifest of ${key.objectId}`, 'malformed'])
    const manifestAt = WRAPPED_LENGTH_BYTES + wrappedBytes
    return { ...key, wrapped: bytes.subarray(WRAPPED_LENGTH_BYTES, manifestAt), manifest: bytes.subarray(manifestAt) }
  }
}

function objectBlobId({ account, objectId }: ObjectKey): string {
  return `o/${account}/${objectId}`
}

function parseObjectBlobId(id: string): ObjectKey {
  const [, account = '', objectId = ''] = id.split('/')
  return { account, objectId: parseObjectId(objectId) }
}

function encodeObject(wrapped: Uint8Array, manifest: Uint8Array): Uint8Array {
  const head = Buffer.alloc(WRAPPED_LENGTH_BYTES)
  head.writeUInt32LE(wrapped.byteLength)
  return Buffer.concat([head, wrapped, manifest])
}

/** Rejects with the first failure, once none is under way. */
async function inParallel<T>(items: readonly T[], atOnceMax: number, action: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items].reverse()
  const worker = async (): Promise<void> => {
    for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) await action(item)
  }
  const workers = Array.from({ length: Math.min(atOnceMax, items.length) }, worker)
  const results = await Promise.allSettled(workers)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
