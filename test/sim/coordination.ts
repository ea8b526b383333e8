/**
 * A store that members agree on, as far as the members see it: documents with revisions in one order, compare-and-set, and
 * watches that tell every change in that order but may stall while lines are cut. Leases are counted by the real code
 * (shared/coordination/lease.ts, shared/place/lease.ts); the store itself expires nothing.
 */
import { HeldLease, SeenLease } from '../../shared/coordination/lease.ts'
import { LEASE_RENEW_MS } from '../../shared/limits.ts'
import { PeerView } from '../../shared/place/lease.ts'
import { parseRing, serializeRing } from '../../shared/place/ring.ts'
import type { RingDocument } from '../../shared/place/ring.ts'
import type { SimProcess, World } from './world.ts'

export const STORE = 'store'

export interface SimInfo {
  readonly state: 'serving' | 'draining'
  readonly ring: number
  readonly held: readonly number[]
  readonly mark: number
}

type Change =
  | { readonly kind: 'member'; readonly id: string; readonly info: SimInfo }
  | { readonly kind: 'left'; readonly id: string }
  | { readonly kind: 'ring'; readonly bytes: Uint8Array; readonly revision: number }

/** To one watcher, in order, whatever the line does meanwhile. */
class Channel {
  readonly #world: World
  readonly #process: SimProcess
  readonly #deliver: (change: Change) => void
  readonly #queue: Change[] = []
  #lastAtMs = 0

  constructor(world: World, process: SimProcess, deliver: (change: Change) => void) {
    this.#world = world
    this.#process = process
    this.#deliver = deliver
  }

  push(change: Change): void {
    this.#queue.push(change)
    const delayMs = this.#world.transit(STORE, this.#process.id) ?? 200
    this.#lastAtMs = Math.max(this.#lastAtMs, this.#world.nowMs + delayMs)
    this.#world.at(this.#lastAtMs, () => this.#next())
  }

  /** One delivery for each change; while the line is cut all of them wait. */
  #next(): void {
    if (this.#process.crashed) return
    if (this.#world.isCut(STORE, this.#process.id)) {
      this.#world.after(200, () => this.#next())
      return
    }
    const change = this.#queue.shift()
    if (change !== undefined) this.#process.wake(() => this.#deliver(change))
  }
}

export class SimStore {
  readonly #world: World
  readonly #members = new Map<string, SimInfo>()
  readonly #channels: Channel[] = []
  #ring: RingDocument | null = null
  #ringRevision = 0

  constructor(world: World) {
    this.#world = world
  }

  get ring(): RingDocument | null {
    return this.#ring
  }

  get ringRevision(): number {
    return this.#ringRevision
  }

