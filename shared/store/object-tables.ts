/**
 * The rows of an object store in LMDB, and nothing but the rows: every method that writes must run inside a transaction
 * of the environment. Numbers in rows are little endian.
 *
 *   objects      id, account            -> sealed manifest
 *   objectRoots  id, account            -> root (4), wrapped data key
 *   blocks       block id               -> sealed block
 *   blockRoots   block id               -> root (4), salt (2), length of the block (4), name of its content (32)
 *   copies       name of a content (32) -> per copy: salt (2), block id (32)
 *   storeMeta    `roots`, `counts`      -> JSON
 *
 * Roots are kept apart from what they are about, so that a claim writes some bytes and not a block.
 */
import { CodedError } from '../errors.ts'
import type { LmdbEnvironment, Table } from './lmdb-environment.ts'
import { parseObjectId } from './sealed-manifest.ts'
import type { ObjectId, SealedBlockId } from './types.ts'

/** Roots are numbered upwards; see roots.ts for what they mean. */
export interface RootsRow {
  readonly active: number
  /** What is not claimed from it yet is being claimed into `active`. */
  readonly readOnly: number | null
  /** Whatever is numbered up to here is claimed by nobody and goes once its time is over. */
  readonly retired: { readonly number: number; readonly sinceMs: number; readonly alarmed: boolean } | null
}

export interface StoreCounts {
  readonly objects: number
  readonly blocks: number
  /** Sealed blocks, bytes. */
  readonly blockBytes: number
  readonly manifestBytes: number
  /** Pieces of all objects as if nothing were shared; zeros not counted. */
  readonly logicalBytes: number
}

export interface ObjectRow {
  readonly root: number
  readonly wrapped: Uint8Array
}

export interface BlockRow {
  readonly root: number
  readonly saltId: number
  /** Of the sealed block, also while it is lost: so counters follow rows alone. */
  readonly bytes: number
  /** See Keyring.contentName. */
  readonly contentName: Buffer
}

export interface Copy {
  readonly saltId: number
  readonly id: SealedBlockId
}

export interface ObjectKey {
  readonly account: string
  readonly objectId: ObjectId
}

const ID_BYTES = 32
const FIRST_ROOT: RootsRow = { active: 1, readOnly: null, retired: null }
const NO_COUNTS: StoreCounts = { objects: 0, blocks: 0, blockBytes: 0, manifestBytes: 0, logicalBytes: 0 }

export class ObjectTables {
  readonly #objects: Table<Buffer>
  readonly #objectRoots: Table<Buffer>
  readonly #blocks: Table<Buffer>
  readonly #blockRoots: Table<Buffer>
  readonly #copies: Table<Buffer>
  readonly #meta: Table<string>

  constructor(environment: LmdbEnvironment) {
    this.#objects = environment.table('objects', 'binary')
    this.#objectRoots = environment.table('objectRoots', 'binary')
    this.#blocks = environment.table('sealedBlocks', 'binary')
    this.#blockRoots = environment.table('blockRoots', 'binary')
    this.#copies = environment.table('copies', 'binary')
    this.#meta = environment.table('storeMeta', 'ordered')
  }

