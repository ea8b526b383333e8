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
 * Tables (keys are arrays, ordered part by part): functions [account, name], versions [account, name, number],
 * aliases [account, name, alias], secrets (SecretsTable),
 * changes [seq] -> [account, name], changeOf [account, name] -> seq, tombstones [seq], registryMeta.
 */
import type { BuildKey, ImageId } from '../shared/brand.ts'
import type { AliasRecord, FunctionReader, FunctionRecord, FunctionTransaction, VersionRecord } from '../shared/api/records.ts'
import { LATEST, functionArn, isVersionNumber } from '../shared/api/names.ts'
import { CodedError } from '../shared/errors.ts'
import { CHANGE_TOMBSTONES_MAX, VERSIONS_PER_FUNCTION_MAX } from '../shared/limits.ts'
import { silentLog, type Log } from '../shared/log.ts'
import type { Keyring } from '../shared/store/keyring.ts'
import type { LmdbEnvironment, Table } from '../shared/store/lmdb-environment.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import type { BuildSpec } from '../shared/worker/types.ts'
import type { Content } from './content.ts'
import { SecretsTable, type Secrets } from './secrets.ts'

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

/** Secrets that a commit brings along. */
export interface NewSecrets {
  readonly id: string
  readonly values: Secrets
}

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

type FunctionKey = [account: string, name: string]
type PartKey = [account: string, name: string, part: string | number]

/** Records of one commit at most, bytes. */
const RECORDS_BYTES = 65_536
const RESOLVED_FUNCTIONS_CACHED_MAX = 10_000
/** Records of one page of a pass over all of them. */
const ROWS_PER_PAGE = 100
const SEQ_KEY = 'seq'
const HORIZON_KEY = 'horizon'
/** Sorts after every string and number that is a key's part. */
const AFTER_ALL = Buffer.from([0xff])

/** Where all of it is, secrets included: what an export copies row by row. Keys of all are `ordered`. */
export const REGISTRY_TABLES = ['functions', 'versions', 'aliases', 'secrets', 'changes', 'changeOf', 'tombstones', 'registryMeta'] as const

interface Tables {
  readonly functions: Table<FunctionKey>
  readonly versions: Table<PartKey>
  readonly aliases: Table<PartKey>
  readonly secrets: SecretsTable
  readonly changes: Table<number>
  readonly changeOf: Table<FunctionKey>
  readonly tombstones: Table<number>
  readonly meta: Table<string>
}

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
    const { environment } = options
    this.#tables = {
      functions: environment.table('functions', 'ordered'),
      versions: environment.table('versions', 'ordered'),
      aliases: environment.table('aliases', 'ordered'),
      secrets: new SecretsTable(environment, options.keyring),
      changes: environment.table('changes', 'ordered'),
      changeOf: environment.table('changeOf', 'ordered'),
      tombstones: environment.table('tombstones', 'ordered'),
      meta: environment.table('registryMeta', 'ordered'),
    }
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
    this.#seq = change.seq
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
  #record(account: string, functionName: string): FunctionChange {
    const { changes, changeOf, tombstones, meta } = this.#tables
    const key: FunctionKey = [account, functionName]
    const previous = changeOf.getBinary(key)
    if (previous !== undefined) {
      const previousSeq = decode<number>(previous)
      void changes.remove(previousSeq)
      void tombstones.remove(previousSeq)
    }
    const seq = readNumber(meta, SEQ_KEY) + 1
    void meta.put(SEQ_KEY, encode(seq))
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

class Reader implements FunctionReader {
  protected readonly tables: Tables
  protected readonly account: string
  protected readonly name: string

  constructor(tables: Tables, account: string, name: string) {
    this.tables = tables
    this.account = account
    this.name = name
  }

  function(): FunctionRecord | null {
    return decodeOrNull(this.tables.functions.getBinary([this.account, this.name]))
  }

  version(version: string): VersionRecord | null {
    const number = Number(version)
    // `01` is not version 1.
    if (String(number) !== version) return null
    return decodeOrNull(this.tables.versions.getBinary([this.account, this.name, number]))
  }

