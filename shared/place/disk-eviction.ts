/**
 * What leaves a full disk cache: the images whose use is worth least per byte that dropping them frees. Pure: facts in,
 * plan out.
 *
 * V1: children before parents: an image that another one here is made from stays. A parent is worth at least as much as
 *     the child that was wanted most, so it does not go just because nobody asks for it by itself.
 * V2: for one that comes, only those make room that are clearly worth less (`HYSTERESIS`): near equals do not push each
 *     other out in turns. If that is not enough it is not kept, and nothing leaves.
 * V3: once something has to leave, as much leaves as brings the cache down to `LOW_WATER`: not every image that comes
 *     costs a round.
 */
export interface CacheEntry<Id> {
  readonly id: Id
  readonly parentId: Id | null
  /** What the disk gets back if it goes; what others share with it is not counted. */
  readonly freedBytes: number
  /** Uses, halved with their age, as of now. */
  readonly rate: number
}

export interface EvictionFacts<Id> {
  readonly entries: readonly CacheEntry<Id>[]
  readonly usedBytes: number
  readonly budgetBytes: number
  /** In use by a pull: stays. */
  readonly pinned: ReadonlySet<Id>
  /** What comes; null to look after the budget only. */
  readonly incoming: { readonly bytes: number; readonly rate: number } | null
}

export interface EvictionPlan<Id> {
  /** `refused`: what comes does not earn a place; `evict` is empty then. */
  readonly kind: 'fits' | 'refused'
  /** In this order. */
  readonly evict: readonly Id[]
}

const HYSTERESIS = 0.2
const LOW_WATER = 0.9

interface Leaf<Id> {
  readonly entry: CacheEntry<Id>
  readonly rate: number
  readonly score: number
}

export function planEviction<Id>(facts: EvictionFacts<Id>): EvictionPlan<Id> {
  const { entries, budgetBytes, pinned, incoming } = facts
  let wantedBytes = facts.usedBytes + (incoming?.bytes ?? 0)
  if (wantedBytes <= budgetBytes) return { kind: 'fits', evict: [] }
  const worthMax = incoming === null ? Infinity : scoreOf(incoming.rate, incoming.bytes) / (1 + HYSTERESIS)
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  const children = new Map<Id, number>()
  for (const { parentId } of entries) if (parentId !== null) children.set(parentId, (children.get(parentId) ?? 0) + 1)
  const inheritedRate = new Map<Id, number>()
  const leaves: Leaf<Id>[] = []
  const evict: Id[] = []
  const addLeaf = (entry: CacheEntry<Id>): void => {
    if (pinned.has(entry.id) || (children.get(entry.id) ?? 0) > 0) return
    const rate = Math.max(entry.rate, inheritedRate.get(entry.id) ?? 0)
    const leaf = { entry, rate, score: scoreOf(rate, entry.freedBytes) }
    leaves.splice(placeOf(leaves, leaf.score), 0, leaf)
  }
  for (const entry of entries) addLeaf(entry)
  while (wantedBytes > budgetBytes * LOW_WATER) {
    const lowest = leaves.pop()
    if (lowest === undefined || lowest.score >= worthMax) break
    const { id, parentId, freedBytes } = lowest.entry
    evict.push(id)
    wantedBytes -= freedBytes
    const parent = parentId === null ? undefined : byId.get(parentId)
    if (parent === undefined) continue
    inheritedRate.set(parent.id, Math.max(inheritedRate.get(parent.id) ?? 0, lowest.rate))
    children.set(parent.id, (children.get(parent.id) ?? 1) - 1)
    addLeaf(parent) // V1
  }
  if (wantedBytes > budgetBytes && incoming !== null) return { kind: 'refused', evict: [] } // V2
  return { kind: 'fits', evict }
}

function scoreOf(rate: number, bytes: number): number {
  return rate / Math.max(1, bytes)
}

/** Where a score goes in a list that falls: the lowest is last, where taking it costs nothing. */
function placeOf<Id>(leaves: readonly Leaf<Id>[], score: number): number {
  let low = 0
  let high = leaves.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((leaves[middle]?.score ?? 0) > score) low = middle + 1
    else high = middle
  }
  return low
}
