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
import { DocumentLeadership } from './leadership.ts'
import { DocumentMembers } from './members.ts'
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
const LEADERS_BUCKET = 'leaders'

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
  readonly #members = new Map<string, DocumentMembers>()
  readonly #leaderships = new Map<string, DocumentLeadership>()
  readonly #closing = new Once()
  #cancelPoll: (() => void) | null = null

  private constructor(environment: LmdbEnvironment, { clock, log }: EmbeddedOptions) {
    this.#environment = environment
    this.#tables = openDocumentTables(environment)
    this.#blobTable = openBlobTable(environment)
    this.#clock = clock
    this.#log = (log ?? silentLog).child('coordination')
    this.#calls = new Calls(clock, (error) => new CodedError('ERR_COORDINATION_REFUSED', [toCodedError(error).message], { cause: error }))
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
    return this.#calls.run(() => this.#documentsOf(bucket))
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
    return this.#calls.run(() => {
      const members = this.#members.get(group) ?? new DocumentMembers({ documents: this.#documentsOf(group, 'members/'), clock: this.#clock, log: this.#log })
      this.#members.set(group, members)
      return members
    })
  }

  leadership(name: string): Promise<Leadership> {
    return this.#calls.run(() => {
      requireBucketName(name)
      const leadership = this.#leaderships.get(name) ?? new DocumentLeadership({ name, documents: this.#documentsOf(LEADERS_BUCKET, 'leases/'), clock: this.#clock, log: this.#log })
      this.#leaderships.set(name, leadership)
      return leadership
    })
  }

  close(): Promise<void> {
    return this.#closing.run(async () => {
      await Promise.all([...this.#members.values(), ...this.#leaderships.values()].map((user) => user.close()))
      this.#cancelPoll?.()
      for (const documents of this.#documents.values()) documents.close()
      this.#calls.close()
      await this.#environment.close()
    })
  }

  /** `prefix` keeps what is made of documents apart from documents of the same name. */
  #documentsOf(bucket: string, prefix = ''): EmbeddedDocuments {
    requireBucketName(bucket)
    const name = `${prefix}${bucket}`
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
