/**
 * A bucket of NATS's key-value store: a JetStream stream that keeps the last message of each subject. It is made when it is
 * first used, and again if somebody has deleted it.
 */
import { Kvm, type KV, type KvOptions } from '@nats-io/kv'
import { API_STREAM_NOT_FOUND, apiCodeOf, type Nats, type NatsLink } from './nats-connection.ts'

export interface NatsBucketOptions {
  readonly link: NatsLink
  /** Of NATS: letters, digits, hyphens. */
  readonly name: string
  readonly replicas: number
  /** Whether any replica may answer a read: only for what never changes. */
  readonly readAnywhere: boolean
}

export class NatsBucket {
  readonly link: NatsLink
  readonly name: string
  readonly #options: Partial<KvOptions>
  #kv: Promise<KV> | null = null

  constructor({ link, name, replicas, readAnywhere }: NatsBucketOptions) {
    this.link = link
    this.name = name
    this.#options = { history: 1, replicas, allow_direct: readAnywhere }
  }

  get stream(): string {
    return `KV_${this.name}`
  }

  get subjectPrefix(): string {
    return `$KV.${this.name}.`
  }

  /** Runs with the bucket in place. */
  call<T>(call: (kv: KV, nats: Nats) => Promise<T>): Promise<T> {
    return this.link.call(async (nats) => {
      const making = (this.#kv ??= new Kvm(nats.js).create(this.name, { ...this.#options }))
      try {
        return await call(await making, nats)
      } catch (error) {
        // Not made, or deleted meanwhile: the next call tries anew.
        if (apiCodeOf(error) === API_STREAM_NOT_FOUND || !(await isFulfilled(making))) this.#kv = null
        throw error
      }
    })
  }
}

function isFulfilled(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  )
}
