/** Members of a group in one process, for tests of what asks them: no sockets, answers in a later turn. */
import { CodedError, toCodedError } from '../../shared/errors.ts'
import type { LinkStream, LinkStreamSink, OpenInvocation } from '../../shared/link/types.ts'
import type { PeerInfo, PeerMember, Peers } from '../../shared/peers/types.ts'

type Handler = (from: string, payload: unknown) => unknown
type OpenHandler = (from: string, frame: OpenInvocation, sink: LinkStreamSink) => LinkStream

export class MemoryPeerGroup {
  readonly #members = new Map<string, MemoryPeers>()
  /** Members that answer nothing. */
  readonly unreachable = new Set<string>()
  /** Every question that was asked. */
  readonly asked: { readonly from: string; readonly to: string; readonly topic: string }[] = []

  join(memberId: string, info: Partial<PeerInfo> = {}, onOpen: OpenHandler | null = null): MemoryPeers {
    const member = new MemoryPeers(this, memberId, { address: `${memberId}:1`, capacity: 1, fingerprint: null, protocol: 3, state: 'serving', ring: 0, held: [], mark: 0, ...info }, onOpen)
    this.#members.set(memberId, member)
    return member
  }

  leave(memberId: string): void {
    this.#members.delete(memberId)
  }

  others(memberId: string): readonly PeerMember[] {
    return [...this.#members.values()].filter(({ self }) => self !== memberId).map(({ self, info }) => ({ memberId: self, info }))
  }

  find(memberId: string): MemoryPeers {
    const member = this.#members.get(memberId)
    if (member === undefined || this.unreachable.has(memberId)) throw new CodedError('ERR_PEER_UNREACHABLE', [memberId, 'not there'])
    return member
  }
}

class MemoryPeers implements Peers {
  readonly self: string
  readonly info: PeerInfo
  readonly #group: MemoryPeerGroup
  readonly #onOpen: OpenHandler | null
  readonly #handlers = new Map<string, Handler>()

  constructor(group: MemoryPeerGroup, self: string, info: PeerInfo, onOpen: OpenHandler | null) {
    this.#group = group
    this.self = self
    this.info = info
    this.#onOpen = onOpen
  }

  members(): readonly PeerMember[] {
    return this.#group.others(this.self)
  }

  reachable(memberId: string): boolean {
    return this.#group.others(this.self).some((other) => other.memberId === memberId) && !this.#group.unreachable.has(memberId)
  }

  async ask(memberId: string, topic: string, payload: unknown): Promise<unknown> {
    this.#group.asked.push({ from: this.self, to: memberId, topic })
    await new Promise((resolve) => setImmediate(resolve))
    const handler = this.#group.find(memberId).#handlers.get(topic)
    if (handler === undefined) throw new CodedError('ERR_LINK_TOPIC', [topic])
    return handler(this.self, structuredClone(payload))
  }

  handle(topic: string, handler: Handler): void {
    if (this.#handlers.has(topic)) throw new Error(`topic ${topic} is handled already`)
    this.#handlers.set(topic, handler)
  }

  open(memberId: string, frame: OpenInvocation, sink: LinkStreamSink): LinkStream {
    try {
      const member = this.#group.find(memberId)
      if (member.#onOpen === null) throw new CodedError('ERR_PEER_UNREACHABLE', [memberId, 'it runs nothing'])
      return member.#onOpen(this.self, frame, sink)
    } catch (error) {
      queueMicrotask(() => sink.error(toCodedError(error).toData()))
      return { write: () => true, writeEnd: () => undefined, resume: () => undefined, cancel: () => undefined }
    }
  }
}
