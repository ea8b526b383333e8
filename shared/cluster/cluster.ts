/**
 * A member's part in its group: who is there, the ring, and what moves when the ring changes.
 *
 *   joining (loads what it will be asked for) -> serving -> draining (others load what it was asked for) -> left
 *
 * M1  A member is put into the ring only when it has loaded what it will own as far as there is room, and leaves it only when the next
 *     owners have: a change of the ring moves requests to where their images are.
 * M2  What moves besides is state with one owner: `handOff` decides, item by item.
 * M3  A member that finds that the newest ring is without it gives its state away and does not come back under this name.
 * M4  With its lease lost a member serves nothing that has state; it drops what it had and comes back as another one.
 */
import type { Clock } from '../clock.ts'
import { toCodedError } from '../errors.ts'
import type { Coordination, Leadership } from '../coordination/types.ts'
import { LINK_PROTOCOL } from '../link/frames.ts'
import type { Log } from '../log.ts'
import { PeerGroup } from '../peers/peer-group.ts'
import type { PeerSet } from '../peers/peer-set.ts'
import type { PeerInfo, PeerMember } from '../peers/types.ts'
import type { HandOffMachine, LeaseFacts } from '../place/hand-off-types.ts'
import { PeerView } from '../place/lease.ts'
import { Ring, ringKey } from '../place/ring.ts'
import { HAND_OFF_TOPIC, HandOffDriver } from './hand-off-driver.ts'
import { parseHotList, type HotImage } from './hot-list.ts'
import { RING_BUCKET, RingStore } from './ring-store.ts'
import { RingLeader } from './ring-leader.ts'

/** Images of a member, and how it gets one into memory. */
export interface HotImages {
  /** Latest used first. */
  list(): readonly HotImage[]
  /** Who needs an image: the owners of its function, or, with state that may come to any of them, all members. Default: owners. */
  readonly spread?: 'owners' | 'all'
  /** Rejects if it cannot be had; ERR_NO_CAPACITY if there is no room. */
  load(image: HotImage): Promise<void>
}

export interface ClusterOptions {
  readonly coordination: Coordination
  /** Of coordination: `region-NAME` or `site-NAME`. */
  readonly group: string
  readonly peers: PeerSet
  readonly address: string
  readonly capacity: number
  readonly fingerprint: string | null
  readonly newName: () => string
  readonly hot: HotImages
  /** Decides about state for a member of that name; null: there is none that moves. */
  readonly makeHandOff: ((self: string, lease: LeaseFacts) => HandOffMachine) | null
  /** All state that this member held is another one's by now. */
  readonly onStateLost: () => void
  readonly clock: Clock
  readonly log: Log
}

export const HOT_LIST_TOPIC = 'hot-list'
export const HOT_PUSH_TOPIC = 'hot-push'

/** How long a member that joins waits for links to the others, and for what it loads. */
const LINKS_WAIT_MS = 3_000
const PREPARE_MS = 20_000
/** How long one that leaves waits for others to load. */
const PUSH_MS = 10_000
const RING_WAIT_MS = 10_000
/** Loads at once: each reads, decrypts and hashes some hundred KiB, and requests are served beside it. */
const LOADS_AT_ONCE = 2
const LOOK_MS = 20

export class Cluster {
  readonly peers: PeerSet
  readonly #options: ClusterOptions
  readonly #log: Log
  readonly #store: RingStore
  readonly #leadership: Leadership
  readonly #listeners = new Set<(ring: Ring) => void>()
  #group: PeerGroup | null = null
  #leader: RingLeader | null = null
  #handOff: HandOffDriver | null = null
  #view = new PeerView()
  #members: readonly PeerMember[] = []
  #telling = false
  #state: 'joining' | 'serving' | 'draining' | 'left' = 'joining'

  private constructor(options: ClusterOptions, store: RingStore, leadership: Leadership) {
    this.#options = options
    this.#log = options.log.child('cluster')
    this.peers = options.peers
    this.#store = store
    this.#leadership = leadership
  }

