/**
 * The regions of a POP: one link to each, and the face of a single one towards the rest of the POP.
 *
 *   invocations -> the best region (shared/place/regions.ts), and on to the next if it fails (RegionRun)
 *   descriptions, images -> the best region that is current, then the others
 *   management calls, signed Invoke among them -> the nearest of those that are furthest; to another only if certainly not sent
 *   changes <- every region; what is older than what another one told is dropped (ReplicaKnowledge)
 *
 * G1: open as long as one link is. A link counts only once what happened while it was down has been acted upon, so
 *     deletions and revocations are honoured before any request goes by it.
 * G2: an open waits for nothing: it fails at once if no region can be asked.
 * G3: nothing of what a region tells makes what is known of a function older.
 */
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError, toCodedError, type CodedErrorData } from '../shared/errors.ts'
import type { ControlCall, ControlReply } from '../shared/http/types.ts'
import type { WantedBlock } from '../shared/link/blocks.ts'
import type { LinkClient, LinkClientStats, LinkState } from '../shared/link/link-client.ts'
import type { FunctionDescription, FunctionRef, ImageChain, ImageRef, LinkStreamSink, OpenFrame, OpenInvocation, PopReport, RegionAdvice, VersionEvent } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import { chooseRegion, DEFAULT_REGION_POLICY, LatencyEstimate, type ChosenBy, type NoneBecause, type RegionFacts, type RegionPolicy } from '../shared/place/regions.ts'
import { ReplicaKnowledge } from '../shared/place/replicas.ts'
import type { SealedBlockId } from '../shared/store/types.ts'
import type { OpenOptions, RegionLink, RegionStream } from './region-link.ts'
import { RegionRun, type RegionRunOwner } from './region-run.ts'

/** A link to one region, as its owner has it. `LinkClient` is one. */
export interface RegionClient extends Pick<LinkClient, 'state' | 'onState' | 'onVersions' | 'open' | 'control' | 'getChain' | 'getBlocks' | 'describe' | 'report' | 'ask' | 'start' | 'drain' | 'close'> {
  stats(): Pick<LinkClientStats, 'unansweredMs'>
}

export interface RegionHooks {
  /** Asked at each connect. */
  readonly holds: () => readonly FunctionRef[]
  /** To be called with the round trip of each ping. */
  readonly onRtt: (rttMs: number) => void
}

export interface RegionSetOptions {
  /** For logs and metrics: their addresses, in the order in which they go first when nothing else tells them apart. */
  readonly names: readonly string[]
  readonly connect: (index: number, hooks: RegionHooks) => RegionClient
  /** Functions of which this POP holds or has resolved anything. */
  readonly holds: () => readonly FunctionRef[]
  readonly clock: Clock
  readonly log: Log
  readonly policy?: RegionPolicy
  /** Functions of which is known where they are current. Default 10,000. */
  readonly functionsMax?: number
}

interface Region {
  readonly name: string
  readonly client: RegionClient
  readonly latency: LatencyEstimate
  readonly counts: { chosen: number; failed: number }
  /** What its snapshot is about to be about. */
  asked: readonly FunctionRef[]
  load: number
}

const NOBODY_TRIED: ReadonlySet<number> = new Set()
const FUNCTIONS_MAX = 10_000
/** Choices that are told in the log: one of a kind per function and second. */
const CHOICES_LOGGED_MAX = 1_000
const CHOICE_LOG_PERIOD_MS = 1_000

export class RegionSet implements RegionLink {
  readonly counts = { failovers: 0, behind: 0 }
  readonly #options: RegionSetOptions
  readonly #policy: RegionPolicy
  readonly #log: Log
  readonly #regions: readonly Region[]
  readonly #facts: readonly RegionFacts[]
  readonly #knowledge: ReplicaKnowledge
  readonly #runOwner: RegionRunOwner
  readonly #stateListeners = new Set<(state: LinkState) => void>()
  readonly #versionListeners = new Set<(event: VersionEvent) => void>()
  /** `function -> last choice told`, and since when the choices of this second are counted. */
  readonly #told = new Map<string, string>()
  #toldSinceMs = 0
  #askedOf: RegionClient | null = null
  #state: LinkState

