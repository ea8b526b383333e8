/**
 * The face of a host's sandboxes towards a front door: what an invocation is, where its answer goes, and what the
 * host can be asked. The same at a POP and at a region, so that both run functions by one mechanism.
 */
import type { BuildKey, ImageId, RequestId } from '../brand.ts'
import type { CodedErrorData } from '../errors.ts'
import type { FunctionLimits } from '../limits.ts'
import type { BlockId, ImageManifest } from '../microvm/manifest.ts'
import type { Outcome, StartKind } from '../outcome.ts'
import type { SessionSettings } from '../sessions/types.ts'

/** What a module exports, found by the builder: `export default { fetch }` or `export const handler`. */
export type HandlerKind = 'fetch' | 'event'

export const LATENCY_SENSITIVITIES = ['low', 'normal', 'high'] as const
export type LatencySensitivity = (typeof LATENCY_SENSITIVITIES)[number]

/** What a function's owner says of it for those who decide where it runs. */
export interface FunctionTraits {
  /** One request may run it more than once: if a region fails in the middle of a run, another one is asked. */
  readonly idempotent: boolean
  /** How much its users gain from an answer out of a near place: what a place there is worth against others'. */
  readonly latencySensitivity: LatencySensitivity
  /** Whether requests may share a machine, and how they say so. Null: every request has a fresh one. */
  readonly sessions: SessionSettings | null
}

export const DEFAULT_FUNCTION_TRAITS: FunctionTraits = { idempotent: false, latencySensitivity: 'normal', sessions: null }

/** Another function of the same account that a function calls as `env[binding].fetch()`. */
export interface ServiceBinding {
  readonly binding: string
  readonly service: string
  /** Version or alias; null: the function's default. */
  readonly qualifier: string | null
  /** A named export of the other function; null: its default one. */
  readonly entrypoint: string | null
  /** What the other function finds as `ctx.props`; null: an empty object. */
  readonly props: Readonly<Record<string, unknown>> | null
}

/** Of an invocation that was caused by another one's service binding. */
export interface ServiceChain {
  /** Functions that wait for this one: 1 for what a request from outside calls. */
  readonly depth: number
  /** Calls that the request from outside has caused so far, as known on this host; shared by all that it causes here. */
  readonly calls: { count: number }
  /** Whose binding it was, of the same account. */
  readonly caller: { readonly functionName: string; readonly version: string }
}

/** A runnable build: everything a host needs to know besides the image's pages. */
export interface BuildSpec {
  readonly key: BuildKey
  readonly imageId: ImageId
  readonly handlerKind: HandlerKind
  readonly account: string
  readonly functionName: string
  /** The Lambda version label: `$LATEST` or a number as text. */
  readonly version: string
  readonly limits: FunctionLimits
  readonly traits: FunctionTraits
  /** Secrets by name. They reach the guest only after restore and are never in an image. */
  readonly secrets: Readonly<Record<string, string>>
  /** By the index that the guest knows. Absent: none. */
  readonly services?: readonly ServiceBinding[]
}

/**
 * `http`: a web request; a fetch handler gets it as a Request, an event handler as an HTTP event v2.0.
 * `event`: a JSON payload (Invoke); an event handler gets it parsed, a fetch handler as a request made from it.
 */
export type InvocationKind = 'http' | 'event'

export interface InvocationInput {
  readonly requestId: RequestId
  readonly build: BuildSpec
  readonly kind: InvocationKind
  /** Upper-case method; `POST` for events. */
  readonly method: string
  /** Absolute URL as the guest shall see it; for events the function's ARN as invoked. */
  readonly url: string
  /** `name\nvalue\nname\nvalue...`, names in lower case; values hold no CR, LF or NUL. Empty for none. */
  readonly headers: string
  /** The body that is there already. When `bodyMore`, the rest comes by `Invocation.write`. */
  readonly body: Uint8Array | null
  readonly bodyMore: boolean
  readonly clientIp: string
  /** Point in time after which nobody waits for the answer, ms of the host's clock. */
  readonly deadlineAtMs: number
  /** Collect log lines for the caller (Lambda's log tail), besides the host's log. */
  readonly wantLogs: boolean
  /** `selectionLine` of guest/selection.ts. Absent or null: the default handler. */
  readonly selection?: string | null
  /** Absent or null: it comes from outside. */
  readonly chain?: ServiceChain | null
  /** For a request of a session. Absent: the machine is the image, and nothing of it is kept. */
  readonly session?: SessionInput | null
}

/** A session's machine as the host takes it over from one of its requests and gives it to the next. */
export interface SessionInput {
  /** As `InvocationResult.machine` gave it after the session's last request; null: the session begins. */
  readonly state: Uint8Array | null
  /** Bytes that the machine may have afterwards; more than 0. */
  readonly keepMaxBytes: number
}

