/**
 * Hand-off of one member: what it does about requests for keys, about states that it holds and others want, and about those that
 * others hold and it wants (systems 14 and 15). No I/O: every call returns what is to be done (hand-off-types.ts).
 *
 * A request is served at once if an item is idle here; nobody is asked then. Else:
 *   pool    the predecessors by the next older version are asked, all at a time, and 50 ms are given them; then those of the version
 *           before, and so on; then one is made. Answers that come later still bring items.
 *   single  all that may hold the item are asked until each has said that it has nothing, or its lease is certainly over; then it
 *           is made. A request that waits for that fails at its deadline.
 *
 * H1  A single item is served by one member at any instant: by the one whose ledger holds it (T1 to T4) and whose own lease
 *     holds. Making it anew needs the word of everybody who may have it (R4) or the end of his lease.
 * H2  "I have nothing", said to the owner by version v, is a promise: whoever says it takes up nothing for that key by v or an
 *     older version. So its own questions are dropped, and nothing is made by a ring that is older than one it has heard of.
 * H3  Only an owner by the newest version it has heard of asks, and only the newest owner is given anything.
 * H4  What is held for others is offered to them when the ring changes, and when a run ends that they waited for: states follow the ring
 *     without being asked for, so that old versions can be dropped and members can leave.
 * H5  Once the own lease is lost everything stops, for good: the process joins again under another id.
 */
import { HAND_OFF_ITEMS_MAX, HAND_OFF_OFFERS_MAX, HAND_OFF_WAITING_MAX, HAND_OFF_WAITING_PER_KEY_MAX } from '../limits.ts'
import { assertNever } from '../brand.ts'
import type { HandOffAnswer, HandOffEffect, HandOffMachine, HandOffMessage, HandOffRefusal, HandOffRequest, ItemStore, LeaseFacts } from './hand-off-types.ts'
import { ItemLedger } from './item-ledger.ts'
import type { Item } from './item-ledger.ts'
import { isNewer } from './ring.ts'
import type { KeyKind, Ring } from './ring.ts'
import { ASK_TIMEOUT_MS, dueAtMsOf, FATE_RETRY_MS, heirsOf, newRecord, newSearch, newTarget, LINGER_MS, OFFER_RETRY_MS, POOL_WAIT_MS, READ_RETRY_MS, RETRY_MAX_MS, RETRY_MIN_MS, STRANDED_MS, TAKE_TIMEOUT_MS, TAKEN_RETRY_MS, WANTED_MS } from './hand-off-record.ts'
import type { Asked, HandOffOptions, KeyRecord, Search } from './hand-off-record.ts'

export class HandOff implements HandOffMachine {
  readonly #self: string
  readonly #store: ItemStore
  readonly #leases: LeaseFacts
  readonly #ledger: ItemLedger
  #ring: Ring | null
  /** The newest version heard of. */
  #heardOf: number
  #readAtMs = Infinity
  /** Somebody may still ask what has become of what it gave in an answer that was not heard; 0: nobody. */
  #lingerUntilMs = 0
  #lost = false
  readonly #records = new Map<string, KeyRecord>()
  readonly #active = new Set<KeyRecord>()
  readonly #requests = new Map<string, { readonly record: KeyRecord; readonly item: Item | null }>()
  #waiting = 0
  readonly #asks = new Map<number, Asked>()
  #askIds = 0
  #offersUnderWay = 0
  #itemIds = 0

  constructor(options: HandOffOptions) {
    this.#self = options.self
    this.#ring = options.ring
    this.#heardOf = options.ring?.version ?? 0
    this.#store = options.store
    this.#leases = options.leases
    this.#ledger = options.ledger ?? new ItemLedger()
  }

