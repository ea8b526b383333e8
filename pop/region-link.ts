/** What the parts of a POP need of its regions. `RegionSet` is it. */
import type { LinkClient } from '../shared/link/link-client.ts'
import type { LinkStream, LinkStreamSink, OpenFrame, PopReport, RegionAdvice } from '../shared/link/types.ts'

/** How an invocation may be dealt with when a region fails. */
export interface OpenOptions {
  /** The function may run more than once for one request. */
  readonly idempotent: boolean
}

export interface RegionStream extends LinkStream {
  /** Regions that were asked so far. Absent: one. */
  readonly attempts?: number
}

export interface RegionLink extends Pick<LinkClient, 'state' | 'onState' | 'onVersions' | 'control' | 'getChain' | 'getBlocks' | 'describe' | 'ask'> {
  /** What a trip to the nearest region in reach and back takes. */
  readonly tripMs: number
  open(frame: OpenFrame, sink: LinkStreamSink, options?: OpenOptions): RegionStream
}

/** For whoever has something to tell each of them, by its number from 0. */
export interface EachRegion {
  readonly regionCount: number
  isOpen(region: number): boolean
  /** Rejects with a CodedError. */
  report(region: number, report: PopReport): Promise<RegionAdvice>
}
