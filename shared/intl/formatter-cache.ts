/**
 * Formatters that were made lately, by account and key. They hold options and nothing of a guest's data, but whether one is there
 * shows in time, and who fills the cache empties it: so each account has its own part, and no account takes more than a quarter.
 *
 * V8 does not feel the weight of ICU's objects: of DateTimeFormats that nobody holds any more it lets a gigabyte lie before it collects. So what is
 * dropped is counted, and collected here.
 */
import { INTL_CACHE_ACCOUNT_MAX_BYTES, INTL_CACHE_MAX_BYTES, INTL_CACHED_KEY_MAX_CHARS, INTL_GARBAGE_MAX_BYTES } from '../limits.ts'
import type { MadeFormatter } from './make-formatter.ts'
import type { Kind } from './operations.ts'

/** Resident bytes, measured: a DateTimeFormat that has formatted a range 84 KiB, all others below 8. */
const HEAVY_BYTES = 84 * 1024
const LIGHT_BYTES = 8 * 1024

interface Part {
  /** Used longest ago first. */
  readonly formatters: Map<string, { readonly formatter: MadeFormatter; readonly bytes: number }>
  bytes: number
}

export class FormatterCache {
  /** The account that was served longest ago first. */
  readonly #parts = new Map<string, Part>()
  readonly #collectGarbage: () => void
  #bytes = 0
  #droppedBytes = 0

  constructor(collectGarbage: () => void) {
    this.#collectGarbage = collectGarbage
  }

  get bytes(): number {
    return this.#bytes
  }

  get(account: string, key: string): MadeFormatter | undefined {
    const part = this.#parts.get(account)
    const entry = part?.formatters.get(key)
    if (part === undefined || entry === undefined) return undefined
    this.#parts.delete(account)
    this.#parts.set(account, part)
    part.formatters.delete(key)
    part.formatters.set(key, entry)
    return entry.formatter
  }

  /** Makes room in the account's own part first, and only then in that of the account that was served longest ago. */
  add(account: string, key: string, formatter: MadeFormatter, kind: Kind): void {
    const bytes = kind === 'D' ? HEAVY_BYTES : LIGHT_BYTES
    if (key.length > INTL_CACHED_KEY_MAX_CHARS) return this.#drop(bytes)
    const part: Part = this.#parts.get(account) ?? { formatters: new Map(), bytes: 0 }
    this.#parts.delete(account)
    this.#parts.set(account, part)
    part.formatters.set(key, { formatter, bytes })
    part.bytes += bytes
    this.#bytes += bytes
    for (const [oldest, { bytes: freed }] of part.formatters) {
      if (part.bytes <= INTL_CACHE_ACCOUNT_MAX_BYTES) break
      part.formatters.delete(oldest)
      part.bytes -= freed
      this.#bytes -= freed
      this.#drop(freed)
    }
    for (const [oldest, { bytes: freed }] of this.#parts) {
      if (this.#bytes <= INTL_CACHE_MAX_BYTES) break
      this.#parts.delete(oldest)
      this.#bytes -= freed
      this.#drop(freed)
    }
  }

  #drop(bytes: number): void {
    this.#droppedBytes += bytes
    if (this.#droppedBytes < INTL_GARBAGE_MAX_BYTES) return
    this.#droppedBytes = 0
    this.#collectGarbage()
  }
}
