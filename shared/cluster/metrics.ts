/** What a member knows of its group's ring: read when somebody scrapes. */
import type { Registry } from 'prom-client'
import { gauge, type Tier } from '../http/metrics.ts'
import type { Ring } from '../place/ring.ts'

/** Once per registry. */
export function registerRingMetrics(registry: Registry, tier: Tier, ring: () => Ring | null): void {
  const registers = [registry]
  gauge(registers, `${tier}_ring_version`, 'Version of the ring that this process has; 0 before it has one', () => ring()?.version ?? 0)
  gauge(registers, `${tier}_ring_members_count`, 'Members of that ring', () => ring()?.document.members.length ?? 0)
  gauge(registers, `${tier}_ring_previous_count`, 'Older versions that state may still lie by', () => ring()?.document.previous.length ?? 0)
}
