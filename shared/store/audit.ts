/**
 * Compares everything in a store with what it promises: every manifest opens, every block that one names is there, is
 * what its id and its key say, and carries the roots that it should; counters are right; no row is without its other
 * half. Reads the whole store and changes nothing.
 */
import { toCodedError } from '../errors.ts'
import { openBlock } from './block-seal.ts'
import type { ObjectStore } from './object-store.ts'
import type { ObjectKey } from './object-tables.ts'
import { decodeSealedManifest, openManifest } from './sealed-manifest.ts'
import type { SealedBlockId } from './types.ts'

export interface AuditStep {
  readonly objects: number
  readonly blocks: number
  readonly blockBytes: number
  /** Found since the step before, one line each. */
  readonly problems: readonly string[]
}

const ROWS_PER_STEP = 20

/** In steps of some milliseconds each. The store may be used meanwhile; what is put or deleted then may show as a difference of counters. */
export function* auditSteps(store: ObjectStore): Generator<AuditStep> {
  const { tables } = store
  const checked = new Set<SealedBlockId>()
  const totals = { objects: 0, blocks: 0, blockBytes: 0, manifestBytes: 0, logicalBytes: 0 }
  let problems: string[] = []
  const step = (): AuditStep => {
    const { objects, blocks, blockBytes } = totals
    const found = { objects, blocks, blockBytes, problems }
    problems = []
    return found
  }
  for (let after: ObjectKey | null = null; ;) {
    const keys: ObjectKey[] = tables.objectsAfter(after, ROWS_PER_STEP)
    after = keys.at(-1) ?? null
    if (after === null) break
    for (const key of keys) {
      totals.objects += 1
      problems.push(...auditObject(store, key, checked, totals))
    }
    yield step()
  }
  for (let after: SealedBlockId | null = null; ;) {
    const ids: SealedBlockId[] = tables.blocksAfter(after, ROWS_PER_STEP)
    after = ids.at(-1) ?? null
    if (after === null) break
    for (const id of ids) problems.push(...auditBlock(store, id, totals))
    yield step()
  }
  problems.push(...auditCopies(store))
  const counts: Readonly<Record<string, number>> = { ...store.counts() }
  for (const [name, value] of Object.entries(totals)) if (counts[name] !== value) problems.push(`${name}: counted ${counts[name] ?? 0}, there are ${value}`)
  const entries = tables.entryCounts()
  if (entries.objects !== entries.objectRoots) problems.push(`${entries.objects} manifests, ${entries.objectRoots} roots of objects`)
  if (entries.blocks !== entries.blockRoots) problems.push(`${entries.blocks} blocks, ${entries.blockRoots} roots of blocks`)
  yield step()
}

export function audit(store: ObjectStore): string[] {
  return [...auditSteps(store)].flatMap(({ problems }) => problems)
}

function auditObject(store: ObjectStore, key: ObjectKey, checked: Set<SealedBlockId>, totals: { manifestBytes: number; logicalBytes: number }): string[] {
  const problems: string[] = []
  const name = `object ${key.objectId} of ${key.account}`
  const row = store.tables.object(key)
  const encoded = store.tables.manifest(key)
  if (row === null || encoded === null) return [`${name}: its manifest is missing`]
  if (row.root > store.roots().active) problems.push(`${name}: claimed by root ${row.root}, which is not there yet`)
  totals.manifestBytes += encoded.byteLength
  try {
    const manifest = decodeSealedManifest(encoded, key.objectId)
    const opened = openManifest(store.keyring.unwrap(key.account, key.objectId, row.wrapped), manifest)
    manifest.pieces.forEach(({ id, bytes }, index) => {
      const blockKey = opened.keys[index] ?? null
      if (id === null || blockKey === null) return
      totals.logicalBytes += bytes
      const blockRow = store.tables.blockRow(id)
      if (blockRow !== null && blockRow.root < row.root) problems.push(`${name}: claimed by root ${row.root}, its block ${id} by ${blockRow.root}`)
      if (checked.has(id)) return
      checked.add(id)
      const stored = store.tables.block(id)
      if (stored === null) problems.push(`${name}: block ${id} is missing`)
      else if (openBlock(blockKey, id, stored).byteLength !== bytes) problems.push(`${name}: block ${id} has another length`)
    })
  } catch (error) {
    problems.push(`${name}: ${toCodedError(error).message}`)
  }
  return problems
}

function auditBlock(store: ObjectStore, id: SealedBlockId, totals: { blocks: number; blockBytes: number }): string[] {
  const row = store.tables.blockRow(id)
  if (row === null) return [`block ${id}: its root is missing`]
  totals.blocks += 1
  totals.blockBytes += row.bytes
  if (!store.tables.copies(row.contentName).some((copy) => copy.id === id && copy.saltId === row.saltId)) return [`block ${id}: not in the index of copies`]
  const found = store.checkBlock(id)
  return found === 'intact' ? [] : [`block ${id}: ${found}`]
}

function auditCopies({ tables }: ObjectStore): string[] {
  const problems: string[] = []
  for (let after: Buffer | null = null; ;) {
    const names: Buffer[] = tables.contentNamesAfter(after, ROWS_PER_STEP)
    after = names.at(-1) ?? null
    if (after === null) return problems
    for (const name of names) {
      for (const { id } of tables.copies(name)) if (!tables.blockRow(id)?.contentName.equals(name)) problems.push(`index of copies: block ${id} is not there`)
    }
  }
}
