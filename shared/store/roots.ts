/**
 * Garbage collection by roots: nothing is deleted because a count says zero, only because a whole pass over everything
 * that is live did not claim it.
 *
 *   root n     active ---------> read-only --------------> retired ---------> gone
 *   root n+1                     active -------------------------------------> ...
 *                  begin: new claims      every live object   grace, reads
 *                  go to n+1              claimed into n+1    raise an alarm
 *
 * What is put is claimed for the active root, and what is committed is claimed in the commit's own transaction. So
 * whatever is named while a pass runs is claimed by its own commit, and what was named before is met by the pass.
 *
 * G1: what a live record names carries the active root, or the one before until the pass over the live ones is done.
 * G2: only rows numbered up to the retired root are deleted, each looked at again inside the transaction that deletes it.
 * G3: a read of what only a retired root claims is a fault of whoever said what is live. It is served, and the deletion
 *     does not happen: the next pass decides anew.
 * G4: each step is one bounded transaction, and the state is on disk: a crash at any point loses no more than the place
 *     in a pass, which then starts over.
 */
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { logicalBytesOf, type ObjectStore } from './object-store.ts'
import type { ObjectKey, ObjectTables } from './object-tables.ts'
import type { SealedBlockId } from './types.ts'

export interface CollectorOptions {
  readonly store: ObjectStore
  /**
   * Every object that some record names, in any order, more than once if it likes. It is read while records change:
   * it must come past every record that is there from its start to its end.
   */
  readonly live: () => Iterable<ObjectKey>
  readonly clock: Clock
  readonly log: Log
  /** How long a retired root is kept. Longer than any put takes to be committed, and than any read takes. */
  readonly graceMs: number
  /** Rows of one transaction. Default ROWS_PER_STEP. */
  readonly rowsPerStep?: number
}

export type CollectorStep =
  | { readonly kind: 'began'; readonly root: number }
  | { readonly kind: 'claimed'; readonly objects: number }
  | { readonly kind: 'retired'; readonly root: number }
  | { readonly kind: 'deleted'; readonly objects: number; readonly blocks: number; readonly blockBytes: number }
  /** G3. */
  | { readonly kind: 'kept'; readonly root: number }
  | { readonly kind: 'swept'; readonly root: number }

export interface CollectorEvents {
  cycles: number
  objectsDeleted: number
  blocksDeleted: number
  bytesDeleted: number
  deletionsPutOff: number
  /** Live objects that were not there to be claimed. */
  liveMissing: number
}

/** About a millisecond of one thread. */
const ROWS_PER_STEP = 200

export class Collector {
  readonly events: CollectorEvents = { cycles: 0, objectsDeleted: 0, blocksDeleted: 0, bytesDeleted: 0, deletionsPutOff: 0, liveMissing: 0 }
  readonly #options: CollectorOptions
  readonly #store: ObjectStore
  readonly #tables: ObjectTables
  readonly #log: Log
  readonly #rowsPerStep: number
  #running: Promise<void> | null = null
  #stopped = false

  constructor(options: CollectorOptions) {
    this.#options = options
    this.#store = options.store
    this.#tables = options.store.tables
    this.#log = options.log.child('store-gc')
    this.#rowsPerStep = options.rowsPerStep ?? ROWS_PER_STEP
  }

