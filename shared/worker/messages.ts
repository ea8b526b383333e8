/** What passes between a host and its worker threads besides the shared-memory channel: one union per direction. */
import type { MessagePort } from 'node:worker_threads'
import type { FunctionLimits } from '../limits.ts'
import type { ResidentImage } from '../microvm/arena.ts'
import type { MachineRuntime } from '../microvm/runtime.ts'
import type { SubtleAnswer } from '../web-crypto/perform.ts'
import type { ChannelMemory } from './channel.ts'
import type { SessionInput } from './types.ts'

/** The one task that a worker's pool ever runs. */
export interface WorkerTask {
  readonly index: number
  readonly runtime: MachineRuntime
  readonly channel: ChannelMemory
  readonly slotCount: number
  readonly residentMaxBytes: number
  readonly port: MessagePort
  readonly egress: MessagePort
  /** How long an idle worker spins before it sleeps, microseconds. */
  readonly spinUs: number
  /** See HostCallContext. */
  readonly siteName: string
}

export type ToWorker =
  | { readonly kind: 'build'; readonly index: number; readonly image: ResidentImage; readonly limits: FunctionLimits; readonly secrets: Readonly<Record<string, string>>; readonly account: string }
  | { readonly kind: 'forgetBuild'; readonly index: number }
  | { readonly kind: 'forgetImage'; readonly image: ResidentImage; readonly reply: number }
  | { readonly kind: 'start'; readonly runId: number; readonly build: number; readonly call: number; readonly flags: number; readonly deadlineAtMs: number; readonly head: string; readonly body: Uint8Array | null; readonly session: SessionInput | null }
  | { readonly kind: 'body'; readonly runId: number; readonly chunk: Uint8Array | null }
  /** The front door has passed on `bytes` of the response body. */
  | { readonly kind: 'acknowledge'; readonly runId: number; readonly bytes: number }
  | { readonly kind: 'cancel'; readonly runId: number }
  /** The answer to a service call: `body` is its first piece; `last`: there is no other. */
  | { readonly kind: 'serviceHead'; readonly runId: number; readonly id: number; readonly head: string; readonly body: Uint8Array | null; readonly last: boolean }
  /** More of it. Null: the end. */
  | { readonly kind: 'serviceData'; readonly runId: number; readonly id: number; readonly chunk: Uint8Array | null }
  /** `name\nmessage\ncode`. */
  | { readonly kind: 'serviceFailed'; readonly runId: number; readonly id: number; readonly reason: string }
  /** A piece of the request body was taken, and the next may come. */
  | { readonly kind: 'serviceWritten'; readonly runId: number; readonly operation: number }
  | { readonly kind: 'stats'; readonly reply: number }
  | { readonly kind: 'close' }

export interface WorkerStats {
  readonly slots: number
  readonly running: number
  readonly parked: number
  readonly residentBytes: number
  readonly counts: Readonly<Record<string, number>>
}

export type FromWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'forgotten'; readonly reply: number; readonly done: boolean }
  | { readonly kind: 'stats'; readonly reply: number; readonly stats: WorkerStats }
  | { readonly kind: 'incident'; readonly what: string; readonly imageId: string }

/** From a worker to the egress thread, and back. `runId` and `id` name the operation. */
export type ToEgress =
  | { readonly kind: 'fetch'; readonly runId: number; readonly id: number; readonly account: string; readonly head: string; readonly body: Uint8Array | null }
  | { readonly kind: 'read'; readonly runId: number; readonly fetchId: number }
  /** Of a fetch, a compression stream or an operation of crypto.subtle. */
  | { readonly kind: 'abort'; readonly runId: number; readonly fetchId: number }
  | { readonly kind: 'zip'; readonly runId: number; readonly id: number; readonly account: string; readonly format: string }
  | { readonly kind: 'zipWrite'; readonly runId: number; readonly fetchId: number; readonly id: number; readonly chunk: Uint8Array | null }
  | { readonly kind: 'subtle'; readonly runId: number; readonly id: number; readonly account: string; readonly request: string; readonly data: Uint8Array }

export type FromEgress =
  | { readonly kind: 'head'; readonly runId: number; readonly id: number; readonly head: string }
  | { readonly kind: 'data'; readonly runId: number; readonly fetchId: number; readonly chunk: Uint8Array | null }
  | { readonly kind: 'subtle'; readonly runId: number; readonly id: number; readonly answer: SubtleAnswer }
  /** The stream is there, or has taken a chunk. */
  | { readonly kind: 'taken'; readonly runId: number; readonly id: number }
  | { readonly kind: 'failed'; readonly runId: number; readonly fetchId: number; readonly name: string; readonly message: string; readonly code: string }
