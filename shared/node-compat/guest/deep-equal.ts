/** Equality of values by what they hold, as `util.isDeepStrictEqual` and `assert.deepEqual` have it. */
import { isAnyArrayBuffer, isBoxedPrimitive, isDate, isMap, isNativeError, isRegExp, isSet } from './util-types.ts'

class Comparison {
  readonly strict: boolean
  /** Pairs that are being compared further up: a cycle is equal as long as nothing else differs. */
  readonly #open: (readonly [object, object])[] = []

  constructor(strict: boolean) {
    this.strict = strict
  }

  equal(a: unknown, b: unknown): boolean {
    if (this.strict ? Object.is(a, b) : a === b) return true
    if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) return this.#plain(a, b)
    if (this.strict && Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false
    if (Object.prototype.toString.call(a) !== Object.prototype.toString.call(b) || Array.isArray(a) !== Array.isArray(b)) return false
    if (!this.#sameKind(a, b)) return false
    if (this.#open.some(([x, y]) => x === a && y === b)) return true
    this.#open.push([a, b])
    const result = this.#sameKeys(a, b) && this.#sameEntries(a, b)
    this.#open.pop()
    return result
  }

  #plain(a: unknown, b: unknown): boolean {
    if (this.strict || (typeof a === 'object' && a !== null) || (typeof b === 'object' && b !== null)) return false
     
    return a == b || (Number.isNaN(a) && Number.isNaN(b))
  }

  #sameKind(a: object, b: object): boolean {
    if (isDate(a) || isDate(b)) return isDate(a) && isDate(b) && Object.is((a as Date).getTime(), (b as Date).getTime())
    if (isRegExp(a) || isRegExp(b)) return isRegExp(a) && isRegExp(b) && (a as RegExp).toString() === (b as RegExp).toString() && (a as RegExp).lastIndex === (b as RegExp).lastIndex
    if (isNativeError(a) || isNativeError(b)) return isNativeError(a) && isNativeError(b) && (a as Error).message === (b as Error).message && (a as Error).name === (b as Error).name && this.equal((a as Error).cause, (b as Error).cause)
    if (isBoxedPrimitive(a) || isBoxedPrimitive(b)) return isBoxedPrimitive(a) && isBoxedPrimitive(b) && Object.is(a.valueOf(), b.valueOf())
    if (isMap(a) !== isMap(b) || isSet(a) !== isSet(b)) return false
    if (a instanceof WeakMap || a instanceof WeakSet || a instanceof Promise) return false
    if (isAnyArrayBuffer(a)) return isAnyArrayBuffer(b) && sameBytes(new Uint8Array(a as ArrayBuffer), new Uint8Array(b as ArrayBuffer))
    if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) return sameBytes(bytesOfView(a), bytesOfView(b)) || (!this.strict && isFloats(a) && this.#sameNumbers(a, b as Float64Array))
    return ArrayBuffer.isView(a) === ArrayBuffer.isView(b)
  }

  /** 0 and -0 have different bytes. */
  #sameNumbers(a: Float64Array, b: Float64Array): boolean {
    return a.length === b.length && a.every((value, index) => value === b[index])
  }

  #sameKeys(a: object, b: object): boolean {
    const skipsIndices = ArrayBuffer.isView(a)
    const keysOf = (value: object): PropertyKey[] => {
      const names: PropertyKey[] = skipsIndices ? Object.keys(value).filter((name) => !/^\d+$/.test(name)) : Object.keys(value)
      if (!this.strict) return names
      return [...names, ...Object.getOwnPropertySymbols(value).filter((symbol) => Object.prototype.propertyIsEnumerable.call(value, symbol))]
    }
    const keys = keysOf(a)
    if (keys.length !== keysOf(b).length || (Array.isArray(a) && a.length !== (b as unknown[]).length)) return false
    return keys.every((key) => Object.prototype.propertyIsEnumerable.call(b, key) && this.equal(Reflect.get(a, key), Reflect.get(b, key)))
  }

  #sameEntries(a: object, b: object): boolean {
    if (isSet(a)) return this.#sameSet(a as Set<unknown>, b as Set<unknown>)
    if (isMap(a)) return this.#sameMap(a as Map<unknown, unknown>, b as Map<unknown, unknown>)
    return true
  }

  #sameSet(a: Set<unknown>, b: Set<unknown>): boolean {
    if (a.size !== b.size) return false
    const rest = new Set([...b].filter((value) => !a.has(value)))
    for (const value of a) if (!b.has(value) && !takeOne(rest, (other) => this.equal(value, other))) return false
    return true
  }

  #sameMap(a: Map<unknown, unknown>, b: Map<unknown, unknown>): boolean {
    if (a.size !== b.size) return false
    const rest = new Set([...b.keys()].filter((key) => !a.has(key)))
    for (const [key, value] of a) {
      if (b.has(key) ? !this.equal(value, b.get(key)) : !takeOne(rest, (other) => this.equal(key, other) && this.equal(value, b.get(other)))) return false
    }
    return true
  }
}

/** Removes the first that fits. */
function takeOne(values: Set<unknown>, fits: (value: unknown) => boolean): boolean {
  for (const value of values) {
    if (!fits(value)) continue
    values.delete(value)
    return true
  }
  return false
}

function bytesOfView(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}

function isFloats(view: ArrayBufferView): view is Float64Array {
  return view instanceof Float64Array || view instanceof Float32Array
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}

export function isDeepStrictEqual(a: unknown, b: unknown): boolean {
  return new Comparison(true).equal(a, b)
}

export function isDeepLooseEqual(a: unknown, b: unknown): boolean {
  return new Comparison(false).equal(a, b)
}
