/** What a POP counts besides its front door: read from the parts when somebody scrapes, never written on a request's path. */
import type { Registry } from 'prom-client'
import { registerRingMetrics } from '../shared/cluster/metrics.ts'
import { counter, gauge, labelledGauge } from '../shared/http/metrics.ts'
import type { HotSet } from '../shared/place/hot-set.ts'
import { FORWARD_REASONS } from '../shared/place/place.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { AccountSlots } from './account-slots.ts'
import type { PopDispatcher } from './dispatcher.ts'
import type { FunctionTable } from './functions.ts'
import type { ImageCache } from './image-cache.ts'
import type { RegionSet } from './region-set.ts'
import type { Site } from './site.ts'

export interface PopParts {
  readonly dispatcher: PopDispatcher
  readonly table: FunctionTable
  readonly hotSet: HotSet
  readonly images: ImageCache
  readonly host: SandboxHost
  readonly link: RegionSet
  /** Null: nothing is leased. */
  readonly slots: AccountSlots | null
}

/** Once per registry. */
export function registerPopMetrics(registry: Registry, { dispatcher, table, hotSet, images, host, link, slots }: PopParts): void {
  const registers = [registry]
  gauge(registers, 'pop_dispatcher_in_flight_count', 'Invocations under way, forwarded ones included', () => dispatcher.inFlight)
  gauge(registers, 'pop_dispatcher_local_in_flight_count', 'Invocations that run or wait on own sandboxes', () => dispatcher.localInFlight)
  counter(registers, 'pop_dispatcher_refused_total', 'Invocations refused by admission', [], (add) => add({}, dispatcher.counts.admissionRefused))
  counter(registers, 'pop_dispatcher_shed_to_region_total', 'Invocations that the host refused and a region took', [], (add) => add({}, dispatcher.counts.shedToRegion))
  counter(registers, 'pop_dispatcher_waited_total', 'Invocations that had to wait for a sandbox, and what ended the wait of those that were taken back', ['fate'], (add) => {
    add({ fate: 'here' }, dispatcher.waits.watched - dispatcher.waits.withdrawn)
    add({ fate: 'elsewhere' }, dispatcher.waits.withdrawn - dispatcher.counts.shed)
  })
  counter(registers, 'pop_dispatcher_shed_total', 'Invocations that the host refused and no region could be asked for', [], (add) => add({}, dispatcher.counts.shed))
  counter(registers, 'pop_dispatcher_forwards_total', 'Invocations forwarded, by reason', ['reason'], (add) => {
    for (const reason of FORWARD_REASONS) add({ reason }, dispatcher.forwards[reason].count)
  })
  gauge(registers, 'pop_functions_tracked_count', 'Functions that somebody asked for lately', () => table.size)
  gauge(registers, 'pop_hot_set_functions_count', 'Functions that have a place here', () => hotSet.memberCount)
  gauge(registers, 'pop_hot_set_used_bytes', 'Bytes of their images', () => hotSet.usedBytes)
  counter(registers, 'pop_images_pulls_total', 'Images pulled', [], (add) => add({}, images.counts.pulls))
  counter(registers, 'pop_images_pull_failures_total', 'Pulls that failed', [], (add) => add({}, images.counts.pullFailures))
  counter(registers, 'pop_images_blocks_total', 'Blocks of pulled images, by where they came from', ['source'], (add) => {
    add({ source: 'region' }, images.counts.blocksFetched)
    add({ source: 'disk' }, images.counts.blocksReused)
  })
  counter(registers, 'pop_images_disk_evictions_total', 'Images that left the disk to make room', [], (add) => add({}, images.counts.diskEvictions))
  counter(registers, 'pop_images_disk_refusals_total', 'Images that did not earn a place on the disk', [], (add) => add({}, images.counts.diskRefusals))
  counter(registers, 'pop_images_altered_blocks_total', 'Blocks on the disk that were found altered, and fetched again', [], (add) => add({}, images.counts.blocksAltered))
  gauge(registers, 'pop_host_queued_count', 'Invocations that wait for a sandbox', () => host.stats().queued)
  gauge(registers, 'pop_host_running_count', 'Invocations inside sandboxes', () => host.stats().running)
  gauge(registers, 'pop_host_slots_used_count', 'Sandboxes in use', () => host.stats().slotsUsed)
  gauge(registers, 'pop_host_slots_count', 'Sandboxes', () => host.stats().slots)
  gauge(registers, 'pop_host_resident_bytes', 'Images, slots and caches counted against the memory budget', () => host.stats().residentBytes)
  labelledGauge(registers, 'pop_regions_open', 'Whether the link to a region is open: 1 or 0', 'region', () => link.status().map(({ name, open }) => [name, open ? 1 : 0]))
  labelledGauge(registers, 'pop_regions_latency_ms', 'What a trip to a region is taken to cost, penalties for failures included', 'region', () => link.status().map(({ name, latencyMs }) => [name, latencyMs]))
  counter(registers, 'pop_regions_attempts_total', 'Invocations given to a region, and those that failed on the way', ['region', 'fate'], (add) => {
    for (const { name, chosen, failed } of link.status()) {
      add({ region: name, fate: 'failed' }, failed)
      add({ region: name, fate: 'passed' }, chosen - failed)
    }
  })
  counter(registers, 'pop_regions_failovers_total', 'Invocations that were tried at another region', [], (add) => add({}, link.counts.failovers))
  counter(registers, 'pop_regions_behind_total', 'Times that regions were in reach, but none with the current version', [], (add) => add({}, link.counts.behind))
  gauge(registers, 'pop_link_open', 'Whether a region is in reach: 1 or 0', () => (link.state.kind === 'open' ? 1 : 0))
  gauge(registers, 'pop_slots_held_count', 'Slots leased from regions, of all accounts', () => slots?.stats().held ?? 0)
  gauge(registers, 'pop_slots_in_use_count', 'Of these, taken by invocations', () => slots?.stats().inUse ?? 0)
  counter(registers, 'pop_slots_questions_total', 'Questions for slots', [], (add) => add({}, slots?.counts.questions ?? 0))
  counter(registers, 'pop_slots_unanswered_total', 'Pools whose question was not answered', [], (add) => add({}, slots?.counts.unanswered ?? 0))
}