  /** Joins and begins to serve. Rejects with what keeps it from that. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const documents = await options.coordination.documents(RING_BUCKET)
    const cluster = new Cluster(options, new RingStore(documents, options.group, options.log), await options.coordination.leadership(options.group))
    await cluster.#join()
    return cluster
  }

  get self(): string {
    return this.peers.self
  }

  /** Null: none was published yet. */
  get ring(): Ring | null {
    return this.#store.ring
  }

  get state(): 'joining' | 'serving' | 'draining' | 'left' {
    return this.#state
  }

  /** This member may act in its own name. */
  get holds(): boolean {
    return this.#group?.holds() ?? false
  }

  get leads(): boolean {
    return this.#leader?.leads ?? false
  }

  /** Null: nothing here has state that moves. */
  get handOff(): HandOffDriver | null {
    return this.#handOff
  }

  /** Called with each newer ring. Returns the function that removes the listener. */
  onRing(listener: (ring: Ring) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Looks for a newer ring now; somebody has spoken of one. Never rejects. */
  async refreshRing(): Promise<void> {
    await this.#store.refresh().catch((error: unknown) => this.#log.warn('the ring could not be read', { code: toCodedError(error).code }))
  }

  /** Gives away what it has: resolves when others own it, or after `timeoutMs`. It still serves and forwards. Never rejects. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#state !== 'serving') return
    this.#state = 'draining'
    const { clock } = this.#options
    const deadlineMs = clock.monotonicMs() + timeoutMs
    const leftMs = (): number => Math.max(0, deadlineMs - clock.monotonicMs())
    this.#log.info('this member drains', { memberId: this.self, ring: this.ring?.version ?? 0 })
    await this.#push(Math.min(PUSH_MS, leftMs()))
    await this.#group?.say({ state: 'draining' })
    const others = (): boolean => this.#members.some(({ memberId, info }) => memberId !== this.self && info.state === 'serving')
    await this.#until(() => !others() || !this.#isIn(this.ring), Math.min(RING_WAIT_MS, leftMs()))
    await this.#until(() => !others() || (this.#handOff?.itemCount ?? 0) === 0, leftMs())
    await this.#leader?.stop()
    this.#log.info('this member has given away what it had', { memberId: this.self, ring: this.ring?.version ?? 0, itemsLeft: this.#handOff?.itemCount ?? 0 })
  }

  /** Idempotent, never rejects. */
  async leave(): Promise<void> {
    if (this.#state === 'left') return
    this.#state = 'left'
    this.#handOff?.close()
    this.#store.stop()
    await this.#leader?.stop()
    await this.#group?.leave()
    this.peers.close()
  }

  async #join(): Promise<void> {
    const { peers, coordination, group, clock, log, newName, address, capacity, fingerprint, hot } = this.#options
    peers.handle(HOT_LIST_TOPIC, () => hot.list())
    peers.handle(HOT_PUSH_TOPIC, async (from, payload) => this.#onPush(from, payload))
    peers.handle(HAND_OFF_TOPIC, (from, payload) => this.#handOff?.received(from, payload) ?? { kind: 'lost' })
    this.#store.onChange((ring) => this.#onRing(ring))
    await this.#store.start()
    const info: PeerInfo = { address, capacity, fingerprint, protocol: LINK_PROTOCOL, state: 'joining', ring: this.ring?.version ?? 0, held: [], mark: 0 }
    this.#group = await PeerGroup.join({
      members: await coordination.members(group), peers, info, newName, clock, log,
      onMembers: (members) => this.#onMembers(members),
      onLost: () => this.#onLost(),
      onRenamed: () => this.#begin(),
    })
    this.#begin()
    await this.#serveWhenReady()
  }

  /** In a name that is new. */
  #begin(): void {
    const { clock, log, makeHandOff } = this.#options
    this.#view = new PeerView()
    if (makeHandOff !== null) {
      const machine = makeHandOff(this.self, { holds: () => this.holds, isOver: (memberId) => this.#isOver(memberId) })
      this.#handOff = new HandOffDriver({ machine, peers: this.peers, clock, log, readRing: () => void this.refreshRing(), onEvent: () => this.#tell() })
      if (this.ring !== null) this.#handOff.ringChanged(this.ring)
    }
    this.#leader = new RingLeader({ self: this.self, leadership: this.#leadership, store: this.#store, members: () => this.#members, isOver: (memberId) => this.#isOver(memberId), clock, log })
    if (this.#state !== 'joining') void this.#serveWhenReady()
    this.#tell()
  }

  /** M1. Never rejects once it has joined. */
  async #serveWhenReady(): Promise<void> {
    const loaded = await this.#prepare()
    if (this.#state === 'draining' || this.#state === 'left') return
    this.#state = 'serving'
    await this.#group?.say({ state: 'serving' })
    this.#log.info('this member serves', { memberId: this.self, ring: this.ring?.version ?? 0, loaded })
  }

  /** M4. */
  #onLost(): void {
    this.#handOff?.close()
    this.#handOff = null
    void this.#leader?.stop()
    this.#leader = null
    this.#options.onStateLost()
    // The next life is prepared like the first one.
    void this.#group?.say({ state: 'joining', held: [], mark: 0 })
  }

  #onRing(ring: Ring): void {
    const before = ring.document.previous[0]
    this.#handOff?.ringChanged(ring)
    void this.#catchUp(ring)
    // M3.
    if (this.#state === 'serving' && !this.#isIn(ring) && before?.members.some(({ id }) => id === this.self) === true) {
      this.#log.warn('the newest ring is without this member', { version: ring.version })
      void this.#group?.say({ state: 'draining' })
    }
    this.#leader?.changed()
    this.#tell()
    for (const listener of this.#listeners) listener(ring)
  }

  #onMembers(members: readonly PeerMember[]): void {
    this.#members = members
    const own = members.find(({ memberId }) => memberId === this.self)
    this.#view.shown(new Set(members.map(({ memberId }) => memberId)), own?.info.mark ?? -1)
    this.#handOff?.membersChanged()
    this.#leader?.changed()
    this.#tell()
  }

  #isOver(memberId: string): boolean {
    const over = this.#view.isOver(memberId)
    this.#tell()
    return over
  }

