/** Members of a cluster in one process: real links, coordination in memory, images that are names in a set. */
import type { Test } from 'tap'
import type { ImageId } from '../../../shared/brand.ts'
import { systemClock } from '../../../shared/clock.ts'
import { Cluster, type ClusterOptions } from '../../../shared/cluster/cluster.ts'
import type { HotImage } from '../../../shared/cluster/hot-list.ts'
import { HandOff } from '../../../shared/place/hand-off.ts'
import type { ItemStore } from '../../../shared/place/hand-off-types.ts'
import { CodedError } from '../../../shared/errors.ts'
import type { MemoryCoordination } from '../../support/memory-coordination.ts'
import { startPeers, type TestPeers } from '../peers/harness.ts'

export class TestImages {
  readonly here = new Map<ImageId, HotImage>()
  room = 10_000

  list(): readonly HotImage[] {
    return [...this.here.values()]
  }

  load(image: HotImage): Promise<void> {
    if (!this.here.has(image.imageId) && this.here.size >= this.room) return Promise.reject(new CodedError('ERR_NO_CAPACITY', [1]))
    this.here.set(image.imageId, image)
    return Promise.resolve()
  }
}

export interface TestNode extends TestPeers {
  readonly cluster: Cluster
  readonly images: TestImages
  readonly lost: string[]
}

export function imageOf(functionName: string): HotImage {
  return { account: 'a', functionName, imageId: Buffer.from(functionName.padEnd(32, '.')).toString('hex') as ImageId }
}

export async function startNode(t: Test, coordination: MemoryCoordination, name: string, options: Partial<ClusterOptions> & { readonly images?: TestImages; readonly names?: string[] } = {}): Promise<TestNode> {
  const made = await startPeers(t, name)
  const { images = new TestImages(), names = [], ...rest } = options
  const lost: string[] = []
  const cluster = await Cluster.start({
    coordination, group: 'region-test', peers: made.peers, address: made.address, capacity: 64, fingerprint: null, newName: () => names.shift() ?? `${name}.again`,
    hot: images, makeHandOff: null, onStateLost: () => lost.push(made.peers.self), clock: systemClock, log: made.logged.log, ...rest,
  })
  t.teardown(() => cluster.leave())
  return { ...made, cluster, images, lost }
}

/** A member whose items are rows of marks, one for each use. */
export interface ItemNode extends TestNode {
  readonly items: Map<string, string[]>
  /** Serves one request for a key; resolves with where its state came from. */
  use(key: string): Promise<string>
}

export async function startItemNode(t: Test, coordination: MemoryCoordination, name: string): Promise<ItemNode> {
  const items = new Map<string, string[]>()
  const store: ItemStore = {
    pack: (key) => items.get(key) ?? [],
    adopt: (key, _itemId, state) => {
      items.set(key, [...(state as string[])])
      return true
    },
    forget(key) {
      items.delete(key)
    },
  }
  const node = await startNode(t, coordination, name, { makeHandOff: (self, leases) => new HandOff({ self, ring: null, store, leases }) })
  let requests = 0
  const use = (key: string): Promise<string> => new Promise((resolve, reject) => {
    const { handOff, ring } = node.cluster
    requests += 1
    const requestId = `${name}-${requests}`
    if (handOff === null) {
      reject(new Error('no hand-off'))
      return
    }
    handOff.request({ requestId, key, kind: 'single', ring: { version: ring?.version ?? 0, predecessors: [] }, fresh: false, deadlineMs: systemClock.monotonicMs() + 10_000 }, {
      serve(itemId, state) {
        items.set(itemId, [...(items.get(itemId) ?? []), name])
        handOff.finished(requestId, 'kept')
        resolve(state)
      },
      refuse: (code) => reject(new CodedError(code)),
      stop: () => reject(new Error('stopped')),
    })
  })
  return { ...node, items, use }
}
