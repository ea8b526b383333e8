/**
 * The other members of this process's group, linked up: who is there comes by `update`, links are made here.
 *
 * S1  At most `linksMax` links. Members beyond that are linked up when they are wanted, in place of the one that was
 *     unused for longest and carries nothing.
 * S2  A member that has left the group is sent nothing more; what it runs for us may finish.
 * S3  A member of another protocol is not dialled: it would be refused, and its own ring keeps it apart.
 */
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { PEER_LINKS_MAX } from '../limits.ts'
import { LINK_PROTOCOL } from '../link/frames.ts'
import { DEAD_STREAM } from '../link/link-client.ts'
import { TopicTable } from '../link/topics.ts'
import type { LinkStream, LinkStreamSink, OpenInvocation } from '../link/types.ts'
import type { Log } from '../log.ts'
import { ALIVE_TOPIC, Peer, type PeerLink } from './peer.ts'
import type { PeerMember, Peers } from './types.ts'

export interface PeerSetOptions {
  readonly self: string
  /** A link to a member, not started: as node `self`, and only to a server that says that it is that member. */
  readonly makeLink: (member: PeerMember, self: string) => PeerLink
  /** Questions of members; shared with those of POPs. */
  readonly topics?: TopicTable
  readonly clock: Clock
  readonly log: Log
  /** Default PEER_LINKS_MAX. */
  readonly linksMax?: number
}

/** What streams of a member that left may still take. */
const LEFT_DRAIN_MS = 900_000

export class PeerSet implements Peers {
  readonly topics: TopicTable
  readonly #options: PeerSetOptions
  readonly #log: Log
  readonly #linksMax: number
  readonly #linked = new Map<string, Peer>()
  readonly #listeners = new Set<() => void>()
  #self: string
  #members: readonly PeerMember[] = []
  #byId = new Map<string, PeerMember>()
  #closed = false

  constructor(options: PeerSetOptions) {
    this.#options = options
    this.#log = options.log.child('peers')
    this.#self = options.self
    this.#linksMax = options.linksMax ?? PEER_LINKS_MAX
    this.topics = options.topics ?? new TopicTable()
    this.topics.handle(ALIVE_TOPIC, ['node'], () => null)
  }

  get self(): string {
    return this.#self
  }

  get linkCount(): number {
    return this.#linked.size
  }

  members(): readonly PeerMember[] {
    return this.#members
  }

  member(memberId: string): PeerMember | null {
    return this.#byId.get(memberId) ?? null
  }

  reachable(memberId: string): boolean {
    return this.#linked.get(memberId)?.reachable ?? false
  }

  /** Called after every change of who is there or what they say. Returns the function that removes the listener. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async ask(memberId: string, topic: string, payload: unknown, timeoutMs: number): Promise<unknown> {
    return this.#peer(memberId).ask(topic, payload, timeoutMs)
  }

  handle(topic: string, handler: (from: string, payload: unknown) => unknown): void {
    this.topics.handle(topic, ['node'], ({ popId }, payload) => handler(popId, payload))
  }

  open(memberId: string, frame: OpenInvocation, sink: LinkStreamSink): LinkStream {
    try {
      return this.#peer(memberId).open(frame, sink)
    } catch (error) {
      queueMicrotask(() => sink.error(toCodedError(error).toData()))
      return DEAD_STREAM
    }
  }

  /** All members of the group now, this one among them or not. */
  update(members: readonly PeerMember[]): void {
    if (this.#closed) return
    this.#members = members.filter(({ memberId }) => memberId !== this.#self).sort((a, b) => (a.memberId < b.memberId ? -1 : 1))
    this.#byId = new Map(this.#members.map((member) => [member.memberId, member]))
    for (const [memberId, peer] of this.#linked) {
      const member = this.#byId.get(memberId)
      if (member === undefined || member.info.address !== peer.member.info.address) this.#unlink(memberId, peer)
      else peer.member = member
    }
    for (const { memberId, info } of this.#members) {
      if (this.#linked.size >= this.#linksMax) break
      if (info.protocol === LINK_PROTOCOL && !this.#linked.has(memberId)) this.#peer(memberId)
    }
    for (const listener of this.#listeners) listener()
  }

  /** Another life of this process: links of the one before end, for they speak in its name. */
  rename(self: string): void {
    this.#self = self
    for (const peer of this.#linked.values()) peer.link.close()
    this.#linked.clear()
    this.update([...this.#byId.values()])
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true
    for (const peer of this.#linked.values()) peer.link.close()
    this.#linked.clear()
    this.#members = []
    this.#byId.clear()
  }

  /** Throws ERR_PEER_UNREACHABLE. */
  #peer(memberId: string): Peer {
    const linked = this.#linked.get(memberId)
    if (linked !== undefined) return linked
    const member = this.#byId.get(memberId)
    if (member === undefined) throw new CodedError('ERR_PEER_UNREACHABLE', [memberId, 'not a member'])
    if (member.info.protocol !== LINK_PROTOCOL) throw new CodedError('ERR_PEER_UNREACHABLE', [memberId, `it speaks protocol ${member.info.protocol}`])
    if (this.#linked.size >= this.#linksMax) this.#makeRoom(memberId)
    const peer = new Peer(member, this.#options.makeLink(member, this.#self), this.#options.clock)
    this.#linked.set(memberId, peer)
    peer.link.start()
    return peer
  }

  /** S1. */
  #makeRoom(forMember: string): void {
    const idle = [...this.#linked].filter(([, peer]) => peer.link.stats().streams === 0).sort(([, a], [, b]) => a.lastUsedAtMs - b.lastUsedAtMs)[0]
    if (idle === undefined) throw new CodedError('ERR_PEER_UNREACHABLE', [forMember, 'all links are in use'])
    this.#unlink(...idle)
  }

  /** S2. */
  #unlink(memberId: string, peer: Peer): void {
    this.#linked.delete(memberId)
    peer.link.drain(LEFT_DRAIN_MS).catch((error: unknown) => this.#log.error('a link to a member did not end', { memberId, error: String(error) }))
  }
}
