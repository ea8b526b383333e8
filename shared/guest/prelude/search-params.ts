/** `URLSearchParams`: the engine's native one ignores records and pairs, decodes odd input wrongly and is bound to no URL. */
import { ArrayIndexOf, ArrayPush, ArraySlice, ArraySort, ArraySplice, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ReflectApply, ReflectOwnKeys, StringSlice, StringStartsWith, StringIsWellFormed, StringToWellFormed, SymbolIterator } from './primordials.ts'
import { aliasIterator, createPairIterator } from './pair-iterator.ts'
import { parseUrlencoded, serializeUrlencoded } from './urlencoded.ts'
import { isObject, toText } from './webidl.ts'

export let isSearchParams: (value: unknown) => value is URLSearchParams
let listOf: (params: URLSearchParams) => string[]
/** New content that the owning URL has given; not told back to it. */
export let setSearchParams: (params: URLSearchParams, query: string) => void
/** The parameters of a URL; at each change `writeQuery` is called with that URL. */
export let searchParamsFor: (url: object, query: string) => URLSearchParams
let writeQuery: ((url: object, query: string) => void) | null = null

export function setWriteQuery(write: (url: object, query: string) => void): void {
  writeQuery = write
}

const iterate = createPairIterator<URLSearchParams>('URLSearchParams Iterator', (params, index) => {
  const list = listOf(params)
  const name = list[index * 2]
  return name === undefined ? undefined : [name, list[index * 2 + 1] ?? '']
})

function scalar(value: unknown): string {
  const text = toText(value)
  return StringIsWellFormed(text) ? text : StringToWellFormed(text)
}

export class URLSearchParams {
  #list: string[]
  #url: object | null = null

  static {
    isSearchParams = (value): value is URLSearchParams => typeof value === 'object' && value !== null && #list in value
    listOf = (params) => params.#list
    setSearchParams = (params, query) => {
      params.#list = parseUrlencoded(withoutMark(query))
    }
    searchParamsFor = (url, query) => {
      const params = new URLSearchParams()
      params.#list = parseUrlencoded(withoutMark(query))
      params.#url = url
      return params
    }
  }

  constructor(init?: unknown) {
    this.#list = init === undefined ? [] : isObject(init) ? listFromObject(init) : parseUrlencoded(withoutMark(scalar(init)))
  }

  get size(): number {
    return this.#list.length / 2
  }

