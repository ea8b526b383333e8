/**
 * One other member and the link to it.
 *
 * P1  A member that was sent something and said nothing for SILENT_MS counts as silent until it says anything: it stands
 *     still, or the way to it is cut. A silent one is asked for a sign of life now and then and for nothing else.
 * P2  An error of the link is told as one of the member: nobody here speaks of regions.
 */
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError, type CodedErrorData } from '../errors.ts'
import type { LinkClient } from '../link/link-client.ts'
import type { LinkStream, LinkStreamSink, OpenInvocation } from '../link/types.ts'
import type { StartKind } from '../outcome.ts'
import type { SessionAnswer } from '../sessions/types.ts'
import type { InvocationResult } from '../worker/types.ts'
import type { PeerMember } from './types.ts'

/** Of a LinkClient. */
export type PeerLink = Pick<LinkClient, 'state' | 'onState' | 'start' | 'open' | 'ask' | 'drain' | 'close' | 'stats'>

/** Answers come within a round trip; an invocation says `started` once its image is there. */
const SILENT_MS = 500
/** Between two questions whether it is alive, and how long one of them may take. */
const ALIVE_PERIOD_MS = 100
const ALIVE_TIMEOUT_MS = 500
/** Every member answers this. */
export const ALIVE_TOPIC = 'alive'

export class Peer {
  readonly link: PeerLink
  readonly #clock: Clock
  #member: PeerMember
  lastUsedAtMs: number
  /** Since when it owes a sign of life. */
  #waitingSinceMs: number | null = null
  #askedIfAliveAtMs = Number.NEGATIVE_INFINITY

  constructor(member: PeerMember, link: PeerLink, clock: Clock) {
    this.#member = member
    this.link = link
    this.#clock = clock
    this.lastUsedAtMs = clock.monotonicMs()
    link.onState((state) => {
      if (state.kind === 'open') this.#heard()
    })
  }

  get member(): PeerMember {
    return this.#member
  }

  set member(member: PeerMember) {
    this.#member = member
  }

  get reachable(): boolean {
    if (this.link.state.kind !== 'open') return false
    if (this.#waitingSinceMs === null) return true
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#waitingSinceMs < SILENT_MS / 2) return true
    this.#askIfAlive(nowMs)
    return nowMs - this.#waitingSinceMs < SILENT_MS
  }

  /** Rejects with a CodedError of this member (P2), within `timeoutMs`. */
  async ask(topic: string, payload: unknown, timeoutMs: number): Promise<unknown> {
    const startedAtMs = this.#clock.monotonicMs()
    if (this.link.state.kind !== 'open') await this.#whenOpen(timeoutMs)
    this.#sent()
    const leftMs = Math.max(1, Math.ceil(timeoutMs - (this.#clock.monotonicMs() - startedAtMs)))
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    // The link looks at deadlines every half second, and gives a peer time to say that it was late.
    const cancelTimer = this.#clock.after(leftMs, () => reject(this.#lost('no answer in time')))
    this.link.ask(topic, payload, leftMs).then((answer) => {
      this.#heard()
      resolve(answer)
    }, (error: unknown) => reject(this.#told(toCodedError(error).toData())))
    try {
      return await promise
    } finally {
      cancelTimer()
    }
  }

  open(frame: OpenInvocation, sink: LinkStreamSink): LinkStream {
    this.#sent()
    return this.link.open(frame, new PeerSink(sink, { heard: () => this.#heard(), told: (error) => this.#told(error).toData() }))
  }

  #sent(): void {
    this.lastUsedAtMs = this.#clock.monotonicMs()
    this.#waitingSinceMs ??= this.lastUsedAtMs
  }

  #heard(): void {
    this.#waitingSinceMs = null
  }

  #askIfAlive(nowMs: number): void {
    if (nowMs - this.#askedIfAliveAtMs < ALIVE_PERIOD_MS) return
    this.#askedIfAliveAtMs = nowMs
    this.link.ask(ALIVE_TOPIC, null, ALIVE_TIMEOUT_MS).then(() => this.#heard(), () => undefined)
  }

  /** For a link that is on its way; one that waits for its next attempt is not waited for. */
  #whenOpen(timeoutMs: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const settle = (kind: string): void => {
      if (kind === 'open') resolve(undefined)
      else if (kind !== 'connecting') reject(this.#unreachable('no connection'))
    }
    const stopListening = this.link.onState(({ kind }) => settle(kind))
    const cancelTimer = this.#clock.after(timeoutMs, () => reject(this.#unreachable('no connection in time')))
    settle(this.link.state.kind)
    return promise.finally(() => {
      stopListening()
      cancelTimer()
    })
  }

  /** P2. */
  #told(error: CodedErrorData): CodedError {
    switch (error.code) {
      case 'ERR_REGION_UNREACHABLE':
        return this.#unreachable('no connection')
      case 'ERR_REGION_LOST':
        this.#heard()
        return this.#lost('the connection ended')
      case 'ERR_REGION_TIMEOUT':
        return this.#lost('no answer in time')
      default:
        // It has answered, if only with a refusal.
        this.#heard()
        return CodedError.fromData(error)
    }
  }

  #unreachable(why: string): CodedError {
    return new CodedError('ERR_PEER_UNREACHABLE', [this.#member.memberId, why])
  }

  #lost(why: string): CodedError {
    return new CodedError('ERR_PEER_LOST', [this.#member.memberId, why])
  }
}

interface PeerSinkOwner {
  heard(): void
  told(error: CodedErrorData): CodedErrorData
}

class PeerSink implements LinkStreamSink {
  readonly #sink: LinkStreamSink
  readonly #owner: PeerSinkOwner

  constructor(sink: LinkStreamSink, owner: PeerSinkOwner) {
    this.#sink = sink
    this.#owner = owner
  }

  started(): void {
    this.#owner.heard()
    this.#sink.started()
  }

  session(answer: SessionAnswer): void {
    this.#sink.session?.(answer)
  }

  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void {
    this.#owner.heard()
    this.#sink.head(status, headers, startKind, version, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  drain(): void {
    this.#owner.heard()
    this.#sink.drain()
  }

  end(result: InvocationResult | null, version: string | null): void {
    this.#owner.heard()
    this.#sink.end(result, version)
  }

  error(error: CodedErrorData): void {
    this.#sink.error(this.#owner.told(error))
  }
}
