/**
 * Repairs of the engine's native `URL`: it has neither `searchParams` nor `parse`, and its accessors throw something
 * that is no JavaScript value when `this` is not a URL.
 *
 * U1: a URL that was asked for `searchParams` carries that object in a private field; changes go both ways through
 * the native `search`. A URL that was not asked pays nothing.
 */
import { getterOf, NativeURL, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, setterOf } from './primordials.ts'
import { searchParamsFor, setSearchParams, setWriteQuery, URLSearchParams } from './search-params.ts'
import { define, expose, publish, tag, toText } from './webidl.ts'

const prototype: object = NativeURL.prototype

type Getter = (self: unknown) => string
type Setter = (self: unknown, value: string) => void

const nativeHref = getterOf(prototype, 'href') as Getter
const nativeSearch = getterOf(prototype, 'search') as Getter
const setNativeSearch = setterOf(prototype, 'search') as Setter

function illegal(): TypeError {
  return new TypeError('Illegal invocation: this is not a URL')
}

function getSearch(url: unknown): string {
  try {
    return nativeSearch(url)
  } catch {
    throw illegal()
  }
}

export function getHref(url: unknown): string {
  try {
    return nativeHref(url)
  } catch {
    throw illegal()
  }
}

/** A constructor that returns its argument lets a subclass put a private field on a native object. */
const Returning = function (value: object): object {
  return value
} as unknown as new (value: object) => object

let paramsOf: (url: object) => URLSearchParams | null

class Bound extends Returning {
  readonly #params: URLSearchParams

  static {
    paramsOf = (url) => (#params in url ? url.#params : null)
  }

  constructor(url: object, params: URLSearchParams) {
    super(url)
    this.#params = params
  }
}

function searchParamsOf(url: object): URLSearchParams {
  const known = paramsOf(url)
  if (known !== null) return known
  const params = searchParamsFor(url, getSearch(url))
  new Bound(url, params)
  return params
}

function parse(url: unknown, base?: unknown): URL | null {
  try {
    return base === undefined ? new NativeURL(toText(url)) : new NativeURL(toText(url), toText(base))
  } catch {
    return null // The answer of URL.parse to what is not a URL.
  }
}

/** The same accessor with a proper error, and with `after` run once a value was set. */
function repairAccessor(name: string, after: ((url: object) => void) | null): void {
  const get = getterOf(prototype, name) as Getter
  const set = setterOf(prototype, name)
  const repaired = {
    get [name](): string {
      try {
        return get(this)
      } catch {
        throw illegal()
      }
    },
    set [name](value: unknown) {
      getHref(this)
      set?.(this, toText(value))
      after?.(this)
    },
  }
  const readOnly = set === undefined ? { set: undefined } : null
  ObjectDefineProperty(prototype, name, { ...ObjectGetOwnPropertyDescriptor(repaired, name), ...readOnly, enumerable: true } as PropertyDescriptor)
}

function refresh(url: object): void {
  const params = paramsOf(url)
  if (params !== null) setSearchParams(params, nativeSearch(url))
}

export function installUrl(): void {
  setWriteQuery(setNativeSearch)
  for (const name of ['protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'hash', 'origin']) repairAccessor(name, null)
  repairAccessor('search', refresh)
  repairAccessor('href', refresh)
  const members = {
    get searchParams(): URLSearchParams {
      return searchParamsOf(this)
    },
    toString(): string {
      return getHref(this)
    },
    toJSON(): string {
      return getHref(this)
    },
  }
  ObjectDefineProperty(prototype, 'searchParams', { ...ObjectGetOwnPropertyDescriptor(members, 'searchParams'), enumerable: true, configurable: true })
  for (const name of ['toString', 'toJSON']) ObjectDefineProperty(prototype, name, { ...ObjectGetOwnPropertyDescriptor(members, name), enumerable: true })
  tag(prototype, 'URL')
  define(NativeURL, 'parse', parse)
  publish('URL', NativeURL)
  expose('URLSearchParams', URLSearchParams, 0)
}
