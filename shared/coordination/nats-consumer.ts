/**
 * What a stream holds from a sequence number on, in order, as long as the connection lasts: a JetStream push consumer that
 * keeps no state worth keeping. The client library's own ordered consumer waits for two heartbeats of thirty seconds
 * before it notices that a restarted server has forgotten it; here whoever uses it begins again at each connection.
 */
import { AckPolicy, DeliverPolicy, JsHeaders, ReplayPolicy } from '@nats-io/jetstream'
import { createInbox, nanos, type Msg, type Subscription } from '@nats-io/transport-node'
import type { NatsBucket } from './nats-bucket.ts'

export interface StreamMessage {
  readonly key: string
  readonly revision: number
  readonly putAtMs: number
  readonly deleted: boolean
  /** Of the value, which is not there with `headersOnly`. */
  readonly bytes: number
  /** Valid until the call returns. */
  readonly value: Uint8Array
  /** Messages that were in the stream after this one when it was sent. */
  readonly pending: number
}

export interface ConsumeOptions {
  readonly fromRevision: number
  readonly headersOnly: boolean
  onMessage(message: StreamMessage): void
  /** Nothing more is there at the moment. */
  onIdle(): void
  /** Messages may have been missed; nothing more comes. */
  onBroken(reason: string): void
}

/** A consumer that says nothing for three of these is broken. */
const HEARTBEAT_MS = 1_000
const HEARTBEATS_MISSED_MAX = 3
/** After which a server forgets a consumer whose client is gone. */
const INACTIVE_MS = 30_000

/** Resolves once the consumer is there, with a function that ends it. */
export async function consume(bucket: NatsBucket, options: ConsumeOptions): Promise<() => void> {
  return await bucket.call(async (_kv, { connection, jsm }) => {
    const inbox = createInbox()
    let delivered = 0
    let ended = false
    let cancelTimer = (): void => undefined
    const end = (): void => {
      ended = true
      cancelTimer()
      subscription.unsubscribe()
    }
    const broken = (reason: string): void => {
      if (ended) return
      end()
      options.onBroken(reason)
    }
    const alive = (): void => {
      cancelTimer()
      cancelTimer = bucket.link.clock.after(HEARTBEAT_MS * HEARTBEATS_MISSED_MAX, () => broken('no heartbeat'))
    }
    const subscription: Subscription = connection.subscribe(inbox, {
      callback: (error, message) => {
        if (ended) return
        if (error !== null) {
          broken(error.message)
          return
        }
        alive()
        if (message.subject === inbox) {
          const seen = onProtocol(message)
          if (seen !== null && seen !== delivered) broken('messages were lost')
          else if (seen !== null) options.onIdle()
          return
        }
        const decoded = decode(message, bucket.subjectPrefix)
        delivered += 1
        if (decoded === null || decoded.deliverySequence !== delivered) broken('messages were lost')
        else options.onMessage(decoded)
      },
    })
    alive()
    try {
      const { num_pending: pending } = await jsm.consumers.add(bucket.stream, {
        name: `outpost-${inbox.slice(inbox.lastIndexOf('.') + 1)}`,
        deliver_subject: inbox,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: options.fromRevision,
        ack_policy: AckPolicy.None,
        replay_policy: ReplayPolicy.Instant,
        flow_control: true,
        idle_heartbeat: nanos(HEARTBEAT_MS),
        inactive_threshold: nanos(INACTIVE_MS),
        headers_only: options.headersOnly,
        mem_storage: true,
        num_replicas: 1,
      })
      if (pending === 0 && delivered === 0) options.onIdle()
    } catch (error) {
      end()
      throw error
    }
    return end
  })
}

/** Answers what the server wants to know about the flow. Of a heartbeat: how many messages it has delivered; else null. */
function onProtocol(message: Msg): number | null {
  const stalled = message.headers?.get(JsHeaders.ConsumerStalledHdr) ?? ''
  if (message.headers?.code === 100 && message.reply !== undefined && message.reply !== '') {
    message.respond()
    return null
  }
  if (stalled !== '') {
    // A flow-control request that was lost on the way.
    message.respond()
    return null
  }
  const last = message.headers?.get(JsHeaders.LastConsumerSeqHdr) ?? ''
  return last === '' ? null : Number(last)
}

/** `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>`; with domain and account two more after ACK, and one at the end. */
function decode(message: Msg, subjectPrefix: string): (StreamMessage & { readonly deliverySequence: number }) | null {
  const tokens = message.reply?.split('.') ?? []
  const at = tokens.length > 9 ? 4 : 2
  const [, , , revision, deliverySequence, time, pending] = tokens.slice(at).map(Number)
  if (revision === undefined || deliverySequence === undefined || time === undefined || pending === undefined) return null
  const operation = message.headers?.get('KV-Operation') ?? ''
  const size = message.headers?.get(JsHeaders.MessageSizeHdr) ?? ''
  return {
    key: message.subject.slice(subjectPrefix.length),
    revision,
    deliverySequence,
    putAtMs: time / 1e6,
    deleted: operation === 'DEL' || operation === 'PURGE',
    bytes: size === '' ? message.data.byteLength : Number(size),
    value: message.data,
    pending,
  }
}
