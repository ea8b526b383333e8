/**
 * The nodes of one region, as one of them has them: the links to the others, its place in the group and on the ring, and
 * where calls go.
 */
import type { Clock } from '../shared/clock.ts'
import { Cluster } from '../shared/cluster/cluster.ts'
import { ClusterSessions } from '../shared/cluster/session-ownership.ts'
import type { Coordination } from '../shared/coordination/types.ts'
import { MemberIdentity } from '../shared/peers/member-identity.ts'
import type { PeerLink } from '../shared/peers/peer.ts'
import { PeerSet } from '../shared/peers/peer-set.ts'
import type { PeerMember } from '../shared/peers/types.ts'
import type { TopicTable } from '../shared/link/topics.ts'
import type { PopIdentity } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import { HandOff } from '../shared/place/hand-off.ts'
import type { Random } from '../shared/random.ts'
import type { SessionTable } from '../shared/sessions/session-table.ts'
import type { ManagerGroup } from './limits/share-manager.ts'
import { NodeRouter } from './node-router.ts'
import type { Region } from './region.ts'
import type { Registry } from './registry.ts'

export interface RegionNodesOptions {
  readonly coordination: Coordination
  readonly regionName: string
  /** A name that no node has had. */
  readonly newName: () => string
  readonly makeLink: (member: PeerMember, self: string) => PeerLink
  /** The region's own: what nodes ask is answered beside what POPs ask. */
  readonly topics: TopicTable
  readonly registry: Pick<Registry, 'seq' | 'onChange'>
  /** Slots. */
  readonly capacity: number
  readonly fingerprint: string | null
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class RegionNodes {
  readonly peers: PeerSet
  readonly router: NodeRouter
  readonly #options: RegionNodesOptions
  #cluster: Cluster | null = null
  #sessions: SessionTable | null = null

  constructor(options: RegionNodesOptions) {
    const { newName, makeLink, topics, registry, capacity, clock, random, log } = options
    this.#options = options
    this.peers = new PeerSet({ self: newName(), makeLink, topics, clock, log })
    this.router = new NodeRouter({ cluster: () => this.#cluster, seq: () => registry.seq(), onChange: (listener) => registry.onChange(listener), capacity, clock, random, log })
  }

  /** For those who count shares of accounts: who else may. */
  get managers(): ManagerGroup {
    const { peers } = this
    const { coordination, regionName } = this.#options
    const others = new OtherRegions(coordination)
    return {
      get self() {
        return `${regionName}/${peers.self}`
      },
      holds: () => this.#cluster?.holds ?? false,
      isAlive(owner) {
        const [region = '', member = ''] = owner.split('/')
        if (region !== regionName) return others.isAlive(region, member)
        return member === peers.self || peers.members().some(({ memberId }) => memberId === member)
      },
      isElsewhere: (owner) => owner.split('/')[0] !== regionName,
      // A name has a random part, so that a former life is not told from another node: its lease ends soon enough.
      isFormerSelf: () => false,
    }
  }

  /** Sessions are on the ring from now on. To be called before `start`. */
  own(sessions: SessionTable): void {
    this.#sessions = sessions
  }

  get cluster(): Cluster | null {
    return this.#cluster
  }

  /** Lets nodes of this group in beside whom `inner` does. */
  identity(inner: PopIdentity): PopIdentity {
    return new MemberIdentity(inner, this.peers, this.#options.clock)
  }

  /** Joins; `address` is where the others reach this one's links, which are open by now. Rejects with what keeps it from that. */
  async start(region: Region, address: string): Promise<void> {
    const { coordination, regionName, newName, capacity, fingerprint, clock, log } = this.#options
    const table = this.#sessions
    const owned = table === null ? null : new ClusterSessions(table, () => this.#cluster, clock)
    if (table !== null) table.ownership = owned
    this.#cluster = await Cluster.start({
      coordination, group: `region-${regionName}`, peers: this.peers, address, capacity, fingerprint, newName,
      hot: { list: () => this.router.hotList.list((imageId) => region.hasImage(imageId)), load: (image) => region.loadImage(image) },
      makeHandOff: owned === null ? null : (self, leases) => new HandOff({ self, ring: null, store: owned.store, leases }),
      onStateLost: () => table?.forgetAll(), clock, log,
    })
  }

  /** Gives away what this node has; it still runs and forwards calls. Never rejects. */
  async drain(timeoutMs: number): Promise<void> {
    await this.#cluster?.drain(timeoutMs)
  }

  /** Never rejects. */
  async leave(): Promise<void> {
    await this.#cluster?.leave()
    this.peers.close()
  }
}

/** Nodes of regions that count shares of the same accounts: looked at from the first time that one of a region is met. */
class OtherRegions {
  readonly #coordination: Coordination
  /** Null: who is alive there is not known yet. */
  readonly #alive = new Map<string, ReadonlySet<string> | null>()

  constructor(coordination: Coordination) {
    this.#coordination = coordination
  }

  /** What is not known is taken to be alive: its shares are its own. */
  isAlive(region: string, member: string): boolean {
    const alive = this.#alive.get(region)
    if (alive === undefined) this.#watch(region)
    return alive?.has(member) ?? true
  }

  /** Ends with the coordination. */
  #watch(region: string): void {
    this.#alive.set(region, null)
    this.#coordination.members(`region-${region}`).then((members) => members.watch((list) => this.#alive.set(region, new Set(list.map(({ id }) => id)))), () => this.#alive.delete(region))
  }
}
