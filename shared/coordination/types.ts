/**
 * What several processes agree on: small documents changed by compare-and-set, immutable blobs, members that are alive,
 * and one leader. Two drivers: `embedded` (LMDB, the processes of one machine) and `nats` (JetStream, any number of
 * machines). Members and leaders are made of documents and nothing else, so both drivers share that code.
 *
 * C1: a change is in the store when its promise resolves, and every watcher is told of it, also one that was cut off
 *     meanwhile (it may miss values that were overwritten before it came back, never the last one).
 * C2: of two changes made from the same revision one wins, the other rejects with ERR_COORDINATION_CONFLICT.
 * C3: revisions of a bucket grow with every change of any of its documents, and a watcher sees them ascending.
 * C4: nothing waits for ever: what the store does not answer within COORDINATION_TIMEOUT_MS rejects with
 *     ERR_COORDINATION_UNREACHABLE. A change that rejects so may have happened all the same: read before trying again.
 *     What the store refuses for good (too large, no room) rejects with ERR_COORDINATION_REFUSED.
 * C5: two clocks are never compared. A holder counts its lease from before it sent the renewal, a watcher from when it
 *     saw it, each by its own monotonic clock; the watcher waits LEASE_MARGIN_MS longer than the holder holds.
 *
 * Names of buckets and groups: 1 to 32 of `a-z 0-9 -`. Keys and ids: 1 to 512 of `A-Z a-z 0-9 - _ = . /`, no `=` at
 * the beginning, no dot or slash at either end and no two of them together.
 */
export interface Coordination {
  readonly kind: 'embedded' | 'nats'
  /** Whether the store answered last. For readiness and metrics; a call may fail all the same. */
  readonly connected: boolean
  /** Makes the bucket if it is not there. The same object for the same name. */
  documents(bucket: string): Promise<Documents>
  blobs(bucket: string): Promise<Blobs>
  members(group: string): Promise<Members>
  leadership(name: string): Promise<Leadership>
  /** Ends watches, gives up memberships and leaderships. Calls under way and later ones reject with ERR_COORDINATION_UNREACHABLE. Idempotent. */
  close(): Promise<void>
}

export interface Document {
  /** The caller's own. */
  readonly value: Uint8Array
  readonly revision: number
}

/** Values are COORDINATION_DOCUMENT_MAX_BYTES at most. */
export interface Documents {
  get(key: string): Promise<Document | null>
  /** `revision`: of the value that the caller has seen; 0: none may be there. Resolves with the new revision. ERR_COORDINATION_CONFLICT. */
  update(key: string, value: Uint8Array, revision: number): Promise<number>
  /** Like `update`; what stays is a mark that watchers see. Resolves with its revision. */
  delete(key: string, revision: number): Promise<number>
  /**
   * Tells all that is there, then `onCurrent` once, then every change, in order of revisions; goes on after the connection
   * was lost. `afterRevision`: tells only of documents changed or deleted after it; if marks of deletions later than it
   * are forgotten already, `onGap` comes first and everything that is there is told.
   */
  watch(listener: DocumentListener, options?: { readonly afterRevision?: number }): Watch
  /** Forgets marks of deletions but for the newest `keep`. Resolves with how many went. */
  forgetDeleted(keep: number): Promise<number>
}

/** Called synchronously, never from within a call of `watch`. What a listener throws is logged and does not end the watch. */
export interface DocumentListener {
  /** `value`: the listener's own; null: deleted. */
  onDocument(key: string, value: Uint8Array | null, revision: number): void
  onCurrent(): void
  /** Whatever was known before and is not told until `onCurrent` is gone. */
  onGap?(): void
}

export interface Watch {
  /** Idempotent; no call comes after it. */
  stop(): void
}

/** Immutable, by an id that says what they hold (a digest, say): who puts an id again puts the same bytes. COORDINATION_BLOB_MAX_BYTES each. */
export interface Blobs {
  get(id: string): Promise<Uint8Array | null>
  /** Renews the age of what is there already. */
  put(id: string, bytes: Uint8Array): Promise<void>
  /** Time since it was last put, by the store's clock; null if it is not there. */
  ageMs(id: string): Promise<number | null>
  /** All that is there, in any order. For passes over everything. */
  list(): AsyncIterable<BlobEntry>
  /** Deletes what `list` showed, unless it was put again since. Resolves with whether it is gone. */
  deleteListed(entry: BlobEntry): Promise<boolean>
}

export interface BlobEntry {
  readonly id: string
  readonly bytes: number
  readonly ageMs: number
  readonly revision: number
}

export interface Member {
  readonly id: string
  /** As its last `join` or `update` gave it. JSON. */
  readonly info: unknown
}

/** A group of processes that hold leases of LEASE_TTL_MS, renewed every LEASE_RENEW_MS. */
export interface Members {
  /**
   * `memberId` names one life of a process: make it with a random part. One that is there already rejects with
   * ERR_COORDINATION_CONFLICT, also when its lease has expired. `info`: JSON of COORDINATION_INFO_MAX_BYTES at most.
   */
  join(memberId: string, info: unknown): Promise<Membership>
  /**
   * Calls with all members that are alive whenever who they are or what they say has changed, first when the group is known.
   * While the store cannot be reached leases expire all the same: nobody can tell then who is alive.
   */
  watch(listener: (members: readonly Member[]) => void): Watch
}

export interface Membership {
  readonly id: string
  /** False from the moment the lease has run out by this process's own clock, whatever timers have done (self-fencing). Who holds state asks before using it. */
  holds(): boolean
  /** Resolves when the store has the new info. Rejects with ERR_COORDINATION_UNREACHABLE if the lease is lost. */
  update(info: unknown): Promise<void>
  /** Resolves once the lease is lost, for good: join again under another id. Never rejects, never resolves after `leave`. */
  readonly lost: Promise<void>
  /** Watchers see it at once. Idempotent, never rejects. */
  leave(): Promise<void>
}

/** At most one candidate leads at any time, by its own clock. */
export interface Leadership {
  /**
   * Stands until `stop`; a leader whose lease is lost stands again by itself. `onElected` with a term that is above all
   * earlier ones: what the leader writes carries it, so that a late write of an earlier one can be told.
   */
  stand(candidateId: string, listener: { onElected(term: number): void; onLost(): void }): Candidacy
}

export interface Candidacy {
  /** The term while this candidate leads by its own clock, else null. Asked before each act as leader. */
  term(): number | null
  /** Gives up, so that another can follow at once. Idempotent, never rejects. */
  stop(): Promise<void>
}