  watch(process: SimProcess, deliver: (change: Change) => void): void {
    const channel = new Channel(this.#world, process, deliver)
    this.#channels.push(channel)
    for (const [id, info] of this.#members) channel.push({ kind: 'member', id, info })
    if (this.#ring !== null) channel.push({ kind: 'ring', bytes: serializeRing(this.#ring), revision: this.#ringRevision })
  }

  /** What `process` asks and the store does; the answer may not come. */
  call<T>(process: SimProcess, act: () => T, answered: (result: T) => void): void {
    this.#world.send(process.id, STORE, () => {
      const result = act()
      this.#world.send(STORE, process.id, () => process.wake(() => answered(result)))
    })
  }

  put(id: string, info: SimInfo): void {
    this.#members.set(id, info)
    this.#tell({ kind: 'member', id, info })
  }

  leave(id: string): void {
    if (this.#members.delete(id)) this.#tell({ kind: 'left', id })
  }

  /** True: published. */
  publish(document: RingDocument, revision: number): boolean {
    if (revision !== this.#ringRevision) return false
    this.#ring = document
    this.#ringRevision++
    this.#world.log(`ring ${document.version} is ${document.members.map(({ id }) => id).join(' ')} before it ${document.previous.map(({ version }) => version).join(' ')}`)
    this.#tell({ kind: 'ring', bytes: serializeRing(document), revision: this.#ringRevision })
    return true
  }

  #tell(change: Change): void {
    for (const channel of this.#channels) channel.push(change)
  }
}

export interface SimClientOptions {
  /** The lease is there for the first time. */
  readonly onJoined: () => void
  readonly info: () => Omit<SimInfo, 'mark'>
  readonly onRing: (document: RingDocument) => void
  readonly onMembers: () => void
}

/** One life's view of the store: its lease, the others', the ring. */
export class SimClient {
  readonly view = new PeerView()
  ring: RingDocument | null = null
  ringRevision = 0
  readonly #store: SimStore
  readonly #process: SimProcess
  readonly #options: SimClientOptions
  readonly #seen = new Map<string, SeenLease>()
  /** The last that each has said, also of those that are gone. */
  readonly #said = new Map<string, SimInfo>()
  #held: HeldLease | null = null
  #told = ''
  #telling = false

  constructor(store: SimStore, process: SimProcess, options: SimClientOptions) {
    this.#store = store
    this.#process = process
    this.#options = options
    store.watch(process, (change) => this.#onChange(change))
    this.#renew()
    this.#every(LEASE_RENEW_MS, () => this.#renew())
    this.#every(250, () => {
      this.#shown()
      this.tell()
    })
  }

  holds(): boolean {
    return this.#held?.holds() ?? false
  }

  said(id: string): SimInfo | null {
    return this.#said.get(id) ?? null
  }

  /** Everybody that is in the store. */
  known(): string[] {
    return [...this.#seen.keys()]
  }

  /** As the watch has shown; nobody's lease is compared with anything but this process's own clock. */
  alive(): string[] {
    return [...this.#seen].filter(([, lease]) => lease.remainingMs() > 0).map(([id]) => id)
  }

  /** Writes what has changed of this member. */
  tell(): void {
    if (this.#telling || (this.#held !== null && !this.holds())) return
    const info = JSON.stringify(this.#info())
    if (info === this.#told) return
    // One word at a time. What gets lost is said again.
    this.#telling = true
    this.#process.after(300, () => (this.#telling = false))
    this.#renew()
  }

  readRing(): void {
    this.#store.call(this.#process, () => (this.#store.ring === null ? null : { bytes: serializeRing(this.#store.ring), revision: this.#store.ringRevision }), (ring) => {
      if (ring !== null) this.#onRing(ring.bytes, ring.revision)
    })
  }

  publish(document: RingDocument): void {
    const revision = this.ringRevision
    this.#store.call(this.#process, () => this.#store.publish(document, revision), () => undefined)
  }

  /** Takes away what is left of one whose lease is certainly over, so that nobody who comes later takes it for alive. */
  clear(id: string): void {
    this.#store.call(this.#process, () => this.#store.leave(id), () => undefined)
  }

  leave(): void {
    this.#held?.giveUp()
    this.#store.call(this.#process, () => this.#store.leave(this.#process.id), () => undefined)
  }

  #info(): SimInfo {
    return { ...this.#options.info(), mark: this.view.mark }
  }

  #renew(): void {
    // A lease that has run out is never renewed; before the first answer there is none yet.
    if (this.#held !== null && !this.#held.holds()) return
    const sentAtMs = this.#process.nowMs
    const info = this.#info()
    this.#store.call(this.#process, () => this.#store.put(this.#process.id, info), () => {
      if (this.#held === null) {
        this.#held = new HeldLease(this.#process.clock, sentAtMs)
        this.#options.onJoined()
      } else this.#held.renewed(sentAtMs)
    })
  }

  #onChange(change: Change): void {
    if (change.kind === 'ring') return this.#onRing(change.bytes, change.revision)
    if (change.kind === 'left') this.#seen.delete(change.id)
    else {
      this.#said.set(change.id, change.info)
      const lease = this.#seen.get(change.id)
      if (lease === undefined) this.#seen.set(change.id, new SeenLease(this.#process.clock))
      else lease.seen()
      if (change.id === this.#process.id) this.#told = JSON.stringify(change.info)
    }
    this.#shown()
  }

  #shown(): void {
    const alive = new Set(this.alive())
    this.view.shown(alive, alive.has(this.#process.id) ? (this.#said.get(this.#process.id)?.mark ?? -1) : -1)
    this.#options.onMembers()
  }

  #onRing(bytes: Uint8Array, revision: number): void {
    if (revision <= this.ringRevision) return
    this.ringRevision = revision
    this.ring = parseRing(bytes)
    this.#options.onRing(this.ring)
  }

  #every(periodMs: number, run: () => void): void {
    const again = (): void => {
      run()
      this.#process.after(periodMs, again)
    }
    this.#process.after(periodMs, again)
  }
}
