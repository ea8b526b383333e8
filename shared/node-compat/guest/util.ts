/** `node:util`. `inspect` and `format` are Node's own, by the npm package node-inspect-extracted. */
import { format, formatWithOptions, inspect as inspectExtracted, stripVTControlCharacters } from 'node-inspect-extracted'
import { isDeepStrictEqual } from './deep-equal.ts'
import { invalidType, invalidValue, nodeError, requireFunction } from './errors.ts'
import * as types from './util-types.ts'

type Callback = (error: unknown, ...values: unknown[]) => void
type AnyFunction = (this: unknown, ...values: unknown[]) => unknown

export { format, formatWithOptions, isDeepStrictEqual, stripVTControlCharacters, types }
export const inspect: unknown = inspectExtracted
export const { TextDecoder, TextEncoder } = globalThis
/** Settles when the signal is aborted. */
export function aborted(signal: AbortSignal, resource: object): Promise<void> {
  if (!isObject(resource)) throw invalidType('resource', 'of type object', resource)
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

const custom = Symbol.for('nodejs.util.promisify.custom')
const customNames = Symbol.for('nodejs.util.promisify.customArgs')

export function promisify(original: unknown): unknown {
  requireFunction('original', original)
  const given = (original as unknown as Record<symbol, unknown>)[custom]
  if (given !== undefined) {
    requireFunction('util.promisify.custom', given)
    return Object.defineProperty(given, custom, { value: given, enumerable: false, writable: false, configurable: true })
  }
  const names = (original as unknown as Record<symbol, readonly string[] | undefined>)[customNames]
  const promised = function promised(this: unknown, ...values: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const settle: Callback = (error, ...results) => {
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what was called back
        if (error !== null && error !== undefined && error !== false && error !== 0 && error !== '') reject(error)
        else resolve(names !== undefined && results.length > 1 ? Object.fromEntries(names.map((name, index) => [name, results[index]])) : results[0])
      }
      const result: unknown = Reflect.apply(original, this, [...values, settle])
      // What came of an async function is of no concern here, as in Node; its failure is.
      if (types.isPromise(result)) (result as Promise<unknown>).catch(reject)
    })
  }
  Object.setPrototypeOf(promised, Object.getPrototypeOf(original) as object | null)
  Object.defineProperty(promised, custom, { value: promised, enumerable: false, writable: false, configurable: true })
  return Object.defineProperties(promised, Object.getOwnPropertyDescriptors(original))
}
promisify.custom = custom

export function callbackify(original: unknown): unknown {
  requireFunction('original', original)
  function callbackified(this: unknown, ...values: unknown[]): void {
    const callback = values.pop()
    requireFunction('last argument', callback)
    const settle = (error: unknown, value?: unknown): void => queueMicrotask(() => Reflect.apply(callback, this, error === null ? [null, value] : [error]))
    void (Reflect.apply(original as AnyFunction, this, values) as Promise<unknown>).then(
      (value) => settle(null, value),
      (reason: unknown) => {
        if (reason !== null && reason !== undefined && reason !== false && reason !== 0 && reason !== '') return settle(reason)
        const error = nodeError(Error, 'ERR_FALSY_VALUE_REJECTION', 'Promise was rejected with falsy value') as Error & { reason?: unknown }
        error.reason = reason
        settle(error)
      },
    )
  }
  Object.defineProperties(callbackified, { length: { value: original.length + 1, configurable: true }, name: { value: `${original.name}Callbackified`, configurable: true } })
  return callbackified
}

export function inherits(constructor: unknown, parent: unknown): void {
  requireFunction('ctor', constructor)
  requireFunction('superCtor', parent)
  const { prototype } = parent as { readonly prototype?: object }
  if (prototype === undefined) throw invalidType('superCtor.prototype', 'of type object', prototype)
  Object.defineProperty(constructor, 'super_', { value: parent, writable: true, configurable: true })
  Object.setPrototypeOf((constructor as unknown as { prototype: object }).prototype, prototype)
}

