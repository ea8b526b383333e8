/**
 * A region of members, frontends and a store under one seed: members come, leave, crash and stall, lines are cut, the ring
 * changes all the while, and clients use sessions and pools. What must hold is checked after every event:
 *
 *   I1  at most one member holds an item at any instant (and its own lease);
 *   I2  no request runs twice, none is answered twice, each is answered or failed within its deadline;
 *   I3  a session goes on exactly where it was, or is new because a member that had to do with it is gone;
 *   I4  once faults have ended everything is served again, every member settles, and those that leave are rid of all.
 */
import type { HandOffAnswer, HandOffMessage } from '../../shared/place/hand-off-types.ts'
import type { ItemLedger } from '../../shared/place/item-ledger.ts'
import { firstRing, isNewer, nextRing, retire, Ring, ringKey, rollback, neededVersions } from '../../shared/place/ring.ts'
import type { KeyKind, RingDocument } from '../../shared/place/ring.ts'
import type { LeaseFacts } from '../../shared/place/hand-off-types.ts'
import { SimClient, SimStore, STORE } from './coordination.ts'
import { SimMember } from './member.ts'
import type { SimAnswer } from './member.ts'
import { SimProcess, World } from './world.ts'

/** One rule broken on purpose. */
export interface Fault {
  readonly ledger?: () => ItemLedger
  readonly leases?: (facts: LeaseFacts, client: SimClient) => LeaseFacts
  /** `own`: the version that the member knows. */
  readonly alter?: (message: HandOffMessage, own: number) => HandOffMessage
  readonly alterAnswer?: (answer: HandOffAnswer, own: number) => HandOffAnswer
  /** A frontend tells its client whatever arrives, whenever. */
  readonly answersAgain?: boolean
  /** It sends a request once more after it may have run. */
  readonly retriesWhatRan?: boolean
  /** The leader drops versions that state may lie by. */
  readonly dropsUnsettled?: boolean
}

const BUDGET_MS = 4_000
/** A frontend gives up this much later: the answer has its way to make. */
const GRACE_MS = 3_500
/** Of clocks of members against each other, half each way. */
const CLOCK_DRIFT = 0.01
const TROUBLE_MS = 40_000
const CALM_MS = 30_000

class Node {
  readonly process: SimProcess
  readonly client: SimClient
  /** Not before it holds a lease. */
  member: SimMember | null = null
  state: 'serving' | 'draining' = 'serving'
  ring: Ring | null = null

  constructor(fleet: Fleet, process: SimProcess) {
    const { world, fault } = fleet
    this.process = process
    this.client = new SimClient(fleet.store, process, {
      info: () => ({ state: this.state, ring: this.ring?.version ?? 0, held: this.member?.handOff.heldVersions() ?? [] }),
      onJoined: () => {
        const facts: LeaseFacts = { holds: () => this.client.holds(), isOver: (id) => this.client.view.isOver(id) }
        this.member = new SimMember(world, fleet.members, process, {
          ring: null,
          leases: fault.leases?.(facts, this.client) ?? facts,
          ...(fault.ledger === undefined ? {} : { ledger: fault.ledger() }),
          alter: (message) => fault.alter?.(message, this.ring?.version ?? 0) ?? message,
          alterAnswer: (answer) => fault.alterAnswer?.(answer, this.ring?.version ?? 0) ?? answer,
          runMs: () => (world.chance(0.1) ? world.between(100, 1500) : world.between(1, 30)),
          onReadRing: () => this.client.readRing(),
          onEvent: () => this.client.tell(),
        })
        if (this.ring !== null) this.member.ringChanged(this.ring)
      },
      onRing: (document) => {
        this.ring = fleet.ringOf(document)
        this.member?.ringChanged(this.ring)
      },
      onMembers: () => this.member?.membersChanged(),
    })
  }

  get id(): string {
    return this.process.id
  }
}

/** Routes requests by the ring that it knows, which may be an old one. */
class Frontend {
  readonly process: SimProcess
  ring: Ring | null = null
  readonly #fleet: Fleet
  readonly #client: { revision: number } = { revision: 0 }

  constructor(fleet: Fleet, id: string) {
    this.#fleet = fleet
    this.process = new SimProcess(fleet.world, id, 1)
    fleet.store.watch(this.process, (change) => {
      if (change.kind === 'ring' && change.revision > this.#client.revision) {
        this.#client.revision = change.revision
        this.ring = fleet.ringFromBytes(change.bytes)
      }
    })
  }

