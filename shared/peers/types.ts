/**
 * The other members of a group (nodes of a region, hosts of a site), as whoever has something to ask them sees them.
 */
import type { LinkStream, LinkStreamSink, OpenInvocation } from '../link/types.ts'

/** What a member says of itself; others believe nothing of it that they need not. */
export interface PeerInfo {
  /** Where its link is: `host:port`. */
  readonly address: string
  /** Slots of its sandboxes, the weight of its share. */
  readonly capacity: number
  /** Of its link key, hex; null: a shared token stands for it. */
  readonly fingerprint: string | null
  /** Of the link, so that members of two releases know before they dial. */
  readonly protocol: number
  /** `joining`: loads what it will be asked for and owns nothing yet. `draining`: leaves, gets nothing new, gives its state away. */
  readonly state: 'joining' | 'serving' | 'draining'
  /** The newest ring that it has (0: none), and versions by which it holds state. */
  readonly ring: number
  readonly held: readonly number[]
  /** Written to see it come back: what is shown then is no older than this (shared/place/lease.ts). */
  readonly mark: number
}

export interface PeerMember {
  readonly memberId: string
  readonly info: PeerInfo
}

export interface Peers {
  /** This process's own id: of one life, another one after its lease was lost. */
  readonly self: string
  /** The others, by id. Free to read. */
  members(): readonly PeerMember[]
  /** Whether a question or an invocation sent now has a chance: linked up, and not silent to what it was sent before. Free to read. */
  reachable(memberId: string): boolean
  /**
   * Rejects with a CodedError: ERR_PEER_UNREACHABLE if it was certainly not asked, ERR_PEER_LOST if it may have been,
   * ERR_LINK_TOPIC if it does not answer this, or whatever its handler throws.
   */
  ask(memberId: string, topic: string, payload: unknown, timeoutMs: number): Promise<unknown>
  /** Answers questions of members. One handler for each topic; it checks the payload. */
  handle(topic: string, handler: (from: string, payload: unknown) => unknown): void
  /** Has a member run an invocation. The sink hears `error` for everything that goes wrong, never before this returns. */
  open(memberId: string, frame: OpenInvocation, sink: LinkStreamSink): LinkStream
}
