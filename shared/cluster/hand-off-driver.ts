/**
 * Carries out what hand-off decides: messages to members and their answers, requests that are served or refused, and
 * the clock. Decisions are all in the machine (shared/place/hand-off.ts).
 *
 * V1  Each request hears `serve` or `refuse` once, and `stop` at most once after `serve`.
 * V2  The machine is never called from within a call of it: effects are carried out when it has returned, in their order.
 */
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Peers } from '../peers/types.ts'
import { parseHandOffAnswer, parseHandOffMessage, type HandOffEffect, type HandOffMachine, type HandOffRefusal, type HandOffRequest } from '../place/hand-off-types.ts'
import type { Ring } from '../place/ring.ts'

export const HAND_OFF_TOPIC = 'hand-off'

export interface HandOffWaiter {
  serve(itemId: string, state: 'held' | 'moved' | 'new'): void
  refuse(code: HandOffRefusal, ringVersion: number): void
  stop(): void
}

export interface HandOffDriverOptions {
  readonly machine: HandOffMachine
  readonly peers: Peers
  readonly clock: Clock
  readonly log: Log
  /** Somebody has spoken of this version. */
  readonly readRing: (version: number) => void
  /** After every event: what the member says of itself may have changed. */
  readonly onEvent: () => void
}

export class HandOffDriver {
  readonly #options: HandOffDriverOptions
  readonly #log: Log
  readonly #waiters = new Map<string, HandOffWaiter>()
  readonly #effects: HandOffEffect[] = []
  #running = false
  #closed = false
  #timer: { readonly dueAtMs: number; readonly cancel: () => void } | null = null

  constructor(options: HandOffDriverOptions) {
    this.#options = options
    this.#log = options.log.child('hand-off')
  }

  get itemCount(): number {
    return this.#options.machine.itemCount()
  }

  get heldVersions(): readonly number[] {
    return this.#options.machine.heldVersions()
  }

  request(request: HandOffRequest, waiter: HandOffWaiter): void {
    this.#waiters.set(request.requestId, waiter)
    this.#do((machine, nowMs) => machine.request(request, nowMs))
  }

  finished(requestId: string, item: 'kept' | 'closed'): void {
    this.#waiters.delete(requestId)
    this.#do((machine, nowMs) => machine.finished(requestId, item, nowMs))
  }

  /** For one that was not served yet: it hears nothing more. */
  cancel(requestId: string): void {
    this.#waiters.delete(requestId)
    this.#options.machine.cancel(requestId)
  }

  discard(key: string, itemId: string): boolean {
    return this.#options.machine.discard(key, itemId)
  }

  ringChanged(ring: Ring): void {
    this.#do((machine, nowMs) => machine.ringChanged(ring, nowMs))
  }

  membersChanged(): void {
    this.#do((machine, nowMs) => machine.membersChanged(nowMs))
  }

  /** What a member says; the answer goes back to it. Throws ERR_LINK_PROTOCOL. */
  received(from: string, payload: unknown): unknown {
    const message = parseHandOffMessage(payload)
    if (message === null) throw new CodedError('ERR_LINK_PROTOCOL', ['no message of a hand-off'])
    let said: unknown = { kind: 'lost' }
    this.#do((machine, nowMs) => {
      const { answer, effects } = machine.received(from, message, nowMs)
      said = answer
      return effects
    })
    return said
  }

  /** Nothing is carried out any more; requests that wait are refused. */
  close(): void {
    this.#closed = true
    this.#timer?.cancel()
    for (const waiter of this.#waiters.values()) waiter.refuse('ERR_OWNERSHIP_LOST', 0)
    this.#waiters.clear()
  }

  /** V2. */
  #do(call: (machine: HandOffMachine, nowMs: number) => readonly HandOffEffect[]): void {
    if (this.#closed) return
    const { machine, clock } = this.#options
    this.#effects.push(...call(machine, clock.monotonicMs()))
    if (this.#running) return
    this.#running = true
    try {
      for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) this.#carryOut(effect)
    } finally {
      this.#running = false
    }
    this.#setTimer()
    this.#options.onEvent()
  }

  #carryOut(effect: HandOffEffect): void {
    switch (effect.kind) {
      case 'ask':
        return this.#ask(effect)
      case 'serve':
        // Not its key: whoever has the name of a session can use it.
        this.#log.debug('an item is served', { requestId: effect.requestId, state: effect.state })
        return this.#waiters.get(effect.requestId)?.serve(effect.itemId, effect.state)
      case 'refuse': {
        const waiter = this.#waiters.get(effect.requestId)
        this.#waiters.delete(effect.requestId)
        return waiter?.refuse(effect.code, effect.ringVersion)
      }
      case 'stop': {
        const waiter = this.#waiters.get(effect.requestId)
        this.#waiters.delete(effect.requestId)
        return waiter?.stop()
      }
      case 'read-ring':
        return this.#options.readRing(effect.version)
    }
  }

  #ask({ askId, to, message, timeoutMs }: Extract<HandOffEffect, { kind: 'ask' }>): void {
    this.#options.peers.ask(to, HAND_OFF_TOPIC, message, timeoutMs).then((answer) => {
      const parsed = parseHandOffAnswer(answer)
      if (parsed === null) this.#log.warn('a member gave no answer of a hand-off', { member: to, question: message.kind })
      else if (parsed.kind === 'state') this.#log.debug('state was asked for', { member: to, question: message.kind, items: parsed.items.length, busy: parsed.busy, elsewhere: parsed.elsewhere.length })
      this.#do((machine, nowMs) => machine.answered(askId, parsed, nowMs))
    }, (error: unknown) => {
      this.#log.debug('a member does not answer a hand-off', { member: to, question: message.kind, code: toCodedError(error).code })
      this.#do((machine, nowMs) => machine.answered(askId, null, nowMs))
    })
  }

  #setTimer(): void {
    const dueAtMs = this.#options.machine.dueAtMs()
    if (dueAtMs === (this.#timer?.dueAtMs ?? null)) return
    this.#timer?.cancel()
    this.#timer = null
    if (dueAtMs === null) return
    const cancel = this.#options.clock.after(Math.max(0, dueAtMs - this.#options.clock.monotonicMs()), () => {
      this.#timer = null
      this.#do((machine, nowMs) => machine.tick(nowMs))
    })
    this.#timer = { dueAtMs, cancel }
  }
}
