/**
 * A region's store of sealed objects: images and bundles.
 *
 *   put: seal each piece -> blocks, several transactions if they are many -> manifest and claims of all blocks, in one
 *   open: manifest -> data key by the keyring -> head; a piece is read, verified and opened when it is asked for
 *
 * Nothing is deleted here. An object or a block lives as long as the newest root that claimed it: see roots.ts.
 *
 * O1: a manifest is there only if every block it names is; both are claimed in one transaction.
 * O2: an object's root is never newer than those of its blocks. (Claiming an object claims its blocks.)
 * O3: what leaves the store was compared with its id; what is opened, with its tag as well. Anything else is
 *     ERR_STORE_BLOCK, which names the block.
 * O4: putting what is there writes nothing; putting what is there but damaged mends it.
 */
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import { STORE_WRITE_MAX_BYTES } from '../limits.ts'
import { blockKey, contentDigest, isZeros, openBlock, sealBlock, sealedBlockId } from './block-seal.ts'
import type { Keyring } from './keyring.ts'
import { keyVersionOf } from './keyring.ts'
import type { LmdbEnvironment } from './lmdb-environment.ts'
import { ObjectTables, type ObjectKey, type ObjectRow, type RootsRow, type StoreCounts } from './object-tables.ts'
import type { SaltPolicy } from './salts.ts'
import { blocksOf, decodeSealedManifest, encodeSealedManifest, newDataKey, openManifest, sealManifest } from './sealed-manifest.ts'
import type { BlockKey, BlockSource, DataKey, ObjectId, ObjectKind, OpenedManifest, PlainObject, SealedBlockId, SealedManifest, SealedPiece } from './types.ts'

export interface ObjectStoreOptions {
  readonly environment: LmdbEnvironment
  readonly keyring: Keyring
  readonly salts: SaltPolicy
  readonly clock: Clock
  readonly log: Log
  /** Accounts share no block with each other, and so cannot tell what another one has. Default false. */
  readonly isolateAccounts?: boolean
  /** Bytes of sealed blocks and manifests at most; beyond it ERR_STORE_FULL. Default: what the disk holds. */
  readonly contentMaxBytes?: number
}

export interface PutResult {
  /** Blocks that the object names, each once. */
  readonly blocks: number
  /** Those of them that were not there. */
  readonly newBlocks: number
}

/** An object in the clear, piece by piece. */
export interface OpenObject {
  readonly objectId: ObjectId
  readonly kind: ObjectKind
  readonly head: Uint8Array
  /** Length of each piece. */
  readonly pieceBytes: readonly number[]
  /** O3. The bytes are the caller's own. */
  piece(index: number): Uint8Array
}

/** An object as a POP gets it. */
export interface SealedObject {
  readonly manifest: Uint8Array
  readonly dataKey: DataKey
}

/** What happened since the process started. */
export interface StoreEvents {
  blocksWritten: number
  blocksShared: number
  blocksRead: number
  /** Reads of blocks that were missing or altered. */
  blocksDamaged: number
  blocksRepaired: number
  /** Reads of what only a retired root claims: each is a fault of whoever names live objects. */
  retiredReads: number
}

interface SealedPut {
  readonly encoded: Uint8Array
  readonly wrapped: Uint8Array
  readonly blocks: ReadonlyMap<SealedBlockId, NewBlock>
  readonly logicalBytes: number
}

interface NewBlock {
  readonly bytes: Uint8Array
  readonly saltId: number
  readonly contentName: Buffer
}

/** Ids of blocks found altered and not yet replaced; more than this are still refused, only not remembered. */
const DAMAGED_REMEMBERED_MAX = 10_000
/** Objects whose keys are wrapped anew, or that are read for an audit, in one go. */
const OBJECTS_PER_TURN = 100
/** Roots are numbered from 1. */
const NOTHING_RETIRED = 0

