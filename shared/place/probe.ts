/**
 * Finding a ready sandbox by asking at random (system 16). Several managers each own some sandboxes; knowing for certain which of
 * them has an idle one costs more than asking a few. So: some questions "do you have one ready?", each to another
 * manager, and then one final request "give me one, make it if you must", to yet another. With a part p of the
 * managers having one, k questions find it with probability 1-(1-p)^k, and the last look is the final request's own.
 *
 * The choice is semi-random: a manager's weight is its capacity times how often it lately had what was asked for. With
 * all weights equal it is uniform. Pure: answers, time and randomness come from outside.
 *
 * F1  No manager is asked twice in one search.
 * F2  Questions cost at most PROBE_SHARE of what making a sandbox costs: where that is cheap nobody is asked.
 * F3  No answer in time counts as "none" and uses up budget. A reservation that comes too late is not taken: give it back.
 * F4  If a manager answers the final request with a failure, one more goes to another; then the search has failed. One that
 *     does not answer has not failed to provide: the next is asked, until the deadline.
 */
import type { Random } from '../random.ts'

export interface ProbeBudget {
  /** Questions before the final request. 0: the first request is the final one. */
  readonly probes: number
  /** What all questions together may take, ms. */
  readonly timeMs: number
}

/** Part of the cost of making a sandbox that looking for one may cost, and the most questions whatever it is. */
const PROBE_SHARE = 0.2
export const PROBES_MAX = 3

/** `provisionUs`: what it takes to make such a sandbox, usually; `probeUs`: to ask one manager and hear from it. */
export function probeBudget(provisionUs: number, probeUs: number): ProbeBudget {
  const spendUs = provisionUs * PROBE_SHARE
  const probes = Math.min(PROBES_MAX, Math.floor(spendUs / Math.max(1, probeUs)))
  return { probes, timeMs: probes === 0 ? 0 : spendUs / 1000 }
}

export function probesFor(provisionUs: number, probeUs: number): number {
  return probeBudget(provisionUs, probeUs).probes
}

export type ProbeStep =
  /** Ask manager `index`; give what it says to `answered`, 'unreachable' after `timeoutMs` without. `final`: it is to make one if it has none. */
  | { readonly kind: 'ask'; readonly attempt: number; readonly index: number; readonly final: boolean; readonly timeoutMs: number }
  /** A sandbox is reserved at `index`. */
  | { readonly kind: 'reserved'; readonly index: number; readonly asked: number; readonly final: boolean }
  /** Nobody could give one; `asked` is 0 if there is nobody. ERR_NO_SANDBOX. */
  | { readonly kind: 'failed'; readonly asked: number }

export interface ProbeSearchOptions {
  /** `weights[i]`: how likely manager i is to be asked, relative to the others; 0 or less: never. */
  readonly weights: readonly number[]
  readonly budget: ProbeBudget
  /** What a final request may take, ms. */
  readonly finalTimeoutMs: number
  /** No final request is sent at or after it; on the clock of `start`. */
  readonly deadlineMs: number
  readonly random: Random
}

/** One search. `start`, then `answered` for each step of kind `ask`, until another kind comes. */
export class ProbeSearch {
  readonly #options: ProbeSearchOptions
  readonly #asked = new Set<number>()
  #startedAtMs = 0
  #probes = 0
  #inFinals = false
  #failedFinals = 0
  /** The step whose answer is waited for; null before the first and after the end. */
  #waiting: { readonly attempt: number; readonly index: number; readonly final: boolean } | null = null

  constructor(options: ProbeSearchOptions) {
    this.#options = options
  }

  start(nowMs: number): ProbeStep {
    this.#startedAtMs = nowMs
    return this.#next(nowMs)
  }

  /** Null: that attempt is over (F3). If it was `reserved`, the caller gives the reservation back. */
  answered(attempt: number, answer: 'reserved' | 'none' | 'unreachable', nowMs: number): ProbeStep | null {
    const waiting = this.#waiting
    if (waiting?.attempt !== attempt) return null
    this.#waiting = null
    if (answer === 'reserved') return { kind: 'reserved', index: waiting.index, asked: this.#asked.size, final: waiting.final }
    if (waiting.final && answer === 'none') this.#failedFinals++
    return this.#next(nowMs)
  }

  #next(nowMs: number): ProbeStep {
    const { weights, budget, random, finalTimeoutMs, deadlineMs } = this.#options
    const index = this.#failedFinals < FAILED_FINALS_MAX && nowMs < deadlineMs ? pick(weights, this.#asked, random) : null
    if (index === null) return { kind: 'failed', asked: this.#asked.size }
    const leftMs = this.#startedAtMs + budget.timeMs - nowMs
    // The final request goes to one that was not asked yet, so that its own look counts.
    this.#inFinals ||= this.#probes >= budget.probes || leftMs <= 0 || this.#asked.size + 1 >= candidates(weights)
    this.#asked.add(index)
    if (!this.#inFinals) this.#probes++
    this.#waiting = { attempt: this.#asked.size, index, final: this.#inFinals }
    return { kind: 'ask', ...this.#waiting, timeoutMs: this.#inFinals ? Math.min(finalTimeoutMs, deadlineMs - nowMs) : Math.min(leftMs, budget.timeMs / budget.probes) }
  }
}

/** F4. */
const FAILED_FINALS_MAX = 2

export interface ProbeCandidate {
  readonly id: string
  /** Sandboxes that it may hold; 0 takes it out. */
  readonly capacity: number
}

/** How often each manager lately had what was asked for; answers count less the older they are. */
export class ProbeWeights {
  readonly #hits = new Map<string, number>()

  /** One that cannot be reached falls to the floor at once. */
  record(managerId: string, had: 'hit' | 'miss' | 'unreachable'): void {
    const before = this.#hits.get(managerId) ?? 1
    this.#hits.set(managerId, had === 'unreachable' ? FLOOR : before + ((had === 'hit' ? 1 : FLOOR) - before) * SMOOTHING)
  }

  /** In the order of `managers`. What is known of others is forgotten once it is most of it. */
  weights(managers: readonly ProbeCandidate[]): number[] {
    if (this.#hits.size > managers.length * 2) {
      const ids = new Set(managers.map(({ id }) => id))
      for (const id of this.#hits.keys()) if (!ids.has(id)) this.#hits.delete(id)
    }
    return managers.map(({ id, capacity }) => (this.#hits.get(id) ?? 1) * capacity)
  }
}

/** Share of a new answer in the estimate: about the last ten count. */
const SMOOTHING = 0.1
/** No manager is ever written off: how would it be seen to have recovered? */
const FLOOR = 0.05

function candidates(weights: readonly number[]): number {
  let count = 0
  for (const weight of weights) if (weight > 0) count++
  return count
}

function pick(weights: readonly number[], except: ReadonlySet<number>, random: Random): number | null {
  let total = 0
  weights.forEach((weight, index) => {
    if (weight > 0 && !except.has(index)) total += weight
  })
  if (total <= 0) return null
  let at = random.next() * total
  let last: number | null = null
  for (const [index, weight] of weights.entries()) {
    if (weight <= 0 || except.has(index)) continue
    last = index
    at -= weight
    if (at < 0) return index
  }
  // Rounding can leave a rest behind the last one.
  return last
}
