/**
 * Where a POP runs an invocation: here, or forwarded to a region and why. Pure: facts in, decision out, so that every
 * decision can be logged, replayed and tested. The decisions are shared objects: nothing is made per call.
 *
 * Reasons, in the order in which they are looked at:
 *   capability       this POP can never run the build: another engine build, more memory than it gives
 *   heavy            declared or learned to take so much CPU that it would cost the hot functions their latency
 *   not-hot          not asked for often enough to keep here
 *   version-unknown  what the qualifier stands for is not known, or was too long ago
 *   no-image         hot, but its image is not complete here yet
 *   slow             seen to take longer here than in a region with the trip to it
 *   capacity         nothing free here, or too little for one whose users do not mind the trip
 *   limit            no slot of the account is leased here; decided after all others, by who counts them
 *   session          its session lives in the region: the dispatcher's to say, `place` does not look at it
 *
 * With no region in reach, whatever can run here does: late is better than never. How often a function is asked for, at
 * what time of day, and what a place here is worth to it are weighed before, by the hot set (`hot`).
 */
import type { LatencySensitivity } from '../worker/types.ts'

export const FORWARD_REASONS = ['capability', 'heavy', 'not-hot', 'version-unknown', 'no-image', 'slow', 'capacity', 'limit', 'session'] as const
export type ForwardReason = (typeof FORWARD_REASONS)[number]

export type PlaceDecision =
  | { readonly kind: 'local' }
  | { readonly kind: 'forward'; readonly reason: ForwardReason }

/** A caller may keep one object and write into it: nothing of it is kept. */
export interface PlaceFacts {
  /** In this POP's hot set. */
  hot: boolean
  /** What the qualifier stands for is known, and not for longer than may be believed. */
  versionKnown: boolean
  /** The build's image is complete and applied. Only if `versionKnown`. */
  imageHere: boolean
  /** False: this POP has found that it cannot run the build. */
  capable: boolean
  /** CPU limit that the function declares, ms. */
  declaredCpuMs: number
  /** Estimate of the CPU time that 95 of 100 invocations stay below, us; 0 before there is one. */
  learnedCpuUs: number
  /** What an invocation takes here, and in a region with the trip, us; 0 while too little was seen. */
  localUs: number
  regionUs: number
  /** This call may find out anew how long it takes here. */
  trial: boolean
  sensitivity: LatencySensitivity
  /** Invocations that run or wait here, and how many may. */
  inFlight: number
  inFlightMax: number
  /** A region can be reached. */
  regionInReach: boolean
  /** Invocations that wait for a sandbox here, and how many may. */
  waiting: number
  waitingMax: number
}

export interface PlacePolicy {
  /** A function that declares more CPU than this is forwarded, ms. */
  readonly declaredCpuMaxMs: number
  /** One that is seen to take more is, us. */
  readonly learnedCpuMaxUs: number
  /** How many times as long as in a region it may take here, and by how much longer at least it has to take to be forwarded, us. */
  readonly slowFactor: Readonly<Record<LatencySensitivity, number>>
  readonly slowMinUs: number
  /** Part of the room here that such functions may fill: the rest is kept for those that mind the trip. */
  readonly roomShare: Readonly<Record<LatencySensitivity, number>>
}

export const DEFAULT_PLACE_POLICY: PlacePolicy = {
  declaredCpuMaxMs: 1000,
  learnedCpuMaxUs: 20_000,
  // Whoever minds latency most goes where it is lowest; for whoever does not, a run here saves the region one.
  slowFactor: { low: 4, normal: 1.5, high: 1.1 },
  slowMinUs: 10_000,
  roomShare: { low: 0.5, normal: 1, high: 1 },
}

