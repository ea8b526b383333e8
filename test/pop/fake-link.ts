/** A link to a region that answers as the test says, and records what it was asked. */
import type { ImageId } from '../../shared/brand.ts'
import { CodedError } from '../../shared/errors.ts'
import type { ControlCall, ControlReply } from '../../shared/http/types.ts'
import type { LinkState } from '../../shared/link/link-client.ts'
import type { WantedBlock } from '../../shared/link/blocks.ts'
import type { ChainLink, FunctionDescription, FunctionRef, FunctionVersions, ImageChain, ImageRef, LinkStream, LinkStreamSink, OpenFrame, OpenInvocation, PopReport, RegionAdvice, VersionEvent } from '../../shared/link/types.ts'
import type { SealedBlockId } from '../../shared/store/types.ts'
import type { BuildSpec, InvocationResult } from '../../shared/worker/types.ts'
import type { RegionClient } from '../../pop/region-set.ts'
import { OK, type FakeImage } from './harness.ts'

export class FakeStream implements LinkStream {
  readonly frame: OpenInvocation
  readonly sink: LinkStreamSink
  readonly written: string[] = []
  flowing = true
  writeEnds = 0
  resumes = 0
  cancels = 0

  constructor(frame: OpenInvocation, sink: LinkStreamSink) {
    this.frame = frame
    this.sink = sink
  }

  write(chunk: Uint8Array): boolean {
    this.written.push(Buffer.from(chunk).toString())
    return this.flowing
  }

  writeEnd(): void {
    this.writeEnds++
  }

  resume(): void {
    this.resumes++
  }

  cancel(): void {
    this.cancels++
  }

  reply(body: string, version = '1', result: InvocationResult = { ...OK, startKind: 'cold' }): void {
    this.sink.started()
    this.sink.head(200, 'content-type\ntext/plain', result.startKind, version, Buffer.from(body), true)
    this.sink.bodyEnd()
    this.sink.end(result, version)
  }
}

export class FakeLink implements RegionClient {
  state: LinkState = { kind: 'idle' }
  readonly streams: FakeStream[] = []
  readonly controls: ControlCall[] = []
  readonly reports: PopReport[] = []
  readonly images = new Map<ImageId, FakeImage>()
  /** By `name` or `name:qualifier`. */
  readonly descriptions = new Map<string, FunctionDescription>()
  readonly asked: string[] = []
  readonly blocksAsked: SealedBlockId[] = []
  chainsAsked = 0
  blockRequests = 0
  /** Functions whose images are refused. */
  readonly refused = new Set<string>()
  /** Images that the last question said are known. */
  known: readonly ImageId[] = []
  /** Makes every question fail. */
  failure: CodedError | null = null
  /** Functions that answers to reports do not list. */
  readonly gone = new Set<string>()
  advice: Partial<RegionAdvice> = {}
  /** Questions by topic; it answers none unless a test says so. */
  onAsk: (topic: string, payload: unknown) => unknown = (topic) => {
    throw new CodedError('ERR_LINK_TOPIC', [topic])
  }
  /** Questions wait until the test lets them go. */
  held: (() => void)[] | null = null
  onOpen: (stream: FakeStream) => void = (stream) => queueMicrotask(() => stream.reply('region'))
  onControl: (call: ControlCall) => Promise<ControlReply> = () => Promise.resolve({ status: 200, headers: '', body: Buffer.from('control') })
  /** What the POP says it holds, asked at each connect. */
  holds: () => readonly FunctionRef[] = () => []
  unansweredMs = 0
  readonly tripMs = 0
  onRtt: (rttMs: number) => void = () => {}
  readonly #stateListeners = new Set<(state: LinkState) => void>()
  readonly #versionListeners = new Set<(event: VersionEvent) => void>()

  // What the test does.

  connect(snapshot: readonly FunctionVersions[] = [], seq = 0): void {
    this.holds()
    this.push({ kind: 'snapshot', seq, functions: snapshot })
    this.#move({ kind: 'open', sinceMs: 0, regionId: 'region-1' })
  }

  ask(topic: string, payload: unknown): Promise<unknown> {
    return new Promise((resolve) => resolve(this.onAsk(topic, payload)))
  }