  versions(after: number, limit: number): VersionRecord[] {
    const range = this.tables.versions.getRange({ start: [this.account, this.name, after + 1], end: [this.account, this.name, AFTER_ALL], limit })
    return [...range].map(({ value }) => decode(value))
  }

  versionCount(): number {
    return this.tables.versions.getKeysCount({ start: [this.account, this.name, 0], end: [this.account, this.name, AFTER_ALL] })
  }

  alias(name: string): AliasRecord | null {
    return decodeOrNull(this.tables.aliases.getBinary([this.account, this.name, name]))
  }

  aliases(after: string, limit: number): AliasRecord[] {
    const range = this.tables.aliases.getRange({ start: [this.account, this.name, after], end: [this.account, this.name, AFTER_ALL], limit: limit === Number.MAX_SAFE_INTEGER ? limit : limit + 1 })
    return [...range].filter(({ key }) => key[2] !== after).slice(0, limit).map(({ value }) => decode(value))
  }

  aliasCount(): number {
    return this.tables.aliases.getKeysCount({ start: [this.account, this.name, ''], end: [this.account, this.name, AFTER_ALL] })
  }
}

/** Collects what the records name before and after and settles it at the end (R2), so that no order of calls matters. */
class Transaction extends Reader implements FunctionTransaction {
  readonly #content: Content
  readonly #imagesNamed = new Set<ImageId>()
  readonly #sourcesNamed = new Set<string>()
  readonly #ownImagesBefore = new Set<ImageId>()
  readonly #secretDeltas = new Map<string, number>()
  changed = false

  constructor(tables: Tables, account: string, name: string, content: Content) {
    super(tables, account, name)
    this.#content = content
  }

  putFunction(record: FunctionRecord): void {
    this.#count(this.function()?.latest ?? null, record.latest)
    void this.tables.functions.put([this.account, this.name], encode(record))
  }

  putVersion(record: VersionRecord): void {
    this.#count(this.version(record.version), record)
    void this.tables.versions.put([this.account, this.name, Number(record.version)], encode(record))
  }

  deleteVersion(version: string): void {
    this.#count(this.version(version), null)
    void this.tables.versions.remove([this.account, this.name, Number(version)])
  }

  putAlias(record: AliasRecord): void {
    this.changed = true
    void this.tables.aliases.put([this.account, this.name, record.name], encode(record))
  }

  deleteAlias(name: string): void {
    this.changed = true
    void this.tables.aliases.remove([this.account, this.name, name])
  }

  deleteFunction(): void {
    for (const alias of this.aliases('', Number.MAX_SAFE_INTEGER)) this.deleteAlias(alias.name)
    for (const version of this.versions(0, Number.MAX_SAFE_INTEGER)) this.deleteVersion(version.version)
    this.#count(this.function()?.latest ?? null, null)
    void this.tables.functions.remove([this.account, this.name])
  }

  functionCount(): number {
    return this.tables.functions.getKeysCount({ start: [this.account, ''], end: [this.account, AFTER_ALL] })
  }