/** What passes between the hosts of a site. */
export function registerSiteMetrics(registry: Registry, site: Site, dispatcher: PopDispatcher): void {
  const registers = [registry]
  const { search, counts, peers } = site
  gauge(registers, 'pop_site_hosts_count', 'Other hosts of the site that are linked up and answer', () => peers.members().filter(({ memberId }) => peers.reachable(memberId)).length)
  registerRingMetrics(registry, 'pop', () => site.cluster?.ring ?? null)
  gauge(registers, 'pop_site_reserved_count', 'Sandboxes whose room is kept for other hosts', () => site.reserved)
  gauge(registers, 'pop_probe_round_trip_us', 'What a question to another host and its answer take, as learned', () => search.probeUs)
  counter(registers, 'pop_probe_requests_total', 'Questions to other hosts of the site for a free sandbox: pure ones, and final ones that may have it brought', ['kind', 'result'], (add) => {
    for (const kind of ['existing', 'final'] as const) for (const [result, count] of Object.entries(search.counts[kind])) add({ kind, result }, count)
  })
  counter(registers, 'pop_probe_searches_total', 'Calls for which other hosts were asked, and calls for which that was not worth it', ['kind'], (add) => {
    add({ kind: 'asked' }, search.counts.searches)
    add({ kind: 'skipped' }, search.counts.skipped)
  })
  counter(registers, 'pop_probe_asked_total', 'The same questions as this host was asked them, and how many it had a sandbox for', ['kind'], (add) => {
    add({ kind: 'existing' }, counts.askedExisting)
    add({ kind: 'final' }, counts.askedFinal)
    add({ kind: 'reserved' }, counts.reserved)
  })
  counter(registers, 'pop_site_calls_total', 'Calls that another host ran for this one, that this one ran for others, and that came without a reservation that holds', ['kind'], (add) => {
    add({ kind: 'sent' }, dispatcher.counts.sibling)
    add({ kind: 'ran' }, counts.ran)
    add({ kind: 'refused' }, counts.refused)
  })
}
