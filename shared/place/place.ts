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
 *   capacity         nothing free here
 *
 * With no region in reach, whatever can run here does: late is better than never.
 */
export const FORWARD_REASONS = ['capability', 'heavy', 'not-hot', 'version-unknown', 'no-image', 'capacity'] as const
export type ForwardReason = (typeof FORWARD_REASONS)[number]

export type PlaceDecision =
  | { readonly kind: 'local' }
  | { readonly kind: 'forward'; readonly reason: ForwardReason }

export interface PlaceFacts {
  /** In this POP's hot set. */
  readonly hot: boolean
  /** What the qualifier stands for is known, and not for longer than may be believed. */
  readonly versionKnown: boolean
  /** The build's image is complete and applied. Only if `versionKnown`. */
  readonly imageHere: boolean
  /** False: this POP has found that it cannot run the build. */
  readonly capable: boolean
  /** CPU limit that the function declares, ms. */
  readonly declaredCpuMs: number
  /** Estimate of the CPU time that 95 of 100 invocations stay below, us; 0 before there is one. */
  readonly learnedCpuUs: number
  /** Invocations that run or wait here, and how many may. */
  readonly inFlight: number
  readonly inFlightMax: number
  /** A region can be reached. */
  readonly regionInReach: boolean
}

export interface PlacePolicy {
  /** A function that declares more CPU than this is forwarded, ms. */
  readonly declaredCpuMaxMs: number
  /** One that is seen to take more is, us. */
  readonly learnedCpuMaxUs: number
}

export const DEFAULT_PLACE_POLICY: PlacePolicy = { declaredCpuMaxMs: 1000, learnedCpuMaxUs: 20_000 }

export const LOCAL: PlaceDecision = { kind: 'local' }
const FORWARD: Readonly<Record<ForwardReason, PlaceDecision>> = {
  capability: { kind: 'forward', reason: 'capability' },
  heavy: { kind: 'forward', reason: 'heavy' },
  'not-hot': { kind: 'forward', reason: 'not-hot' },
  'version-unknown': { kind: 'forward', reason: 'version-unknown' },
  'no-image': { kind: 'forward', reason: 'no-image' },
  capacity: { kind: 'forward', reason: 'capacity' },
}

export function place(facts: PlaceFacts, policy: PlacePolicy): PlaceDecision {
  if (facts.versionKnown && !facts.capable) return FORWARD.capability
  const runnable = facts.versionKnown && facts.imageHere
  if (runnable && !facts.regionInReach) return LOCAL
  if (facts.versionKnown && isHeavy(facts, policy)) return FORWARD.heavy
  if (!facts.hot) return FORWARD['not-hot']
  if (!facts.versionKnown) return FORWARD['version-unknown']
  if (!facts.imageHere) return FORWARD['no-image']
  return facts.inFlight < facts.inFlightMax ? LOCAL : FORWARD.capacity
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

const WARM_UP_SAMPLES = 20
const STEP = 0.1