  /** `answered` is called once. */
  call(key: string, kind: KeyKind, fresh: boolean, answered: (answer: SimAnswer) => void): void {
    const { world, fault } = this.#fleet
    const callId = this.#fleet.newCallId()
    const endsAtMs = world.nowMs + BUDGET_MS
    let over = false
    const end = (answer: SimAnswer): void => {
      if (over && fault.answersAgain !== true) return
      over = true
      answered(answer)
    }
    world.after(BUDGET_MS + GRACE_MS, () => end(failed('ERR_REGION_TIMEOUT')))
    const attempt = (number: number): void => {
      if (over) return
      const leftMs = endsAtMs - world.nowMs
      const { ring } = this
      const owner = ring === null ? undefined : world.pick(ring.owners(key, kind))
      if (ring === null || owner === undefined || leftMs <= 0) return end(failed('ERR_REGION_UNREACHABLE'))
      const request = { requestId: `${callId}.${number}`, key, kind, ring: { version: ring.version, predecessors: ring.predecessors(key, owner, kind) }, fresh }
      this.#fleet.deliver(this.process.id, owner, request, leftMs, (answer) => {
        const again = answer.kind === 'failed' && (answer.code === 'ERR_RING_MOVED' || fault.retriesWhatRan === true)
        if (again && !over && world.nowMs < endsAtMs) world.after(50, () => attempt(number + 1))
        else end(answer)
      })
      if (fault.retriesWhatRan === true) world.after(300, () => attempt(number + 100))
    }
    attempt(1)
  }
}

export class Fleet {
  readonly world: World
  readonly fault: Fault
  readonly store: SimStore
  readonly members = new Map<string, SimMember>()
  readonly counts = { served: 0, failed: 0, moved: 0, begun: 0, rings: 0, lost: 0 }
  #nodes: Node[] = []
  readonly #frontends: Frontend[]
  readonly #keys: { readonly key: string; readonly kind: KeyKind }[]
  readonly #rings = new Map<string, Ring>()
  /** How often each session was served in a row, as it really was. */
  readonly #served = new Map<string, number>()
  /** A member that had to do with the session is gone. */
  readonly #mayBeNew = new Set<string>()
  readonly #gone = new Set<string>()
  /** Members that the ring is to do without for now. */
  readonly #leftOut = new Set<string>()
  #checkedChanges = 0
  readonly #ran = new Map<string, number>()
  readonly #arrived = new Set<string>()
  #lives = 0
  #calls = 0
  #trouble = true

  constructor(seed: number, fault: Fault = {}) {
    this.world = new World(seed)
    const { world } = this
    this.fault = fault
    world.faults = {
      drop: world.chance(0.3) ? 0 : world.between(0, 0.15), duplicate: world.between(0, 0.1),
      slow: world.chance(0.5) ? 0 : world.between(0, 0.1), delayMs: world.pick([2, 20, 150]), slowMs: world.between(200, 3_000),
    }
    world.check = () => this.#check()
    this.store = new SimStore(world)
    this.#frontends = ['f0', 'f1', 'f2'].map((id) => new Frontend(this, id))
    this.#keys = [...Array.from({ length: 6 }, (_, index) => ({ key: ringKey('acc', 'f', `s${index}`), kind: 'single' as const })), ...Array.from({ length: 2 }, (_, index) => ({ key: ringKey('acc', `p${index}`), kind: 'pool' as const }))]
  }

