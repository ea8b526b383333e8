/**
 * Blobs of one bucket in LMDB: [bucket, id] -> revision and time it was put (8 bytes each, little endian), bytes.
 * A revision is a random number, new with each put: it has to tell only whether somebody has put since.
 */
import { randomInt } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { COORDINATION_BLOB_MAX_BYTES } from '../limits.ts'
import type { LmdbEnvironment, Table } from '../store/lmdb-environment.ts'
import type { Calls } from './calls.ts'
import { requireKey, requireSize } from './names.ts'
import type { BlobEntry, Blobs } from './types.ts'

export type BlobTable = Table<[bucket: string, id: string]>

export interface EmbeddedBlobsOptions {
  readonly bucket: string
  readonly environment: LmdbEnvironment
  readonly table: BlobTable
  readonly calls: Calls
  readonly clock: Clock
}

interface StoredBlob {
  readonly revision: number
  readonly putAtMs: number
  readonly bytes: Buffer
}

const HEAD_BYTES = 16
const REVISION_MAX = 2 ** 47
const ROWS_PER_STEP = 100
/** Sorts after every id. */
const AFTER_ALL = '\uffff'

export function openBlobTable(environment: LmdbEnvironment): BlobTable {
  return environment.table('blobs', 'ordered')
}

export class EmbeddedBlobs implements Blobs {
  readonly #options: EmbeddedBlobsOptions

  constructor(options: EmbeddedBlobsOptions) {
    this.#options = options
  }

  get(id: string): Promise<Uint8Array | null> {
    return this.#options.calls.run(() => {
      requireKey(id)
      this.#options.environment.refresh()
      const stored = this.#read(id)
      return stored === null ? null : Uint8Array.from(stored.bytes)
    })
  }

  put(id: string, bytes: Uint8Array): Promise<void> {
    const { bucket, environment, table, calls, clock } = this.#options
    return calls.run(async () => {
      requireKey(id)
      requireSize(id, bytes, COORDINATION_BLOB_MAX_BYTES)
      await environment.write({ kind: 'adds', bytes: bytes.byteLength }, () => {
        const row = Buffer.alloc(HEAD_BYTES + bytes.byteLength)
        row.writeBigUInt64LE(BigInt(randomInt(REVISION_MAX)), 0)
        row.writeBigUInt64LE(BigInt(clock.nowMs()), 8)
        row.set(bytes, HEAD_BYTES)
        void table.put([bucket, id], row)
      })
    })
  }

  ageMs(id: string): Promise<number | null> {
    return this.#options.calls.run(() => {
      requireKey(id)
      this.#options.environment.refresh()
      const stored = this.#read(id)
      return stored === null ? null : this.#age(stored)
    })
  }

  async *list(): AsyncGenerator<BlobEntry> {
    const { bucket, environment, table, calls } = this.#options
    environment.refresh()
    for (let after = ''; ; ) {
      const rows = await calls.run(() => [...table.getRange({ start: [bucket, after], end: [bucket, AFTER_ALL], limit: ROWS_PER_STEP + 1 })])
      const entries = rows.filter(({ key }) => key[1] !== after)
      for (const { key: [, id], value } of entries) {
        const stored = decodeBlob(value)
        yield { id, bytes: stored.bytes.byteLength, ageMs: this.#age(stored), revision: stored.revision }
      }
      after = entries.at(-1)?.key[1] ?? AFTER_ALL
      if (after === AFTER_ALL) return
    }
  }

  deleteListed({ id, revision }: BlobEntry): Promise<boolean> {
    const { bucket, environment, table, calls } = this.#options
    return calls.run(() =>
      environment.write({ kind: 'removes' }, () => {
        const stored = this.#read(id)
        if (stored !== null && stored.revision !== revision) return false
        void table.remove([bucket, id])
        return true
      }),
    )
  }

  /** A clock that was set back makes a blob younger, never a negative age. */
  #age({ putAtMs }: StoredBlob): number {
    return Math.max(0, this.#options.clock.nowMs() - putAtMs)
  }

  #read(id: string): StoredBlob | null {
    const row = this.#options.table.getBinary([this.#options.bucket, id])
    return row === undefined ? null : decodeBlob(row)
  }
}

function decodeBlob(stored: Uint8Array): StoredBlob {
  const row = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength)
  return { revision: Number(row.readBigUInt64LE(0)), putAtMs: Number(row.readBigUInt64LE(8)), bytes: row.subarray(HEAD_BYTES) }
}
