/**
 * A slot: one pooled wasm instance that holds one machine at a time. It knows pages, flags, globals and limits, and
 * nothing of JavaScript or invocations.
 *
 * S1  Between machines a slot is clean: memory equals its image bit for bit (zeros beyond), no flag is set, globals are
 *     the image's, the function table is as it was linked. `verify` is the proof, `reset` the way there.
 * S2  Whatever writes guest memory sets the flag of the granule first: rewritten stores inside, `markWrite` outside.
 * S3  No view of guest memory outlives the call that took it: growth detaches views and a reset changes what is under
 *     them. `bytes` is the one accessor.
 */
import type { ResidentImage } from './arena.ts'
import type { Engine } from './engine.ts'
import { createMemories, type ExtensionBase, type HostImports, type LinkedInstance, linkInstance } from './instance.ts'
import { forEachRun, readState, StateWriter } from './machine-state.ts'
import { PAGE_BYTES } from './manifest.ts'
import { CONTROL_OFFSET, DIRTY_TAIL_BYTES, GRANULE_SHIFT } from './rewrite/layout.ts'

const WASM_PAGE_BYTES = 65_536
const FUEL = 0
const FUEL_LEAST = -0x7fff_ffff
const VIRTUAL_PAGES = 1
const LIMIT_PAGES = 2
const TABLE_WRITTEN = 3
const WORDS_PER_PAGE = PAGE_BYTES / 4
const GRANULES_PER_PAGE = PAGE_BYTES >>> GRANULE_SHIFT
/** Where `changes` of page-ops.wat writes, in the flags memory beyond the control block. */
const CHANGES_OFFSET = 0x800100
const EMPTY_IMAGE = { table: 0, count: 0 }

/** The private state of a parked machine: the 32-bit words in which it differs from its image. */
export interface PrivateState {
  /** Pairs of word address (byte address / 4), ascending, and content. */
  readonly changed: Int32Array
  readonly globals: readonly number[]
  readonly virtualPages: number
}

/** What a private state keeps resident. */
export function parkedBytes({ changed }: PrivateState): number {
  return changed.byteLength
}

export class Slot {
  readonly instance: LinkedInstance
  #image: ResidentImage
  /** Physical size in 4 KiB pages as of the last look; grows only. */
  #pages: number
  #bytes: Uint8Array
  #words: Int32Array
  readonly #control: Int32Array
  readonly #flags: Uint8Array

