/**
 * The link between a POP and a region: one kept-open WebSocket, msgpack frames, many streams.
 * A POP opens streams; a region answers. Every field of a frame is always there, `null` for none.
 *
 * The two faces are mirror images: a POP holds a LinkStream and implements LinkStreamSink; a region implements
 * LinkInvocation and holds a LinkAnswer. Bytes given to a callback are valid only during the call unless a comment
 * says that they are the receiver's own. Both directions have flow control: see `write`, `data`, `drain`, `resume`.
 */
import type { BuildKey, ImageId } from '../brand.ts'
import type { CodedErrorData } from '../errors.ts'
import type { ControlCall, ControlReply } from '../http/types.ts'
import type { BlockId } from '../microvm/manifest.ts'
import type { StartKind } from '../outcome.ts'
import type { BuildSpec, HostStats, InvocationKind, InvocationResult } from '../worker/types.ts'

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
  /** What there is of the body already, any length; with `bodyMore` the rest comes by `write`. At the region at most 64 KiB of it and its own to keep. */
  readonly body: Uint8Array | null
  readonly bodyMore: boolean
  readonly clientIp: string
  /** Time left until nobody waits for the answer, ms: clocks of two hosts are never compared. */
  readonly remainingMs: number
  readonly wantLogs: boolean
  /** Why the POP forwarded, for the log. */
  readonly reason: string
  /** Forwards so far, this one included. A region refuses anything above 1 with ERR_LINK_LOOP. */
  readonly hops: number
}

/** A control-plane call as the client signed it: the region verifies. `LinkClient.control` is the short way. */
export interface OpenControl {
  readonly kind: 'control'
  readonly requestId: string
  readonly method: string
  /** Path and query as received, not decoded. */
  readonly rawPath: string
  /** Every header as received, `name\nvalue...`. */
  readonly headers: string
  readonly body: Uint8Array | null
  readonly bodyMore: boolean
  readonly clientIp: string
  readonly remainingMs: number
}

export type OpenFrame = OpenInvocation | OpenControl

/**
 * Events of one stream as the opener sees them, never during the call of `open`. Order: `started` at most once, `head`
 * at most once, `data`*, `bodyEnd` once the body is complete, then exactly one of `end` and `error`, last.
 * `end` without `bodyEnd` after a head: the run failed in the middle of its answer.
 */
export interface LinkStreamSink {
  /** The region has begun to run the function: from here on a retry elsewhere is not safe. */
  started(): void
  /** `version` is the resolved Lambda version label; it and `startKind` are null for control calls. `last`: `body` is all there is; `bodyEnd` follows at once. */
  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): void
  /** Return false for a pause until `LinkStream.resume`. */
  data(chunk: Uint8Array): boolean
  /** The body is complete. `end` follows once the run has ended, waitUntil work included. */
  bodyEnd(): void
  /** `write` may be called again after it returned false. */
  drain(): void
  /** `result` and `version` are null for control calls. */
  end(result: InvocationResult | null, version: string | null): void
  /** The run came to no outcome. `ERRORS[code].ran` says whether it may have run. */
  error(error: CodedErrorData): void
}

/** A stream as the opener holds it. After `end` or `error` every method does nothing. */
export interface LinkStream {
  /** Copies what it cannot send now. False: hold further chunks until `drain`. */
  write(chunk: Uint8Array): boolean
  writeEnd(): void
  resume(): void
  /** Nobody wants the answer: no more head or data; `end` with outcome `canceled` or `error` follows. Idempotent. */
  cancel(): void
}

/** Where a region's answer to one invocation goes; the same order as LinkStreamSink. After `end` or `error` every method does nothing. */
export interface LinkAnswer {
  started(): void
  /** False: hold data until `LinkInvocation.resume`. A body of any length may be given. */
  head(status: number, headers: string, startKind: StartKind | null, version: string | null, body: Uint8Array | null, last: boolean): boolean
  /** Copies what it cannot send now. False: hold further chunks until `LinkInvocation.resume`. */
  data(chunk: Uint8Array): boolean
  /** Does nothing if `head` said `last`. */
  bodyEnd(): void
  /** Waits behind body bytes that are still on their way. */
  end(result: InvocationResult | null, version: string | null): void
  /** Overtakes and drops body bytes that are still on their way. */
  error(error: CodedErrorData): void
  /** The request body may flow again after `LinkInvocation.write` returned false. */
  resumeBody(): void
}

