/**
 * `Headers` in the shape that crosses to the host: one flat list of lower-case names and values, in order of
 * appearance. The native class of the engine has no guards, no byte check and no record initialiser, so this one
 * replaces it (`ecosystem.md` 5.2). Nothing is sorted or combined until somebody iterates.
 *
 * H1: at even indices of a list are valid lower-case names, at odd ones normalised byte strings without CR, LF or NUL.
 */
import { ArrayIndexOf, ArrayJoin, ArrayPush, ArraySlice, ArraySort, ArraySplice, MapGet, MapSet, MapSize, ObjectIsEnumerable, ReflectOwnKeys, SetAdd, SetHas, SetSize, RegExpExec, StringCharCodeAt, StringSlice, StringToLowerCase, SymbolIterator, ObjectGetOwnPropertyDescriptor, ReflectApply } from './primordials.ts'
import { isPriming } from './priming.ts'
import { isObject, toText } from './webidl.ts'
import { aliasIterator, createPairIterator } from './pair-iterator.ts'

export type HeaderList = string[]
export type HeadersInit = Headers | Iterable<readonly [string, string]> | Record<string, string>

/** `immutable`: requests that came in and responses of fetch. */
export type Guard = 'none' | 'immutable'

/** Names as people write them: a look-up costs a quarter of the check and the change of case. */
const COMMON_NAMES = new Map<string, string>()
for (const name of [
  'Accept', 'Accept-Encoding', 'Accept-Language', 'Access-Control-Allow-Credentials', 'Access-Control-Allow-Headers',
  'Access-Control-Allow-Methods', 'Access-Control-Allow-Origin', 'Access-Control-Expose-Headers', 'Access-Control-Max-Age',
  'Access-Control-Request-Headers', 'Access-Control-Request-Method', 'Age', 'Authorization', 'Cache-Control', 'Connection',
  'Content-Disposition', 'Content-Encoding', 'Content-Language', 'Content-Length', 'Content-Range', 'Content-Security-Policy',
  'Content-Type', 'Cookie', 'Date', 'ETag', 'Expires', 'Forwarded', 'Host', 'If-Match', 'If-Modified-Since', 'If-None-Match',
  'Last-Modified', 'Link', 'Location', 'Origin', 'Pragma', 'Range', 'Referer', 'Referrer-Policy', 'Retry-After', 'Server-Timing',
  'Set-Cookie', 'Strict-Transport-Security', 'Transfer-Encoding', 'Upgrade', 'User-Agent', 'Vary', 'WWW-Authenticate',
  'X-Content-Type-Options', 'X-Forwarded-For', 'X-Forwarded-Host', 'X-Forwarded-Proto', 'X-Frame-Options', 'X-Powered-By',
  'X-Real-IP', 'X-Request-Id', 'X-Requested-With', 'X-XSS-Protection', 'Traceparent', 'Tracestate',
]) {
  COMMON_NAMES.set(name, name.toLowerCase())
  COMMON_NAMES.set(name.toLowerCase(), name.toLowerCase())
}

/** Values known to need no change; see REMEMBERED_MAX. */
const CLEAN_VALUES = new Set<string>([
  'application/json', 'application/json; charset=utf-8', 'application/json; charset=UTF-8', 'application/octet-stream', 'image/png', 'image/svg+xml', 'text/css', 'text/html', 'text/html; charset=utf-8',
  'text/html; charset=UTF-8', 'text/html;charset=UTF-8', 'text/javascript', 'text/plain', 'text/plain; charset=utf-8', 'text/plain; charset=UTF-8', 'text/plain;charset=UTF-8', 'text/event-stream',
  '*', '0', 'true', 'no-cache', 'no-store', 'nosniff', 'DENY', 'SAMEORIGIN', 'GET', 'GET, POST, OPTIONS', 'chunked', 'keep-alive', 'close', 'gzip', 'public', 'private', 'max-age=0', 'max-age=60', 'max-age=3600',
])

/**
 * Names and values that priming met are remembered: what a function sends is then in its image.
 */
const REMEMBERED_MAX = 256

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
 
const BAD_VALUE = /[\0\r\n]|[^\0-\xff]/

export function normalizeName(value: unknown): string {
  const name = toText(value)
  const common = MapGet(COMMON_NAMES, name)
  if (common !== undefined) return common
  if (RegExpExec(TOKEN, name) === null) throw new TypeError(`Invalid header name: ${name === '' ? '(empty)' : name}`)
  const lower = StringToLowerCase(name)
  if (isPriming && MapSize(COMMON_NAMES) < REMEMBERED_MAX) MapSet(COMMON_NAMES, name, lower)
  return lower
}

