/**
 * Coordination among the processes of one machine: an LMDB environment that each of them opens. LMDB's own lock lets one
 * write at a time, in whichever process. A change is told at once within the process that made it; the others look for
 * a new revision WATCH_POLL_MS apart, and only while somebody watches.
 */
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { silentLog, type Log } from '../log.ts'
import { LmdbEnvironment } from '../store/lmdb-environment.ts'
import { Calls } from './calls.ts'
import { EmbeddedBlobs, openBlobTable, type BlobTable } from './embedded-blobs.ts'
import { EmbeddedDocuments, openDocumentTables, type DocumentTables } from './embedded-documents.ts'
import { LeaseGroups } from './lease-groups.ts'
import { requireBucketName } from './names.ts'
import { Once } from './once.ts'
import type { Blobs, Coordination, Documents, Leadership, Members } from './types.ts'

export interface EmbeddedOptions {
  /** Folder; made if it is not there. */
  readonly path: string
  readonly clock: Clock
  readonly log?: Log
}

const WATCH_POLL_MS = 250

export class EmbeddedCoordination implements Coordination {
  readonly kind = 'embedded'
  readonly #environment: LmdbEnvironment
  readonly #tables: DocumentTables
  readonly #blobTable: BlobTable
  readonly #clock: Clock
  readonly #log: Log
  readonly #calls: Calls
  readonly #documents = new Map<string, EmbeddedDocuments>()
  readonly #blobs = new Map<string, EmbeddedBlobs>()
  readonly #leases: LeaseGroups
  readonly #closing = new Once()
  #cancelPoll: (() => void) | null = null

  private constructor(environment: LmdbEnvironment, { clock, log }: EmbeddedOptions) {
    this.#environment = environment
    this.#tables = openDocumentTables(environment)
    this.#blobTable = openBlobTable(environment)
    this.#clock = clock
    this.#log = (log ?? silentLog).child('coordination')
    this.#calls = new Calls(clock, (error) => new CodedError('ERR_COORDINATION_REFUSED', [toCodedError(error).message], { cause: error }))
    this.#leases = new LeaseGroups({ clock, log: this.#log, memberDocuments: (group) => this.#documentsOf(`members/${group}`), leaderDocuments: () => this.#documentsOf('leases/leaders') })
  }

  /** Throws ERR_STORE_FAILED when the folder cannot be used. */
  static open(options: EmbeddedOptions): EmbeddedCoordination {
    return new EmbeddedCoordination(LmdbEnvironment.open({ path: options.path }), options)
  }

  /** A disk is always there. */
  get connected(): boolean {
    return !this.#calls.closed
  }

  documents(bucket: string): Promise<Documents> {
    return this.#calls.run(() => {
      requireBucketName(bucket)
      return this.#documentsOf(bucket)
    })
  }

  blobs(bucket: string): Promise<Blobs> {
    return this.#calls.run(() => {
      requireBucketName(bucket)
      const blobs = this.#blobs.get(bucket) ?? new EmbeddedBlobs({ bucket, environment: this.#environment, table: this.#blobTable, calls: this.#calls, clock: this.#clock })
      this.#blobs.set(bucket, blobs)
      return blobs
    })
  }

  members(group: string): Promise<Members> {
    return this.#calls.run(() => this.#leases.members(group))
  }

  leadership(name: string): Promise<Leadership> {
    return this.#calls.run(() => this.#leases.leadership(name))
  }

  close(): Promise<void> {
    return this.#closing.run(async () => {
      await this.#leases.close()
      this.#cancelPoll?.()
      for (const documents of this.#documents.values()) documents.close()
      this.#calls.close()
      await this.#environment.close()
    })
  }

  #documentsOf(name: string): EmbeddedDocuments {
    const known = this.#documents.get(name)
    if (known !== undefined) return known
    const documents = new EmbeddedDocuments({ bucket: name, environment: this.#environment, tables: this.#tables, calls: this.#calls, log: this.#log, onWatch: () => this.#poll() })
    this.#documents.set(name, documents)
    return documents
  }

  #poll(): void {
    this.#cancelPoll ??= this.#clock.after(WATCH_POLL_MS, () => {
      this.#cancelPoll = null
      let watched = false
      for (const documents of this.#documents.values()) {
        documents.tell()
        watched ||= documents.watched
      }
      if (watched) this.#poll()
    })
  }
}