  /** All of it. Throws at the first thing that is wrong. */
  run(): void {
    const { world } = this
    const count = 2 + world.random.below(4)
    for (let index = 0; index < count; index++) this.#join()
    this.#lead()
    world.runUntil(2_000)
    for (const { key, kind } of this.#keys) this.#use(key, kind)
    this.#mint()
    this.#disturb()
    if (world.chance(0.5)) this.#harass()
    world.runUntil(TROUBLE_MS)
    this.#trouble = false
    this.#leftOut.clear()
    world.heal()
    world.faults = { drop: 0, duplicate: 0, slow: 0, delayMs: 10, slowMs: 10 }
    world.log('calm')
    world.runUntil(TROUBLE_MS + CALM_MS)
    this.#checkEnd()
  }

  newCallId(): string {
    return `c${++this.#calls}`
  }

  ringOf(document: RingDocument): Ring {
    const id = `${document.version} ${document.previous.length} ${document.members.map(({ id }) => id).join(' ')}`
    const known = this.#rings.get(id)
    if (known !== undefined) return known
    const ring = new Ring(document)
    this.#rings.set(id, ring)
    return ring
  }

  ringFromBytes(bytes: Uint8Array): Ring {
    return this.ringOf(JSON.parse(Buffer.from(bytes).toString()) as RingDocument)
  }

  /** A request over a link: it may be lost, but a link gives no frame twice. The answer may come twice. */
  deliver(from: string, to: string, request: Parameters<SimMember['request']>[0], budgetMs: number, answered: (answer: SimAnswer) => void): void {
    const { world } = this
    world.send(from, to, () => {
      if (this.#arrived.has(request.requestId)) return
      this.#arrived.add(request.requestId)
      this.members.get(to)?.process.wake(() => {
        const member = this.members.get(to)
        member?.request(request, budgetMs, (answer) => {
          this.#ranAt(request, answer)
          world.send(to, from, () => answered(answer))
        })
      })
    })
  }

  #join(): void {
    const { world } = this
    const rate = 1 + world.between(-CLOCK_DRIFT / 2, CLOCK_DRIFT / 2)
    const node = new Node(this, new SimProcess(world, `m${++this.#lives}`, rate))
    world.log(`${node.id} joins`)
    this.#nodes.push(node)
  }

  get #up(): Node[] {
    if (this.#nodes.some(({ process }) => process.crashed)) this.#nodes = this.#nodes.filter(({ process }) => !process.crashed)
    return this.#nodes
  }

  /** Whoever comes first by its own view publishes; the store lets one of several win. */
  #lead(): void {
    const { world } = this
    for (const node of this.#up) {
      node.process.wake(() => {
        this.#leadAt(node)
        this.#leaveIfEmpty(node)
      })
    }
    world.after(400, () => this.#lead())
  }

  #leadAt(node: Node): void {
    const { world } = this
    const { client } = node
    if (!client.holds() || (client.alive().sort()[0] !== node.id && !world.chance(0.1))) return
    const document = client.ring
    for (const id of client.known()) if (client.view.isOver(id)) client.clear(id)
    const serving = client.alive().filter((id) => client.said(id)?.state === 'serving').sort()
    const wanted = serving.filter((id) => !this.#leftOut.has(id))
    const members = (wanted.length > 0 ? wanted : serving).map((id) => ({ id, weight: 1 }))
    if (members.length === 0) return
    if (document === null) return client.publish(firstRing(members))
    const needed = this.fault.dropsUnsettled === true ? new Set<number>() : neededVersions(document, (id) => client.said(id), (id) => client.view.isOver(id))
    const same = members.map(({ id }) => id).join() === document.members.map(({ id }) => id).join()
    try {
      if (!same) client.publish(nextRing(document, { members }, needed))
      else if (this.#trouble && world.chance(0.05)) client.publish(nextRing(document, { attributes: { managersPerKey: 1 + world.random.below(members.length) } }, needed))
      else if (this.#trouble && world.chance(0.02) && document.previous.length > 0) client.publish(rollback(document, needed))
      else if (world.chance(0.2)) {
        const retired = retire(document, needed)
        if (retired !== null && isNewer(retired, document)) client.publish(retired)
      }
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_RING_UNSETTLED') throw error
    }
  }

  #leaveIfEmpty(node: Node): void {
    const { member, client, ring } = node
    if (node.state !== 'draining' || member === null || ring === null || ring.weightOf(node.id) > 0 || member.handOff.itemCount() > 0) return
    this.world.log(`${node.id} leaves`)
    // What somebody has given it, and could not ask about, counts as lost with it.
    this.#isGone(node.id)
    client.leave()
    node.process.crash()
    this.members.delete(node.id)
  }

  /** One client of one key: mostly one request after the other, sometimes two at a time. */
  #use(key: string, kind: KeyKind): void {
    const { world } = this
    world.after(world.between(20, 600), () => {
      if (!this.#trouble) return
      for (let parallel = world.chance(0.2) ? 2 : 1; parallel > 0; parallel--) this.#call(key, kind, false)
      this.#use(key, kind)
    })
  }

  #mint(): void {
    const { world } = this
    world.after(world.between(500, 3_000), () => {
      if (!this.#trouble) return
      const key = ringKey('acc', 'f', `minted${++this.#calls}`)
      // What the client never hears of is never asked for again.
      this.#call(key, 'single', true, (answer) => {
        if (answer.kind === 'failed') return
        this.#keys.push({ key, kind: 'single' })
        this.#use(key, 'single')
      })
      if (this.#keys.length < 12) this.#mint()
    })
  }

  #call(key: string, kind: KeyKind, fresh: boolean, then: (answer: SimAnswer) => void = () => undefined): void {
    const { world } = this
    const callAtMs = world.nowMs
    let answers = 0
    world.pick(this.#frontends).call(key, kind, fresh, (answer) => {
      answers++
      if (answers > 1) throw new Error(`a request for ${key} is answered ${answers} times`)
      if (world.nowMs > callAtMs + BUDGET_MS + GRACE_MS + 1) throw new Error(`a request for ${key} is answered after ${world.nowMs - callAtMs} ms`)
      this.counts[answer.kind]++
      then(answer)
    })
    world.after(BUDGET_MS + GRACE_MS + 2, () => {
      if (answers === 0) throw new Error(`a request for ${key} is not answered`)
    })
  }

  /** I2 and I3, as things really happened. */
  #ranAt(request: { readonly requestId: string; readonly key: string; readonly kind: KeyKind }, answer: SimAnswer): void {
    if (answer.kind === 'failed') return
    const [callId = ''] = request.requestId.split('.')
    const ran = (this.#ran.get(callId) ?? 0) + 1
    this.#ran.set(callId, ran)
    if (ran > 1) throw new Error(`${callId} has run ${ran} times`)
    if (answer.state === 'moved') this.counts.moved++
    if (answer.state === 'new') this.counts.begun++
    if (request.kind === 'pool') return
    const { key } = request
    const before = this.#served.get(key) ?? 0
    if (answer.state === 'new' && before > 0 && !this.#mayBeNew.has(key)) throw new Error(`${key} is begun anew, and nobody is gone who could have had it`)
    const expected = answer.state === 'new' ? 1 : before + 1
    if (answer.count !== expected) throw new Error(`${key} goes on at ${answer.count} instead of ${expected}: ${answer.by} had an old state or a second one`)
    if (answer.state === 'new') this.#mayBeNew.delete(key)
    this.#served.set(key, answer.count)
  }

  /** Whatever it had or was given may be lost. */
  #isGone(id: string): void {
    this.#gone.add(id)
    for (const { key } of this.members.get(id)?.ledger.items() ?? []) this.#mayBeNew.add(key)
    for (const { member } of this.#up) this.#markGiven(member)
  }

  #markGiven(member: SimMember | null): void {
    for (const { key, hold } of member?.ledger.items() ?? []) if (hold.kind === 'given' && this.#gone.has(hold.to)) this.#mayBeNew.add(key)
  }

  #disturb(): void {
    const { world } = this
    world.after(world.between(200, 4_000), () => {
      if (!this.#trouble) return
      if (this.#up.length === 0) this.#join()
      const node = world.pick(this.#up)
      const kind = world.random.below(10)
      if (this.#up.length < 2) this.#join()
      else if (kind === 0 && this.#up.length > 1) {
        world.log(`${node.id} crashes`)
        this.#isGone(node.id)
        node.process.crash()
        this.members.delete(node.id)
        world.after(world.between(100, 5_000), () => this.#join())
      } else if (kind === 1) {
        const forMs = world.chance(0.3) ? world.between(5_000, 15_000) : world.between(20, 1_000)
        world.log(`${node.id} is paused for ${forMs.toFixed(0)} ms`)
        node.process.pause(forMs)
      } else if (kind === 2 && this.#up.length < 7) {
        this.#join()
      } else if (kind === 3 && this.#up.filter(({ state }) => state === 'serving').length > 1) {
        world.log(`${node.id} drains`)
        node.state = 'draining'
        node.client.tell()
      } else if (kind === 4) {
        this.#cut()
      }
      this.#disturb()
    })
  }

  /** Strikes where it hurts: who has just taken something is cut off from its giver, or crashes, while the ring goes on changing. */
  #harass(): void {
    const { world } = this
    world.after(100, () => {
      if (!this.#trouble) return
      for (const { id, member, process } of this.#up) {
        for (const { unconfirmed, arrived } of member?.ledger.items() ?? []) {
          if (unconfirmed === null || !world.chance(0.2)) continue
          world.log(`${id} is cut off from ${unconfirmed.from}, which gave it something`)
          world.cut(id, unconfirmed.from)
          if (arrived || !world.chance(0.1) || this.#up.length < 2) continue
          world.log(`${id} crashes with what it has taken`)
          this.#isGone(id)
          process.crash()
          this.members.delete(id)
          world.after(500, () => this.#join())
          break
        }
      }
      if (world.chance(0.1)) world.heal()
      if (world.chance(0.2)) {
        this.#leftOut.clear()
        for (const { id } of this.#up) if (world.chance(0.5)) this.#leftOut.add(id)
      }
      this.#harass()
    })
  }

  /** One line, or everything in two parts. */
  #cut(): void {
    const { world } = this
    const ids = [...this.#up.map(({ id }) => id), ...this.#frontends.map(({ process }) => process.id), STORE]
    if (world.chance(0.5)) {
      const [a, b] = [world.pick(ids), world.pick(ids)]
      world.log(`${a} and ${b} are cut`)
      world.cut(a, b)
    } else {
      const side = new Set(ids.filter(() => world.chance(0.4)))
      world.log(`${[...side].join(' ')} are cut off`)
      for (const a of side) for (const b of ids) if (!side.has(b)) world.cut(a, b)
    }
    world.after(world.chance(0.3) ? world.between(2_000, 15_000) : world.between(100, 1_500), () => {
      world.log('lines are healed')
      world.heal()
    })
  }

  /** I1, and who has lost its lease begins a new life. */
  #check(): void {
    let changes = 0
    for (const { id, member, process } of this.#up) {
      if (member === null) continue
      changes += member.changes
      if (!this.#gone.has(id) && !member.holds) this.#isGone(id)
      if (!member.handOff.isLost) continue
      this.world.log(`${id} has lost its lease`)
      this.counts.lost++
      for (const key of member.lostKeys) this.#mayBeNew.add(key)
      process.crash()
      this.members.delete(id)
      this.world.after(this.world.between(10, 500), () => this.#join())
    }
    // Leases only run out by themselves; whose an item is changes only where something has happened.
    if (changes === this.#checkedChanges) return
    this.#checkedChanges = changes
    const owners = new Map<string, string>()
    for (const { id: nodeId, member } of this.#up) {
      if (member === null) continue
      this.#markGiven(member)
      if (!member.holds) continue
      for (const { key, id, hold } of member.ledger.items()) {
        if (hold.kind !== 'idle' && hold.kind !== 'running') continue
        const other = owners.get(`${key} ${id}`)
        if (other !== undefined) throw new Error(`${key} ${id} is owned by ${other} and ${nodeId}`)
        owners.set(`${key} ${id}`, nodeId)
      }
    }
  }

  /** I4. */
  #checkEnd(): void {
    const { world } = this
    const version = this.store.ring?.version ?? 0
    this.counts.rings = version
    const ids = this.store.ring?.members.map(({ id }) => id) ?? []
    for (const { id, state, member } of this.#up) {
      const held = member?.handOff.heldVersions() ?? [-1]
      if (state === 'serving' && !ids.includes(id)) throw new Error(`${id} is not in the ring at the end`)
      if (state === 'draining') throw new Error(`${id} drains and holds ${member?.handOff.itemCount() ?? -1} items`)
      if (held.some((by) => by !== version)) throw new Error(`${id} holds items by ${held.join(' ')}, the ring is at ${version}`)
    }
    let served = 0
    for (const { key, kind } of this.#keys) this.#call(key, kind, false, (answer) => (answer.kind === 'served' ? served++ : undefined))
    world.runUntil(world.nowMs + BUDGET_MS + GRACE_MS + 10)
    if (served !== this.#keys.length) throw new Error(`at the end ${served} of ${this.#keys.length} keys are served`)
  }
}

function failed(code: string): SimAnswer {
  return { kind: 'failed', by: 'frontend', code, ringVersion: 0 }
}
