/**
 * The rows of a registry: read access to one function, the transaction that changes one, and the comparison of everything
 * with R2 and R3 of registry.ts. Whatever writes must run inside a transaction of the environment.
 */
import type { ImageId } from '../shared/brand.ts'
import type { AliasRecord, FunctionReader, FunctionRecord, FunctionTransaction, VersionRecord } from '../shared/api/records.ts'
import { LATEST } from '../shared/api/names.ts'
import { CodedError } from '../shared/errors.ts'
import type { Keyring } from '../shared/store/keyring.ts'
import type { LmdbEnvironment, Table } from '../shared/store/lmdb-environment.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import type { Content } from './content.ts'
import { SecretsTable, type Secrets } from './secrets.ts'

/** Secrets that a commit brings along. */
export interface NewSecrets {
  readonly id: string
  readonly values: Secrets
}

export type FunctionKey = [account: string, name: string]
export type PartKey = [account: string, name: string, part: string | number]

/** Records of one page of a pass over all of them. */
const ROWS_PER_PAGE = 100
export const SEQ_KEY = 'seq'
export const HORIZON_KEY = 'horizon'
/** Sorts after every string and number that is a key's part. */
export const AFTER_ALL = Buffer.from([0xff])

/** Where all of it is, secrets included: what an export copies row by row. Keys of all are `ordered`. */
export const REGISTRY_TABLES = ['functions', 'versions', 'aliases', 'secrets', 'changes', 'changeOf', 'tombstones', 'registryMeta'] as const

export interface Tables {
  readonly functions: Table<FunctionKey>
  readonly versions: Table<PartKey>
  readonly aliases: Table<PartKey>
  readonly secrets: SecretsTable
  readonly changes: Table<number>
  readonly changeOf: Table<FunctionKey>
  readonly tombstones: Table<number>
  readonly meta: Table<string>
}

export function openTables(environment: LmdbEnvironment, keyring: Keyring): Tables {
  return {
    functions: environment.table('functions', 'ordered'),
    versions: environment.table('versions', 'ordered'),
    aliases: environment.table('aliases', 'ordered'),
    secrets: new SecretsTable(environment, keyring),
    changes: environment.table('changes', 'ordered'),
    changeOf: environment.table('changeOf', 'ordered'),
    tombstones: environment.table('tombstones', 'ordered'),
    meta: environment.table('registryMeta', 'ordered'),
  }
}

export class Reader implements FunctionReader {
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
export class Transaction extends Reader implements FunctionTransaction {
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

  /** Objects that the records put here name. */
  named(): ObjectKey[] {
    return [...[...this.#imagesNamed].map((id) => this.#content.imageKey(this.account, id)), ...[...this.#sourcesNamed].map((id) => this.#content.bundleKey(this.account, id))]
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

export function audit(tables: Tables, content: Content): string[] {
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
export function* pages<K extends FunctionKey | PartKey>(table: Table<K>): Generator<{ readonly key: K; readonly value: Uint8Array }> {
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

export function readNumber(table: Table<string>, key: string): number {
  return decodeOrNull<number>(table.getBinary(key)) ?? 0
}

export function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** Only what `encode` wrote is read. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- each table holds one type, named by the reader
export function decode<T>(bytes: Uint8Array): T {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()) as T
}

// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as above
export function decodeOrNull<T>(bytes: Uint8Array | undefined): T | null {
  return bytes === undefined ? null : decode<T>(bytes)
}
