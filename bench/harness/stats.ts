/**
 * The arithmetic of the benchmarks; pure.
 *
 * A shared machine drifts by more than the differences we look for, so peers are measured in turn within each round, the
 * order is reversed from round to round, a ratio is formed within its round, and the median of those ratios counts.
 */

export function sorted(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b)
}

export function median(values: readonly number[]): number {
  const ordered = sorted(values)
  const middle = ordered.length >> 1
  const upper = ordered[middle]
  if (upper === undefined) throw new Error('no values to take a median of')
  return ordered.length % 2 === 1 ? upper : ((ordered[middle - 1] ?? upper) + upper) / 2
}

/** Nearest rank: the smallest value that at least `percent` per cent of all values do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  if (!(percent > 0 && percent <= 100)) throw new Error(`${percent} is not a percentage above 0`)
  const ordered = sorted(values)
  const value = ordered[Math.ceil((percent / 100) * ordered.length) - 1]
  if (value === undefined) throw new Error('no values to take a percentile of')
  return value
}

/** `over[i] / under[i]` for each round. */
export function ratios(over: readonly number[], under: readonly number[]): number[] {
  if (over.length !== under.length) throw new Error(`${over.length} rounds against ${under.length}`)
  return over.map((value, round) => value / at(under, round))
}

/** Least squares slope of y over x. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  if (points.length < 2) throw new Error('a slope needs two points')
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length
  const covariance = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0)
  const variance = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
  if (variance === 0) throw new Error('a slope needs two different x')
  return covariance / variance
}

/** Every peer once in each round; every second round in reverse order. Results are by peer, in the order of rounds. */
export async function alternate<Peer extends string, Result>(
  peers: readonly Peer[],
  rounds: number,
  measure: (peer: Peer, round: number) => Promise<Result> | Result,
): Promise<Record<Peer, Result[]>> {
  const results = Object.fromEntries(peers.map((peer) => [peer, []])) as unknown as Record<Peer, Result[]>
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? peers : [...peers].reverse()
    for (const peer of order) results[peer].push(await measure(peer, round))
  }
  return results
}

/** `values[index]`, or an error where it is missing. */
export function at<T>(values: readonly T[], index: number): T {
  const value = values[index]
  if (value === undefined) throw new Error(`nothing at ${index} of ${values.length}`)
  return value
}
