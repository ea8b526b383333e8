/** Properties that are computed when first read. They look like data: own, enumerable, writable, and the log shows their value. */
import { ObjectDefineProperty, SetAdd, SetHas } from './primordials.ts'

const lazyGetters = new Set<unknown>()

export function defineLazy(target: object, name: string, compute: () => unknown): void {
  let known = false
  let value: unknown
  const get = (): unknown => {
    if (!known) {
      known = true
      value = compute()
    }
    return value
  }
  const set = (given: unknown): void => {
    known = true
    value = given
  }
  SetAdd(lazyGetters, get)
  ObjectDefineProperty(target, name, { get, set, enumerable: true, configurable: true })
}

export function isLazyGetter(get: unknown): boolean {
  return SetHas(lazyGetters, get)
}
