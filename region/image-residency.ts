/**
 * Which images a host's sandboxes hold: loads them from the store when they are first wanted, with their ancestors
 * first, and drops the least recently used when the host is full.
 *
 * I1: loads take turns, ancestors in the turn of the image they are for, and a lease is taken before its turn ends. So an
 *     image is loaded once, and nothing is dropped between its load and its first use.
 * I2: an image is not dropped while a lease on it is out or an image made from it is resident.
 * I3: images that the host brought along itself (its engine's base and prelude) are used and never dropped.
 */
import type { ImageId } from '../shared/brand.ts'
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import { ALL_ZEROS } from '../shared/store/page-groups.ts'
import type { Content, StoredImage } from './content.ts'
import { SingleTurns } from './turns.ts'

export interface ImageResidencyDeps {
  readonly content: Pick<Content, 'readImage'>
  readonly host: SandboxHost
  readonly clock: Clock
  readonly log: Log
}

/** The right to run an image. */
export interface ImageLease {
  /** True when the image had to be loaded for this lease. */
  readonly loaded: boolean
  /** To be called once, when the run has ended. */
  release(): void
}

interface Resident {
  readonly imageId: ImageId
  readonly parent: Resident | null
  readonly pages: number
  leases: number
  children: number
}

/** A host frees an image after all its workers have let go of it: how often to look, and how long to wait. */
const DROP_POLL_MS = 5
const DROP_WAIT_MAX_MS = 2_000

export class ImageResidency {
  readonly #deps: ImageResidencyDeps
  readonly #log: Log
  /** In order of last use, the longest unused first. */
  readonly #residents = new Map<ImageId, Resident>()
  /** Dropped, and perhaps still at the host, which frees an image when its workers have let go. */
  readonly #dropping = new Set<ImageId>()
  readonly #turns = new SingleTurns()

  constructor(deps: ImageResidencyDeps) {
    this.#deps = deps
    this.#log = deps.log.child('region-images')
  }

  /** A lease at once if the image is there, else null: then `acquire` loads it. */
  tryAcquire(imageId: ImageId): ImageLease | null {
    if (!this.#isHere(imageId)) return null
    return this.#lease(this.#residents.get(imageId) ?? null, 'was-there')
  }

  /** `account`: whose function it is. Throws ERR_STORE_BLOCK if the image is missing or altered, ERR_NO_CAPACITY if it has no room beside the images in use. */
  async acquire(account: string, imageId: ImageId): Promise<ImageLease> {
    return this.tryAcquire(imageId) ?? await this.#turns.run(async () => this.#lease(await this.#load(account, imageId), 'loaded'))
  }

  /** Drops an image that nothing runs any more, if it is not in use; else it goes when room is needed. */
  discard(imageId: ImageId): void {
    const resident = this.#residents.get(imageId)
    if (resident !== undefined && isUnused(resident)) this.#drop(resident)
  }

  #isHere(imageId: ImageId): boolean {
    return !this.#dropping.has(imageId) && this.#deps.host.hasImage(imageId)
  }

  #lease(resident: Resident | null, how: 'loaded' | 'was-there'): ImageLease {
    const loaded = how === 'loaded'
    if (resident === null) return { loaded, release: () => undefined }
    this.#residents.delete(resident.imageId)
    this.#residents.set(resident.imageId, resident)
    resident.leases += 1
    let released = false
    return {
      loaded,
      release: () => {
        if (released) return
        released = true
        resident.leases -= 1
      },
    }
  }

  /** Null for an image of the host's own (I3). */
  async #load(account: string, imageId: ImageId): Promise<Resident | null> {
    if (this.#isHere(imageId)) return this.#residents.get(imageId) ?? null
    const image = this.#deps.content.readImage(account, imageId)
    const { parentId, pages } = image.manifest
    const parent = parentId === null ? null : await this.#load(account, parentId)
    // Held from here on, so that making room for the child cannot drop its parent.
    if (parent !== null) parent.children += 1
    try {
      await this.#gone([imageId])
      await this.#add(imageId, image)
    } catch (error) {
      if (parent !== null) parent.children -= 1
      throw error
    }
    const resident: Resident = { imageId, parent, pages: pages.length, leases: 0, children: 0 }
    this.#dropping.delete(imageId)
    this.#residents.set(imageId, resident)
    return resident
  }

  /** Makes room once if there is none. */
  async #add(imageId: ImageId, { manifest, pages }: StoredImage): Promise<void> {
    const { host } = this.#deps
    const { parentId } = manifest
    const page = pages(parentId === null ? ALL_ZEROS : (index) => host.page(parentId, index))
    // It was dropped and came into use again before the host let go of it: then the host has kept it.
    if (host.hasImage(imageId)) return
    try {
      host.addImage(imageId, manifest, page)
    } catch (error) {
      if (toCodedError(error).code !== 'ERR_NO_CAPACITY' || !(await this.#makeRoom(manifest.pages.length))) throw error
      host.addImage(imageId, manifest, page)
    }
  }

  /** Drops unused images, longest unused first, until they had `pages` pages. False if there were none to drop. */
  async #makeRoom(pages: number): Promise<boolean> {
    const dropped: ImageId[] = []
    let freedPages = 0
    while (freedPages < pages) {
      const victim = [...this.#residents.values()].find(isUnused)
      if (victim === undefined) break
      this.#drop(victim)
      dropped.push(victim.imageId)
      freedPages += victim.pages
    }
    await this.#gone(dropped)
    return dropped.length > 0
  }

  /** Waits until the host has freed these images that were dropped, or for DROP_WAIT_MAX_MS. */
  async #gone(imageIds: readonly ImageId[]): Promise<void> {
    const { host, clock } = this.#deps
    const deadlineMs = clock.monotonicMs() + DROP_WAIT_MAX_MS
    const isPending = (imageId: ImageId): boolean => this.#dropping.has(imageId) && host.hasImage(imageId)
    while (imageIds.some(isPending) && clock.monotonicMs() < deadlineMs) await new Promise<void>((resolve) => clock.after(DROP_POLL_MS, resolve))
    this.#forgetGone()
  }

  #forgetGone(): void {
    for (const imageId of this.#dropping) if (!this.#deps.host.hasImage(imageId)) this.#dropping.delete(imageId)
  }

  #drop(resident: Resident): void {
    this.#residents.delete(resident.imageId)
    if (resident.parent !== null) resident.parent.children -= 1
    this.#forgetGone()
    this.#dropping.add(resident.imageId)
    this.#deps.host.dropImage(resident.imageId)
    this.#log.debug('an image was dropped', { imageId: resident.imageId, pages: resident.pages })
  }
}

/** I2. */
function isUnused(resident: Resident): boolean {
  return resident.leases === 0 && resident.children === 0
}