const warned = new Set<string>()

export function deprecate(run: unknown, message: string, code?: string): unknown {
  requireFunction('fn', run)
  let told = false
  const deprecated = function deprecated(this: unknown, ...values: unknown[]): unknown {
    if (!told && (code === undefined || !warned.has(code))) console.warn(`${code === undefined ? '' : `[${code}] `}DeprecationWarning: ${message}`)
    told = true
    if (code !== undefined) warned.add(code)
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- it is called without `new` as well
    return new.target === undefined ? Reflect.apply(run, this, values) : (Reflect.construct(run, values, new.target) as unknown)
  }
  Object.setPrototypeOf(deprecated, run)
  ;(deprecated as { prototype: unknown }).prototype = (run as unknown as { prototype: unknown }).prototype
  return deprecated
}

/** NODE_DEBUG is nobody's to set in a function: the log stays silent. */
export function debuglog(_section: string): ((...values: unknown[]) => void) & { enabled: boolean } {
  return Object.assign(() => undefined, { enabled: false })
}
export const debug = debuglog

export function log(...values: unknown[]): void {
  console.log(format(...values))
}

export function toUSVString(value: unknown): string {
  return (String(value) as string & { toWellFormed(): string }).toWellFormed()
}

export function _extend(target: object, source: unknown): object {
  return typeof source === 'object' && source !== null ? Object.assign(target, source) : target
}

const STYLES = (inspectExtracted as unknown as { readonly colors: Readonly<Record<string, readonly [number, number] | undefined>> }).colors

/** Plain: as in Node where the output is no terminal. */
export function styleText(style: string | readonly string[], text: string): string {
  for (const name of typeof style === 'string' ? [style] : style) {
    if (STYLES[name] === undefined) throw invalidValue('format', name, `must be one of: ${Object.keys(STYLES).map((each) => `'${each}'`).join(', ')}`)
  }
  return text
}

export function parseEnv(content: string): Record<string, string> {
  const result: Record<string, string> = {}
  const line = /^\s*(?:export\s+)?([\w.-]+)\s*=[ \t]*(?:'([^']*)'|"([^"]*)"|`([^`]*)`|([^\n#]*))?.*$/gm
  for (const [, name = '', single, double, back, bare] of content.matchAll(line)) result[name] = single ?? double?.replaceAll('\\n', '\n') ?? back ?? (bare ?? '').trim()
  return result
}

export const isArray: unknown = Array.isArray
export const isBoolean = (value: unknown): boolean => typeof value === 'boolean'
export const isBuffer = (value: unknown): boolean => value instanceof Uint8Array && '_isBuffer' in value
export const isNull = (value: unknown): boolean => value === null
export const isNullOrUndefined = (value: unknown): boolean => value === null || value === undefined
export const isNumber = (value: unknown): boolean => typeof value === 'number'
export const isString = (value: unknown): boolean => typeof value === 'string'
export const isSymbol = (value: unknown): boolean => typeof value === 'symbol'
export const isUndefined = (value: unknown): boolean => value === undefined
export const isObject = (value: unknown): boolean => value !== null && typeof value === 'object'
export const isFunction = (value: unknown): boolean => typeof value === 'function'
export const isPrimitive = (value: unknown): boolean => value === null || (typeof value !== 'object' && typeof value !== 'function')
export const { isRegExp, isDate } = types
export const isError = (value: unknown): boolean => types.isNativeError(value) || value instanceof Error

export default {
  _extend, callbackify, debug, debuglog, deprecate, format, styleText, formatWithOptions, inherits, inspect, isArray, isBoolean, isBuffer, isDeepStrictEqual, isNull, isNullOrUndefined, isNumber, isString, isSymbol, isUndefined,
  isRegExp, isObject, isDate, isError, isFunction, isPrimitive, log, promisify, stripVTControlCharacters, toUSVString, aborted, types: types.default, parseEnv, TextDecoder, TextEncoder,
}
