/**
 * Which of several regions a POP forwards an invocation to, and whether one that failed is tried elsewhere. Pure: facts
 * in, decision out. The choice is a sieve; what passes a stage goes on to the next:
 *
 *   in reach -> not tried yet -> has the current version -> warm -> near -> least load -> first in the order given
 *
 * C1  A region that is not known to have the function's current version is never chosen, whatever else speaks for it.
 *     With one region there is nothing to compare, and it is asked whatever it has.
 * C2  Warmth goes before distance, but only as far as it pays: a trip that is longer by more than a start without the
 *     image costs is not made for it. Else a function that went far away once, when the near region was down, would
 *     keep itself warm there for ever.
 * C3  An invocation that may have run is not run again, unless its function is declared idempotent. `started` comes
 *     before anything else that tells of a run, so a stream that ends without it has not started.
 * C4  What a client has seen of an answer is not begun anew; what was not kept of a request cannot be sent again.
 */
import type { ErrorCode } from '../errors.ts'

export interface RegionFacts {
  /** Its link is open. */
  inReach: boolean
  /** Number of the latest change that it is known to have. */
  position: number
  /** It executed this function within `warmForMs`. */
  warm: boolean
  /** What a trip there and back is expected to take, penalties for failures included. */
  latencyMs: number
  /** Part of its capacity that is in use as it said itself, 0 to 1; 0 if it did not. */
  load: number
}

export interface RegionPolicy {
  /** How long a region counts as warm for a function after it executed it. */
  readonly warmForMs: number
  /** By how much a warm region's trip may be longer than the shortest: what bringing an image into memory costs. */
  readonly warmWorthMs: number
  /** Trips that differ by less than the larger of these count as equal. */
  readonly latencyTieMs: number
  readonly latencyTieShare: number
}

export const DEFAULT_REGION_POLICY: RegionPolicy = { warmForMs: 600_000, warmWorthMs: 50, latencyTieMs: 2, latencyTieShare: 0.2 }

/** Which stage left one region only. */
export type ChosenBy = 'only' | 'warm' | 'latency' | 'load' | 'order'
/** `behind`: regions are in reach, none with the current version. `tried`: all that could be asked were. */
export type NoneBecause = 'unreachable' | 'behind' | 'tried'

export type RegionChoice =
  | { readonly kind: 'chosen'; readonly index: number; readonly by: ChosenBy }
  | { readonly kind: 'none'; readonly because: NoneBecause }

/** `requiredSeq`: the number of the change that made the function's current version; see ReplicaKnowledge. */
export function chooseRegion(requiredSeq: number, regions: readonly RegionFacts[], tried: ReadonlySet<number>, policy: RegionPolicy): RegionChoice {
  const inReach = indexesOf(regions, ({ inReach }) => inReach)
  if (inReach.length === 0) return { kind: 'none', because: tried.size > 0 ? 'tried' : 'unreachable' }
  const current = regions.length === 1 ? inReach : inReach.filter((index) => (regions[index]?.position ?? 0) >= requiredSeq) // C1
  if (current.length === 0) return { kind: 'none', because: 'behind' }
  const open = current.filter((index) => !tried.has(index))
  if (open.length === 0) return { kind: 'none', because: 'tried' }
  return sieve(open, regions, policy)
}

function sieve(candidates: readonly number[], regions: readonly RegionFacts[], policy: RegionPolicy): RegionChoice {
  const [first = 0] = candidates
  if (candidates.length === 1) return { kind: 'chosen', index: first, by: 'only' }
  const latencyOf = (index: number): number => regions[index]?.latencyMs ?? Number.POSITIVE_INFINITY
  const shortestMs = Math.min(...candidates.map(latencyOf))
  const warm = candidates.filter((index) => regions[index]?.warm === true && latencyOf(index) <= shortestMs + policy.warmWorthMs) // C2
  const [onlyWarm] = warm
  if (warm.length === 1 && onlyWarm !== undefined) return { kind: 'chosen', index: onlyWarm, by: 'warm' }
  const preferred = warm.length === 0 ? candidates : warm
  const leastMs = Math.min(...preferred.map(latencyOf))
  const near = preferred.filter((index) => latencyOf(index) <= Math.max(leastMs + policy.latencyTieMs, leastMs * (1 + policy.latencyTieShare)))
  const [nearest = first] = near
  if (near.length === 1) return { kind: 'chosen', index: nearest, by: 'latency' }
  const loadOf = (index: number): number => regions[index]?.load ?? 0
  const leastLoad = Math.min(...near.map(loadOf))
  const idle = near.filter((index) => loadOf(index) === leastLoad)
  const [idlest = nearest] = idle
  return { kind: 'chosen', index: idlest, by: idle.length === 1 ? 'load' : 'order' }
}

