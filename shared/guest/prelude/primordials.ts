/**
 * The built-ins that the prelude uses, taken once before any code of a function runs. A function that patches
 * `Array.prototype` or `Promise.prototype` then changes its own world and not the prelude's.
 *
 * `uncurryThis(method)` gives a function that takes `this` first. Its cost over a method call is 20 ns (bench/guest-prelude.ts).
 */
/* eslint-disable @typescript-eslint/unbound-method -- taking methods off their prototypes is what this file is for */

const { bind, call } = Function.prototype
type Uncurry = <T, A extends unknown[], R>(method: (this: T, ...rest: A) => R) => (self: T, ...rest: A) => R
export const uncurryThis = bind.bind(call) as unknown as Uncurry

/** The getter of a property on a built-in prototype. */
const getter = (prototype: object, name: string | symbol): ((self: unknown) => unknown) => uncurryThis(Object.getOwnPropertyDescriptor(prototype, name)?.get as (this: unknown) => unknown)
export const getterOf = getter as (prototype: object, name: string) => (self: unknown) => unknown
/** Undefined for a property that cannot be set. */
export function setterOf(prototype: object, name: string): ((self: unknown, value: string) => void) | undefined {
  const set = Object.getOwnPropertyDescriptor(prototype, name)?.set as ((this: unknown, value: string) => void) | undefined
  return set === undefined ? undefined : uncurryThis(set)
}

export const StringIndexOf = uncurryThis(String.prototype.indexOf)
export const StringLastIndexOf = uncurryThis(String.prototype.lastIndexOf)
export const StringSlice = uncurryThis(String.prototype.slice)
export const StringSplit = uncurryThis(String.prototype.split as (this: string, separator: string) => string[])
export const StringSplitUpTo = uncurryThis(String.prototype.split as (this: string, separator: string, limit: number) => string[])
export const StringToLowerCase = uncurryThis(String.prototype.toLowerCase)
export const StringToUpperCase = uncurryThis(String.prototype.toUpperCase)
export const StringCharCodeAt = uncurryThis(String.prototype.charCodeAt)
export const StringReplaceAll = uncurryThis(String.prototype.replaceAll as (this: string, from: string, to: string) => string)
export const StringStartsWith = uncurryThis(String.prototype.startsWith)
export const StringEndsWith = uncurryThis(String.prototype.endsWith)
export const StringIncludes = uncurryThis(String.prototype.includes)
export const StringTrim = uncurryThis(String.prototype.trim)
export const StringRepeat = uncurryThis(String.prototype.repeat)
export const StringPadStart = uncurryThis(String.prototype.padStart)
export const StringPadEnd = uncurryThis(String.prototype.padEnd)
export const StringIsWellFormed = uncurryThis((String.prototype as unknown as { isWellFormed(this: string): boolean }).isWellFormed)
export const StringToWellFormed = uncurryThis((String.prototype as unknown as { toWellFormed(this: string): string }).toWellFormed)
export const { fromCharCode: StringFromCharCode } = String
export const NumberToString = uncurryThis(Number.prototype.toString)
export const { isInteger: NumberIsInteger } = Number
export const NumberValueOf = uncurryThis(Number.prototype.valueOf)
export const BigIntToString = uncurryThis(BigInt.prototype.toString)
export const BigIntValueOf = uncurryThis(BigInt.prototype.valueOf)

export const ArrayJoin = uncurryThis(Array.prototype.join)
export const ArrayPush = uncurryThis(Array.prototype.push as (this: unknown[], value: unknown) => number) as <T>(self: T[], value: T) => number
export const ArraySlice = uncurryThis(Array.prototype.slice) as <T>(self: readonly T[], start?: number, end?: number) => T[]
export const ArraySplice = uncurryThis(Array.prototype.splice as (this: unknown[], start: number, count: number) => unknown[])
export const ArrayIndexOf = uncurryThis(Array.prototype.indexOf) as <T>(self: readonly T[], value: T, from?: number) => number
export const ArraySort = uncurryThis(Array.prototype.sort) as <T>(self: T[], compare: (a: T, b: T) => number) => T[]
export const { isArray: ArrayIsArray } = Array
export const { for: SymbolFor } = Symbol
export const SymbolIterator: typeof Symbol.iterator = Symbol.iterator
export const SymbolToPrimitive: typeof Symbol.toPrimitive = Symbol.toPrimitive
/** OrdinaryHasInstance. */
export const SymbolHasInstance = uncurryThis(Function.prototype[Symbol.hasInstance]) as (constructor: object, value: unknown) => boolean
export const SymbolToStringTag: typeof Symbol.toStringTag = Symbol.toStringTag

export const MapGet = uncurryThis(Map.prototype.get) as <K, V>(self: Map<K, V>, key: K) => V | undefined
export const MapSet = uncurryThis(Map.prototype.set) as <K, V>(self: Map<K, V>, key: K, value: V) => Map<K, V>
export const MapDelete = uncurryThis(Map.prototype.delete) as <K, V>(self: Map<K, V>, key: K) => boolean

export const MapForEach = uncurryThis(Map.prototype.forEach) as <K, V>(self: Map<K, V>, each: (value: V, key: K) => void) => void
export const MapClear = uncurryThis(Map.prototype.clear)
export const MapSize = getterOf(Map.prototype, 'size') as (self: unknown) => number
export const SetHas = uncurryThis(Set.prototype.has) as <T>(self: Set<T>, value: T) => boolean
export const SetAdd = uncurryThis(Set.prototype.add) as <T>(self: Set<T>, value: T) => Set<T>
export const SetForEach = uncurryThis(Set.prototype.forEach) as <T>(self: Set<T>, each: (value: T) => void) => void
export const SetSize = getterOf(Set.prototype, 'size') as (self: unknown) => number

