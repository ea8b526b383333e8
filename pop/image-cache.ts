/**
 * The images of a POP: pulled from the region, kept on disk, applied to the sandbox host.
 *
 *   pull(image): chain of sealed manifests, from the function's image up to the first ancestor that the host has   one question
 *                -> blocks that neither disk nor another pull has, each verified                            one question
 *                -> opened -> host, ancestors first; as it came -> disk
 *
 * I1: an image is applied only when every page it names is present and verified (see sealed-image.ts): the host takes it whole or not at all.
 * I2: one image is pulled once at a time, however many ask; a block that two pulls want is fetched by one of them.
 * I3: the disk is a cache of what is sealed: what does not earn a place is applied from memory alone (`planEviction`).
 * I4: pages are hashed and read in small parts: this is the thread that accepts requests.
 * I5: what a pull builds on stays in memory until it has ended. An ancestor leaves memory after the last image made from it.
 */
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { IMAGE_CHAIN_MAX, MIB } from '../shared/limits.ts'
import type { WantedBlock } from '../shared/link/blocks.ts'
import type { ImageRef } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import { PAGE_BYTES, ZERO_BLOCK, type BlockId, type ImageManifest } from '../shared/microvm/manifest.ts'
import { planEviction } from '../shared/place/disk-eviction.ts'
import type { PopKeys } from '../shared/store/pop-keys.ts'
import type { SealedBlockId } from '../shared/store/types.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import { Arrivals, type Arrival } from './arrivals.ts'
import type { DiskCache, StoredImage } from './disk-cache.ts'
import type { RegionLink } from './region-link.ts'
import { ALL_ZEROS } from '../shared/store/page-groups.ts'
import { inFetchOrder, openImage, openPages, type OpenedImage } from './sealed-image.ts'

/** `DiskCache` is one; tests bring another. */
export type ImageDisk = Pick<DiskCache, 'image' | 'block' | 'put' | 'restore' | 'delete' | 'entries' | 'parents' | 'use' | 'writeUses' | 'scrub' | 'naming' | 'contentBytes' | 'close'>

export interface ImageCacheOptions {
  readonly host: SandboxHost
  readonly disk: ImageDisk
  readonly link: Pick<RegionLink, 'getChain' | 'getBlocks'>
  /** What the region wraps keys for. */
  readonly keys: PopKeys
  readonly clock: Clock
  readonly log: Log
  /** Bytes of images on disk. */
  readonly diskBudgetBytes: number
  /** How often images of functions that live here are asked for, as the hot set counts. */
  readonly rates: () => ReadonlyMap<ImageId, number>
  /** Bytes of blocks on disk that each sweep hashes. Default 8 MiB: 0.8 MiB a second. */
  readonly scrubBytesPerSweep?: number
}

export type PullOutcome =
  | { readonly kind: 'ready' }
  /** Of another engine build: this POP can never run it. */
  | { readonly kind: 'incapable' }
  /** The host has no memory for it. */
  | { readonly kind: 'no-room' }
  | { readonly kind: 'failed'; readonly error: CodedError }

/** An image of a chain, as it is known before its blocks are here. */
interface Link extends StoredImage {
  readonly image: OpenedImage
}

/** An image that this cache gave to the host. */
interface InMemory {
  readonly parentId: ImageId | null
  /** Bytes that it adds to what its ancestors hold. */
  readonly bytes: number
  /** A function runs it; else it is here for those made from it, or on its way out. */
  wanted: boolean
}

/** Images pulled at once: each holds its missing pages in memory. */
const PULLS_MAX = 4
const PULLS_WAITING_MAX = 1_000
/** Blocks read and hashed in one go, about 1 ms. */
const BLOCKS_PER_TURN = 32
/** Chains kept between the question how large an image is and its pull. */
const CHAINS_KEPT_MAX = 16
/** The engine's own images, which a chain showed to be there already. */
const OWN_ANCESTORS_MAX = 16
/** Of a function that is not in the hot set by now: one use. */
const RATE_UNKNOWN = 1
const SCRUB_BYTES_PER_SWEEP = 8 * MIB

