/** `node:util/types`. What a value says of itself is not asked: where there is one, the answer is a slot's that only the real class has. */
type Check = (value: unknown) => boolean

/** True if the getter or method, which throws for all others, takes the value. */
function has(prototype: object, name: PropertyKey, ...rest: unknown[]): Check {
  const descriptor = Object.getOwnPropertyDescriptor(prototype, name)
  const read = (descriptor?.get ?? descriptor?.value) as (this: unknown, ...values: unknown[]) => unknown
  return (value) => {
    if (typeof value !== 'object' || value === null) return false
    try {
      Reflect.apply(read, value, rest)
      return true
    } catch {
      // It is of another class.
      return false
    }
  }
}


const tagOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype) as object, Symbol.toStringTag)?.get as (this: unknown) => string | undefined

function typed(name: string): Check {
  return (value) => typeof value === 'object' && value !== null && tagOf.call(value) === name
}

function tagged(...names: string[]): Check {
  return (value) => typeof value === 'object' && value !== null && names.includes(Object.prototype.toString.call(value).slice(8, -1))
}

function functionTagged(...names: string[]): Check {
  return (value) => typeof value === 'function' && names.includes((value as { readonly [Symbol.toStringTag]?: string })[Symbol.toStringTag] ?? '')
}

export const isDate = has(Date.prototype, 'getTime')
export const isRegExp: Check = (value) => value !== RegExp.prototype && has(RegExp.prototype, 'source')(value)
export const isMap = has(Map.prototype, 'size')
export const isSet = has(Set.prototype, 'size')
export const isWeakMap = has(WeakMap.prototype, 'has', {})
export const isWeakSet = has(WeakSet.prototype, 'has', {})
export const isArrayBuffer = has(ArrayBuffer.prototype, 'byteLength')
export const isSharedArrayBuffer: Check = typeof SharedArrayBuffer === 'undefined' ? () => false : has(SharedArrayBuffer.prototype, 'byteLength')
export const isAnyArrayBuffer: Check = (value) => isArrayBuffer(value) || isSharedArrayBuffer(value)
export const isDataView = has(DataView.prototype, 'byteLength')
export const isArrayBufferView: Check = (value) => ArrayBuffer.isView(value)
export const isTypedArray: Check = (value) => ArrayBuffer.isView(value) && !isDataView(value)
export const isUint8Array = typed('Uint8Array')
export const isUint8ClampedArray = typed('Uint8ClampedArray')
export const isUint16Array = typed('Uint16Array')
export const isUint32Array = typed('Uint32Array')
export const isInt8Array = typed('Int8Array')
export const isInt16Array = typed('Int16Array')
export const isInt32Array = typed('Int32Array')
export const isFloat16Array = typed('Float16Array')
export const isFloat32Array = typed('Float32Array')
export const isFloat64Array = typed('Float64Array')
export const isBigInt64Array = typed('BigInt64Array')
export const isBigUint64Array = typed('BigUint64Array')
export const isNumberObject = has(Number.prototype, 'valueOf')
export const isStringObject = has(String.prototype, 'valueOf')
export const isBooleanObject = has(Boolean.prototype, 'valueOf')
export const isSymbolObject = has(Symbol.prototype, 'valueOf')
export const isBigIntObject = has(BigInt.prototype, 'valueOf')
export const isBoxedPrimitive: Check = (value) => isNumberObject(value) || isStringObject(value) || isBooleanObject(value) || isSymbolObject(value) || isBigIntObject(value)
export const isNativeError: Check = (value) => (Error as unknown as { isError?: Check }).isError?.(value) ?? (value instanceof Error && !(value instanceof DOMException))
export const isPromise: Check = (value) => value instanceof Promise
export const isAsyncFunction = functionTagged('AsyncFunction', 'AsyncGeneratorFunction')
export const isGeneratorFunction = functionTagged('GeneratorFunction', 'AsyncGeneratorFunction')
export const isGeneratorObject = tagged('Generator', 'AsyncGenerator')
export const isMapIterator = tagged('Map Iterator')
export const isSetIterator = tagged('Set Iterator')
export const isArgumentsObject = tagged('Arguments')
export const isModuleNamespaceObject = tagged('Module')
/** No code can tell a proxy from what it stands for. */
export const isProxy: Check = () => false
export const isExternal: Check = () => false
export const isCryptoKey: Check = (value) => value instanceof (globalThis as unknown as { CryptoKey: new () => object }).CryptoKey
export const isKeyObject: Check = (value) => typeof value === 'object' && value !== null && (value as { readonly [Symbol.toStringTag]?: string })[Symbol.toStringTag] === 'KeyObject'

export default {
  isArgumentsObject, isArrayBuffer, isAsyncFunction, isBigIntObject, isBooleanObject, isDataView, isDate, isExternal, isGeneratorFunction, isGeneratorObject, isMap, isMapIterator, isModuleNamespaceObject, isNativeError,
  isNumberObject, isPromise, isProxy, isRegExp, isSet, isSetIterator, isSharedArrayBuffer, isStringObject, isSymbolObject, isWeakMap, isWeakSet, isAnyArrayBuffer, isBoxedPrimitive, isArrayBufferView, isTypedArray,
  isUint8Array, isUint8ClampedArray, isUint16Array, isUint32Array, isInt8Array, isInt16Array, isInt32Array, isFloat16Array, isFloat32Array, isFloat64Array, isBigInt64Array, isBigUint64Array, isKeyObject, isCryptoKey,
}
