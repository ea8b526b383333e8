/** Copies of what Web IDL calls a buffer source. */
import { ArrayBufferIsView, ArrayBufferSlice, DataViewBuffer, DataViewByteLength, DataViewByteOffset, NativeArrayBuffer, NativeUint8Array, TypedArrayBuffer, TypedArrayByteLength, TypedArrayByteOffset, TypedArrayTag } from './primordials.ts'

export function isBufferSource(value: unknown): value is ArrayBuffer | ArrayBufferView {
  return ArrayBufferIsView(value) || value instanceof NativeArrayBuffer
}

/** The bytes a view or buffer covers, sharing its memory. */
export function viewOf(source: ArrayBuffer | ArrayBufferView): Uint8Array<ArrayBuffer> {
  if (!ArrayBufferIsView(source)) return new NativeUint8Array(source)
  if (TypedArrayTag(source) !== undefined) return new NativeUint8Array(TypedArrayBuffer(source), TypedArrayByteOffset(source), TypedArrayByteLength(source))
  return new NativeUint8Array(DataViewBuffer(source), DataViewByteOffset(source), DataViewByteLength(source))
}

/** The same as an own buffer. */
export function copyOf(source: ArrayBuffer | ArrayBufferView): Uint8Array<ArrayBuffer> {
  const view = viewOf(source)
  return new NativeUint8Array(ArrayBufferSlice(TypedArrayBuffer(view), TypedArrayByteOffset(view), TypedArrayByteOffset(view) + TypedArrayByteLength(view)))
}