export class ObjectStore implements BlockSource {
  readonly events: StoreEvents = { blocksWritten: 0, blocksShared: 0, blocksRead: 0, blocksDamaged: 0, blocksRepaired: 0, retiredReads: 0 }
  /** Rows and environment, for those that keep the store in order: roots.ts, repair.ts, transfer.ts. */
  readonly tables: ObjectTables
  readonly environment: LmdbEnvironment
  readonly clock: Clock
  readonly #options: ObjectStoreOptions
  readonly #log: Log
  readonly #damaged = new Set<SealedBlockId>()
  /** Called with each block that is found missing or altered; to repair it. */
  onDamaged: (id: SealedBlockId) => void = () => undefined

  constructor(options: ObjectStoreOptions) {
    this.#options = options
    this.environment = options.environment
    this.clock = options.clock
    this.tables = new ObjectTables(options.environment)
    this.#log = options.log.child('store')
  }

  get keyring(): Keyring {
    return this.#options.keyring
  }

  get salts(): SaltPolicy {
    return this.#options.salts
  }

  /**
   * Stores an object for an account and claims it for the active root; resolves once it is on disk. Whoever is to name
   * it claims it again in the transaction that names it. Throws ERR_STORE_FULL with nothing that can be seen.
   */
  async put(account: string, object: PlainObject): Promise<PutResult> {
    const key: ObjectKey = { account, objectId: object.objectId }
    const known = this.#intactBlocks(key)
    if (known !== null && (await this.#claim(key))) return { blocks: known, newBlocks: 0 }
    const sealed = this.#seal(account, object)
    const missing = [...sealed.blocks].filter(([id]) => !this.hasBlock(id))
    const parts = inParts(missing, STORE_WRITE_MAX_BYTES)
    const lastPart = parts.pop() ?? []
    for (const part of parts) {
      await this.environment.write({ kind: 'adds', bytes: bytesOf(part) }, () => {
        for (const [id, block] of part) this.#putBlock(id, block)
        this.#requireRoom()
      })
    }
    await this.environment.write({ kind: 'adds', bytes: sealed.encoded.byteLength + bytesOf(lastPart) }, () => this.#putManifest(key, sealed))
    for (const id of sealed.blocks.keys()) this.#damaged.delete(id)
    this.events.blocksWritten += missing.length
    this.events.blocksShared += sealed.blocks.size - missing.length
    return { blocks: sealed.blocks.size, newBlocks: missing.length }
  }

  has(account: string, objectId: ObjectId): boolean {
    this.environment.requireOpen()
    return this.tables.object({ account, objectId }) !== null
  }

  /** Null if it is not there. Throws ERR_STORE_KEY, ERR_STORE_BLOCK. */
  open(account: string, objectId: ObjectId): OpenObject | null {
    this.environment.requireOpen()
    const key = { account, objectId }
    const row = this.tables.object(key)
    const encoded = row === null ? null : this.tables.manifest(key)
    if (row === null || encoded === null) return null
    const retired = this.tables.roots().retired?.number ?? NOTHING_RETIRED
    if (row.root <= retired) this.#alarm(`object ${objectId}`, retired)
    const manifest = decodeSealedManifest(encoded, objectId)
    const opened = openManifest(this.keyring.unwrap(account, objectId, row.wrapped), manifest)
    return {
      objectId,
      kind: manifest.kind,
      head: opened.head,
      pieceBytes: manifest.pieces.map(({ bytes }) => bytes),
      piece: (index) => this.#openPiece(manifest, opened, index, retired),
    }
  }

  /** Manifest and its data key, to be wrapped for whom it is for. Null if it is not there. */
  openSealed(account: string, objectId: ObjectId): SealedObject | null {
    this.environment.requireOpen()
    const key = { account, objectId }
    const row = this.tables.object(key)
    const manifest = row === null ? null : this.tables.manifest(key)
    if (row === null || manifest === null) return null
    return { manifest, dataKey: this.keyring.unwrap(account, objectId, row.wrapped) }
  }

  /** O3. Throws ERR_STORE_BLOCK if it is missing or altered. */
  sealedBlock(id: SealedBlockId): Uint8Array {
    const bytes = this.#readBlock(id, this.tables.roots().retired?.number ?? NOTHING_RETIRED)
    if (sealedBlockId(bytes) !== id) throw this.#damage(id, 'altered')
    return bytes
  }

  fetchBlock(id: SealedBlockId): Promise<Uint8Array | null> {
    return Promise.resolve(this.hasBlock(id) ? this.sealedBlock(id) : null)
  }

  /** False also for a block that was found altered. */
  hasBlock(id: SealedBlockId): boolean {
    this.environment.requireOpen()
    return !this.#damaged.has(id) && this.tables.hasBlock(id)
  }

  /** Whether a block is there and what its id says. For those that look after the store: it is no read of a retired root. */
  checkBlock(id: SealedBlockId): 'intact' | 'missing' | 'altered' {
    this.environment.requireOpen()
    const bytes = this.tables.block(id)
    if (bytes !== null && sealedBlockId(bytes) === id) return 'intact'
    const what = bytes === null ? 'missing' : 'altered'
    this.#damage(id, what)
    return what
  }

  /** Inside a transaction: the active root claims an object with its blocks. False if it is not there. */
  claimInTransaction(account: string, objectId: ObjectId): boolean {
    const key = { account, objectId }
    const row = this.tables.object(key)
    if (row === null) return false
    const { active } = this.tables.roots()
    // O2: then its blocks are claimed as well.
    if (row.root >= active) return true
    const encoded = this.tables.manifest(key)
    if (encoded === null) return false
    for (const id of blocksOf(decodeSealedManifest(encoded, objectId))) this.#claimBlock(id, active)
    this.tables.putObject(key, { ...row, root: active })
    return true
  }

  /** Wraps every data key that was wrapped with an older version of the keyring anew. Returns how many. */
  async rewrapKeys(onProgress: (done: number) => void = () => undefined): Promise<number> {
    let rewrapped = 0
    for (let after: ObjectKey | null = null; ;) {
      const keys: ObjectKey[] = this.tables.objectsAfter(after, OBJECTS_PER_TURN)
      after = keys.at(-1) ?? null
      if (after === null) return rewrapped
      const old = keys.filter((key) => this.#isWrappedWithOld(this.tables.object(key)))
      if (old.length > 0) await this.environment.write({ kind: 'removes' }, () => old.forEach((key) => this.#rewrap(key)))
      rewrapped += old.length
      onProgress(rewrapped)
    }
  }

  counts(): StoreCounts {
    return this.tables.counts()
  }

  roots(): RootsRow {
    return this.tables.roots()
  }

  /** Puts a block in place of the one that is missing or altered. False if `bytes` are not it, or if nothing names it any more. */
  async replaceBlock(id: SealedBlockId, bytes: Uint8Array): Promise<boolean> {
    if (sealedBlockId(bytes) !== id) return false
    const replaced = await this.environment.write({ kind: 'adds', bytes: bytes.byteLength }, () => {
      if (this.tables.blockRow(id) === null) return false
      this.tables.putBlock(id, bytes)
      return true
    })
    if (!replaced) return false
    this.#damaged.delete(id)
    this.events.blocksRepaired += 1
    return true
  }

  /** The error for a block that cannot be read, counted and remembered. */
  #damage(id: SealedBlockId, what: string): CodedError {
    this.events.blocksDamaged += 1
    if (this.#damaged.size < DAMAGED_REMEMBERED_MAX) this.#damaged.add(id)
    this.onDamaged(id)
    return new CodedError('ERR_STORE_BLOCK', [id, what])
  }

  /** Number of blocks of an object that is there, can be opened and misses nothing; null: it has to be written. */
  #intactBlocks(key: ObjectKey): number | null {
    const row = this.tables.object(key)
    const encoded = row === null ? null : this.tables.manifest(key)
    if (row === null || encoded === null) return null
    try {
      const manifest = decodeSealedManifest(encoded, key.objectId)
      openManifest(this.keyring.unwrap(key.account, key.objectId, row.wrapped), manifest)
      const ids = blocksOf(manifest)
      return ids.every((id) => this.hasBlock(id)) ? ids.length : null
    } catch (error) {
      this.#log.warn('a stored object cannot be opened and is written anew', { objectId: key.objectId, reason: String(error) })
      return null
    }
  }

  /** False if it has gone since it was looked at. */
  async #claim(key: ObjectKey): Promise<boolean> {
    if ((this.tables.object(key)?.root ?? 0) >= this.tables.roots().active) return true
    return await this.environment.write({ kind: 'removes' }, () => this.claimInTransaction(key.account, key.objectId))
  }

  #seal(account: string, object: PlainObject): SealedPut {
    const domain = this.#options.isolateAccounts === true ? account : ''
    const blocks = new Map<SealedBlockId, NewBlock>()
    const pieces: SealedPiece[] = []
    const keys: (BlockKey | null)[] = []
    const saltIds: number[] = []
    let logicalBytes = 0
    for (const piece of object.pieces) {
      if (isZeros(piece)) {
        pieces.push({ id: null, bytes: piece.byteLength })
        keys.push(null)
        saltIds.push(0)
        continue
      }
      const digest = contentDigest(piece)
      const contentName = this.keyring.contentName(domain, digest)
      const present = (): number[] => this.tables.copies(contentName).map((copy) => copy.saltId)
      const saltId = this.salts.choose({ account, nowMs: this.clock.nowMs(), present })
      const { id, key, bytes } = sealBlock(blockKey(domain, saltId, digest), piece)
      blocks.set(id, { bytes, saltId, contentName })
      pieces.push({ id, bytes: piece.byteLength })
      keys.push(key)
      saltIds.push(saltId)
      logicalBytes += piece.byteLength
    }
    const dataKey = newDataKey()
    const { objectId, kind, parentId, head } = object
    const encoded = encodeSealedManifest(sealManifest(dataKey, { objectId, kind, parentId, pieces }, { head, keys, saltIds }))
    return { encoded, wrapped: this.keyring.wrap(account, objectId, dataKey), blocks, logicalBytes }
  }

  /** Inside a transaction. */
  #putManifest(key: ObjectKey, { encoded, wrapped, blocks, logicalBytes }: SealedPut): void {
    // Whatever happened since: every block is there and claimed when the manifest is (O1, O2).
    for (const [id, block] of blocks) this.#putBlock(id, block)
    const before = this.tables.manifest(key)
    this.tables.putManifest(key, encoded)
    this.tables.putObject(key, { root: this.tables.roots().active, wrapped })
    this.tables.addCounts({
      objects: before === null ? 1 : 0,
      manifestBytes: encoded.byteLength - (before?.byteLength ?? 0),
      logicalBytes: logicalBytes - (before === null ? 0 : logicalBytesOf(before, key.objectId)),
    })
    this.#requireRoom()
  }

  /** Inside a transaction: writes a block if it is missing or damaged, and claims it. */
  #putBlock(id: SealedBlockId, { bytes, saltId, contentName }: NewBlock): void {
    const { active } = this.tables.roots()
    const row = this.tables.blockRow(id)
    if (this.#damaged.has(id) || !this.tables.hasBlock(id)) this.tables.putBlock(id, bytes)
    if (row === null) {
      this.tables.putCopies(contentName, [...this.tables.copies(contentName).filter((copy) => copy.id !== id), { saltId, id }])
      this.tables.putBlockRow(id, { root: active, saltId, bytes: bytes.byteLength, contentName })
      this.tables.addCounts({ blocks: 1, blockBytes: bytes.byteLength })
    } else if (row.root < active) this.tables.putBlockRow(id, { ...row, root: active })
  }

  #claimBlock(id: SealedBlockId, active: number): void {
    const row = this.tables.blockRow(id)
    // A missing block is for its reader to find and name; the object is claimed all the same.
    if (row !== null && row.root < active) this.tables.putBlockRow(id, { ...row, root: active })
  }

  #requireRoom(): void {
    const { blockBytes, manifestBytes } = this.tables.counts()
    const maxBytes = this.#options.contentMaxBytes ?? Number.POSITIVE_INFINITY
    if (blockBytes + manifestBytes > maxBytes) throw new CodedError('ERR_STORE_FULL', [`${blockBytes + manifestBytes} bytes of ${maxBytes}`])
  }

