/** What service bindings of a process have done, read when somebody scrapes. */
import type { Registry } from 'prom-client'
import { counter, gauge } from '../http/metrics.ts'
import type { ServiceCalls } from './service-calls.ts'

/** Once per registry. */
export function registerServiceMetrics(registry: Registry, tier: 'pop' | 'region', services: Pick<ServiceCalls, 'counts' | 'heldBytes'>): void {
  const registers = [registry]
  counter(registers, `${tier}_service_calls_total`, 'Calls by service bindings that functions here have made, by what became of them', ['result'], (add) => {
    add({ result: 'answered' }, services.counts.answered)
    add({ result: 'failed' }, services.counts.failed)
    add({ result: 'canceled' }, services.counts.canceled)
  })
  gauge(registers, `${tier}_service_calls_held_bytes`, 'Their answers that were not read yet, and request bodies', () => services.heldBytes)
}
