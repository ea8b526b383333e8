/** Conversions and class dressing that Web IDL prescribes. */
import { ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ReflectOwnKeys, SetAdd, SymbolToStringTag, globals } from './primordials.ts'

/** `String(value)` as Web IDL does it: a symbol throws. */
export function toText(value: unknown): string {
  if (typeof value === 'string') return value
  // A template converts with the hint "string" and refuses symbols; String() would accept them.
  return `${value as number}`
}

export function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

interface Constructor {
  readonly prototype: object
}

/** Puts a class on the global object as browsers do: not enumerable there, its methods enumerable, with a tag. `length`: of arguments that it needs. */
export function expose(name: string, constructor: Constructor, length?: number): void {
  const prototype = constructor.prototype
  const keys = ReflectOwnKeys(prototype)
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]
    if (typeof key !== 'string' || key === 'constructor') continue
    const descriptor = ObjectGetOwnPropertyDescriptor(prototype, key)
    if (descriptor?.configurable === true) ObjectDefineProperty(prototype, key, { ...descriptor, enumerable: true })
  }
  tag(prototype, name)
  if (length !== undefined) ObjectDefineProperty(constructor, 'length', { value: length, configurable: true })
  publish(name, constructor)
}

export function tag(prototype: object, name: string): void {
  ObjectDefineProperty(prototype, SymbolToStringTag, { value: name, configurable: true })
}

/** Of classes that are globals of ours: their objects have no structured clone, with few exceptions. */
export const platformPrototypes = new Set<object>()

/** A global. */
export function publish(name: string, value: unknown): void {
  if (typeof value === 'function' && isObject(value.prototype)) SetAdd(platformPrototypes, value.prototype)
  define(globals, name, value)
}

/** The bundler shortens the names of classes and functions. */
export function nameAs(value: object, name: string): void {
  ObjectDefineProperty(value, 'name', { value: name, configurable: true })
}

/** A writable, hidden property: how built-ins sit on the global object. */
export function define(target: object, name: string | symbol, value: unknown): void {
  if (typeof value === 'function' && typeof name === 'string' && name !== 'constructor') nameAs(value, name)
  ObjectDefineProperty(target, name, { value, writable: true, configurable: true, enumerable: false })
}

