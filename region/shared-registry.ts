/**
 * One registry for the nodes of all regions: each function's head is a document that all share, this node's tables are a
 * mirror of all of them (registry-mirror.ts). Reads are of the mirror alone. A commit
 *
 *   draft    runs its action on the mirror and undoes it: what the function would become
 *   put      the objects and rows that it names, so that every node finds them
 *   update   the head, from the revision that the mirror has of it
 *   wait     until the mirror has it on disk
 *
 * H1: what is acknowledged is in the store that all share and on this node's disk.
 * H2: of two commits from the same head one wins. The other is drafted anew from what the winner left, so actions are pure
 *     but for their transaction, and numbers of versions are given once.
 * H3: `seq` of a change is the revision of its head: comparable between nodes, and with what a POP has heard from any.
 * H4: without the shared store reads go on and commits fail at once. One whose answer was lost is looked for by its
 *     commit's id; if that cannot be done either its client is told of a failure, and it may have happened.
 * H5: nothing here deletes what it does not know to be deleted: a store that is empty, or another one, is given what this
 *     node has (Mirror).
 */
import { randomUUID } from 'node:crypto'
import type { FunctionTransaction } from '../shared/api/records.ts'
import type { Clock } from '../shared/clock.ts'
import type { Coordination, Document, Documents } from '../shared/coordination/types.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { COMMIT_ATTEMPTS_MAX } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import { decodeHead, encodeHead, rowsOf } from './function-state.ts'
import { headKey, Mirror } from './registry-mirror.ts'
import { Registry, type CommitPurpose, type Committed, type Draft, type RegistryOptions } from './registry.ts'
import type { SharedContent } from './shared-content.ts'

export interface SharedRegistryOptions extends RegistryOptions {
  readonly coordination: Pick<Coordination, 'connected'>
  /** All heads, and nothing else but what Mirror keeps there. */
  readonly documents: Documents
  readonly shared: SharedContent
  readonly clock: Clock
  readonly log: Log
}

export class SharedRegistry extends Registry {
  readonly #coordination: Pick<Coordination, 'connected'>
  readonly #documents: Documents
  readonly #shared: SharedContent
  readonly #mirror: Mirror

  constructor(options: SharedRegistryOptions) {
    super(options)
    this.#coordination = options.coordination
    this.#documents = options.documents
    this.#shared = options.shared
    this.#mirror = new Mirror({ ...options, registry: this })
  }

  /** Follows the shared store from here on, in the background. */
  start(): void {
    this.#mirror.start()
  }

  /** `known`: the mirror has had all that was there once, in this life or an earlier one; `current`: in this one; `connected`: commits can be made. */
  status(): { readonly connected: boolean; readonly current: boolean; readonly known: boolean } {
    return { connected: this.#coordination.connected, current: this.#mirror.current, known: this.#mirror.known }
  }

  stop(): Promise<void> {
    return this.#mirror.stop()
  }

  override async commit<T>(account: string, functionName: string, purpose: CommitPurpose, action: (transaction: FunctionTransaction) => T): Promise<Committed<T>> {
    if (!this.#coordination.connected) throw new CodedError('ERR_COORDINATION_UNREACHABLE', ['the connection is lost'])
    await this.#mirror.untilCurrent()
    for (let attempt = 1; ; attempt += 1) {
      await this.#bringCurrent(account, functionName)
      const draft = await this.draft(account, functionName, purpose, action)
      if (!draft.changed) return draft
      try {
        const revision = await this.#write(account, functionName, draft)
        await this.#mirror.untilApplied(account, functionName, revision)
        return draft
      } catch (error) {
        if (toCodedError(error).code !== 'ERR_COORDINATION_CONFLICT' || attempt >= COMMIT_ATTEMPTS_MAX) throw error
        await this.#mirror.untilChanged(account, functionName, draft.seq)
      }
    }
  }

  /** An action may name again what the function runs: publishing a version does. */
  async #bringCurrent(account: string, functionName: string): Promise<void> {
    const latest = this.read(account, functionName).function()?.latest
    if (latest === undefined) return
    const named = { images: latest.build.imageIds, bundles: [latest.code.zipId, latest.code.moduleId] }
    if (this.#shared.missing(account, named).length > 0) await this.#shared.bring(account, named)
  }

  async #write<T>(account: string, functionName: string, { before, state, seq, named }: Draft<T>): Promise<number> {
    const key = headKey(account, functionName)
    // Of what is not there now the mirror remembers the mark of its deletion.
    const seen = before === null ? 0 : seq
    if (state === null) return await this.#settle(() => this.#documents.delete(key, seen), () => this.#documents.get(key), (found) => (found === null ? seen + 1 : null))
    await this.#shared.putObjects(named)
    const known = before === null ? new Map<string, Uint8Array>() : rowsOf(before)
    await this.#shared.putRows(new Map([...rowsOf(state)].filter(([digest]) => !known.has(digest))))
    const commitId = randomUUID()
    const head = encodeHead(state, commitId)
    return await this.#settle(
      () => this.#documents.update(key, head, seen),
      () => this.#documents.get(key),
      (found) => (found !== null && decodeHead(found.value).commitId === commitId ? found.revision : null),
    )
  }

  /** H4. `revisionIn`: the revision at which the write shows in what is found now; null if it does not. */
  async #settle(write: () => Promise<number>, read: () => Promise<Document | null>, revisionIn: (found: Document | null) => number | null): Promise<number> {
    try {
      return await write()
    } catch (error) {
      if (toCodedError(error).code !== 'ERR_COORDINATION_UNREACHABLE') throw error
      const revision = revisionIn(await read().catch(() => {
        throw error
      }))
      if (revision === null) throw error
      return revision
    }
  }

  /** Objects that are not here, fetched; true if all of them are here then. Never rejects. */
  async bring(account: string, named: Parameters<SharedContent['bring']>[1]): Promise<boolean> {
    return (await this.#shared.bring(account, named)).length === 0
  }

  /** For a pass over the shared content: everything that this mirror's records name. */
  *liveRows(): Generator<string> {
    for (const { account, functionName } of this.names()) {
      const state = this.stateOf(account, functionName)
      if (state !== null) yield* rowsOf(state).keys()
    }
  }
}
