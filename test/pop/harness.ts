/** Fakes around a POP: a sandbox host, a disk, and a link to a region (fake-link.ts). Each is scripted by the test and records what it was told. */
import type { BuildKey, ImageId } from '../../shared/brand.ts'
import { ManualClock, type Clock } from '../../shared/clock.ts'
import { CodedError, type CodedErrorData } from '../../shared/errors.ts'
import type { Answer, AnswerSink, InvokeCall, Placement } from '../../shared/http/types.ts'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits } from '../../shared/limits.ts'
import type { CacheEntry } from '../../shared/place/disk-eviction.ts'
import type { ImageRef } from '../../shared/link/types.ts'
import { createLog, type Log, type LogFields } from '../../shared/log.ts'
import { PAGE_BYTES, blockIdOf, encodeManifest, imageIdOf, type BlockId, type ImageManifest } from '../../shared/microvm/manifest.ts'
import { HotSet } from '../../shared/place/hot-set.ts'
import { DEFAULT_PLACE_POLICY } from '../../shared/place/place.ts'
import { seededRandom } from '../../shared/random.ts'
import { blockKey, contentDigest, sealBlock, sealedBlockId } from '../../shared/store/block-seal.ts'
import { GROUP_PAGES } from '../../shared/microvm/page-patch.ts'
import { ALL_ZEROS, imageObjectId, piecesOf } from '../../shared/store/page-groups.ts'
import { makePopKeys, wrapForPop } from '../../shared/store/pop-keys.ts'
import { encodeSealedManifest, newDataKey, sealManifest } from '../../shared/store/sealed-manifest.ts'
import type { SealedBlockId } from '../../shared/store/types.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec, type HostStats, type Invocation, type InvocationInput, type InvocationResult, type InvocationSink, type SandboxHost } from '../../shared/worker/types.ts'
import { AccountSlots } from '../../pop/account-slots.ts'
import { PopDispatcher, type PopDispatcherOptions } from '../../pop/dispatcher.ts'
import type { StoredImage } from '../../pop/disk-cache.ts'
import { FunctionTable } from '../../pop/functions.ts'
import { ImageCache, type ImageDisk } from '../../pop/image-cache.ts'
import { RegionSet } from '../../pop/region-set.ts'
import { imageRates, Residency } from '../../pop/residency.ts'
import { createSessionTable } from '../../shared/sessions/create-table.ts'
import { SessionNeeds } from '../../pop/session-needs.ts'
import { Versions } from '../../pop/versions.ts'
import { FakeLink } from './fake-link.ts'

export { FakeLink, FakeStream } from './fake-link.ts'

export const ACCOUNT = '000000000000'
export const ENGINE = 'engine-1'

export const OK: InvocationResult = {
  outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 100, wallUs: 200, dirtyPages: 3, memoryBytes: 1_000_000, logs: [],
}

export function refused(code: CodedErrorData['code']): InvocationResult {
  return { ...OK, outcome: 'loadShed', error: { code, params: [] } }
}

/** Lets everything that is ready run. Nothing in these tests waits for real time. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
}

// Images.

/** Of the POP in every test. */
export const POP_KEYS = makePopKeys()

export interface FakeImage {
  readonly imageId: ImageId
  readonly manifest: ImageManifest
  /** As the region gives it to the POP. */
  readonly sealed: { readonly manifest: Uint8Array; readonly wrappedKey: Uint8Array }
  readonly blocks: ReadonlyMap<SealedBlockId, Uint8Array>
}