export const LOCAL: PlaceDecision = { kind: 'local' }
const FORWARD: Readonly<Record<ForwardReason, PlaceDecision>> = {
  capability: { kind: 'forward', reason: 'capability' },
  heavy: { kind: 'forward', reason: 'heavy' },
  'not-hot': { kind: 'forward', reason: 'not-hot' },
  'version-unknown': { kind: 'forward', reason: 'version-unknown' },
  'no-image': { kind: 'forward', reason: 'no-image' },
  slow: { kind: 'forward', reason: 'slow' },
  capacity: { kind: 'forward', reason: 'capacity' },
  limit: { kind: 'forward', reason: 'limit' },
  session: { kind: 'forward', reason: 'session' },
}

export function place(facts: PlaceFacts, policy: PlacePolicy): PlaceDecision {
  if (facts.versionKnown && !facts.capable) return FORWARD.capability
  const runnable = facts.versionKnown && facts.imageHere
  if (runnable && !facts.regionInReach) return LOCAL
  if (facts.versionKnown && isHeavy(facts, policy)) return FORWARD.heavy
  if (!facts.hot) return FORWARD['not-hot']
  if (!facts.versionKnown) return FORWARD['version-unknown']
  if (!facts.imageHere) return FORWARD['no-image']
  if (isSlow(facts, policy) && !facts.trial) return FORWARD.slow
  const share = policy.roomShare[facts.sensitivity]
  // One more may wait if there is room to: how long is looked at while it waits (queueWaitMs).
  const mayWait = facts.waiting === 0 || facts.waiting < facts.waitingMax * share
  return facts.inFlight < facts.inFlightMax * share && mayWait ? LOCAL : FORWARD.capacity
}

/**
 * How long an invocation waits here for a sandbox before a region is asked, ms: as long as the trip there takes, within
 * `maxMs`. A trip that is shorter than WAIT_WORTH_MS does not count: forwarding costs this POP several times what
 * running costs it, so with a region next door a POP that is merely busy would make itself busier.
 */
export function queueWaitMs(tripMs: number, maxMs: number): number {
  return Math.min(maxMs, Math.max(WAIT_WORTH_MS, tripMs))
}

const WAIT_WORTH_MS = 5

function isSlow({ localUs, regionUs, sensitivity }: PlaceFacts, policy: PlacePolicy): boolean {
  return regionUs > 0 && localUs > regionUs + policy.slowMinUs && localUs > regionUs * policy.slowFactor[sensitivity]
}

function isHeavy(facts: PlaceFacts, policy: PlacePolicy): boolean {
  return facts.declaredCpuMs > policy.declaredCpuMaxMs || facts.learnedCpuUs > policy.learnedCpuMaxUs
}

/**
 * An estimate of the value that 95 of 100 samples stay below, without keeping samples: each moves it a little, up 19
 * times as far as down. It follows a change within some hundred samples.
 */
export class QuantileEstimate {
  value = 0
  #samples = 0

  /** `sample` and `value`: any unit, not negative. */
  record(sample: number): void {
    if (this.#samples < WARM_UP_SAMPLES) {
      this.#samples++
      // The first samples say little: take their mean, so that one cold start does not brand a function.
      this.value += (sample - this.value) / this.#samples
      return
    }
    const step = Math.max(this.value, 1) * STEP
    this.value = sample > this.value ? this.value + step * 0.95 : Math.max(0, this.value - step * 0.05)
  }
}

/** A mean that follows the latest samples; 0 until enough of them say something. */
export class MeanEstimate {
  value = 0
  #mean = 0
  #samples = 0

  /** `sample`: any unit, not negative. */
  record(sample: number): void {
    if (this.#samples < MEAN_SAMPLES_MIN) this.#samples++
    this.#mean += (sample - this.#mean) / (this.#samples < MEAN_SAMPLES_MIN ? this.#samples : MEAN_WINDOW)
    if (this.#samples === MEAN_SAMPLES_MIN) this.value = this.#mean
  }
}

/** Fewer are mostly first runs, which are slower than what follows. */
const MEAN_SAMPLES_MIN = 8
const MEAN_WINDOW = 16
const WARM_UP_SAMPLES = 20
const STEP = 0.1
