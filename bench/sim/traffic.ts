/**
 * Synthetic traffic of many functions at many POPs. It is made up: its shape follows what was published of the Azure
 * Functions trace (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020), no line of that trace is in it.
 *
 *   rates      daily calls of a function are log-normal, fitted to two published points: 45 % are called at most once an
 *              hour, 81 % at most once a minute. Cut at 10^-1 and 10^7 a day: eight orders of magnitude.
 *   bursts     half of the functions are called evenly, half in bursts: on for a part of a period of a minute to two hours
 *   day        the rate follows the hour of the day where the POP is, between half and one and a half times the mean
 *   audience   three quarters of the functions are called at one to eight POPs of one region, a quarter at all POPs, more
 *              at some than at others
 *   bytes      what an image adds in memory, log-normal around 400 KiB (a one-line function has 336 KiB, a Hono app 972)
 *
 * Arrivals of a POP are made by thinning: candidates come at the rate that all its functions have together when every one
 * is on and it is noon; each picks a function by an alias table and is kept if that function is on and by the hour.
 * Everything follows from one seed.
 */
import { type Random, seededRandom } from '../../shared/random.ts'

export interface TrafficOptions {
  readonly functions: number
  readonly pops: number
  readonly regions: number
  readonly seed: number
}

/** Arrivals at one POP, in order of time. */
export interface PopTraffic {
  readonly region: number
  /** Calls `arrive` for each arrival from where the last call ended until `untilMs`. */
  advance(untilMs: number, arrive: (atMs: number, index: number) => void): void
}

const LOG10_DAILY_MEAN = 1.603
const LOG10_DAILY_DEVIATION = 1.771
const DAILY_MIN = 1e-1
const DAILY_MAX = 1e7
const LOCAL_SHARE = 0.75
const LOCAL_POPS_MAX = 8
const BYTES_MEDIAN = 400 * 1024
const BYTES_DEVIATION = 0.9
const BYTES_MIN = 64 * 1024
const BYTES_MAX = 16 * 2 ** 20
const EVEN_SHARE = 0.5
const PERIOD_MIN_MS = 60_000
const PERIOD_MAX_MS = 7_200_000
const DAY_MS = 86_400_000
const DAY_SWING = 0.5

export class Traffic {
  readonly options: TrafficOptions
  /** Bytes of memory of each function's image beyond what all share. */
  readonly bytes: Float64Array
  /** Calls a day over all POPs. */
  readonly dailyCalls: Float64Array
  readonly #onShare: Float64Array
  readonly #periodMs: Float64Array
  /** By POP: which functions are called there, and how often on the mean, calls a ms. */
  readonly #audiences: { readonly functions: Uint32Array; readonly rates: Float64Array }[]

  constructor(options: TrafficOptions) {
    this.options = options
    const random = seededRandom(options.seed)
    const { functions, pops, regions } = options
    this.bytes = new Float64Array(functions)
    this.dailyCalls = new Float64Array(functions)
    this.#onShare = new Float64Array(functions)
    this.#periodMs = new Float64Array(functions)
    const audiences = Array.from({ length: pops }, () => ({ functions: [] as number[], rates: [] as number[] }))
    for (let index = 0; index < functions; index++) {
      this.bytes[index] = clamp(BYTES_MEDIAN * Math.exp(BYTES_DEVIATION * normal(random)), BYTES_MIN, BYTES_MAX)
      const daily = clamp(10 ** (LOG10_DAILY_MEAN + LOG10_DAILY_DEVIATION * normal(random)), DAILY_MIN, DAILY_MAX)
      this.dailyCalls[index] = daily
      this.#onShare[index] = random.next() < EVEN_SHARE ? 1 : 0.05 + 0.6 * random.next() ** 2
      this.#periodMs[index] = PERIOD_MIN_MS * (PERIOD_MAX_MS / PERIOD_MIN_MS) ** random.next()
      for (const [pop, share] of audience(random, pops, regions)) {
        audiences[pop]?.functions.push(index)
        audiences[pop]?.rates.push((daily * share) / DAY_MS)
      }
    }
    this.#audiences = audiences.map((found) => ({ functions: Uint32Array.from(found.functions), rates: Float64Array.from(found.rates) }))
  }