/** An image whose pages hold the given numbers, each page in a block of its own. */
export function makeImage(pages: readonly number[], parentId: ImageId | null = null, engineBuild = ENGINE, workingSet: readonly number[] | null = null): FakeImage {
  const content = pages.map((value) => {
    // No word of it is zeros, so that its patch takes as much as the page.
    const page = Buffer.alloc(PAGE_BYTES, 0x5a)
    page.writeUInt32LE(value)
    return page
  })
  const named = content.map((page, index) => [index * GROUP_PAGES, blockIdOf(page)] as const)
  const manifest: ImageManifest = {
    format: 1, engineBuild, parentId, layer: parentId === null ? 'base' : 'function', virtualPages: 4, globals: {}, entries: {}, pages: named,
    ...(workingSet === null ? {} : { workingSet: workingSet.map((index) => index * GROUP_PAGES) }),
  }
  return sealImage(manifest, content)
}

/** `content`: a page for each of the manifest's. */
export function sealImage(manifest: ImageManifest, content: readonly Uint8Array[], keys = POP_KEYS): FakeImage {
  const head = encodeManifest(manifest)
  const imageId = imageIdOf(head)
  const objectId = imageObjectId(imageId)
  const sealed = piecesOf(manifest, new Map(content.map((page) => [blockIdOf(page), page])), ALL_ZEROS).map((piece) => ({ ...sealBlock(blockKey('', 0, contentDigest(piece)), piece), length: piece.byteLength }))
  const dataKey = newDataKey()
  const parts = { objectId, kind: 'image' as const, parentId: manifest.parentId === null ? null : imageObjectId(manifest.parentId), pieces: sealed.map(({ id, length }) => ({ id, bytes: length })) }
  return {
    imageId, manifest,
    sealed: {
      manifest: encodeSealedManifest(sealManifest(dataKey, parts, { head, keys: sealed.map(({ key }) => key), saltIds: sealed.map(() => 0) })),
      wrappedKey: wrapForPop(keys.publicKey, objectId, dataKey),
    },
    blocks: new Map(sealed.map(({ id, bytes }) => [id, bytes])),
  }
}

export function makeBuild(name: string, image: FakeImage, version = '$LATEST', limits: Partial<FunctionLimits> = {}): BuildSpec {
  return {
    key: `${ACCOUNT}/${name}@${image.imageId.slice(0, 8)}` as BuildKey, imageId: image.imageId, handlerKind: 'fetch', account: ACCOUNT, functionName: name, version,
    limits: { ...DEFAULT_FUNCTION_LIMITS, ...limits }, traits: DEFAULT_FUNCTION_TRAITS, secrets: {},
  }
}

/** An image in the name of a function of its own. */
export function refOf({ imageId }: FakeImage, functionName = 'hello'): ImageRef {
  return { account: ACCOUNT, functionName, imageId }
}

/** What DiskCache does, without a disk: every image takes 10,000 bytes, so that tests can count. */
export class MemoryDisk implements ImageDisk {
  readonly images = new Map<ImageId, StoredImage>()
  readonly blocks = new Map<SealedBlockId, Uint8Array>()
  readonly rates = new Map<ImageId, number>()
  /** Throws instead of storing. */
  full = false
  puts = 0
  usesWritten = 0

  get contentBytes(): number {
    return this.images.size * 10_000
  }

  image(imageId: ImageId): StoredImage | null {
    return this.images.get(imageId) ?? null
  }

  block(id: SealedBlockId): Uint8Array | null {
    const block = this.blocks.get(id)
    return block !== undefined && sealedBlockId(block) === id ? block : null
  }

  put(image: StoredImage, blocks: ReadonlyMap<SealedBlockId, Uint8Array>): Promise<void> {
    if (this.full) return Promise.reject(new CodedError('ERR_STORE_FULL', ['test']))
    this.puts++
    this.images.set(image.imageId, image)
    return this.restore(blocks)
  }

  restore(blocks: ReadonlyMap<SealedBlockId, Uint8Array>): Promise<void> {
    for (const [id, block] of blocks) this.blocks.set(id, block)
    return Promise.resolve()
  }

  delete(imageIds: readonly ImageId[]): Promise<void> {
    for (const imageId of imageIds) this.images.delete(imageId)
    return Promise.resolve()
  }