/** A running invocation as the link's server drives it. */
export interface LinkInvocation {
  /** More of the request body. False: nothing more comes than the credit that is out, until `LinkAnswer.resumeBody`. */
  write(chunk: Uint8Array): boolean
  writeEnd(): void
  /** The answer can take data again. */
  resume(): void
  /** Nobody wants the answer, or the link is gone. `answer.end` is still welcome. Called at most once. */
  cancel(): void
}

export interface FunctionRef {
  readonly account: string
  readonly functionName: string
}

/** What a region knows of one function's versions, complete each time and not a difference. */
export interface FunctionVersions extends FunctionRef {
  /** The region's number of the change that made this so; grows with every change of anything. */
  readonly seq: number
  /** Every build that some qualifier still stands for. Empty: the function is gone. */
  readonly builds: readonly BuildKey[]
}

export type VersionEvent =
  /** A function changed: drop what was resolved for it below `seq`, and every build that is not listed. */
  | { readonly kind: 'changed'; readonly versions: FunctionVersions }
  /** After each connect, before `open` works: the state of every function in `holds()`. Any of them missing here is gone. */
  | { readonly kind: 'snapshot'; readonly seq: number; readonly functions: readonly FunctionVersions[] }

export interface VersionSnapshot {
  readonly seq: number
  readonly functions: readonly FunctionVersions[]
}

/** What a qualifier stands for at the moment of `seq`. */
export interface FunctionDescription {
  readonly seq: number
  /** One build of weight 1, or those of a weighted alias; weights add up to 1. */
  readonly routes: readonly { readonly weight: number; readonly build: BuildSpec }[]
}

export interface FunctionCounts extends FunctionRef {
  readonly arrivals: number
  readonly local: number
  readonly forwarded: number
  readonly failed: number
  readonly cpuUs: number
}

/** What a POP tells its region every 10 s; counters cover the time since the report before. */
export interface PopReport {
  /** Grows by one per report; a gap says that one was lost. */
  readonly sequence: number
  readonly periodMs: number
  readonly functions: readonly FunctionCounts[]
  readonly held: readonly (FunctionRef & { readonly builds: readonly BuildKey[] })[]
  readonly host: HostStats
}

export interface RegionAdvice extends VersionSnapshot {
  /** Worth pulling ahead of demand. */
  readonly pull: readonly FunctionRef[]
}

/** What a POP says of itself first. */
export interface LinkHello {
  readonly popId: string
  readonly token: string
}

export type IdentityVerdict =
  | { readonly kind: 'accepted'; readonly popId: string }
  /** `reason` goes to the peer with ERR_LINK_IDENTITY. */
  | { readonly kind: 'refused'; readonly reason: string }

/** Decides who may use the link. A shared token now; key pairs with mutual TLS come behind the same method. */
export interface PopIdentity {
  verify(hello: LinkHello): IdentityVerdict | Promise<IdentityVerdict>
}

/** The region behind a LinkServer. Whatever a method throws reaches the POP as its coded error. */
export interface LinkHandler {
  /** Runs an invocation. `deadlineAtMs` is `remainingMs` on this host's clock. Events may come before it returns. */
  invoke(popId: string, open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer): LinkInvocation
  control(popId: string, call: ControlCall): Promise<ControlReply>
  /** The encoded manifest, or null. */
  manifest(popId: string, imageId: ImageId): Uint8Array | null | Promise<Uint8Array | null>
  block(popId: string, id: BlockId): Uint8Array | null
  /** Null: no such function or qualifier. */
  describe(popId: string, account: string, functionName: string, qualifier: string | null): FunctionDescription | null | Promise<FunctionDescription | null>
  /** The state of the functions asked for; those that do not exist may be left out. */
  snapshot(popId: string, functions: readonly FunctionRef[]): VersionSnapshot | Promise<VersionSnapshot>
  report(popId: string, report: PopReport): RegionAdvice | Promise<RegionAdvice>
}
