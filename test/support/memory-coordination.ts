/** Coordination within one process, for tests of what uses it: no leases that expire by themselves, only when the test says so. */
import { CodedError } from '../../shared/errors.ts'
import type { Candidacy, Coordination, DocumentListener, Documents, Leadership, Member, Members, Membership } from '../../shared/coordination/types.ts'

export class MemoryCoordination implements Coordination {
  readonly kind = 'embedded'
  readonly connected = true
  readonly #documents = new Map<string, MemoryDocuments>()
  readonly #members = new Map<string, MemoryMembers>()
  readonly #leaderships = new Map<string, MemoryLeadership>()

  documents(bucket: string): Promise<MemoryDocuments> {
    return Promise.resolve(entryOf(this.#documents, bucket, () => new MemoryDocuments()))
  }

  members(group: string): Promise<MemoryMembers> {
    return Promise.resolve(entryOf(this.#members, group, () => new MemoryMembers()))
  }

  leadership(name: string): Promise<Leadership> {
    return Promise.resolve(entryOf(this.#leaderships, name, () => new MemoryLeadership()))
  }

  blobs(): Promise<never> {
    return Promise.reject(new Error('no blobs here'))
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

function entryOf<V>(map: Map<string, V>, key: string, make: () => V): V {
  const value = map.get(key) ?? make()
  map.set(key, value)
  return value
}

class MemoryDocuments implements Documents {
  readonly #values = new Map<string, { value: Uint8Array; revision: number }>()
  readonly #listeners = new Set<DocumentListener>()
  #revision = 0

  get(key: string): Promise<{ value: Uint8Array; revision: number } | null> {
    return Promise.resolve(this.#values.get(key) ?? null)
  }

  async update(key: string, value: Uint8Array, revision: number): Promise<number> {
    await Promise.resolve()
    if ((this.#values.get(key)?.revision ?? 0) !== revision) throw new CodedError('ERR_COORDINATION_CONFLICT', [key])
    this.#revision += 1
    this.#values.set(key, { value: Uint8Array.from(value), revision: this.#revision })
    for (const listener of this.#listeners) this.#later(listener, (each) => each.onDocument(key, Uint8Array.from(value), this.#revision))
    return this.#revision
  }

  async delete(key: string, revision: number): Promise<number> {
    await Promise.resolve()
    if ((this.#values.get(key)?.revision ?? 0) !== revision) throw new CodedError('ERR_COORDINATION_CONFLICT', [key])
    this.#values.delete(key)
    this.#revision += 1
    for (const listener of this.#listeners) this.#later(listener, (each) => each.onDocument(key, null, this.#revision))
    return this.#revision
  }

  watch(listener: DocumentListener): { stop(): void } {
    this.#listeners.add(listener)
    const there = [...this.#values]
    this.#later(listener, (each) => {
      for (const [key, { value, revision }] of there) each.onDocument(key, value, revision)
      each.onCurrent()
    })
    return { stop: () => this.#listeners.delete(listener) }
  }

  forgetDeleted(): Promise<number> {
    return Promise.resolve(0)
  }

  #later(listener: DocumentListener, call: (listener: DocumentListener) => void): void {
    queueMicrotask(() => {
      if (this.#listeners.has(listener)) call(listener)
    })
  }
}

class MemoryMembers implements Members {
  readonly #members = new Map<string, { info: unknown; expire: () => void }>()
  readonly #listeners = new Set<(members: readonly Member[]) => void>()

  join(memberId: string, info: unknown): Promise<Membership> {
    if (this.#members.has(memberId)) return Promise.reject(new CodedError('ERR_COORDINATION_CONFLICT', [memberId]))
    const { promise: lost, resolve } = Promise.withResolvers<undefined>()
    const leave = (): Promise<void> => {
      this.#members.delete(memberId)
      this.#tell()
      return Promise.resolve()
    }
    this.#members.set(memberId, { info, expire: () => void leave().then(() => resolve(undefined)) })
    this.#tell()
    return Promise.resolve({
      id: memberId,
      holds: () => this.#members.has(memberId),
      update: (next: unknown) => {
        const member = this.#members.get(memberId)
        if (member === undefined) return Promise.reject(new CodedError('ERR_COORDINATION_UNREACHABLE', [memberId]))
        member.info = next
        this.#tell()
        return Promise.resolve()
      },
      lost,
      leave,
    })
  }

  watch(listener: (members: readonly Member[]) => void): { stop(): void } {
    this.#listeners.add(listener)
    this.#tell()
    return { stop: () => this.#listeners.delete(listener) }
  }

  /** As if its lease had run out. */
  expire(memberId: string): void {
    this.#members.get(memberId)?.expire()
  }

  #tell(): void {
    queueMicrotask(() => {
      const members = [...this.#members].map(([id, { info }]) => ({ id, info }))
      for (const listener of this.#listeners) listener(members)
    })
  }
}

class MemoryLeadership implements Leadership {
  readonly #candidates: { readonly id: string; readonly listener: { onElected(term: number): void; onLost(): void } }[] = []
  #term = 0

  stand(candidateId: string, listener: { onElected(term: number): void; onLost(): void }): Candidacy {
    const candidate = { id: candidateId, listener }
    this.#candidates.push(candidate)
    if (this.#candidates.length === 1) this.#elect()
    return {
      term: () => (this.#candidates[0] === candidate ? this.#term : null),
      stop: () => {
        const at = this.#candidates.indexOf(candidate)
        if (at >= 0) this.#candidates.splice(at, 1)
        if (at === 0) this.#elect()
        return Promise.resolve()
      },
    }
  }

  #elect(): void {
    const leader = this.#candidates[0]
    if (leader === undefined) return
    this.#term += 1
    const term = this.#term
    queueMicrotask(() => leader.listener.onElected(term))
  }
}
