/** What hand-off.ts keeps about one key: who waits, whom it asks, who asks for it, and when to look again. */
import type { HandOffRequest, ItemStore, LeaseFacts } from './hand-off-types.ts'
import type { Item, ItemLedger } from './item-ledger.ts'
import type { KeyKind, Ring } from './ring.ts'

/** What predecessors of a pool key get to answer; a request waits no longer for what can be made. */
export const POOL_WAIT_MS = 50
/** Between two questions to one member about one key: doubled each time. */
export const RETRY_MIN_MS = 100
export const RETRY_MAX_MS = 2_000

/** How long an answer with a state may take: some MB over a slow line. */
export const TAKE_TIMEOUT_MS = 5_000
/** Short messages: a round trip between continents, and some. */
export const ASK_TIMEOUT_MS = 1_000
export const OFFER_RETRY_MS = 500
export const TAKEN_RETRY_MS = 300
export const FATE_RETRY_MS = 2_000
/** How long one that leaves stays to say that it did not take what was given to it: a question of FATE_RETRY_MS and its answer. */
export const LINGER_MS = 3_000
export const READ_RETRY_MS = 500
/** How long an item is kept for an owner that lives and does not take it. Then it is as if it had been lost: old versions of the ring do not stay for ever. */
export const STRANDED_MS = 3_600_000
/** Whoever asked for an item that was busy has priority for so long since it last asked. */
export const WANTED_MS = 5_000

export interface HandOffOptions {
  readonly self: string
  /** Null: none is known yet. What is `single` waits for it. */
  readonly ring: Ring | null
  readonly store: ItemStore
  readonly leases: LeaseFacts
  readonly ledger?: ItemLedger
}

/** A question under way. */
export type Asked =
  | { readonly kind: 'take' | 'offer'; readonly key: string; readonly keyKind: KeyKind; readonly to: string }
  | { readonly kind: 'taken' | 'given'; readonly key: string; readonly keyKind: KeyKind; readonly to: string; readonly id: string; readonly give: number }

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
  /** Since when what is held here belongs to others that do not take it; null: it does not. */
  strandedAtMs: number | null
  /** Which item goes to which of the askers by a version. Pool only. */
  split: { readonly ring: number; readonly count: number; readonly heirs: Map<string, number> } | null
  dueAtMs: number
}

export function newRecord(key: string, kind: KeyKind): KeyRecord {
  return { key, kind, waiting: [], search: null, searchedBy: 0, takes: new Map(), wanted: new Map(), offerAtMs: Infinity, strandedAtMs: null, split: null, dueAtMs: Infinity }
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