  /** Links a new instance and applies `image`. Costs milliseconds: never on a request path. */
  constructor(engine: Engine, arena: WebAssembly.Memory, bases: readonly ExtensionBase[], image: ResidentImage, host: HostImports) {
    this.instance = linkInstance(engine, arena, createMemories(image.virtualPages), host, (_extension, _exports, _table, index) => bases[index] ?? { memory: 0, table: 0 })
    this.#flags = new Uint8Array(this.instance.flags.buffer, 0, CONTROL_OFFSET)
    this.#control = new Int32Array(this.instance.flags.buffer, CONTROL_OFFSET, 16)
    this.#bytes = new Uint8Array(this.instance.memory.buffer)
    this.#words = new Int32Array(this.instance.memory.buffer)
    this.#pages = this.#bytes.length / PAGE_BYTES
    this.#image = image
    this.instance.pageOps.reimage(EMPTY_IMAGE.table, EMPTY_IMAGE.count, image.table, image.count, this.#pages)
    this.#restoreGlobals(image.globals)
  }

  get image(): ResidentImage {
    return this.#image
  }

  /** All of guest memory, valid until the guest runs again or the slot is reset. */
  get bytes(): Uint8Array {
    if (this.#bytes.length === 0) this.#refresh()
    return this.#bytes
  }

  /** The same as 32-bit words, little-endian as wasm is (Outpost runs on little-endian hosts only). */
  get words(): Int32Array {
    if (this.#bytes.length === 0) this.#refresh()
    return this.#words
  }

  /** Physical bytes: what the slot keeps resident at most, and keeps even after a reset. */
  get physicalBytes(): number {
    if (this.#bytes.length === 0) this.#refresh()
    return this.#bytes.length
  }

  get virtualBytes(): number {
    return (this.#control[VIRTUAL_PAGES] ?? 0) * WASM_PAGE_BYTES
  }

  /** The slot's function table was written, which no reset undoes: retire it. */
  get tableWritten(): boolean {
    return this.#control[TABLE_WRITTEN] !== 0
  }

  /** Pages written since the last reset. Costs a look at every flag. */
  get dirtyPages(): number {
    return this.dirtyPageIndexes.length
  }

  /** Which they are, ascending. */
  get dirtyPageIndexes(): number[] {
    this.#refresh()
    const indexes: number[] = []
    for (let page = 0; page < this.#pages; page++) if (this.#isDirty(page)) indexes.push(page)
    return indexes
  }

  /** Marks `length` bytes from `ptr` as about to be written by the host (S2). */
  markWrite(ptr: number, length: number): void {
    const last = (ptr + length - 1) >>> GRANULE_SHIFT
    for (let granule = ptr >>> GRANULE_SHIFT; granule <= last; granule++) this.#flags[granule] = 1
  }

  /** Fuel units until the guest must ask; about one per loop turn. */
  grantFuel(units: number): void {
    this.#control[FUEL] = units
  }

  /** Takes fuel for what the host did in the guest's stead; below zero the guest has to ask at its next loop turn. */
  chargeFuel(units: number): void {
    this.#control[FUEL] = Math.max(FUEL_LEAST, (this.#control[FUEL] ?? 0) - units)
  }

  /** Makes a clean slot ready for a run: `limitPages` bounds memory.grow, in 64 KiB pages. */
  arm(limitPages: number): void {
    this.#control[VIRTUAL_PAGES] = this.#image.virtualPages
    this.#control[LIMIT_PAGES] = limitPages
  }

  /** memory.grow fails from here on. */
  capGrowth(): void {
    this.#control[LIMIT_PAGES] = this.#control[VIRTUAL_PAGES] ?? 0
  }

  /** A store that traps may have set a flag beyond the physical memory, where no reset looks. Call after a trap, before `reset`. */
  clearStrayFlags(): void {
    this.#refresh()
    for (let at = this.#flags.indexOf(1, this.#pages * GRANULES_PER_PAGE); at !== -1; at = this.#flags.indexOf(1, at + 1)) this.#flags[at] = 0
  }

  /** Back to the image (S1). Returns the number of pages restored. */
  reset(): number {
    this.#refresh()
    const restored = this.instance.pageOps.reset(this.#image.table, this.#image.count, this.#pages)
    this.#clearControl()
    this.#restoreGlobals(this.#image.globals)
    return restored
  }

  /** Turns a clean slot into another image. Returns the number of pages copied. */
  reimage(to: ResidentImage): number {
    const from = this.#image
    if (from.table === to.table) return 0
    const missing = to.virtualPages - this.#bytes.length / WASM_PAGE_BYTES
    if (missing > 0) this.instance.memory.grow(missing)
    this.#refresh()
    const { pageOps } = this.instance
    const copied = (from.masked && to.masked ? pageOps.switch : pageOps.reimage)(from.table, from.count, to.table, to.count, this.#pages)
    this.#image = to
    this.#restoreGlobals(to.globals)
    return copied
  }

  /** The oracle. Null when S1 holds, else what differs; `page` is -1 when it is not a page. */
  verify(): { readonly page: number; readonly what: string } | null {
    this.#refresh()
    const page = this.instance.pageOps.verify(this.#image.table, this.#image.count, this.#pages)
    if (page !== -1) return { page, what: `page ${page}` }
    const global = this.instance.globals.findIndex((each, index) => Number(each.value) !== this.#image.globals[index])
    if (global !== -1) return { page: -1, what: `global ${global}` }
    if (this.#control.some((value) => value !== 0)) return { page: -1, what: 'control block' }
    return null
  }

  /**
   * Takes out what the machine wrote, so that the slot can be reset and serve another. The guest must be idle. A
   * request dirties many pages and changes few words of each (reference counts above all), so only words that differ
   * from the image are kept.
   */
  park(): PrivateState {
    const parts: Int32Array[] = []
    this.#eachChange((pairs) => parts.push(pairs.slice()))
    const changed = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0))
    let at = 0
    for (const part of parts) {
      changed.set(part, at)
      at += part.length
    }
    return { changed, globals: this.#globalValues(), virtualPages: this.#control[VIRTUAL_PAGES] ?? 0 }
  }

  /** The same as bytes that any process can restore; null if they are more than `maxBytes`. The guest must be idle. */
  capture(maxBytes: number, collectAboveBytes: number): Uint8Array | null {
    const virtualPages = this.#control[VIRTUAL_PAGES] ?? 0
    const writer = new StateWriter(this.#image, { virtualPages, globals: this.#globalValues(), collectAboveBytes }, maxBytes)
    this.#eachChange((pairs) => writer.add(pairs))
    return writer.finish()
  }

  /**
   * Puts a captured machine of the slot's present image back. The slot must be clean and armed. Throws ERR_SESSION_STATE
   * and leaves the slot as it was if `bytes` are no such machine within `limitPages`. Returns what `capture` was told.
   */
  restore(bytes: Uint8Array, limitPages: number): { readonly collectAboveBytes: number } {
    const { virtualPages, globals, runs, collectAboveBytes } = readState(bytes, this.#image, limitPages)
    const missing = virtualPages - this.#bytes.length / WASM_PAGE_BYTES
    if (missing > 0) this.instance.memory.grow(missing)
    this.#refresh()
    const words = this.#words
    // Most runs are a few words long: a view of each would cost more than copying it.
    forEachRun(runs, (address, at, count) => {
      this.markWrite(address * 4, count * 4)
      for (let index = 0; index < count; index++) words[address + index] = runs[at + index] ?? 0
    })
    this.#control[VIRTUAL_PAGES] = virtualPages
    this.#restoreGlobals(globals)
    return { collectAboveBytes }
  }

  /** Puts a parked machine of the slot's present image back. The slot must be clean and armed. */
  unpark(state: PrivateState): void {
    const missing = state.virtualPages - this.#bytes.length / WASM_PAGE_BYTES
    if (missing > 0) this.instance.memory.grow(missing)
    this.#refresh()
    const { changed } = state
    for (let at = 0; at < changed.length; at += 2) {
      const address = (changed[at] ?? 0) >>> 0
      this.#flags[address >>> (GRANULE_SHIFT - 2)] = 1
      this.#words[address] = changed[at + 1] ?? 0
    }
    this.#control[VIRTUAL_PAGES] = state.virtualPages
    this.#restoreGlobals(state.globals)
  }

  /** Gives the words that differ from the image, ascending, as pairs that are valid during the call. */
  #eachChange(use: (pairs: Int32Array) => void): void {
    this.#refresh()
    const { table, count } = this.#image
    const { changes } = this.instance.pageOps
    const collect = (page: number, words: number): void => {
      const pairs = changes(table, count, page, words)
      if (pairs > 0) use(new Int32Array(this.instance.flags.buffer, CHANGES_OFFSET, pairs * 2))
    }
    for (let page = 0; page < this.#pages; page++) {
      if (!this.#isDirty(page)) continue
      collect(page, WORDS_PER_PAGE)
      // A store that straddles a page end flags only the first page.
      if (page + 1 < this.#pages && !this.#isDirty(page + 1)) collect(page + 1, DIRTY_TAIL_BYTES / 4)
    }
  }

  #globalValues(): number[] {
    return this.instance.globals.map((global) => Number(global.value))
  }

  #isDirty(page: number): boolean {
    const first = page * GRANULES_PER_PAGE
    for (let granule = first; granule < first + GRANULES_PER_PAGE; granule++) if (this.#flags[granule] !== 0) return true
    return false
  }

  #refresh(): void {
    const { buffer } = this.instance.memory
    if (this.#bytes.buffer === buffer) return
    this.#bytes = new Uint8Array(buffer)
    this.#words = new Int32Array(buffer)
    this.#pages = this.#bytes.length / PAGE_BYTES
  }

  #clearControl(): void {
    this.#control.fill(0)
  }

  #restoreGlobals(values: readonly number[]): void {
    const { globals } = this.instance
    for (let index = 0; index < globals.length; index++) {
      const global = globals[index]
      const value = values[index] ?? 0
      if (global !== undefined && global.value !== value) global.value = value
    }
  }
}
