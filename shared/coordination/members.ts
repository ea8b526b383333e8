/**
 * Members of a group, made of documents: each keeps one, `{ life, info }` under its id, and writes it again with every
 * renewal. Whoever watches takes one that was not renewed for a lease and a margin for gone, and deletes what it left.
 *
 * M1: a member whose document was changed or deleted by somebody else has lost its lease, whatever its own clock says.
 * M2: a renewal that gave no answer may have happened: the document is read before the next one, and `life` tells it from
 *     another member's of the same id.
 */
import type { Clock } from '../clock.ts'
import { toCodedError } from '../errors.ts'
import { COORDINATION_INFO_MAX_BYTES, LEASE_MARGIN_MS, LEASE_TTL_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import { randomUuid } from '../uuid.ts'
import { closedError } from './calls.ts'
import { KeptDocument } from './kept-document.ts'
import { SeenLease } from './lease.ts'
import { requireKey, requireSize } from './names.ts'
import { Once } from './once.ts'
import type { Documents, Member, Members, Membership, Watch } from './types.ts'

export interface DocumentMembersOptions {
  readonly documents: Documents
  readonly clock: Clock
  readonly log: Log
}

interface StoredMember {
  /** One membership; a member's document is its own only as long as it says so. */
  readonly life: string
  readonly info: unknown
}

/** Marks of those who left that watchers may still learn of one by one. */
const LEFT_KEPT = 64
/** Until what an expired member left is deleted again, if that failed. It is only untidy. */
const SWEEP_AGAIN_MS = LEASE_TTL_MS + LEASE_MARGIN_MS

export class DocumentMembers implements Members {
  readonly #options: DocumentMembersOptions
  readonly #memberships = new Set<DocumentMembership>()
  readonly #watches = new Set<MembersWatch>()
  readonly #closing = new Once()
  #closed = false

  constructor(options: DocumentMembersOptions) {
    this.#options = options
  }

  async join(memberId: string, info: unknown): Promise<Membership> {
    requireKey(memberId)
    if (this.#closed) throw closedError()
    const life = randomUuid()
    const kept = await KeptDocument.take({ ...this.#options, key: memberId, value: encode({ life, info }), revision: 0, isOwn: (value) => decode(value)?.life === life })
    const membership = new DocumentMembership(memberId, life, kept, () => this.#memberships.delete(membership))
    this.#memberships.add(membership)
    return membership
  }

  watch(listener: (members: readonly Member[]) => void): Watch {
    const watch = new MembersWatch(this.#options, listener)
    this.#watches.add(watch)
    return {
      stop: () => {
        this.#watches.delete(watch)
        watch.stop()
      },
    }
  }

  close(): Promise<void> {
    this.#closed = true
    return this.#closing.run(async () => {
      for (const watch of this.#watches) watch.stop()
      await Promise.all([...this.#memberships].map((membership) => membership.leave()))
    })
  }
}

class DocumentMembership implements Membership {
  readonly id: string
  readonly lost: Promise<void>
  readonly #life: string
  readonly #kept: KeptDocument
  readonly #onEnd: () => void

  constructor(id: string, life: string, kept: KeptDocument, onEnd: () => void) {
    this.id = id
    this.lost = kept.lost
    this.#life = life
    this.#kept = kept
    this.#onEnd = onEnd
    void kept.lost.then(onEnd)
  }

  holds(): boolean {
    return this.#kept.holds()
  }

  async update(info: unknown): Promise<void> {
    await this.#kept.write(encode({ life: this.#life, info }))
  }

  async leave(): Promise<void> {
    this.#onEnd()
    await this.#kept.giveUp(null)
  }
}

/** One who watches: what it has seen of each member, and when it will take it for gone. */
class MembersWatch {
  readonly #options: DocumentMembersOptions
  readonly #listener: (members: readonly Member[]) => void
  readonly #seen = new Map<string, { readonly member: Member; readonly life: string; readonly infoText: string; readonly lease: SeenLease; revision: number }>()
  readonly #watch: Watch
  #current = false
  #stopped = false
  /** What the listener was told last, to tell it of changes only. */
  #told = ''
  #cancelTimer: (() => void) | null = null

  constructor(options: DocumentMembersOptions, listener: (members: readonly Member[]) => void) {
    this.#options = options
    this.#listener = listener
    this.#watch = options.documents.watch({
      onDocument: (key, value, revision) => this.#onDocument(key, value, revision),
      onCurrent: () => {
        this.#current = true
        this.#tell()
      },
    })
  }

  stop(): void {
    this.#stopped = true
    this.#cancelTimer?.()
    this.#watch.stop()
  }

  #onDocument(key: string, value: Uint8Array | null, revision: number): void {
    const stored = value === null ? null : decode(value)
    if (stored === null) this.#seen.delete(key)
    else {
      const { life, info } = stored
      const infoText = JSON.stringify(info)
      const known = this.#seen.get(key)
      if (known?.life === life && known.infoText === infoText && known.lease.remainingMs() > 0) {
        known.lease.seen()
        known.revision = revision
        return
      }
      this.#seen.set(key, { member: { id: key, info }, life, infoText, lease: new SeenLease(this.#options.clock), revision })
    }
    if (this.#current) this.#tell()
  }

  #tell(): void {
    if (this.#stopped) return
    const alive = [...this.#seen.values()].filter(({ lease }) => lease.remainingMs() > 0)
    this.#schedule(alive.map(({ lease }) => lease.remainingMs()))
    const now = JSON.stringify(alive.map(({ member, life, infoText }) => [member.id, life, infoText]).sort())
    if (now === this.#told) return
    this.#told = now
    try {
      this.#listener(alive.map(({ member }) => member))
    } catch (error) {
      this.#options.log.error('a listener for members failed', { reason: String(error) })
    }
  }

  /** Looks again when the next lease may have run out. */
  #schedule(remainingMs: readonly number[]): void {
    this.#cancelTimer?.()
    const expired = this.#seen.size > remainingMs.length
    const nextMs = Math.min(...remainingMs, expired ? SWEEP_AGAIN_MS : Number.POSITIVE_INFINITY)
    this.#cancelTimer = Number.isFinite(nextMs) ? this.#options.clock.after(Math.max(1, nextMs), () => void this.#expire()) : null
  }

  async #expire(): Promise<void> {
    const gone = [...this.#seen].filter(([, { lease }]) => lease.remainingMs() === 0)
    this.#tell()
    for (const [key, { revision }] of gone) {
      try {
        await this.#options.documents.delete(key, revision)
        await this.#options.documents.forgetDeleted(LEFT_KEPT)
      } catch (error) {
        // Renewed after all, swept by another watcher, or the store is away: each is told by the watch, or tried again.
        this.#options.log.debug('an expired member was not removed', { member: key, reason: toCodedError(error).message })
      }
    }
  }
}

function encode(stored: StoredMember): Uint8Array {
  const bytes = Buffer.from(JSON.stringify(stored))
  requireSize('what a member says', bytes, COORDINATION_INFO_MAX_BYTES)
  return bytes
}

/** Null for what no member wrote: another program may write into the store. */
function decode(value: Uint8Array): StoredMember | null {
  try {
    const stored: unknown = JSON.parse(Buffer.from(value).toString())
    if (typeof stored !== 'object' || stored === null || !('life' in stored) || typeof stored.life !== 'string' || !('info' in stored)) return null
    return { life: stored.life, info: stored.info }
  } catch {
    return null
  }
}
