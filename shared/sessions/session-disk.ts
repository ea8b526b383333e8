/**
 * Sessions at rest in a folder: one sealed file each, named by a digest, so that the folder tells neither ids nor what
 * is in them.
 *
 * K1  A session is in a file or with its taker, never both: `take` resolves when the file is gone for good.
 * K2  Work on one session is done in the order in which it was asked for.
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, statSync, unlinkSync } from 'node:fs'
import { open, readFile, rename, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { toCodedError } from '../errors.ts'
import type { Log } from '../log.ts'

export interface SessionDiskOptions {
  /** Made if it is not there. */
  readonly path: string
  readonly clock: Clock
  readonly log: Log
  readonly maxBytes: number
}

interface Entry {
  readonly file: string
  readonly bytes: number
  readonly expiresAtMs: number
}

/** Digest of the name, when it expires (epoch ms). */
const FILE = /^([0-9a-f]{40})\.(\d{1,16})$/

export class SessionDisk {
  readonly #options: SessionDiskOptions
  readonly #log: Log
  /** By digest, oldest first. */
  readonly #entries = new Map<string, Entry>()
  /** K2: by digest, what is done last. */
  readonly #work = new Map<string, Promise<unknown>>()
  #bytes = 0

  /** Reads the names of what is there; removes what is too old or half-written. */
  constructor(options: SessionDiskOptions) {
    this.#options = options
    this.#log = options.log.child('session-disk')
    mkdirSync(options.path, { recursive: true, mode: 0o700 })
    const nowMs = options.clock.nowMs()
    for (const file of readdirSync(options.path)) {
      const match = FILE.exec(file)
      const path = join(options.path, file)
      if (match === null || Number(match[2]) <= nowMs) unlinkSync(path)
      else this.#add(match[1] ?? '', { file, bytes: statSync(path).size, expiresAtMs: Number(match[2]) })
    }
  }

  get count(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#bytes
  }

  has(name: string): boolean {
    return this.#entries.has(digestOf(name))
  }

  /** Resolves whether it is on disk; never rejects. */
  put(name: string, sealed: Uint8Array, expiresAtMs: number): Promise<boolean> {
    const digest = digestOf(name)
    const before = this.#entries.get(digest)
    if (before !== undefined) this.#forget(digest, before)
    const entry = { file: `${digest}.${Math.floor(expiresAtMs)}`, bytes: sealed.length, expiresAtMs }
    this.#add(digest, entry)
    this.#makeRoom()
    return this.#next(digest, async () => {
      if (before !== undefined && before.file !== entry.file) await rm(this.#path(before), { force: true })
      await this.#write(entry, sealed)
      return true
    }).catch((error: unknown) => {
      this.#log.error('a session could not be written', { reason: toCodedError(error).message })
      this.#forget(digest, entry)
      return false
    })
  }

  /** K1. Null: it is not there, or cannot be read; never rejects. */
  async take(name: string): Promise<Uint8Array | null> {
    const digest = digestOf(name)
    const entry = this.#entries.get(digest)
    if (entry === undefined) return null
    this.#forget(digest, entry)
    try {
      return await this.#next(digest, async () => {
        const sealed = await readFile(this.#path(entry))
        await unlink(this.#path(entry))
        await this.#flush()
        return sealed
      })
    } catch (error) {
      this.#log.error('a session could not be read', { reason: toCodedError(error).message })
      return null
    }
  }

  /** Removes what is too old. */
  async expire(): Promise<void> {
    const nowMs = this.#options.clock.nowMs()
    await Promise.all([...this.#entries].filter(([, entry]) => entry.expiresAtMs <= nowMs).map(([digest, entry]) => this.#drop(digest, entry)))
  }

  /** Resolves when everything asked for is done. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#work.values())
  }

  #makeRoom(): void {
    for (const [digest, entry] of this.#entries) {
      if (this.#bytes <= this.#options.maxBytes) return
      void this.#drop(digest, entry)
    }
  }

  /** Never rejects. */
  #drop(digest: string, entry: Entry): Promise<void> {
    this.#forget(digest, entry)
    return this.#next(digest, () => rm(this.#path(entry), { force: true })).catch((error: unknown) => this.#log.warn('a session could not be removed', { reason: String(error) }))
  }

  #next<T>(digest: string, work: () => Promise<T>): Promise<T> {
    const done = (this.#work.get(digest) ?? Promise.resolve()).then(work, work)
    this.#work.set(digest, done)
    const forget = (): void => {
      if (this.#work.get(digest) === done) this.#work.delete(digest)
    }
    done.then(forget, forget)
    return done
  }

  async #write(entry: Entry, sealed: Uint8Array): Promise<void> {
    const temporary = join(this.#options.path, `${randomUUID()}.new`)
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(sealed)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, this.#path(entry))
    await this.#flush()
  }

  /** Names in a folder are on disk only once the folder is. */
  async #flush(): Promise<void> {
    const folder = await open(this.#options.path, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  #path(entry: Entry): string {
    return join(this.#options.path, entry.file)
  }

  #add(digest: string, entry: Entry): void {
    this.#entries.set(digest, entry)
    this.#bytes += entry.bytes
  }

  #forget(digest: string, entry: Entry): void {
    if (this.#entries.get(digest) !== entry) return
    this.#entries.delete(digest)
    this.#bytes -= entry.bytes
  }
}

function digestOf(name: string): string {
  return createHash('sha256').update(`outpost session file\n${name}`).digest('hex').slice(0, 40)
}
