/** What a POP needs of its link to the regions. `RegionSet` is one, and `LinkClient` for one region; tests bring others. */
import type { LinkClient } from '../shared/link/link-client.ts'
import type { LinkStream, LinkStreamSink, OpenFrame } from '../shared/link/types.ts'

/** How an invocation may be dealt with when a region fails. */
export interface OpenOptions {
  /** The function may run more than once for one request. */
  readonly idempotent: boolean
}

export interface RegionStream extends LinkStream {
  /** Regions that were asked so far. Absent: one. */
  readonly attempts?: number
}

export interface RegionLink extends Pick<LinkClient, 'state' | 'onState' | 'onVersions' | 'control' | 'getChain' | 'getBlocks' | 'describe' | 'snapshot' | 'report'> {
  open(frame: OpenFrame, sink: LinkStreamSink, options?: OpenOptions): RegionStream
}

/** The link as the POP's owner of it. */
export interface OwnedLink extends RegionLink {
  start(): void
  drain(timeoutMs: number): Promise<void>
  close(): void
}