  /** Claims what is named. Returns the function's own images that it names no more. Throws when R2 would be broken. */
  settle(newSecrets: NewSecrets | null): ImageId[] {
    for (const imageId of this.#imagesNamed) {
      if (!this.#content.claimImage(this.account, imageId)) throw new CodedError('ERR_STORE_FAILED', [`image ${imageId} is missing`])
    }
    for (const id of this.#sourcesNamed) {
      if (!this.#content.claimBundle(this.account, id)) throw new CodedError('ERR_STORE_FAILED', [`source ${id} is missing`])
    }
    for (const [id, delta] of this.#secretDeltas) {
      if (delta !== 0) this.tables.secrets.count([this.account, this.name, id], delta, newSecrets?.id === id ? newSecrets.values : null)
    }
    if (this.#ownImagesBefore.size === 0) return []
    const kept = new Set([this.function()?.latest, ...this.versions(0, Number.MAX_SAFE_INTEGER)].map((version) => version?.build.imageIds.at(-1)))
    return [...this.#ownImagesBefore].filter((imageId) => !kept.has(imageId))
  }

  #count(before: VersionRecord | null, after: VersionRecord | null): void {
    this.changed = true
    const secretsId = { before: before?.settings.secretsId ?? null, after: after?.settings.secretsId ?? null }
    if (secretsId.before !== null) add(this.#secretDeltas, secretsId.before, -1)
    if (secretsId.after !== null) add(this.#secretDeltas, secretsId.after, 1)
    const own = before?.build.imageIds.at(-1)
    if (own !== undefined) this.#ownImagesBefore.add(own)
    if (after === null) return
    for (const imageId of after.build.imageIds) this.#imagesNamed.add(imageId)
    this.#sourcesNamed.add(after.code.zipId).add(after.code.moduleId)
  }
}

function audit(tables: Tables, content: Content): string[] {
  const problems: string[] = []
  const secrets = new Map<string, number>()
  const functionKeys = new Set<string>()
  const visit = (account: string, name: string, version: VersionRecord): void => {
    for (const imageId of version.build.imageIds) {
      if (!content.hasImage(account, imageId)) problems.push(`${account}/${name} version ${version.version}: image ${imageId} is missing`)
    }
    for (const id of [version.code.zipId, version.code.moduleId]) {
      if (!content.hasBundle(account, id)) problems.push(`${account}/${name} version ${version.version}: source ${id} is missing`)
    }
    if (version.settings.secretsId !== null) add(secrets, JSON.stringify([account, name, version.settings.secretsId]), 1)
  }
  for (const { key, value } of tables.functions.getRange()) {
    functionKeys.add(key.join('/'))
    visit(...key, decode<FunctionRecord>(value).latest)
    if (!tables.changeOf.doesExist(key)) problems.push(`${key.join('/')}: not in the change feed`)
  }
  for (const { key: [account, name, number], value } of tables.versions.getRange()) {
    if (!functionKeys.has(`${account}/${name}`)) problems.push(`${account}/${name} version ${number}: the function is missing`)
    visit(account, name, decode<VersionRecord>(value))
  }
  for (const { key: [account, name, alias], value } of tables.aliases.getRange()) {
    const target = decode<AliasRecord>(value).functionVersion
    if (!functionKeys.has(`${account}/${name}`)) problems.push(`${account}/${name} alias ${alias}: the function is missing`)
    if (target !== LATEST && !tables.versions.doesExist([account, name, Number(target)])) problems.push(`${account}/${name} alias ${alias}: version ${target} is missing`)
  }
  problems.push(...tables.secrets.audit(secrets))
  for (const { key, value } of tables.changeOf.getRange()) {
    const change = tables.changes.getBinary(decode<number>(value))
    if (change === undefined || decode<FunctionKey>(change).join('/') !== key.join('/')) problems.push(`${key.join('/')}: its change is missing`)
  }
  if (tables.changes.getCount() !== tables.changeOf.getCount()) problems.push('the change feed has entries of no function')
  return problems
}

/** All rows in order, read some at a time: what changes meanwhile is seen as it is when its place is reached. */
function* pages<K extends FunctionKey | PartKey>(table: Table<K>): Generator<{ readonly key: K; readonly value: Uint8Array }> {
  for (let after: K | null = null; ;) {
    const start: { start?: K } = after === null ? {} : { start: after }
    const last: string | null = after === null ? null : JSON.stringify(after)
    const rows: { key: K; value: Uint8Array }[] = [...table.getRange({ ...start, limit: ROWS_PER_PAGE + 1 })].filter(({ key }) => JSON.stringify(key) !== last)
    yield* rows
    after = rows.at(-1)?.key ?? null
    if (after === null) return
  }
}

function add<K>(counts: Map<K, number>, key: K, delta: number): void {
  counts.set(key, (counts.get(key) ?? 0) + delta)
}

function readNumber(table: Table<string>, key: string): number {
  return decodeOrNull<number>(table.getBinary(key)) ?? 0
}

function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** Only what `encode` wrote is read. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- each table holds one type, named by the reader
function decode<T>(bytes: Uint8Array): T {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()) as T
}

// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as above
function decodeOrNull<T>(bytes: Uint8Array | undefined): T | null {
  return bytes === undefined ? null : decode<T>(bytes)
}
