/** Everything that a NATS bucket holds at the moment, without the values. */
import { CodedError } from '../errors.ts'
import type { NatsBucket } from './nats-bucket.ts'
import { consume, type StreamMessage } from './nats-consumer.ts'

export type ScannedMessage = Pick<StreamMessage, 'key' | 'revision' | 'putAtMs' | 'deleted' | 'bytes'>

/** Throws ERR_COORDINATION_UNREACHABLE if the connection is lost meanwhile: what was seen until then is not everything. */
export async function* scanBucket(bucket: NatsBucket): AsyncGenerator<ScannedMessage> {
  const waiting: ScannedMessage[] = []
  let state: 'running' | 'complete' | { readonly broken: string } = 'running'
  let wake: () => void = () => undefined
  const set = (next: typeof state): void => {
    if (state === 'running') state = next
    wake()
  }
  const end = await consume(bucket, {
    fromRevision: 1,
    headersOnly: true,
    onMessage: ({ key, revision, putAtMs, deleted, bytes, pending }) => {
      waiting.push({ key, revision, putAtMs, deleted, bytes })
      if (pending === 0) set('complete')
      wake()
    },
    onIdle: () => set('complete'),
    onBroken: (reason) => set({ broken: reason }),
  })
  const now = (): typeof state => state
  try {
    for (;;) {
      const batch = waiting.splice(0)
      yield* batch
      const current = now()
      if (waiting.length > 0) continue
      if (current === 'complete') return
      if (current !== 'running') throw new CodedError('ERR_COORDINATION_UNREACHABLE', [current.broken])
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  } finally {
    end()
  }
}
