/**
 * What a POP knows of where functions are current, from what its links to several regions tell. The regions share one
 * registry, so their change numbers can be compared, and each applies all changes in order: a region that is known to
 * have change n has every change before it. One number per region and two per function are therefore enough.
 *
 * K1  What a region tells of a function is acted upon only if nothing newer is known of the function, from any region.
 *     That it was deleted, or taken from this POP, counts whoever says it: at worst it has to be learned again.
 * K2  Changes above `floor` are all heard: it is the highest number at which a link opened upon changes that no other link
 *     had told of. What is known of a function as of an earlier number may be outdated, so `floor` is required of it.
 * K3  At most `functionsMax` functions are remembered; one that is forgotten raises the floor to its number.
 * K4  With one region there is nothing to compare: whatever it tells is acted upon.
 *
 * Pure: told what was heard, and the time by argument.
 */
import type { FunctionRef, FunctionVersions } from '../link/types.ts'

interface KnownFunction {
  /** Number of its latest change that was heard of; 0: none. */
  seq: number
  /** Up to this number `seq` was its latest change for certain (K2). */
  listedAsOfSeq: number
  /** What the POP knows of it was so at this number, in some region (K1). */
  asOfSeq: number
  /** When each region executed it last, by the caller's monotonic clock. */
  readonly executedAtMs: Float64Array
}

export interface ReplicaKnowledgeOptions {
  readonly regions: number
  readonly functionsMax: number
}

export class ReplicaKnowledge {
  readonly #options: ReplicaKnowledgeOptions
  readonly #positions: number[]
  /** By `account\nname`, the one touched last at the end. */
  readonly #functions = new Map<string, KnownFunction>()
  #floor = 0
  #highest = 0

  constructor(options: ReplicaKnowledgeOptions) {
    this.#options = options
    this.#positions = Array.from({ length: options.regions }, () => 0)
  }

  get size(): number {
    return this.#functions.size
  }

  /** Number of the latest change that any region is known to have. */
  get highest(): number {
    return this.#highest
  }

  /** Number of the latest change that a region is known to have. */
  position(region: number): number {
    return this.#positions[region] ?? 0
  }

  /** The number that a region must have reached to be current for a function. */
  required(account: string, functionName: string): number {
    const known = this.#functions.get(keyOf(account, functionName))
    if (known === undefined) return this.#floor
    return known.listedAsOfSeq >= this.#floor ? known.seq : Math.max(known.seq, this.#floor)
  }

  /** When a region executed a function last; -Infinity if it did not, as far as is remembered. */
  executedAtMs(region: number, account: string, functionName: string): number {
    return this.#functions.get(keyOf(account, functionName))?.executedAtMs[region] ?? Number.NEGATIVE_INFINITY
  }

  executed(region: number, account: string, functionName: string, nowMs: number): void {
    this.#touch(account, functionName).executedAtMs[region] = nowMs
  }

  /** It would not execute it now, whenever it last did. */
  declined(region: number, account: string, functionName: string): void {
    const known = this.#functions.get(keyOf(account, functionName))
    if (known !== undefined) known.executedAtMs[region] = Number.NEGATIVE_INFINITY
  }

  /** A region has said how far it is, with whatever answer. */
  reached(region: number, seq: number): void {
    this.#positions[region] = Math.max(this.position(region), seq)
    this.#highest = Math.max(this.#highest, seq)
  }

  /** A region has described a function as it was at `seq`: whether nothing newer is known of it. */
  described(region: number, account: string, functionName: string, seq: number): boolean {
    this.reached(region, seq)
    const known = this.#touch(account, functionName)
    if (!this.#isComparable) return true
    if (seq < known.seq) return false
    known.asOfSeq = Math.max(known.asOfSeq, seq)
    return true
  }

  /** A region tells of a change: whether that is to be acted upon (K1). */
  heard(region: number, versions: FunctionVersions): boolean {
    this.reached(region, versions.seq)
    return this.#isNews(versions, versions.seq)
  }

  /**
   * A link opens: the state of the functions that were `asked` for, as of `seq`; those missing among `present` are gone
   * there. Gives what is to be acted upon, a function that is gone with no builds. The region's position is what it says
   * now, also if it has said more before: its disk may have been lost.
   */
  opened(region: number, seq: number, asked: readonly FunctionRef[], present: readonly FunctionVersions[]): FunctionVersions[] {
    if (seq > this.#highest) this.#floor = seq
    this.#positions[region] = seq
    return this.listed(region, seq, asked, present)
  }

  /** The same over a link that was open all the time. */
  listed(region: number, seq: number, asked: readonly FunctionRef[], present: readonly FunctionVersions[]): FunctionVersions[] {
    this.reached(region, seq)
    const answered = new Set(present.map(({ account, functionName }) => keyOf(account, functionName)))
    const gone = asked.filter(({ account, functionName }) => !answered.has(keyOf(account, functionName)))
      .filter(({ account, functionName }) => !this.#isComparable || seq >= this.#touch(account, functionName).asOfSeq)
      .map(({ account, functionName }) => ({ account, functionName, seq, builds: [] }))
    return [...present, ...gone].filter((versions) => this.#isNews(versions, seq))
  }

  get #isComparable(): boolean {
    return this.#options.regions > 1 // K4
  }

  /** `asOfSeq`: when it was so; the change itself may be older. */
  #isNews({ account, functionName, seq, builds }: FunctionVersions, asOfSeq: number): boolean {
    const known = this.#touch(account, functionName)
    const isNews = asOfSeq >= known.asOfSeq && seq >= known.seq
    known.seq = Math.max(known.seq, seq)
    known.listedAsOfSeq = Math.max(known.listedAsOfSeq, asOfSeq)
    known.asOfSeq = Math.max(known.asOfSeq, asOfSeq)
    return isNews || builds.length === 0 || !this.#isComparable
  }

  /** K3. */
  #touch(account: string, functionName: string): KnownFunction {
    const key = keyOf(account, functionName)
    const known = this.#functions.get(key) ?? { seq: 0, listedAsOfSeq: 0, asOfSeq: 0, executedAtMs: new Float64Array(this.#options.regions).fill(Number.NEGATIVE_INFINITY) }
    this.#functions.delete(key)
    this.#functions.set(key, known)
    if (this.#functions.size > this.#options.functionsMax) {
      const [oldest] = this.#functions
      if (oldest !== undefined) {
        this.#floor = Math.max(this.#floor, oldest[1].seq)
        this.#functions.delete(oldest[0])
      }
    }
    return known
  }
}

function keyOf(account: string, functionName: string): string {
  return `${account}\n${functionName}`
}
