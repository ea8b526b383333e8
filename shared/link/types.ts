/**
 * The link between a POP and a region: one kept-open WebSocket, msgpack frames, many streams.
 * A POP opens streams; a region answers. Every field of a frame is always there, `null` for none.
 *
 * The two faces are mirror images: a POP holds a LinkStream and implements LinkStreamSink; a region implements
 * LinkInvocation and holds a LinkAnswer. Bytes given to a callback are valid only during the call unless a comment
 * says that they are the receiver's own. Both directions have flow control: see `write`, `data`, `drain`, `resume`.
 */
import type { BuildKey, ImageId } from '../brand.ts'
import type { CodedErrorData, ErrorCode } from '../errors.ts'
import type { ControlCall, ControlReply } from '../http/types.ts'
import type { Fingerprint } from '../identity/fingerprint.ts'
import type { StartKind } from '../outcome.ts'
import type { SealKey } from '../sessions/session-seal.ts'
import type { SessionAnswer } from '../sessions/types.ts'
import type { SealedBlockId } from '../store/types.ts'
import type { BuildSpec, HostStats, InvocationKind, InvocationResult, ServiceChain } from '../worker/types.ts'

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
  /** As in InvocationInput; at most SELECTION_MAX_CHARS. Absent: null. */
  readonly selection?: string | null
  /** As in InvocationInput. Absent: null. */
  readonly chain?: ServiceChain | null
  /** Why the POP forwarded, for the log. */
  readonly reason: string
  /** Forwards so far, this one included. A POP's is 1, a node's 2; anything above is refused with ERR_LINK_LOOP. */
  readonly hops: number
  /** The session whose machine is to run it; null: a fresh machine. At most LINK_SESSION_ID_MAX_CHARS. */
  readonly session: string | null
  /** From a member of the group that the receiver is in, else null. */
  readonly ring: OpenRing | null
  /** What the receiver gave out for this invocation when it was asked for a free sandbox. At most LINK_RESERVATION_ID_MAX_CHARS. */
  readonly reservation: string | null
}

