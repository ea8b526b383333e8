/**
 * Documents of one bucket in LMDB.
 *
 * Tables (keys are arrays): documents [bucket, key] -> revision (8 bytes, little endian), 1 if deleted else 0, value;
 * changes [bucket, revision] -> key, one for each document, its newest; meta [bucket, 'revision' | 'horizon'].
 * A deleted document keeps its row and its change until it is forgotten; the horizon is the newest revision forgotten.
 */
import { CodedError } from '../errors.ts'
import { COORDINATION_DOCUMENT_MAX_BYTES } from '../limits.ts'
import type { Log } from '../log.ts'
import type { LmdbEnvironment, Table } from '../store/lmdb-environment.ts'
import { conflict, type Calls } from './calls.ts'
import { requireKey, requireSize } from './names.ts'
import type { Document, DocumentListener, Documents, Watch } from './types.ts'

export interface DocumentTables {
  readonly documents: Table<[bucket: string, key: string]>
  readonly changes: Table<[bucket: string, revision: number]>
  readonly meta: Table<[bucket: string, name: 'revision' | 'horizon']>
}

export interface EmbeddedDocumentsOptions {
  readonly bucket: string
  readonly environment: LmdbEnvironment
  readonly tables: DocumentTables
  readonly calls: Calls
  readonly log: Log
  /** Somebody watches from now on: `tell` has to be called now and then. */
  readonly onWatch: () => void
}

interface StoredDocument {
  readonly revision: number
  /** Null: deleted. */
  readonly value: Uint8Array | null
}

interface Watcher {
  readonly listener: DocumentListener
  /** What it was told last; null: nothing yet. */
  toldRevision: number | null
  readonly afterRevision: number
}

const HEAD_BYTES = 9
/** Told or forgotten at once; more would hold up the event loop. */
const ROWS_PER_STEP = 1_000

export function openDocumentTables(environment: LmdbEnvironment): DocumentTables {
  return {
    documents: environment.table('documents', 'ordered'),
    changes: environment.table('changes', 'ordered'),
    meta: environment.table('meta', 'ordered'),
  }
}

export class EmbeddedDocuments implements Documents {
  readonly #bucket: string
  readonly #environment: LmdbEnvironment
  readonly #tables: DocumentTables
  readonly #calls: Calls
  readonly #log: Log
  readonly #onWatch: () => void
  readonly #watchers = new Set<Watcher>()
  #telling = false
  #closed = false

  constructor({ bucket, environment, tables, calls, log, onWatch }: EmbeddedDocumentsOptions) {
    this.#bucket = bucket
    this.#environment = environment
    this.#tables = tables
    this.#calls = calls
    this.#log = log
    this.#onWatch = onWatch
  }

  get watched(): boolean {
    return this.#watchers.size > 0
  }

