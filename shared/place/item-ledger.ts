/**
 * Whose each item is, as one member knows it: the lease of single items below the member's own lease. A member serves an
 * item only while it is `idle` or `running` here and its own lease in coordination holds.
 *
 * T1  An item moves, it is never copied: from the moment it is given it is neither served here nor given to anybody else.
 * T2  It comes back only if the taker says that it did not take it by the last giving and never will. If the taker's lease
 *     ends before it has said anything the item is dropped: the taker may have served it, and what is here would be an old state.
 * T3  Whoever took it does not give it further before the giver has confirmed that it is rid of it. So at most one
 *     giving of an item is undecided, and an answer of "never taken" is true for good.
 * T4  A giving is named by a number that is not used twice here. One that arrives again, or names an earlier one, changes nothing.
 */
export type Hold =
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly requestId: string }
  /** By `firstGive` to `lastGive`: the same taker has asked again. `askAtMs`: when to ask what has become of it. */
  | { readonly kind: 'given'; readonly to: string; readonly firstGive: number; readonly lastGive: number; readonly askAtMs: number }
  /** Closed; known only because `unconfirmed` is still to be settled. */
  | { readonly kind: 'gone' }

export interface Item {
  readonly key: string
  readonly id: string
  /** Grows with every move. */
  readonly version: number
  /** Version of the ring by which its holder was last an owner of the key. */
  placedBy: number
  hold: Hold
  /** It came from another member and has not run here. */
  arrived: boolean
  /** Who gave it and does not know yet that we have it (T3); null: nobody. */
  unconfirmed: { readonly from: string; readonly give: number; askAtMs: number } | null
}

/** After a giving, how long until the taker is asked what has become of it: a state of some MB has arrived by then. */
const FATE_AFTER_MS = 500

export class ItemLedger {
  readonly #keys = new Map<string, Map<string, Item>>()
  #gives = 0
  #count = 0

  get count(): number {
    return this.#count
  }

  get(key: string, id: string): Item | null {
    return this.#keys.get(key)?.get(id) ?? null
  }

  /** All of them, in no order that means anything. */
  *items(): Iterable<Item> {
    for (const items of this.#keys.values()) yield* items.values()
  }

  of(key: string): readonly Item[] {
    return [...(this.#keys.get(key)?.values() ?? [])]
  }

  idle(key: string): Item | null {
    for (const item of this.#keys.get(key)?.values() ?? []) if (item.hold.kind === 'idle') return item
    return null
  }

  /** Each `placedBy` that there is, ascending. */
  versions(): readonly number[] {
    const versions = new Set<number>()
    for (const { placedBy } of this.items()) versions.add(placedBy)
    return [...versions].sort((a, b) => a - b)
  }

  begin(key: string, id: string, placedBy: number, requestId: string): Item {
    return this.#put({ key, id, version: 1, placedBy, hold: { kind: 'running', requestId }, arrived: false, unconfirmed: null })
  }

  run(item: Item, requestId: string): void {
    item.hold = { kind: 'running', requestId }
    item.arrived = false
  }

  end(item: Item): void {
    item.hold = { kind: 'idle' }
  }

  /** T1 and T3. */
  mayGive(item: Item, to: string): boolean {
    return (item.hold.kind === 'idle' && item.unconfirmed === null) || (item.hold.kind === 'given' && item.hold.to === to)
  }

  /** The number of this giving. */
  give(item: Item, to: string, nowMs: number): number {
    const give = ++this.#gives
    const firstGive = item.hold.kind === 'given' ? item.hold.firstGive : give
    item.hold = { kind: 'given', to, firstGive, lastGive: give, askAtMs: nowMs + FATE_AFTER_MS }
    return give
  }

  /** The taker has it. True: it was given to it, and is forgotten now. */
  taken(key: string, id: string, by: string, give: number): boolean {
    const item = this.get(key, id)
    if (item?.hold.kind !== 'given' || item.hold.to !== by || give < item.hold.firstGive || give > item.hold.lastGive) return false // T4
    this.remove(item)
    return true
  }

  /** The taker never took it and never will by `give`. True: it is ours again. */
  notTaken(key: string, id: string, by: string, give: number): boolean {
    const item = this.get(key, id)
    if (item?.hold.kind !== 'given' || item.hold.to !== by || give !== item.hold.lastGive) return false // T2, T4
    item.hold = { kind: 'idle' }
    return true
  }

  /** Null: one of that id is served here already. What we had given ourselves comes back this way too: its taker took it. */
  adopt(moved: { readonly key: string; readonly id: string; readonly version: number; readonly give: number }, from: string, placedBy: number): Item | null {
    const known = this.get(moved.key, moved.id)
    if (known !== null && known.hold.kind !== 'given') return null
    if (known !== null) this.remove(known)
    return this.#put({ key: moved.key, id: moved.id, version: moved.version + 1, placedBy, hold: { kind: 'idle' }, arrived: true, unconfirmed: { from, give: moved.give, askAtMs: 0 } })
  }

  /** The giver is rid of it, or no more. */
  confirm(item: Item): void {
    item.unconfirmed = null
    if (item.hold.kind === 'gone') this.remove(item)
  }

  /** It is no more. What its giver has still to hear about is remembered. */
  close(item: Item): void {
    if (item.unconfirmed === null) this.remove(item)
    else item.hold = { kind: 'gone' }
  }

  remove(item: Item): void {
    const items = this.#keys.get(item.key)
    if (items?.get(item.id) !== item) return
    items.delete(item.id)
    this.#count--
    if (items.size === 0) this.#keys.delete(item.key)
  }

  /** All there were. */
  clear(): readonly Item[] {
    const all = [...this.items()]
    this.#keys.clear()
    this.#count = 0
    return all
  }

  #put(item: Item): Item {
    const items = this.#keys.get(item.key) ?? new Map<string, Item>()
    items.set(item.id, item)
    this.#keys.set(item.key, items)
    this.#count++
    return item
  }
}
