/**
 * The registry: which functions, versions and aliases there are, per account, in LMDB.
 *
 * R1: a write is one transaction and is on disk before it is acknowledged (LmdbEnvironment L1, L2).
 * R2: every image, source and set of secrets that a record names is there; a commit that would break this is refused.
 *     Images and sources are objects of the store (Content): a commit claims those that it names in its own transaction,
 *     and `liveObjects` tells a collection of all that are named. Secrets are counted by the records that name them, go
 *     with the last of these, and are sealed under the account's key.
 * R3: every write of a function takes the next number of one sequence. The feed keeps the newest number of each
 *     function and of the CHANGE_TOMBSTONES_MAX functions deleted last; who is further behind has to compare everything.
 *
 * Tables of registry-tables.ts (keys are arrays, ordered part by part): functions [account, name], versions [account, name, number],
 * aliases [account, name, alias], secrets (SecretsTable),
 * changes [seq] -> [account, name], changeOf [account, name] -> seq, tombstones [seq], registryMeta.
 */
import type { BuildKey, ImageId } from '../shared/brand.ts'
import type { FunctionReader, FunctionRecord, FunctionTransaction, VersionRecord } from '../shared/api/records.ts'
import { LATEST, functionArn, isVersionNumber } from '../shared/api/names.ts'
import { CodedError } from '../shared/errors.ts'
import { CHANGE_TOMBSTONES_MAX, VERSIONS_PER_FUNCTION_MAX } from '../shared/limits.ts'
import { silentLog, type Log } from '../shared/log.ts'
import type { Keyring } from '../shared/store/keyring.ts'
import type { LmdbEnvironment } from '../shared/store/lmdb-environment.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import type { BuildSpec } from '../shared/worker/types.ts'
import type { Content } from './content.ts'
import { AFTER_ALL, audit, decode, decodeOrNull, encode, HORIZON_KEY, openTables, pages, readNumber, Reader, SEQ_KEY, Transaction, type FunctionKey, type NewSecrets, type Tables } from './registry-tables.ts'
import { readState, writeState, type FunctionState } from './function-state.ts'
import type { Secrets } from './secrets.ts'

export { REGISTRY_TABLES, type NewSecrets } from './registry-tables.ts'

export interface RegistryOptions {
  readonly environment: LmdbEnvironment
  /** Region name for ARNs in messages. */
  readonly regionName: string
  /** In the same environment: a commit claims what it names. */
  readonly content: Content
  readonly keyring: Keyring
  readonly tombstonesMax?: number
  readonly log?: Log
}

/** A function was written. `deleted`: it is gone with all its builds. */
export interface FunctionChange {
  readonly seq: number
  readonly account: string
  readonly functionName: string
  readonly deleted: boolean
  /** Build of `$LATEST`; null if deleted. */
  readonly latest: BuildKey | null
  /** Builds that some version still names; any other build of the function may be dropped. */
  readonly liveKeys: readonly BuildKey[]
}

export type ChangesSince =
  | { readonly kind: 'changes'; readonly changes: readonly FunctionChange[]; readonly more: boolean }
  /** The feed does not go back that far: drop what is not listed by `describe`. */
  | { readonly kind: 'resync'; readonly seq: number }

export type CommitPurpose =
  | { readonly kind: 'publish'; readonly secrets: NewSecrets | null }
  | { readonly kind: 'write' }
  /** May use the disk's reserve. */
  | { readonly kind: 'delete' }

export interface Committed<T> {
  readonly result: T
  /** The function's own images, without their ancestors, that none of its records names any more. */
  readonly dropped: readonly ImageId[]
}

/** What a commit would do. */
export interface Draft<T> extends Committed<T> {
  /** False: it would change nothing, and the rest is as it is now. */
  readonly changed: boolean
  /** The function after it; null: it is gone. */
  readonly state: FunctionState | null
  /** Digests of rows that were there before. */
  readonly before: FunctionState | null
  /** Number of the function's last change; 0 if there is none. */
  readonly seq: number
  /** Objects that its records name. */
  readonly named: readonly ObjectKey[]
}

/** A function as a change elsewhere left it. */
export interface ForeignState {
  readonly account: string
  readonly functionName: string
  readonly seq: number
  readonly state: FunctionState | null
}

