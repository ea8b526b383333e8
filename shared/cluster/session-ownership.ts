/**
 * Sessions on the ring: whose turn it is to serve one, and how its machine gets there. Hand-off decides (shared/place/hand-off.ts);
 * here a session's name is the key and the one item of it.
 *
 * W1  A request runs only after hand-off has said so, and its end is told once.
 * W2  What ends by itself is forgotten by hand-off first; the table is not told to forget what it is about to end.
 */
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { ItemStore } from '../place/hand-off-types.ts'
import type { SessionTable } from '../sessions/session-table.ts'
import type { SessionOwnership } from '../sessions/types.ts'
import type { Cluster } from './cluster.ts'

type SessionCluster = Pick<Cluster, 'self' | 'ring' | 'handOff'>

export class ClusterSessions implements SessionOwnership {
  readonly #table: Pick<SessionTable, 'pack' | 'adopt' | 'forget'>
  readonly #cluster: () => SessionCluster | null
  readonly #clock: Clock
  /** W2. */
  #ending: string | null = null

  constructor(table: Pick<SessionTable, 'pack' | 'adopt' | 'forget'>, cluster: () => SessionCluster | null, clock: Clock) {
    this.#table = table
    this.#cluster = cluster
    this.#clock = clock
  }

  /** What hand-off moves. */
  get store(): ItemStore {
    return {
      pack: (name) => this.#table.pack(name),
      adopt: (name, _itemId, state) => state instanceof Uint8Array && this.#table.adopt(name, state),
      forget: (name) => {
        if (name !== this.#ending) this.#table.forget(name, 'moved')
      },
    }
  }

  owns(name: string): boolean {
    const cluster = this.#cluster()
    return cluster?.ring?.owners(name, 'single')[0] === cluster?.self
  }

  acquire(request: Parameters<SessionOwnership['acquire']>[0]): Promise<void> {
    const { name, requestId, fresh, deadlineAtMs } = request
    const cluster = this.#cluster()
    const handOff = cluster?.handOff ?? null
    if (cluster === null || handOff === null) return Promise.reject(new CodedError('ERR_RING_MOVED', [0]))
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const { ring, self } = cluster
    const waitMs = deadlineAtMs - this.#clock.nowMs()
    handOff.request({
      requestId, key: name, kind: 'single', fresh, deadlineMs: this.#clock.monotonicMs() + waitMs,
      ring: { version: ring?.version ?? 0, predecessors: ring?.predecessors(name, self, 'single') ?? [] },
    }, {
      serve: () => resolve(undefined),
      refuse: (code, version) => reject(new CodedError(code, [code === 'ERR_HAND_OFF_TIMEOUT' ? Math.round(waitMs) : version])),
      stop: () => request.stop(),
    })
    return promise
  }

  release(requestId: string, name: string, item: 'kept' | 'closed'): void {
    this.#end(name, () => this.#cluster()?.handOff?.finished(requestId, item))
  }

  discard(name: string): void {
    this.#end(name, () => this.#cluster()?.handOff?.discard(name, name))
  }

  /** W2. */
  #end(name: string, tell: () => void): void {
    this.#ending = name
    try {
      tell()
    } finally {
      this.#ending = null
    }
  }
}
