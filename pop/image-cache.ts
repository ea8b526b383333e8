/**
 * The images of a POP: pulled from the region block by block, kept on disk, applied to the sandbox host.
 *
 *   pull(build): chain of manifests, from the function's image up to the first ancestor that the host has
 *                -> blocks that neither disk nor memory has, from the region, each verified
 *                -> disk -> host, ancestors first
 *
 * I1: an image is applied only when every block it names is present and verified: the host takes it whole or not at all.
 * I2: one image is pulled once at a time, however many ask; what two images share is fetched once.
 * I3: the disk is a cache: what does not fit is applied from memory, and the least recently used make room. An image that
 *     another one on the disk has for its parent stays.
 * I4: pages are hashed and read in small parts: this is the thread that accepts requests.
 */
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { PAGE_BYTES, ZERO_BLOCK, decodeManifest, type BlockId, type ImageManifest } from '../shared/microvm/manifest.ts'
import type { ImageStore } from '../shared/store/types.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { RegionLink } from './region-link.ts'

/** A store that can say what it has, as LmdbImageStore does. */
export interface ImageDisk extends ImageStore {
  imageIds(): ImageId[]
  stats(): { readonly contentBytes: number }
}

export interface ImageCacheOptions {
  readonly host: SandboxHost
  readonly disk: ImageDisk
  readonly link: RegionLink
  readonly clock: Clock
  readonly log: Log
  /** Bytes of images on disk. */
  readonly diskBudgetBytes: number
}

export type PullOutcome =
  | { readonly kind: 'ready' }
  /** Of another engine build: this POP can never run it. */
  | { readonly kind: 'incapable' }
  /** The host has no memory for it. */
  | { readonly kind: 'no-room' }
  | { readonly kind: 'failed'; readonly error: CodedError }

interface Link {
  readonly imageId: ImageId
  readonly encoded: Uint8Array
  readonly manifest: ImageManifest
}

/** Ancestors of a function: base, prelude, a shared layer or two. A longer chain is a fault of the region. */
const CHAIN_MAX = 8
/** Images pulled at once: each holds its missing pages in memory. */
const PULLS_MAX = 4
const PULLS_WAITING_MAX = 1_000
/** Pages read and hashed in one go, about 1 ms. */
const PAGES_PER_TURN = 64

export class ImageCache {
  readonly counts = { pulls: 0, pullFailures: 0, blocksFetched: 0, blocksReused: 0, diskEvictions: 0 }
  readonly #options: ImageCacheOptions
  readonly #log: Log
  readonly #pulls = new Map<ImageId, Promise<PullOutcome>>()
  readonly #waiting: (() => void)[] = []
  #running = 0
  /** Images to be dropped once the host lets go of them. */
  readonly #dropping = new Set<ImageId>()
  /** When each image on disk was last wanted; those of an earlier process count as oldest. */
  readonly #lastUsedMs = new Map<ImageId, number>()

  constructor(options: ImageCacheOptions) {
    this.#options = options
    this.#log = options.log.child('images')
  }

  /** Bytes that an image adds to what its ancestors hold. Rejects with a coded error. */
  async sizeOf(imageId: ImageId): Promise<number> {
    const { manifest } = await this.#manifest(imageId)
    return manifest.pages.reduce((bytes, [, block]) => bytes + (block === ZERO_BLOCK ? 0 : PAGE_BYTES), 0)
  }

  /** Makes an image runnable. Never rejects; concurrent calls for one image share one pull. */
  pull(imageId: ImageId): Promise<PullOutcome> {
    this.#dropping.delete(imageId)
    if (this.#options.host.hasImage(imageId)) return Promise.resolve({ kind: 'ready' })
    const running = this.#pulls.get(imageId)
    if (running !== undefined) return running
    const pull = this.#pullInTurn(imageId).finally(() => this.#pulls.delete(imageId))
    this.#pulls.set(imageId, pull)
    return pull
  }

  /** Takes an image out of memory as soon as no invocation uses it; it stays on disk. */
  drop(imageId: ImageId): void {
    this.#dropping.add(imageId)
    this.#dropSome()
  }

  /** Repeats what could not be done before. To be called every some seconds. */
  async sweep(): Promise<void> {
    this.#dropSome()
    await this.#makeRoom(0)
  }

  #dropSome(): void {
    const { host } = this.#options
    for (const imageId of this.#dropping) {
      if (host.hasImage(imageId)) host.dropImage(imageId)
      if (!host.hasImage(imageId)) this.#dropping.delete(imageId)
    }
  }

  async #pullInTurn(imageId: ImageId): Promise<PullOutcome> {
    if (this.#running >= PULLS_MAX) {
      if (this.#waiting.length >= PULLS_WAITING_MAX) return { kind: 'failed', error: new CodedError('ERR_QUEUE_FULL', ['image pulls']) }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    this.#running++
    this.counts.pulls++
    try {
      return await this.#pull(imageId)
    } catch (error) {
      this.counts.pullFailures++
      const coded = toCodedError(error)
      this.#log.warn('pull failed', { imageId, code: coded.code, error: coded.message })
      return { kind: 'failed', error: coded }
    } finally {
      this.#running--
      this.#waiting.shift()?.()
    }
  }

  async #pull(imageId: ImageId): Promise<PullOutcome> {
    const startedAtMs = this.#options.clock.monotonicMs()
    const chain = await this.#chain(imageId)
    for (const link of chain) {
      const outcome = await this.#apply(link)
      if (outcome !== 'applied') return { kind: outcome }
    }
    this.#log.info('image is ready', { imageId, layers: chain.length, pullMs: Math.round(this.#options.clock.monotonicMs() - startedAtMs) })
    return { kind: 'ready' }
  }