  /** Mean calls a second at a POP. */
  meanPerS(pop: number): number {
    let perMs = 0
    for (const rate of this.#audiences[pop]?.rates ?? []) perMs += rate
    return perMs * 1000
  }

  pop(pop: number): PopTraffic {
    const { functions, rates } = this.#audiences[pop] ?? { functions: new Uint32Array(), rates: new Float64Array() }
    const region = regionOf(pop, this.options)
    const onRates = rates.map((rate, at) => (rate / (this.#onShare[functions[at] ?? 0] ?? 1)) * (1 + DAY_SWING))
    const table = new AliasTable(onRates)
    const random = seededRandom((this.options.seed ^ Math.imul(pop + 1, 0x9e3779b1)) >>> 0)
    const dayOffsetMs = (region / this.options.regions) * DAY_MS
    let nextAtMs = 0
    return {
      region,
      advance: (untilMs, arrive) => {
        for (;;) {
          if (nextAtMs === 0) nextAtMs = gap(random, table.total)
          if (nextAtMs >= untilMs) return
          const atMs = nextAtMs
          nextAtMs += gap(random, table.total)
          const index = functions[table.pick(random)] ?? 0
          const hour = 1 + DAY_SWING * Math.sin((2 * Math.PI * (atMs + dayOffsetMs)) / DAY_MS)
          if (random.next() * (1 + DAY_SWING) < hour && this.#isOn(index, pop, atMs)) arrive(atMs, index)
        }
      },
    }
  }

  #isOn(index: number, pop: number, atMs: number): boolean {
    const share = this.#onShare[index] ?? 1
    if (share === 1) return true
    const periodMs = this.#periodMs[index] ?? PERIOD_MIN_MS
    const period = Math.floor(atMs / periodMs)
    const beginsAt = mixed(index, pop, period) * (1 - share)
    const at = atMs / periodMs - period
    return at >= beginsAt && at < beginsAt + share
  }
}

export function regionOf(pop: number, { pops, regions }: { readonly pops: number; readonly regions: number }): number {
  return Math.min(regions - 1, Math.floor((pop * regions) / pops))
}

/** Walker's alias method: picks an index with probability proportional to its weight in constant time. */
class AliasTable {
  readonly total: number
  readonly #keep: Float64Array
  readonly #alias: Uint32Array

  constructor(weights: Float64Array) {
    const count = weights.length
    this.total = weights.reduce((sum, weight) => sum + weight, 0)
    this.#keep = new Float64Array(count).fill(1)
    this.#alias = new Uint32Array(count)
    const scaled = weights.map((weight) => (weight * count) / this.total)
    const small: number[] = []
    const large: number[] = []
    scaled.forEach((weight, index) => (weight < 1 ? small : large).push(index))
    for (;;) {
      const less = small.pop()
      const more = large.pop()
      if (less === undefined || more === undefined) break
      this.#keep[less] = scaled[less] ?? 1
      this.#alias[less] = more
      scaled[more] = (scaled[more] ?? 0) - (1 - (scaled[less] ?? 1))
      ;((scaled[more] ?? 0) < 1 ? small : large).push(more)
    }
  }

  pick(random: Random): number {
    const index = random.below(this.#keep.length)
    return random.next() < (this.#keep[index] ?? 1) ? index : (this.#alias[index] ?? 0)
  }
}

/** POPs where a function is called, and each one's share. */
function* audience(random: Random, pops: number, regions: number): Generator<readonly [number, number]> {
  if (random.next() < LOCAL_SHARE) {
    const perRegion = Math.floor(pops / regions)
    const first = random.below(regions) * perRegion
    const count = Math.min(perRegion, 1 + random.below(LOCAL_POPS_MAX))
    const weights = Array.from({ length: count }, () => random.next() + 0.05)
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    const offset = random.below(perRegion)
    for (const [at, weight] of weights.entries()) yield [first + ((offset + at) % perRegion), weight / total]
    return
  }
  const weights = Array.from({ length: pops }, () => random.next() ** 3 + 0.001)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  for (const [pop, weight] of weights.entries()) yield [pop, weight / total]
}

/** Box and Muller. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
}

/** Time to the next of a Poisson process, ms. */
function gap(random: Random, perMs: number): number {
  return perMs === 0 ? Infinity : -Math.log(1 - random.next()) / perMs
}

/** Uniform in [0, 1), the same for the same numbers. */
function mixed(a: number, b: number, c: number): number {
  let hash = Math.imul(a + 1, 0x85ebca6b) ^ Math.imul(b + 1, 0xc2b2ae35) ^ Math.imul(c + 1, 0x27d4eb2f)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39)
  return ((hash ^ (hash >>> 15)) >>> 0) / 4_294_967_296
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value))
}
