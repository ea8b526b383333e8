/**
 * Between a front door, which speaks HTTP, and what stands behind it. A POP's dispatcher places the call here or
 * forwards it; a region's runs it or answers the control plane. The front door is the same for both.
 */
import type { CodedError } from '../errors.ts'
import type { BodyFlow, InvocationKind, InvocationResult, ServiceChain } from '../worker/types.ts'
import type { StartKind } from '../outcome.ts'
import type { SessionAnswer } from '../sessions/types.ts'

export interface InvokeCall {
  readonly requestId: string
  readonly account: string
  readonly functionName: string
  /** `$LATEST`, a number, an alias, or null for the default. */
  readonly qualifier: string | null
  readonly invocationKind: InvocationKind
  readonly method: string
  readonly url: string
  /** `name\nvalue\n...`, lower case, already cleaned by the front door. */
  readonly headers: string
  /** The body, if it arrived whole before the dispatch; with `bodyMore` the rest comes by `Answer.write`. */
  readonly body: Uint8Array | null
  readonly bodyMore: boolean
  readonly clientIp: string
  readonly deadlineAtMs: number
  readonly wantLogs: boolean
  /** As in InvocationInput. */
  readonly selection?: string | null
  /** As in InvocationInput. */
  readonly chain?: ServiceChain | null
}

/** A management call exactly as it arrived: the signature covers these bytes. */
export interface ControlCall {
  readonly requestId: string
  readonly method: string
  /** Path and query as received, not decoded. */
  readonly rawPath: string
  readonly headers: string
  readonly body: Uint8Array
  readonly clientIp: string
}

export interface Placement {
  readonly place: 'pop' | 'region'
  /** Null for a local run; else why the call was forwarded: `not-hot`, `no-image`, `heavy`, `capability`, `capacity`, `version-unknown`, `auth`. */
  readonly reason: string | null
  /** Resolved Lambda version label, null if it is not known. */
  readonly version: string | null
  readonly startKind: StartKind | null
  /** True when the POP is cut off from its region and serves what it has. */
  readonly stale: boolean
  /** Regions that were asked one after the other; absent for one. */
  readonly attempts?: number
  /** Absent: the request was of no session. */
  readonly session?: SessionAnswer | null
  /** The node that ran it, where a region has several. */
  readonly node?: string
  /** The function's memory limit, for Lambda's REPORT line; absent or null if it is not known. */
  readonly memoryMib?: number | null
}

/**
 * Where the answer to a call goes; the front door implements it. Order: `head` at most once, `data`*, `bodyEnd`
 * whenever a head came, then exactly one of `end` and `fail`, last. `end` without a head: the function failed before
 * answering, and the front door makes the error answer from the result.
 */
export interface AnswerSink extends BodyFlow {
  head(status: number, headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void
  /** `chunk` is valid only during the call. False asks for a pause until `Answer.resume`. */
  data(chunk: Uint8Array): boolean
  bodyEnd(): void
  end(result: InvocationResult, placement: Placement): void
  /** The call did not run to an outcome. */
  fail(error: CodedError, placement: Placement | null): void
}

/** The running call, as the front door holds it. */
export interface Answer {
  /** More of the request body; the bytes are the receiver's own. */
  write(chunk: Uint8Array): void
  writeEnd(): void
  resume(): void
  /** The client is gone. Idempotent. */
  cancel(): void
}

/** What stands behind a front door. */
export interface Dispatcher {
  invoke(call: InvokeCall, sink: AnswerSink): Answer
  /** Answers any call of the Lambda-compatible API that is not Invoke, and Invoke's DryRun. */
  control(call: ControlCall): Promise<ControlReply>
  /** What `/readyz` says. `ready` false gives 503. */
  readiness(): { readonly ready: boolean; readonly checks: Readonly<Record<string, boolean>> }
}

export interface ControlReply {
  readonly status: number
  /** `name\nvalue\n...`. */
  readonly headers: string
  readonly body: Uint8Array
}
