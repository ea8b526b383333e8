/**
 * A region: everything behind its front door and behind its links to POPs. Holds every function, runs any of them, and
 * answers the control plane.
 *
 *   front door --> invoke, control     (Dispatcher)
 *   POPs, by the link --> invoke, control, chain, blocks, describe, snapshot, report, peerBlocks     (LinkHandler, `links`)
 *
 * G1: whatever a POP asks for it asks for in the name of a function, and gets only if that function is granted to it:
 *     runs, descriptions, and of images those that the function's builds are made of.
 *
 * Owns the sandboxes' images (ImageResidency) and the way of a publish (Publisher); content, registry, builder and host
 * come by constructor and are closed by whoever made them.
 */
import { randomUUID } from 'node:crypto'
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { controlFailure, handleControl } from '../shared/api/router.ts'
import type { AccountLimitsBackend } from '../shared/api/concurrency-operations.ts'
import type { Authenticator } from '../shared/api/keys.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import type { Answer, AnswerSink, ControlCall, ControlReply, Dispatcher, InvokeCall, Placement } from '../shared/http/types.ts'
import { ACCOUNT_CONCURRENCY_DEFAULT, LINK_BUILDS_PER_ANSWER } from '../shared/limits.ts'
import type { FunctionDescription, FunctionRef, FunctionVersions, ImageRef, LinkAnswer, LinkHandler, LinkInvocation, LinkPeer, OpenInvocation, VersionSnapshot } from '../shared/link/types.ts'
import { TopicTable } from '../shared/link/topics.ts'
import type { Log } from '../shared/log.ts'
import type { SealKey } from '../shared/sessions/session-seal.ts'
import type { SessionTable } from '../shared/sessions/session-table.ts'
import { placeOfSession } from '../shared/sessions/session-id.ts'
import { wantedSession, type Wanted } from '../shared/sessions/session-request.ts'
import type { SessionAnswer, SessionSettings } from '../shared/sessions/types.ts'
import type { ImageBuilder } from '../shared/microvm/build-types.ts'
import type { BuildSpec, SandboxHost } from '../shared/worker/types.ts'
import { isBoundTo } from './binding-grant.ts'
import type { Content } from './content.ts'
import { controlInvoke, invokeTarget } from './control-invoke.ts'
import { ImageResidency } from './image-residency.ts'
import { ImageSupply } from './image-supply.ts'
import { loadOf, PopReports } from './pop-reports.ts'
import { Publisher, type BringContent } from './publish.ts'
import type { FunctionChange, Registry } from './registry.ts'
import type { NodeRouter } from './node-router.ts'
import { Run, type RegionRun, type RunAdmission, type RunDeps, type RunRequest, type RunSink } from './run.ts'
import { SessionSink } from './session-sink.ts'

export interface RegionDeps {
  readonly content: Content
  readonly registry: Registry
  readonly builder: ImageBuilder
  readonly host: SandboxHost
  readonly clock: Clock
  readonly log: Log
  readonly authenticator: Authenticator
  /** For ARNs. */
  readonly regionName: string
  /** Engine that `builder` and `host` run; null while it is not known: then every publish builds. */
  readonly engineBuild: () => string | null
  /** Fetches objects that are not here from the other nodes; true if all of them are here then. */
  readonly bring?: BringContent
  /** What readiness says beside that of the sandboxes. */
  readonly checks?: () => { readonly ready: boolean; readonly checks: Readonly<Record<string, boolean>> }
  /** Which functions a POP may have. Default: all. */
  readonly grants?: PopGrants
  /** Says what may run at once; absent: whatever the host takes. */
  readonly admission?: RunAdmission | null
  readonly accounts?: AccountLimitsBackend
  /** The other nodes of this region; null: there are none. */
  readonly nodes?: NodeRouter | null
  /** Shared with whoever else answers peers. Default: a table of its own. */
  readonly topics?: TopicTable
  /** Null: nobody keeps machines between requests. */
  readonly sessions?: SessionTable | null
  /** What POPs seal an account's sessions with. */
  readonly popSessionKey?: (account: string) => SealKey | null
  /** Time an invocation that came as a control call may take in all. Default 900 s: the function's own limit ends it before. */
  readonly requestTimeoutMs?: number
}

