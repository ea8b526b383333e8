/**
 * Whether another host of this site has a sandbox for a call that cannot run here: asked before the call leaves for a
 * region, if asking is cheap against the trip there (system 16).
 *
 *   pure questions   "is its image in your memory and a slot free?"   reserved for 2 s, or none
 *   the final one    the same, to yet another host; if it has none it gets the image, if the function has earned it
 *
 * A host knows the others and how many sandboxes they have, and nothing of what is in them. Weights come from what each
 * had lately for this function. One that gives no answer in time counts as having none.
 */
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../shared/clock.ts'
import { SITE_FUNCTIONS_WEIGHED_MAX } from '../shared/limits.ts'
import type { Peers } from '../shared/peers/types.ts'
import { probeBudget, ProbeSearch, ProbeWeights, type ProbeStep } from '../shared/place/probe.ts'
import type { Random } from '../shared/random.ts'

export const PROBE_TOPIC = 'probe'
export const RELEASE_TOPIC = 'probe-release'

export interface ProbeQuestion {
  readonly id: string
  readonly account: string
  readonly functionName: string
  readonly qualifier: string | null
  readonly final: boolean
}

const name = z.string().min(1).max(1_024)
const question: z.ZodType<ProbeQuestion> = z.object({ id: z.string().min(1).max(64), account: name, functionName: name, qualifier: name.nullable(), final: z.boolean() })

/** Null for what is no question. */
export function parseProbeQuestion(value: unknown): ProbeQuestion | null {
  return question.safeParse(value).data ?? null
}

export interface Found {
  readonly memberId: string
  readonly reservation: string
}

export interface SiteSearchOptions {
  readonly peers: Peers
  /** What a trip to the nearest region and back takes, ms. */
  readonly tripMs: () => number
  readonly clock: Clock
  readonly random: Random
}

/** Before there is an estimate: an idle round trip within a rack, and a busy event loop at each end. */
const PROBE_FIRST_US = 1_000
const SMOOTHING = 0.1
/** Nobody who is not asked says that it has become faster: the estimate halves in some 70 calls that went without. */
const SKIPPED_FACTOR = 0.99
/** What a final question may take: whoever is asked looks at once, so this is a round trip to one that is busy. */
const FINAL_TIMEOUT_MS = 50

export class SiteSearch {
  readonly #options: SiteSearchOptions
  /** By function, least recently used first. */
  readonly #weights = new Map<string, ProbeWeights>()
  #probeUs = PROBE_FIRST_US
  /** For metrics: questions by kind and what came of them. */
  readonly counts = { existing: { hit: 0, none: 0, unreachable: 0 }, final: { hit: 0, none: 0, unreachable: 0 }, late: 0, searches: 0, skipped: 0 }

  constructor(options: SiteSearchOptions) {
    this.#options = options
  }

  /** What a question and its answer take, as learned, us. */
  get probeUs(): number {
    return this.#probeUs
  }

  /** Whether asking is worth it now: there is somebody to ask, and the region is far enough. Cheap. */
  isWorthIt(): boolean {
    const { peers, tripMs } = this.#options
    if (peers.members().length > 0 && probeBudget(tripMs() * 1000, this.#probeUs).probes > 0) return true
    this.counts.skipped += 1
    this.#probeUs = Math.max(PROBE_FIRST_US, this.#probeUs * SKIPPED_FACTOR)
    return false
  }

  /** Resolves with who has kept a sandbox for this call; null: nobody. Never rejects. `deadlineMs`: monotonic. */
  async find(account: string, functionName: string, qualifier: string | null, deadlineMs: number): Promise<Found | null> {
    const { peers, clock, random, tripMs } = this.#options
    this.counts.searches += 1
    const weights = this.#weightsOf(`${account}/${functionName}`)
    const members = peers.members()
    const candidates = members.map(({ memberId, info }) => ({ id: memberId, capacity: info.state === 'serving' && peers.reachable(memberId) ? info.capacity : 0 }))
    const search = new ProbeSearch({ weights: weights.weights(candidates), budget: probeBudget(tripMs() * 1000, this.#probeUs), finalTimeoutMs: FINAL_TIMEOUT_MS, deadlineMs, random })
    let step: ProbeStep = search.start(clock.monotonicMs())
    for (;;) {
      if (step.kind !== 'ask') return null
      const { attempt, index, final, timeoutMs } = step
      const memberId = members[index]?.memberId ?? ''
      const reservation = randomBytes(12).toString('hex')
      const answer = await this.#ask(memberId, { id: reservation, account, functionName, qualifier, final }, timeoutMs)
      weights.record(memberId, answer === 'reserved' ? 'hit' : answer === 'none' ? 'miss' : 'unreachable')
      this.counts[final ? 'final' : 'existing'][answer === 'reserved' ? 'hit' : answer] += 1
      if (answer === 'reserved') return { memberId, reservation }
      // The final one to whom it may fall to bring the image is asked once: after it the region serves this call.
      if (final) return null
      const next = search.answered(attempt, answer, clock.monotonicMs())
      if (next === null) return null
      step = next
    }
  }

  /** What was kept is not wanted any more. Never rejects. */
  release({ memberId, reservation }: Found): void {
    this.#options.peers.ask(memberId, RELEASE_TOPIC, reservation, 1_000).catch(() => undefined)
  }

  async #ask(memberId: string, payload: ProbeQuestion, timeoutMs: number): Promise<'reserved' | 'none' | 'unreachable'> {
    const { peers, clock } = this.#options
    const sentAtMs = clock.monotonicMs()
    const asked = peers.ask(memberId, PROBE_TOPIC, payload, FINAL_TIMEOUT_MS + timeoutMs)
    const { promise: late, resolve } = Promise.withResolvers<'late'>()
    const cancelTimer = clock.after(timeoutMs, () => resolve('late'))
    try {
      const answer = await Promise.race([asked, late])
      if (answer === 'late') {
        this.counts.late += 1
        this.#giveBackLate(asked, { memberId, reservation: payload.id })
        return 'unreachable'
      }
      this.#probeUs += ((clock.monotonicMs() - sentAtMs) * 1000 - this.#probeUs) * SMOOTHING
      return answer === true ? 'reserved' : 'none'
    } catch {
      // Whatever the other host says of itself: it has none for us.
      return 'unreachable'
    } finally {
      cancelTimer()
    }
  }

  #giveBackLate(asked: Promise<unknown>, found: Found): void {
    asked.then((answer) => {
      if (answer === true) this.release(found)
    }, () => undefined)
  }

  #weightsOf(key: string): ProbeWeights {
    const weights = this.#weights.get(key) ?? new ProbeWeights()
    this.#weights.delete(key)
    this.#weights.set(key, weights)
    if (this.#weights.size > SITE_FUNCTIONS_WEIGHED_MAX) {
      for (const oldest of this.#weights.keys()) {
        this.#weights.delete(oldest)
        break
      }
    }
    return weights
  }
}