  request(request: HandOffRequest, nowMs: number): readonly HandOffEffect[] {
    const out: HandOffEffect[] = []
    if (this.#requests.has(request.requestId)) return out
    if (!this.#holds(out)) {
      this.#refuse(request, 'ERR_OWNERSHIP_LOST', out)
      return out
    }
    this.#hear(request.ring.version, nowMs, out)
    const record = this.#recordOf(request.key, request.kind)
    if (record.waiting.length >= HAND_OFF_WAITING_PER_KEY_MAX || this.#waiting >= HAND_OFF_WAITING_MAX) {
      this.#refuse(request, 'ERR_QUEUE_FULL', out)
      this.#schedule(record, nowMs)
      return out
    }
    record.waiting.push(request)
    this.#waiting++
    this.#requests.set(request.requestId, { record, item: null })
    this.#work(record, nowMs, out)
    return out
  }

  finished(requestId: string, end: 'kept' | 'closed', nowMs: number): readonly HandOffEffect[] {
    const out: HandOffEffect[] = []
    const request = this.#requests.get(requestId)
    if (!this.#holds(out) || request?.item === undefined || request.item === null) return out
    this.#requests.delete(requestId)
    if (end === 'closed') this.#close(request.item)
    else this.#ledger.end(request.item)
    request.record.offerAtMs = nowMs
    this.#work(request.record, nowMs, out)
    return out
  }

  cancel(requestId: string): void {
    const request = this.#requests.get(requestId)
    if (request === undefined || request.item !== null) return
    const at = request.record.waiting.findIndex((waiting) => waiting.requestId === requestId)
    if (at >= 0) this.#unqueue(request.record, at)
  }

  discard(key: string, itemId: string): boolean {
    const item = this.#ledger.get(key, itemId)
    if (item?.hold.kind !== 'idle') return false
    this.#close(item)
    return true
  }

  answered(askId: number, answer: HandOffAnswer | null, nowMs: number): readonly HandOffEffect[] {
    const out: HandOffEffect[] = []
    const asked = this.#asks.get(askId)
    this.#asks.delete(askId)
    if (asked?.kind === 'offer') this.#offersUnderWay--
    if (asked === undefined || !this.#holds(out)) return out
    if (answer !== null && answer.kind !== 'lost') this.#hear(answer.ring, nowMs, out)
    const record = this.#recordOf(asked.key, asked.keyKind)
    switch (asked.kind) {
      case 'take':
        record.takes.delete(askId)
        if (answer === null) this.#lingerUntilMs = nowMs + LINGER_MS
        this.#tookFrom(record, asked.to, answer, nowMs, out)
        break
      case 'taken': {
        const item = this.#ledger.get(record.key, asked.id)
        if (answer === null && item !== null) this.#settleWithDead(item)
        if (answer?.kind !== 'noted' && answer?.kind !== 'lost') break
        if (item?.unconfirmed?.from !== asked.to || item.unconfirmed.give !== asked.give) break
        this.#ledger.confirm(item)
        record.offerAtMs = nowMs
        break
      }
      case 'given':
        this.#hearFate(asked, answer)
        this.#place(record)
        record.offerAtMs = nowMs
    }
    this.#work(record, nowMs, out)
    return out
  }

  received(from: string, message: HandOffMessage, nowMs: number): { readonly answer: HandOffAnswer; readonly effects: readonly HandOffEffect[] } {
    const out: HandOffEffect[] = []
    if (!this.#holds(out)) return { answer: { kind: 'lost' }, effects: out }
    this.#hear(message.ring, nowMs, out)
    return { answer: this.#answer(from, message, nowMs, out), effects: out }
  }

  ringChanged(ring: Ring, nowMs: number): readonly HandOffEffect[] {
    const out: HandOffEffect[] = []
    if (!this.#holds(out) || !isNewer(ring.document, this.#ring?.document ?? null)) return out
    this.#ring = ring
    this.#heardOf = Math.max(this.#heardOf, ring.version)
    if (this.#heardOf === ring.version) this.#readAtMs = Infinity
    for (const record of [...this.#records.values()]) {
      record.search = null
      this.#place(record)
      if (!this.#owns(record)) this.#dropTakes(record, nowMs) // H3
      record.offerAtMs = nowMs
      this.#work(record, nowMs, out)
    }
    return out
  }

  membersChanged(nowMs: number): readonly HandOffEffect[] {
    const out: HandOffEffect[] = []
    if (!this.#holds(out)) return out
    for (const record of [...this.#active]) {
      let changed = false
      for (const [id, target] of record.search?.targets ?? []) {
        if (target.state === 'clear' || !this.#leases.isOver(id)) continue
        target.state = 'clear'
        changed = true
      }
      for (const item of this.#ledger.of(record.key)) changed = this.#settleWithDead(item) || changed
      if (changed) this.#work(record, nowMs, out)
    }
    return out
  }

  tick(nowMs: number): readonly HandOffEffect[] {
    const out: HandOffEffect[] = []
    if (!this.#holds(out)) return out
    if (this.#readAtMs <= nowMs) this.#readRing(nowMs, out)
    if (this.#lingerUntilMs <= nowMs) this.#lingerUntilMs = 0
    for (const record of [...this.#active]) if (record.dueAtMs <= nowMs) this.#work(record, nowMs, out)
    return out
  }

  dueAtMs(): number | null {
    let dueAtMs = this.#lingerUntilMs > 0 ? Math.min(this.#readAtMs, this.#lingerUntilMs) : this.#readAtMs
    for (const record of this.#active) dueAtMs = Math.min(dueAtMs, record.dueAtMs)
    return dueAtMs === Infinity || this.#lost ? null : dueAtMs
  }

  /** The lease was found to be over: nothing more is done under this id. */
  get isLost(): boolean {
    return this.#lost
  }

  heldVersions(): readonly number[] {
    return this.#ledger.versions()
  }

  itemCount(): number {
    const takes = [...this.#asks.values()].filter(({ kind }) => kind === 'take').length
    return this.#ledger.count + takes + (this.#lingerUntilMs > 0 ? 1 : 0)
  }

  #answer(from: string, message: HandOffMessage, nowMs: number, out: HandOffEffect[]): HandOffAnswer {
    const ring = this.#heardOf
    switch (message.kind) {
      case 'take': {
        if (message.ring < this.#heardOf) return { kind: 'stale', ring } // H3
        const record = this.#recordOf(message.key, message.keyKind)
        const answer = this.#give(record, from, message, nowMs)
        this.#work(record, nowMs, out)
        return answer
      }
      case 'offer': {
        const record = this.#recordOf(message.key, message.keyKind)
        const wanted = record.kind === 'pool' || this.#ledger.of(record.key).every(({ hold }) => hold.kind === 'given')
        if (wanted && this.#current() && this.#owns(record) && ![...record.takes.values()].includes(from)) this.#take(record, from, out)
        this.#work(record, nowMs, out)
        return { kind: 'noted', ring }
      }
      case 'taken':
        if (this.#ledger.taken(message.key, message.id, from, message.give)) this.#store.forget(message.key, message.id)
        return { kind: 'noted', ring }
      case 'given': {
        const record = this.#records.get(message.key)
        if (this.#ledger.get(message.key, message.id)?.unconfirmed?.from === from) return { kind: 'fate', ring, fate: 'taken' }
        const open = record !== undefined && [...record.takes.values()].includes(from)
        return { kind: 'fate', ring, fate: open ? 'open' : 'not' }
      }
      default:
        return assertNever(message)
    }
  }

  /** What `from`, an owner by the newest version, gets of a key. */
  #give(record: KeyRecord, from: string, message: Extract<HandOffMessage, { kind: 'take' }>, nowMs: number): HandOffAnswer {
    const items: { id: string; version: number; give: number; state: unknown }[] = []
    const elsewhere = new Set<string>()
    let busy = 0
    const held = this.#ledger.of(record.key)
    const [index, count] = message.share
    const heirs = record.kind === 'pool' ? heirsOf(record, held, message.ring, count) : null
    for (const item of held) {
      if (heirs !== null && (heirs.get(item.id) ?? 0) % count !== index) continue
      if (this.#ledger.mayGive(item, from)) {
        if (items.length >= HAND_OFF_ITEMS_MAX) break
        items.push({ id: item.id, version: item.version, give: this.#ledger.give(item, from, nowMs), state: this.#store.pack(record.key, item.id) })
      } else if (item.hold.kind === 'given') {
        elsewhere.add(item.hold.to)
        item.hold = { ...item.hold, askAtMs: nowMs }
      } else if (item.hold.kind !== 'gone') busy++
    }
    if (busy > 0) record.wanted.set(from, nowMs + WANTED_MS)
    else record.wanted.delete(from)
    // H2: what we asked others for in the meantime does not reach us any more.
    if (record.kind === 'single') this.#dropTakes(record, nowMs)
    return { kind: 'state', ring: this.#heardOf, items, busy, elsewhere: [...elsewhere] }
  }

  #tookFrom(record: KeyRecord, from: string, answer: HandOffAnswer | null, nowMs: number, out: HandOffEffect[]): void {
    const target = record.search?.targets.get(from)
    if (answer?.kind === 'lost' || (answer === null && this.#leases.isOver(from))) {
      if (target !== undefined) target.state = 'clear'
      return
    }
    if (answer?.kind !== 'state') {
      // A pool waits for no second answer. A single item does: `askAtMs` says when it is asked for again.
      if (target !== undefined && record.kind === 'pool') target.state = 'clear'
      return
    }
    for (const moved of answer.items) this.#adopt(record, from, moved, nowMs, out)
    if (target === undefined) return
    if (record.kind === 'pool') target.state = 'clear'
    else if (answer.items.length === 0 && answer.busy === 0 && answer.elsewhere.length === 0) target.state = 'clear'
    for (const id of record.kind === 'single' ? answer.elsewhere : []) {
      if (id !== this.#self && record.search !== null && !record.search.targets.has(id)) record.search.targets.set(id, newTarget(nowMs))
    }
  }

  #adopt(record: KeyRecord, from: string, moved: { readonly id: string; readonly version: number; readonly give: number; readonly state?: unknown }, nowMs: number, out: HandOffEffect[]): void {
    const held = this.#ledger.get(record.key, moved.id)
    if (held !== null && held.hold.kind !== 'given') return
    if (!this.#store.adopt(record.key, moved.id, moved.state)) return // It stays with `from`, whom we tell when it asks.
    const item = this.#ledger.adopt({ key: record.key, ...moved }, from, this.#version)
    if (item === null) return
    // What else is under way to `from` could bring the same item a second time.
    for (const [askId, to] of record.takes) {
      if (to !== from) continue
      record.takes.delete(askId)
      this.#asks.delete(askId)
    }
    this.#settleItem(record, item, nowMs, out)
  }

  #hearFate(asked: { readonly key: string; readonly id: string; readonly to: string; readonly give: number }, answer: HandOffAnswer | null): void {
    const { key } = asked
    if (answer?.kind === 'fate' && answer.fate === 'not') {
      this.#ledger.notTaken(key, asked.id, asked.to, asked.give)
      return
    }
    const item = this.#ledger.get(key, asked.id)
    if (answer === null && item !== null) this.#settleWithDead(item)
    const gone = (answer?.kind === 'fate' && answer.fate === 'taken') || answer?.kind === 'lost'
    if (gone && this.#ledger.taken(key, asked.id, asked.to, asked.give)) this.#store.forget(key, asked.id)
  }

  /** Everything that is to be done about one key now. */
  #work(record: KeyRecord, nowMs: number, out: HandOffEffect[]): void {
    for (let at = record.waiting.length - 1; at >= 0; at--) {
      const request = record.waiting[at]
      if (request !== undefined && request.deadlineMs <= nowMs) {
        this.#unqueue(record, at)
        this.#refuse(request, 'ERR_HAND_OFF_TIMEOUT', out)
      }
    }
    for (const [id, untilMs] of record.wanted) if (untilMs <= nowMs) record.wanted.delete(id)
    if (record.kind === 'single') this.#serveSingle(record, nowMs, out)
    else this.#servePool(record, nowMs, out)
    for (const item of this.#ledger.of(record.key)) this.#settleItem(record, item, nowMs, out)
    this.#offer(record, nowMs, out)
    this.#schedule(record, nowMs)
  }

  #serveSingle(record: KeyRecord, nowMs: number, out: HandOffEffect[]): void {
    const { search } = record
    record.search = null
    const [request] = record.waiting
    if (request === undefined) return
    const [item] = this.#ledger.of(record.key)
    if (record.wanted.size > 0) this.#refuseAll(record, 'ERR_RING_MOVED', out)
    else if (item?.hold.kind === 'idle') this.#serve(record, request, item, out)
    // One at a time. What was closed is begun anew only when its giver has heard that we had it.
    else if (item?.hold.kind === 'running' || item?.hold.kind === 'gone') return
    else if (request.fresh && item === undefined && this.#owns(record)) this.#begin(record, request, record.key, out)
    else if (!this.#current()) return // H2: waits for the ring.
    else if (!this.#owns(record)) this.#refuseAll(record, 'ERR_RING_MOVED', out)
    else this.#searchSingle(record, request, search, item ?? null, nowMs, out)
  }

  /** H1. */
  #searchSingle(record: KeyRecord, request: HandOffRequest, search: Search | null, given: Item | null, nowMs: number, out: HandOffEffect[]): void {
    record.search = search ?? newSearch(this.#version, [this.#ring?.predecessors(record.key, this.#self, 'single') ?? []], nowMs)
    const { targets } = record.search
    for (const [id, target] of targets) {
      if (target.state === 'clear' || target.askAtMs > nowMs) continue
      if (target.waitMs > RETRY_MIN_MS && this.#leases.isOver(id)) target.state = 'clear'
      else {
        target.askAtMs = nowMs + target.waitMs
        target.waitMs = Math.min(RETRY_MAX_MS, target.waitMs * 2)
        this.#take(record, id, out)
      }
    }
    if (given === null && [...targets.values()].every(({ state }) => state === 'clear')) this.#begin(record, request, record.key, out)
  }

  #servePool(record: KeyRecord, nowMs: number, out: HandOffEffect[]): void {
    for (let request = record.waiting[0]; request !== undefined; request = record.waiting[0]) {
      const item = this.#idleOfPool(record)
      if (item !== null) this.#serve(record, request, item, out)
      else if (this.#searchPool(record, request, nowMs, out)) return
      else this.#begin(record, request, `${this.#self}/${++this.#itemIds}`, out)
    }
  }

  /** Its own share first: the others' will be asked for. */
  #idleOfPool(record: KeyRecord): Item | null {
    const any = this.#ledger.idle(record.key)
    if (any === null || this.#ring === null || this.#ring.document.previous.length === 0) return any
    const { version } = this.#ring
    const sharers = record.split?.ring === version ? record.split.count : this.#ring.sharers(record.key, this.#self).length
    if (sharers < 2) return any
    const held = this.#ledger.of(record.key)
    const heirs = heirsOf(record, held, version, sharers)
    // Who still owns the key is the first of those that share it.
    return held.find(({ id, hold }) => hold.kind === 'idle' && heirs.get(id) === 0) ?? any
  }

  /** True: answers are waited for. */
  #searchPool(record: KeyRecord, request: HandOffRequest, nowMs: number, out: HandOffEffect[]): boolean {
    if (record.search === null) {
      const newest = Math.max(this.#version, request.ring.version)
      if (record.searchedBy >= newest) return false
      // By a ring that is not known here yet, the front end's word is what there is.
      const levels = newest > this.#version || this.#ring === null ? [request.ring.predecessors.filter((id) => id !== this.#self)] : this.#ring.predecessorLevels(record.key, this.#self, 'pool')
      record.search = newSearch(newest, levels, nowMs)
      this.#askLevel(record, record.search, nowMs, out)
    }
    const { search } = record
    while (nowMs >= search.levelEndsAtMs || [...search.targets.values()].every(({ state }) => state === 'clear')) {
      search.level++
      if (search.level >= search.levels.length) {
        record.searchedBy = search.ring
        record.search = null
        return false
      }
      this.#askLevel(record, search, nowMs, out)
    }
    return true
  }

  #askLevel(record: KeyRecord, search: Search, nowMs: number, out: HandOffEffect[]): void {
    search.levelEndsAtMs = nowMs + POOL_WAIT_MS
    search.targets.clear()
    for (const id of search.levels[search.level] ?? []) {
      search.targets.set(id, newTarget(Infinity))
      this.#take(record, id, out)
    }
  }

  #take(record: KeyRecord, from: string, out: HandOffEffect[]): void {
    // T3: who gave us something asks for nothing and is asked for nothing until it knows that we have it.
    if (this.#ledger.of(record.key).some(({ unconfirmed }) => unconfirmed?.from === from)) return
    const sharers = record.kind === 'pool' ? this.#ring?.sharers(record.key, from) ?? [] : []
    const index = sharers.indexOf(this.#self)
    const share: [number, number] = index < 0 ? [0, 1] : [index, sharers.length]
    const ring = Math.max(this.#version, record.search?.ring ?? 0)
    const askId = this.#ask({ kind: 'take', key: record.key, keyKind: record.kind, to: from }, { kind: 'take', key: record.key, keyKind: record.kind, ring, share }, TAKE_TIMEOUT_MS, out)
    record.takes.set(askId, from)
  }

  /** Asks what has become of what was given, and tells of what was taken. */
  #settleItem(record: KeyRecord, item: Item, nowMs: number, out: HandOffEffect[]): void {
    const { key, kind: keyKind } = record
    const { hold, unconfirmed } = item
    const ring = this.#heardOf
    if (hold.kind === 'given' && hold.askAtMs <= nowMs) {
      item.hold = { ...hold, askAtMs: nowMs + FATE_RETRY_MS }
      this.#ask({ kind: 'given', key, keyKind, to: hold.to, id: item.id, give: hold.lastGive }, { kind: 'given', key, id: item.id, give: hold.lastGive, ring }, ASK_TIMEOUT_MS, out)
    }
    if (unconfirmed !== null && unconfirmed.askAtMs <= nowMs) {
      unconfirmed.askAtMs = nowMs + TAKEN_RETRY_MS
      this.#ask({ kind: 'taken', key, keyKind, to: unconfirmed.from, id: item.id, give: unconfirmed.give }, { kind: 'taken', key, id: item.id, give: unconfirmed.give, ring }, ASK_TIMEOUT_MS, out)
    }
  }

  /** T2 and T3 with one whose lease is over. True: something has changed. */
  #settleWithDead(item: Item): boolean {
    const { hold, unconfirmed } = item
    if (hold.kind === 'given' && this.#leases.isOver(hold.to)) {
      this.#ledger.remove(item)
      this.#store.forget(item.key, item.id)
      return true
    }
    if (unconfirmed === null || !this.#leases.isOver(unconfirmed.from)) return false
    this.#ledger.confirm(item)
    return true
  }

  /** H4. */
  #offer(record: KeyRecord, nowMs: number, out: HandOffEffect[]): void {
    if (record.offerAtMs > nowMs) return
    record.offerAtMs = Infinity
    const heirs = this.#heirsNow(record)
    record.strandedAtMs = heirs.length === 0 ? null : (record.strandedAtMs ?? nowMs)
    if (record.strandedAtMs === null) return
    if (nowMs - record.strandedAtMs > STRANDED_MS) {
      for (const item of this.#ledger.of(record.key)) if (item.hold.kind === 'idle') this.#close(item)
      return
    }
    // Not now: it is busy, its giver has still to hear of it, or too many offers are under way.
    record.offerAtMs = nowMs + OFFER_RETRY_MS
    if (this.#offersUnderWay >= HAND_OFF_OFFERS_MAX) record.offerAtMs = nowMs + RETRY_MIN_MS
    else if (this.#ledger.of(record.key).some(({ hold, unconfirmed }) => hold.kind === 'idle' && unconfirmed === null)) {
      for (const to of heirs) {
        this.#offersUnderWay++
        this.#ask({ kind: 'offer', key: record.key, keyKind: record.kind, to }, { kind: 'offer', key: record.key, keyKind: record.kind, ring: this.#heardOf }, ASK_TIMEOUT_MS, out)
      }
    }
  }

  /** To whom items of a key are to go that are held here. */
  #heirsNow(record: KeyRecord): readonly string[] {
    if (!this.#ledger.of(record.key).some(({ hold }) => hold.kind === 'idle' || hold.kind === 'running')) return []
    if (record.wanted.size > 0) return [...record.wanted.keys()]
    const owners = this.#ring?.owners(record.key, record.kind) ?? []
    if (!this.#current() || owners.includes(this.#self)) return []
    const drawing = record.kind === 'pool' ? (this.#ring?.sharers(record.key, this.#self) ?? []) : []
    return drawing.length > 0 ? drawing : owners
  }

  #schedule(record: KeyRecord, nowMs: number): void {
    const items = this.#ledger.of(record.key)
    const dueAtMs = dueAtMsOf(record, items)
    // Never in the past, so that no driver goes round in circles.
    record.dueAtMs = Math.max(dueAtMs, nowMs + 1)
    if (dueAtMs < Infinity) this.#active.add(record)
    else this.#active.delete(record)
    if (items.length === 0 && record.waiting.length === 0 && record.takes.size === 0) {
      this.#active.delete(record)
      this.#records.delete(record.key)
    }
  }

  #serve(record: KeyRecord, request: HandOffRequest, item: Item, out: HandOffEffect[]): void {
    const state = item.arrived ? 'moved' : 'held'
    this.#ledger.run(item, request.requestId)
    this.#started(record, request, item, state, out)
  }

  #begin(record: KeyRecord, request: HandOffRequest, id: string, out: HandOffEffect[]): void {
    record.search = record.kind === 'single' ? null : record.search
    this.#started(record, request, this.#ledger.begin(record.key, id, this.#version, request.requestId), 'new', out)
  }

  #started(record: KeyRecord, request: HandOffRequest, item: Item, state: 'held' | 'moved' | 'new', out: HandOffEffect[]): void {
    this.#unqueue(record, record.waiting.indexOf(request))
    this.#requests.set(request.requestId, { record, item })
    out.push({ kind: 'serve', requestId: request.requestId, key: record.key, itemId: item.id, state })
  }

  #unqueue(record: KeyRecord, at: number): void {
    const [request] = record.waiting.splice(at, 1)
    if (request === undefined) return
    this.#waiting--
    this.#requests.delete(request.requestId)
  }

  #refuseAll(record: KeyRecord, code: HandOffRefusal, out: HandOffEffect[]): void {
    for (let [request] = record.waiting; request !== undefined; [request] = record.waiting) {
      this.#unqueue(record, 0)
      this.#refuse(request, code, out)
    }
  }

  #refuse(request: HandOffRequest, code: HandOffRefusal, out: HandOffEffect[]): void {
    out.push({ kind: 'refuse', requestId: request.requestId, code, ringVersion: this.#heardOf })
  }

  #close(item: Item): void {
    this.#ledger.close(item)
    this.#store.forget(item.key, item.id)
  }

  #dropTakes(record: KeyRecord, nowMs: number): void {
    if (record.takes.size > 0) this.#lingerUntilMs = nowMs + LINGER_MS
    for (const askId of record.takes.keys()) this.#asks.delete(askId)
    record.takes.clear()
    record.search = null
  }

  #ask(asked: Asked, message: HandOffMessage, timeoutMs: number, out: HandOffEffect[]): number {
    const askId = ++this.#askIds
    this.#asks.set(askId, asked)
    out.push({ kind: 'ask', askId, to: asked.to, message, timeoutMs })
    return askId
  }

  #recordOf(key: string, kind: KeyKind): KeyRecord {
    const record = this.#records.get(key) ?? newRecord(key, kind)
    this.#records.set(key, record)
    return record
  }

  #owns({ key, kind }: KeyRecord): boolean {
    return this.#ring?.owners(key, kind).includes(this.#self) ?? false
  }

  /** What an owner holds lies by the newest version that it knows. */
  #place(record: KeyRecord): void {
    if (!this.#owns(record)) return
    for (const item of this.#ledger.of(record.key)) if (item.hold.kind !== 'given') item.placedBy = this.#version
  }

  get #version(): number {
    return this.#ring?.version ?? 0
  }

  /** No newer version has been heard of than the one that is known. */
  #current(): boolean {
    return this.#version >= this.#heardOf && this.#ring !== null
  }

  #hear(version: number, nowMs: number, out: HandOffEffect[]): void {
    if (version <= this.#heardOf) return
    this.#heardOf = version
    this.#readRing(nowMs, out)
  }

  #readRing(nowMs: number, out: HandOffEffect[]): void {
    this.#readAtMs = nowMs + READ_RETRY_MS
    out.push({ kind: 'read-ring', version: this.#heardOf })
  }

  /** H5. */
  #holds(out: HandOffEffect[]): boolean {
    if (this.#lost || this.#leases.holds()) return !this.#lost
    this.#lost = true
    for (const [requestId, { item }] of this.#requests) out.push(item === null ? { kind: 'refuse', requestId, code: 'ERR_OWNERSHIP_LOST', ringVersion: this.#heardOf } : { kind: 'stop', requestId })
    for (const { key, id } of this.#ledger.clear()) this.#store.forget(key, id)
    this.#requests.clear()
    this.#records.clear()
    this.#active.clear()
    this.#asks.clear()
    return false
  }
}