  #isIn(ring: Ring | null): boolean {
    return ring?.document.members.some(({ id }) => id === this.self) ?? false
  }

  /** Says what has changed of ring, versions held by and mark, one word at a time. */
  #tell(): void {
    const said = this.#group?.info
    if (said === undefined || this.#telling || !this.holds) return
    const ring = this.ring?.version ?? 0
    const held = this.#handOff?.heldVersions ?? []
    const { mark } = this.#view
    if (said.ring === ring && said.held.join() === held.join() && said.mark === mark) return
    this.#telling = true
    // It never rejects. A word that was not heard is said again at the next occasion.
    void this.#group?.say({ ring, held, mark }).then(() => {
      this.#telling = false
      this.#tell()
    })
  }

  /** Loads what this member will own once it is in the ring. Resolves with how many images; never rejects. */
  async #prepare(): Promise<number> {
    const document = this.ring?.document ?? null
    const givers = document?.members.map(({ id }) => id).filter((id) => id !== this.self && this.peers.member(id) !== null) ?? []
    if (document === null || givers.length === 0) return 0
    await this.#until(() => givers.every((id) => this.peers.reachable(id)), LINKS_WAIT_MS)
    const future = new Ring({ ...document, members: [...document.members.filter(({ id }) => id !== this.self), { id: this.self, weight: 1 }].sort((a, b) => (a.id < b.id ? -1 : 1)), previous: [] })
    return this.#loadOwned(future, givers)
  }

  /**
   * The ring has changed and this member owns more than before, though it neither came nor did anybody leave in good order: an
   * operator has changed how many members serve a key, or one was lost. Never rejects.
   */
  async #catchUp(ring: Ring): Promise<void> {
    const before = ring.document.previous[0]
    if (before === undefined || this.#state !== 'serving' || !this.#isIn(ring) || !before.members.some(({ id }) => id === this.self)) return
    const loaded = await this.#loadOwned(ring, before.members.map(({ id }) => id).filter((id) => id !== this.self && this.peers.member(id) !== null))
    if (loaded > 0) this.#log.info('what this member owns by the newest ring is loaded', { version: ring.version, images: loaded })
  }

  /** Resolves with how many images that `givers` tell of and that are its own by `ring` are here now. */
  async #loadOwned(ring: Ring, givers: readonly string[]): Promise<number> {
    const { hot, clock } = this.#options
    const deadlineMs = clock.monotonicMs() + PREPARE_MS
    const lists = await Promise.all(givers.map(async (id) => {
      try {
        return parseHotList(await this.peers.ask(id, HOT_LIST_TOPIC, null, LINKS_WAIT_MS)) ?? []
      } catch (error) {
        this.#log.warn('a member does not tell what is asked for', { member: id, code: toCodedError(error).code })
        return []
      }
    }))
    const wanted = new Map(lists.flat().filter((image) => this.#needing(ring, image).includes(this.self)).map((image) => [image.imageId, image]))
    return loadAll([...wanted.values()], hot, () => clock.monotonicMs() < deadlineMs)
  }

  /** Has others load what they will own once this member is gone. Never rejects. */
  async #push(timeoutMs: number): Promise<void> {
    const document = this.ring?.document ?? null
    const rest = document?.members.filter(({ id }) => id !== this.self && this.peers.member(id)?.info.state === 'serving') ?? []
    if (document === null || rest.length === 0 || !this.#isIn(this.ring)) return
    const future = new Ring({ ...document, members: rest, previous: [] })
    const byOwner = new Map<string, HotImage[]>()
    for (const image of this.#options.hot.list()) {
      for (const owner of this.#needing(future, image)) byOwner.set(owner, [...(byOwner.get(owner) ?? []), image])
    }
    await Promise.all([...byOwner].map(async ([owner, images]) => {
      try {
        const loaded = await this.peers.ask(owner, HOT_PUSH_TOPIC, images, timeoutMs)
        this.#log.info('the next owner has loaded what is asked for here', { member: owner, images: images.length, loaded: Number(loaded) })
      } catch (error) {
        this.#log.warn('the next owner has not loaded what is asked for here', { member: owner, images: images.length, code: toCodedError(error).code })
      }
    }))
  }

  async #onPush(from: string, payload: unknown): Promise<number> {
    const images = parseHotList(payload)
    if (images === null) {
      this.#log.warn('a member tells of no images', { member: from })
      return 0
    }
    const deadlineMs = this.#options.clock.monotonicMs() + PUSH_MS
    return loadAll(images, this.#options.hot, () => this.#options.clock.monotonicMs() < deadlineMs)
  }

  #needing(ring: Ring, { account, functionName }: HotImage): readonly string[] {
    return this.#options.hot.spread === 'all' ? ring.document.members.map(({ id }) => id) : ring.owners(ringKey(account, functionName), 'pool')
  }

  /** Resolves when `condition` holds or the time is over. */
  async #until(condition: () => boolean, timeoutMs: number): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.monotonicMs() + timeoutMs
    while (!condition() && clock.monotonicMs() < deadlineMs) await new Promise<void>((resolve) => clock.after(LOOK_MS, resolve))
  }
}

/** Latest used first, until there is no room or no time. Resolves with how many are there. */
async function loadAll(images: readonly HotImage[], hot: HotImages, goOn: () => boolean): Promise<number> {
  let loaded = 0
  let full = false
  const waiting = images.values()
  const worker = async (): Promise<void> => {
    for (const image of waiting) {
      if (full || !goOn()) return
      try {
        await hot.load(image)
        loaded += 1
      } catch (error) {
        if (toCodedError(error).code === 'ERR_NO_CAPACITY') full = true
      }
    }
  }
  await Promise.all(Array.from({ length: LOADS_AT_ONCE }, worker))
  return loaded
}
