/**
 * Which node of the region runs a call: the owner of its function by the ring, so that an image is in the memory of few
 * nodes and each call finds it there.
 *
 * T1  A call that came from a node runs here: it is not forwarded again.
 * T2  A call without a session can run anywhere. Where the owner is out of reach, or does not know the function's last change yet, it
 *     runs here.
 * T3  Loads are what this node itself has under way at each node, itself included: all nodes see alike shares of the calls.
 */
import type { Cluster } from '../shared/cluster/cluster.ts'
import { HotList } from '../shared/cluster/hot-list.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError } from '../shared/errors.ts'
import { LINK_PREDECESSORS_MAX } from '../shared/limits.ts'
import type { OpenRing } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import { chooseFromPool } from '../shared/place/bounded-load.ts'
import { ringKey, type Ring } from '../shared/place/ring.ts'
import type { Random } from '../shared/random.ts'
import { sessionName, type SessionAnswer } from '../shared/sessions/types.ts'
import type { BuildSpec } from '../shared/worker/types.ts'
import { OwnerRun } from './owner-run.ts'
import type { FunctionChange } from './registry.ts'
import { SessionCall } from './session-call.ts'
import type { RegionRun, RunRequest, RunSink } from './run.ts'

type RouterCluster = Pick<Cluster, 'self' | 'state' | 'ring' | 'peers' | 'refreshRing'>

export interface NodeRouterOptions {
  /** Null as long as this node has not joined. */
  readonly cluster: () => RouterCluster | null
  /** The number of the last change that this node knows. */
  readonly seq: () => number
  readonly onChange: (listener: (change: FunctionChange) => void) => () => void
  /** Slots of one node. */
  readonly capacity: number
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export type RunHere = (build: BuildSpec, request: RunRequest, sink: RunSink) => RegionRun

/** After this long every node that is alive has heard of a change. */
const CHANGE_IS_NEW_MS = 10_000
const CHANGES_KEPT_MAX = 1_000

export class NodeRouter {
  readonly hotList = new HotList()
  readonly #options: NodeRouterOptions
  readonly #log: Log
  /** T3, by node. */
  readonly #underWay = new Map<string, number>()
  /** Functions that have changed lately, and when. */
  readonly #changes = new Map<string, { readonly seq: number; readonly atMs: number }>()
  /** For metrics: calls that ran here because they belong here, at another node, and here though they belong elsewhere. */
  readonly counts = { home: 0, forwarded: 0, strayed: 0, received: 0 }

