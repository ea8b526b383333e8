/**
 * Finding a ready sandbox by asking at random. Several managers each own some sandboxes; knowing for certain which of
 * them has an idle one costs more than asking a few. So: at most `probes` questions "do you have one ready?", each to
 * another manager, and then one final request "give me one, make it if you must", to yet another. With a part p of the
 * managers having one, k questions find it with probability 1-(1-p)^k, and the last look is the final request's own.
 *
 * The choice is semi-random: a manager's weight is its capacity times how often it lately had what was asked for. With
 * all weights equal it is uniform. Pure: the answers come from the caller's `tryReserve`, randomness from outside.
 */
import type { Random } from '../random.ts'

export interface ProbeTarget {
  /** Asks manager `index` for a sandbox that is ready. True: it is reserved for the caller. Must be atomic at the manager. */
  tryReserve(index: number): boolean
}

export type ProbeResult =
  /** A ready sandbox was reserved at `index`. */
  | { readonly kind: 'reserved'; readonly index: number; readonly probes: number }
  /** Nobody asked had one: send the final request to `index`. */
  | { readonly kind: 'final'; readonly index: number; readonly probes: number }
  /** There is no manager at all. */
  | { readonly kind: 'none' }

export interface ProbeOptions {
  /** Questions before the final request. 0: the first request is the final one. */
  readonly probes: number
  readonly random: Random
}

export const DEFAULT_PROBES = 3

/** `weights[i]`: how likely manager i is to be asked, relative to the others; 0 or less: never. */
export function probe(weights: readonly number[], target: ProbeTarget, options: ProbeOptions): ProbeResult {
  const asked = new Set<number>()
  let probes = 0
  for (;;) {
    const index = pick(weights, asked, options.random)
    if (index === null) return { kind: 'none' }
    // The final request goes to one that was not asked yet, so that its own look counts.
    if (probes >= options.probes || asked.size + 1 >= candidates(weights)) return { kind: 'final', index, probes }
    asked.add(index)
    probes++
    if (target.tryReserve(index)) return { kind: 'reserved', index, probes }
  }
}

/** Another manager for the final request, after the first could not provide: any but `failed`. */
export function nextFinal(weights: readonly number[], failed: readonly number[], random: Random): number | null {
  return pick(weights, new Set(failed), random)
}

/** How often each manager lately had what was asked for; answers count less the older they are. */
export class ProbeWeights {
  readonly #hits: number[]

  constructor(managerCount: number) {
    this.#hits = new Array<number>(managerCount).fill(1)
  }

  record(index: number, had: 'hit' | 'miss'): void {
    const before = this.#hits[index] ?? 1
    this.#hits[index] = before + ((had === 'hit' ? 1 : FLOOR) - before) * SMOOTHING
  }

  /** `capacities[i]`: sandboxes of manager i; 0 takes it out. */
  weights(capacities: readonly number[]): number[] {
    return this.#hits.map((hit, index) => hit * (capacities[index] ?? 0))
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
