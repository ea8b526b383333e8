/**
 * A document that its holder writes again and again, and that counts only as long as it does: what a membership and a
 * leadership are made of.
 *
 * K1: the lease counts from before the write was sent that the store confirmed (lease.ts).
 * K2: a write of somebody else ends it at once.
 * K3: a write that gave no answer may have happened. The document is read then: if its content is the holder's own, its
 *     revision is the one to go on from.
 */
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import { LEASE_RENEW_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import { isConflict, within } from './calls.ts'
import { HeldLease } from './lease.ts'
import type { Documents } from './types.ts'

export interface KeptDocumentOptions {
  readonly documents: Documents
  readonly clock: Clock
  readonly log: Log
  readonly key: string
  readonly value: Uint8Array
  /** Of the document that it replaces; 0: none is there. */
  readonly revision: number
  /** Whether somebody with this value is this holder. */
  readonly isOwn: (value: Uint8Array) => boolean
}

export class KeptDocument {
  /** Resolves when the lease is lost; never after `giveUp`. */
  readonly lost: Promise<void>
  readonly #options: KeptDocumentOptions
  readonly #lease: HeldLease
  #value: Uint8Array
  #revision: number
  #state: 'held' | 'lost' | 'given-up' = 'held'
  #resolveLost: () => void = () => undefined
  #cancelRenewal: () => void = () => undefined
  #cancelEnd: () => void = () => undefined
  /** Writes go one after another: each needs the revision of the one before. */
  #lastWrite: Promise<unknown> = Promise.resolve()

  private constructor(options: KeptDocumentOptions, revision: number, lease: HeldLease) {
    this.#options = options
    this.#value = options.value
    this.#revision = revision
    this.#lease = lease
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve
    })
    this.#scheduleEnd()
    this.#scheduleRenewal()
  }

  /** Throws ERR_COORDINATION_CONFLICT if the document is not as the caller has seen it. */
  static async take(options: KeptDocumentOptions): Promise<KeptDocument> {
    const { documents, clock, key, value, revision } = options
    const sentAtMs = clock.monotonicMs()
    const taken = await documents.update(key, value, revision)
    return new KeptDocument(options, taken, new HeldLease(clock, sentAtMs))
  }

  /** Of the last write that the store confirmed. */
  get revision(): number {
    return this.#revision
  }

  holds(): boolean {
    return this.#state === 'held' && this.#lease.holds()
  }

  /** Resolves when the store has it. Rejects with ERR_COORDINATION_UNREACHABLE. */
  async write(value: Uint8Array): Promise<void> {
    // A renewal from now on carries the new value, also one that has to be repeated.
    this.#value = value
    await this.#writeInTurn()
  }

  /** The document of somebody else was seen in its place. */
  taken(): void {
    this.#lose('somebody else has it')
  }

  /** `value`: what is left behind; null: nothing. Never rejects: if the store is away the lease runs out. */
  async giveUp(value: Uint8Array | null): Promise<void> {
    if (this.#state !== 'held') return
    this.#state = 'given-up'
    this.#lease.giveUp()
    this.#cancelTimers()
    const { documents, key } = this.#options
    try {
      await this.#lastWrite.catch(() => undefined)
      if (value === null) await documents.delete(key, this.#revision)
      else await documents.update(key, value, this.#revision)
    } catch {
      // Others see it expire.
    }
  }

  #writeInTurn(): Promise<void> {
    const write = this.#lastWrite.then(() => this.#writeNow())
    this.#lastWrite = write.catch(() => undefined)
    return write
  }

  async #writeNow(): Promise<void> {
    const { clock, key } = this.#options
    if (!this.holds()) throw new CodedError('ERR_COORDINATION_UNREACHABLE', [`the lease of ${key} is lost`])
    const sentAtMs = clock.monotonicMs()
    try {
      this.#revision = await this.#update()
    } catch (error) {
      if (!isConflict(error)) throw error
      await this.#adopt()
      this.#revision = await this.#update()
    }
    this.#lease.renewed(sentAtMs)
    this.#scheduleEnd()
  }

  /** Waits no longer than until the next renewal is due, which may find the store back while this one was lost with the connection. */
  #update(): Promise<number> {
    const { documents, clock, key } = this.#options
    return within(clock, LEASE_RENEW_MS, documents.update(key, this.#value, this.#revision))
  }

  /** K2, K3. */
  async #adopt(): Promise<void> {
    const { documents, key, isOwn } = this.#options
    const found = await documents.get(key)
    if (found !== null && isOwn(found.value)) {
      this.#revision = found.revision
      return
    }
    this.#lose('somebody else changed it')
    throw new CodedError('ERR_COORDINATION_UNREACHABLE', [`the lease of ${key} is lost`])
  }

  #scheduleRenewal(): void {
    this.#cancelRenewal = this.#options.clock.after(LEASE_RENEW_MS, () => {
      if (this.#state !== 'held') return
      this.#scheduleRenewal()
      this.#writeInTurn().catch((error: unknown) => {
        this.#options.log.warn('a lease was not renewed', { key: this.#options.key, reason: String(error) })
      })
    })
  }

  #scheduleEnd(): void {
    this.#cancelEnd()
    if (this.#state !== 'held') return
    this.#cancelEnd = this.#options.clock.after(this.#lease.remainingMs(), () => {
      if (this.#lease.holds()) this.#scheduleEnd()
      else this.#lose('it was not renewed in time')
    })
  }

  #lose(reason: string): void {
    if (this.#state !== 'held') return
    this.#state = 'lost'
    this.#lease.giveUp()
    this.#cancelTimers()
    this.#options.log.warn('a lease is lost', { key: this.#options.key, reason })
    this.#resolveLost()
  }

  #cancelTimers(): void {
    this.#cancelRenewal()
    this.#cancelEnd()
  }
}
