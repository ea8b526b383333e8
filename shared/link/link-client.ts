/**
 * A POP's link to one region: keeps a connection open, opens streams on it, and asks the region's questions. A POP
 * with several regions has one client for each.
 *
 *   idle -> connecting <-> backoff,  connecting -> open -> backoff | connecting (goaway),  any -> draining -> closed
 *
 * L1  `open` never waits: without a connection it fails at once with ERR_REGION_UNREACHABLE.
 * L2  `state` is `open` only after the listeners of `onVersions` have had the snapshot of what this POP holds, so a
 *     deletion that happened while the link was down is known before the first stream.
 * L3  After a goaway the old connection lives until its streams have ended; new streams go to the next connection.
 * L4  A description is never older than a change that the listeners have heard of already.
 * L5  A region that says that this POP's key is revoked has taken everything away: the listeners hear so.
 */
import type { ImageId } from '../brand.ts'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { CodedErrorData, ErrorCode } from '../errors.ts'
import type { ControlCall, ControlReply } from '../http/types.ts'
import { CONTROL_BODY_MAX_BYTES, LINK_ANSWER_MAX_BYTES, LINK_BLOCKS_PER_REQUEST_MAX, LINK_BUFFERED_MAX_BYTES, LINK_BULK_CREDIT_BYTES, LINK_CREDIT_BYTES, LINK_KNOWN_IMAGES_MAX, LINK_STREAMS_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import type { Random } from '../random.ts'
import type { BlockSource, SealedBlockId } from '../store/types.ts'
import { Backoff } from './backoff.ts'
import { BlockReader, selectionsOf } from './blocks.ts'
import type { WantedBlock } from './blocks.ts'
import { ClientConnection } from './client-connection.ts'
import type { LinkFailure } from './client-connection.ts'
import { decodeValue, encodeValue, MalformedError } from './codec.ts'
import { AnswerCollector } from './collect.ts'
import { dialWebSocket } from './dial.ts'
import type { Dial } from './dial.ts'
import { adviceSchema, chainSchema, decodeAs, descriptionSchema } from './values.ts'
import type { FunctionDescription, FunctionRef, ImageChain, ImageRef, LinkRole, LinkStream, LinkStreamSink, OpenFrame, PopReport, RegionAdvice, VersionEvent } from './types.ts'

/** A question has this long; a region answers in milliseconds or not at all. */
const QUERY_TIMEOUT_MS = 10_000
/** Blocks come slowly on a bad line, and nobody waits for them but the pull: 32 MiB at 2 Mbit/s. */
const BLOCKS_TIMEOUT_MS = 130_000
/** Connections that finish their streams after a goaway. More says that the region restarts all the time. */
const RETIRING_MAX = 4
/** A region that drains for longer than this counts as away. */
const GOAWAY_DRAIN_MAX_MS = 900_000
/** How often a description that was overtaken by a change is asked for again. */
const DESCRIBE_ATTEMPTS_MAX = 4

export interface LinkClientDeps {
  /** `ws://host:port/link`, or `wss:`. ERR_CONFIG if it is not. */
  readonly url: string
  readonly token: string
  readonly popId: string
  /** What the region wraps keys of images for; see shared/store/pop-keys.ts. */
  readonly publicKey: string
  /** What this end is. Default: a POP. */
  readonly role?: LinkRole
  /** Who must answer: what the welcome says. Another one's address may be this one's old. Default: whoever does. */
  readonly expects?: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Functions of which this POP holds or has resolved anything; asked at each connect. Default: none. */
  readonly holds?: () => readonly FunctionRef[]
  /** Default and limit LINK_STREAMS_MAX. */
  readonly streamsMax?: number
  /** Default LINK_BUFFERED_MAX_BYTES. */
  readonly bufferedMaxBytes?: number
  /** Called with the round trip of the handshake and of each ping. */
  readonly onRtt?: (rttMs: number) => void
  /** The socket; a test may bring its own. */
  readonly dial?: Dial
}

/** What the link does now. */
export type LinkState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'connecting'; readonly sinceMs: number; readonly failures: number }
  | { readonly kind: 'open'; readonly sinceMs: number; readonly regionId: string }
  | { readonly kind: 'backoff'; readonly sinceMs: number; readonly untilMs: number; readonly failures: number; readonly code: ErrorCode; readonly reason: string }
  | { readonly kind: 'draining'; readonly untilMs: number }
  | { readonly kind: 'closed' }

