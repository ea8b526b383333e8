/**
 * Publishing: from an uploaded zip to an image that every tier can run, and the only way records change.
 *
 * A publish goes through these stages; a failure in any leaves nothing behind that a client could see:
 *   bundle   zip -> ES modules                        (bounded number at once, with build)
 *   build    modules + settings -> images             skipped when the inputs are those of the build that runs; a bundle whose
 *                                                     libraries cannot be layers is made again without them
 *   store    images, zip and module -> sealed objects, each on disk     (one publish at a time from here)
 *   commit   secrets and records -> registry, in one transaction that claims these objects
 *
 * P1: no record names what is not on disk: everything is stored before the commit, which fails if it has gone meanwhile.
 * P2: what was stored for a commit that failed or never came, or is named no more, is of no record's: a collection
 *     removes it in its time (shared/store/roots.ts).
 * P3: bundles are the source of truth. Zip and module are kept as long as a version names them; images are derived.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { BuildKey, ImageId } from '../shared/brand.ts'
import { bundleZip, type Bundle, decodeBundle, encodeBundle } from '../shared/api/bundle.ts'
import { LATEST, functionArn } from '../shared/api/names.ts'
import type { BuildRecord, CodeRecord, ControlBackend, FunctionReader, FunctionRecord, FunctionSettings, FunctionTransaction, PublishOrder, Published, VersionRecord } from '../shared/api/records.ts'
import { openZip } from '../shared/api/zip.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { BUILDS_RUNNING_MAX, BUILDS_WAITING_MAX } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import type { BuiltImage, ImageBuilder, InseparableChunk } from '../shared/microvm/build-types.ts'
import { decodeManifest } from '../shared/microvm/manifest.ts'
import type { Content } from './content.ts'
import type { CommitPurpose, NewSecrets, Registry } from './registry.ts'
import { BoundedTurns, SingleTurns } from './turns.ts'

export type BringContent = (account: string, named: { readonly images: readonly ImageId[]; readonly bundles: readonly string[] }) => Promise<boolean>

export interface PublisherDeps {
  readonly registry: Registry
  readonly content: Content
  readonly builder: ImageBuilder
  readonly clock: Clock
  readonly log: Log
  /** Region name for ARNs. */
  readonly regionName: string
  /** Identity of the engine that `builder` builds for; null: not known now, and a publish builds. */
  readonly engineBuild: () => string | null
  /** A function does not run this image any more. */
  readonly onImageDropped?: (imageId: ImageId) => void
  /** Fetches what is not here from the other nodes. */
  readonly bring?: BringContent
  readonly buildsRunningMax?: number
  readonly buildsWaitingMax?: number
}

/** All that a commit needs, made before the store is touched. */
interface Prepared {
  readonly published: Published
  /** Empty if the current build is used again. */
  readonly images: readonly BuiltImage[]
  /** Bytes by id, for what may be new. */
  readonly sources: ReadonlyMap<string, Uint8Array>
  readonly secrets: NewSecrets | null
}

interface PreparedCode {
  readonly code: CodeRecord
  readonly bundle: Pick<Bundle, 'source' | 'sourceMap' | 'chunks' | 'ownCodeFirst'>
  /** Bytes by id, for what may be new. */
  readonly sources: ReadonlyMap<string, Uint8Array>
}

interface Built {
  readonly kind: 'built'
  readonly build: BuildRecord
  /** Empty if the current build is used again. */
  readonly images: readonly BuiltImage[]
}

interface Unbuilt {
  readonly kind: 'inseparable'
  readonly inseparable: readonly InseparableChunk[]
  readonly error: CodedError
}

interface PreparedSecrets {
  readonly id: string | null
  readonly values: Readonly<Record<string, string>>
}

export class Publisher implements ControlBackend {
  readonly #deps: PublisherDeps
  readonly #log: Log
  readonly #builds: BoundedTurns
  readonly #turns = new SingleTurns()
  readonly #rebuilds = new Map<string, Promise<void>>()

  constructor(deps: PublisherDeps) {
    this.#deps = deps
    this.#log = deps.log.child('region-publish')
    this.#builds = new BoundedTurns(deps.buildsRunningMax ?? BUILDS_RUNNING_MAX, deps.buildsWaitingMax ?? BUILDS_WAITING_MAX)
  }

  read(account: string, functionName: string): FunctionReader {
    return this.#deps.registry.read(account, functionName)
  }

  list(account: string, after: string, limit: number): FunctionRecord[] {
    return this.#deps.registry.list(account, after, limit)
  }

  change<T>(account: string, functionName: string, purpose: 'write' | 'delete', action: (transaction: FunctionTransaction) => T): Promise<T> {
    return this.#turns.run(() => this.#commit(account, functionName, { kind: purpose }, action))
  }

