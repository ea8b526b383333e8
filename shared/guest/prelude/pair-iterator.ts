/** Iterators over name-value pairs of Headers, URLSearchParams and FormData: live, as Web IDL wants them. */
import { ObjectDefineProperty, ObjectGetPrototypeOf, ObjectSetPrototypeOf, SymbolIterator, SymbolToStringTag } from './primordials.ts'

export type PairKind = 'entries' | 'keys' | 'values'
type Pair = readonly [string, unknown]

export const IteratorPrototype = ObjectGetPrototypeOf(ObjectGetPrototypeOf([][SymbolIterator]())) as object

class Cursor<T> {
  readonly target: T
  readonly kind: PairKind
  index = 0

  constructor(target: T, kind: PairKind) {
    this.target = target
    this.kind = kind
  }
}

/** `pairAt` gives the pair at an index of the target as it is now, or undefined at its end. */
export function createPairIterator<T>(name: string, pairAt: (target: T, index: number) => Pair | undefined): (target: T, kind: PairKind) => IterableIterator<unknown> {
  class PairIterator {
    #cursor: Cursor<T>

    constructor(cursor: Cursor<T>) {
      this.#cursor = cursor
    }

    next(): IteratorResult<unknown> {
      const cursor = this.#cursor
      const pair = pairAt(cursor.target, cursor.index)
      if (pair === undefined) return { value: undefined, done: true }
      cursor.index++
      return { value: cursor.kind === 'keys' ? pair[0] : cursor.kind === 'values' ? pair[1] : [pair[0], pair[1]], done: false }
    }
  }
  const prototype = PairIterator.prototype
  Reflect.deleteProperty(prototype, 'constructor')
  ObjectSetPrototypeOf(prototype, IteratorPrototype)
  ObjectDefineProperty(prototype, 'next', { enumerable: true })
  ObjectDefineProperty(prototype, SymbolToStringTag, { value: name, configurable: true })
  return (target, kind) => new PairIterator(new Cursor(target, kind)) as unknown as IterableIterator<unknown>
}

/** `[Symbol.iterator]` is the same function as `entries` (or another method), as the specifications say. */
export function aliasIterator(prototype: object, method: unknown): void {
  ObjectDefineProperty(prototype, SymbolIterator, { value: method, writable: true, configurable: true, enumerable: false })
}