/** Thrown to undo a draft; never seen by anybody. */
const UNDO = new CodedError('ERR_INTERNAL', ['a draft was undone'])
/** Records of one commit at most, bytes. */
const RECORDS_BYTES = 65_536
const RESOLVED_FUNCTIONS_CACHED_MAX = 10_000

export class Registry {
  readonly #environment: LmdbEnvironment
  readonly #regionName: string
  readonly #content: Content
  readonly #tombstonesMax: number
  readonly #tables: Tables
  readonly #listeners = new Set<(change: FunctionChange) => void>()
  /** By `account/name`, then by qualifier. A function's entry goes before a write of it is acknowledged. */
  readonly #resolved = new Map<string, Map<string, BuildSpec>>()
  readonly #log: Log
  /** Number of the last change that `#resolved` knows of. What is on disk may be ahead of it for a moment, never behind. */
  #seq: number

  constructor(options: RegistryOptions) {
    this.#environment = options.environment
    this.#regionName = options.regionName
    this.#content = options.content
    this.#tombstonesMax = options.tombstonesMax ?? CHANGE_TOMBSTONES_MAX
    this.#log = (options.log ?? silentLog).child('region-registry')
    this.#tables = openTables(options.environment, options.keyring)
    this.#seq = readNumber(this.#tables.meta, SEQ_KEY)
  }

