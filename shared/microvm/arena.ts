/**
 * The images of one process, each page held once. The arena is one shared WebAssembly memory: the main thread
 * allocates in it, worker threads only read. Pages are found by content, so functions built from the same libraries
 * share them.
 *
 *   offset 0          never handed out: 0 in a page table means "a page of zeros"
 *   frames of 4 KiB   page contents and page tables, each table with its masks a whole number of frames in a row
 *
 * The trunk is the image that the functions' images descend from: the child of the one without a parent. A mask, a byte
 * for each page of an image, says which granules differ from the trunk's page, so that a slot that goes from one function
 * to another copies only those.
 *
 * Any free frame serves for either. The lowest one that fits is taken, so that what is free lies together at the end;
 * only tables of more than one frame (guests above 4 MiB) can fail for want of a row though as many frames are free.
 *
 * A1  A frame is freed only when no image names it; an image only when no slot holds it (the host waits for that).
 * A2  Offsets stay below 2^31, so that they are positive i32 everywhere.
 * A3  An `add` that throws leaves nothing behind.
 */
import type { ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'
import { MIB } from '../limits.ts'
import { type BlockId, type ImageManifest, PAGE_BYTES, ZERO_BLOCK } from './manifest.ts'
import { GRANULE_SHIFT } from './rewrite/layout.ts'

const WASM_PAGE_BYTES = 65_536
const FRAMES_PER_WASM_PAGE = WASM_PAGE_BYTES / PAGE_BYTES
/** The memory grows by at least a MiB: growing goes through the system. */
const GROW_WASM_PAGES = 16
const TABLE_ENTRY_BYTES = 4
const MASK_BYTES = 1
const GRANULES_PER_PAGE = PAGE_BYTES >> GRANULE_SHIFT
const ZERO_GRANULE = Buffer.alloc(1 << GRANULE_SHIFT)
const FREE = 0
const TAKEN = 1

/** An image as a slot uses it: plain numbers, so that it can be posted to a worker. */
export interface ResidentImage {
  readonly imageId: ImageId
  /** Arena offset of its page table, and the table's length. */
  readonly table: number
  readonly count: number
  /** The trunk or a descendant: masks lie behind its page table. */
  readonly masked: boolean
  /** memory.size of the guest in 64 KiB pages. */
  readonly virtualPages: number
  /** Mutable globals in the order of the engine's global list. */
  readonly globals: readonly number[]
}

interface Entry {
  readonly resident: ResidentImage
  /** What its masks compare with; itself for the trunk, null for the image without a parent. */
  readonly trunk: ResidentImage | null
  readonly blocks: readonly BlockId[]
  readonly tableFrames: number
  readonly parentId: ImageId | null
  children: number
}

export class ImageArena {
  readonly memory: WebAssembly.Memory
  readonly maxBytes: number
  /** FREE or TAKEN for each frame: a byte each, since the search for a byte is native. */
  readonly #frames: Uint8Array
  /** No frame below it is free. */
  #searchFrom = 1
  readonly #frameOf = new Map<BlockId, { offset: number; uses: number }>()
  readonly #images = new Map<ImageId, Entry>()
  #usedFrames = 1

  /** `maxBytes`: what images may take at most, up to 2 GiB. */
  constructor(maxBytes: number) {
    this.maxBytes = Math.min(maxBytes, 2048 * MIB - WASM_PAGE_BYTES)
    const maximum = Math.ceil(this.maxBytes / WASM_PAGE_BYTES)
    this.memory = new WebAssembly.Memory({ initial: 1, maximum, shared: true })
    this.#frames = new Uint8Array(Math.floor(this.maxBytes / PAGE_BYTES))
    this.#frames[0] = TAKEN
  }

  get usedBytes(): number {
    return this.#usedFrames * PAGE_BYTES
  }

  get imageCount(): number {
    return this.#images.size
  }

  get(imageId: ImageId): ResidentImage | undefined {
    return this.#images.get(imageId)?.resident
  }

  /** Adds an image whose parent is here. Throws ERR_NO_CAPACITY and leaves nothing behind when it does not fit. */
  add(imageId: ImageId, manifest: ImageManifest, globals: readonly number[], block: (id: BlockId) => Uint8Array): ResidentImage {
    const known = this.#images.get(imageId)
    if (known !== undefined) return known.resident
    const parent = manifest.parentId === null ? null : this.#images.get(manifest.parentId)
    if (parent === undefined) throw new CodedError('ERR_STORE_BLOCK', [manifest.parentId ?? '', 'not here, though a child image needs it'])

    const lastPage = manifest.pages.at(-1)?.[0] ?? -1
    const count = Math.max(parent?.resident.count ?? 0, lastPage + 1)
    const tableFrames = Math.max(1, Math.ceil((count * (TABLE_ENTRY_BYTES + MASK_BYTES)) / PAGE_BYTES))
    const fresh = new Set(manifest.pages.filter(([, id]) => id !== ZERO_BLOCK && !this.#frameOf.has(id)).map(([, id]) => id))
    if (this.#usedFrames + tableFrames + fresh.size > this.#frames.length) throw this.#noCapacity()

    const table = this.#take(tableFrames)
    const blocks: BlockId[] = []
    try {
      const offsets = new Int32Array(this.memory.buffer, table, (tableFrames * PAGE_BYTES) / 4).fill(0)
      if (parent !== null) offsets.set(new Int32Array(this.memory.buffer, parent.resident.table, parent.resident.count))
      for (const [index, id] of manifest.pages) {
        offsets[index] = id === ZERO_BLOCK ? 0 : this.#hold(id, block)
        if (id !== ZERO_BLOCK) blocks.push(id)
      }
      this.#fillMasks(table, count, manifest, parent)
    } catch (error) {
      for (const id of blocks) this.#release(id)
      this.#free(table, tableFrames)
      throw error
    }
    if (parent !== null) parent.children++
    const resident = { imageId, table, count, masked: parent !== null, virtualPages: manifest.virtualPages, globals }
    const trunk = parent === null ? null : (parent.trunk ?? resident)
    this.#images.set(imageId, { resident, trunk, blocks, tableFrames, parentId: manifest.parentId, children: 0 })
    return resident
  }

  /** Frees an image that no slot holds. An image with children stays. Returns whether it is gone. */
  remove(imageId: ImageId): boolean {
    const entry = this.#images.get(imageId)
    if (entry === undefined) return true
    if (entry.children > 0) return false
    this.#images.delete(imageId)
    for (const id of entry.blocks) this.#release(id)
    this.#free(entry.resident.table, entry.tableFrames)
    const parent = entry.parentId === null ? undefined : this.#images.get(entry.parentId)
    if (parent !== undefined) parent.children--
    return true
  }

  /** A copy of one page as the image has it. */
  page(image: ResidentImage, index: number): Uint8Array {
    const offset = this.#offsetOf(image, index)
    return offset === 0 ? new Uint8Array(PAGE_BYTES) : new Uint8Array(this.memory.buffer, offset, PAGE_BYTES).slice()
  }

  /** Masks of the pages that its chain changed; the trunk differs nowhere from itself. */
  #fillMasks(table: number, count: number, manifest: ImageManifest, parent: Entry | null): void {
    const masks = new Uint8Array(this.memory.buffer, table + count * TABLE_ENTRY_BYTES, count).fill(0)
    const trunk = parent?.trunk ?? null
    if (parent === null || trunk === null) return
    const { resident } = parent
    masks.set(new Uint8Array(this.memory.buffer, resident.table + resident.count * TABLE_ENTRY_BYTES, resident.count))
    const own = new Int32Array(this.memory.buffer, table, count)
    for (const [index] of manifest.pages) masks[index] = this.#differingGranules(own[index] ?? 0, this.#offsetOf(trunk, index))
  }

  #differingGranules(a: number, b: number): number {
    let mask = 0
    for (let granule = 0; granule < GRANULES_PER_PAGE; granule++) {
      const at = granule << GRANULE_SHIFT
      if (!this.#granule(a, at).equals(this.#granule(b, at))) mask |= 1 << granule
    }
    return mask
  }

  #granule(page: number, at: number): Buffer {
    return page === 0 ? ZERO_GRANULE : Buffer.from(this.memory.buffer, page + at, 1 << GRANULE_SHIFT)
  }

  #offsetOf(image: ResidentImage, index: number): number {
    return index < image.count ? (new Int32Array(this.memory.buffer, image.table, image.count)[index] ?? 0) : 0
  }

  #hold(id: BlockId, block: (id: BlockId) => Uint8Array): number {
    const held = this.#frameOf.get(id)
    if (held !== undefined) {
      held.uses++
      return held.offset
    }
    const content = block(id)
    const offset = this.#take(1)
    new Uint8Array(this.memory.buffer, offset, PAGE_BYTES).set(content)
    this.#frameOf.set(id, { offset, uses: 1 })
    return offset
  }

  #release(id: BlockId): void {
    const held = this.#frameOf.get(id)
    if (held === undefined || --held.uses > 0) return
    this.#frameOf.delete(id)
    this.#free(held.offset, 1)
  }

  /** Offset of the lowest `count` frames in a row. */
  #take(count: number): number {
    const frames = this.#frames
    let first = frames.indexOf(FREE, this.#searchFrom)
    this.#searchFrom = first === -1 ? frames.length : first
    while (first !== -1) {
      const end = this.#endOfRow(first, count)
      if (end - first === count) break
      first = frames.indexOf(FREE, end)
    }
    if (first === -1) throw this.#noCapacity()
    this.#growTo(first + count)
    frames.fill(TAKEN, first, first + count)
    this.#usedFrames += count
    return first * PAGE_BYTES
  }

  /** The first frame from `first` on that is not free, at most `count` further. */
  #endOfRow(first: number, count: number): number {
    const end = Math.min(first + count, this.#frames.length)
    for (let frame = first; frame < end; frame++) if (this.#frames[frame] !== FREE) return frame
    return end
  }

  #free(offset: number, count: number): void {
    const first = offset / PAGE_BYTES
    this.#frames.fill(FREE, first, first + count)
    this.#searchFrom = Math.min(this.#searchFrom, first)
    this.#usedFrames -= count
  }

  #growTo(frames: number): void {
    const haveWasmPages = this.memory.buffer.byteLength / WASM_PAGE_BYTES
    const missing = Math.ceil(frames / FRAMES_PER_WASM_PAGE) - haveWasmPages
    if (missing <= 0) return
    try {
      this.memory.grow(Math.max(missing, Math.min(GROW_WASM_PAGES, Math.ceil(this.maxBytes / WASM_PAGE_BYTES) - haveWasmPages)))
    } catch {
      // A RangeError: the system gives no more memory, which to who publishes or pulls an image is the same.
      throw this.#noCapacity()
    }
  }

  #noCapacity(): CodedError {
    return new CodedError('ERR_NO_CAPACITY', [Math.floor(this.maxBytes / MIB)])
  }
}
