/**
 * Mending and looking after blocks.
 *
 * A lost block is made anew from another copy of its content, one that was sealed with another salt: whoever's manifest
 * names that copy has its key, and from the content follows our block, byte for byte. Or it is asked for from another
 * region. Either way its id says whether it is the right one.
 *
 * A scrub reads every block once in a while, so that damage is found while another copy is still there. It reads no
 * faster than it is told to.
 */
import type { Clock } from '../clock.ts'
import { toCodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import { blockKey, contentDigest, openBlock, sealBlock } from './block-seal.ts'
import type { ObjectStore } from './object-store.ts'
import type { Copy, ObjectKey } from './object-tables.ts'
import { decodeSealedManifest, openManifest } from './sealed-manifest.ts'
import type { BlockSource, SealedBlockId } from './types.ts'

export interface RepairerOptions {
  readonly store: ObjectStore
  readonly log: Log
  /** Where else a block may be had; null: nowhere. */
  readonly peer: BlockSource | null
}

/** Blocks that wait to be repaired; more are left to the next scrub. */
const REPAIRS_WAITING_MAX = 1_000
const OBJECTS_PER_TURN = 50

export class Repairer {
  readonly #options: RepairerOptions
  readonly #log: Log
  readonly #waiting = new Set<SealedBlockId>()
  #running: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(options: RepairerOptions) {
    this.#options = options
    this.#log = options.log.child('store-repair')
  }

  /** Repairs whatever a read finds damaged from now on, in the background and one after another. */
  watch(): void {
    this.#options.store.onDamaged = (id) => {
      if (this.#stopped || this.#waiting.has(id) || this.#waiting.size >= REPAIRS_WAITING_MAX) return
      this.#waiting.add(id)
      this.#running = this.#running.then(() => this.#repairWaiting(id))
    }
  }

  /** Resolves when nothing is waiting to be repaired. */
  idle(): Promise<void> {
    return this.#running
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  /** False if there is no way to mend it: the next put that brings its content will. Throws ERR_STORE_FULL, ERR_STORE_FAILED. */
  async repair(id: SealedBlockId): Promise<boolean> {
    const { store, peer } = this.#options
    const row = store.tables.blockRow(id)
    if (row === null) return false
    for (const twin of store.tables.copies(row.contentName)) {
      if (twin.id !== id && store.hasBlock(twin.id) && (await this.#repairFrom(id, row.saltId, twin))) return true
    }
    const bytes = await peer?.fetchBlock(id).catch((error: unknown) => {
      this.#log.warn('another region could not be asked for a block', { id, reason: String(error) })
      return null
    })
    return bytes !== null && bytes !== undefined && (await store.replaceBlock(id, bytes))
  }

  /** Never rejects. */
  async #repairWaiting(id: SealedBlockId): Promise<void> {
    try {
      if (this.#stopped) return
      const repaired = await this.repair(id)
      if (repaired) this.#log.warn('a damaged block was repaired', { id })
      else this.#log.error('a damaged block could not be repaired', { id })
    } catch (error) {
      this.#log.error('a damaged block could not be repaired', { id, code: toCodedError(error).code, reason: toCodedError(error).message })
    } finally {
      this.#waiting.delete(id)
    }
  }

  async #repairFrom(id: SealedBlockId, saltId: number, twin: Copy): Promise<boolean> {
    const { store } = this.#options
    const holder = await this.#holderOf(twin.id)
    if (holder === null) return false
    try {
      const content = openBlock(holder.key, twin.id, store.sealedBlock(twin.id))
      const digest = contentDigest(content)
      // Both domains in which the holder may have stored it; the id tells which.
      for (const domain of ['', holder.account]) {
        const sealed = sealBlock(blockKey(domain, saltId, digest), content)
        if (sealed.id === id) return await store.replaceBlock(id, sealed.bytes)
      }
      return false
    } catch (error) {
      if (toCodedError(error).code === 'ERR_STORE_BLOCK') return false
      throw error
    }
  }

  /** An object that names a block, and the block's key. Looks through all manifests: damage is rare. */
  async #holderOf(id: SealedBlockId): Promise<{ readonly account: string; readonly key: Parameters<typeof openBlock>[0] } | null> {
    const { store } = this.#options
    for (let after: ObjectKey | null = null; ;) {
      const keys: ObjectKey[] = store.tables.objectsAfter(after, OBJECTS_PER_TURN)
      after = keys.at(-1) ?? null
      if (after === null) return null
      for (const object of keys) {
        const key = this.#keyIn(object, id)
        if (key !== null) return { account: object.account, key }
      }
      await new Promise<void>((resolve) => setImmediate(resolve))
    }
  }

  #keyIn(object: ObjectKey, id: SealedBlockId): Parameters<typeof openBlock>[0] | null {
    const { store } = this.#options
    const row = store.tables.object(object)
    const encoded = store.tables.manifest(object)
    if (row === null || encoded === null) return null
    try {
      const manifest = decodeSealedManifest(encoded, object.objectId)
      const index = manifest.pieces.findIndex((piece) => piece.id === id)
      if (index === -1) return null
      return openManifest(store.keyring.unwrap(object.account, object.objectId, row.wrapped), manifest).keys[index] ?? null
    } catch {
      // Damaged itself: another object may name the block as well.
      return null
    }
  }
}

