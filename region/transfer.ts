/**
 * A whole region as one file, and back: records, the objects that they name, and the blocks of these, sealed as they
 * are. The keyring is not in it: without that file an export says nothing, and cannot be restored.
 *
 * The file: a line that says what it is, then frames: kind (1), length of the key (4), length of the value (4), both
 * little endian, key, value. Kinds: R a record (key: JSON [table, key]), O an object (key: JSON [account, id], value:
 * wrapped data key), M its manifest, B a block (key: id), E the end (value: SHA-256 of all before it).
 *
 * X1: an import checks the file's digest first, then opens every object by manifest, id and tag, before it puts it;
 *     records come last, in one transaction that claims every object: an import that fails can be repeated.
 */
import { createHash, type Hash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readSync, writeSync, fstatSync } from 'node:fs'
import { CodedError } from '../shared/errors.ts'
import type { LmdbEnvironment, Table } from '../shared/store/lmdb-environment.ts'
import type { ObjectStore } from '../shared/store/object-store.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import { blocksOf, decodeSealedManifest, parseObjectId } from '../shared/store/sealed-manifest.ts'
import type { PlainObject, SealedBlockId } from '../shared/store/types.ts'
import { openForeignObject } from './foreign-object.ts'
import { REGISTRY_TABLES, type Registry } from './registry.ts'

export interface TransferParts {
  readonly environment: LmdbEnvironment
  readonly store: ObjectStore
  readonly registry: Registry
}

export interface TransferProgress {
  readonly done: number
  readonly total: number
}

export interface TransferResult {
  readonly records: number
  readonly objects: number
  readonly blocks: number
  readonly bytes: number
}

type OnProgress = (progress: TransferProgress) => void
type FrameKind = 'R' | 'O' | 'M' | 'B' | 'E'

const TITLE = Buffer.from('OUTPOST STORE 1\n')
const HEAD_BYTES = 9
/** Of one frame: no manifest, record or block is larger. A file that claims more is refused before it is read. */
const FRAME_MAX_BYTES = 64 * 1024 * 1024

/** The region may run meanwhile: what it names at the begin is exported. Throws ERR_STORE_FAILED, and leaves an incomplete file then. */
export function exportRegion({ environment, store, registry }: TransferParts, path: string, onProgress: OnProgress): TransferResult {
  const writer = new FrameWriter(path)
  try {
    const counts = { records: 0, objects: 0, blocks: 0 }
    const objects = new Map<string, ObjectKey>()
    // Read in one go, so that records fit each other.
    for (const key of registry.liveObjects()) objects.set(`${key.account}/${key.objectId}`, key)
    for (const name of REGISTRY_TABLES) {
      for (const { key, value } of recordsOf(environment, name).getRange()) {
        writer.frame('R', Buffer.from(JSON.stringify([name, key])), value)
        counts.records += 1
      }
    }
    const blocks = new Set<SealedBlockId>()
    for (const key of objects.values()) {
      const manifest = store.tables.manifest(key)
      const row = store.tables.object(key)
      if (manifest === null || row === null) throw new CodedError('ERR_STORE_FAILED', [`${key.objectId} is missing`])
      const name = Buffer.from(JSON.stringify([key.account, key.objectId]))
      writer.frame('O', name, row.wrapped)
      writer.frame('M', name, manifest)
      for (const id of blocksOf(decodeSealedManifest(manifest, key.objectId))) blocks.add(id)
      counts.objects += 1
    }
    for (const id of blocks) {
      writer.frame('B', Buffer.from(id), store.sealedBlock(id))
      counts.blocks += 1
      onProgress({ done: counts.blocks, total: blocks.size })
    }
    return { ...counts, bytes: writer.end() }
  } finally {
    writer.close()
  }
}

/** X1. Into a region without functions. Throws ERR_STORE_FAILED, ERR_STORE_BLOCK, ERR_STORE_KEY, ERR_STORE_SALT. */
export async function importRegion({ environment, store, registry }: TransferParts, path: string, onProgress: OnProgress): Promise<TransferResult> {
  if (!registry.liveObjects().next().done) throw new CodedError('ERR_STORE_FAILED', ['an import needs a region without functions'])
  const reader = new FrameReader(path)
  try {
    const index = reader.index()
    let done = 0
    for (const [name, object] of index.objects) {
      const [account, id] = JSON.parse(name) as [string, string]
      await store.put(account, readObject(store, reader, index, account, id, object))
      done += 1
      onProgress({ done, total: index.objects.size })
    }
    await environment.write({ kind: 'adds', bytes: index.recordBytes }, () => {
      for (const name of index.objects.keys()) {
        const [account, id] = JSON.parse(name) as [string, string]
        if (!store.claimInTransaction(account, parseObjectId(id))) throw new CodedError('ERR_STORE_FAILED', [`${id} is missing`])
      }
      for (const { key, frame } of index.records) {
        const [table, rowKey] = JSON.parse(key) as [string, string | number | (string | number)[]]
        if (!REGISTRY_TABLES.some((name) => name === table)) throw new CodedError('ERR_STORE_FAILED', [`${path} has rows of ${table}`])
        void recordsOf(environment, table).put(rowKey, reader.read(frame))
      }
    })
    return { records: index.records.length, objects: index.objects.size, blocks: index.blocks.size, bytes: index.bytes }
  } finally {
    reader.close()
  }
}

