/** Stand-ins for the image builder and the sandboxes, and a region made with them. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { strToU8, zipSync } from 'fflate'
import { Content } from '../../region/content.ts'
import { Registry } from '../../region/registry.ts'
import type { NodeRouter } from '../../region/node-router.ts'
import { Region, type RegionDeps } from '../../region/region.ts'
import { devAuthenticator, type Authenticator } from '../../shared/api/keys.ts'
import type { ImageId } from '../../shared/brand.ts'
import { systemClock, type Clock } from '../../shared/clock.ts'
import { CodedError, type CodedErrorData, type ErrorCode } from '../../shared/errors.ts'
import { TopicTable } from '../../shared/link/topics.ts'
import { silentLog } from '../../shared/log.ts'
import type { BuildRequest, BuildResult, BuiltImage, ImageBuilder } from '../../shared/microvm/build-types.ts'
import { PAGE_BYTES, blockIdOf, encodeManifest, imageIdOf, type BlockId, type ImageManifest } from '../../shared/microvm/manifest.ts'
import { audit } from '../../shared/store/audit.ts'
import { Keyring } from '../../shared/store/keyring.ts'
import { LmdbEnvironment } from '../../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../../shared/store/object-store.ts'
import { Collector } from '../../shared/store/roots.ts'
import { ONE_COPY, SaltPolicy } from '../../shared/store/salts.ts'
import { decodeSealedManifest } from '../../shared/store/sealed-manifest.ts'
import type { ObjectId } from '../../shared/store/types.ts'
import type { HostStats, Invocation, InvocationInput, InvocationResult, InvocationSink, SandboxHost } from '../../shared/worker/types.ts'

/** A page whose content follows from `seed`; half of it zeros, as real pages are. */
export function page(seed: string): Uint8Array {
  const content = new Uint8Array(PAGE_BYTES)
  for (let offset = 0; offset < PAGE_BYTES / 2; offset += 32) content.set(createHash('sha256').update(`${seed}/${offset}`).digest(), offset)
  return content
}

export function image(seeds: readonly string[], options: { readonly parentId?: ImageId | null; readonly engineBuild?: string; readonly layer?: ImageManifest['layer'] } = {}): BuiltImage {
  const pages = seeds.map(page)
  const manifest: ImageManifest = {
    format: 1,
    engineBuild: options.engineBuild ?? 'engine-1',
    parentId: options.parentId ?? null,
    layer: options.layer ?? 'function',
    virtualPages: 20,
    globals: { stack: '1024' },
    entries: { dispatch: 7 },
    pages: pages.map((content, index) => [index * 2, blockIdOf(content)] as const),
  }
  const encodedManifest = encodeManifest(manifest)
  return { imageId: imageIdOf(encodedManifest), encodedManifest, blocks: new Map(pages.map((content) => [blockIdOf(content), content])) }
}

/** The same image for the same request. A source with `REFUSE ERR_X` is refused, one with `BROKEN` breaks the builder, and chunks with `INSEPARABLE` are refused as such. */
export class FakeBuilder implements ImageBuilder {
  readonly requests: BuildRequest[] = []
  engineBuild = 'engine-1'
  pagesPerFunction = 4
  /** Set to hold builds until it resolves. */
  gate: Promise<void> = Promise.resolve()