  constructor(options: NodeRouterOptions) {
    this.#options = options
    this.#log = options.log.child('nodes')
    options.onChange((change) => this.#noteChange(change))
  }

  /** Calls are better sent here than elsewhere. */
  get ready(): boolean {
    return this.#options.cluster()?.state === 'serving'
  }

  /** A call that came to this node first. */
  start(build: BuildSpec, request: RunRequest, sink: RunSink, hops: number, runHere: RunHere): RegionRun {
    const { clock } = this.#options
    const cluster = this.#options.cluster()
    const ring = cluster?.ring ?? null
    if (cluster === null || ring === null) return runHere(build, request, sink)
    const key = ringKey(build.account, build.functionName)
    const owner = this.#ownerOf(cluster, ring, key)
    if (owner === null || owner === cluster.self) {
      this.counts.home += 1
      return this.#here(cluster.self, build, request, sink, runHere)
    }
    this.counts.forwarded += 1
    this.#count(owner, 1)
    return new OwnerRun(build, request, sink, {
      peers: cluster.peers, owner, ring: this.#openRing(ring, key, owner, build), session: null, hops, nowMs: clock.nowMs(),
      runHere: (again, to) => {
        this.counts.strayed += 1
        return this.#here(cluster.self, build, again, to, runHere)
      },
      onOver: (code) => {
        this.#count(owner, -1)
        if (code !== null) this.#log.info('a call came back from its owner', { owner, functionName: build.functionName, requestId: request.requestId, code })
      },
    })
  }

  /** A call of a session that came to this node first. `id` null: one that is to begin, at any node that may own some. */
  startSession(build: BuildSpec, request: RunRequest, sink: RunSink, hops: number, id: string | null, runHere: RunHere): RegionRun {
    const { clock } = this.#options
    return new SessionCall(request, sink, {
      clock,
      attempt: (again, to, code) => {
        const cluster = this.#options.cluster()
        if (code === 'ERR_RING_MOVED') void cluster?.refreshRing()
        const ring = cluster?.ring ?? null
        if (cluster === null || ring === null) return null
        const name = id === null ? null : sessionName({ account: build.account, functionName: build.functionName, id })
        const owner = name !== null ? ring.owners(name, 'single')[0] : ring.weightOf(cluster.self) > 0 ? cluster.self : this.#ownerOf(cluster, ring, ringKey(build.account, build.functionName))
        if (owner === undefined || owner === null) return null
        if (owner === cluster.self) {
          this.counts.home += 1
          return this.#here(cluster.self, build, again, to, runHere)
        }
        if (!cluster.peers.reachable(owner)) return null
        this.counts.forwarded += 1
        this.#count(owner, 1)
        const key = name ?? ringKey(build.account, build.functionName)
        return new OwnerRun(build, again, to, {
          peers: cluster.peers, owner, ring: this.#openRing(ring, key, owner, build, 'single'), session: id, hops, nowMs: clock.nowMs(), runHere: null,
          onOver: () => this.#count(owner, -1),
        })
      },
    })
  }

  /** T1. `ring`: what the sender knew. Throws ERR_RING_MOVED if this node knows too little to run it. */
  received(build: BuildSpec, ring: OpenRing): void {
    const cluster = this.#options.cluster()
    this.counts.received += 1
    if (ring.version > (cluster?.ring?.version ?? 0)) void cluster?.refreshRing()
    if (ring.seq > this.#options.seq()) throw new CodedError('ERR_RING_MOVED', [ring.version])
    this.hotList.used(build.account, build.functionName, build.imageId)
  }

  #here(self: string, build: BuildSpec, request: RunRequest, sink: RunSink, runHere: RunHere): RegionRun {
    this.hotList.used(build.account, build.functionName, build.imageId)
    this.#count(self, 1)
    return runHere(build, request, new CountedSink(sink, self, () => this.#count(self, -1)))
  }

  #ownerOf({ self, peers }: RouterCluster, ring: Ring, key: string): string | null {
    const { capacity, random } = this.#options
    const usable = (member: string): boolean => member === self || peers.reachable(member)
    const loadOf = (member: string): number => (this.#underWay.get(member) ?? 0) / Math.max(1, ring.weightOf(member))
    const owners = ring.owners(key, 'pool').filter(usable)
    const least = Math.min(...owners.map(loadOf))
    const idlest = owners.filter((owner) => loadOf(owner) === least)
    const best = idlest[Math.floor(random.next() * idlest.length)]
    // A hot function may fill half of its homes, from all nodes together, before others are asked to help.
    const free = Math.max(4, capacity / (2 * Math.max(1, ring.document.members.length)))
    if (best !== undefined && least < free) return best
    return chooseFromPool(ring, key, (member) => Math.max(0, (this.#underWay.get(member) ?? 0) - free), usable)?.member ?? null
  }

  #openRing(ring: Ring, key: string, owner: string, { account, functionName }: BuildSpec, kind: 'pool' | 'single' = 'pool'): OpenRing {
    const change = this.#changes.get(`${account}/${functionName}`)
    const isNew = change !== undefined && this.#options.clock.monotonicMs() - change.atMs < CHANGE_IS_NEW_MS
    return { version: ring.version, seq: isNew ? change.seq : 0, predecessors: ring.predecessors(key, owner, kind).slice(0, LINK_PREDECESSORS_MAX) }
  }

  #noteChange({ account, functionName, seq }: FunctionChange): void {
    const nowMs = this.#options.clock.monotonicMs()
    const key = `${account}/${functionName}`
    this.#changes.delete(key)
    this.#changes.set(key, { seq, atMs: nowMs })
    for (const [oldest, { atMs }] of this.#changes) {
      if (nowMs - atMs < CHANGE_IS_NEW_MS && this.#changes.size <= CHANGES_KEPT_MAX) break
      this.#changes.delete(oldest)
    }
  }

  #count(member: string, change: 1 | -1): void {
    const count = (this.#underWay.get(member) ?? 0) + change
    if (count === 0) this.#underWay.delete(member)
    else this.#underWay.set(member, count)
  }
}

/** Says where a call runs, and tells when it is over. */
class CountedSink implements RunSink {
  readonly #sink: RunSink
  readonly #node: string
  readonly #onOver: () => void

  constructor(sink: RunSink, node: string, onOver: () => void) {
    this.#sink = sink
    this.#node = node
    this.#onOver = onOver
  }

  started(build: BuildSpec): void {
    this.#sink.started(build, this.#node)
  }

  session(answer: SessionAnswer): void {
    this.#sink.session?.(answer)
  }

  head(...head: Parameters<RunSink['head']>): void {
    this.#sink.head(...head)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  pauseBody(): void {
    this.#sink.pauseBody?.()
  }

  resumeBody(): void {
    this.#sink.resumeBody?.()
  }

  end(result: Parameters<RunSink['end']>[0]): void {
    this.#onOver()
    this.#sink.end(result)
  }

  fail(error: CodedError): void {
    this.#onOver()
    this.#sink.fail(error)
  }
}
