/** `node:stream`: the npm package readable-stream, which is Node's, with ways to and from web streams. */
import stream from 'readable-stream/lib/stream.js'
import { fromWebReadable, fromWebWritable, toWebReadable, toWebWritable } from './stream-adapters.ts'

type Classes = Record<string, unknown>
const { Readable, Writable, Duplex, Transform, PassThrough, pipeline, finished, addAbortSignal, destroy, compose, promises, Stream, _uint8ArrayToBuffer, _isUint8Array } = stream as unknown as Record<string, unknown>
const { isDisturbed, isErrored, isReadable } = Readable as Record<string, unknown>
const readableState = stream as unknown as { readonly getDefaultHighWaterMark?: unknown; readonly setDefaultHighWaterMark?: unknown }

Object.assign(Readable as Classes, { fromWeb: fromWebReadable(Readable as never), toWeb: toWebReadable })
Object.assign(Writable as Classes, { fromWeb: fromWebWritable(Writable as never), toWeb: toWebWritable })
Object.assign(Duplex as Classes, { toWeb: (duplex: never) => ({ readable: toWebReadable(duplex), writable: toWebWritable(duplex) }) })

export const { getDefaultHighWaterMark, setDefaultHighWaterMark } = readableState
export { Readable, Writable, Duplex, Transform, PassThrough, pipeline, finished, addAbortSignal, destroy, compose, promises, Stream, isDisturbed, isErrored, isReadable, _uint8ArrayToBuffer, _isUint8Array }
export default stream
