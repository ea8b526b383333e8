/**
 * One life of a member: the real hand-off on a simulated process and network. It keeps states that count how often they
 * were served, so that an old or a second copy shows in the answers.
 */
import { HandOff } from '../../shared/place/hand-off.ts'
import { parseHandOffAnswer, parseHandOffMessage } from '../../shared/place/hand-off-types.ts'
import type { HandOffAnswer, HandOffEffect, HandOffMessage, HandOffRequest, ItemStore, LeaseFacts } from '../../shared/place/hand-off-types.ts'
import { ItemLedger } from '../../shared/place/item-ledger.ts'
import type { Ring } from '../../shared/place/ring.ts'
import type { SimProcess, World } from './world.ts'

export type SimAnswer =
  | { readonly kind: 'served'; readonly by: string; readonly itemId: string; readonly state: 'held' | 'moved' | 'new'; readonly count: number }
  | { readonly kind: 'failed'; readonly by: string; readonly code: string; readonly ringVersion: number }

export interface SimMemberOptions {
  readonly ring: Ring | null
  readonly leases: LeaseFacts
  readonly ledger?: ItemLedger
  /** How long a request runs, ms. */
  readonly runMs: () => number
  readonly onReadRing?: (version: number) => void
  /** After everything that may have changed what the member says of itself. */
  readonly onEvent?: () => void
  /** What arrives, altered: a fault on purpose. */
  readonly alter?: (message: HandOffMessage) => HandOffMessage
  readonly alterAnswer?: (answer: HandOffAnswer) => HandOffAnswer
}

interface Run {
  readonly key: string
  readonly itemId: string
  readonly state: 'held' | 'moved' | 'new'
}

export class SimMember implements ItemStore {
  readonly process: SimProcess
  readonly ledger: ItemLedger
  readonly handOff: HandOff
  /** How often each item was served, by key and id. */
  readonly counts = new Map<string, number>()
  /** Of what it had when its lease was over. */
  readonly lostKeys = new Set<string>()
  /** Messages sent, by kind. */
  readonly sent = new Map<string, number>()
  /** Grows with everything that may have changed whose anything is. */
  changes = 0
  readonly #world: World
  readonly #fleet: Map<string, SimMember>
  readonly #options: SimMemberOptions
  readonly #respond = new Map<string, (answer: SimAnswer) => void>()
  readonly #runs = new Map<string, Run>()
  readonly #asks = new Set<number>()
  #cancelTick: () => void = () => undefined

  constructor(world: World, fleet: Map<string, SimMember>, process: SimProcess, options: SimMemberOptions) {
    this.#world = world
    this.#fleet = fleet
    this.process = process
    this.#options = options
    this.ledger = options.ledger ?? new ItemLedger()
    this.handOff = new HandOff({ self: process.id, ring: options.ring, store: this, leases: options.leases, ledger: this.ledger })
    fleet.set(process.id, this)
  }

  get id(): string {
    return this.process.id
  }

  /** By its own clock, or as a fault on purpose has it. */
  get holds(): boolean {
    return !this.process.crashed && this.#options.leases.holds()
  }

  /** This member would serve an item of the key now, or does. */
  ownsNow(key: string): boolean {
    return this.holds && this.ledger.of(key).some(({ hold }) => hold.kind === 'idle' || hold.kind === 'running')
  }

  /** A request as it arrives here. `respond` is called once. */
  request(request: Omit<HandOffRequest, 'deadlineMs'>, budgetMs: number, respond: (answer: SimAnswer) => void): void {
    this.#respond.set(request.requestId, respond)
    this.#do((nowMs) => this.handOff.request({ ...request, deadlineMs: nowMs + budgetMs }, nowMs))
  }

  ringChanged(ring: Ring): void {
    this.#do((nowMs) => this.handOff.ringChanged(ring, nowMs))
  }

  membersChanged(): void {
    this.#do((nowMs) => this.handOff.membersChanged(nowMs))
  }

  /** An item that is here from the start. */
  seed(key: string, itemId: string, ringVersion: number): void {
    this.ledger.end(this.ledger.begin(key, itemId, ringVersion, 'seed'))
    this.counts.set(place(key, itemId), 0)
  }

  pack(key: string, itemId: string): unknown {
    return { count: this.counts.get(place(key, itemId)) ?? 0 }
  }

