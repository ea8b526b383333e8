/**
 * This node's tables as a mirror of the heads that all nodes share: what is told by the watch is made complete (rows
 * fetched, images brought) and put into the tables in the order of revisions.
 *
 *   watch --> queue --> prepare, some ahead at once --> adopt, a batch in one transaction --> listeners of the registry
 *
 * M1: changes are adopted in order. `seq` then says that every change up to it is in the tables.
 * M2: the rows of a head are waited for, its images only for MIRROR_OBJECTS_WAIT_MS, and before the first time that the
 *     mirror is current not at all: they are fetched behind it, and when they are wanted.
 * M3: the shared store has an identity, made by the first node. A mirror of another identity, or of none, gives what it
 *     has and the store has not, and takes the rest: an embedded region that gets NATS brings its functions along, and
 *     a store that was lost is filled again by whoever still has it.
 * M4: of the same store, but further behind than it remembers deletions: what it does not tell is deleted. What is here
 *     with a later revision than there is not: then the store has lost its end, as in a power cut, and gets it back.
 */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../shared/clock.ts'
import type { Documents, Watch } from '../shared/coordination/types.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { COORDINATION_TIMEOUT_MS, MIRROR_BATCH_MAX, MIRROR_OBJECTS_WAIT_MS } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import { decodeHead, digestsOf, encodeHead, objectsOf, rowsOf, stateFrom, type FunctionState } from './function-state.ts'
import type { ForeignState, Registry } from './registry.ts'
import type { SharedContent } from './shared-content.ts'

export interface MirrorOptions {
  readonly registry: Registry
  readonly documents: Documents
  readonly shared: SharedContent
  readonly clock: Clock
  readonly log: Log
}

interface TellingItem {
  readonly kind: 'told'
  readonly account: string
  readonly functionName: string
  readonly revision: number
  readonly value: Uint8Array | null
}

type Item =
  | TellingItem
  /** All that is there has been told; the keys of it, if it was told from the beginning. `same`: as the mirror was of before. */
  | { readonly kind: 'current'; readonly identity: string; readonly same: boolean; readonly everything: ReadonlySet<string> | null }

interface Waiter {
  readonly isDone: () => boolean
  readonly resolve: () => void
}

const IDENTITY_KEY = 'identity'
const PROBE_KEY = 'probe'
const AGAIN_MS = 500
const ROW_TRIES_MAX = 5
const FETCH_AGAIN_MS = 30_000

export function headKey(account: string, functionName: string): string {
  return `${account}/${functionName}`
}

export class Mirror {
  readonly #options: MirrorOptions
  readonly #log: Log
  readonly #queue: Item[] = []
  readonly #waiters = new Set<Waiter>()
  /** Functions of which images are missing here. */
  readonly #wanted = new Map<string, { readonly account: string; readonly functionName: string }>()
  #watch: Watch | null = null
  #current = false
  #stopped = false
  #pumping: Promise<void> | null = null
  #fetching: Promise<void> | null = null
  #wakeStopped: () => void = () => undefined
  readonly #whenStopped: Promise<void>