  async publish<T>(order: PublishOrder, commit: (transaction: FunctionTransaction, published: Published) => T): Promise<T> {
    const prepared = await this.#builds.run(() => this.#prepare(order))
    return await this.#turns.run(() => this.#storeAndCommit(order, prepared, (transaction) => commit(transaction, prepared.published)))
  }

  async check(order: PublishOrder): Promise<CodeRecord> {
    const { code } = await this.#builds.run(() => this.#prepareCode(order))
    return code
  }

  /**
   * Builds the image of a version again from its source and puts it in place of the one that was, for all callers at
   * once. What a client sees of the version stays. Throws as `publish`; ERR_RESOURCE_NOT_FOUND if the version is gone.
   */
  rebuild(account: string, functionName: string, version: string): Promise<void> {
    const key = `${account}/${functionName}:${version}`
    const running = this.#rebuilds.get(key)
    if (running !== undefined) return running
    const rebuild = this.#rebuildNow(account, functionName, version).finally(() => this.#rebuilds.delete(key))
    this.#rebuilds.set(key, rebuild)
    return rebuild
  }

  /** Rebuilds every version whose image is of another engine than the builder's, one after another. Never rejects. Returns how many. */
  async rebuildStale(): Promise<number> {
    const { registry } = this.#deps
    const engineBuild = this.#deps.engineBuild()
    let rebuilt = 0
    for (const { account, functionName, version } of engineBuild === null ? [] : registry.staleVersions(engineBuild)) {
      try {
        await this.rebuild(account, functionName, version)
        rebuilt += 1
      } catch (error) {
        this.#log.error('an image of another engine could not be built again', { functionName, version, code: toCodedError(error).code, reason: toCodedError(error).message })
      }
    }
    return rebuilt
  }