  disconnect(): void {
    this.#move({ kind: 'backoff', sinceMs: 0, untilMs: 0, failures: 1, code: 'ERR_REGION_UNREACHABLE', reason: 'test' })
  }

  push(event: VersionEvent): void {
    for (const listener of this.#versionListeners) listener(event)
  }

  /** The region has this function now, with its image. */
  deploy(build: BuildSpec, images: readonly FakeImage[], seq = 1, qualifier: string | null = null): void {
    this.descriptions.set(qualifier === null ? build.functionName : `${build.functionName}:${qualifier}`, { seq, routes: [{ weight: 1, build }], sessionKey: null })
    for (const image of images) this.images.set(image.imageId, image)
  }

  release(): void {
    const held = this.held ?? []
    this.held = null
    for (const go of held) go()
  }

  // What the POP does.

  start(): void {
    if (this.state.kind === 'idle') this.#move({ kind: 'connecting', sinceMs: 0, failures: 0 })
  }

  onState(listener: (state: LinkState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => this.#stateListeners.delete(listener)
  }

  onVersions(listener: (event: VersionEvent) => void): () => void {
    this.#versionListeners.add(listener)
    return () => this.#versionListeners.delete(listener)
  }

  open(frame: OpenFrame, sink: LinkStreamSink): LinkStream {
    if (frame.kind !== 'invoke') throw new Error('not in these tests')
    const stream = new FakeStream(frame, sink)
    if (this.state.kind === 'open') {
      this.streams.push(stream)
      this.onOpen(stream)
    } else {
      queueMicrotask(() => sink.error({ code: 'ERR_REGION_UNREACHABLE', params: [frame.functionName] }))
    }
    return stream
  }

  control(call: ControlCall): Promise<ControlReply> {
    this.controls.push(call)
    return this.onControl(call)
  }

  async getChain(image: ImageRef, from: ImageId, known: readonly ImageId[]): Promise<ImageChain | null> {
    this.chainsAsked++
    this.known = known
    await this.#question()
    this.#requireGrant(image)
    const links: ChainLink[] = []
    for (let next: ImageId | null = from; next !== null && (next === from || !known.includes(next));) {
      const found = this.images.get(next)
      if (found === undefined) break
      links.push({ imageId: next, ...found.sealed })
      next = found.manifest.parentId
    }
    return links.length === 0 ? null : { links }
  }

  async getBlocks(image: ImageRef, wanted: readonly WantedBlock[], onBlock: (id: SealedBlockId, block: Uint8Array) => void): Promise<void> {
    this.blockRequests++
    this.blocksAsked.push(...wanted.map(({ id }) => id))
    await this.#question()
    this.#requireGrant(image)
    for (const { imageId, number, id } of wanted) {
      const found = this.images.get(imageId)
      const block = found?.blocks.get(id)
      if (found === undefined || block === undefined || [...found.blocks.keys()][number] !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
      onBlock(id, block)
    }
  }

  async describe(_account: string, functionName: string, qualifier: string | null): Promise<FunctionDescription | null> {
    const name = qualifier === null ? functionName : `${functionName}:${qualifier}`
    this.asked.push(name)
    await this.#question()
    return this.descriptions.get(name) ?? null
  }

  async report(report: PopReport): Promise<RegionAdvice> {
    await this.#question()
    this.reports.push(report)
    return { seq: 0, load: 0, versions: report.held.flatMap(({ account, functionName, builds }) => (this.gone.has(functionName) ? [] : [{ account, functionName, seq: 0, builds }])), pull: [], ...this.advice }
  }

  stats(): { unansweredMs: number } {
    return { unansweredMs: this.unansweredMs }
  }

  drain(): Promise<void> {
    return Promise.resolve()
  }

  close(): void {
    this.#move({ kind: 'closed' })
  }

  async #question(): Promise<void> {
    const { held } = this
    if (held !== null) await new Promise<void>((resolve) => held.push(resolve))
    if (this.failure !== null) throw this.failure
    if (this.state.kind === 'backoff') throw new CodedError('ERR_REGION_LOST')
  }

  #requireGrant({ functionName }: ImageRef): void {
    if (this.refused.has(functionName)) throw new CodedError('ERR_LINK_IDENTITY', ['not granted'])
  }

  #move(state: LinkState): void {
    this.state = state
    for (const listener of this.#stateListeners) listener(state)
  }
}

