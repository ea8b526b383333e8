/** What is remembered of sessions that are not here any more: why, and how far they had come. The oldest are forgotten first. */
import { SESSIONS_ENDED_REMEMBERED_MAX } from '../limits.ts'
import type { SessionReason } from './types.ts'

interface Ended {
  readonly reason: SessionReason
  readonly sequence: number
}

/** A session that went elsewhere, or to disk, comes back as it was; any other has come to an end with its number. */
const RETURNS: ReadonlySet<SessionReason> = new Set(['moved', 'evicted'])

export class EndedSessions {
  readonly #ended = new Map<string, Ended>()

  add(name: string, reason: SessionReason, sequence: number): void {
    this.#ended.delete(name)
    if (this.#ended.size >= SESSIONS_ENDED_REMEMBERED_MAX) {
      const [oldest] = this.#ended.keys()
      if (oldest !== undefined) this.#ended.delete(oldest)
    }
    this.#ended.set(name, { reason, sequence })
  }

  forget(name: string): void {
    this.#ended.delete(name)
  }

  reasonOf(name: string): SessionReason | null {
    return this.#ended.get(name)?.reason ?? null
  }

  /** A state with a lower number is an old copy. */
  leastSequence(name: string): number {
    const ended = this.#ended.get(name)
    if (ended === undefined) return 0
    return RETURNS.has(ended.reason) ? ended.sequence : ended.sequence + 1
  }
}
