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
  /** It leaves: it gets nothing new, and gives its state away. */
  readonly draining: boolean
}

export interface PeerMember {
  readonly memberId: string
  readonly info: PeerInfo
}

export interface Peers {
  /** This process's own id. */
  readonly self: string
  /** The others that may be tried, by id. Free to read. */
  members(): readonly PeerMember[]
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