export const {
  defineProperty: ObjectDefineProperty,
  defineProperties: ObjectDefineProperties,
  getOwnPropertyDescriptor: ObjectGetOwnPropertyDescriptor,
  getPrototypeOf: ObjectGetPrototypeOf,
  setPrototypeOf: ObjectSetPrototypeOf,
  create: ObjectCreate,
  freeze: ObjectFreeze,
  keys: ObjectKeys,
  hasOwn: ObjectHasOwn,
} = Object
export const ObjectPrototype: object = Object.prototype
export const NativeObject: (value: unknown) => object = Object
export const ObjectIsEnumerable = uncurryThis(Object.prototype.propertyIsEnumerable)
export const ObjectToString = uncurryThis(Object.prototype.toString)
export const { ownKeys: ReflectOwnKeys, apply: ReflectApply, construct: ReflectConstruct } = Reflect
export const RegExpExec = uncurryThis(RegExp.prototype.exec)

export const JSONParse: (text: string) => unknown = JSON.parse
/** As the engine's: `undefined` for what JSON cannot hold at the top. */
export const JSONStringify = JSON.stringify as (value: unknown, replacer?: unknown, space?: string | number) => string | undefined

export const PromiseConstructor = Promise
/** To compare with: a promise that still has it is called directly, which saves the detour of PromiseThen. */
export const nativeThen: unknown = Promise.prototype.then
export const PromiseThen = uncurryThis(Promise.prototype.then as (this: Promise<unknown>, ok: (value: unknown) => unknown, failed?: (error: unknown) => unknown) => Promise<unknown>)

export const MathTrunc = Math.trunc
export const NativeParseInt = parseInt
export const MathRandom = Math.random
export const DateNow = Date.now
export const DateGetTime = uncurryThis(Date.prototype.getTime)
export const DateSetTime = uncurryThis(Date.prototype.setTime)
export const BooleanValueOf = uncurryThis(Boolean.prototype.valueOf)
export const StringValueOf = uncurryThis(String.prototype.valueOf)
export const RegExpSource = getter(RegExp.prototype, 'source')
export const RegExpFlags = getter(RegExp.prototype, 'flags')
export const ErrorIsError = (Error as unknown as { isError(value: unknown): boolean }).isError
export const performanceNow = uncurryThis(performance.now)

/** The view of a typed array, by the getters of its prototype: they throw on anything else and cannot be shadowed. */
const TypedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object
export const ArrayBufferIsView = ArrayBuffer.isView
export const TypedArrayBuffer = getter(TypedArrayPrototype, 'buffer') as (self: unknown) => ArrayBuffer
export const TypedArrayByteOffset = getter(TypedArrayPrototype, 'byteOffset') as (self: unknown) => number
export const TypedArrayLength = getter(TypedArrayPrototype, 'length') as (self: unknown) => number
export const TypedArrayByteLength = getter(TypedArrayPrototype, 'byteLength') as (self: unknown) => number
export const TypedArrayTag = getter(TypedArrayPrototype, Symbol.toStringTag) as (self: unknown) => string | undefined
export const DataViewBuffer = getter(DataView.prototype, 'buffer') as (self: unknown) => ArrayBuffer
export const DataViewByteOffset = getter(DataView.prototype, 'byteOffset') as (self: unknown) => number
export const DataViewByteLength = getter(DataView.prototype, 'byteLength') as (self: unknown) => number
export const ArrayBufferByteLength = getter(ArrayBuffer.prototype, 'byteLength') as (self: unknown) => number
export const ArrayBufferMaxByteLength = getter(ArrayBuffer.prototype, 'maxByteLength') as (self: unknown) => number
export const ArrayBufferSlice = uncurryThis(ArrayBuffer.prototype.slice)
export const ArrayBufferTransfer = uncurryThis((ArrayBuffer.prototype as unknown as { transfer(this: ArrayBuffer): ArrayBuffer }).transfer)
export const TypedArraySet: (self: Uint8Array, source: ArrayLike<number>, offset?: number) => void = uncurryThis(Uint8Array.prototype.set)
export const Uint8ArraySlice: (self: Uint8Array, start?: number, end?: number) => Uint8Array<ArrayBuffer> = uncurryThis(Uint8Array.prototype.slice)
export const Uint8ArraySubarray: (self: Uint8Array, start?: number, end?: number) => Uint8Array = uncurryThis(Uint8Array.prototype.subarray)
interface Base64Methods {
  readonly fromBase64: (text: string) => Uint8Array<ArrayBuffer>
  readonly fromHex: (text: string) => Uint8Array<ArrayBuffer>
  readonly prototype: { toBase64(this: Uint8Array): string }
}
const base64 = Uint8Array as unknown as Base64Methods
/** Throws SyntaxError on what is not base64. */
export const Uint8ArrayFromBase64 = base64.fromBase64.bind(Uint8Array)
export const Uint8ArrayFromHex = base64.fromHex.bind(Uint8Array)
export const Uint8ArrayToBase64 = uncurryThis(base64.prototype.toBase64)

export const globals = globalThis as unknown as Record<string, unknown>
export const NativeDOMException = DOMException
export const NativeURL = URL
export const NativeTextDecoder = TextDecoder
export const NativeTextEncoder = TextEncoder
export const TextDecoderDecode = uncurryThis(TextDecoder.prototype.decode as (this: unknown, input?: unknown, options?: unknown) => string)
export const nativeQueueMicrotask = queueMicrotask
export const NativeUint8Array = Uint8Array
export const NativeArrayBuffer = ArrayBuffer