function isSpace(code: number): boolean {
  return code === 32 || code === 9 || code === 10 || code === 13
}

export function normalizeValue(value: unknown, name: string): string {
  let text = toText(value)
  if (SetHas(CLEAN_VALUES, text)) return text
  let start = 0
  let end = text.length
  while (start < end && isSpace(StringCharCodeAt(text, start))) start++
  while (end > start && isSpace(StringCharCodeAt(text, end - 1))) end--
  if (end - start !== text.length) text = StringSlice(text, start, end)
  if (RegExpExec(BAD_VALUE, text) !== null) throw new TypeError(`Invalid value of header ${name}: it must be bytes without CR, LF and NUL`)
  if (isPriming && SetSize(CLEAN_VALUES) < REMEMBERED_MAX) SetAdd(CLEAN_VALUES, text)
  return text
}

/** Index of a name in a list, -1 if absent. */
export function findHeader(list: HeaderList, name: string, from: number): number {
  // The native search also meets values; names are at even places.
  let i = ArrayIndexOf(list, name, from)
  while (i > 0 && (i & 1) === 1) i = ArrayIndexOf(list, name, i + 1)
  return i
}

/** Value of a name with all its occurrences combined, or null. */
export function getHeader(list: HeaderList, name: string): string | null {
  let i = findHeader(list, name, 0)
  if (i < 0) return null
  let value = list[i + 1] ?? ''
  const separator = name === 'cookie' ? '; ' : ', '
  while ((i = findHeader(list, name, i + 2)) >= 0) value += separator + (list[i + 1] ?? '')
  return value
}

function removeHeader(list: HeaderList, name: string): void {
  for (let i = findHeader(list, name, 0); i >= 0; i = findHeader(list, name, i)) ArraySplice(list, i, 2)
}

function setHeader(list: HeaderList, name: string, value: string): void {
  const i = findHeader(list, name, 0)
  if (i < 0) {
    ArrayPush(list, name)
    ArrayPush(list, value)
    return
  }
  list[i + 1] = value
  for (let j = findHeader(list, name, i + 2); j >= 0; j = findHeader(list, name, j)) ArraySplice(list, j, 2)
}

/** Appends what a HeadersInit holds. */
export function fillHeaders(list: HeaderList, init: unknown): void {
  if (isHeaders(init) && init[SymbolIterator] === nativeIterator) {
    const source = headerListOf(init)
    for (let i = 0; i < source.length; i++) ArrayPush(list, source[i] ?? '')
    return
  }
  if (!isObject(init)) throw new TypeError('Headers must be an object, a Headers or a sequence of pairs')
  const method = (init as { [Symbol.iterator]?: unknown })[SymbolIterator]
  if (method === undefined || method === null) fillFromRecord(list, init as Record<string, unknown>)
  else fillFromPairs(list, init as Iterable<unknown>)
}

function fillFromRecord(list: HeaderList, record: Record<string, unknown>): void {
  const keys = ReflectOwnKeys(record)
  let at = list.length
  for (let i = 0; i < keys.length; i++) {
    // One after the other, which a proxy can see.
    const key = keys[i] as string
    if (!ObjectIsEnumerable(record, key)) continue
    // The two look-ups first: they spare the common cases the calls.
    const name = MapGet(COMMON_NAMES, key) ?? normalizeName(key)
    const value = record[key]
    const clean = typeof value === 'string' && SetHas(CLEAN_VALUES, value) ? value : normalizeValue(value, name)
    list[at++] = name
    list[at++] = clean
  }
}

function fillFromPairs(list: HeaderList, pairs: Iterable<unknown>): void {
  for (const pair of pairs) {
    if (!isObject(pair)) throw new TypeError('Each header must be a pair of name and value')
    const both: unknown[] = []
    for (const part of pair as Iterable<unknown>) ArrayPush(both, part)
    if (both.length !== 2) throw new TypeError('Each header must be a pair of name and value')
    const name = normalizeName(both[0])
    const value = normalizeValue(both[1], name)
    ArrayPush(list, name)
    ArrayPush(list, value)
  }
}