  append(name: string, value: string): void {
    if (arguments.length < 2) throw new TypeError('append needs a name and a value')
    const key = scalar(name)
    ArrayPush(this.#list, key)
    ArrayPush(this.#list, scalar(value))
    this.#changed()
  }

  delete(name: string, value?: string): void {
    if (arguments.length === 0) throw new TypeError('delete needs a name')
    const key = scalar(name)
    const wanted = value === undefined ? undefined : scalar(value)
    const list = this.#list
    for (let i = list.length - 2; i >= 0; i -= 2) if (list[i] === key && (wanted === undefined || list[i + 1] === wanted)) ArraySplice(list, i, 2)
    this.#changed()
  }

  get(name: string): string | null {
    if (arguments.length === 0) throw new TypeError('get needs a name')
    const i = findName(this.#list, scalar(name))
    return i < 0 ? null : (this.#list[i + 1] ?? '')
  }

  getAll(name: string): string[] {
    if (arguments.length === 0) throw new TypeError('getAll needs a name')
    const key = scalar(name)
    const list = this.#list
    const values: string[] = []
    for (let i = 0; i < list.length; i += 2) if (list[i] === key) ArrayPush(values, list[i + 1] ?? '')
    return values
  }

  has(name: string, value?: string): boolean {
    if (arguments.length === 0) throw new TypeError('has needs a name')
    const key = scalar(name)
    const wanted = value === undefined ? undefined : scalar(value)
    const list = this.#list
    for (let i = 0; i < list.length; i += 2) if (list[i] === key && (wanted === undefined || list[i + 1] === wanted)) return true
    return false
  }

  set(name: string, value: string): void {
    if (arguments.length < 2) throw new TypeError('set needs a name and a value')
    const key = scalar(name)
    const text = scalar(value)
    const list = this.#list
    let placed = false
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] !== key) continue
      if (placed) {
        ArraySplice(list, i, 2)
        i -= 2
      } else list[i + 1] = text
      placed = true
    }
    if (!placed) {
      ArrayPush(list, key)
      ArrayPush(list, text)
    }
    this.#changed()
  }

  sort(): void {
    const list = this.#list
    const pairs: (readonly [string, string])[] = []
    for (let i = 0; i < list.length; i += 2) ArrayPush(pairs, [list[i] ?? '', list[i + 1] ?? ''] as const)
    ArraySort(pairs, (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0))
    for (let i = 0; i < pairs.length; i++) {
      list[i * 2] = pairs[i]?.[0] ?? ''
      list[i * 2 + 1] = pairs[i]?.[1] ?? ''
    }
    this.#changed()
  }

  toString(): string {
    return serializeUrlencoded(this.#list)
  }

  forEach(callback: (value: string, name: string, params: URLSearchParams) => void, thisArg?: unknown): void {
    if (typeof callback !== 'function') throw new TypeError('forEach needs a function')
    for (let i = 0; i < this.#list.length; i += 2) ReflectApply(callback, thisArg, [this.#list[i + 1], this.#list[i], this])
  }

  entries(): IterableIterator<[string, string]> {
    return iterate(this, 'entries') as IterableIterator<[string, string]>
  }

  keys(): IterableIterator<string> {
    return iterate(this, 'keys') as IterableIterator<string>
  }

  values(): IterableIterator<string> {
    return iterate(this, 'values') as IterableIterator<string>
  }

  #changed(): void {
    if (this.#url !== null) writeQuery?.(this.#url, serializeUrlencoded(this.#list))
  }
}
// Arguments that may be left out do not count.
for (const name of ['delete', 'has', 'forEach']) ObjectDefineProperty(ObjectGetOwnPropertyDescriptor(URLSearchParams.prototype, name)?.value, 'length', { value: 1, configurable: true })
aliasIterator(URLSearchParams.prototype, ObjectGetOwnPropertyDescriptor(URLSearchParams.prototype, 'entries')?.value)

/** Index of the first pair with a name; -1 for none. The native search also meets values, which are at odd places. */
function findName(list: readonly string[], name: string): number {
  let i = ArrayIndexOf(list, name)
  while (i > 0 && (i & 1) === 1) i = ArrayIndexOf(list, name, i + 1)
  return i
}

function withoutMark(text: string): string {
  return StringStartsWith(text, '?') ? StringSlice(text, 1) : text
}

function listFromObject(init: object): string[] {
  if (isSearchParams(init) && (init as Partial<Iterable<unknown>>)[SymbolIterator] === URLSearchParams.prototype[SymbolIterator as never]) return ArraySlice(listOf(init))
  const list: string[] = []
  const method = (init as { [Symbol.iterator]?: unknown })[SymbolIterator]
  if (method === undefined || method === null) {
    const keys = ReflectOwnKeys(init)
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as string
      if (ObjectGetOwnPropertyDescriptor(init, key)?.enumerable !== true) continue
      const name = scalar(key)
      const value = scalar((init as Record<string, unknown>)[key])
      // Two keys that differ in broken characters only are one.
      const at = name === key ? -1 : findName(list, name)
      if (at >= 0) list[at + 1] = value
      else {
        ArrayPush(list, name)
        ArrayPush(list, value)
      }
    }
    return list
  }
  for (const pair of init as Iterable<unknown>) {
    if (!isObject(pair) || typeof (pair as Partial<Iterable<unknown>>)[SymbolIterator] !== 'function') throw new TypeError('Each parameter must be a pair of name and value')
    const both: unknown[] = []
    for (const part of pair as Iterable<unknown>) ArrayPush(both, part)
    if (both.length !== 2) throw new TypeError('Each parameter must be a pair of name and value')
    ArrayPush(list, scalar(both[0]))
    ArrayPush(list, scalar(both[1]))
  }
  return list
}