  constructor(options: RegionSetOptions) {
    this.#options = options
    this.#policy = options.policy ?? DEFAULT_REGION_POLICY
    this.#log = options.log.child('regions')
    this.#knowledge = new ReplicaKnowledge({ regions: options.names.length, functionsMax: options.functionsMax ?? FUNCTIONS_MAX })
    this.#regions = options.names.map((name, index) => this.#connect(name, index))
    this.#facts = this.#regions.map(() => ({ inReach: false, position: 0, warm: false, latencyMs: 0, load: 0 }))
    this.#runOwner = this.#makeRunOwner()
    this.#state = this.#currentState()
    this.#regions.forEach(({ client, latency }, index) => {
      client.onVersions((event) => this.#onVersions(index, event))
      client.onState((state) => {
        if (state.kind === 'backoff') latency.failed(options.clock.monotonicMs())
        this.#onState()
      })
    })
  }

  /** G1. */
  get state(): LinkState {
    return this.#state
  }

  /** Of the nearest region in reach. */
  get tripMs(): number {
    const { client, latency } = this.#nearest()
    return latency.valueAt(this.#options.clock.monotonicMs(), client.stats().unansweredMs)
  }

  /** Of each region, for metrics; reading it costs a pass over the regions. */
  status(): { readonly name: string; readonly open: boolean; readonly latencyMs: number; readonly chosen: number; readonly failed: number }[] {
    const nowMs = this.#options.clock.monotonicMs()
    return this.#regions.map(({ name, client, latency, counts }) => ({ name, open: client.state.kind === 'open', latencyMs: latency.valueAt(nowMs, client.stats().unansweredMs), ...counts }))
  }

  onState(listener: (state: LinkState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => this.#stateListeners.delete(listener)
  }

  onVersions(listener: (event: VersionEvent) => void): () => void {
    this.#versionListeners.add(listener)
    return () => this.#versionListeners.delete(listener)
  }

  start(): void {
    for (const { client } of this.#regions) client.start()
  }

  open(frame: OpenFrame, sink: LinkStreamSink, options: OpenOptions = { idempotent: false }): RegionStream {
    if (frame.kind === 'control') return this.#region(this.#indexOfFurthest(NOBODY_TRIED)).client.open(frame, sink)
    const run = new RegionRun(this.#runOwner, frame, sink, options.idempotent)
    const refusal = run.start()
    if (refusal !== null) queueMicrotask(() => sink.error(refusal))
    return run
  }

  /** A call may change something, so it goes to another region only if it was certainly not sent. */
  async control(call: ControlCall): Promise<ControlReply> {
    return this.#askNearest((client) => client.control(call))
  }

  /** The region that answered last, as long as it is in reach: what it was asked for may be kept there. */
  async ask(topic: string, payload: unknown, timeoutMs: number): Promise<unknown> {
    const asked = this.#askedOf
    if (asked?.state.kind === 'open') return asked.ask(topic, payload, timeoutMs)
    return this.#askNearest(async (client) => {
      const answer = await client.ask(topic, payload, timeoutMs)
      this.#askedOf = client
      return answer
    })
  }

  /** To another region only if it was certainly not sent. */
  async #askNearest<T>(ask: (client: RegionClient) => Promise<T>): Promise<T> {
    const tried = new Set<number>()
    for (;;) {
      const index = this.#indexOfFurthest(tried)
      try {
        return await ask(this.#region(index).client)
      } catch (error) {
        tried.add(index)
        if (toCodedError(error).code !== 'ERR_REGION_UNREACHABLE' || tried.size === this.#regions.length) throw error
      }
    }
  }

  /** From any region that has it: keys are wrapped for this POP, not for a link. */
  async getChain(image: ImageRef, from: ImageId, known: readonly ImageId[]): Promise<ImageChain | null> {
    return this.#askInTurn(image, (client) => client.getChain(image, from, known), (chain) => chain !== null)
  }

  /** What one region did not give is asked of the next. */
  async getBlocks(image: ImageRef, wanted: readonly WantedBlock[], onBlock: (id: SealedBlockId, block: Uint8Array) => void): Promise<void> {
    const given = new Set<SealedBlockId>()
    const take = (id: SealedBlockId, block: Uint8Array): void => {
      given.add(id)
      onBlock(id, block)
    }
    await this.#askInTurn(image, (client) => client.getBlocks(image, given.size === 0 ? wanted : wanted.filter(({ id }) => !given.has(id)), take), () => true)
  }

  /** By a region that is current; null only if such a region says so. */
  async describe(account: string, functionName: string, qualifier: string | null): Promise<FunctionDescription | null> {
    const tried = new Set<number>()
    let failure: CodedError | null = null
    for (;;) {
      const choice = this.#choose(account, functionName, tried)
      if (choice.kind === 'none') throw failure ?? noneError(choice.because, functionName)
      tried.add(choice.index)
      try {
        const description = await this.#region(choice.index).client.describe(account, functionName, qualifier)
        // G3: it may have changed while the answer was under way.
        if (description === null || this.#knowledge.described(choice.index, account, functionName, description.seq)) return description
        failure = new CodedError('ERR_REGION_BEHIND', [functionName])
      } catch (error) {
        failure = toCodedError(error)
      }
    }
  }

  get regionCount(): number {
    return this.#regions.length
  }

  isOpen(region: number): boolean {
    return this.#regions[region]?.client.state.kind === 'open'
  }

  /** `versions` of the answer: what is to be acted upon, functions that are gone among them. */
  async report(region: number, report: PopReport): Promise<RegionAdvice> {
    const one = this.#region(region)
    const advice = await one.client.report(report)
    one.load = advice.load
    return { ...advice, versions: this.#knowledge.listed(region, advice.seq, report.held, advice.versions) }
  }

  async drain(timeoutMs: number): Promise<void> {
    await Promise.all(this.#regions.map(({ client }) => client.drain(timeoutMs)))
  }

  close(): void {
    for (const { client } of this.#regions) client.close()
  }

  #connect(name: string, index: number): Region {
    const latency = new LatencyEstimate()
    const client = this.#options.connect(index, {
      holds: () => {
        const asked = this.#options.holds()
        this.#region(index).asked = asked
        return asked
      },
      onRtt: (rttMs) => latency.sample(rttMs),
    })
    return { name, client, latency, counts: { chosen: 0, failed: 0 }, asked: [], load: 0 }
  }

  #makeRunOwner(): RegionRunOwner {
    return {
      nowMs: () => this.#options.clock.monotonicMs(),
      choose: (frame, tried) => this.#chooseFor(frame, tried),
      open: (region, frame, sink) => this.#region(region).client.open(frame, sink),
      onStarted: (region, { account, functionName }) => this.#knowledge.executed(region, account, functionName, this.#options.clock.monotonicMs()),
      onFailed: (region, frame, error, next) => this.#onAttemptFailed(region, frame, error, next),
    }
  }

  #region(index: number): Region {
    const region = this.#regions[index]
    if (region === undefined) throw new CodedError('ERR_REGION_UNREACHABLE', ['the control plane'])
    return region
  }

  /** The facts are written into objects made once. */
  #choose(account: string, functionName: string, tried: ReadonlySet<number>): ReturnType<typeof chooseRegion> {
    const nowMs = this.#options.clock.monotonicMs()
    this.#regions.forEach(({ client, latency, load }, index) => {
      const facts = this.#facts[index]
      if (facts === undefined) return
      facts.inReach = client.state.kind === 'open'
      facts.position = this.#knowledge.position(index)
      facts.warm = nowMs - this.#knowledge.executedAtMs(index, account, functionName) < this.#policy.warmForMs
      facts.latencyMs = latency.valueAt(nowMs, client.stats().unansweredMs)
      facts.load = load
    })
    return chooseRegion(this.#knowledge.required(account, functionName), this.#facts, tried, this.#policy)
  }

  #chooseFor(frame: OpenInvocation, tried: ReadonlySet<number>): number | CodedErrorData {
    const choice = this.#choose(frame.account, frame.functionName, tried)
    if (choice.kind === 'none') {
      if (choice.because === 'behind') this.counts.behind++
      this.#tell(frame, 'none', choice.because)
      return noneError(choice.because, frame.functionName).toData()
    }
    const region = this.#region(choice.index)
    region.counts.chosen++
    if (this.#regions.length > 1) this.#tell(frame, region.name, choice.by)
    return choice.index
  }

  #onAttemptFailed(index: number, { requestId, account, functionName }: OpenInvocation, { code }: CodedErrorData, next: number | null): void {
    const region = this.#region(index)
    region.counts.failed++
    // The one that counts the account is warm from its first call on, and is asked first then.
    if (code === 'ERR_ACCOUNT_ELSEWHERE') this.#knowledge.declined(index, account, functionName)
    if (code === 'ERR_REGION_LOST' || code === 'ERR_REGION_TIMEOUT') region.latency.failed(this.#options.clock.monotonicMs())
    if (next === null) return
    this.counts.failovers++
    this.#log.warn('tried elsewhere', { function: `${account}/${functionName}`, requestId, region: region.name, code, next: this.#region(next).name })
  }

  /** A choice that is unlike the function's last one is told, and all are at most once a second each. */
  #tell({ account, functionName, requestId }: OpenInvocation, region: string, because: ChosenBy | NoneBecause): void {
    const nowMs = this.#options.clock.monotonicMs()
    const key = `${account}/${functionName}`
    const choice = `${region} ${because}`
    if (this.#told.get(key) === choice) return
    if (this.#told.size >= CHOICES_LOGGED_MAX) {
      if (nowMs - this.#toldSinceMs < CHOICE_LOG_PERIOD_MS) return
      this.#told.clear()
    }
    if (this.#told.size === 0) this.#toldSinceMs = nowMs
    this.#told.set(key, choice)
    this.#log.info('region', { function: key, region, because, requestId })
  }

  /** Who wrote something reads it here, and what is run has the current version. */
  #indexOfFurthest(tried: ReadonlySet<number>): number {
    const open = this.#regions.flatMap(({ client }, index) => (client.state.kind === 'open' && !tried.has(index) ? [index] : []))
    const furthest = Math.max(...open.map((index) => this.#knowledge.position(index)))
    return this.#indexOfNearest(new Set([...tried, ...open.filter((index) => this.#knowledge.position(index) < furthest)]))
  }

  #nearest(): Region {
    return this.#region(this.#indexOfNearest(NOBODY_TRIED))
  }

  /** In reach, if any is. */
  #indexOfNearest(tried: ReadonlySet<number>): number {
    const nowMs = this.#options.clock.monotonicMs()
    let nearest = 0
    let leastMs = Number.POSITIVE_INFINITY
    this.#regions.forEach(({ client, latency }, index) => {
      if (tried.has(index)) return
      const ms = client.state.kind === 'open' ? latency.valueAt(nowMs, client.stats().unansweredMs) : Number.MAX_VALUE
      if (ms < leastMs) {
        leastMs = ms
        nearest = index
      }
    })
    return nearest
  }

  /** The regions one after the other, the best first and those that are behind last, until one gives what will do. */
  async #askInTurn<T>({ account, functionName }: FunctionRef, ask: (client: RegionClient) => Promise<T>, willDo: (answer: T) => boolean): Promise<T> {
    const tried = new Set<number>()
    for (;;) {
      const choice = this.#choose(account, functionName, tried)
      const index = choice.kind === 'chosen' ? choice.index : this.#indexOfNearest(tried)
      tried.add(index)
      const isLast = tried.size >= this.#regions.filter(({ client }, at) => client.state.kind === 'open' || tried.has(at)).length
      try {
        const answer = await ask(this.#region(index).client)
        if (isLast || willDo(answer)) return answer
      } catch (error) {
        if (isLast) throw error
        this.#log.info('asked elsewhere', { function: `${account}/${functionName}`, region: this.#region(index).name, code: toCodedError(error).code })
      }
    }
  }

  /** G3. A snapshot is told as the changes that it is news of. */
  #onVersions(index: number, event: VersionEvent): void {
    if (event.kind === 'changed') {
      if (this.#knowledge.heard(index, event.versions)) this.#pass(event)
      return
    }
    if (event.kind === 'revoked') {
      this.#log.error('The key of this POP was revoked: everything it holds is dropped', { region: this.#region(index).name })
      return this.#pass(event)
    }
    const region = this.#region(index)
    for (const versions of this.#knowledge.opened(index, event.seq, region.asked, event.functions)) this.#pass({ kind: 'changed', versions })
    region.asked = []
  }

  #pass(event: VersionEvent): void {
    for (const listener of this.#versionListeners) listener(event)
  }

  #onState(): void {
    this.#state = this.#currentState()
    for (const listener of this.#stateListeners) listener(this.#state)
  }

  /** That of the first open link, else of the first link. */
  #currentState(): LinkState {
    const states = this.#regions.map(({ client }) => client.state)
    return states.find(({ kind }) => kind === 'open') ?? states[0] ?? { kind: 'idle' }
  }
}

function noneError(because: NoneBecause, functionName: string): CodedError {
  return new CodedError(because === 'behind' ? 'ERR_REGION_BEHIND' : 'ERR_REGION_UNREACHABLE', [functionName])
}