  roots(): RootsRow {
    return readJson<RootsRow>(this.#meta.getBinary('roots')) ?? FIRST_ROOT
  }

  putRoots(roots: RootsRow): void {
    void this.#meta.put('roots', Buffer.from(JSON.stringify(roots)))
  }

  counts(): StoreCounts {
    return readJson<StoreCounts>(this.#meta.getBinary('counts')) ?? NO_COUNTS
  }

  addCounts(delta: Partial<StoreCounts>): void {
    const counts: Record<string, number> = { ...this.counts() }
    for (const [name, value] of Object.entries(delta)) counts[name] = (counts[name] ?? 0) + value
    void this.#meta.put('counts', Buffer.from(JSON.stringify(counts)))
  }

  manifest(key: ObjectKey): Buffer | null {
    return this.#objects.getBinary(objectKey(key)) ?? null
  }

  object(key: ObjectKey): ObjectRow | null {
    const row = this.#objectRoots.getBinary(objectKey(key))
    return row === undefined ? null : { root: row.readUInt32LE(0), wrapped: row.subarray(4) }
  }

  putObject(key: ObjectKey, row: ObjectRow): void {
    void this.#objectRoots.put(objectKey(key), Buffer.concat([u32(row.root), row.wrapped]))
  }

  putManifest(key: ObjectKey, encoded: Uint8Array): void {
    void this.#objects.put(objectKey(key), encoded)
  }

  removeObject(key: ObjectKey): void {
    void this.#objects.remove(objectKey(key))
    void this.#objectRoots.remove(objectKey(key))
  }

  /** Accounts that have an object, in order. */
  holders(objectId: ObjectId): string[] {
    const start = Buffer.from(objectId, 'hex')
    const keys = this.#objectRoots.getKeys({ start, end: Buffer.concat([start, Buffer.from([0xff])]) })
    return [...keys].map((key) => parseObjectKey(key).account)
  }

  /** Up to `limit` objects behind `after`, in order. */
  objectsAfter(after: ObjectKey | null, limit: number): ObjectKey[] {
    return [...keysAfter(this.#objectRoots, after === null ? null : objectKey(after), limit)].map(parseObjectKey)
  }

  block(id: SealedBlockId): Buffer | null {
    return this.#blocks.getBinary(blockKey(id)) ?? null
  }

  hasBlock(id: SealedBlockId): boolean {
    return this.#blocks.doesExist(blockKey(id))
  }

  putBlock(id: SealedBlockId, bytes: Uint8Array): void {
    void this.#blocks.put(blockKey(id), bytes)
  }

  blockRow(id: SealedBlockId): BlockRow | null {
    const row = this.#blockRoots.getBinary(blockKey(id))
    return row === undefined ? null : { root: row.readUInt32LE(0), saltId: row.readUInt16LE(4), bytes: row.readUInt32LE(6), contentName: row.subarray(10) }
  }

  putBlockRow(id: SealedBlockId, { root, saltId, bytes, contentName }: BlockRow): void {
    const head = Buffer.alloc(10)
    head.writeUInt32LE(root, 0)
    head.writeUInt16LE(saltId, 4)
    head.writeUInt32LE(bytes, 6)
    void this.#blockRoots.put(blockKey(id), Buffer.concat([head, contentName]))
  }

  removeBlock(id: SealedBlockId): void {
    void this.#blocks.remove(blockKey(id))
    void this.#blockRoots.remove(blockKey(id))
  }

  blocksAfter(after: SealedBlockId | null, limit: number): SealedBlockId[] {
    return [...keysAfter(this.#blockRoots, after === null ? null : blockKey(after), limit)].map((key) => key.toString('hex') as SealedBlockId)
  }

  copies(contentName: Buffer): Copy[] {
    const row = this.#copies.getBinary(contentName)
    const copies: Copy[] = []
    for (let at = 0; row !== undefined && at + 2 + ID_BYTES <= row.byteLength; at += 2 + ID_BYTES) {
      copies.push({ saltId: row.readUInt16LE(at), id: row.toString('hex', at + 2, at + 2 + ID_BYTES) as SealedBlockId })
    }
    return copies
  }

  putCopies(contentName: Buffer, copies: readonly Copy[]): void {
    if (copies.length === 0) {
      void this.#copies.remove(contentName)
      return
    }
    const row = Buffer.alloc(copies.length * (2 + ID_BYTES))
    copies.forEach(({ saltId, id }, index) => {
      row.writeUInt16LE(saltId, index * (2 + ID_BYTES))
      row.write(id, index * (2 + ID_BYTES) + 2, 'hex')
    })
    void this.#copies.put(contentName, row)
  }

  /** Names of contents behind `after`, in order. */
  contentNamesAfter(after: Buffer | null, limit: number): Buffer[] {
    return [...keysAfter(this.#copies, after, limit)]
  }

  /** Rows of one kind must have their other half: counts of both tables, for an audit. */
  entryCounts(): { readonly objects: number; readonly objectRoots: number; readonly blocks: number; readonly blockRoots: number } {
    return { objects: entryCount(this.#objects), objectRoots: entryCount(this.#objectRoots), blocks: entryCount(this.#blocks), blockRoots: entryCount(this.#blockRoots) }
  }
}

function* keysAfter(table: Table<Buffer>, after: Buffer | null, limit: number): Generator<Buffer> {
  const start = after === null ? {} : { start: after }
  for (const key of table.getKeys({ ...start, limit: limit + 1 })) {
    if (after !== null && key.equals(after)) continue
    if (limit-- <= 0) return
    yield key
  }
}

function objectKey({ account, objectId }: ObjectKey): Buffer {
  return Buffer.concat([Buffer.from(objectId, 'hex'), Buffer.from(account)])
}

function parseObjectKey(key: Buffer): ObjectKey {
  if (key.byteLength < ID_BYTES) throw new CodedError('ERR_STORE_FAILED', ['the key of an object is cut short'])
  return { objectId: parseObjectId(key.toString('hex', 0, ID_BYTES)), account: key.toString('utf8', ID_BYTES) }
}

function blockKey(id: SealedBlockId): Buffer {
  return Buffer.from(id, 'hex')
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** Only what this file wrote is read. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- each row holds one type, named by its reader
function readJson<T>(bytes: Buffer | undefined): T | null {
  return bytes === undefined ? null : (JSON.parse(bytes.toString()) as T)
}

function entryCount(table: Table<Buffer>): number {
  const stats: { entryCount?: number } = table.getStats()
  return stats.entryCount ?? 0
}