export interface ScrubberOptions {
  readonly store: ObjectStore
  readonly clock: Clock
  readonly log: Log
  /** At most so much is read, on average over SCRUB_TICK_MS. */
  readonly bytesPerSecond: number
  /** Between the end of one pass over everything and the begin of the next. */
  readonly pauseMs: number
}

export interface ScrubEvents {
  passes: number
  blocks: number
  bytes: number
  damaged: number
}

const SCRUB_TICK_MS = 100

export class Scrubber {
  readonly events: ScrubEvents = { passes: 0, blocks: 0, bytes: 0, damaged: 0 }
  readonly #options: ScrubberOptions
  readonly #log: Log
  #after: SealedBlockId | null = null
  /** Bytes read beyond what was allowed so far; paid for with ticks. */
  #debtBytes = 0
  #cancel: () => void = () => undefined
  #stopped = false

  constructor(options: ScrubberOptions) {
    this.#options = options
    this.#log = options.log.child('store-scrub')
  }

  start(): void {
    this.#schedule(SCRUB_TICK_MS)
  }

  stop(): void {
    this.#stopped = true
    this.#cancel()
  }

  #schedule(delayMs: number): void {
    if (!this.#stopped) this.#cancel = this.#options.clock.after(delayMs, () => this.#tick())
  }

  #tick(): void {
    const allowedBytes = (this.#options.bytesPerSecond * SCRUB_TICK_MS) / 1000
    this.#debtBytes = Math.max(0, this.#debtBytes - allowedBytes)
    let ended = false
    try {
      while (this.#debtBytes < allowedBytes && !ended) ended = !this.#readNext()
    } catch (error) {
      this.#log.error('a scrub failed and goes on later', { reason: toCodedError(error).message })
    }
    if (ended) this.events.passes += 1
    this.#schedule(ended ? this.#options.pauseMs : SCRUB_TICK_MS)
  }

  /** False at the end of the store. What is damaged is reported by the store itself. */
  #readNext(): boolean {
    const { store } = this.#options
    const [id] = store.tables.blocksAfter(this.#after, 1)
    this.#after = id ?? null
    if (id === undefined) return false
    const bytes = store.tables.blockRow(id)?.bytes ?? 0
    if (store.checkBlock(id) !== 'intact') this.events.damaged += 1
    this.#debtBytes += bytes
    this.events.bytes += bytes
    this.events.blocks += 1
    return true
  }
}