  get(key: string): Promise<Document | null> {
    return this.#calls.run(() => {
      requireKey(key)
      this.#environment.refresh()
      const stored = this.#read(key)
      return stored === null || stored.value === null ? null : { value: stored.value, revision: stored.revision }
    })
  }

  update(key: string, value: Uint8Array, revision: number): Promise<number> {
    return this.#write(key, value, revision)
  }

  delete(key: string, revision: number): Promise<number> {
    return this.#write(key, null, revision)
  }

  watch(listener: DocumentListener, { afterRevision = 0 }: { readonly afterRevision?: number } = {}): Watch {
    const watcher: Watcher = { listener, toldRevision: null, afterRevision }
    this.#watchers.add(watcher)
    queueMicrotask(() => this.tell())
    this.#onWatch()
    return { stop: () => void this.#watchers.delete(watcher) }
  }

  forgetDeleted(keep: number): Promise<number> {
    const { documents, changes, meta } = this.#tables
    return this.#calls.run(() =>
      this.#environment.write({ kind: 'removes' }, () => {
        const marks: { readonly revision: number; readonly key: string }[] = []
        for (const { key: [, revision], value } of changes.getRange({ start: [this.#bucket, 0], end: [this.#bucket, Number.MAX_SAFE_INTEGER] })) {
          const key = textOf(value)
          if (this.#read(key)?.value === null) marks.push({ revision, key })
        }
        const forgotten = marks.slice(0, Math.min(ROWS_PER_STEP, Math.max(0, marks.length - keep)))
        for (const { revision, key } of forgotten) {
          void documents.remove([this.#bucket, key])
          void changes.remove([this.#bucket, revision])
          void meta.put([this.#bucket, 'horizon'], encodeNumber(revision))
        }
        return forgotten.length
      }),
    )
  }

  /** Tells every watcher what is new to it. */
  tell(): void {
    // A listener that changes something makes the next call of this from its own write, not from within.
    if (this.#telling || this.#closed) return
    this.#telling = true
    this.#environment.refresh()
    try {
      for (const watcher of [...this.#watchers]) this.#tellOne(watcher)
    } finally {
      this.#telling = false
    }
  }

  close(): void {
    this.#closed = true
    this.#watchers.clear()
  }

  #tellOne(watcher: Watcher): void {
    const current = this.#number('revision')
    const first = watcher.toldRevision === null
    if (!first && current === watcher.toldRevision) return
    const gap = first && watcher.afterRevision > 0 && (this.#number('horizon') > watcher.afterRevision || current < watcher.afterRevision)
    if (gap) this.#call(() => watcher.listener.onGap?.())
    let after = watcher.toldRevision ?? (gap ? 0 : watcher.afterRevision)
    // Who starts from nothing is told what is there, not what was.
    const withDeleted = !first || (watcher.afterRevision > 0 && !gap)
    const rows = [...this.#tables.changes.getRange({ start: [this.#bucket, after + 1], end: [this.#bucket, Number.MAX_SAFE_INTEGER] })]
    for (const { key: [, revision], value } of rows) {
      after = revision
      const key = textOf(value)
      const stored = this.#read(key)
      if (stored === null || (stored.value === null && !withDeleted)) continue
      if (!this.#watchers.has(watcher)) return
      this.#call(() => watcher.listener.onDocument(key, stored.value, stored.revision))
    }
    watcher.toldRevision = Math.max(after, current)
    if (first && this.#watchers.has(watcher)) this.#call(() => watcher.listener.onCurrent())
  }

  #call(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      this.#log.error('a listener for documents failed', { bucket: this.#bucket, reason: String(error) })
    }
  }

  async #write(key: string, value: Uint8Array | null, seen: number): Promise<number> {
    const revision = await this.#calls.run(async () => {
      requireKey(key)
      if (value !== null) requireSize(key, value, COORDINATION_DOCUMENT_MAX_BYTES)
      if (value === null && seen === 0) throw new CodedError('ERR_COORDINATION_REFUSED', [`${key} is to be deleted and was not seen`])
      return await this.#environment.write(value === null ? { kind: 'removes' } : { kind: 'adds', bytes: value.byteLength }, () => {
        const { documents, changes, meta } = this.#tables
        const stored = this.#read(key)
        const there = stored === null || stored.value === null ? 0 : stored.revision
        if (there !== seen) throw conflict(key)
        const next = this.#number('revision') + 1
        if (stored !== null) void changes.remove([this.#bucket, stored.revision])
        void meta.put([this.#bucket, 'revision'], encodeNumber(next))
        void changes.put([this.#bucket, next], Buffer.from(key))
        void documents.put([this.#bucket, key], encodeDocument(next, value))
        return next
      })
    })
    this.tell()
    return revision
  }

  #read(key: string): StoredDocument | null {
    const bytes = this.#tables.documents.getBinary([this.#bucket, key])
    if (bytes === undefined) return null
    const row = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    return { revision: Number(row.readBigUInt64LE(0)), value: row[HEAD_BYTES - 1] === 1 ? null : Uint8Array.from(row.subarray(HEAD_BYTES)) }
  }

  #number(name: 'revision' | 'horizon'): number {
    const bytes = this.#tables.meta.getBinary([this.#bucket, name])
    return bytes === undefined ? 0 : Number(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readBigUInt64LE(0))
  }
}

function encodeDocument(revision: number, value: Uint8Array | null): Uint8Array {
  const row = Buffer.alloc(HEAD_BYTES + (value?.byteLength ?? 0))
  row.writeBigUInt64LE(BigInt(revision), 0)
  row[HEAD_BYTES - 1] = value === null ? 1 : 0
  if (value !== null) row.set(value, HEAD_BYTES)
  return row
}

function encodeNumber(value: number): Uint8Array {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()
}