/** What the sender knew when it chose the receiver. */
export interface OpenRing {
  readonly version: number
  /** The sender's number of the function's last change: a receiver that has not heard of it yet would run an old version. */
  readonly seq: number
  /** Members that may have state for the key; at most LINK_PREDECESSORS_MAX. */
  readonly predecessors: readonly string[]
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
  /** What the client is to be told of its session: with the head, or with the end if there was none. The last one counts. */
  session?(answer: SessionAnswer): void
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
  /** Before `head`, `end` or `error`; see LinkStreamSink. */
  session?(answer: SessionAnswer): void
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

/** An image that one of a function's builds runs. What a POP is given of images it is given in the name of a function. */
export interface ImageRef extends FunctionRef {
  readonly imageId: ImageId
}

/** One image of a chain as it travels. */
export interface ChainLink {
  readonly imageId: ImageId
  /** Sealed; whoever takes it verifies it. */
  readonly manifest: Uint8Array
  /** The manifest's data key, wrapped for the POP that asked. */
  readonly wrappedKey: Uint8Array
}

/** A chain or a part of it, descendants first: the function's own image, then its parent, and so on. */
export interface ImageChain {
  readonly links: readonly ChainLink[]
}

/** Blocks of one image of a chain, by their place among the distinct ones of its sealed manifest (`blocksOf`). */
export interface BlockSelection {
  readonly imageId: ImageId
  readonly numbers: readonly number[]
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
  /** The region has taken this POP's key out of use, and with it every function. */
  | { readonly kind: 'revoked' }

export interface VersionSnapshot {
  readonly seq: number
  readonly functions: readonly FunctionVersions[]
  /** Of the functions asked for, this many from the first on are answered, at least one; the rest is to be asked for again. */
  readonly answered: number
}

/** What a qualifier stands for at the moment of `seq`. */
export interface FunctionDescription {
  readonly seq: number
  /** One build of weight 1, or those of a weighted alias; weights add up to 1. */
  readonly routes: readonly { readonly weight: number; readonly build: BuildSpec }[]
  /** What a POP seals the account's sessions with, if the function has sessions. */
  readonly sessionKey: SealKey | null
}

/** Since the POP's `epoch` began, or since it last forgot the function: totals, so that a report that comes twice or not at all changes nothing. */
export interface FunctionCounts extends FunctionRef {
  readonly arrivals: number
  readonly local: number
  readonly forwarded: number
  readonly failed: number
  readonly cpuUs: number
  /** Time of all runs at the POP, and of all forwarded ones with the trip. */
  readonly localUs: number
  readonly forwardedUs: number
}

/** A function of which a POP has images. */
export interface HeldFunction extends FunctionRef {
  readonly builds: readonly BuildKey[]
}

/** What a POP tells each of its regions every 10 s. What does not fit one goes into further parts. */
export interface PopReport {
  /** Of this life of the POP's process: counts begin anew with another one. */
  readonly epoch: string
  /** Where it stands, as its operator says; POPs of one area are asked for the same things. */
  readonly area: string
  /** Grows by one per report, the same for all its parts. */
  readonly sequence: number
  /** From 0, below `parts`. Functions and what is held are divided among the parts, the rest is in each. */
  readonly part: number
  readonly parts: number
  readonly periodMs: number
  /** Those of which something changed since the last report that this region has answered. */
  readonly functions: readonly FunctionCounts[]
  /** All that it holds, in the parts together. */
  readonly held: readonly HeldFunction[]
  readonly host: HostStats
}

/** A region's answer to one part of a report. */
export interface RegionAdvice {
  /** Number of the latest change that the region has. */
  readonly seq: number
  /** Part of its capacity that is in use, 0 to 1. */
  readonly load: number
  /** State of all functions that the part says are held, as in a snapshot: one that is missing is gone, as of `seq`. */
  readonly versions: readonly FunctionVersions[]
  /** Worth holding ahead of demand: other POPs of the area are asked for it. Only hints. */
  readonly pull: readonly AdvisedFunction[]
}

export interface AdvisedFunction extends FunctionRef {
  /** What a run takes elsewhere, us: whether it is heavy need not be found out again. */
  readonly cpuUs: number
}

/** A POP; a member of the group that the receiver is in; another region that asks for what it lost. */
export const LINK_ROLES = ['pop', 'node', 'region'] as const
export type LinkRole = (typeof LINK_ROLES)[number]

/** What the peer at the other end is. */
export interface LinkPeer extends PopPeer {
  readonly role: LinkRole
}

/** What a POP says of itself first. */
export interface LinkHello extends PopPeer {
  readonly token: string
  /** What it claims to be. */
  readonly role: LinkRole
}

export interface PopPeer {
  readonly popId: string
  /** X25519, of the pair that the POP made for itself. */
  readonly publicKey: string
}

/** What the carrier of a connection knows of the peer for certain; everything in the hello is only said. */
export type LinkProof =
  | { readonly kind: 'none' }
  /** It holds the private half of this key: mutual TLS. */
  | { readonly kind: 'key'; readonly fingerprint: Fingerprint }

export type IdentityVerdict =
  | { readonly kind: 'accepted'; readonly popId: string; readonly role: LinkPeer['role'] }
  /** Both go to the peer. */
  | { readonly kind: 'refused'; readonly code: ErrorCode & ('ERR_LINK_IDENTITY' | 'ERR_LINK_REVOKED'); readonly reason: string }

/** Decides who may use the link, and under which name. */
export interface PopIdentity {
  verify(hello: LinkHello, proof: LinkProof): IdentityVerdict | Promise<IdentityVerdict>
}

/** The region behind a LinkServer. Whatever a method throws reaches the POP as its coded error. */
export interface LinkHandler {
  /** Runs an invocation. `deadlineAtMs` is `remainingMs` on this host's clock. Events may come before it returns. */
  invoke(peer: LinkPeer, open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer): LinkInvocation
  control(popId: string, call: ControlCall): Promise<ControlReply>
  /**
   * An image's ancestry from `from` on, which is the image or one of its ancestors, up to the first in `known` or to the
   * end, cut where LINK_ANSWER_MAX_BYTES would be exceeded. Null: the function has no such image. Throws
   * ERR_LINK_IDENTITY if the function is not granted to the POP.
   */
  chain(pop: PopPeer, image: ImageRef, from: ImageId, known: ReadonlySet<ImageId>): ImageChain | null | Promise<ImageChain | null>
  /** A reader of blocks of an image's ancestry, numbered through all selections; null for one that is not there. Throws as `chain`, and for what is not in the ancestry. */
  blocks(popId: string, image: ImageRef, wanted: readonly BlockSelection[]): (at: number) => Uint8Array | null | Promise<Uint8Array | null>
  /** For another region, in nobody's name: a reader of the blocks with these ids; null for one that is not there. */
  peerBlocks(ids: readonly SealedBlockId[]): (at: number) => Uint8Array | null
  /** Null: no such function or qualifier. */
  describe(popId: string, account: string, functionName: string, qualifier: string | null): FunctionDescription | null | Promise<FunctionDescription | null>
  /** The state of functions asked for, as many as fit an answer; those that do not exist may be left out. */
  snapshot(popId: string, functions: readonly FunctionRef[]): VersionSnapshot | Promise<VersionSnapshot>
  report(popId: string, report: PopReport): RegionAdvice | Promise<RegionAdvice>
  /** A question by topic, its payload as plain as it came: whoever answers checks it. `TopicTable` is one; throws ERR_LINK_TOPIC. */
  ask(peer: LinkPeer, topic: string, payload: unknown): unknown
}
