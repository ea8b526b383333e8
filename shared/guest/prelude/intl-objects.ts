/**
 * What all classes of `Intl` share. An object of one holds a key, JSON text of its kind, locales and options, and what these came to; a
 * key goes along with each call, since the host keeps nothing (hostIntl). So objects survive in images, and cost nothing there.
 */
import { hostIntl } from './host.ts'
import { JSONParse, JSONStringify, MathTrunc, NativeObject, ObjectCreate, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ObjectGetPrototypeOf, ObjectPrototype, ObjectSetPrototypeOf, ReflectConstruct, ReflectOwnKeys, StringSlice, SymbolHasInstance } from './primordials.ts'
import { define, isObject, nameAs, tag, toText } from './webidl.ts'

export type IntlValue = string | number
export type IntlOptions = Record<string, string | number | boolean>

export interface State {
  /** The first letter of `kind` in shared/intl/operations.ts. */
  readonly kind: string
  readonly key: string
  /** The resolved options, as JSON. */
  readonly resolved: string
  /** What the getter `format` or `compare` gave. */
  bound: ((...values: never[]) => unknown) | undefined
}

// eslint-disable-next-line @typescript-eslint/no-extraneous-class -- a derived class puts its fields on what this gives
class Stamped {
  constructor(target: object) {
    return target
  }
}

/** Puts a private field on any object, as internal slots are there whatever its prototype says. */
class Stamp extends Stamped {
  readonly #state: State

  constructor(target: object, state: State) {
    super(target)
    this.#state = state
  }