  read(account: string, functionName: string): FunctionReader {
    return new Reader(this.#tables, account, functionName)
  }

  list(account: string, after: string, limit: number): FunctionRecord[] {
    const range = this.#tables.functions.getRange({ start: [account, after], end: [account, AFTER_ALL], limit: limit + 1 })
    return [...range].filter(({ key }) => key[1] !== after).slice(0, limit).map(({ value }) => decode(value))
  }

  /** R1. `action` is synchronous; what it throws as a CodedError changes nothing and is passed on. */
  async commit<T>(account: string, functionName: string, purpose: CommitPurpose, action: (transaction: FunctionTransaction) => T): Promise<Committed<T>> {
    const secrets = purpose.kind === 'publish' ? purpose.secrets : null
    const write = this.#environment.write(purpose.kind === 'delete' ? { kind: 'removes' } : { kind: 'adds', bytes: RECORDS_BYTES }, () => {
      const transaction = new Transaction(this.#tables, account, functionName, this.#content)
      const result = action(transaction)
      const dropped = transaction.settle(secrets)
      return { result, dropped, change: transaction.changed ? this.#record(account, functionName) : null }
    })
    const { result, dropped, change } = await write.catch((error: unknown) => {
      // A commit that failed while it was flushed may be there all the same.
      this.#resolved.delete(`${account}/${functionName}`)
      throw error
    })
    if (change !== null) this.#announce(change)
    return { result, dropped }
  }

  /** What `commit` would do, with nothing changed. Throws as it does. */
  async draft<T>(account: string, functionName: string, purpose: CommitPurpose, action: (transaction: FunctionTransaction) => T): Promise<Draft<T>> {
    const drafts: Draft<T>[] = []
    const key: FunctionKey = [account, functionName]
    const write = this.#environment.write(purpose.kind === 'delete' ? { kind: 'removes' } : { kind: 'adds', bytes: RECORDS_BYTES }, () => {
      const before = readState(this.#tables, key)
      const transaction = new Transaction(this.#tables, account, functionName, this.#content)
      const result = action(transaction)
      const dropped = transaction.settle(purpose.kind === 'publish' ? purpose.secrets : null)
      const seq = decodeOrNull<number>(this.#tables.changeOf.getBinary(key)) ?? 0
      drafts.push({ result, dropped, changed: transaction.changed, state: readState(this.#tables, key), before, seq, named: transaction.named() })
      throw UNDO
    })
    await write.catch((error: unknown) => {
      if (error !== UNDO) throw error
    })
    const [draft] = drafts
    if (draft === undefined) throw UNDO
    return draft
  }

  /** Puts what was committed elsewhere, in one transaction, in order (R3: their numbers go on from there). Objects that are not here yet are named all the same. */
  async adopt(states: readonly ForeignState[], bytes: number): Promise<void> {
    const changes = await this.#environment.write({ kind: 'adds', bytes }, () =>
      states.map(({ account, functionName, seq, state }) => {
        writeState(this.#tables, this.#content, [account, functionName], state)
        return this.#record(account, functionName, seq)
      }),
    )
    for (const change of changes) this.#announce(change)
  }

  /** The feed begins anew, with numbers of another sequence. Until `setHorizon` everybody has to compare everything. */
  async restartFeed(): Promise<void> {
    const { changes, changeOf, tombstones, meta } = this.#tables
    await this.#environment.write({ kind: 'removes' }, () => {
      for (const table of [changes, tombstones]) for (const key of [...table.getKeys()]) void table.remove(key)
      for (const key of [...changeOf.getKeys()]) void changeOf.remove(key)
      void meta.put(SEQ_KEY, encode(0))
      void meta.put(HORIZON_KEY, encode(Number.MAX_SAFE_INTEGER))
    })
    this.#seq = 0
  }

  /** Whoever knows an older number than the last has to compare everything from now on. */
  async setHorizon(): Promise<void> {
    await this.#environment.write({ kind: 'removes' }, () => void this.#tables.meta.put(HORIZON_KEY, encode(readNumber(this.#tables.meta, SEQ_KEY))))
  }

  objectKeys(account: string, { images, bundles }: { readonly images: readonly ImageId[]; readonly bundles: readonly string[] }): ObjectKey[] {
    return [...images.map((id) => this.#content.imageKey(account, id)), ...bundles.map((id) => this.#content.bundleKey(account, id))]
  }

  /** Number of the function's last change; 0: none is remembered. */
  seqOf(account: string, functionName: string): number {
    return decodeOrNull<number>(this.#tables.changeOf.getBinary([account, functionName])) ?? 0
  }

  /** The function as it is; null: there is none. */
  stateOf(account: string, functionName: string): FunctionState | null {
    return readState(this.#tables, [account, functionName])
  }

  /** Names of all functions, some at a time while they change. */
  *names(): Generator<{ readonly account: string; readonly functionName: string }> {
    for (const { key: [account, functionName] } of pages(this.#tables.functions)) yield { account, functionName }
  }

  /** Deletions that the feed remembers. */
  deletions(): { readonly account: string; readonly functionName: string; readonly seq: number }[] {
    return [...this.#tables.tombstones.getRange()].map(({ key: seq, value }) => {
      const [account, functionName] = decode<FunctionKey>(value)
      return { account, functionName, seq }
    })
  }

  /** A word that is kept beside the records. */
  note(name: string): string | null {
    return decodeOrNull<string>(this.#tables.meta.getBinary(`note-${name}`))
  }

  async putNote(name: string, text: string): Promise<void> {
    await this.#environment.write({ kind: 'removes' }, () => void this.#tables.meta.put(`note-${name}`, encode(text)))
  }

  /** What runs for a qualifier; null means `$LATEST`. Throws ERR_FUNCTION_NOT_FOUND, ERR_RESOURCE_NOT_FOUND. */
  resolve(account: string, functionName: string, qualifier: string | null): BuildSpec {
    const wanted = qualifier ?? LATEST
    const cached = this.#resolved.get(`${account}/${functionName}`)?.get(wanted)
    if (cached !== undefined) return cached
    const reader = this.read(account, functionName)
    const record = reader.function()
    if (record === null) throw new CodedError('ERR_FUNCTION_NOT_FOUND', [functionName])
    const version = findVersion(reader, record, wanted)
    if (version === null) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`Function not found: ${functionArn(this.#regionName, account, functionName, wanted)}`])
    const spec = this.#toSpec(account, functionName, version)
    this.#remember(account, functionName, wanted, spec)
    return spec
  }

  /** The build of this key, as long as a version names it: what a session that began with it goes on with. */
  buildOf(account: string, functionName: string, key: BuildKey): BuildSpec | null {
    for (const spec of this.#resolved.get(`${account}/${functionName}`)?.values() ?? []) if (spec.key === key) return spec
    const reader = this.read(account, functionName)
    const latest = reader.function()?.latest
    const version = latest?.build.key === key ? latest : reader.versions(0, VERSIONS_PER_FUNCTION_MAX).find(({ build }) => build.key === key)
    return version === undefined ? null : this.resolve(account, functionName, version.version)
  }

  /** Throws ERR_STORE_KEY if they were sealed with another keyring. */
  secretsOf(account: string, functionName: string, secretsId: string | null): Secrets {
    return secretsId === null ? {} : this.#tables.secrets.read(account, functionName, secretsId)
  }

  /**
   * Every object that a record names, some of them more than once. Records are read a page at a time while they change:
   * one that is there from start to end is met, and one that comes meanwhile has claimed what it names.
   */
  *liveObjects(): Generator<ObjectKey> {
    for (const { account, version } of this.#allVersions()) {
      for (const imageId of version.build.imageIds) yield this.#content.imageKey(account, imageId)
      yield this.#content.bundleKey(account, version.code.zipId)
      yield this.#content.bundleKey(account, version.code.moduleId)
    }
  }

  /** See SecretsTable.reseal. */
  resealSecrets(): Promise<number> {
    return this.#tables.secrets.reseal()
  }

  /** A version of the function whose build runs `imageId`; null if there is none. */
  versionOfImage(account: string, functionName: string, imageId: ImageId): VersionRecord | null {
    const reader = this.read(account, functionName)
    const latest = reader.function()?.latest
    if (latest === undefined) return null
    const runs = ({ build }: VersionRecord): boolean => build.imageIds.at(-1) === imageId
    return runs(latest) ? latest : (reader.versions(0, VERSIONS_PER_FUNCTION_MAX).find(runs) ?? null)
  }

  /**
   * Number of the last change; 0 when there was none. What `resolve` says afterwards is at least as new: who keeps it
   * under this number and hears of a later change knows that it may be outdated.
   */
  seq(): number {
    return this.#seq
  }

  /** `listener` is called after a change is on disk, in order of `seq`. Returns a function that ends it. */
  onChange(listener: (change: FunctionChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The newest change of every function that changed after `seq`, ascending. */
  changesSince(seq: number, limit: number): ChangesSince {
    if (seq < readNumber(this.#tables.meta, HORIZON_KEY) || seq > this.seq()) return { kind: 'resync', seq: this.seq() }
    const entries = [...this.#tables.changes.getRange({ start: seq + 1, limit: limit + 1 })]
    const changes = entries.slice(0, limit).map(({ key, value }) => this.#changeAt(key, ...decode<FunctionKey>(value)))
    return { kind: 'changes', changes, more: entries.length > limit }
  }

  /** Every function as its last change left it; those that are deleted are not among them. Reads the whole registry. */
  *functions(): Generator<FunctionChange> {
    for (const { key: [account, functionName] } of this.#tables.functions.getRange()) {
      const stored = this.#tables.changeOf.getBinary([account, functionName])
      if (stored !== undefined) yield this.#changeAt(decode<number>(stored), account, functionName)
    }
  }

  /** Builds that a function's versions name now, and the number of its last change; empty and 0 if there is none. */
  liveBuilds(account: string, functionName: string): { readonly seq: number; readonly keys: readonly BuildKey[] } {
    const stored = this.#tables.changeOf.getBinary([account, functionName])
    if (stored === undefined) return { seq: 0, keys: [] }
    const seq = decode<number>(stored)
    return { seq, keys: this.#changeAt(seq, account, functionName).liveKeys }
  }

  /** Versions whose image was not made by `engineBuild`. Reads the whole registry. */
  staleVersions(engineBuild: string): { readonly account: string; readonly functionName: string; readonly version: string }[] {
    const stale: { account: string; functionName: string; version: string }[] = []
    for (const { key: [account, functionName], value } of this.#tables.functions.getRange()) {
      if (decode<FunctionRecord>(value).latest.build.engineBuild !== engineBuild) stale.push({ account, functionName, version: LATEST })
    }
    for (const { key: [account, functionName], value } of this.#tables.versions.getRange()) {
      const { version, build } = decode<VersionRecord>(value)
      if (build.engineBuild !== engineBuild) stale.push({ account, functionName, version })
    }
    return stale
  }

  /** Compares everything with R2 and R3 and returns what is wrong, one line each. Reads the whole registry. */
  audit(): string[] {
    return audit(this.#tables, this.#content)
  }

  *#allVersions(): Generator<{ readonly account: string; readonly version: VersionRecord }> {
    for (const { key: [account], value } of pages(this.#tables.functions)) yield { account, version: decode<FunctionRecord>(value).latest }
    for (const { key: [account], value } of pages(this.#tables.versions)) yield { account, version: decode<VersionRecord>(value) }
  }

  #announce(change: FunctionChange): void {
    this.#resolved.delete(`${change.account}/${change.functionName}`)
    this.#seq = Math.max(this.#seq, change.seq)
    for (const listener of this.#listeners) {
      try {
        listener(change)
      } catch (error) {
        // The write is done and on disk: its client must not be told otherwise.
        this.#log.error('a listener for changes failed', { seq: change.seq, reason: String(error) })
      }
    }
  }

  #toSpec(account: string, functionName: string, version: VersionRecord): BuildSpec {
    const imageId = version.build.imageIds.at(-1)
    if (imageId === undefined) throw new CodedError('ERR_STORE_FAILED', [`${version.build.key} has no image`])
    return {
      key: version.build.key,
      imageId,
      handlerKind: version.build.handlerKind,
      account,
      functionName,
      version: version.version,
      limits: version.settings.limits,
      traits: version.settings.traits,
      secrets: this.secretsOf(account, functionName, version.settings.secretsId),
      services: version.settings.services ?? [],
    }
  }

  #remember(account: string, functionName: string, qualifier: string, spec: BuildSpec): void {
    const key = `${account}/${functionName}`
    const known = this.#resolved.get(key)
    if (known !== undefined) {
      known.set(qualifier, spec)
      return
    }
    // Emptied as a whole when full: it only saves reading a record, and a working set of that many functions is rare.
    if (this.#resolved.size >= RESOLVED_FUNCTIONS_CACHED_MAX) this.#resolved.clear()
    this.#resolved.set(key, new Map([[qualifier, spec]]))
  }

  /** R3, inside a transaction. */
  #record(account: string, functionName: string, seq = readNumber(this.#tables.meta, SEQ_KEY) + 1): FunctionChange {
    const { changes, changeOf, tombstones, meta } = this.#tables
    const key: FunctionKey = [account, functionName]
    const previous = changeOf.getBinary(key)
    if (previous !== undefined) {
      const previousSeq = decode<number>(previous)
      void changes.remove(previousSeq)
      void tombstones.remove(previousSeq)
    }
    void meta.put(SEQ_KEY, encode(Math.max(seq, readNumber(meta, SEQ_KEY))))
    void changes.put(seq, encode(key))
    void changeOf.put(key, encode(seq))
    if (!this.#tables.functions.doesExist(key)) {
      void tombstones.put(seq, encode(key))
      this.#forgetTombstones()
    }
    return this.#changeAt(seq, account, functionName)
  }

  #forgetTombstones(): void {
    const { changes, changeOf, tombstones, meta } = this.#tables
    let excess = tombstones.getCount() - this.#tombstonesMax
    if (excess <= 0) return
    for (const { key, value } of [...tombstones.getRange({ limit: excess })]) {
      void tombstones.remove(key)
      void changes.remove(key)
      void changeOf.remove(decode<FunctionKey>(value))
      void meta.put(HORIZON_KEY, encode(key))
      excess -= 1
    }
  }

  #changeAt(seq: number, account: string, functionName: string): FunctionChange {
    const reader = this.read(account, functionName)
    const record = reader.function()
    const liveKeys = new Set<BuildKey>()
    if (record !== null) {
      liveKeys.add(record.latest.build.key)
      for (const version of reader.versions(0, Number.MAX_SAFE_INTEGER)) liveKeys.add(version.build.key)
    }
    return { seq, account, functionName, deleted: record === null, latest: record?.latest.build.key ?? null, liveKeys: [...liveKeys] }
  }
}

function findVersion(reader: FunctionReader, record: FunctionRecord, qualifier: string): VersionRecord | null {
  if (qualifier === LATEST) return record.latest
  if (isVersionNumber(qualifier)) return reader.version(qualifier)
  const alias = reader.alias(qualifier)
  if (alias === null) return null
  return alias.functionVersion === LATEST ? record.latest : reader.version(alias.functionVersion)
}