  async build(request: BuildRequest): Promise<BuildResult> {
    this.requests.push(request)
    await this.gate
    const refusal = /REFUSE (ERR_[A-Z_]+)/.exec(request.source)
    if (refusal !== null) return { kind: 'refused', error: { code: refusal[1] as ErrorCode, params: ['index.mjs:1'] } }
    const inseparable = request.chunks.filter(({ source }) => source.includes('INSEPARABLE')).map(({ name }) => ({ name, reason: 'it says so' }))
    if (inseparable.length > 0) return { kind: 'refused', error: { code: 'ERR_BUILD_FAILED', params: ['inseparable'] }, inseparable }
    if (request.source.includes('BROKEN')) throw new CodedError('ERR_BUILD_FAILED', ['exit code 139'])
    const base = image(['base-0', 'base-1', 'base-2'].map((seed) => `${this.engineBuild}/${seed}`), { layer: 'base', engineBuild: this.engineBuild })
    const inputs = JSON.stringify([this.engineBuild, request.source, request.vars, Object.keys(request.secrets), request.limits.memoryMib, request.prime, request.origin])
    const seeds = Array.from({ length: this.pagesPerFunction }, (_each, index) => (index === 0 ? `${this.engineBuild}/common` : `${inputs}/${index}`))
    const own = image(seeds, { parentId: base.imageId, engineBuild: this.engineBuild })
    const handlerKind = request.source.includes('fetch') ? 'fetch' : 'event'
    return { kind: 'built', images: [base, own], handlerKind, entrypoints: [], report: { primed: false, primeNote: 'fake', warnings: ['a warning'], buildMs: 1, pages: this.pagesPerFunction, layers: [], images: [] } }
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

export interface FakeRun {
  readonly input: InvocationInput
  readonly sink: InvocationSink
  readonly written: Uint8Array[]
  writeEnded: boolean
  canceled: boolean
  resumed: number
}

export const okResult: InvocationResult = {
  outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 10, wallUs: 20, dirtyPages: 3, memoryBytes: 1_000_000, logs: ['1\thello from the log'],
}

/** Holds images within a bound of pages and answers each invocation with what it was, unless `onInvoke` says otherwise. */
export class FakeHost implements SandboxHost {
  readonly images = new Map<ImageId, { readonly manifest: ImageManifest; readonly pages: ReadonlyMap<number, Uint8Array>; uses: number }>()
  readonly runs: FakeRun[] = []
  readonly queued = 0
  readonly waiting = []
  readonly added: ImageId[] = []
  readonly dropped: ImageId[] = []
  engineBuild: string | null = null
  capacityPages = Number.POSITIVE_INFINITY
  /** Images are freed that much later; 0: at once. */
  dropDelayMs = 0
  onInvoke: (run: FakeRun) => void = (run) => setImmediate(() => answer(run))

  start(): Promise<void> {
    return Promise.resolve()
  }

  hasImage(imageId: ImageId): boolean {
    return this.images.has(imageId)
  }

  addImage(imageId: ImageId, manifest: ImageManifest, block: (id: BlockId) => Uint8Array): void {
    if (this.engineBuild !== null && manifest.engineBuild !== this.engineBuild) throw new CodedError('ERR_STORE_BLOCK', [imageId, `of engine build ${manifest.engineBuild}`])
    if (manifest.parentId !== null && !this.images.has(manifest.parentId)) throw new CodedError('ERR_INTERNAL', ['the parent is not here'])
    for (const [, id] of manifest.pages) if (blockIdOf(block(id)) !== id) throw new CodedError('ERR_INTERNAL', ['a block was not verified'])
    const used = [...this.images.values()].reduce((sum, each) => sum + each.manifest.pages.length, 0)
    if (used + manifest.pages.length > this.capacityPages) throw new CodedError('ERR_NO_CAPACITY', [1])
    const inherited = manifest.parentId === null ? [] : (this.images.get(manifest.parentId)?.pages ?? [])
    this.images.set(imageId, { manifest, pages: new Map([...inherited, ...manifest.pages.map(([index, id]) => [index, block(id)] as const)]), uses: 0 })
    this.added.push(imageId)
  }

  page(imageId: ImageId, index: number): Uint8Array {
    return this.images.get(imageId)?.pages.get(index) ?? new Uint8Array(PAGE_BYTES)
  }

  dropImage(imageId: ImageId): void {
    this.dropped.push(imageId)
    const drop = (): void => {
      if ((this.images.get(imageId)?.uses ?? 1) === 0) this.images.delete(imageId)
    }
    if (this.dropDelayMs === 0) drop()
    else setTimeout(drop, this.dropDelayMs)
  }

  invoke(input: InvocationInput, sink: InvocationSink): Invocation {
    const held = this.images.get(input.build.imageId)
    if (held === undefined) throw new CodedError('ERR_INTERNAL', ['the image is not here'])
    held.uses += 1
    const counting: InvocationSink = {
      head: (...args) => sink.head(...args),
      data: (chunk) => sink.data(chunk),
      bodyEnd: () => sink.bodyEnd(),
      end(result) {
        held.uses -= 1
        sink.end(result)
      },
    }
    const run: FakeRun = { input, sink: counting, written: [], writeEnded: false, canceled: false, resumed: 0 }
    this.runs.push(run)
    this.onInvoke(run)
    return {
      withdraw: () => false,
      write: (chunk) => void run.written.push(chunk),
      writeEnd: () => {
        run.writeEnded = true
      },
      resume: () => {
        run.resumed += 1
      },
      cancel: () => {
        if (run.canceled) return
        run.canceled = true
        counting.end({ ...okResult, outcome: 'canceled', error: { code: 'ERR_CANCELED', params: [] } })
      },
    }
  }

  stopRuns(which: (build: InvocationInput['build']) => boolean, count: number): number {
    const runs = this.runs.filter(({ input, canceled }) => !canceled && which(input.build)).slice(-count)
    for (const run of runs) run.canceled = true
    return runs.length
  }

  stats(): HostStats {
    return { workers: 1, slots: 1, slotsUsed: 0, queued: 0, running: 0, parked: 0, residentBytes: 0, budgetBytes: 0, images: this.images.size }
  }

  drain(): Promise<void> {
    return Promise.resolve()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

export function answer(run: FakeRun): void {
  if (run.canceled) return
  const { input } = run
  const body = Buffer.from(JSON.stringify({
    key: input.build.key, version: input.build.version, kind: input.kind, url: input.url, secrets: Object.keys(input.build.secrets),
    body: input.body === null ? null : Buffer.from(input.body).toString(), more: Buffer.concat(run.written).toString(),
  }))
  run.sink.head(200, 'content-type\napplication/json', 'warm', body, true)
  run.sink.bodyEnd()
  run.sink.end(okResult)
}

export function answerFailure(run: FakeRun, outcome: InvocationResult['outcome'], error: CodedErrorData, exception: InvocationResult['exception'] = null): void {
  run.sink.end({ ...okResult, outcome, error, exception })
}

export function zipOf(files: Readonly<Record<string, string>>): Uint8Array {
  return zipSync(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, strToU8(text)])), { mtime: new Date('2024-01-01T00:00:00Z') })
}

export function handlerZip(text = 'export const handler = async () => ({ ok: true })'): Uint8Array {
  return zipOf({ 'index.mjs': text })
}

/** Store and registry in one environment, as a region has them. */
export interface RegionParts {
  readonly environment: LmdbEnvironment
  readonly keyring: Keyring
  readonly store: ObjectStore
  readonly content: Content
  readonly registry: Registry
  /** Deletes what no record names, at once. */
  readonly collect: () => Promise<void>
  /** What is wrong in store and registry. */
  readonly audit: () => string[]
  readonly storedImages: () => ObjectId[]
}

export interface PartsOptions {
  readonly diskReserveBytes?: number
  readonly salts?: SaltPolicy
  readonly tombstonesMax?: number
  readonly clock?: Clock
}

export function openParts(path: string, options: PartsOptions = {}): RegionParts {
  const environment = LmdbEnvironment.open({ path, diskReserveBytes: options.diskReserveBytes ?? 0 })
  const keyring = Keyring.load(join(path, 'keyring.json'))
  const clock = options.clock ?? systemClock
  const store = new ObjectStore({ environment, keyring, salts: options.salts ?? new SaltPolicy(ONE_COPY), clock, log: silentLog })
  const content = new Content(store)
  const registry = new Registry({ environment, regionName: 'us-east-1', content, keyring, ...(options.tombstonesMax === undefined ? {} : { tombstonesMax: options.tombstonesMax }) })
  return {
    environment, keyring, store, content, registry,
    collect: async () => {
      // The first may end what another one began; the second sees all that is named now.
      for (let pass = 0; pass < 2; pass += 1) await new Collector({ store, live: () => registry.liveObjects(), clock, log: silentLog, graceMs: 0 }).run()
    },
    audit: () => [...audit(store), ...registry.audit()],
    storedImages: () => store.tables.objectsAfter(null, 1_000_000).flatMap((key) => {
      const encoded = store.tables.manifest(key)
      return encoded !== null && decodeSealedManifest(encoded, key.objectId).kind === 'image' ? [key.objectId] : []
    }),
  }
}

export interface TestRegion extends RegionParts {
  readonly region: Region
  readonly builder: FakeBuilder
  readonly host: FakeHost
  readonly path: string
  close(): Promise<void>
}

export interface TestRegionOptions extends PartsOptions {
  readonly path?: string
  readonly authenticator?: Authenticator
  readonly builder?: FakeBuilder
  readonly host?: FakeHost
  readonly grants?: RegionDeps['grants']
  /** Made from the parts, for a region that has more nodes. */
  readonly nodes?: (parts: RegionParts, topics: TopicTable) => NodeRouter
}

export async function startRegion(options: TestRegionOptions = {}): Promise<TestRegion> {
  const path = options.path ?? tempDir()
  const parts = openParts(path, options)
  const { content, registry, environment } = parts
  const builder = options.builder ?? new FakeBuilder()
  const host = options.host ?? new FakeHost()
  const topics = new TopicTable()
  const region = new Region({
    nodes: options.nodes?.(parts, topics) ?? null, topics, content, registry, builder, host,
    clock: options.clock ?? systemClock,
    log: silentLog,
    authenticator: options.authenticator ?? devAuthenticator,
    regionName: 'us-east-1',
    engineBuild: () => builder.engineBuild,
    ...(options.grants === undefined ? {} : { grants: options.grants }),
  })
  await region.start()
  // The system clock's timers do not keep a process alive; a server's sockets do.
  const keepAlive = setInterval(() => undefined, 1_000)
  return {
    ...parts, region, builder, host, path,
    async close() {
      clearInterval(keepAlive)
      await region.drain(1_000)
      await environment.close()
      if (options.path === undefined) rmSync(path, { recursive: true, force: true })
    },
  }
}

export function tempDir(): string {
  return mkdtempSync(join(tmpdir(), 'outpost-region-'))
}

/** A plain HTTP server before `region.control`, as an SDK wants it. */
export async function serveControl(region: Region): Promise<{ readonly url: string; close(): Promise<void> }> {
  let calls = 0
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      calls += 1
      const headers = request.rawHeaders.map((part, index) => (index % 2 === 0 ? part.toLowerCase() : part)).join('\n')
      const call = { requestId: `request-${calls}`, method: request.method ?? '', rawPath: request.url ?? '', headers, body: Buffer.concat(chunks), clientIp: '127.0.0.1' }
      void region.control(call).then((reply) => {
        response.statusCode = reply.status
        const parts = reply.headers.split('\n')
        for (let index = 0; index + 1 < parts.length; index += 2) response.setHeader(parts[index] ?? '', parts[index + 1] ?? '')
        response.end(reply.body)
      })
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    }),
  }
}
