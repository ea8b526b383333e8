/** Randomness for machines that are restored. */
import { randomFillSync } from 'node:crypto'

const seeds = new BigUint64Array(512)
let seedIndex = seeds.length

/** 64 random bits; refills 4 KiB from the host's CSPRNG at a time, which a single small read would cost. */
export function nextSeed(): bigint {
  if (seedIndex === seeds.length) {
    randomFillSync(seeds)
    seedIndex = 0
  }
  return seeds[seedIndex++] ?? 1n
}
