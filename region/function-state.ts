/**
 * All rows of one function, as bytes, and as they travel between nodes: a head, which is one document and names everything
 * else by its digest, and rows, which never change. So a commit writes one document and the rows that are new, a
 * function of VERSIONS_PER_FUNCTION_MAX versions stays far below what a document may have, and who reads a head fetches
 * only rows that it does not have.
 *
 *   head   { format, commitId, record, aliases, versions: [[number, digest]], secrets: [[id, digest, refs]] }
 *   rows   a version's record; a sealed set of secrets
 */
import { hash } from 'node:crypto'
import { z } from 'zod'
import type { AliasRecord, FunctionRecord, VersionRecord } from '../shared/api/records.ts'
import type { ImageId } from '../shared/brand.ts'
import { CodedError } from '../shared/errors.ts'
import type { Content } from './content.ts'
import { AFTER_ALL, decode, encode, type FunctionKey, type Tables } from './registry-tables.ts'
import type { StoredSecrets } from './secrets.ts'

export interface FunctionState {
  /** A FunctionRecord, as stored. */
  readonly record: Uint8Array
  /** VersionRecords by number. */
  readonly versions: ReadonlyMap<number, Uint8Array>
  readonly aliases: ReadonlyMap<string, Uint8Array>
  readonly secrets: ReadonlyMap<string, StoredSecrets>
}

export interface FunctionHead {
  /** New with each commit: who does not know whether its commit has happened finds it, or not. */
  readonly commitId: string
  readonly record: FunctionRecord
  readonly aliases: readonly AliasRecord[]
  readonly versions: readonly (readonly [number: number, digest: string])[]
  readonly secrets: readonly (readonly [id: string, digest: string, refs: number])[]
}

const digest = z.string().regex(/^[0-9a-f]{64}$/)
/** Records are what a node with the same code wrote, and are taken as they are. */
const headSchema = z.object({
  format: z.literal(1),
  commitId: z.string(),
  record: z.looseObject({ account: z.string(), name: z.string(), latest: z.looseObject({}) }),
  aliases: z.array(z.looseObject({ name: z.string() })),
  versions: z.array(z.tuple([z.int().min(1), digest])),
  secrets: z.array(z.tuple([z.string(), digest, z.int().min(1)])),
})

export function readState(tables: Tables, [account, name]: FunctionKey): FunctionState | null {
  const record = tables.functions.getBinary([account, name])
  if (record === undefined) return null
  const rowsOf = <P extends string | number>(table: Tables['versions'], first: P): Map<P, Uint8Array> =>
    new Map([...table.getRange({ start: [account, name, first], end: [account, name, AFTER_ALL] })].map(({ key, value }) => [key[2] as P, Uint8Array.from(value)]))
  return { record: Uint8Array.from(record), versions: rowsOf(tables.versions, 0), aliases: rowsOf(tables.aliases, ''), secrets: tables.secrets.rowsOf(account, name) }
}

/** Inside a transaction: the function becomes this. What of its objects is here is claimed. */
export function writeState(tables: Tables, content: Content, [account, name]: FunctionKey, state: FunctionState | null): void {
  const before = readState(tables, [account, name])
  const claim = (version: VersionRecord): void => {
    for (const imageId of version.build.imageIds) content.claimImage(account, imageId)
    for (const id of [version.code.zipId, version.code.moduleId]) content.claimBundle(account, id)
  }
  if (state === null) void tables.functions.remove([account, name])
  else {
    void tables.functions.put([account, name], state.record)
    claim(decode<FunctionRecord>(state.record).latest)
  }
  for (const number of before?.versions.keys() ?? []) if (state?.versions.has(number) !== true) void tables.versions.remove([account, name, number])
  for (const [number, row] of state?.versions ?? []) {
    if (isSame(before?.versions.get(number), row)) continue
    void tables.versions.put([account, name, number], row)
    claim(decode<VersionRecord>(row))
  }
  for (const alias of before?.aliases.keys() ?? []) if (state?.aliases.has(alias) !== true) void tables.aliases.remove([account, name, alias])
  for (const [alias, row] of state?.aliases ?? []) if (!isSame(before?.aliases.get(alias), row)) void tables.aliases.put([account, name, alias], row)
  tables.secrets.putRows(account, name, state?.secrets ?? new Map())
}

/** Rows of a state by their digest. */
export function rowsOf({ versions, secrets }: FunctionState): Map<string, Uint8Array> {
  const rows = new Map<string, Uint8Array>()
  for (const row of versions.values()) rows.set(rowDigest(row), row)
  for (const { sealed } of secrets.values()) rows.set(rowDigest(sealed), sealed)
  return rows
}

export function encodeHead(state: FunctionState, commitId: string): Uint8Array {
  const { record, versions, aliases, secrets } = state
  return encode({
    format: 1,
    commitId,
    record: decode<FunctionRecord>(record),
    aliases: [...aliases.values()].map((alias) => decode<AliasRecord>(alias)),
    versions: [...versions].map(([number, row]) => [number, rowDigest(row)]),
    secrets: [...secrets].map(([id, { refs, sealed }]) => [id, rowDigest(sealed), refs]),
  })
}

/** Throws ERR_STORE_FAILED for what is no head. */
export function decodeHead(bytes: Uint8Array): FunctionHead {
  try {
    const head = decode<unknown>(bytes)
    // The original is used, not zod's copy: members keep their order.
    headSchema.parse(head)
    return head as FunctionHead
  } catch (error) {
    throw new CodedError('ERR_STORE_FAILED', ['a function\'s head cannot be read'], { cause: error })
  }
}

/** Digests that a head names. */
export function digestsOf({ versions, secrets }: Pick<FunctionHead, 'versions' | 'secrets'>): string[] {
  return [...versions.map(([, row]) => row), ...secrets.map(([, row]) => row)]
}

/** The state that a head and its rows make; rows that are not there are left out. */
export function stateFrom(head: FunctionHead, row: (digest: string) => Uint8Array | undefined): FunctionState {
  const versions = new Map<number, Uint8Array>()
  for (const [number, digestOfRow] of head.versions) {
    const found = row(digestOfRow)
    if (found !== undefined) versions.set(number, found)
  }
  const secrets = new Map<string, StoredSecrets>()
  for (const [id, digestOfRow, refs] of head.secrets) {
    const sealed = row(digestOfRow)
    if (sealed !== undefined) secrets.set(id, { refs, sealed })
  }
  return { record: encode(head.record), versions, aliases: new Map(head.aliases.map((alias) => [alias.name, encode(alias)])), secrets }
}

/** Objects that a state names, some of them more than once. */
export function objectsOf(state: FunctionState, unless: FunctionState | null): { readonly images: readonly ImageId[]; readonly bundles: readonly string[] } {
  const versions = [decode<FunctionRecord>(state.record).latest]
  for (const [number, row] of state.versions) if (!isSame(unless?.versions.get(number), row)) versions.push(decode<VersionRecord>(row))
  return { images: versions.flatMap(({ build }) => build.imageIds), bundles: versions.flatMap(({ code }) => [code.zipId, code.moduleId]) }
}

export function rowDigest(row: Uint8Array): string {
  return hash('sha256', row)
}

function isSame(one: Uint8Array | undefined, other: Uint8Array): boolean {
  return one !== undefined && Buffer.from(one.buffer, one.byteOffset, one.byteLength).equals(other)
}
