/**
 * The registered peers of a region as they are now: a live copy of the bucket `pops`. It is who may link up (KeyDirectory)
 * and what a POP may have (PopGrants), and it tells of what was taken away.
 *
 * P1  Whatever is not in the copy is not let in: a document that cannot be read counts as one whose key is revoked.
 * P2  Listeners hear of a revocation after the copy has it, so whoever dials again meanwhile is refused.
 * P3  While coordination cannot be reached the copy stays as it was: known POPs go on, and a revocation waits for it.
 */
import type { Documents } from '../shared/coordination/types.ts'
import type { Fingerprint } from '../shared/identity/fingerprint.ts'
import { ANY, type Grant, type PopRecord, readPopRecord } from '../shared/identity/pop-records.ts'
import type { KeyDirectory } from '../shared/link/identity.ts'
import type { FunctionRef } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import type { PopGrants } from './region.ts'

export interface PopDirectoryOptions {
  readonly documents: Documents
  /** POPs that are not registered have come in by the token, and may have everything: on loopback. */
  readonly unregisteredMayHaveAll: boolean
  readonly log: Log
}

export interface DirectoryEvents {
  onRevoked(fingerprint: Fingerprint): void
  /** `changed`: true for functions that one of before and after had and the other has not. */
  onGrants(name: string, changed: (ref: FunctionRef) => boolean): void
}

interface Entry {
  readonly record: PopRecord
  readonly grants: GrantSet
}

export class PopDirectory implements KeyDirectory, PopGrants {
  readonly #log: Log
  readonly #unregisteredMayHaveAll: boolean
  readonly #byName = new Map<string, Entry>()
  /** Of those in use; the name that had it first. */
  readonly #byKey = new Map<Fingerprint, string>()
  readonly #revoked = new Set<Fingerprint>()
  #events: DirectoryEvents | null = null
  #stop: () => void = () => undefined

  private constructor({ log, unregisteredMayHaveAll }: PopDirectoryOptions) {
    this.#log = log.child('pops')
    this.#unregisteredMayHaveAll = unregisteredMayHaveAll
  }

  /** Resolves when everything that is registered is known. */
  static async open(options: PopDirectoryOptions): Promise<PopDirectory> {
    const directory = new PopDirectory(options)
    const { promise, resolve } = Promise.withResolvers<undefined>()
    let told = new Set<string>()
    const watch = options.documents.watch({
      onDocument: (name, value) => {
        told.add(name)
        directory.#changed(name, value)
      },
      onGap: () => {
        told = new Set()
      },
      onCurrent: () => {
        for (const name of [...directory.#byName.keys()]) if (!told.has(name)) directory.#changed(name, null)
        resolve(undefined)
      },
    })
    directory.#stop = () => watch.stop()
    await promise
    return directory
  }

  /** At most one listener: whoever owns the links. */
  listen(events: DirectoryEvents): void {
    this.#events = events
  }

  get size(): number {
    return this.#byName.size
  }

  find(fingerprint: Fingerprint): ReturnType<KeyDirectory['find']> {
    const name = this.#byKey.get(fingerprint)
    const record = name === undefined ? undefined : this.#byName.get(name)?.record
    if (record !== undefined) return { kind: 'known', name: record.name, role: record.role }
    return this.#revoked.has(fingerprint) ? { kind: 'revoked' } : null
  }

  has(name: string): boolean {
    return this.#byName.has(name)
  }

  allows(popId: string, account: string, functionName: string): boolean {
    const entry = this.#byName.get(popId)
    return entry === undefined ? this.#unregisteredMayHaveAll : entry.grants.allows(account, functionName)
  }

  close(): void {
    this.#stop()
    this.#events = null
  }

  #changed(name: string, value: Uint8Array | null): void {
    const before = this.#byName.get(name) ?? null
    const record = value === null ? null : readPopRecord(name, value)
    if (value !== null && record === null) this.#log.error('What is registered for a POP cannot be read: it is not let in', { name })
    // P1. The name stays taken.
    const after = value === null ? null : entryOf(record ?? { name, role: 'pop', fingerprint: null, revoked: keysOf(before), grants: [] })
    if (after === null) this.#byName.delete(name)
    else this.#byName.set(name, after)
    this.#index()
    const lost = keyOf(before)
    // P2.
    if (lost !== null && this.#byKey.get(lost) !== name) this.#tell((events) => events.onRevoked(lost))
    if (before === null || after === null || keyOf(after) !== lost) return
    if (before.record.grants.length === after.record.grants.length && after.record.grants.every(({ account, functionName }) => before.grants.has(account, functionName))) return
    this.#tell((events) => events.onGrants(name, ({ account, functionName }) => before.grants.allows(account, functionName) !== after.grants.allows(account, functionName)))
  }

  /** Names are few and change rarely. Two `add`s at the same moment may give one key two names: it stays with the one that sorts first. */
  #index(): void {
    this.#byKey.clear()
    this.#revoked.clear()
    for (const [name, { record }] of [...this.#byName].sort(([a], [b]) => (a < b ? -1 : 1))) {
      for (const key of record.revoked) this.#revoked.add(key)
      if (record.fingerprint === null) continue
      if (this.#byKey.has(record.fingerprint)) this.#log.error('Two names are registered for one key', { name, other: this.#byKey.get(record.fingerprint) ?? '' })
      else this.#byKey.set(record.fingerprint, name)
    }
    for (const key of this.#revoked) this.#byKey.delete(key)
  }

  #tell(call: (events: DirectoryEvents) => void): void {
    if (this.#events !== null) call(this.#events)
  }
}

function entryOf(record: PopRecord): Entry {
  return { record, grants: new GrantSet(record.grants) }
}

function keyOf(entry: Entry | null): Fingerprint | null {
  return entry?.record.fingerprint ?? null
}

function keysOf(entry: Entry | null): Fingerprint[] {
  return entry === null ? [] : [...entry.record.revoked, ...(entry.record.fingerprint === null ? [] : [entry.record.fingerprint])]
}

/** Asked once for each forwarded call. */
class GrantSet {
  readonly #all: boolean
  readonly #functions = new Map<string, Set<string>>()

  constructor(grants: readonly Grant[]) {
    this.#all = grants.some(({ account }) => account === ANY)
    for (const { account, functionName } of grants) {
      const names = this.#functions.get(account) ?? new Set()
      this.#functions.set(account, names.add(functionName))
    }
  }

  allows(account: string, functionName: string): boolean {
    if (this.#all) return true
    const names = this.#functions.get(account)
    return names !== undefined && (names.has(ANY) || names.has(functionName))
  }

  has(account: string, functionName: string): boolean {
    return this.#functions.get(account)?.has(functionName) ?? false
  }
}