  constructor(options: MirrorOptions) {
    this.#options = options
    this.#log = options.log.child('region-mirror')
    this.#whenStopped = new Promise((resolve) => {
      this.#wakeStopped = resolve
    })
  }

  get current(): boolean {
    return this.#current
  }

  get known(): boolean {
    return this.#options.registry.note(IDENTITY_KEY) !== null
  }

  start(): void {
    void this.#begin('from-the-last')
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#wakeStopped()
    this.#watch?.stop()
    this.#queue.length = 0
    for (const { resolve } of this.#waiters) resolve()
    await this.#pumping
    await this.#fetching
  }

  /** Rejects with ERR_COORDINATION_UNREACHABLE if it takes too long. */
  untilCurrent(): Promise<void> {
    return this.#until(() => this.#current)
  }

  /** Until the mirror has this revision of a function, or a later one. Rejects as `untilCurrent`. */
  untilApplied(account: string, functionName: string, revision: number): Promise<void> {
    return this.#until(() => this.#options.registry.seqOf(account, functionName) >= revision)
  }

  /** Until the mirror has something other than `seq`. */
  untilChanged(account: string, functionName: string, seq: number): Promise<void> {
    return this.#until(() => this.#options.registry.seqOf(account, functionName) !== seq)
  }

  async #until(isDone: () => boolean): Promise<void> {
    if (isDone()) return
    let cancelTimer = (): void => undefined
    const waiting = new Promise<boolean>((resolve) => {
      const waiter: Waiter = { isDone, resolve: () => resolve(true) }
      this.#waiters.add(waiter)
      cancelTimer = this.#options.clock.after(COORDINATION_TIMEOUT_MS, () => {
        this.#waiters.delete(waiter)
        resolve(false)
      })
    })
    const done = await waiting
    cancelTimer()
    if (!done || this.#stopped) throw new CodedError('ERR_COORDINATION_UNREACHABLE', ['what was written is not told here yet'])
  }

  #wake(): void {
    for (const waiter of [...this.#waiters]) {
      if (!waiter.isDone()) continue
      this.#waiters.delete(waiter)
      waiter.resolve()
    }
  }

  /** `gap`: something was missed, or the store is another one than before. */
  async #begin(how: 'from-the-last' | 'gap'): Promise<void> {
    const { registry, documents, shared } = this.#options
    const begun = await this.#persist(async () => {
      const identity = await this.#identity()
      const same = registry.note(IDENTITY_KEY) === identity
      const wentBack = same && how === 'gap' && (await this.#giveNewer())
      if (wentBack || !same) {
        this.#log.warn('the registry is taken anew from the shared store', { known: same, functions: [...registry.names()].length })
        await registry.restartFeed()
        shared.forgetAges()
      }
      return { identity, same }
    })
    if (begun === null) return
    const everything = begun.same && how === 'from-the-last' ? null : new Set<string>()
    const watch = documents.watch(
      {
        onDocument: (key, value, revision) => this.#onDocument(key, value, revision, everything),
        onGap: () => {
          watch.stop()
          this.#queue.length = 0
          this.#current = false
          void this.#begin('gap')
        },
        onCurrent: () => this.#push({ kind: 'current', identity: begun.identity, same: begun.same, everything }),
      },
      everything === null ? { afterRevision: registry.seq() } : {},
    )
    this.#watch = watch
    if (this.#stopped) watch.stop()
  }

  async #identity(): Promise<string> {
    const { documents } = this.#options
    const found = await documents.get(IDENTITY_KEY)
    if (found !== null) return Buffer.from(found.value).toString()
    const identity = randomUUID()
    await documents.update(IDENTITY_KEY, Buffer.from(identity), 0)
    return identity
  }

  #onDocument(key: string, value: Uint8Array | null, revision: number, everything: Set<string> | null): void {
    const [account, functionName, ...rest] = key.split('/')
    if (account === undefined || functionName === undefined || rest.length > 0) return
    if (value !== null) everything?.add(key)
    this.#push({ kind: 'told', account, functionName, revision, value })
  }

  #push(item: Item): void {
    if (this.#stopped) return
    this.#queue.push(item)
    this.#pumping ??= this.#pump().finally(() => {
      this.#pumping = null
    })
  }

  /** M1. Never rejects. */
  async #pump(): Promise<void> {
    while (this.#queue.length > 0 && !this.#stopped) {
      const end = this.#queue.findIndex(({ kind }) => kind === 'current')
      const batch = this.#queue.splice(0, Math.min(MIRROR_BATCH_MAX, end < 0 ? this.#queue.length : Math.max(1, end)))
      const told = batch.filter((item) => item.kind === 'told')
      if (told.length > 0) await this.#adopt(told)
      for (const item of batch) if (item.kind === 'current') await this.#becomeCurrent(item)
    }
  }

  async #adopt(items: readonly TellingItem[]): Promise<void> {
    const { registry } = this.#options
    // Of several changes of one function only the last is there to be fetched for sure.
    const newest = new Map([...items, ...this.#queue.filter((item) => item.kind === 'told')].map((item) => [headKey(item.account, item.functionName), item.revision]))
    const wanted = items.filter(({ account, functionName, revision }) => newest.get(headKey(account, functionName)) === revision && registry.seqOf(account, functionName) !== revision)
    const prepared = await Promise.all(wanted.map((item) => this.#prepare(item)))
    const states = prepared.filter((state) => state !== null)
    const bytes = wanted.reduce((sum, { value }) => sum + (value?.byteLength ?? 0), 65_536)
    if (states.length > 0) await this.#persist(() => registry.adopt(states, bytes).then(() => true))
    for (const { account, functionName, state } of states) {
      if (state !== null && this.#options.shared.missing(account, objectsOf(state, null)).length > 0) this.#wanted.set(headKey(account, functionName), { account, functionName })
    }
    this.#wake()
    this.#fetchWanted()
  }

  /** M2. Null: it cannot be read, and is left as it was. */
  async #prepare({ account, functionName, revision, value }: TellingItem): Promise<ForeignState | null> {
    const { registry, shared } = this.#options
    if (value === null) return { account, functionName, seq: revision, state: null }
    try {
      const head = decodeHead(value)
      const before = registry.stateOf(account, functionName)
      const rows = before === null ? new Map<string, Uint8Array>() : rowsOf(before)
      await Promise.all(digestsOf(head).filter((digest) => !rows.has(digest)).map(async (digest) => {
        const row = await this.#row(digest)
        if (row !== null) rows.set(digest, row)
        else this.#log.error('a row that a function names is not there', { functionName, digest })
      }))
      const state = stateFrom(head, (digest) => rows.get(digest))
      if (this.#current) await Promise.race([shared.bring(account, objectsOf(state, before)), this.#pause(MIRROR_OBJECTS_WAIT_MS)])
      return { account, functionName, seq: revision, state }
    } catch (error) {
      this.#log.error('a function\'s head cannot be read', { functionName, revision, reason: toCodedError(error).message })
      return null
    }
  }

  async #row(digest: string): Promise<Uint8Array | null> {
    for (let attempt = 1; attempt <= ROW_TRIES_MAX; attempt += 1) {
      const row = await this.#persist(() => this.#options.shared.row(digest).then((found) => ({ found })))
      if (row === null || row.found !== null) return row?.found ?? null
      await this.#pause(AGAIN_MS)
    }
    return null
  }

  async #becomeCurrent(item: Item & { readonly kind: 'current' }): Promise<void> {
    const { registry } = this.#options
    if (item.everything !== null) await this.#persist(() => this.#reconcile(item).then(() => true))
    if (this.#stopped) return
    this.#log.info('the registry is as the other nodes have it', { seq: registry.seq() })
    for (const name of registry.names()) this.#wanted.set(headKey(name.account, name.functionName), name)
    this.#current = true
    this.#wake()
    this.#fetchWanted()
  }

  /** M3, M4: what the store has not told. */
  async #reconcile({ identity, same, everything }: Item & { readonly kind: 'current' }): Promise<void> {
    const { registry } = this.#options
    for (const { account, functionName } of registry.names()) {
      const state = everything?.has(headKey(account, functionName)) === true ? null : registry.stateOf(account, functionName)
      if (state === null) continue
      // Its own number is forgotten; a new one tells POPs that have heard all but this.
      if (same) await registry.adopt([{ account, functionName, seq: await this.#newestRevision(), state: null }], 0)
      else await this.#give(account, functionName, state, 0)
    }
    await registry.setHorizon()
    await registry.putNote(IDENTITY_KEY, identity)
  }

  /** M4: what the store does not have any more, though this node was told of it. False if there is none of that. */
  async #giveNewer(): Promise<boolean> {
    const { registry, documents } = this.#options
    // What was there before this document; whatever is above it here was lost there.
    const newest = (await this.#newestRevision()) - 1
    let wentBack = false
    for (const { account, functionName } of registry.names()) {
      const seq = registry.seqOf(account, functionName)
      const found = await documents.get(headKey(account, functionName))
      const state = registry.stateOf(account, functionName)
      if (state === null || (found === null ? seq <= newest : seq <= found.revision)) continue
      await this.#give(account, functionName, state, found?.revision ?? 0)
      wentBack = true
    }
    for (const { account, functionName, seq } of registry.deletions()) {
      const found = await documents.get(headKey(account, functionName))
      if (found === null || seq <= found.revision) continue
      await documents.delete(headKey(account, functionName), found.revision)
      wentBack = true
    }
    return wentBack
  }

  /** Of the store: that of a document that is written for it. */
  async #newestRevision(): Promise<number> {
    const { documents } = this.#options
    const found = await documents.get(PROBE_KEY)
    return await documents.update(PROBE_KEY, new Uint8Array(0), found?.revision ?? 0)
  }

  /** Puts what this node has in place of `revision`. It comes back by the watch. */
  async #give(account: string, functionName: string, state: FunctionState, revision: number): Promise<void> {
    const { documents, shared, registry } = this.#options
    await shared.putObjects(registry.objectKeys(account, objectsOf(state, null)))
    await shared.putRows(rowsOf(state))
    try {
      await documents.update(headKey(account, functionName), encodeHead(state, randomUUID()), revision)
      this.#log.info('a function was given to the shared registry', { functionName })
    } catch (error) {
      // Another node was first.
      if (toCodedError(error).code !== 'ERR_COORDINATION_CONFLICT') throw error
    }
  }

  #fetchWanted(): void {
    if (!this.#current || this.#stopped || this.#wanted.size === 0) return
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = null
    })
  }

  /** Never rejects. */
  async #fetch(): Promise<void> {
    const { registry, shared } = this.#options
    for (const [key, { account, functionName }] of this.#wanted) {
      if (this.#stopped) return
      const state = registry.stateOf(account, functionName)
      const failed = state === null ? [] : await shared.bring(account, objectsOf(state, null))
      if (failed.length === 0) this.#wanted.delete(key)
    }
    if (this.#wanted.size > 0) this.#options.clock.after(FETCH_AGAIN_MS, () => this.#fetchWanted())
  }

  /** Tries until it succeeds or the mirror stops: null then. */
  async #persist<T>(action: () => Promise<T>): Promise<T | null> {
    for (let told = false; !this.#stopped; ) {
      try {
        return await action()
      } catch (error) {
        if (!told) this.#log.warn('the mirror of the registry waits', { code: toCodedError(error).code, reason: toCodedError(error).message })
        told = true
        await this.#pause(AGAIN_MS)
      }
    }
    return null
  }

  #pause(ms: number): Promise<void> {
    const paused = new Promise<void>((resolve) => this.#options.clock.after(ms, resolve))
    return Promise.race([paused, this.#whenStopped])
  }
}
