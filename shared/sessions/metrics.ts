/** What is counted of a process's sessions: read from the table when somebody scrapes. */
import type { Registry } from 'prom-client'
import { counter, gauge, type Tier } from '../http/metrics.ts'
import type { SessionTable } from './session-table.ts'
import { SESSION_REASONS } from './types.ts'

/** Once per registry. */
export function registerSessionMetrics(registry: Registry, tier: Tier, table: SessionTable): void {
  const registers = [registry]
  gauge(registers, `${tier}_sessions_live_count`, 'Sessions in memory', () => table.live)
  gauge(registers, `${tier}_sessions_disk_count`, 'Sessions on disk', () => table.onDisk)
  gauge(registers, `${tier}_sessions_bytes`, 'Their machines at rest in memory, bytes', () => table.bytes)
  gauge(registers, `${tier}_sessions_waiting_count`, 'Requests that wait for another of their session', () => table.waiting)
  counter(registers, `${tier}_sessions_requests_total`, 'Requests of sessions, by what they found', ['kind'], (add) => {
    add({ kind: 'new' }, table.counts.begun)
    add({ kind: 'resumed' }, table.counts.resumed)
    add({ kind: 'refused' }, table.counts.refused)
  })
  counter(registers, `${tier}_sessions_ended_total`, 'Sessions that ended, by why', ['reason'], (add) => {
    for (const reason of SESSION_REASONS) add({ reason }, table.counts.endedBy.get(reason) ?? 0)
  })
}