/** Opens an object of the file. */
function readObject(store: ObjectStore, reader: FrameReader, index: FileIndex, account: string, id: string, { wrapped, manifest }: IndexedObject): PlainObject {
  const objectId = parseObjectId(id)
  if (manifest === null) throw new CodedError('ERR_STORE_BLOCK', [`manifest of ${id}`, 'missing'])
  return openForeignObject(store, { account, objectId, wrapped: reader.read(wrapped), manifest: reader.read(manifest) }, (block) => {
    const frame = index.blocks.get(block)
    return frame === undefined ? null : reader.read(frame)
  })
}

function recordsOf(environment: LmdbEnvironment, name: string): Table<string | number | (string | number)[]> {
  return environment.table(name, 'ordered')
}

class FrameWriter {
  readonly #file: number
  readonly #digest: Hash = createHash('sha256')
  #bytes = 0

  constructor(path: string) {
    // Never over a file that is there: it may be the backup that one has.
    this.#file = inFile(path, () => openSync(path, 'wx', 0o600))
    this.#write(TITLE)
  }

  frame(kind: FrameKind, key: Uint8Array, value: Uint8Array): void {
    const head = Buffer.alloc(HEAD_BYTES)
    head.write(kind, 0, 'latin1')
    head.writeUInt32LE(key.byteLength, 1)
    head.writeUInt32LE(value.byteLength, 5)
    this.#write(Buffer.concat([head, key, value]))
  }

  /** Returns the length of the file, which is on disk then. */
  end(): number {
    this.frame('E', new Uint8Array(0), this.#digest.copy().digest())
    fsyncSync(this.#file)
    return this.#bytes
  }

  close(): void {
    closeSync(this.#file)
  }

  #write(bytes: Uint8Array): void {
    this.#digest.update(bytes)
    for (let at = 0; at < bytes.byteLength;) at += writeSync(this.#file, bytes, at)
    this.#bytes += bytes.byteLength
  }
}

interface Frame {
  readonly at: number
  readonly bytes: number
}

interface IndexedObject {
  readonly wrapped: Frame
  readonly manifest: Frame | null
}

interface FileIndex {
  readonly records: readonly { readonly key: string; readonly frame: Frame }[]
  readonly recordBytes: number
  readonly objects: ReadonlyMap<string, IndexedObject>
  readonly blocks: ReadonlyMap<string, Frame>
  readonly bytes: number
}

class FrameReader {
  readonly #path: string
  readonly #file: number
  readonly #fileBytes: number

  constructor(path: string) {
    this.#path = path
    this.#file = inFile(path, () => openSync(path, 'r'))
    this.#fileBytes = fstatSync(this.#file).size
  }

  /** Reads the whole file, checks its digest, and remembers where everything is. */
  index(): FileIndex {
    const digest = createHash('sha256').update(TITLE)
    if (!this.read({ at: 0, bytes: Math.min(TITLE.byteLength, this.#fileBytes) }).equals(TITLE)) throw this.#refuse('is no export of a store')
    const records: { key: string; frame: Frame }[] = []
    const objects = new Map<string, IndexedObject>()
    const blocks = new Map<string, Frame>()
    let recordBytes = 0
    for (let at = TITLE.byteLength; ;) {
      const head = this.read({ at, bytes: HEAD_BYTES })
      const kind = head.toString('latin1', 0, 1)
      const [keyBytes, valueBytes] = [head.readUInt32LE(1), head.readUInt32LE(5)]
      const frame = { at: at + HEAD_BYTES + keyBytes, bytes: valueBytes }
      const body = this.read({ at: at + HEAD_BYTES, bytes: keyBytes + valueBytes })
      if (kind === 'E') {
        if (!digest.digest().equals(body)) throw this.#refuse('is altered: its digest differs')
        return { records, recordBytes, objects, blocks, bytes: this.#fileBytes }
      }
      digest.update(head).update(body)
      const key = body.toString('utf8', 0, keyBytes)
      if (kind === 'R') {
        records.push({ key, frame })
        recordBytes += keyBytes + valueBytes
      } else if (kind === 'O') objects.set(key, { wrapped: frame, manifest: null })
      else if (kind === 'M') objects.set(key, { wrapped: objects.get(key)?.wrapped ?? { at: 0, bytes: 0 }, manifest: frame })
      else if (kind === 'B') blocks.set(key, frame)
      else throw this.#refuse('is altered')
      at += HEAD_BYTES + keyBytes + valueBytes
    }
  }

  read({ at, bytes }: Frame): Buffer {
    if (bytes > FRAME_MAX_BYTES || at + bytes > this.#fileBytes) throw this.#refuse('is cut short')
    const value = Buffer.alloc(bytes)
    for (let read = 0; read < bytes;) read += readSync(this.#file, value, read, bytes - read, at + read)
    return value
  }

  close(): void {
    closeSync(this.#file)
  }

  #refuse(why: string): CodedError {
    return new CodedError('ERR_STORE_FAILED', [`${this.#path} ${why}`])
  }
}

function inFile<T>(path: string, action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw new CodedError('ERR_STORE_FAILED', [`${path}: ${error instanceof Error ? error.message : String(error)}`], { cause: error })
  }
}