/** Pairs sorted by name; occurrences combined, but each `set-cookie` by itself. */
function sortedPairs(list: HeaderList): (readonly [string, string])[] {
  const pairs: (readonly [string, string])[] = []
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? ''
    if (name === 'set-cookie') ArrayPush(pairs, [name, list[i + 1] ?? ''] as const)
    else if (findHeader(list, name, 0) === i) ArrayPush(pairs, [name, getHeader(list, name) ?? ''] as const)
  }
  return ArraySort(pairs, (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0))
}

const pairAt = (headers: Headers, index: number): readonly [string, string] | undefined => sortedPairsOf(headers)[index]
const iterate = createPairIterator<Headers>('Headers Iterator', pairAt)

export let isHeaders: (value: unknown) => value is Headers
export let headerListOf: (headers: Headers) => HeaderList
let sortedPairsOf: (headers: Headers) => (readonly [string, string])[]
export let headerGuardOf: (headers: Headers) => Guard
/** Headers around a list that it shares with its owner. */
export let headersOver: (list: HeaderList, guard: Guard) => Headers

/** The list that the next Headers takes over. */
let adopted: HeaderList | null = null
/** What iteration gives of the last Headers iterated, until any changes. */
let sortedFor: Headers | null = null
let sorted: (readonly [string, string])[] = []

export class Headers {
  #list: HeaderList
  #guard: Guard

  static {
    isHeaders = (value): value is Headers => typeof value === 'object' && value !== null && #list in value
    headerListOf = (headers) => headers.#list
    headerGuardOf = (headers) => headers.#guard
    sortedPairsOf = (headers) => {
      if (sortedFor !== headers) {
        sortedFor = headers
        sorted = sortedPairs(headers.#list)
      }
      return sorted
    }
    headersOver = (list, guard) => {
      adopted = list
      const headers = new Headers()
      headers.#guard = guard
      return headers
    }
  }

  constructor(init?: HeadersInit) {
    this.#list = adopted ?? []
    adopted = null
    this.#guard = 'none'
    if (init !== undefined) fillHeaders(this.#list, init)
  }

  append(name: string, value: string): void {
    const key = normalizeName(name)
    const text = normalizeValue(value, key)
    this.#beforeChange()
    ArrayPush(this.#list, key)
    ArrayPush(this.#list, text)
  }

  delete(name: string): void {
    const key = normalizeName(name)
    this.#beforeChange()
    removeHeader(this.#list, key)
  }

  get(name: string): string | null {
    // What getHeader does for a name met once, without its calls: most reads are of such.
    const list = this.#list
    const key = MapGet(COMMON_NAMES, name) ?? normalizeName(name)
    const i = ArrayIndexOf(list, key)
    if (i < 0) return null
    if ((i & 1) === 1 || ArrayIndexOf(list, key, i + 1) >= 0) return getHeader(list, key)
    return list[i + 1] ?? ''
  }

  getSetCookie(): string[] {
    const list = this.#list
    const cookies: string[] = []
    for (let i = findHeader(list, 'set-cookie', 0); i >= 0; i = findHeader(list, 'set-cookie', i + 2)) ArrayPush(cookies, list[i + 1] ?? '')
    return cookies
  }

  has(name: string): boolean {
    return findHeader(this.#list, normalizeName(name), 0) >= 0
  }

  set(name: string, value: string): void {
    const key = normalizeName(name)
    const text = normalizeValue(value, key)
    this.#beforeChange()
    setHeader(this.#list, key, text)
  }

  forEach(callback: (value: string, name: string, headers: Headers) => void, thisArg?: unknown): void {
    if (typeof callback !== 'function') throw new TypeError('forEach needs a function')
    for (let i = 0, pair = pairAt(this, 0); pair !== undefined; pair = pairAt(this, ++i)) ReflectApply(callback, thisArg, [pair[1], pair[0], this])
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

  declare [Symbol.iterator]: () => IterableIterator<[string, string]>

  #beforeChange(): void {
    if (this.#guard === 'immutable') throw new TypeError('These headers are immutable: copy them with new Headers(headers)')
    sortedFor = null
  }
}

aliasIterator(Headers.prototype, ObjectGetOwnPropertyDescriptor(Headers.prototype, 'entries')?.value)
const nativeIterator: unknown = ObjectGetOwnPropertyDescriptor(Headers.prototype, SymbolIterator)?.value

/** A list as it crosses to the host. */
export function wireHeaders(list: HeaderList): string {
  return ArrayJoin(list, '\n')
}

export function copyList(list: HeaderList): HeaderList {
  return ArraySlice(list)
}
