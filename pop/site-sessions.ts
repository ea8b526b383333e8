/**
 * Sessions of a site of several hosts: whose they are by the site's ring, and what a host needs before it serves one.
 *
 * S1  Only ids that this site made are on its ring; those of the region and of clients live in the region.
 * S2  A host that may not begin sessions, because it has not joined, leaves, or has lost its lease, has the region begin them.
 * S3  What a session needs is brought (session-needs.ts). Without it a call fails with ERR_NO_SANDBOX, and the session stays where it is.
 */
import type { Clock } from '../shared/clock.ts'
import type { Cluster } from '../shared/cluster/cluster.ts'
import type { HotImage } from '../shared/cluster/hot-list.ts'
import { ClusterSessions } from '../shared/cluster/session-ownership.ts'
import { CodedError } from '../shared/errors.ts'
import { HOT_LIST_MAX, LINK_PREDECESSORS_MAX } from '../shared/limits.ts'
import type { OpenRing } from '../shared/link/types.ts'
import type { Peers } from '../shared/peers/types.ts'
import { placeOfSession } from '../shared/sessions/session-id.ts'
import type { SessionTable } from '../shared/sessions/session-table.ts'
import { parseSessionName, sessionName, type SessionKey } from '../shared/sessions/types.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { FunctionEntry, FunctionTable } from './functions.ts'
import type { SessionNeeds } from './session-needs.ts'

export type SessionsCluster = Pick<Cluster, 'self' | 'holds' | 'ring' | 'handOff' | 'refreshRing'>

/** Of this POP. */
export interface SiteSessionsParts {
  readonly table: FunctionTable
  readonly needs: SessionNeeds
  readonly host: Pick<SandboxHost, 'hasImage'>
  readonly sessions: SessionTable
  readonly clock: Clock
}

export interface SessionOwner {
  readonly memberId: string
  readonly isSelf: boolean
  readonly ring: OpenRing
}

export class SiteSessions {
  readonly peers: Peers
  /** For `Cluster.start`. */
  readonly owned: ClusterSessions
  readonly #siteName: string
  readonly #parts: SiteSessionsParts
  readonly #cluster: () => SessionsCluster | null
  readonly #prefix: string

  constructor(siteName: string, parts: SiteSessionsParts, peers: Peers, cluster: () => SessionsCluster | null) {
    this.#siteName = siteName
    this.#parts = parts
    this.#cluster = cluster
    this.#prefix = `p${siteName}.`
    this.peers = peers
    this.owned = new ClusterSessions(parts.sessions, cluster, parts.clock)
    parts.sessions.ownership = this.owned
  }

  /** S1. */
  isOurs(id: string): boolean {
    const place = placeOfSession(id)
    return place?.kind === 'site' && place.site === this.#siteName
  }

  /** False for most of what bears no id of ours: a look at a head whose function is not known yet. */
  mayBear(headers: string): boolean {
    return headers.includes(this.#prefix)
  }

  /** S2. */
  get mayBegin(): boolean {
    const cluster = this.#cluster()
    return cluster !== null && cluster.holds && cluster.handOff !== null && (cluster.ring?.weightOf(cluster.self) ?? 0) > 0
  }

  /** Null: nobody that can be reached. */
  ownerOf(key: SessionKey): SessionOwner | null {
    const cluster = this.#cluster()
    const ring = cluster?.ring ?? null
    if (cluster === null || ring === null) return null
    const name = sessionName(key)
    const memberId = ring.owners(name, 'single')[0]
    if (memberId === undefined || (memberId !== cluster.self && !this.peers.reachable(memberId))) return null
    return { memberId, isSelf: memberId === cluster.self, ring: { version: ring.version, seq: 0, predecessors: ring.predecessors(name, memberId, 'single').slice(0, LINK_PREDECESSORS_MAX) } }
  }

  /** Somebody has spoken of a newer ring. */
  ringMoved(): void {
    void this.#cluster()?.refreshRing()
  }

  ringSeen(version: number): void {
    if (version > (this.#cluster()?.ring?.version ?? 0)) this.ringMoved()
  }

  /** Images of functions of which there are sessions here: whoever gets those needs them. */
  images(): HotImage[] {
    const { sessions, table, host } = this.#parts
    const entries = new Set<FunctionEntry>()
    for (const name of sessions.keys()) {
      const key = parseSessionName(name)
      const entry = key === null ? undefined : table.find(key.account, key.functionName)
      if (entry !== undefined) entries.add(entry)
    }
    const builds = [...entries].flatMap((entry) => [...entry.builds.values()].map(({ build }) => build))
    return builds.filter(({ traits, imageId }) => traits.sessions !== null && host.hasImage(imageId)).slice(0, HOT_LIST_MAX).map(({ account, functionName, imageId }) => ({ account, functionName, imageId }))
  }

  /** Rejects with ERR_NO_SANDBOX if what the function stands for cannot be had. */
  async load({ account, functionName }: HotImage): Promise<void> {
    if (await this.#parts.needs.ready(this.#parts.table.get(account, functionName), null) === null) throw new CodedError('ERR_NO_SANDBOX', [1])
  }
}