export interface PopGrants {
  allows(popId: string, account: string, functionName: string): boolean
}

const ALL_GRANTED: PopGrants = { allows: () => true }
const NO_ANSWER: Answer = { write() {}, writeEnd() {}, resume() {}, cancel() {} }
/** A region without limits, as tests have it. */
const UNLIMITED: AccountLimitsBackend = {
  limitsOf: () => ({ maximum: ACCOUNT_CONCURRENCY_DEFAULT, reserved: new Map() }),
  reservedOf: () => null,
  reserve: () => Promise.reject(new CodedError('ERR_PARAMETER', ['nothing can be reserved here'])),
  unreserve: () => Promise.resolve(),
}
/** Between builds of an image that stays unusable: each costs the builder a second or so. */
const REPAIR_PAUSE_MS = 10_000
const REPAIRS_PAUSED_MAX = 1_000
const REQUEST_TIMEOUT_MS = 900_000
/** From a POP to a node, and from a node to the owner; more means that somebody forwards what was forwarded. */
const POP_HOPS_MAX = 1
const NODE_HOPS_MAX = 2

type RegionState = 'new' | 'ready' | 'closed'

export class Region implements Dispatcher {
  /** For the link's server. */
  readonly links: LinkHandler
  /** Questions that POPs and nodes may ask; parts of the region add theirs. */
  readonly topics: TopicTable
  readonly #deps: RegionDeps
  readonly #log: Log
  readonly #publisher: Publisher
  readonly #residency: ImageResidency
  readonly #runDeps: RunDeps
  readonly #grants: PopGrants
  /** What POPs tell of themselves. */
  readonly popReports: PopReports
  /** By version: a repair that did not help is not tried again before. */
  readonly #repairNotBeforeMs = new Map<string, number>()
  #state: RegionState = 'new'

  constructor(deps: RegionDeps) {
    this.#deps = deps
    this.#log = deps.log.child('region')
    this.#residency = new ImageResidency(deps)
    this.#publisher = new Publisher({ ...deps, onImageDropped: (imageId) => this.#residency.discard(imageId) })
    this.#runDeps = { host: deps.host, residency: this.#residency, repair: (build) => this.#repair(build), admission: deps.admission ?? null }
    this.#grants = deps.grants ?? ALL_GRANTED
    this.topics = deps.topics ?? new TopicTable()
    this.popReports = new PopReports({
      clock: deps.clock,
      seq: () => deps.registry.seq(),
      load: () => loadOf(deps.host.stats()),
      versions: (popId, functions) => this.#versionsOf(popId, functions),
      mayHold: (popId, account, functionName) => this.#grants.allows(popId, account, functionName) && deps.registry.liveBuilds(account, functionName).keys.length > 0,
    })
    this.links = this.#makeLinkHandler()
  }