function indexesOf(regions: readonly RegionFacts[], accepts: (region: RegionFacts) => boolean): number[] {
  return regions.flatMap((region, index) => (accepts(region) ? [index] : []))
}

export interface AttemptFacts {
  readonly code: ErrorCode
  /** What the region had said by then. */
  readonly heard: 'nothing' | 'started' | 'head'
  readonly idempotent: boolean
  /** All that was sent of the request body is at hand. */
  readonly bodyKept: boolean
  /** Until nobody waits for the answer, ms. */
  readonly remainingMs: number
}

/** `body`: it could be tried elsewhere, were its request still there. */
export type AfterFailure = 'elsewhere' | 'body' | 'over'

/** What says that a region or the way to it failed, or that it is another region's turn; anything else is its answer, and goes to the client as it is. */
const WAY_FAILED: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['ERR_REGION_UNREACHABLE', 'ERR_REGION_LOST', 'ERR_REGION_TIMEOUT', 'ERR_DRAINING', 'ERR_ACCOUNT_ELSEWHERE'])

/** C3, C4. */
export function afterFailure({ code, heard, idempotent, bodyKept, remainingMs }: AttemptFacts): AfterFailure {
  if (!WAY_FAILED.has(code) || heard === 'head' || remainingMs <= 0) return 'over'
  if (heard === 'started' && !idempotent) return 'over'
  if (bodyKept) return 'elsewhere'
  // This one has said what is the matter, and is not gone.
  return code === 'ERR_ACCOUNT_ELSEWHERE' ? 'over' : 'body'
}

/** Weight of a new sample, as TCP has it (RFC 6298). */
const SMOOTHING = 1 / 8
/** What a failure adds, and in what time half of that is forgiven: a region that flaps is left alone for half a minute. */
const FAILURE_PENALTY_MS = 250
const FAILURE_HALF_LIFE_MS = 10_000
const FAILURE_PENALTY_MAX_MS = 2_000
/** Before the first sample: far enough that a region with a measured trip goes first. */
const UNKNOWN_MS = 1_000

/** What a trip to a region takes, smoothed, and how badly it did lately. Times: one monotonic clock, the caller's. */
export class LatencyEstimate {
  #smoothedMs: number | null = null
  #penaltyMs = 0
  #penaltyAsOfMs = 0

  sample(rttMs: number): void {
    this.#smoothedMs = this.#smoothedMs === null ? rttMs : this.#smoothedMs + (rttMs - this.#smoothedMs) * SMOOTHING
  }

  failed(nowMs: number): void {
    this.#penaltyMs = Math.min(FAILURE_PENALTY_MAX_MS, this.#penaltyAt(nowMs) + FAILURE_PENALTY_MS)
    this.#penaltyAsOfMs = nowMs
  }

  /** `unansweredMs`: for how long the last ping has had no answer; a region that stands still looks as far away as that. */
  valueAt(nowMs: number, unansweredMs = 0): number {
    return Math.max(this.#smoothedMs ?? UNKNOWN_MS, unansweredMs) + this.#penaltyAt(nowMs)
  }

  #penaltyAt(nowMs: number): number {
    if (this.#penaltyMs === 0) return 0
    const left = this.#penaltyMs * 2 ** (-(nowMs - this.#penaltyAsOfMs) / FAILURE_HALF_LIFE_MS)
    return left < 1 ? 0 : left
  }
}