/**
 * What became of a session's machine. `tooLarge`: it went well, and there is more of it than may be kept. `lost`: the
 * guest was stopped in the midst of something, or the invocation never ran: `outcome` says which.
 */
export type KeptMachine = { readonly kind: 'kept'; readonly state: Uint8Array } | { readonly kind: 'tooLarge' } | { readonly kind: 'lost' }

export interface InvocationResult {
  readonly outcome: Outcome
  /** Set whenever the outcome is not `ok`. */
  readonly error: CodedErrorData | null
  /** What the function threw, for the Lambda error payload and the log: never host paths. */
  readonly exception: { readonly name: string; readonly message: string; readonly stack: string } | null
  readonly startKind: StartKind
  /** Time inside the guest, microseconds. */
  readonly cpuUs: number
  readonly wallUs: number
  /** Pages of 4 KiB that the reset restored; 0 if the invocation never got a sandbox. */
  readonly dirtyPages: number
  readonly memoryBytes: number
  /** Log lines, `level\ttext` each, the level by its number (LOG_LEVELS); empty unless asked for. */
  readonly logs: readonly string[]
  /** Only of an invocation with `session`. */
  readonly machine?: KeptMachine
}

/** The way of a request body, seen from where it goes to: asks whoever sends it to hold it, and to go on. */
export interface BodyFlow {
  pauseBody?(): void
  resumeBody?(): void
}

/**
 * Where an answer goes. Called on the front door's thread in this order: `head` at most once, `data` any number of
 * times, `end` exactly once, last. After `end` with an outcome that is not `ok` and no `head`, nothing was answered.
 */
export interface InvocationSink extends BodyFlow {
  /** `headers` as in InvocationInput, unchecked: the front door applies HTTP hygiene. `last`: `body` is all there is; it is valid only during the call. */
  head(status: number, headers: string, startKind: StartKind, body: Uint8Array | null, last: boolean): void
  /** `chunk` is valid only during the call. Return false to ask for a pause until `Invocation.resume`. */
  data(chunk: Uint8Array): boolean
  /** For `ok` the body is complete; comes after `waitUntil` work has ended, so the body may have ended before. */
  end(result: InvocationResult): void
  /** The body is complete though `waitUntil` work may still run. Called before `end` whenever a head was sent. */
  bodyEnd(): void
}

export interface Invocation {
  /** More of the request body; what comes though the sink was asked to pause waits. Throws ERR_BODY_TOO_LARGE beyond the host's bounds. */
  write(chunk: Uint8Array): void
  writeEnd(): void
  /** The sink can take data again. */
  resume(): void
  /** Nobody wants the answer: the run is stopped and `end` comes with `canceled`. Idempotent. */
  cancel(): void
  /** Takes it back if no worker has it: then `end` comes with `loadShed` before this returns true. Else does nothing. */
  withdraw(): boolean
}

export interface WaitingInvocation {
  readonly sink: InvocationSink
  /** By the monotonic clock. */
  readonly enqueuedAtMs: number
}

export interface HostStats {
  readonly workers: number
  readonly slots: number
  readonly slotsUsed: number
  readonly queued: number
  readonly running: number
  readonly parked: number
  /** Bytes of images, slots and caches counted against the memory budget. */
  readonly residentBytes: number
  readonly budgetBytes: number
  readonly images: number
}

/** The sandboxes of one process. */
export interface SandboxHost {
  /** Starts workers, builds their pools and runs the warm-up function; a front door is not ready before. */
  start(): Promise<void>
  /** True if the image of this build is complete and applied in memory. */
  hasImage(imageId: ImageId): boolean
  /** Makes an image runnable; its parent must be there, and `block` gives the content of every block it names, verified. Throws ERR_NO_CAPACITY beyond the budget. */
  addImage(imageId: ImageId, manifest: ImageManifest, block: (id: BlockId) => Uint8Array): void
  /** A copy of a page as an image has it, which must be here. */
  page(imageId: ImageId, index: number): Uint8Array
  /** Forgets an image once no invocation uses it. Idempotent. */
  dropImage(imageId: ImageId): void
  invoke(input: InvocationInput, sink: InvocationSink): Invocation
  /** Cancels invocations of such builds, `count` at most, the newest first. Returns how many. Costs a pass over all that are under way. */
  stopRuns(which: (build: BuildSpec) => boolean, count: number): number
  /** Invocations that no worker has yet: how many, and which, oldest first. The list changes with the queue. */
  readonly queued: number
  readonly waiting: readonly WaitingInvocation[]
  stats(): HostStats
  /** Stops taking invocations, waits for those in flight (waitUntil work included) until the deadline, then stops them. Idempotent. */
  drain(timeoutMs: number): Promise<void>
  close(): Promise<void>
}