  async #rebuildNow(account: string, functionName: string, version: string): Promise<void> {
    const { registry } = this.#deps
    const before = readVersion(registry.read(account, functionName), version)
    if (before === null) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`${functionName}:${version} is gone`])
    const { settings, code } = before
    await this.publish({ account, functionName, code: { kind: 'stored', code }, settings, handlerGiven: true, secrets: null, current: null }, (transaction, { build }) => {
      const now = readVersion(transaction, version)
      // Changed meanwhile: then it has an image that was just built.
      if (now?.revisionId !== before.revisionId) return
      const record = transaction.function()
      if (version !== LATEST) transaction.putVersion({ ...now, build })
      else if (record !== null) transaction.putFunction({ ...record, latest: { ...now, build } })
    })
  }

  /** Waits for what is being stored; builds still running are the builder's to end. */
  async close(): Promise<void> {
    await this.#turns.idle()
  }

  async #prepare(order: PublishOrder): Promise<Prepared> {
    const secrets = this.#prepareSecrets(order)
    const settings: FunctionSettings = { ...order.settings, secretsId: secrets.id, secretNames: Object.keys(secrets.values).sort() }
    const inseparable = new Set<string>()
    for (;;) {
      const prepared = await this.#prepareCode(order, inseparable)
      const built = await this.#build(order, prepared, settings, secrets.values)
      if (built.kind === 'built') {
        return {
          published: { settings, code: prepared.code, build: built.build },
          images: built.images,
          sources: prepared.sources,
          secrets: secrets.id === null ? null : { id: secrets.id, values: secrets.values },
        }
      }
      // Each round leaves out more: a name that was left out before cannot come back.
      const known = inseparable.size
      for (const { name } of built.inseparable) inseparable.add(name)
      if (inseparable.size === known) throw built.error
    }
  }

  async #prepareCode({ account, code, settings, handlerGiven }: PublishOrder, inseparable: ReadonlySet<string> = new Set()): Promise<PreparedCode> {
    const { content, clock } = this.#deps
    if (code.kind === 'stored') await this.#deps.bring?.(account, { images: [], bundles: [code.code.moduleId, code.code.zipId] })
    if (code.kind === 'stored' && code.code.handler === settings.handler && inseparable.size === 0) {
      return { code: code.code, bundle: decodeBundle(content.readBundle(account, code.code.moduleId)), sources: new Map() }
    }
    const zip = code.kind === 'zip' ? code.bytes : content.readBundle(account, code.code.zipId)
    const bundle = await bundleZip({ archive: openZip(zip), handler: settings.handler, handlerGiven, inseparable }, clock)
    const module = encodeBundle(bundle)
    const digest = createHash('sha256').update(zip).digest()
    const record: CodeRecord = {
      zipId: digest.toString('hex'),
      moduleId: sha256(module),
      sha256Base64: digest.toString('base64'),
      zipBytes: zip.byteLength,
      fileName: bundle.fileName,
      handler: settings.handler,
      handlerExport: bundle.handlerExport,
    }
    return { code: record, bundle, sources: new Map([[record.zipId, zip], [record.moduleId, module]]) }
  }

  #prepareSecrets({ account, functionName, settings, secrets }: PublishOrder): PreparedSecrets {
    const current = this.#deps.registry.secretsOf(account, functionName, settings.secretsId)
    if (secrets === null || sameEntries(secrets, current)) return { id: settings.secretsId, values: current }
    // A new id, not a digest: the values may be guessable and the id is part of every build's key.
    return { id: Object.keys(secrets).length === 0 ? null : randomUUID(), values: secrets }
  }

  async #build(order: PublishOrder, { code, bundle }: PreparedCode, settings: FunctionSettings, secrets: Readonly<Record<string, string>>): Promise<Built | Unbuilt> {
    const { account, functionName, current } = order
    const { builder, regionName } = this.#deps
    const engineBuild = this.#deps.engineBuild()
    const arn = functionArn(regionName, account, functionName)
    const inputsId = digestOf([
      engineBuild, code.moduleId, code.fileName, code.handlerExport, sortedEntries(settings.vars), settings.jsonVars ?? {}, serviceNames(settings), settings.secretNames, settings.secretsId,
      settings.prime, arn, settings.limits.memoryMib, settings.origin ?? null,
    ])
    if (current?.inputsId === inputsId && engineBuild !== null && this.#areStored(account, current.imageIds)) {
      return { kind: 'built', build: { ...current, key: buildKey(account, functionName, current.imageIds, current.handlerKind, settings) }, images: [] }
    }
    const result = await builder.build({
      source: bundle.source,
      sourceMap: bundle.sourceMap,
      chunks: bundle.chunks,
      ownCodeFirst: bundle.ownCodeFirst,
      fileName: code.fileName,
      handlerExport: code.handlerExport,
      vars: { ...settings.vars, ...settings.jsonVars },
      services: serviceNames(settings),
      origin: settings.origin ?? null,
      secrets,
      prime: settings.prime,
      account,
      functionName,
      version: LATEST,
      arn,
      limits: settings.limits,
    })
    if (result.kind === 'refused' && result.inseparable !== undefined) return { kind: 'inseparable', inseparable: result.inseparable, error: CodedError.fromData(result.error) }
    if (result.kind === 'refused') throw CodedError.fromData(result.error)
    const own = result.images.at(-1)
    if (own === undefined) throw new CodedError('ERR_BUILD_FAILED', ['it made no image'])
    const imageIds = result.images.map(({ imageId }) => imageId)
    const build: BuildRecord = {
      inputsId,
      engineBuild: decodeManifest(own.encodedManifest, own.imageId).engineBuild,
      key: buildKey(account, functionName, imageIds, result.handlerKind, settings),
      imageIds,
      handlerKind: result.handlerKind,
      entrypoints: result.entrypoints,
      report: result.report,
    }
    return { kind: 'built', build, images: result.images }
  }

  #areStored(account: string, imageIds: readonly ImageId[]): boolean {
    return imageIds.every((imageId) => this.#deps.content.hasImage(account, imageId))
  }

  /** P1; one turn. */
  async #storeAndCommit<T>({ account, functionName }: PublishOrder, { images, sources, secrets }: Prepared, action: (transaction: FunctionTransaction) => T): Promise<T> {
    const { content } = this.#deps
    await content.putImages(account, images)
    for (const [id, bytes] of sources) await content.putBundle(account, id, bytes)
    return await this.#commit(account, functionName, { kind: 'publish', secrets }, action)
  }

  async #commit<T>(account: string, functionName: string, purpose: CommitPurpose, action: (transaction: FunctionTransaction) => T): Promise<T> {
    const { result, dropped } = await this.#deps.registry.commit(account, functionName, purpose, action)
    for (const imageId of dropped) this.#deps.onImageDropped?.(imageId)
    return result
  }
}

function readVersion(reader: FunctionReader, version: string): VersionRecord | null {
  return version === LATEST ? (reader.function()?.latest ?? null) : reader.version(version)
}

/** In the order by which the guest knows them. */
function serviceNames({ services = [] }: FunctionSettings): readonly string[] {
  return services.map(({ binding }) => binding)
}

/** Everything a sandbox host or a POP is told besides the version's label goes into the key, so a key stands for one behaviour. */
function buildKey(account: string, functionName: string, imageIds: readonly ImageId[], handlerKind: string, { limits, traits, secretsId, services = [] }: FunctionSettings): BuildKey {
  const buildId = digestOf([imageIds.at(-1), handlerKind, sortedEntries(limits), sortedEntries(traits), secretsId, services]).slice(0, 32)
  return `${account}/${functionName}@${buildId}` as BuildKey
}

function digestOf(value: unknown): string {
  return sha256(Buffer.from(JSON.stringify(value)))
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function sortedEntries(record: object): [string, unknown][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))
}

function sameEntries(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  return JSON.stringify(sortedEntries(a)) === JSON.stringify(sortedEntries(b))
}
