/**
 * The copy that `structuredClone` and `postMessage` make, as the standard has it. The engine's own copies wrapper objects as
 * plain ones, knows no Blob and loses the length of sparse arrays.
 *
 * `memory` holds what was copied already, so that two references to one object stay two references to one, and what is moved
 * instead of copied, by its original.
 */
import { isBlob, copyBlob } from './blob.ts'
import {
  ArrayBufferByteLength, ArrayBufferIsView, ArrayBufferMaxByteLength, ArrayBufferSlice, ArrayIsArray, ArrayPush, BigIntValueOf, BooleanValueOf, DataViewBuffer, DataViewByteLength, DataViewByteOffset, DateGetTime,
  ErrorIsError, MapForEach, MapGet, MapSet, NativeArrayBuffer, NativeDOMException, NumberValueOf, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ObjectGetPrototypeOf, ObjectHasOwn, ObjectKeys,
  ReflectConstruct, RegExpFlags, RegExpSource, SetAdd, SetForEach, SetHas, StringValueOf, TypedArrayBuffer, TypedArrayByteOffset, TypedArrayLength, TypedArrayTag, globals,
} from './primordials.ts'
import { platformPrototypes, toText } from './webidl.ts'

type Memory = Map<unknown, unknown>

const ObjectPrototype: object = Object.prototype
const ERRORS = new Map<string, unknown>()
for (const name of ['Error', 'EvalError', 'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError', 'URIError']) ERRORS.set(name, globals[name])
type ViewConstructor = new (buffer: ArrayBuffer, byteOffset: number, length: number) => ArrayBufferView
const VIEWS = new Map<string, ViewConstructor>()
for (const name of ['Int8Array', 'Uint8Array', 'Uint8ClampedArray', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array', 'Float16Array', 'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array']) VIEWS.set(name, globals[name] as ViewConstructor)

function refuse(value: unknown): never {
  throw new NativeDOMException(`${typeof value === 'symbol' ? 'A symbol' : typeof value === 'function' ? 'A function' : 'This object'} could not be cloned`, 'DataCloneError')
}

/** Throws DataCloneError for what cannot be copied, and what a getter of the value throws. */
export function cloneValue(value: unknown, memory: Memory): unknown {
  if (typeof value !== 'object' || value === null) return typeof value === 'symbol' || typeof value === 'function' ? refuse(value) : value
  const known = MapGet(memory, value)
  if (known !== undefined) return known
  const prototype = ObjectGetPrototypeOf(value) as object | null
  const copy = ArrayIsArray(value) ? new Array<unknown>(value.length) : prototype === ObjectPrototype || prototype === null ? {} : cloneExotic(value, memory)
  if (copy === null) return MapGet(memory, value)
  MapSet(memory, value, copy)
  const keys = ObjectKeys(value)
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? ''
    // A getter may have taken it away.
    if (!ObjectHasOwn(value, key)) continue
    const member = cloneValue((value as Record<string, unknown>)[key], memory)
    if (key === '__proto__') ObjectDefineProperty(copy, key, { value: member, writable: true, enumerable: true, configurable: true })
    else (copy as Record<string, unknown>)[key] = member
  }
  return copy
}

/** Puts the copy of an object with a nature of its own into the memory and gives null; an object whose members make it up is begun. */
function cloneExotic(value: object, memory: Memory): object | null {
  let copy: object | null = null
  if (ArrayBufferIsView(value)) copy = cloneView(value, memory)
  else if (isBlob(value)) copy = copyBlob(value)
  else if (value instanceof NativeDOMException) copy = withStack(new NativeDOMException(value.message, value.name), value)
  else if (ErrorIsError(value)) copy = cloneError(value as Error, memory)
  else {
    const nature = natureOf(value)
    if (nature === null) return {}
    copy = nature(value as never, memory)
  }
  MapSet(memory, value, copy)
  return null
}

type Nature = (value: never, memory: Memory) => object

/** Copies of built-ins by their prototype. Each throws if the object is none of its kind after all. */
const NATURES = new Map<object, Nature>([
  [Boolean.prototype, (value) => Object(BooleanValueOf(value)) as object],
  [Number.prototype, (value) => Object(NumberValueOf(value)) as object],
  [String.prototype, (value) => Object(StringValueOf(value)) as object],
  [BigInt.prototype, (value) => Object(BigIntValueOf(value)) as object],
  [Date.prototype, (value) => new Date(DateGetTime(value))],
  [RegExp.prototype, (value) => new RegExp(RegExpSource(value) as string, RegExpFlags(value) as string)],
  [ArrayBuffer.prototype, cloneBuffer],
  [Map.prototype, cloneMap],
  [Set.prototype, cloneSet],
])
for (const { prototype } of [Promise, WeakMap, WeakSet, WeakRef, Symbol]) SetAdd(platformPrototypes, prototype)

/** Null: an object of the function's own. Throws for what has no copy: promises, weak collections, all that the prelude puts on the global object. */
function natureOf(value: object): Nature | null {
  for (let prototype = ObjectGetPrototypeOf(value) as object | null; prototype !== null; prototype = ObjectGetPrototypeOf(prototype) as object | null) {
    const nature = MapGet(NATURES, prototype)
    if (nature !== undefined) return nature
    if (SetHas(platformPrototypes, prototype)) refuse(value)
  }
  return null
}

function cloneBuffer(buffer: ArrayBuffer): ArrayBuffer {
  const size = ArrayBufferByteLength(buffer)
  if ((buffer as unknown as { readonly detached?: boolean }).detached === true) refuse(buffer)
  const most = ArrayBufferMaxByteLength(buffer)
  const copy = ArrayBufferSlice(buffer, 0, size)
  if (most === size) return copy
  const resizable = new (NativeArrayBuffer as unknown as new (size: number, options: { maxByteLength: number }) => ArrayBuffer)(size, { maxByteLength: most })
  new Uint8Array(resizable).set(new Uint8Array(copy))
  return resizable
}

function cloneView(view: ArrayBufferView, memory: Memory): object {
  const tag = TypedArrayTag(view)
  const buffer = cloneValue(tag === undefined ? DataViewBuffer(view) : TypedArrayBuffer(view), memory)
  if (tag === undefined) return new DataView(buffer as ArrayBuffer, DataViewByteOffset(view), DataViewByteLength(view))
  const View = MapGet(VIEWS, tag) as ViewConstructor
  return new View(buffer as ArrayBuffer, TypedArrayByteOffset(view), TypedArrayLength(view))
}

function cloneMap(map: Map<unknown, unknown>, memory: Memory): Map<unknown, unknown> {
  const copy = new Map<unknown, unknown>()
  MapSet(memory, map, copy)
  const entries: unknown[] = []
  MapForEach(map, (value, key) => {
    ArrayPush(entries, key)
    ArrayPush(entries, value)
  })
  for (let i = 0; i < entries.length; i += 2) MapSet(copy, cloneValue(entries[i], memory), cloneValue(entries[i + 1], memory))
  return copy
}

function cloneSet(set: Set<unknown>, memory: Memory): Set<unknown> {
  const copy = new Set<unknown>()
  MapSet(memory, set, copy)
  const values: unknown[] = []
  SetForEach(set, (value) => ArrayPush(values, value))
  for (let i = 0; i < values.length; i++) SetAdd(copy, cloneValue(values[i], memory))
  return copy
}

function cloneError(error: Error, memory: Memory): object {
  const name: unknown = error.name
  const kind = MapGet(ERRORS, typeof name === 'string' ? name : '') ?? MapGet(ERRORS, 'Error')
  const message = ObjectGetOwnPropertyDescriptor(error, 'message')
  const copy = ReflectConstruct(kind as never, message === undefined || !('value' in message) ? [] : [toText(message.value)]) as object
  MapSet(memory, error, copy)
  if (ObjectHasOwn(error, 'cause')) ObjectDefineProperty(copy, 'cause', { value: cloneValue(error.cause, memory), writable: true, configurable: true })
  return withStack(copy, error)
}

function withStack(copy: object, error: object): object {
  const stack: unknown = (error as { readonly stack?: unknown }).stack
  if (typeof stack === 'string') ObjectDefineProperty(copy, 'stack', { value: stack, writable: true, configurable: true })
  return copy
}
