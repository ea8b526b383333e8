/**
 * One LMDB environment: a folder with one memory-mapped file, tables in it, and one writer.
 *
 * L1: a write resolves only when its transaction is committed and on disk. `overlappingSync` is off, so a commit
 *     contains its fdatasync, on lmdb's writer thread; what a reader can see is flushed.
 * L2: a write happens wholly or not at all. Each runs as a child transaction, which rolls back when its action throws
 *     (a plain lmdb transaction would keep what was put before the throw).
 * L3: writes run one after another, each in a commit of its own. A write that finds the disk full fails alone.
 * L4: `eventTurnBatching` is off. With it on, lmdb 3.5 makes a promise nobody holds, and a failed commit ends the
 *     process with an unhandled rejection (seen on a full file system).
 *
 * The map is address space, not memory or disk; lmdb grows it by itself, so a size limit is the business of the
 * tables' owner. LMDB's lock lets several processes write in turn, as those of shared/coordination do; what
 * else an environment holds is written by one process at a time (data-lock.ts), and others may read it meanwhile.
 */
import { mkdirSync, statfsSync } from 'node:fs'
import { open, type Database, type Key, type RootDatabase } from 'lmdb'
import { CodedError } from '../errors.ts'
import { STORE_DISK_RESERVE_BYTES, STORE_WRITES_WAITING_MAX } from '../limits.ts'

export type Table<K extends Key = Key> = Database<Uint8Array, K>

export interface LmdbEnvironmentOptions {
  /** Folder; made if it is not there. */
  readonly path: string
  /** Disk space that growing writes leave free. Default STORE_DISK_RESERVE_BYTES. */
  readonly diskReserveBytes?: number
}

/** Whether a write adds data. One that removes may use the reserve, or a full disk could never be emptied. */
export type WriteSize = { readonly kind: 'adds'; readonly bytes: number } | { readonly kind: 'removes' }

/** 16 GiB of addresses; the file grows as needed, and beyond this lmdb maps anew. */
const MAP_BYTES = 16 * 1024 ** 3
const TABLES_MAX = 32
/** LMDB writes a page more than once for one put: tree pages above it, and values of a page take two. */
const WRITE_AMPLIFICATION = 3

const ENOSPC = 28
const EIO = 5
const EDQUOT = 122
const MDB_MAP_FULL = -30792

export class LmdbEnvironment {
  readonly path: string
  readonly #root: RootDatabase<Uint8Array>
  readonly #diskReserveBytes: number
  #state: 'open' | 'closed' = 'open'
  #waiting = 0
  #lastWrite: Promise<unknown> = Promise.resolve()

  private constructor(path: string, root: RootDatabase<Uint8Array>, diskReserveBytes: number) {
    this.path = path
    this.#root = root
    this.#diskReserveBytes = diskReserveBytes
  }

  /** Throws ERR_STORE_FAILED when the folder cannot be used. */
  static open(options: LmdbEnvironmentOptions): LmdbEnvironment {
    try {
      mkdirSync(options.path, { recursive: true })
      const root = open<Uint8Array>({
        path: options.path,
        noSubdir: false,
        encoding: 'binary',
        maxDbs: TABLES_MAX,
        mapSize: MAP_BYTES,
        overlappingSync: false,
        eventTurnBatching: false,
      })
      return new LmdbEnvironment(options.path, root, options.diskReserveBytes ?? STORE_DISK_RESERVE_BYTES)
    } catch (error) {
      throw new CodedError('ERR_STORE_FAILED', [`cannot open ${options.path}: ${messageOf(error)}`], { cause: error })
    }
  }

  /** `keys`: `binary` for raw bytes; `ordered` for strings, numbers and arrays of them, sorted part by part. */
  table<K extends Key = Key>(name: string, keys: 'binary' | 'ordered'): Table<K> {
    return this.#root.openDB<Uint8Array, K>({
      name,
      encoding: 'binary',
      keyEncoding: keys === 'binary' ? 'binary' : 'ordered-binary',
    })
  }

  /**
   * Runs `action` inside a transaction; it must be synchronous. Resolves with its result once that is on disk (L1).
   * A CodedError thrown by `action` rolls back (L2) and is passed on. Throws ERR_STORE_FULL, ERR_STORE_FAILED.
   */
  async write<T>(size: WriteSize, action: () => T): Promise<T> {
    if (this.#waiting >= STORE_WRITES_WAITING_MAX) throw new CodedError('ERR_STORE_FAILED', [`${this.#waiting} writes wait already`])
    this.#waiting += 1
    const write = this.#lastWrite.then(() => this.#writeNow(size, action))
    // The next write waits for this one however it ends; its own caller gets the rejection.
    this.#lastWrite = write.catch(() => undefined)
    try {
      return await write
    } finally {
      this.#waiting -= 1
    }
  }

  /** Later reads see what other processes have written until now; without it they may keep to an older state for a moment. */
  refresh(): void {
    this.#root.resetReadTxn()
  }

  /** Throws ERR_STORE_FAILED once `close` was called: tables must not be read from then on. */
  requireOpen(): void {
    if (this.#state === 'closed') throw new CodedError('ERR_STORE_FAILED', ['it is closed'])
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    await this.#lastWrite
    await this.#root.close()
  }

  async #writeNow<T>(size: WriteSize, action: () => T): Promise<T> {
    this.requireOpen()
    if (size.kind === 'adds') {
      const freeBytes = this.#diskFreeBytes()
      const neededBytes = size.bytes * WRITE_AMPLIFICATION + this.#diskReserveBytes
      if (freeBytes < neededBytes) throw new CodedError('ERR_STORE_FULL', [`${freeBytes} bytes are free, ${neededBytes} needed`])
    }
    try {
      return await this.#root.childTransaction(action)
    } catch (error) {
      throw await this.#toCoded(error)
    }
  }

  async #toCoded(error: unknown): Promise<CodedError> {
    if (error instanceof CodedError) return error
    const cause = await commitCause(error)
    const code = codeOf(cause)
    // A short write on a full disk is EIO in LMDB, as is a broken disk: the free space tells them apart.
    const full = code === ENOSPC || code === EDQUOT || code === MDB_MAP_FULL || (code === EIO && this.#diskFreeBytes() < STORE_DISK_RESERVE_BYTES)
    return new CodedError(full ? 'ERR_STORE_FULL' : 'ERR_STORE_FAILED', [messageOf(cause)], { cause })
  }

  #diskFreeBytes(): number {
    const stats = statfsSync(this.path)
    return stats.bavail * stats.bsize
  }
}

/** lmdb rejects with a general error that holds a promise of the real one, which must be taken or it goes unhandled. */
async function commitCause(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !('commitError' in error)) return error
  try {
    await error.commitError
    return error
  } catch (cause) {
    return cause
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