export class ImageCache {
  readonly counts = { pulls: 0, pullFailures: 0, blocksFetched: 0, blocksReused: 0, diskEvictions: 0, diskRefusals: 0, blocksAltered: 0 }
  readonly #options: ImageCacheOptions
  readonly #log: Log
  readonly #pulls = new Map<ImageId, Promise<PullOutcome>>()
  readonly #waiting: (() => void)[] = []
  #running = 0
  readonly #chains = new Map<ImageId, Promise<readonly Link[]>>()
  readonly #arrivals = new Arrivals()
  readonly #inMemory = new Map<ImageId, InMemory>()
  readonly #ownAncestors = new Set<ImageId>()
  /** Images that pulls under way build on, and by how many (I5). */
  readonly #pins = new Map<ImageId, number>()

  constructor(options: ImageCacheOptions) {
    this.#options = options
    this.#log = options.log.child('images')
  }

  /** Complete and in memory. */
  isHere(imageId: ImageId): boolean {
    return this.#options.host.hasImage(imageId)
  }

  /** Bytes in memory of images that others are made from: no function's own. */
  get sharedBytes(): number {
    let bytes = 0
    for (const held of this.#inMemory.values()) if (!held.wanted) bytes += held.bytes
    return bytes
  }

  /** Bytes that an image adds to what its ancestors hold. Rejects with a coded error. */
  async sizeOf(image: ImageRef): Promise<number> {
    const held = this.#inMemory.get(image.imageId)
    if (held !== undefined) return held.bytes
    const own = (await this.#chainOf(image)).at(-1)
    if (own === undefined) throw new CodedError('ERR_STORE_BLOCK', [image.imageId, "one of the engine's own"])
    return sizeOf(own.image.plain)
  }

  /** Makes an image runnable. Never rejects; concurrent calls for one image share one pull. */
  pull(image: ImageRef): Promise<PullOutcome> {
    const held = this.#inMemory.get(image.imageId)
    if (this.#options.host.hasImage(image.imageId)) {
      if (held !== undefined) held.wanted = true
      return Promise.resolve({ kind: 'ready' })
    }
    const running = this.#pulls.get(image.imageId)
    if (running !== undefined) return running
    const pull = this.#pullInTurn(image).finally(() => this.#pulls.delete(image.imageId))
    this.#pulls.set(image.imageId, pull)
    return pull
  }

  /** Takes an image out of memory as soon as no invocation uses it; it stays on disk. */
  drop(imageId: ImageId): void {
    const held = this.#inMemory.get(imageId)
    if (held !== undefined) held.wanted = false
    this.#dropSome()
  }

  /** Repeats what could not be done before, and looks after the disk. To be called every some seconds. */
  async sweep(): Promise<void> {
    const { disk, rates, scrubBytesPerSweep = SCRUB_BYTES_PER_SWEEP } = this.#options
    this.#dropSome()
    for (const [imageId, rate] of rates()) disk.use(imageId, rate)
    await this.#evict(null)
    await disk.writeUses()
    const altered = await disk.scrub(scrubBytesPerSweep)
    if (altered.length > 0) await this.#fetchAgain(new Set(altered))
  }

  /** I5. A host lets go of an image when its workers have: what does not go now goes later. */
  #dropSome(): void {
    const { host } = this.#options
    for (let before = -1; before !== this.#inMemory.size;) {
      before = this.#inMemory.size
      const parents = new Set([...this.#inMemory.values()].map(({ parentId }) => parentId))
      for (const [imageId, { wanted }] of this.#inMemory) {
        if (wanted || parents.has(imageId) || this.#pins.has(imageId)) continue
        if (host.hasImage(imageId)) host.dropImage(imageId)
        if (!host.hasImage(imageId)) this.#inMemory.delete(imageId)
      }
    }
  }

  async #pullInTurn(image: ImageRef): Promise<PullOutcome> {
    if (this.#running >= PULLS_MAX) {
      if (this.#waiting.length >= PULLS_WAITING_MAX) return { kind: 'failed', error: new CodedError('ERR_QUEUE_FULL', ['image pulls']) }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    this.#running++
    this.counts.pulls++
    try {
      return await this.#pull(image)
    } catch (error) {
      this.counts.pullFailures++
      const coded = toCodedError(error)
      this.#log.warn('pull failed', { imageId: image.imageId, code: coded.code, error: coded.message })
      return { kind: 'failed', error: coded }
    } finally {
      this.#chains.delete(image.imageId)
      this.#running--
      this.#waiting.shift()?.()
    }
  }

  async #pull(image: ImageRef): Promise<PullOutcome> {
    const { clock, host, disk, rates } = this.#options
    const startedAtMs = clock.monotonicMs()
    let chain = await this.#chainOf(image)
    let foundation = chain[0]?.parentId ?? null
    if (foundation !== null && !host.hasImage(foundation)) {
      // Dropped since the chain was asked for.
      this.#chains.delete(image.imageId)
      chain = await this.#chainOf(image)
      foundation = chain[0]?.parentId ?? null
    }
    const pinned = [...chain.map(({ imageId }) => imageId), ...(foundation === null ? [] : [foundation])]
    for (const imageId of pinned) this.#pins.set(imageId, (this.#pins.get(imageId) ?? 0) + 1)
    const arrival = this.#arrivals.begin()
    try {
      const lacking = chain.filter(({ imageId }) => !host.hasImage(imageId))
      const { blocks, fresh } = await this.#blocks(image, lacking, arrival)
      for (const link of lacking) {
        const { parentId } = link
        const before = parentId === null ? ALL_ZEROS : (index: number) => host.page(parentId, index)
        const outcome = this.#apply(link, await openPages(link.image, (id) => blocks.get(id), before), link.imageId === image.imageId)
        if (outcome === 'no-room') await this.#keep(lacking, blocks, fresh)
        if (outcome !== 'applied') return { kind: outcome }
      }
      this.#log.info('image is ready', { imageId: image.imageId, layers: chain.length, pullMs: Math.round(clock.monotonicMs() - startedAtMs) })
      await this.#keep(lacking, blocks, fresh)
      const rate = rates().get(image.imageId) ?? RATE_UNKNOWN
      for (const { imageId } of chain) disk.use(imageId, rate)
      return { kind: 'ready' }
    } finally {
      arrival.end()
      for (const imageId of pinned) {
        const pins = this.#pins.get(imageId) ?? 1
        if (pins > 1) this.#pins.set(imageId, pins - 1)
        else this.#pins.delete(imageId)
      }
    }
  }

  /** What the host lacks of an image's ancestry, ancestors first; asked for once for its size and its pull. */
  #chainOf(image: ImageRef): Promise<readonly Link[]> {
    const kept = this.#chains.get(image.imageId)
    if (kept !== undefined) return kept
    const [oldest] = this.#chains.keys()
    if (oldest !== undefined && this.#chains.size >= CHAINS_KEPT_MAX) this.#chains.delete(oldest)
    const chain = this.#findChain(image)
    this.#chains.set(image.imageId, chain)
    chain.catch(() => {
      if (this.#chains.get(image.imageId) === chain) this.#chains.delete(image.imageId)
    })
    return chain
  }

  async #findChain(image: ImageRef): Promise<readonly Link[]> {
    const { host } = this.#options
    const chain: Link[] = []
    for (let next: ImageId | null = image.imageId; next !== null && !host.hasImage(next);) {
      const stored = this.#storedLink(next)
      for (const link of stored === null ? await this.#fetchChain(image, next) : [stored]) {
        if (chain.length >= IMAGE_CHAIN_MAX) throw new CodedError('ERR_STORE_BLOCK', [image.imageId, `of more than ${IMAGE_CHAIN_MAX} layers`])
        chain.unshift(link)
        next = link.parentId
      }
    }
    return chain
  }

  /** From `from` on, descendants first, as far as the host needs them and the answer reaches: one at least. */
  async #fetchChain(image: ImageRef, from: ImageId): Promise<Link[]> {
    const { host, link, disk } = this.#options
    const layers = [...this.#inMemory].flatMap(([imageId, { wanted }]) => (wanted ? [] : [imageId]))
    const known = [...new Set([...this.#ownAncestors, ...layers, ...disk.parents()])]
    const answer = await link.getChain(image, from, known)
    if (answer === null) throw new CodedError('ERR_STORE_BLOCK', [from, 'not at the region'])
    const links: Link[] = []
    let next: ImageId | null = from
    for (const { imageId, manifest, wrappedKey } of answer.links) {
      if (imageId !== next) throw new CodedError('ERR_LINK_PROTOCOL', ['a chain that does not hang together'])
      // The engine's own: next time the region need not send them.
      if (host.hasImage(imageId) && !this.#inMemory.has(imageId)) {
        if (this.#ownAncestors.size < OWN_ANCESTORS_MAX) this.#ownAncestors.add(imageId)
        break
      }
      const opened = openImage(this.#options.keys, imageId, manifest, wrappedKey)
      next = opened.plain.parentId
      links.push({ imageId, parentId: next, askedFor: image, blocks: opened.blocks, manifest, wrappedKey, image: opened })
    }
    if (links.length === 0) throw new CodedError('ERR_LINK_PROTOCOL', ['an empty chain'])
    return links
  }

  /** Null if it is not on disk, or altered there, or for other keys than this POP has now: then it is pulled again. */
  #storedLink(imageId: ImageId): Link | null {
    const stored = this.#options.disk.image(imageId)
    if (stored === null) return null
    try {
      return { ...stored, image: openImage(this.#options.keys, imageId, stored.manifest, stored.wrappedKey) }
    } catch (error) {
      this.#log.error('manifest on disk cannot be used', { imageId, error: toCodedError(error).message })
      return null
    }
  }

  #apply({ imageId, parentId, image: { plain } }: Link, pages: ReadonlyMap<BlockId, Uint8Array>, isWanted: boolean): 'applied' | 'incapable' | 'no-room' {
    const { host } = this.#options
    const held = this.#inMemory.get(imageId)
    // Another pull may have come first while this one waited.
    if (host.hasImage(imageId)) {
      if (held !== undefined && isWanted) held.wanted = true
      return 'applied'
    }
    try {
      host.addImage(imageId, plain, (id) => {
        const page = pages.get(id)
        if (page === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing']) // I1
        return page
      })
    } catch (error) {
      const { code } = toCodedError(error)
      if (code === 'ERR_NO_CAPACITY') return 'no-room'
      if (code !== 'ERR_STORE_BLOCK') throw error
      // Every block was verified, so it is the engine build that the host refuses.
      this.#log.warn('image cannot run here', { imageId, engineBuild: plain.engineBuild, error: toCodedError(error).message })
      return 'incapable'
    }
    this.#inMemory.set(imageId, { parentId, bytes: sizeOf(plain), wanted: isWanted })
    return 'applied'
  }

  /** Every block that images name, verified: from disk, from another pull that fetches it already, else from the region (I2). */
  async #blocks(image: ImageRef, links: readonly Link[], arrival: Arrival): Promise<{ readonly blocks: Map<SealedBlockId, Uint8Array>; readonly fresh: ReadonlySet<SealedBlockId> }> {
    const blocks = new Map<SealedBlockId, Uint8Array>()
    const fresh = new Set<SealedBlockId>()
    const seen = new Set<SealedBlockId>()
    let missing: WantedBlock[] = []
    const elsewhere: { readonly wanted: WantedBlock; readonly coming: Promise<Uint8Array | null> }[] = []
    let turn = 0
    for (const link of links) {
      for (const wanted of inFetchOrder(link.imageId, link.image)) {
        const { id } = wanted
        if (seen.has(id)) continue
        seen.add(id)
        const coming = this.#arrivals.coming(id)
        const stored = coming === null ? this.#options.disk.block(id) : null
        if (stored === null) fresh.add(id)
        if (coming !== null) elsewhere.push({ wanted, coming })
        else if (stored !== null) blocks.set(id, stored)
        else {
          arrival.promise(id)
          missing.push(wanted)
        }
        if (++turn % BLOCKS_PER_TURN === 0) await new Promise(setImmediate) // I4
      }
    }
    this.counts.blocksReused += blocks.size
    await this.#fetch(image, missing, blocks, arrival)
    for (const { wanted: { id }, coming } of elsewhere) {
      const block = await coming
      if (block !== null) blocks.set(id, block)
    }
    // The other pull failed, perhaps for a reason that is none here: another function's grant.
    missing = elsewhere.map(({ wanted }) => wanted).filter(({ id }) => !blocks.has(id))
    await this.#fetch(image, missing, blocks, arrival)
    return { blocks, fresh }
  }

  async #fetch(image: ImageRef, wanted: readonly WantedBlock[], blocks: Map<SealedBlockId, Uint8Array>, arrival: Arrival): Promise<void> {
    if (wanted.length === 0) return
    this.counts.blocksFetched += wanted.length
    await this.#options.link.getBlocks(image, wanted, (id, block) => {
      blocks.set(id, block)
      arrival.came(id, block)
    })
  }

  /** I3. Ancestors first, so that a child is never without its parent. */
  async #keep(links: readonly Link[], blocks: ReadonlyMap<SealedBlockId, Uint8Array>, fresh: ReadonlySet<SealedBlockId>): Promise<void> {
    const { disk, rates } = this.#options
    const known = rates()
    const target = links.at(-1)
    const rate = (target === undefined ? undefined : known.get(target.imageId)) ?? RATE_UNKNOWN
    for (const link of links) {
      const own = new Map(link.blocks.flatMap((id) => {
        const block = blocks.get(id)
        return block === undefined ? [] : [[id, block] as const]
      }))
      try {
        const isHere = disk.image(link.imageId) !== null
        const bytes = [...own].reduce((sum, [id, block]) => sum + (fresh.has(id) ? block.byteLength : 0), link.manifest.byteLength)
        if (!isHere && (await this.#evict({ bytes, rate })) === 'refused') {
          this.counts.diskRefusals++
          return
        }
        await disk.put(link, own)
      } catch (error) {
        this.#log.warn('image is not kept on disk', { imageId: link.imageId, error: toCodedError(error).message })
        return
      }
    }
  }

  async #evict(incoming: { readonly bytes: number; readonly rate: number } | null): Promise<'fits' | 'refused'> {
    const { disk, diskBudgetBytes: budgetBytes } = this.#options
    const usedBytes = disk.contentBytes
    if (usedBytes + (incoming?.bytes ?? 0) <= budgetBytes) return 'fits'
    const { kind, evict } = planEviction({ entries: disk.entries(), usedBytes, budgetBytes, pinned: new Set(this.#pins.keys()), incoming })
    if (evict.length > 0) await disk.delete(evict)
    this.counts.diskEvictions += evict.length
    return kind
  }

  /** Blocks on disk that were altered, in the name of the images that need them. What cannot be had is fetched when such an image is pulled. */
  async #fetchAgain(altered: ReadonlySet<SealedBlockId>): Promise<void> {
    const { disk, link } = this.#options
    this.counts.blocksAltered += altered.size
    this.#log.error('blocks on disk are altered', { blocks: altered.size })
    const lacking = new Set(altered)
    for (const image of disk.naming(altered)) {
      const stored = this.#storedLink(image.imageId)
      const wanted = stored === null ? [] : inFetchOrder(image.imageId, stored.image).filter(({ id }) => lacking.has(id))
      const blocks = new Map<SealedBlockId, Uint8Array>()
      try {
        if (wanted.length > 0) await link.getBlocks(image.askedFor, wanted, (id, block) => void blocks.set(id, block))
      } catch (error) {
        this.#log.warn('altered blocks could not be fetched', { imageId: image.imageId, error: toCodedError(error).message })
      }
      if (blocks.size > 0) await disk.restore(blocks)
      for (const id of blocks.keys()) lacking.delete(id)
    }
  }
}

function sizeOf(manifest: ImageManifest): number {
  return manifest.pages.reduce((bytes, [, block]) => bytes + (block === ZERO_BLOCK ? 0 : PAGE_BYTES), 0)
}