  entries(): CacheEntry<ImageId>[] {
    return [...this.images.values()].map(({ imageId, parentId }) => ({ id: imageId, parentId, freedBytes: 10_000, rate: this.rates.get(imageId) ?? 0 }))
  }

  parents(): ImageId[] {
    return [...new Set([...this.images.values()].flatMap(({ parentId }) => (parentId !== null && this.images.has(parentId) ? [parentId] : [])))]
  }

  use(imageId: ImageId, rate: number): void {
    this.rates.set(imageId, rate)
  }

  writeUses(): Promise<void> {
    this.usesWritten++
    return Promise.resolve()
  }

  scrub(): Promise<SealedBlockId[]> {
    return Promise.resolve([...this.blocks].filter(([id, block]) => sealedBlockId(block) !== id).map(([id]) => id))
  }

  naming(blocks: ReadonlySet<SealedBlockId>): StoredImage[] {
    return [...this.images.values()].filter((image) => image.blocks.some((id) => blocks.has(id)))
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

// The host.

export class HostRun implements Invocation {
  readonly input: InvocationInput
  readonly sink: InvocationSink
  readonly written: string[] = []
  writeEnds = 0
  resumes = 0
  cancels = 0

  readonly enqueuedAtMs: number

  constructor(input: InvocationInput, sink: InvocationSink, enqueuedAtMs = 0) {
    this.input = input
    this.sink = sink
    this.enqueuedAtMs = enqueuedAtMs
  }

  write(chunk: Uint8Array): void {
    this.written.push(Buffer.from(chunk).toString())
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

  /** As if it were still in the host's queue. */
  unstarted = false

  withdraw(): boolean {
    if (!this.unstarted) return false
    this.unstarted = false
    this.sink.end(refused('ERR_QUEUE_FULL'))
    return true
  }

  reply(body: string, result: InvocationResult = OK): void {
    this.sink.head(200, 'content-type\ntext/plain', result.startKind, Buffer.from(body), true)
    this.sink.bodyEnd()
    this.sink.end(result)
  }
}

export class FakeHost implements SandboxHost {
  /** Set where what waits is looked at. */
  clock: Clock = new ManualClock()
  readonly runs: HostRun[] = []
  readonly images = new Map<ImageId, Map<BlockId, Uint8Array>>()
  /** Images that an invocation uses: `dropImage` does nothing for them. */
  readonly busy = new Set<ImageId>()
  imagesMax = Number.POSITIVE_INFINITY
  queued = 0
  adds = 0
  started = false
  drained = false
  closed = false
  onInvoke: (run: HostRun) => void = (run) => run.reply('local')

  start(): Promise<void> {
    this.started = true
    return Promise.resolve()
  }

  hasImage(imageId: ImageId): boolean {
    return this.images.has(imageId)
  }

  addImage(imageId: ImageId, manifest: ImageManifest, block: (id: BlockId) => Uint8Array): void {
    if (manifest.engineBuild !== ENGINE) throw new CodedError('ERR_STORE_BLOCK', [imageId, 'of another engine build'])
    if (manifest.parentId !== null && !this.images.has(manifest.parentId)) throw new Error('the parent is not here')
    if (this.images.size >= this.imagesMax) throw new CodedError('ERR_NO_CAPACITY', [1])
    const blocks = new Map(manifest.pages.map(([, id]) => [id, block(id)] as const))
    for (const [id, bytes] of blocks) if (blockIdOf(bytes) !== id) throw new Error('an unverified block')
    this.adds++
    this.images.set(imageId, blocks)
  }

  /** Images here are sealed over pages of zeros, whatever their parent. */
  page(): Uint8Array {
    return new Uint8Array(PAGE_BYTES)
  }

  dropImage(imageId: ImageId): void {
    if (!this.busy.has(imageId)) this.images.delete(imageId)
  }

  invoke(input: InvocationInput, sink: InvocationSink): Invocation {
    const run = new HostRun(input, sink, this.clock.monotonicMs())
    this.runs.push(run)
    this.onInvoke(run)
    return run
  }

  get waiting(): HostRun[] {
    return this.runs.filter(({ unstarted }) => unstarted)
  }

  stopRuns(which: (build: InvocationInput['build']) => boolean, count: number): number {
    const runs = this.runs.filter(({ input, cancels }) => cancels === 0 && which(input.build)).slice(-count)
    for (const run of runs) run.cancel()
    return runs.length
  }

  stats(): HostStats {
    return { workers: 1, slots: 4, slotsUsed: 0, queued: 0, running: 0, parked: 0, residentBytes: 0, budgetBytes: 1, images: this.images.size }
  }

  drain(): Promise<void> {
    this.drained = true
    return Promise.resolve()
  }

  close(): Promise<void> {
    this.closed = true
    return Promise.resolve()
  }
}

// The client's end.

export class FakeSink implements AnswerSink {
  readonly heads: { status: number; headers: string; placement: Placement; last: boolean }[] = []
  readonly ends: { result: InvocationResult; placement: Placement }[] = []
  readonly failures: { error: CodedError; placement: Placement | null }[] = []
  body = ''
  bodyEnds = 0
  pauses = 0
  resumes = 0
  flowing = true

  head(status: number, headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void {
    this.heads.push({ status, headers, placement, last })
    if (body !== null) this.body += Buffer.from(body).toString()
  }

  data(chunk: Uint8Array): boolean {
    this.body += Buffer.from(chunk).toString()
    return this.flowing
  }

  bodyEnd(): void {
    this.bodyEnds++
  }

  end(result: InvocationResult, placement: Placement): void {
    this.ends.push({ result, placement })
  }

  fail(error: CodedError, placement: Placement | null): void {
    this.failures.push({ error, placement })
  }

  pauseBody(): void {
    this.pauses++
  }

  resumeBody(): void {
    this.resumes++
  }

  /** `local`, `region; REASON`, or the code of the failure. */
  get place(): string {
    const failure = this.failures[0]
    if (failure !== undefined) return failure.error.code
    const placement = this.heads[0]?.placement
    if (placement === undefined) return 'nothing'
    return placement.place === 'pop' ? 'local' : `region; ${placement.reason ?? ''}`
  }
}

export function makeCall(functionName: string, change: Partial<InvokeCall> = {}): InvokeCall {
  return {
    requestId: 'request-1', account: ACCOUNT, functionName, qualifier: null, invocationKind: 'http', method: 'GET', url: 'http://localhost/', headers: '', body: null,
    bodyMore: false, clientIp: '127.0.0.1', deadlineAtMs: 1_700_000_060_000, wantLogs: false, ...change,
  }
}

// All of it.

export interface PopHarness {
  readonly clock: ManualClock
  readonly host: FakeHost
  /** The first of `links`. */
  readonly link: FakeLink
  readonly links: readonly FakeLink[]
  readonly regions: RegionSet
  readonly disk: MemoryDisk
  readonly hotSet: HotSet
  readonly table: FunctionTable
  readonly images: ImageCache
  readonly versions: Versions
  readonly residency: Residency
  readonly dispatcher: PopDispatcher
  readonly logged: { level: string; message: string; fields: LogFields }[]
  readonly log: Log
  /** One call and what became of it, once everything has settled. */
  readonly call: (functionName: string, change?: Partial<InvokeCall>) => Promise<FakeSink>
  /** The same without waiting. */
  readonly begin: (functionName: string, change?: Partial<InvokeCall>) => { sink: FakeSink; answer: Answer }
}

export interface PopHarnessOptions extends Partial<Pick<PopDispatcherOptions, 'inFlightMax' | 'localInFlightMax' | 'accountInFlightMax' | 'waitingMax' | 'queueWaitMaxMs'>> {
  /** Default unlimited: the fake region knows of no limits. */
  readonly slots?: 'leased' | 'unlimited'
  /** Default 1. */
  readonly regions?: number
  readonly admitCount?: number
  readonly hotSetBytes?: number
  readonly diskBudgetBytes?: number
  readonly staleMaxMs?: number
  readonly functionsMax?: number
  readonly disk?: MemoryDisk
  /** In place of a MemoryDisk. */
  readonly cache?: ImageDisk
  readonly rates?: () => ReadonlyMap<ImageId, number>
}

export function makePop(options: PopHarnessOptions = {}): PopHarness {
  const clock = new ManualClock()
  const logged: PopHarness['logged'] = []
  const log = createLog((level, _component, message, fields) => logged.push({ level, message, fields }))
  const host = new FakeHost()
  host.clock = clock
  const links = Array.from({ length: options.regions ?? 1 }, () => new FakeLink())
  const [link = new FakeLink()] = links
  const regions: RegionSet = new RegionSet({
    names: links.map((_, index) => `region-${index + 1}`), holds: () => versions.holds(), clock, log,
    connect: (index, { holds, onRtt }) => {
      const made = links[index] ?? link
      made.holds = holds
      made.onRtt = onRtt
      return made
    },
  })
  const disk = options.disk ?? new MemoryDisk()
  const hotSet = new HotSet({ clock, budgetBytes: options.hotSetBytes ?? 1_000_000, admitCount: options.admitCount ?? 3 })
  const table = new FunctionTable({ hotSet, ...(options.functionsMax === undefined ? {} : { functionsMax: options.functionsMax }) })
  const images = new ImageCache({ host, disk: options.cache ?? disk, link: regions, keys: POP_KEYS, clock, log, diskBudgetBytes: options.diskBudgetBytes ?? 1_000_000, rates: options.rates ?? (() => imageRates(hotSet, table)) })
  const residency = new Residency({ hotSet, table, images, clock, log })
  const versions = new Versions({
    link: regions, table, clock, random: seededRandom(1), log, staleMaxMs: options.staleMaxMs ?? 3_600_000,
    onGone: (entry, builds, fate) => residency.gone(entry, builds, fate), onResolved: (entry, known) => residency.resolved(entry, known),
  })
  const slots = options.slots === 'leased' ? new AccountSlots({ link: regions, host, clock, log, staleMaxMs: options.staleMaxMs ?? 3_600_000 }) : null
  const sessions = createSessionTable({
    place: { kind: 'site', site: 'here' }, dataDir: null, sessionMemoryMib: 16, sessionStateMaxMib: 1, clock, log, keys: { current: () => null, of: () => null },
    buildOf: ({ account, functionName }, key) => table.find(account, functionName)?.builds.get(key)?.build ?? null,
  })
  const dispatcher = new PopDispatcher({
    host, link: regions, table, versions, hotSet, residency, sessions, needs: new SessionNeeds({ versions, residency, host, clock }), policy: DEFAULT_PLACE_POLICY, clock, log,
    inFlightMax: options.inFlightMax ?? 100, localInFlightMax: options.localInFlightMax ?? 50, accountInFlightMax: options.accountInFlightMax ?? 80, slots,
    waitingMax: options.waitingMax ?? 10, queueWaitMaxMs: options.queueWaitMaxMs ?? 20,
  })
  dispatcher.hostIsReady()
  const begin: PopHarness['begin'] = (functionName, change) => {
    const sink = new FakeSink()
    return { sink, answer: dispatcher.invoke(makeCall(functionName, change), sink) }
  }
  const call: PopHarness['call'] = async (functionName, change) => {
    const { sink } = begin(functionName, change)
    await settle()
    return sink
  }
  return { clock, host, link, links, regions, disk, hotSet, table, images, versions, residency, dispatcher, logged, log, begin, call }
}
