/** What hand-off.ts keeps about one key: who waits, whom it asks, who asks for it, and when to look again. */
import type { HandOffRequest } from './hand-off-types.ts'
import type { Item } from './item-ledger.ts'
import type { KeyKind } from './ring.ts'

/** What predecessors of a pool key get to answer; a request waits no longer for what can be made. */
export const POOL_WAIT_MS = 50
/** Between two questions to one member about one key: doubled each time. */
export const RETRY_MIN_MS = 100
export const RETRY_MAX_MS = 2_000

export interface Target {
  /** `clear`: it has nothing and takes up nothing (H2), or its lease is over. */
  state: 'open' | 'clear'
  askAtMs: number
  waitMs: number
}

export interface Search {
  readonly ring: number
  /** Single: one level. Pool: one for each older version. */
  readonly levels: readonly (readonly string[])[]
  level: number
  levelEndsAtMs: number
  readonly targets: Map<string, Target>
}

export interface KeyRecord {
  readonly key: string
  readonly kind: KeyKind
  readonly waiting: HandOffRequest[]
  search: Search | null
  /** Version of the ring by which all predecessors were asked. Pool only. */
  searchedBy: number
  /** Questions under way that may bring items, by id: whom. */
  readonly takes: Map<number, string>
  /** Who asked for what was busy, and until when it is kept for them. */
  readonly wanted: Map<string, number>
  offerAtMs: number
  /** Which item goes to which of the askers by a version. Pool only. */
  split: { readonly ring: number; readonly count: number; readonly heirs: Map<string, number> } | null
  dueAtMs: number
}

export function newRecord(key: string, kind: KeyKind): KeyRecord {
  return { key, kind, waiting: [], search: null, searchedBy: 0, takes: new Map(), wanted: new Map(), offerAtMs: Infinity, split: null, dueAtMs: Infinity }
}

export function newTarget(nowMs: number): Target {
  return { state: 'open', askAtMs: nowMs, waitMs: RETRY_MIN_MS }
}

export function newSearch(ring: number, levels: readonly (readonly string[])[], nowMs: number): Search {
  return { ring, levels, level: 0, levelEndsAtMs: nowMs + POOL_WAIT_MS, targets: new Map((levels[0] ?? []).map((id) => [id, newTarget(nowMs)])) }
}

/** Which of `count` askers gets which item. Fixed at the first question by a version: items that are given away do not change the others' share. */
export function heirsOf(record: KeyRecord, held: readonly Item[], ring: number, count: number): ReadonlyMap<string, number> {
  if (record.split?.ring !== ring) record.split = { ring, count, heirs: new Map() }
  const { heirs } = record.split
  for (const { id } of held) if (!heirs.has(id)) heirs.set(id, heirs.size % count)
  return heirs
}

/** When there is something to do about a key without anything happening; Infinity: never. */
export function dueAtMsOf(record: KeyRecord, items: readonly Item[]): number {
  const { search } = record
  let dueAtMs = record.offerAtMs
  for (const { deadlineMs } of record.waiting) dueAtMs = Math.min(dueAtMs, deadlineMs)
  for (const untilMs of record.wanted.values()) dueAtMs = Math.min(dueAtMs, untilMs)
  if (search !== null && record.kind === 'pool') dueAtMs = Math.min(dueAtMs, search.levelEndsAtMs)
  if (search !== null && record.kind === 'single') for (const { state, askAtMs } of search.targets.values()) if (state === 'open') dueAtMs = Math.min(dueAtMs, askAtMs)
  for (const { hold, unconfirmed } of items) {
    if (hold.kind === 'given') dueAtMs = Math.min(dueAtMs, hold.askAtMs)
    if (unconfirmed !== null) dueAtMs = Math.min(dueAtMs, unconfirmed.askAtMs)
  }
  return dueAtMs
}