export interface LinkClientStats {
  readonly streams: number
  readonly bufferedBytes: number
  /** The last ping's round trip, null before the first. */
  readonly rttMs: number | null
  /** For how long the last ping has had no answer; 0 if it has. */
  readonly unansweredMs: number
}

type Inner =
  | { readonly kind: 'idle' | 'closed' }
  | { readonly kind: 'connecting' | 'open'; readonly connection: ClientConnection }
  | { readonly kind: 'backoff'; readonly cancelTimer: () => void }
  | { readonly kind: 'draining'; readonly finish: () => void; readonly done: Promise<void> }

export class LinkClient implements BlockSource {
  readonly #deps: LinkClientDeps
  readonly #log: Log
  readonly #backoff: Backoff
  readonly #stateListeners = new Set<(state: LinkState) => void>()
  readonly #versionListeners = new Set<(event: VersionEvent) => void>()
  /** Still finishing streams (L3). */
  readonly #retiring = new Set<ClientConnection>()
  /** Functions being described, and the latest change heard of each meanwhile (L4). */
  readonly #describing = new Map<string, { asking: number; changedAtSeq: number }>()
  #inner: Inner = { kind: 'idle' }
  #state: LinkState = { kind: 'idle' }

  constructor(deps: LinkClientDeps) {
    if (!/^wss?:$/.test(URL.canParse(deps.url) ? new URL(deps.url).protocol : '')) throw new CodedError('ERR_CONFIG', [`The link to a region needs a ws: or wss: URL, not ${deps.url}`])
    this.#deps = deps
    this.#log = deps.log.child('link')
    this.#backoff = new Backoff(deps.random)
  }

  get state(): LinkState {
    return this.#state
  }

