/** What a POP needs of its link to a region. `LinkClient` is one; tests bring another. */
import type { LinkClient } from '../shared/link/link-client.ts'

export type RegionLink = Pick<LinkClient, 'state' | 'onState' | 'onVersions' | 'open' | 'control' | 'getChain' | 'getBlocks' | 'describe' | 'snapshot' | 'report'>
