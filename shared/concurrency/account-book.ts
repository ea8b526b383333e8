/**
 * What accounts may run at once: one document for each account in coordination, read from memory, changed by
 * compare-and-set. Every node follows the bucket, so a change holds everywhere within moments.
 *
 * B1: what is reserved for functions leaves UNRESERVED_CONCURRENCY_MIN (for small accounts a tenth) to the others at the
 *     moment of every change; the document is one, so two changes at once cannot both take the last of it.
 * B2: a document that cannot be read counts as if it were not there: the defaults hold.
 */
import { z } from 'zod'
import type { Documents, Watch } from '../coordination/types.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { ACCOUNT_CONCURRENCY_MAX, RESERVATIONS_PER_ACCOUNT_MAX, UNRESERVED_CONCURRENCY_MIN } from '../limits.ts'
import type { Log } from '../log.ts'
import type { AccountLimits } from '../place/slot-line.ts'

/** Of coordination. */
export const ACCOUNTS_BUCKET = 'accounts'

export interface AccountBookOptions {
  readonly documents: Documents
  /** Of an account that no document and no key says anything of. */
  readonly defaultConcurrency: number
  /** As the keys file has it; null: it says nothing. */
  readonly concurrencyOf: (account: string) => number | null
  readonly log: Log
}

/** Limits of an account, and the number of the change that made them so; 0: none did. */
export interface KnownLimits extends AccountLimits {
  readonly revision: number
  /** The maximum is the document's own, no default. */
  readonly isSet: boolean
}

const slots = z.int().min(0).max(ACCOUNT_CONCURRENCY_MAX)
const accountSchema = z.strictObject({
  /** Null: the default. */
  concurrency: slots.nullable(),
  /** In the order in which they were reserved. */
  reserved: z.array(z.tuple([z.string().min(1).max(140), slots])).max(RESERVATIONS_PER_ACCOUNT_MAX),
})
type AccountDocument = z.infer<typeof accountSchema>

const NOTHING_SAID: AccountDocument = { concurrency: null, reserved: [] }
/** Changes of one account at once are rare; each try takes what the one before it has written. */
const TRIES_MAX = 8

export class AccountBook {
  readonly #options: AccountBookOptions
  readonly #log: Log
  readonly #known = new Map<string, KnownLimits>()
  readonly #defaults = new Map<string, KnownLimits>()
  readonly #listeners = new Set<(account: string) => void>()
  #watch: Watch | null = null

  private constructor(options: AccountBookOptions) {
    this.#options = options
    this.#log = options.log.child('accounts')
  }