  /** Returns the function that removes the listener. */
  onState(listener: (state: LinkState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => this.#stateListeners.delete(listener)
  }

  /** Returns the function that removes the listener. */
  onVersions(listener: (event: VersionEvent) => void): () => void {
    this.#versionListeners.add(listener)
    return () => this.#versionListeners.delete(listener)
  }

  /** Begins to connect and keeps at it until `close`. May be called once. */
  start(): void {
    if (this.#inner.kind === 'idle') this.#connect()
  }

  /** Opens a stream (L1). The sink hears `error` for everything that goes wrong, never before this returns. */
  open(frame: OpenFrame, sink: LinkStreamSink): LinkStream {
    const opened = this.#inner.kind === 'open' ? this.#inner.connection.open(frame, sink) : unreachable(frame.kind === 'invoke' ? frame.functionName : 'the control plane')
    if (!('code' in opened)) return opened
    queueMicrotask(() => {
      try {
        sink.error(opened)
      } catch (error) {
        this.#log.error('The receiver of a stream failed', { error: String(error) })
      }
    })
    return DEAD_STREAM
  }

  /** Relays a management call. Rejects with a CodedError; `remainingMs` is how long the client waits. */
  async control(call: ControlCall, remainingMs = 60_000): Promise<ControlReply> {
    const { requestId, method, rawPath, headers, body, clientIp } = call
    return AnswerCollector.collect(
      (sink) => this.open({ kind: 'control', requestId, method, rawPath, headers, body, bodyMore: false, clientIp, remainingMs }, sink),
      CONTROL_BODY_MAX_BYTES,
    )
  }

  /**
   * An image's ancestry from `from` on, descendants first, up to the first in `known` or as far as one answer reaches;
   * null if the region's function has no such image. Manifests are sealed as they came: not verified. Rejects with a CodedError.
   */
  async getChain(image: ImageRef, from: ImageId, known: readonly ImageId[]): Promise<ImageChain | null> {
    const question = encodeValue({ image: plainRef(image), from, known: known.slice(0, LINK_KNOWN_IMAGES_MAX) })
    const { body } = await this.#connection('an image').query('chain', question, QUERY_TIMEOUT_MS, LINK_ANSWER_MAX_BYTES)
    return decode(() => decodeAs(chainSchema, body))
  }

  /**
   * Fetches blocks of an image's ancestry and gives each to `onBlock` once its hash was verified, in the order asked
   * for; the bytes are the caller's own. Resolves when all were given; rejects with ERR_STORE_BLOCK for one that is
   * missing or altered, or with the link's error.
   */
  async getBlocks(image: ImageRef, wanted: readonly WantedBlock[], onBlock: (id: SealedBlockId, block: Uint8Array) => void): Promise<void> {
    const connection = this.#connection('an image')
    for (let at = 0; at < wanted.length; at += LINK_BLOCKS_PER_REQUEST_MAX) {
      const part = wanted.slice(at, at + LINK_BLOCKS_PER_REQUEST_MAX)
      const body = encodeValue({ image: plainRef(image), wanted: selectionsOf(part) })
      await BlockReader.read(part, onBlock, (sink) => connection.open({ kind: 'query', query: 'blocks', body, bodyMore: false, remainingMs: BLOCKS_TIMEOUT_MS, creditBytes: LINK_BULK_CREDIT_BYTES }, sink))
    }
  }

  /** BlockSource, for a region whose peer this is: a sealed block, verified, or null if it is not there. Rejects with a CodedError. */
  async fetchBlock(id: SealedBlockId): Promise<Uint8Array | null> {
    const connection = this.#connection('a block')
    const blocks: Uint8Array[] = []
    try {
      await BlockReader.read([{ id }], (_id, block) => blocks.push(block), (sink) => connection.open({ kind: 'query', query: 'peerBlocks', body: encodeValue([id]), bodyMore: false, remainingMs: QUERY_TIMEOUT_MS, creditBytes: LINK_CREDIT_BYTES }, sink))
    } catch (error) {
      if (error instanceof CodedError && error.code === 'ERR_STORE_BLOCK') return null
      throw error
    }
    return blocks[0] ?? null
  }

  /** What a qualifier stands for now (L4), or null. Rejects with a CodedError. */
  async describe(account: string, functionName: string, qualifier: string | null): Promise<FunctionDescription | null> {
    const key = `${account}\n${functionName}`
    const entry = this.#describing.get(key) ?? { asking: 0, changedAtSeq: 0 }
    this.#describing.set(key, entry)
    entry.asking += 1
    try {
      for (let attempt = 1; ; attempt += 1) {
        const changedAtSeq = entry.changedAtSeq
        const { body } = await this.#connection(functionName).query('describe', encodeValue({ account, functionName, qualifier }), QUERY_TIMEOUT_MS, LINK_ANSWER_MAX_BYTES)
        const description = decode(() => decodeAs(descriptionSchema, body))
        const current = description === null ? entry.changedAtSeq === changedAtSeq : description.seq >= entry.changedAtSeq
        if (current || attempt === DESCRIBE_ATTEMPTS_MAX) return description
      }
    } finally {
      entry.asking -= 1
      if (entry.asking === 0) this.#describing.delete(key)
    }
  }

  /** Tells the region how this POP does, one part of a report. Rejects with a CodedError. */
  async report(report: PopReport): Promise<RegionAdvice> {
    const { body } = await this.#connection('a report').query('report', encodeValue(report), QUERY_TIMEOUT_MS, LINK_ANSWER_MAX_BYTES)
    return decode(() => decodeAs(adviceSchema, body))
  }

  /**
   * Asks what the other end answers by topic. `payload` and the answer are plain values of at most LINK_ASK_MAX_BYTES (of a
   * POP LINK_ASK_OF_POP_MAX_BYTES) and LINK_ANSWER_MAX_BYTES; the asker checks what comes. Rejects with a CodedError:
   * ERR_LINK_TOPIC if nobody there answers this, ERR_REGION_UNREACHABLE if it was certainly not asked.
   */
  async ask(topic: string, payload: unknown, timeoutMs: number): Promise<unknown> {
    const question = encodeValue([topic, payload])
    const { body } = await this.#connection(topic).query('ask', question, timeoutMs, LINK_ANSWER_MAX_BYTES)
    return decode(() => decodeValue(body))
  }

  stats(): LinkClientStats {
    const connections = this.#inner.kind === 'open' ? [this.#inner.connection, ...this.#retiring] : [...this.#retiring]
    return {
      streams: connections.reduce((sum, connection) => sum + connection.streamCount, 0),
      bufferedBytes: connections.reduce((sum, connection) => sum + connection.bufferedBytes, 0),
      rttMs: this.#inner.kind === 'open' ? this.#inner.connection.rttMs : null,
      unansweredMs: this.#inner.kind === 'open' ? this.#inner.connection.unansweredMs : 0,
    }
  }

  /** Opens nothing more, waits for the streams until the deadline, then closes. Idempotent. */
  drain(timeoutMs: number): Promise<void> {
    if (this.#inner.kind === 'draining') return this.#inner.done
    if (this.#inner.kind === 'closed') return Promise.resolve()
    if (this.#inner.kind === 'backoff') this.#inner.cancelTimer()
    if (this.#inner.kind === 'open') this.#retiring.add(this.#inner.connection)
    if (this.#inner.kind === 'connecting') this.#inner.connection.close('ERR_DRAINING', 'draining')
    const { promise: done, resolve } = Promise.withResolvers<undefined>()
    const cancelTimer = this.#deps.clock.after(timeoutMs, () => this.close())
    const finish = (): void => {
      cancelTimer()
      resolve(undefined)
    }
    this.#move({ kind: 'draining', finish, done }, { kind: 'draining', untilMs: this.#deps.clock.nowMs() + timeoutMs })
    this.#endIdleConnections()
    return done
  }

  /** Ends everything now; open streams fail. Idempotent. */
  close(): void {
    const inner = this.#inner
    if (inner.kind === 'closed') return
    this.#move({ kind: 'closed' }, { kind: 'closed' })
    if (inner.kind === 'backoff') inner.cancelTimer()
    if (inner.kind === 'connecting' || inner.kind === 'open') inner.connection.close('ERR_DRAINING', 'closed')
    for (const connection of [...this.#retiring]) connection.close('ERR_DRAINING', 'closed')
    this.#retiring.clear()
    if (inner.kind === 'draining') inner.finish()
  }

  #connection(what: string): ClientConnection {
    if (this.#inner.kind === 'open') return this.#inner.connection
    throw CodedError.fromData(unreachable(what))
  }

  #connect(): void {
    const { url, token, popId, publicKey, role = 'pop', expects = null, clock, holds = () => [], streamsMax = LINK_STREAMS_MAX, bufferedMaxBytes = LINK_BUFFERED_MAX_BYTES, dial = dialWebSocket } = this.#deps
    const connection: ClientConnection = new ClientConnection(
      { url, token, popId, publicKey, role, expects, clock, log: this.#log, dial, holds, streamsMax: Math.min(streamsMax, LINK_STREAMS_MAX), bufferedMaxBytes },
      {
        onOpen: (regionId) => this.#onOpen(connection, regionId),
        onGoaway: (drainMs, uptimeMs) => this.#onGoaway(connection, drainMs, uptimeMs),
        onVersions: (event) => this.#onVersions(connection, event),
        onRtt: (rttMs) => this.#deps.onRtt?.(rttMs),
        onIdle: () => this.#endIdleConnections(),
        onClosed: (failure, uptimeMs) => this.#onClosed(connection, failure, uptimeMs),
      },
    )
    this.#move({ kind: 'connecting', connection }, { kind: 'connecting', sinceMs: clock.nowMs(), failures: this.#backoff.failures })
  }

  #isCurrent(connection: ClientConnection): boolean {
    return (this.#inner.kind === 'connecting' || this.#inner.kind === 'open') && this.#inner.connection === connection
  }

  #onOpen(connection: ClientConnection, regionId: string): void {
    if (!this.#isCurrent(connection)) return
    this.#log.info('Link is open', { regionId })
    this.#move({ kind: 'open', connection }, { kind: 'open', sinceMs: this.#deps.clock.nowMs(), regionId })
  }

  /** L3. */
  #onGoaway(connection: ClientConnection, drainMs: number, uptimeMs: number): void {
    if (!this.#isCurrent(connection)) return
    this.#backoff.goodbye(uptimeMs, Math.min(drainMs, GOAWAY_DRAIN_MAX_MS), this.#deps.clock.monotonicMs())
    this.#log.info('The region asks for another connection')
    if (connection.streamCount === 0 || this.#retiring.size >= RETIRING_MAX) connection.close('ERR_DRAINING', 'goaway')
    else {
      this.#retiring.add(connection)
      this.#connect()
    }
  }

  #onVersions(connection: ClientConnection, event: VersionEvent): void {
    // A connection that goes away hears changes late; the next one begins with a snapshot.
    if (!this.#isCurrent(connection)) return
    for (const versions of event.kind === 'changed' ? [event.versions] : event.kind === 'snapshot' ? event.functions : []) {
      const entry = this.#describing.get(`${versions.account}\n${versions.functionName}`)
      if (entry !== undefined) entry.changedAtSeq = Math.max(entry.changedAtSeq, versions.seq)
    }
    for (const listener of this.#versionListeners) this.#tell(() => listener(event))
  }

  #onClosed(connection: ClientConnection, failure: LinkFailure, uptimeMs: number): void {
    this.#retiring.delete(connection)
    // L5.
    if (failure.code === 'ERR_LINK_REVOKED') for (const listener of this.#versionListeners) this.#tell(() => listener({ kind: 'revoked' }))
    if (this.#isCurrent(connection)) {
      const delayMs = this.#backoff.next(uptimeMs, this.#deps.clock.monotonicMs())
      const nowMs = this.#deps.clock.nowMs()
      this.#log.warn('Link is down', { code: failure.code, reason: failure.reason, retryInMs: delayMs })
      const cancelTimer = this.#deps.clock.after(delayMs, () => this.#connect())
      this.#move(
        { kind: 'backoff', cancelTimer },
        { kind: 'backoff', sinceMs: nowMs, untilMs: nowMs + delayMs, failures: this.#backoff.failures, code: failure.code, reason: failure.reason },
      )
    }
    if (this.#inner.kind === 'draining' && this.#retiring.size === 0) this.close()
  }

  #endIdleConnections(): void {
    for (const connection of [...this.#retiring]) {
      if (connection.streamCount === 0) connection.close('ERR_DRAINING', 'all streams have ended')
    }
    if (this.#inner.kind === 'draining' && this.#retiring.size === 0) this.close()
  }

  #move(inner: Inner, state: LinkState): void {
    this.#inner = inner
    this.#state = state
    for (const listener of this.#stateListeners) this.#tell(() => listener(state))
  }

  #tell(call: () => void): void {
    try {
      call()
    } catch (error) {
      this.#log.error('A listener of the link failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
  }
}

/** Callers may give more than what is to travel. */
function plainRef({ account, functionName, imageId }: ImageRef): ImageRef {
  return { account, functionName, imageId }
}

function unreachable(what: string): CodedErrorData {
  return { code: 'ERR_REGION_UNREACHABLE', params: [what] }
}

/** An answer that is not what was asked for: the region's fault, told as such. */
function decode<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof MalformedError) throw new CodedError('ERR_LINK_PROTOCOL', [error.message], { cause: error })
    throw error
  }
}

/** A stream that was over before it began. */
export const DEAD_STREAM: LinkStream = {
  write: () => true,
  writeEnd: () => undefined,
  resume: () => undefined,
  cancel: () => undefined,
}
