/** The part of npm `consistent-hash` that Outpost uses; the package has no types. */
declare module 'consistent-hash' {
  class ConsistentHash {
    /** `range`: points lie in [0, range). */
    constructor(options?: { readonly range?: number })
    /** With `points` given, `count` says nothing and nothing is placed at random. */
    add(node: string, count: number, points: readonly number[]): this
    /** The first `count` different nodes from the name's place on; null on an empty ring. */
    get(name: string, count: number): string[] | null
  }
  export = ConsistentHash
}
