import { randomInt } from 'node:crypto'

/** Randomness for decisions (probing, jitter). Not for secrets: those use node:crypto directly. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** Uniform integer in [0, below). */
  below(below: number): number
}

export const systemRandom: Random = {
  next: () => Math.random(),
  below: (below) => randomInt(below),
}

/** Mulberry32 (Tommy Ettinger, public domain): repeatable for a seed, good enough for tests and simulation. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return { next, below: (below) => Math.floor(next() * below) }
}