  /** Goes as far as it can now: a pass, and the deletion of a root whose grace is over. Who calls meanwhile shares it. */
  run(onStep: (step: CollectorStep) => void = () => undefined): Promise<void> {
    this.#running ??= this.#runNow(onStep).finally(() => {
      this.#running = null
    })
    return this.#running
  }

  /** Ends a run after the step that it is at. */
  async stop(): Promise<void> {
    this.#stopped = true
    // Whoever started it has its failure.
    await this.#running?.catch(() => undefined)
  }

  /**
   * The steps of `run`, each done when it is given: what is on disk between any two of them is a state that a crash may
   * leave. Only one sequence may be under way.
   */
  async *steps(): AsyncGenerator<CollectorStep> {
    if (this.#tables.roots().retired === null) {
      if (this.#tables.roots().readOnly === null) yield await this.#begin()
      yield* this.#claimLive()
      yield await this.#retire()
    }
    const { retired } = this.#tables.roots()
    const nowMs = this.#options.clock.nowMs()
    // The clock was set back: the grace begins anew, or it might last for years.
    if (retired !== null && nowMs < retired.sinceMs) yield await this.#retireAt(retired.number, nowMs)
    if (retired === null || nowMs < Math.min(retired.sinceMs, nowMs) + this.#options.graceMs) return
    if (!retired.alarmed) yield* this.#sweep(retired.number)
    yield await this.#end(retired.number)
  }

  async #runNow(onStep: (step: CollectorStep) => void): Promise<void> {
    for await (const step of this.steps()) {
      onStep(step)
      if (this.#stopped) return
      // Between two transactions everybody else has a turn.
      await new Promise<void>((resolve) => setImmediate(resolve))
    }
  }

  async #begin(): Promise<CollectorStep> {
    const root = await this.#write(() => {
      const { active, retired } = this.#tables.roots()
      this.#tables.putRoots({ active: active + 1, readOnly: active, retired })
      return active + 1
    })
    return { kind: 'began', root }
  }

  async *#claimLive(): AsyncGenerator<CollectorStep> {
    let batch: ObjectKey[] = []
    let objects = 0
    for (const key of this.#options.live()) {
      batch.push(key)
      if (batch.length < this.#rowsPerStep) continue
      objects += await this.#claim(batch)
      batch = []
      yield { kind: 'claimed', objects }
    }
    objects += await this.#claim(batch)
    yield { kind: 'claimed', objects }
  }

  async #claim(batch: readonly ObjectKey[]): Promise<number> {
    const { active } = this.#tables.roots()
    const old = batch.filter((key) => (this.#tables.object(key)?.root ?? 0) < active)
    if (old.length === 0) return batch.length
    const missing = await this.#write(() => old.filter(({ account, objectId }) => !this.#store.claimInTransaction(account, objectId)))
    for (const { objectId } of missing) {
      this.events.liveMissing += 1
      this.#log.error('an object that a record names is not there', { objectId })
    }
    return batch.length - missing.length
  }

  async #retire(): Promise<CollectorStep> {
    const root = await this.#write(() => {
      const roots = this.#tables.roots()
      const number = roots.active - 1
      this.#tables.putRoots({ active: roots.active, readOnly: null, retired: { number, sinceMs: this.#options.clock.nowMs(), alarmed: false } })
      return number
    })
    this.events.cycles += 1
    return { kind: 'retired', root }
  }

  async #retireAt(root: number, sinceMs: number): Promise<CollectorStep> {
    await this.#write(() => {
      const roots = this.#tables.roots()
      if (roots.retired?.number === root) this.#tables.putRoots({ ...roots, retired: { ...roots.retired, sinceMs } })
    })
    return { kind: 'retired', root }
  }

  /** G2. Objects first: what is deleted then is never named by an object that stays. */
  async *#sweep(root: number): AsyncGenerator<CollectorStep> {
    for (let after: ObjectKey | null = null; ;) {
      const keys: ObjectKey[] = this.#tables.objectsAfter(after, this.#rowsPerStep)
      after = keys.at(-1) ?? null
      if (after === null) break
      const dead = keys.filter((key) => (this.#tables.object(key)?.root ?? Number.POSITIVE_INFINITY) <= root)
      if (dead.length > 0) yield await this.#write(() => this.#deleteObjects(dead, root))
    }
    for (let after: SealedBlockId | null = null; ;) {
      const ids: SealedBlockId[] = this.#tables.blocksAfter(after, this.#rowsPerStep)
      after = ids.at(-1) ?? null
      if (after === null) break
      const dead = ids.filter((id) => (this.#tables.blockRow(id)?.root ?? Number.POSITIVE_INFINITY) <= root)
      if (dead.length > 0) yield await this.#write(() => this.#deleteBlocks(dead, root))
    }
  }

  async #end(root: number): Promise<CollectorStep> {
    const alarmed = await this.#write(() => {
      const roots = this.#tables.roots()
      this.#tables.putRoots({ ...roots, retired: null })
      return roots.retired?.alarmed === true
    })
    if (!alarmed) return { kind: 'swept', root }
    this.events.deletionsPutOff += 1
    return { kind: 'kept', root }
  }

  /** Nothing once an alarm was raised, which may have been in the middle of a sweep. */
  #mayDelete(root: number): boolean {
    const { retired } = this.#tables.roots()
    return retired?.number === root && !retired.alarmed
  }

  #deleteObjects(keys: readonly ObjectKey[], root: number): CollectorStep {
    let objects = 0
    for (const key of this.#mayDelete(root) ? keys : []) {
      const row = this.#tables.object(key)
      if (row === null || row.root > root) continue
      const encoded = this.#tables.manifest(key)
      this.#tables.removeObject(key)
      this.#tables.addCounts({ objects: -1, manifestBytes: -(encoded?.byteLength ?? 0), logicalBytes: encoded === null ? 0 : -logicalBytesOf(encoded, key.objectId) })
      objects += 1
    }
    this.events.objectsDeleted += objects
    return { kind: 'deleted', objects, blocks: 0, blockBytes: 0 }
  }

  #deleteBlocks(ids: readonly SealedBlockId[], root: number): CollectorStep {
    let blocks = 0
    let blockBytes = 0
    for (const id of this.#mayDelete(root) ? ids : []) {
      const row = this.#tables.blockRow(id)
      if (row === null || row.root > root) continue
      this.#tables.putCopies(row.contentName, this.#tables.copies(row.contentName).filter((copy) => copy.id !== id))
      this.#tables.removeBlock(id)
      blocks += 1
      blockBytes += row.bytes
      this.#tables.addCounts({ blocks: -1, blockBytes: -row.bytes })
    }
    this.events.blocksDeleted += blocks
    this.events.bytesDeleted += blockBytes
    return { kind: 'deleted', objects: 0, blocks, blockBytes }
  }

  #write<T>(action: () => T): Promise<T> {
    return this.#store.environment.write({ kind: 'removes' }, action)
  }
}
