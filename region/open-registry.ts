/** The registry that a region is configured for: its own, or, with NATS, the one that all nodes of all regions share. */
import type { Clock } from '../shared/clock.ts'
import type { Coordination } from '../shared/coordination/types.ts'
import type { Log } from '../shared/log.ts'
import type { ObjectStore } from '../shared/store/object-store.ts'
import type { RegionDeps } from './region.ts'
import { Registry, type RegistryOptions } from './registry.ts'
import { SharedContent } from './shared-content.ts'
import { SharedHousekeeping } from './shared-housekeeping.ts'
import { SharedRegistry } from './shared-registry.ts'

export interface OpenedRegistry {
  readonly registry: Registry
  /** For the region: how it gets what other nodes have, and what it says of its readiness. */
  readonly parts: Pick<RegionDeps, 'bring' | 'checks'>
  start(): void
  /** To be called before the store and the coordination are closed. */
  stop(): Promise<void>
}

export interface OpenRegistryOptions extends RegistryOptions {
  readonly coordination: Coordination
  readonly store: ObjectStore
  readonly clock: Clock
  readonly log: Log
}

const HEADS_BUCKET = 'registry'
const CONTENT_BUCKET = 'content'
const LEADERSHIP = 'shared-content'

export async function openRegistry(options: OpenRegistryOptions): Promise<OpenedRegistry> {
  const { coordination } = options
  if (coordination.kind === 'embedded') return { registry: new Registry(options), parts: {}, start: () => undefined, stop: () => Promise.resolve() }
  return await openSharedRegistry(options)
}

export async function openSharedRegistry(options: OpenRegistryOptions): Promise<OpenedRegistry & { readonly registry: SharedRegistry; readonly housekeeping: SharedHousekeeping }> {
  const { coordination } = options
  const documents = await coordination.documents(HEADS_BUCKET)
  const shared = new SharedContent({ ...options, blobs: await coordination.blobs(CONTENT_BUCKET) })
  const registry = new SharedRegistry({ ...options, documents, shared })
  const housekeeping = new SharedHousekeeping({ ...options, leadership: await coordination.leadership(LEADERSHIP), registry, documents, shared })
  return {
    registry,
    housekeeping,
    parts: {
      bring: (account, named) => registry.bring(account, named),
      checks: () => {
        const { connected, current, known } = registry.status()
        // A node that is cut off answers from what it has: it says so, and goes on being asked.
        return { ready: current || (known && !connected), checks: { coordination: connected, registry: current } }
      },
    },
    start() {
      registry.start()
      housekeeping.start()
    },
    async stop() {
      await housekeeping.stop()
      await registry.stop()
    },
  }
}
