/** What a node counts of concurrency limits: read from the parts when somebody scrapes. No label names an account. */
import type { Registry } from 'prom-client'
import { counter, gauge } from '../../shared/http/metrics.ts'
import type { RegionLimits } from './region-limits.ts'

/** Once per registry. */
export function registerLimitMetrics(registry: Registry, { manager, grants, admission }: RegionLimits): void {
  const registers = [registry]
  gauge(registers, 'region_limits_leased_slots_count', 'Slots leased in the shares that this node counts', () => manager.leased)
  gauge(registers, 'region_limits_shares_count', 'Shares of accounts that this node counts', () => manager.count)
  gauge(registers, 'region_limits_pools_count', 'Pools of accounts whose current limit this node has in mind', () => grants.sets)
  counter(registers, 'region_limits_decisions_total', 'Decisions about current limits', ['decision'], (add) => {
    for (const decision of ['raise', 'lower', 'throttle', 'replace'] as const) add({ decision }, grants.counts[decision])
  })
  counter(registers, 'region_limits_questions_total', 'Questions for slots, of POPs and of this node', [], (add) => add({}, grants.counts.rounds))
  counter(registers, 'region_limits_writes_total', 'Writes of shares, by what came of them', ['outcome'], (add) => {
    add({ outcome: 'written' }, manager.counts.written)
    add({ outcome: 'conflict' }, manager.counts.conflicts)
    add({ outcome: 'failed' }, manager.counts.failures)
  })
  gauge(registers, 'region_admission_in_flight_count', 'Invocations that this node has admitted and not ended', () => admission.stats().inUse)
  gauge(registers, 'region_admission_waiting_count', 'Invocations that wait for a slot of their account', () => admission.waiting)
  counter(registers, 'region_admission_refused_total', 'Invocations refused at the limit of their account or function', ['limit'], (add) => {
    add({ limit: 'account' }, admission.counts.refusedAccount)
    add({ limit: 'function' }, admission.counts.refusedFunction)
  })
}
