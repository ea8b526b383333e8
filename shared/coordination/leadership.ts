/**
 * One leader at a time, made of one document: `{ life, candidateId, term }`, `life` null when the last leader gave up.
 *
 * E1: a candidate takes the document by compare-and-set, only from the value that it has watched for a lease and a margin
 *     without a renewal, or that nobody holds. The one who holds it has stopped by its own clock before that (C5).
 * E2: each taking raises the term. A term is never above the revision of its taking, so the revision at which somebody
 *     deleted or damaged the document is where terms go on.
 * E3: a taking that gave no answer is not a leadership, even if the store has it: its candidate takes again.
 */
import { LEASE_RENEW_MS } from '../limits.ts'
import { toCodedError } from '../errors.ts'
import { randomUuid } from '../uuid.ts'
import { within } from './calls.ts'
import { KeptDocument } from './kept-document.ts'
import { SeenLease } from './lease.ts'
import type { DocumentMembersOptions } from './members.ts'
import { requireKey } from './names.ts'
import { Once } from './once.ts'
import type { Candidacy, Leadership, Watch } from './types.ts'

interface StoredLeader {
  readonly life: string | null
  readonly candidateId: string
  readonly term: number
}

interface SeenLeader {
  readonly stored: StoredLeader
  readonly revision: number
  readonly lease: SeenLease
}

type Listener = Parameters<Leadership['stand']>[1]

export class DocumentLeadership implements Leadership {
  readonly #options: DocumentMembersOptions & { readonly name: string }
  readonly #candidacies = new Set<DocumentCandidacy>()

  constructor(options: DocumentMembersOptions & { readonly name: string }) {
    this.#options = options
  }

  stand(candidateId: string, listener: Listener): Candidacy {
    requireKey(candidateId)
    const candidacy = new DocumentCandidacy(this.#options, candidateId, listener)
    this.#candidacies.add(candidacy)
    return candidacy
  }

  async close(): Promise<void> {
    await Promise.all([...this.#candidacies].map((candidacy) => candidacy.stop()))
  }
}

type CandidacyState =
  | { readonly kind: 'following' }
  | { readonly kind: 'taking' }
  | { readonly kind: 'leading'; readonly term: number; readonly life: string; readonly kept: KeptDocument }
  | { readonly kind: 'stopped' }

class DocumentCandidacy implements Candidacy {
  readonly #options: DocumentMembersOptions & { readonly name: string }
  readonly #candidateId: string
  readonly #listener: Listener
  readonly #watch: Watch
  readonly #stopping = new Once()
  #state: CandidacyState = { kind: 'following' }
  #current = false
  #seen: SeenLeader | null = null
  /** Lives of this candidate's takings: a document with one of them waits for nobody. The newest is enough (E3). */
  #lastLife: string | null = null
  #cancelTimer: (() => void) | null = null

  constructor(options: DocumentMembersOptions & { readonly name: string }, candidateId: string, listener: Listener) {
    this.#options = options
    this.#candidateId = candidateId
    this.#listener = listener
    this.#watch = options.documents.watch({
      onDocument: (key, value, revision) => {
        if (key === options.name) this.#onDocument(value, revision)
      },
      onCurrent: () => {
        this.#current = true
        this.#consider()
      },
    })
  }

  term(): number | null {
    return this.#state.kind === 'leading' && this.#state.kept.holds() ? this.#state.term : null
  }

  stop(): Promise<void> {
    return this.#stopping.run(async () => {
      const before = this.#state
      this.#state = { kind: 'stopped' }
      this.#cancelTimer?.()
      this.#watch.stop()
      if (before.kind !== 'leading') return
      this.#call(() => this.#listener.onLost())
      await before.kept.giveUp(encode({ life: null, candidateId: this.#candidateId, term: before.term }))
    })
  }

  #onDocument(value: Uint8Array | null, revision: number): void {
    const stored = (value === null ? null : decode(value)) ?? { life: null, candidateId: '', term: revision }
    this.#seen = { stored, revision: value === null ? 0 : revision, lease: new SeenLease(this.#options.clock) }
    if (this.#state.kind === 'leading' && stored.life !== this.#state.life && revision > this.#state.kept.revision) this.#state.kept.taken()
    this.#consider()
  }

  /** Takes the leadership if nobody has it, or looks again when its holder's lease may have run out (E1). */
  #consider(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
    if (!this.#current || this.#state.kind !== 'following') return
    const seen = this.#seen
    const free = seen === null || seen.stored.life === null || seen.stored.life === this.#lastLife
    const waitMs = free ? 0 : seen.lease.remainingMs()
    if (waitMs === 0) void this.#take(seen)
    else this.#lookAgain(waitMs)
  }

  #lookAgain(afterMs: number): void {
    this.#cancelTimer = this.#options.clock.after(afterMs, () => this.#consider())
  }

  async #take(seen: SeenLeader | null): Promise<void> {
    this.#state = { kind: 'taking' }
    const { documents, clock, log, name } = this.#options
    const life = randomUuid()
    const term = (seen?.stored.term ?? 0) + 1
    this.#lastLife = life
    const taking = KeptDocument.take({ documents, clock, log, key: name, value: encode({ life, candidateId: this.#candidateId, term }), revision: seen?.revision ?? 0, isOwn: (value) => decode(value)?.life === life })
    try {
      this.#elected(await within(clock, LEASE_RENEW_MS, taking), term, life)
    } catch (error) {
      // If it succeeds after all nobody may renew what nobody uses (E3).
      void taking.then((kept) => kept.giveUp(encode({ life: null, candidateId: this.#candidateId, term })), () => undefined)
      log.debug('a leadership was not taken', { name, reason: toCodedError(error).message })
      if (this.#isStopped()) return
      this.#state = { kind: 'following' }
      // What the winner wrote comes by the watch; the pause is for a store that does not answer.
      this.#lookAgain(LEASE_RENEW_MS)
    }
  }

  #elected(kept: KeptDocument, term: number, life: string): void {
    if (this.#isStopped()) {
      void kept.giveUp(encode({ life: null, candidateId: this.#candidateId, term }))
      return
    }
    this.#state = { kind: 'leading', term, life, kept }
    void kept.lost.then(() => {
      if (this.#isStopped()) return
      this.#state = { kind: 'following' }
      this.#call(() => this.#listener.onLost())
      this.#consider()
    })
    this.#call(() => this.#listener.onElected(term))
  }

  /** Apart, because the state may change during every wait. */
  #isStopped(): boolean {
    return this.#state.kind === 'stopped'
  }

  #call(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      this.#options.log.error('a listener for leadership failed', { reason: String(error) })
    }
  }
}

function encode(stored: StoredLeader): Uint8Array {
  return Buffer.from(JSON.stringify(stored))
}

/** Null for what no candidate wrote. */
function decode(value: Uint8Array): StoredLeader | null {
  try {
    const { life, candidateId, term } = JSON.parse(Buffer.from(value).toString()) as Record<string, unknown>
    if ((life !== null && typeof life !== 'string') || typeof candidateId !== 'string' || typeof term !== 'number' || !Number.isSafeInteger(term)) return null
    return { life, candidateId, term }
  } catch {
    return null
  }
}
