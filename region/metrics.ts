/** What a region counts besides its front door: read from the parts when somebody scrapes. */
import type { Registry } from 'prom-client'
import { registerRingMetrics } from '../shared/cluster/metrics.ts'
import { counter, gauge } from '../shared/http/metrics.ts'
import type { ObjectStore } from '../shared/store/object-store.ts'
import type { Scrubber } from '../shared/store/repair.ts'
import type { Collector } from '../shared/store/roots.ts'
import type { RegionLinks } from './links.ts'
import type { RegionNodes } from './nodes.ts'
import type { PopDirectory } from './pop-directory.ts'
import type { PopReports } from './pop-reports.ts'

export interface RegionParts {
  readonly store: ObjectStore
  readonly collector: Collector
  readonly scrubber: Scrubber
  readonly popReports: Pick<PopReports, 'counts' | 'popCount'>
  /** Null: this process is the whole region. */
  readonly nodes?: RegionNodes | null
}

/** Once per registry. */
export function registerLinkMetrics(registry: Registry, links: Pick<RegionLinks, 'server' | 'listener'>, directory: Pick<PopDirectory, 'size'>): void {
  const registers = [registry]
  gauge(registers, 'region_links_count', 'Links of POPs, nodes and regions, those that have not said who they are included', () => links.server.connectionCount)
  gauge(registers, 'region_links_arriving_count', 'Connections at the link port that have not become a link', () => links.listener?.arriving ?? 0)
  counter(registers, 'region_links_ousted_total', 'Connections that were ended on their way to make room for others', [], (add) => add({}, links.listener?.refused ?? 0))
  counter(registers, 'region_pop_key_conflicts_total', 'Links with the key of a POP that had a living one: two processes with one key', [], (add) => add({}, links.server.conflicts))
  gauge(registers, 'region_pops_registered_count', 'Names that are registered for keys, those whose key was revoked included', () => directory.size)
}

/** Once per registry. */
export function registerRegionMetrics(registry: Registry, { store, collector, scrubber, popReports, nodes = null }: RegionParts): void {
  const registers = [registry]
  if (nodes !== null) registerNodes(registry, nodes)
  gauge(registers, 'region_pops_reporting_count', 'POPs that have reported lately', () => popReports.popCount)
  counter(registers, 'region_pops_reports_total', 'Reports of POPs, by whether they had come before', ['kind'], (add) => {
    add({ kind: 'new' }, popReports.counts.reports)
    add({ kind: 'replayed' }, popReports.counts.replays)
  })
  counter(registers, 'region_pops_invocations_total', 'What POPs say became of the calls they got', ['fate'], (add) => {
    add({ fate: 'local' }, popReports.counts.local)
    add({ fate: 'forwarded' }, popReports.counts.forwarded)
    add({ fate: 'failed' }, popReports.counts.failed)
  })
  counter(registers, 'region_pops_advised_total', 'Functions that POPs were advised to hold', [], (add) => add({}, popReports.counts.advised))
  gauge(registers, 'region_store_objects_count', 'Images, zips and modules that are stored', () => store.counts().objects)
  gauge(registers, 'region_store_blocks_count', 'Sealed blocks', () => store.counts().blocks)
  gauge(registers, 'region_store_block_bytes', 'Sealed blocks, bytes', () => store.counts().blockBytes)
  gauge(registers, 'region_store_manifest_bytes', 'Sealed manifests, bytes', () => store.counts().manifestBytes)
  gauge(registers, 'region_store_logical_bytes', 'Contents of all objects as if nothing were shared', () => store.counts().logicalBytes)
  counter(registers, 'region_store_blocks_put_total', 'Blocks of objects that were put, by whether they were there', ['kind'], (add) => {
    add({ kind: 'new' }, store.events.blocksWritten)
    add({ kind: 'shared' }, store.events.blocksShared)
  })
  counter(registers, 'region_store_blocks_read_total', 'Blocks read', [], (add) => add({}, store.events.blocksRead))
  counter(registers, 'region_store_blocks_damaged_total', 'Blocks found missing or altered', [], (add) => add({}, store.events.blocksDamaged))
  counter(registers, 'region_store_blocks_repaired_total', 'Blocks mended from another copy or region', [], (add) => add({}, store.events.blocksRepaired))
  counter(registers, 'region_store_retired_reads_total', 'Reads of what only a retired root claims: anything above 0 is a fault', [], (add) => add({}, store.events.retiredReads))
  counter(registers, 'region_store_gc_cycles_total', 'Passes over everything that functions name', [], (add) => add({}, collector.events.cycles))
  counter(registers, 'region_store_gc_deleted_total', 'What collections deleted', ['kind'], (add) => {
    add({ kind: 'object' }, collector.events.objectsDeleted)
    add({ kind: 'block' }, collector.events.blocksDeleted)
  })
  counter(registers, 'region_store_gc_deleted_bytes_total', 'Bytes of deleted blocks', [], (add) => add({}, collector.events.bytesDeleted))
  counter(registers, 'region_store_gc_put_off_total', 'Deletions put off since their root was read', [], (add) => add({}, collector.events.deletionsPutOff))
  counter(registers, 'region_store_gc_missing_total', 'Objects that a record names and that are not there', [], (add) => add({}, collector.events.liveMissing))
  counter(registers, 'region_store_scrub_bytes_total', 'Blocks read by the scrub, bytes', [], (add) => add({}, scrubber.events.bytes))
  counter(registers, 'region_store_scrub_passes_total', 'Passes of the scrub over all blocks', [], (add) => add({}, scrubber.events.passes))
}

function registerNodes(registry: Registry, nodes: RegionNodes): void {
  const registers = [registry]
  registerRingMetrics(registry, 'region', () => nodes.cluster?.ring ?? null)
  gauge(registers, 'region_peers_reachable_count', 'Other nodes that are linked up and answer', () => nodes.peers.members().filter(({ memberId }) => nodes.peers.reachable(memberId)).length)
  gauge(registers, 'region_hand_off_items_count', 'Things with one owner that this node holds', () => nodes.cluster?.handOff?.itemCount ?? 0)
  counter(registers, 'region_node_calls_total', 'Calls by where they ran: here at home, at another node, here though at home elsewhere, here for another node', ['kind'], (add) => {
    for (const [kind, count] of Object.entries(nodes.router.counts)) add({ kind }, count)
  })
}
