/**
 * What a region advises a POP to hold ahead of demand: what other POPs of the same area hold because they are asked for it.
 * A user who goes from one POP to the next, or a morning that comes to all of them, finds the function there. Pure.
 *
 * How many POPs are asked for a function goes first, since one busy POP may have one busy client; then how often they are
 * asked together. Nothing is advised that the POP holds.
 */
export interface PopActivity {
  readonly area: string
  /** Arrivals a minute by function, decayed; bounded by whoever keeps it. */
  readonly rates: ReadonlyMap<string, number>
  /** Functions of which it holds an image. */
  readonly held: ReadonlySet<string>
}

export interface AdvicePolicy {
  /** Less often than this, a minute, is no demand at a POP. */
  readonly rateMin: number
  /** Functions of one area that are worth advising. */
  readonly demandMax: number
}

export const DEFAULT_ADVICE_POLICY: AdvicePolicy = { rateMin: 6, demandMax: 256 }

export interface AreaDemand {
  readonly key: string
  /** The one POP that is asked for it; null: several are. */
  readonly onlyAt: PopActivity | null
}

/** What the POPs of one area hold and are asked for, the most worth first. One pass over all of them: not for each of their reports. */
export function areaDemand(area: string, pops: Iterable<PopActivity>, policy: AdvicePolicy): AreaDemand[] {
  const demand = new Map<string, { pops: number; rate: number; readonly first: PopActivity }>()
  for (const pop of pops) {
    if (pop.area !== area) continue
    for (const [key, rate] of pop.rates) {
      if (rate < policy.rateMin || !pop.held.has(key)) continue
      const entry = demand.get(key) ?? { pops: 0, rate: 0, first: pop }
      entry.pops++
      entry.rate += rate
      demand.set(key, entry)
    }
  }
  return [...demand]
    .sort(([keyA, a], [keyB, b]) => b.pops - a.pops || b.rate - a.rate || (keyA < keyB ? -1 : 1))
    .slice(0, policy.demandMax)
    .map(([key, { pops, first }]) => ({ key, onlyAt: pops === 1 ? first : null }))
}

/** Of the demand at others what a POP should hold and does not. `may`: whether something may be advised to it now. */
export function adviseHotSet(asking: PopActivity, demand: readonly AreaDemand[], may: (key: string) => boolean, countMax: number): string[] {
  const advised: string[] = []
  for (const { key, onlyAt } of demand) {
    if (advised.length >= countMax) break
    if (onlyAt !== asking && !asking.held.has(key) && may(key)) advised.push(key)
  }
  return advised
}