  /** What the host lacks of an image's ancestry, ancestors first. */
  async #chain(imageId: ImageId): Promise<Link[]> {
    const chain: Link[] = []
    for (let next: ImageId | null = imageId; next !== null && !this.#options.host.hasImage(next);) {
      if (chain.length >= CHAIN_MAX) throw new CodedError('ERR_STORE_BLOCK', [imageId, `of more than ${CHAIN_MAX} layers`])
      const link: Link = await this.#manifest(next)
      chain.unshift(link)
      next = link.manifest.parentId
    }
    return chain
  }

  async #manifest(imageId: ImageId): Promise<Link> {
    const stored = this.#storedManifest(imageId)
    if (stored !== null) return stored
    const encoded = await this.#options.link.getManifest(imageId)
    if (encoded === null) throw new CodedError('ERR_STORE_BLOCK', [imageId, 'not at the region'])
    return { imageId, encoded, manifest: decodeManifest(encoded, imageId) }
  }

  /** Null if it is not on disk, or altered there: then it is pulled again. */
  #storedManifest(imageId: ImageId): Link | null {
    try {
      const encoded = this.#options.disk.getManifest(imageId)
      return encoded === null ? null : { imageId, encoded, manifest: decodeManifest(encoded, imageId) }
    } catch (error) {
      this.#log.error('manifest on disk is altered', { imageId, error: toCodedError(error).message })
      return null
    }
  }

  async #apply(link: Link): Promise<'applied' | 'incapable' | 'no-room'> {
    const { host } = this.#options
    const blocks = await this.#blocks(link)
    await this.#keep(link, blocks)
    // Another pull may have come first while this one waited.
    if (host.hasImage(link.imageId)) return 'applied'
    try {
      host.addImage(link.imageId, link.manifest, (id) => {
        const block = blocks.get(id)
        if (block === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing']) // I1
        return block
      })
    } catch (error) {
      const { code } = toCodedError(error)
      if (code === 'ERR_NO_CAPACITY') return 'no-room'
      if (code !== 'ERR_STORE_BLOCK') throw error
      // Every block was verified, so it is the engine build that the host refuses.
      this.#log.warn('image cannot run here', { imageId: link.imageId, engineBuild: link.manifest.engineBuild, error: toCodedError(error).message })
      return 'incapable'
    }
    return 'applied'
  }

  /** Every block that a manifest names, verified: from disk, else from the region. */
  async #blocks({ manifest }: Link): Promise<Map<BlockId, Uint8Array>> {
    const blocks = new Map<BlockId, Uint8Array>()
    const missing = new Set<BlockId>()
    let turn = 0
    for (const [, id] of manifest.pages) {
      if (id === ZERO_BLOCK || blocks.has(id) || missing.has(id)) continue
      const stored = this.#storedBlock(id)
      if (stored === null) missing.add(id)
      else blocks.set(id, stored)
      if (++turn % PAGES_PER_TURN === 0) await new Promise(setImmediate) // I4
    }
    this.counts.blocksReused += blocks.size
    this.counts.blocksFetched += missing.size
    if (missing.size > 0) {
      await this.#options.link.getBlocks([...missing], (id, block) => {
        blocks.set(id, block)
      })
    }
    return blocks
  }

  #storedBlock(id: BlockId): Uint8Array | null {
    try {
      return this.#options.disk.getBlock(id)
    } catch (error) {
      this.#log.error('block on disk is altered', { blockId: id, error: toCodedError(error).message })
      return null
    }
  }

  /** I3. */
  async #keep({ imageId, encoded }: Link, blocks: ReadonlyMap<BlockId, Uint8Array>): Promise<void> {
    const { disk, clock } = this.#options
    this.#lastUsedMs.set(imageId, clock.monotonicMs())
    try {
      await this.#makeRoom(encoded.byteLength + blocks.size * PAGE_BYTES)
      await disk.putImage(imageId, encoded, blocks)
    } catch (error) {
      this.#log.warn('image is not kept on disk', { imageId, error: toCodedError(error).message })
    }
  }

  async #makeRoom(neededBytes: number): Promise<void> {
    const { disk, diskBudgetBytes } = this.#options
    const isTooMuch = (): boolean => disk.stats().contentBytes + neededBytes > diskBudgetBytes
    if (!isTooMuch()) return
    const ids = disk.imageIds()
    const parents = new Set(ids.map((id) => this.#storedManifest(id)?.manifest.parentId ?? null))
    const lastUsedMs = (id: ImageId): number => this.#lastUsedMs.get(id) ?? 0
    const candidates = ids.filter((id) => !parents.has(id) && !this.#pulls.has(id)).sort((a, b) => lastUsedMs(a) - lastUsedMs(b))
    for (const id of candidates) {
      if (!isTooMuch()) return
      await disk.deleteImage(id)
      this.#lastUsedMs.delete(id)
      this.counts.diskEvictions++
    }
  }
}
