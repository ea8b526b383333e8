/**
 * The link between a POP and a region: one kept-open WebSocket, msgpack frames, many streams.
 * A POP opens streams; a region answers. Every field of a frame is always there, `null` for none.
 */
import type { CodedErrorData } from '../errors.ts'
import type { StartKind } from '../outcome.ts'
import type { InvocationKind, InvocationResult } from '../worker/types.ts'

/** What a POP asks a region to run for it. */
export interface OpenInvocation {
  readonly kind: 'invoke'
  readonly requestId: string
  readonly account: string
  readonly functionName: string
  /** `$LATEST`, a version number, an alias, or null for the default. */
  readonly qualifier: string | null
  readonly invocationKind: InvocationKind
  readonly method: string
  readonly url: string
  /** `name\nvalue...` as in InvocationInput. */
  readonly headers: string
  readonly clientIp: string
  /** Time left until nobody waits for the answer, ms: clocks of two hosts are never compared. */
  readonly remainingMs: number
  readonly wantLogs: boolean
  /** Why the POP forwarded, for the log. */
  readonly reason: string
  /** Forwards so far. A region refuses anything above 1 with ERR_LINK_LOOP. */
  readonly hops: number
}

/** A control-plane call as the client signed it: the region verifies. */
export interface OpenControl {
  readonly kind: 'control'
  readonly requestId: string
  readonly method: string
  /** Path and query as received, not decoded. */
  readonly rawPath: string
  /** Every header as received, `name\nvalue...`. */
  readonly headers: string
  readonly remainingMs: number
}

export type OpenFrame = OpenInvocation | OpenControl

/** Events of one stream as the opener sees them. `end` or `error` comes exactly once and last. */
export interface LinkStreamSink {
  /** The region has begun to run the function: from here on a retry elsewhere is not safe. */
  started(): void
  /** `version` is the resolved Lambda version label; both null for control calls. */
  head(status: number, headers: string, startKind: StartKind | null, version: string | null): void
  /** `chunk` is valid only during the call. Return false for a pause until `LinkStream.resume`. */
  data(chunk: Uint8Array): boolean
  /** The body is complete. `end` follows once the run has ended. */
  bodyEnd(): void
  /** `version` is the resolved Lambda version label; both null for control calls. */
  end(result: InvocationResult | null, version: string | null): void
  error(error: CodedErrorData): void
}

export interface LinkStream {
  write(chunk: Uint8Array): void
  writeEnd(): void
  resume(): void
  cancel(): void
}