  adopt(key: string, itemId: string, state: unknown): boolean {
    this.counts.set(place(key, itemId), (state as { count: number }).count)
    return true
  }

  forget(key: string, itemId: string): void {
    if (!this.holds) this.lostKeys.add(key)
    this.counts.delete(place(key, itemId))
  }

  #do(call: (nowMs: number) => readonly HandOffEffect[]): void {
    this.changes++
    for (const effect of call(this.process.nowMs)) this.#carryOut(effect)
    this.#cancelTick()
    const dueAtMs = this.handOff.dueAtMs()
    if (dueAtMs !== null) this.#cancelTick = this.process.after(Math.max(0, dueAtMs - this.process.nowMs), () => this.#do((nowMs) => this.handOff.tick(nowMs)))
    this.#options.onEvent?.()
  }

  #carryOut(effect: HandOffEffect): void {
    switch (effect.kind) {
      case 'ask':
        this.sent.set(effect.message.kind, (this.sent.get(effect.message.kind) ?? 0) + 1)
        return this.#ask(effect.askId, effect.to, effect.message, effect.timeoutMs)
      case 'serve':
        this.#world.log(`${this.id} serves ${effect.key} ${effect.state} for ${effect.requestId}`)
        this.#runs.set(effect.requestId, { key: effect.key, itemId: effect.itemId, state: effect.state })
        this.process.after(this.#options.runMs(), () => this.#finish(effect.requestId))
        return
      case 'refuse':
        return this.#answer(effect.requestId, { kind: 'failed', by: this.id, code: effect.code, ringVersion: effect.ringVersion })
      case 'stop':
        this.#runs.delete(effect.requestId)
        return this.#answer(effect.requestId, { kind: 'failed', by: this.id, code: 'ERR_OWNERSHIP_LOST', ringVersion: 0 })
      case 'read-ring':
        return this.#options.onReadRing?.(effect.version)
    }
  }

  #ask(askId: number, to: string, message: HandOffMessage, timeoutMs: number): void {
    this.#world.log(`${this.id} -> ${to} ${JSON.stringify(message)}`)
    this.#asks.add(askId)
    const settle = (answer: HandOffAnswer | null): void => {
      if (this.#asks.delete(askId)) this.#do((nowMs) => this.handOff.answered(askId, answer, nowMs))
    }
    this.process.after(timeoutMs, () => settle(null))
    this.#world.send(this.id, to, () => {
      const peer = this.#fleet.get(to)
      peer?.process.wake(() => {
        const answer = peer.#received(this.id, message)
        this.#world.log(`${this.id} <- ${to} ${JSON.stringify(answer)}`)
        this.#world.send(to, this.id, () => this.process.wake(() => settle(answer)))
      })
    })
  }

  #received(from: string, message: HandOffMessage): HandOffAnswer | null {
    const parsed = parseHandOffMessage(structuredClone(message))
    if (parsed === null) throw new Error(`no message: ${JSON.stringify(message)}`)
    let answer: HandOffAnswer | null = null
    this.#do((nowMs) => {
      const received = this.handOff.received(from, this.#options.alter?.(parsed) ?? parsed, nowMs)
      answer = parseHandOffAnswer(structuredClone(this.#options.alterAnswer?.(received.answer) ?? received.answer))
      return received.effects
    })
    return answer
  }

  #finish(requestId: string): void {
    const run = this.#runs.get(requestId)
    if (run === undefined) return
    this.#runs.delete(requestId)
    // What a run has done leaves the process only if the lease still holds (H5).
    if (!this.#options.leases.holds()) {
      this.#do((nowMs) => this.handOff.tick(nowMs))
      return this.#answer(requestId, { kind: 'failed', by: this.id, code: 'ERR_OWNERSHIP_LOST', ringVersion: 0 })
    }
    const count = (this.counts.get(place(run.key, run.itemId)) ?? 0) + 1
    this.counts.set(place(run.key, run.itemId), count)
    this.#do((nowMs) => this.handOff.finished(requestId, 'kept', nowMs))
    this.#answer(requestId, { kind: 'served', by: this.id, itemId: run.itemId, state: run.state, count })
  }

  #answer(requestId: string, answer: SimAnswer): void {
    const respond = this.#respond.get(requestId)
    this.#respond.delete(requestId)
    respond?.(answer)
  }
}

function place(key: string, itemId: string): string {
  return `${key}\n${itemId}`
}