  /** Resolves when everything is known. */
  static async open(options: AccountBookOptions): Promise<AccountBook> {
    const book = new AccountBook(options)
    await new Promise<void>((resolve) => {
      book.#watch = options.documents.watch({
        onDocument: (key, value, revision) => book.#changed(key, value, revision),
        onCurrent: () => resolve(),
      })
    })
    return book
  }

  /** The same object until something changes. */
  limitsOf(account: string): KnownLimits {
    return this.#known.get(account) ?? this.#defaultsOf(account)
  }

  /** Somebody has said what the account may run, other than by keys and settings. */
  isSet(account: string): boolean {
    return this.#known.get(account)?.isSet ?? false
  }

  reservedOf(account: string, functionName: string): number | null {
    return this.#known.get(account)?.reserved.get(functionName) ?? null
  }

  /** Called after a change of the account's limits. Returns a function that ends it. */
  onChange(listener: (account: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Throws ERR_PARAMETER (B1), ERR_QUOTA, ERR_COORDINATION_*. Resolves when the store has it and this process goes by it. */
  async reserve(account: string, functionName: string, concurrency: number): Promise<void> {
    await this.#change(account, (document) => {
      const known = document.reserved.findIndex(([name]) => name === functionName)
      // In its place: the order is who was reserved first.
      const reserved = known === -1 ? [...document.reserved, [functionName, concurrency] as [string, number]] : document.reserved.with(known, [functionName, concurrency])
      if (reserved.length > RESERVATIONS_PER_ACCOUNT_MAX) throw new CodedError('ERR_QUOTA', [RESERVATIONS_PER_ACCOUNT_MAX, 'functions with reserved concurrency'])
      const before = document.reserved[known]?.[1] ?? 0
      if (concurrency > before) this.#requireRoom(account, { ...document, reserved })
      return { ...document, reserved }
    })
  }

  /** Does nothing if nothing is reserved. */
  async unreserve(account: string, functionName: string): Promise<void> {
    if (this.reservedOf(account, functionName) === null) return
    await this.#change(account, (document) => ({ ...document, reserved: document.reserved.filter(([name]) => name !== functionName) }))
  }

  /** Null: the default again. */
  async setConcurrency(account: string, concurrency: number | null): Promise<void> {
    await this.#change(account, (document) => ({ ...document, concurrency }))
  }

  /** Reservations of functions that are not there: they were deleted in the moment in which this process ended. */
  async forget(exists: (account: string, functionName: string) => boolean): Promise<void> {
    for (const [account, { reserved }] of [...this.#known]) {
      for (const functionName of [...reserved.keys()].filter((name) => !exists(account, name))) await this.unreserve(account, functionName)
    }
  }

  close(): void {
    this.#watch?.stop()
  }

  async #change(account: string, change: (document: AccountDocument) => AccountDocument): Promise<void> {
    const { documents } = this.#options
    for (let tries = 1; ; tries++) {
      const stored = await documents.get(account)
      const value = encode(change(stored === null ? NOTHING_SAID : (this.#read(account, stored.value) ?? NOTHING_SAID)))
      try {
        const revision = await documents.update(account, value, stored?.revision ?? 0)
        this.#changed(account, value, revision)
        return
      } catch (error) {
        if (toCodedError(error).code !== 'ERR_COORDINATION_CONFLICT' || tries === TRIES_MAX) throw error
      }
    }
  }

  #changed(account: string, value: Uint8Array | null, revision: number): void {
    // Our own change is known before the store tells of it.
    if (revision <= (this.#known.get(account)?.revision ?? 0)) return
    const document = value === null ? NOTHING_SAID : (this.#read(account, value) ?? NOTHING_SAID)
    this.#known.set(account, { maximum: document.concurrency ?? this.#defaultsOf(account).maximum, reserved: new Map(document.reserved), revision, isSet: document.concurrency !== null })
    for (const listener of this.#listeners) listener(account)
  }

  /** B2. */
  #read(account: string, value: Uint8Array): AccountDocument | null {
    try {
      return accountSchema.parse(JSON.parse(Buffer.from(value).toString('utf8')))
    } catch {
      this.#log.error('the document of an account cannot be read', { account })
      return null
    }
  }

  /** B1. In Lambda's words, which tools look for. */
  #requireRoom(account: string, document: AccountDocument): void {
    const maximum = document.concurrency ?? this.#defaultsOf(account).maximum
    const least = unreservedMin(maximum)
    let wanted = 0
    for (const [, reserved] of document.reserved) wanted += reserved
    if (maximum - wanted < least) throw new CodedError('ERR_PARAMETER', [`Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [${least}].`])
  }

  #defaultsOf(account: string): KnownLimits {
    const known = this.#defaults.get(account)
    if (known !== undefined) return known
    const limits = { maximum: this.#options.concurrencyOf(account) ?? this.#options.defaultConcurrency, reserved: new Map<string, number>(), revision: 0, isSet: false }
    // Accounts come from keys, of which there are so many at most.
    this.#defaults.set(account, limits)
    return limits
  }
}

/** What functions without a reservation must keep. */
export function unreservedMin(maximum: number): number {
  return Math.min(UNRESERVED_CONCURRENCY_MIN, Math.ceil(maximum / 10))
}

function encode(document: AccountDocument): Uint8Array {
  return Buffer.from(JSON.stringify(document))
}