  #openPiece(manifest: SealedManifest, opened: OpenedManifest, index: number, retired: number): Uint8Array {
    const piece = manifest.pieces[index]
    const key = opened.keys[index]
    if (piece === undefined) throw new CodedError('ERR_STORE_BLOCK', [`${index} of ${manifest.objectId}`, 'beyond the end'])
    if (piece.id === null || key === null || key === undefined) return new Uint8Array(piece.bytes)
    const bytes = this.#readBlock(piece.id, retired)
    try {
      const content = openBlock(key, piece.id, bytes)
      if (content.byteLength === piece.bytes) return content
    } catch (error) {
      throw this.#damage(piece.id, error instanceof CodedError ? String(error.params[1]) : 'altered')
    }
    throw this.#damage(piece.id, 'of another length than its manifest says')
  }

  /** `retired`: the newest root that has retired. */
  #readBlock(id: SealedBlockId, retired: number): Buffer {
    this.environment.requireOpen()
    const bytes = this.tables.block(id)
    if (bytes === null) throw this.#damage(id, 'missing')
    this.events.blocksRead += 1
    if (retired !== NOTHING_RETIRED && (this.tables.blockRow(id)?.root ?? Number.POSITIVE_INFINITY) <= retired) this.#alarm(`block ${id}`, retired)
    return bytes
  }

  /** Something is read that no live object claims: it is served, and the root's deletion does not happen this time. */
  #alarm(what: string, root: number): void {
    this.events.retiredReads += 1
    if (this.tables.roots().retired?.alarmed !== false) return
    this.#log.error('what only a retired root claims was read: its deletion is put off', { what, root })
    const marking = this.environment.write({ kind: 'removes' }, () => {
      const roots = this.tables.roots()
      if (roots.retired?.number === root) this.tables.putRoots({ ...roots, retired: { ...roots.retired, alarmed: true } })
    })
    marking.catch((error: unknown) => this.#log.error('an alarm could not be noted', { reason: String(error) }))
  }

  #isWrappedWithOld(row: ObjectRow | null): boolean {
    return row !== null && keyVersionOf(row.wrapped) !== this.keyring.activeVersion
  }

  #rewrap(key: ObjectKey): void {
    const row = this.tables.object(key)
    if (row === null || !this.#isWrappedWithOld(row)) return
    const dataKey = this.keyring.unwrap(key.account, key.objectId, row.wrapped)
    this.tables.putObject(key, { ...row, wrapped: this.keyring.wrap(key.account, key.objectId, dataKey) })
  }
}

/** Pieces of a stored manifest, zeros not counted. 0 if it cannot be read: it is about to be replaced or dropped. */
export function logicalBytesOf(encoded: Uint8Array, objectId: ObjectId): number {
  try {
    return decodeSealedManifest(encoded, objectId).pieces.reduce((sum, { id, bytes }) => sum + (id === null ? 0 : bytes), 0)
  } catch {
    // The counter is then too large by what the lost manifest had; an audit says so.
    return 0
  }
}

function bytesOf(blocks: readonly (readonly [SealedBlockId, NewBlock])[]): number {
  return blocks.reduce((sum, [, { bytes }]) => sum + bytes.byteLength, 0)
}

function inParts<T extends readonly [SealedBlockId, NewBlock]>(blocks: readonly T[], partMaxBytes: number): T[][] {
  const parts: T[][] = []
  let bytes = 0
  for (const block of blocks) {
    if (bytes === 0) parts.push([])
    parts.at(-1)?.push(block)
    bytes += block[1].bytes.byteLength
    if (bytes >= partMaxBytes) bytes = 0
  }
  return parts
}