  static of(value: unknown, kind: string): State | undefined {
    if (!isObject(value) || !(#state in value)) return undefined
    const state = value.#state
    return state.kind === kind ? state : undefined
  }
}

/** Asks the host. Its refusals are RangeErrors and TypeErrors of this world. */
export function ask(key: string, what: string, a?: IntlValue, b?: IntlValue): string | number | null {
  try {
    return hostIntl(key, what, a, b)
  } catch (error) {
    const { name, message } = error as Error
    if (name === 'RangeError') throw new RangeError(message)
    if (name === 'TypeError') throw new TypeError(message)
    throw error
  }
}

export function askText(key: string, what: string, a?: IntlValue, b?: IntlValue): string {
  return ask(key, what, a, b) as string
}

export function askJson(key: string, what: string, a?: IntlValue, b?: IntlValue): unknown {
  return JSONParse(ask(key, what, a, b) as string)
}

export function keyOf(kind: string, locales: readonly string[], options: object): string {
  return JSONStringify([kind, locales, options]) ?? ''
}

/** CanonicalizeLocaleList, but for the tags' form, which the host looks at. */
export function localeList(locales: unknown): string[] {
  if (locales === undefined) return []
  if (typeof locales === 'string') return [locales]
  const own = localeTag(locales)
  if (own !== undefined) return [own]
  if (locales === null) throw new TypeError('Locales must not be null')
  const object = NativeObject(locales) as ArrayLike<unknown>
  const length = MathTrunc(toNumber(object.length))
  const list: string[] = []
  for (let index = 0; index < length; index++) {
    if (!(index in object)) continue
    const locale = object[index]
    if (typeof locale !== 'string' && !isObject(locale)) throw new TypeError('A locale must be a string or an Intl.Locale')
    append(list, localeTag(locale) ?? toText(locale))
  }
  return list
}

/** Whatever setters Array.prototype has been given. */
export function append(list: string[], item: string): void {
  ObjectDefineProperty(list, list.length, { value: item, writable: true, enumerable: true, configurable: true })
}

function localeTag(value: unknown): string | undefined {
  const state = Stamp.of(value, 'T')
  return state === undefined ? undefined : (JSONParse(state.resolved) as { readonly tag: string }).tag
}

/** Reads options in the order of `names`. What a name begins with says the type: `#` number, `?` boolean, `!` useGrouping's, else text. */
export function readOptions(options: unknown, names: readonly string[]): IntlOptions {
  const plain = ObjectCreate(null) as IntlOptions
  if (options === undefined) return plain
  if (options === null) throw new TypeError('Options must not be null')
  for (let index = 0; index < names.length; index++) {
    const typed = names[index] ?? ''
    const type = typed[0] ?? ''
    const isText = type > '?'
    const name = isText ? typed : StringSlice(typed, 1)
    const value = (options as Readonly<Record<string, unknown>>)[name]
    if (value === undefined) continue
    if (isText) plain[name] = toText(value)
    else if (type === '?') plain[name] = !!value
    else if (type === '!') plain[name] = value === true || !value ? !!value : toText(value)
    else plain[name] = jsonNumber(toNumber(value))
  }
  return plain
}

/** Refuses a BigInt, which Number() would take. */
export function toNumber(value: unknown): number {
  return (value as number) - 0
}

/** JSON has no word for these, but the host converts as the standard says. */
function jsonNumber(value: number): IntlValue {
  return value - value === 0 ? value : toText(value)
}

export interface Service {
  readonly kind: string
  readonly name: string
  /** For readOptions. */
  readonly options: readonly string[]
  /** With or without `new`; both: as ES5 had it, when called on an object. */
  readonly call: 'new' | 'either' | 'legacy'
  /** Options must be an object: GetOptionsObject. */
  readonly strict: boolean
  readonly length: number
}

export type IntlConstructor = (new (...values: unknown[]) => object) & { readonly prototype: object }

/** Called without `new` on an object that inherits from the class, that object is given its formatter by this name. */
const LEGACY = Symbol('IntlLegacyConstructedSymbol')

/** Makes `target` an object of `kind`. */
export function stamp(target: object, kind: string, key: string): void {
  new Stamp(target, { kind, key, resolved: askText(key, 'new'), bound: undefined })
}

export function defineService(service: Service, methods: object): IntlConstructor {
  const { kind, name, call } = service
  const made = function (this: unknown, ...values: unknown[]): unknown {
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- called without `new` it is
    if (new.target === undefined) {
      if (call === 'new') throw new TypeError(`Constructor Intl.${name} requires 'new'`)
      const fresh = ReflectConstruct(constructor, values)
      if (call !== 'legacy' || !isObject(this) || !inherits(constructor, this)) return fresh
      ObjectDefineProperty(this, LEGACY, { value: fresh })
      return this
    }
    adopt(this as object, new.target as unknown as { readonly prototype?: unknown }, constructor)
    const list = localeList(values[0])
    const options = values[1]
    if (service.strict && options !== undefined && !isObject(options)) throw new TypeError('Options must be an object')
    stamp(this as object, kind, keyOf(kind, list, readOptions(options, service.options)))
    return undefined
  }
  const constructor = made as unknown as IntlConstructor
  const resolvedOptions = { resolvedOptions(this: unknown): unknown { return resolvedIn(service, constructor, this) } }
  dress(constructor, name, service.length, resolvedOptions, methods)
  const supportedLocalesOf = (locales: unknown, options: unknown): unknown => askJson(keyOf(kind, localeList(locales), readOptions(options, ['localeMatcher'])), 'supported')
  defineHidden(constructor, 'supportedLocalesOf', 1, supportedLocalesOf)
  return constructor
}

/** A target of `new` whose `prototype` is no object has the class's; the engine gave it that of plain objects. */
export function adopt(made: object, target: { readonly prototype?: unknown }, { prototype }: IntlConstructor): void {
  if (ObjectGetPrototypeOf(made) === ObjectPrototype && !isObject(target.prototype)) ObjectSetPrototypeOf(made, prototype)
}

/** Name, length, prototype and its methods, as built-in classes have them. */
export function dress(constructor: IntlConstructor, name: string, length: number, ...methods: readonly object[]): void {
  const { prototype } = constructor
  nameAs(constructor, name)
  ObjectDefineProperty(constructor, 'length', { value: length, configurable: true })
  ObjectDefineProperty(constructor, 'prototype', { writable: false })
  for (let index = 0; index < methods.length; index++) copyHidden(prototype, methods[index] as object)
  tag(prototype, `Intl.${name}`)
}

export function copyHidden(target: object, methods: object): void {
  const names = ReflectOwnKeys(methods)
  for (let index = 0; index < names.length; index++) {
    const name = names[index] as string
    ObjectDefineProperty(target, name, { ...ObjectGetOwnPropertyDescriptor(methods, name), enumerable: false })
  }
}

/** The constructor's own property: `instanceof` without what subclasses say. */
function inherits(constructor: IntlConstructor, value: object): boolean {
  return SymbolHasInstance(constructor, value)
}

/** The state of an object of `kind`. Throws TypeError for anything else. */
export function stateOf(value: unknown, kind: string): State {
  const state = Stamp.of(value, kind)
  if (state === undefined) throw new TypeError('Method called on an object that is not of its Intl class')
  return state
}

/** The same, also by way of LEGACY. */
export function legacyStateOf(value: unknown, kind: string, constructor: IntlConstructor): State {
  if (isObject(value) && Stamp.of(value, kind) === undefined && inherits(constructor, value)) return stateOf((value as { readonly [LEGACY]?: unknown })[LEGACY], kind)
  return stateOf(value, kind)
}

function resolvedIn({ kind, call }: Service, constructor: IntlConstructor, value: unknown): unknown {
  return JSONParse((call === 'legacy' ? legacyStateOf(value, kind, constructor) : stateOf(value, kind)).resolved)
}

/** A function of the namespace or of a prototype. */
export function defineHidden(target: object, name: string, length: number, value: (...values: never[]) => unknown): void {
  define(target, name, value)
  ObjectDefineProperty(value, 'length', { value: length, configurable: true })
}
