/** What a POP seals sessions with: a key for each account of which it was granted a function with sessions. */
import type { SealKey, SealKeys } from '../shared/sessions/session-seal.ts'

/** Keys of an account that are kept: after a rotation the older one still opens what it sealed. */
const VERSIONS_MAX = 4
const ACCOUNTS_MAX = 10_000

export class SessionKeys implements SealKeys {
  /** Newest first. */
  readonly #keys = new Map<string, readonly SealKey[]>()

  /** A region has said so. */
  learn(account: string, key: SealKey): void {
    const known = this.#keys.get(account) ?? []
    if (known[0]?.version === key.version) return
    this.#keys.delete(account)
    if (this.#keys.size >= ACCOUNTS_MAX) {
      const [oldest] = this.#keys.keys()
      if (oldest !== undefined) this.#keys.delete(oldest)
    }
    this.#keys.set(account, [key, ...known.filter(({ version }) => version !== key.version)].slice(0, VERSIONS_MAX))
  }

  current(account: string): SealKey | null {
    return this.#keys.get(account)?.[0] ?? null
  }

  of(account: string, version: number): SealKey | null {
    return this.#keys.get(account)?.find((key) => key.version === version) ?? null
  }
}