  /** Starts the sandboxes. To be called once, before the first call. */
  async start(): Promise<void> {
    await this.#deps.host.start()
    this.#state = 'ready'
    // In the background: a call that comes first has its image built ahead of the others.
    void this.#publisher.rebuildStale().then((rebuilt) => {
      if (rebuilt > 0) this.#log.info('images of another engine were built again', { rebuilt })
    })
  }

  /** Waits for invocations in flight until the deadline and for what is being stored. Idempotent. */
  async drain(timeoutMs: number): Promise<void> {
    this.#state = 'closed'
    await this.#deps.host.drain(timeoutMs)
    await this.#deps.sessions?.drain()
    await this.#publisher.close()
  }

  readiness(): { readonly ready: boolean; readonly checks: Readonly<Record<string, boolean>> } {
    const sandboxes = this.#state === 'ready'
    const { nodes = null } = this.#deps
    const more = this.#deps.checks?.() ?? { ready: true, checks: {} }
    return {
      ready: sandboxes && more.ready && (nodes === null || nodes.ready),
      checks: { sandboxes, ...more.checks, ...(nodes === null ? {} : { nodes: nodes.ready }) },
    }
  }

  invoke(call: InvokeCall, sink: AnswerSink): Answer {
    try {
      const build = this.#deps.registry.resolve(call.account, call.functionName, call.qualifier)
      const { requestId, invocationKind: kind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection = null, chain = null } = call
      return this.#start(build, { requestId, kind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection, chain }, new FrontDoorSink(sink, build), 1)
    } catch (error) {
      sink.fail(toCodedError(error), null)
      return NO_ANSWER
    }
  }

  /** Never rejects: every failure is an answer. */
  async control(call: ControlCall): Promise<ControlReply> {
    try {
      const { account } = this.#deps.authenticator.authenticate(call)
      const segment = invokeTarget(call)
      if (segment === null) return await handleControl({ ...this.#deps, accounts: this.#deps.accounts ?? UNLIMITED, backend: this.#publisher, uuid: randomUUID }, call, account)
      return await controlInvoke({ start: (...run) => this.#start(...run, NODE_HOPS_MAX), clock: this.#deps.clock, regionName: this.#deps.regionName, requestTimeoutMs: this.#deps.requestTimeoutMs ?? REQUEST_TIMEOUT_MS, resolve: (...name) => this.#deps.registry.resolve(...name) }, call, account, segment)
    } catch (error) {
      return controlFailure({ clock: this.#deps.clock, log: this.#log }, call, error)
    }
  }

  /** The account that signed a call; for a front door that verifies Invoke itself. Throws ERR_SIGNATURE_*. */
  authenticate(call: ControlCall): string {
    return this.#deps.authenticator.authenticate(call).account
  }

  /** Whether a POP may have a function, and there is one. */
  mayHave(popId: string, account: string, functionName: string): boolean {
    if (!this.#grants.allows(popId, account, functionName)) return false
    try {
      this.#deps.registry.resolve(account, functionName, null)
      return true
    } catch {
      // There is none.
      return false
    }
  }

  hasImage(imageId: ImageId): boolean {
    return this.#deps.host.hasImage(imageId)
  }

  /** Brings an image into memory ahead of its first call. Rejects with ERR_NO_CAPACITY if there is no room, ERR_STORE_BLOCK if it cannot be read. */
  async loadImage({ account, functionName, imageId }: ImageRef): Promise<void> {
    const acquire = async (): Promise<void> => (await this.#residency.acquire(account, imageId)).release()
    try {
      await acquire()
    } catch (error) {
      const version = toCodedError(error).code === 'ERR_STORE_BLOCK' ? this.#deps.registry.versionOfImage(account, functionName, imageId)?.version : undefined
      if (version === undefined || (await this.#repair(this.#deps.registry.resolve(account, functionName, version)))?.imageId !== imageId) throw error
      await acquire()
    }
  }

  /** Tells of every change, as the link's server passes it on to POPs. Returns a function that ends it. */
  onVersions(listener: (versions: FunctionVersions) => void): () => void {
    return this.#deps.registry.onChange((change) => listener(toVersions(change)))
  }

  /**
   * An image that is not usable does not make its function unusable: it is built again from its source, once for all
   * who wait. It may also just have gone with an older version, while the caller waited.
   */
  async #repair(build: BuildSpec): Promise<BuildSpec | null> {
    const { account, functionName, version } = build
    const key = `${account}/${functionName}:${version}`
    const current = this.#currentOf(build)
    if (current === null || current.imageId !== build.imageId) return current
    const images = this.#deps.registry.versionOfImage(account, functionName, build.imageId)?.build.imageIds ?? []
    const isMissing = images.some((imageId) => !this.#deps.content.hasImage(account, imageId))
    if (isMissing && (await this.#deps.bring?.(account, { images, bundles: [] })) === true) return current
    if (this.#deps.clock.monotonicMs() < (this.#repairNotBeforeMs.get(key) ?? 0)) return null
    this.#log.warn('an image is not usable and is built again', { functionName, version, imageId: build.imageId })
    try {
      await this.#publisher.rebuild(account, functionName, version)
      const rebuilt = this.#currentOf(build)
      // The same image again helps if it was altered on disk; with one of a wrong engine the next call would build as well.
      if (rebuilt?.imageId === build.imageId) this.#pauseRepair(key)
      return rebuilt
    } catch (error) {
      this.#pauseRepair(key)
      this.#log.error('an image could not be built again', { functionName, version, code: toCodedError(error).code, reason: toCodedError(error).message })
      return null
    }
  }

  #currentOf(build: BuildSpec): BuildSpec | null {
    return this.#versionOf(build.account, build)
  }

  /** Null: there is none, or not any more. */
  #versionOf(account: string, { functionName, version }: { readonly functionName: string; readonly version: string }): BuildSpec | null {
    try {
      return this.#deps.registry.resolve(account, functionName, version)
    } catch {
      // The caller reports what it found.
      return null
    }
  }

  #pauseRepair(key: string): void {
    if (this.#repairNotBeforeMs.size >= REPAIRS_PAUSED_MAX) this.#repairNotBeforeMs.clear()
    this.#repairNotBeforeMs.set(key, this.#deps.clock.monotonicMs() + REPAIR_PAUSE_MS)
  }

  #makeLinkHandler(): LinkHandler {
    const { content, registry } = this.#deps
    const images = new ImageSupply({
      sealedImage: (account, imageId) => content.sealedImage(account, imageId),
      block: (id) => content.sealedBlock(id),
      chainOf: (account, functionName, imageId) => registry.versionOfImage(account, functionName, imageId)?.build.imageIds ?? null,
      repair: ({ account, functionName, imageId }) => {
        const version = registry.versionOfImage(account, functionName, imageId)?.version
        return version === undefined ? Promise.resolve(null) : this.#repair(registry.resolve(account, functionName, version))
      },
      requireGrant: (popId, account, functionName) => this.#requireGrant(popId, account, functionName),
    })
    return {
      invoke: (peer, open, deadlineAtMs, answer) => this.#invokeForPeer(peer, open, deadlineAtMs, answer),
      control: (_popId, call) => this.control(call),
      chain: (pop, image, from, known) => images.chain(pop, image, from, known),
      blocks: (popId, image, wanted) => images.blocks(popId, image, wanted),
      peerBlocks: (ids) => (at) => {
        const id = ids[at]
        return id === undefined ? null : content.blockForPeer(id)
      },
      describe: (popId, account, functionName, qualifier) => this.#describe(popId, account, functionName, qualifier),
      snapshot: (popId, functions) => this.#snapshot(popId, functions),
      report: (popId, report) => this.popReports.take(popId, report),
      ask: (peer, topic, payload) => this.topics.answer(peer, topic, payload),
    }
  }

  #invokeForPeer({ popId, role }: LinkPeer, open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer): LinkInvocation {
    if (open.hops > (role === 'node' ? NODE_HOPS_MAX : POP_HOPS_MAX)) throw new CodedError('ERR_LINK_LOOP')
    // The node that a POP's call came to has looked at its grants.
    if (role !== 'node') this.#requireGrantFor(popId, open)
    const build = this.#deps.registry.resolve(open.account, open.functionName, open.qualifier)
    this.#log.debug('an invocation was forwarded here', { popId, requestId: open.requestId, functionName: open.functionName, reason: open.reason })
    const { invocationKind: kind, requestId, method, url, headers, body, bodyMore, clientIp, wantLogs, selection = null, chain = null } = open
    const request = { requestId, kind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection, chain }
    if (role === 'node' && open.ring !== null) this.#deps.nodes?.received(build, open.ring)
    const sink = new LinkSink(answer, build)
    const run = role === 'node' ? this.#runHere(build, request, sink, open.session) : this.#start(build, request, sink, open.hops + 1, open.session)
    return {
      write(chunk) {
        run.write(new Uint8Array(chunk))
        return !sink.bodyPaused
      },
      writeEnd: () => run.writeEnd(),
      resume: () => run.resume(),
      cancel: () => run.cancel(),
    }
  }

  /** A call that came to this region here. `hops`: what it has if it goes on from here. */
  #start(build: BuildSpec, request: RunRequest, sink: RunSink, hops: number, session: string | null = null): RegionRun {
    const runHere = (...run: [BuildSpec, RunRequest, RunSink]): RegionRun => this.#runHere(...run, session)
    const { nodes = null, sessions = null } = this.#deps
    if (nodes !== null && sessions !== null && build.traits.sessions !== null) {
      const wanted = session === null ? sessionWanted(build.traits.sessions, request) : { kind: 'named', id: session } as const
      if (wanted.kind !== 'none') return nodes.startSession(build, request, sink, hops, wanted.kind === 'new' ? null : wanted.id, runHere)
    }
    return this.#deps.nodes?.start(build, request, sink, hops, runHere) ?? runHere(build, request, sink)
  }

  /** `session`: its id, as whoever sent the call found it. */
  #runHere(build: BuildSpec, request: RunRequest, sink: RunSink, session: string | null): RegionRun {
    const ticket = this.#deps.sessions?.ticket(request, build, session) ?? null
    if (ticket === null) return Run.start(this.#runDeps, build, request, sink)
    return Run.start({ ...this.#runDeps, host: ticket.over(this.#deps.host) }, ticket.build, request, new SessionSink(sink, ticket))
  }

  /** Secrets are in it: a POP's sandboxes need them, and the link is the way they get there. */
  #describe(popId: string, account: string, functionName: string, qualifier: string | null): FunctionDescription | null {
    if (!this.#grants.allows(popId, account, functionName)) return null
    const seq = this.#deps.registry.seq()
    try {
      const build = this.#deps.registry.resolve(account, functionName, qualifier)
      return { seq, routes: [{ weight: 1, build }], sessionKey: build.traits.sessions === null ? null : (this.#deps.popSessionKey?.(account) ?? null) }
    } catch (error) {
      const { code } = toCodedError(error)
      if (code === 'ERR_FUNCTION_NOT_FOUND' || code === 'ERR_RESOURCE_NOT_FOUND') return null
      throw error
    }
  }

  /** Of all of them: what one part of a report names fits an answer. */
  #versionsOf(popId: string, functions: readonly FunctionRef[]): FunctionVersions[] {
    const versions: FunctionVersions[] = []
    for (let at = 0; at < functions.length;) {
      const { functions: known, answered } = this.#snapshot(popId, functions.slice(at))
      versions.push(...known)
      at += answered
    }
    return versions
  }

  #snapshot(popId: string, functions: readonly FunctionRef[]): VersionSnapshot {
    const seq = this.#deps.registry.seq()
    const known: FunctionVersions[] = []
    let answered = 0
    let builds = 0
    for (const { account, functionName } of functions) {
      if (builds >= LINK_BUILDS_PER_ANSWER) break
      answered += 1
      const live = this.#deps.registry.liveBuilds(account, functionName)
      // Said in so many words: that a function is not listed may also mean that this region has not heard of it yet.
      if (!this.#grants.allows(popId, account, functionName)) known.push({ account, functionName, seq, builds: [] })
      else if (live.keys.length > 0) known.push({ account, functionName, seq: live.seq, builds: live.keys })
      builds += live.keys.length
    }
    return { seq, functions: known, answered }
  }

  /** What a granted function calls by a binding of its own runs here for the POP that runs that function, granted or not; nothing of it goes there. */
  #requireGrantFor(popId: string, open: OpenInvocation): void {
    const { account, functionName, chain = null } = open
    if (this.#grants.allows(popId, account, functionName)) return
    const caller = chain !== null && this.#grants.allows(popId, account, chain.caller.functionName) ? this.#versionOf(account, chain.caller) : null
    if (caller === null || !isBoundTo(caller, open)) this.#requireGrant(popId, account, functionName)
  }

  #requireGrant(popId: string, account: string, functionName: string): void {
    if (!this.#grants.allows(popId, account, functionName)) throw new CodedError('ERR_LINK_IDENTITY', [`${functionName} is not granted to it`])
  }
}

/** An event comes from a program, which says by a header what it wants. A session of a POP's cannot be here: it begins anew. */
function sessionWanted(settings: SessionSettings, { kind, headers }: RunRequest): Wanted {
  const wanted = wantedSession(settings, headers)
  if (wanted.kind === 'new' && wanted.by === 'cookie' && kind === 'event') return { kind: 'none' }
  if (wanted.kind === 'named' && placeOfSession(wanted.id)?.kind === 'site') return { kind: 'new', by: wanted.by }
  return wanted
}

function toVersions({ account, functionName, seq, liveKeys }: FunctionChange): FunctionVersions {
  return { account, functionName, seq, builds: liveKeys }
}

class FrontDoorSink implements RunSink {
  readonly #sink: AnswerSink
  #session: SessionAnswer | null = null
  #build: BuildSpec
  #node: string | undefined = undefined

  constructor(sink: AnswerSink, build: BuildSpec) {
    this.#sink = sink
    this.#build = build
  }

  started(build: BuildSpec, node?: string): void {
    this.#build = build
    this.#node = node
  }

  session(answer: SessionAnswer): void {
    this.#session = answer
  }

  head(status: number, headers: string, startKind: InvocationStart, body: Uint8Array | null, last: boolean): void {
    this.#sink.head(status, headers, this.#placement(startKind), body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#sink.data(chunk)
  }

  bodyEnd(): void {
    this.#sink.bodyEnd()
  }

  pauseBody(): void {
    this.#sink.pauseBody?.()
  }

  resumeBody(): void {
    this.#sink.resumeBody?.()
  }

  end(result: Parameters<RunSink['end']>[0]): void {
    this.#sink.end(result, this.#placement(result.startKind))
  }

  fail(error: CodedError): void {
    this.#sink.fail(error, this.#placement(null))
  }

  #placement(startKind: Placement['startKind']): Placement {
    const placement = { place: 'region', reason: null, version: this.#build.version, startKind, stale: false, memoryMib: this.#build.limits.memoryMib } as const
    const placed = this.#node === undefined ? placement : { ...placement, node: this.#node }
    return this.#session === null ? placed : { ...placed, session: this.#session }
  }
}

type InvocationStart = Parameters<RunSink['head']>[2]

class LinkSink implements RunSink {
  readonly #answer: LinkAnswer
  #version: string
  /** Said by what `LinkInvocation.write` returns. */
  bodyPaused = false

  constructor(answer: LinkAnswer, build: BuildSpec) {
    this.#answer = answer
    this.#version = build.version
  }

  started(build: BuildSpec): void {
    this.#version = build.version
    this.#answer.started()
  }

  session(answer: SessionAnswer): void {
    this.#answer.session?.(answer)
  }

  head(status: number, headers: string, startKind: InvocationStart, body: Uint8Array | null, last: boolean): void {
    // A pause is asked for by `data`: what is in the head is copied by the link.
    this.#answer.head(status, headers, startKind, this.#version, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#answer.data(chunk)
  }

  bodyEnd(): void {
    this.#answer.bodyEnd()
  }

  pauseBody(): void {
    this.bodyPaused = true
  }

  resumeBody(): void {
    this.bodyPaused = false
    this.#answer.resumeBody()
  }

  end(result: Parameters<RunSink['end']>[0]): void {
    this.#answer.end(result, this.#version)
  }

  fail(error: CodedError): void {
    this.#answer.error(error.toData())
  }
}
