/**
 * Coordination over NATS JetStream, among any number of machines. Each bucket is a key-value bucket `outpost-...` that
 * NATS's own tools can show. nats-server 2.9 is enough: no time to live per key and no batches are used.
 */
import { hostname } from 'node:os'
import type { Clock } from '../clock.ts'
import { silentLog, type Log } from '../log.ts'
import { closedError } from './calls.ts'
import { LeaseGroups } from './lease-groups.ts'
import { requireBucketName } from './names.ts'
import { connectOptions, type NatsAddress } from './nats-address.ts'
import { NatsBlobs } from './nats-blobs.ts'
import { NatsBucket } from './nats-bucket.ts'
import { NatsLink } from './nats-connection.ts'
import { NatsDocuments } from './nats-documents.ts'
import { NatsServerClock } from './nats-server-clock.ts'
import { Once } from './once.ts'
import type { Blobs, Coordination, Documents, Leadership, Members } from './types.ts'

export interface NatsOptions {
  readonly address: NatsAddress
  /** Servers of a cluster that keep each bucket; of buckets made from now on. One that is lost takes what it alone has with it. */
  readonly replicas: number
  readonly clock: Clock
  readonly log?: Log
}

export class NatsCoordination implements Coordination {
  readonly kind = 'nats'
  readonly #link: NatsLink
  readonly #replicas: number
  readonly #documents = new Map<string, NatsDocuments>()
  readonly #blobs = new Map<string, NatsBlobs>()
  readonly #leases: LeaseGroups
  readonly #serverClock: NatsServerClock
  readonly #closing = new Once()

  /** Connects in the background. Throws ERR_CONFIG. */
  constructor({ address, replicas, clock, log = silentLog }: NatsOptions) {
    const ownLog = log.child('coordination')
    this.#link = new NatsLink({ connect: connectOptions(address), name: `outpost-${hostname()}`, clock, log: ownLog })
    this.#replicas = replicas
    this.#serverClock = new NatsServerClock(this.#bucket('clock', false))
    this.#leases = new LeaseGroups({
      clock,
      log: ownLog,
      memberDocuments: (group) => this.#documentsOf(`members-${group}`),
      leaderDocuments: () => this.#documentsOf('leaders'),
    })
  }

  get connected(): boolean {
    return this.#link.connected
  }

  documents(bucket: string): Promise<Documents> {
    return this.#named(() => {
      requireBucketName(bucket)
      return this.#documentsOf(`documents-${bucket}`)
    })
  }

  blobs(bucket: string): Promise<Blobs> {
    return this.#named(() => {
      requireBucketName(bucket)
      const blobs = this.#blobs.get(bucket) ?? new NatsBlobs(this.#bucket(`blobs-${bucket}`, true), this.#serverClock)
      this.#blobs.set(bucket, blobs)
      return blobs
    })
  }

  members(group: string): Promise<Members> {
    return this.#named(() => this.#leases.members(group))
  }

  leadership(name: string): Promise<Leadership> {
    return this.#named(() => this.#leases.leadership(name))
  }

  close(): Promise<void> {
    return this.#closing.run(async () => {
      // Without a connection nobody can be told: leases run out.
      if (this.#link.connected) await this.#leases.close()
      else void this.#leases.close()
      for (const documents of this.#documents.values()) documents.close()
      await this.#link.close()
    })
  }

  /** A bucket is made in NATS when it is first used, so that this needs no connection. */
  #named<T>(make: () => T): Promise<T> {
    if (this.#link.closed) return Promise.reject(closedError())
    return new Promise((resolve) => resolve(make()))
  }

  #documentsOf(name: string): NatsDocuments {
    const documents = this.#documents.get(name) ?? new NatsDocuments(this.#bucket(name, false))
    this.#documents.set(name, documents)
    return documents
  }

  #bucket(name: string, readAnywhere: boolean): NatsBucket {
    return new NatsBucket({ link: this.#link, name: `outpost-${name}`, replicas: this.#replicas, readAnywhere })
  }
}
