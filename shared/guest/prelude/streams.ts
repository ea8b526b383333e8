/** Web streams (a maintained implementation) and the bridges between them and what the host holds. */
import {
  ByteLengthQueuingStrategy, CountQueuingStrategy, ReadableByteStreamController, ReadableStream, ReadableStreamBYOBReader,
  ReadableStreamBYOBRequest, ReadableStreamDefaultController, ReadableStreamDefaultReader, TransformStream,
  TransformStreamDefaultController, WritableStream, WritableStreamDefaultController, WritableStreamDefaultWriter,
} from 'web-streams-polyfill'
import { OPERATIONS } from '../abi.ts'
import { hostCancel } from './host.ts'
import { ArrayPush, NativeUint8Array, PromiseConstructor, TypedArraySet } from './primordials.ts'
import { begin, cancel, generation, requestOver } from './operations.ts'
import { publish, isObject } from './webidl.ts'

export { ReadableStream, TransformStream, WritableStream }
export type ByteStream = ReadableStream<Uint8Array>

export function installStreams(): void {
  const classes = {
    ByteLengthQueuingStrategy, CountQueuingStrategy, ReadableByteStreamController, ReadableStream, ReadableStreamBYOBReader,
    ReadableStreamBYOBRequest, ReadableStreamDefaultController, ReadableStreamDefaultReader, TransformStream,
    TransformStreamDefaultController, WritableStream, WritableStreamDefaultController, WritableStreamDefaultWriter,
  }
  for (const [name, value] of Object.entries(classes)) publish(name, value)
}

/**
 * A body whose chunks the host holds: the request's (operation BODY) or a fetched response's (READ). It becomes a
 * stream only if the function asks for one; a response passed through is pumped without.
 */
export class HostSource {
  readonly op: number
  readonly id: number
  readonly #generation = generation
  #pending = 0
  #fail: ((reason: unknown) => void) | null = null
  #broken = false
  #reason: unknown = null

  constructor(op: number, id: number) {
    this.op = op
    this.id = id
  }

  /** The next chunk, null at the end; rejects with the reason once broken off. One call at a time. */
  next(): Promise<ArrayBuffer | null> {
    return new PromiseConstructor((resolve, reject) => {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the reason is whatever was given
      if (this.#broken) return reject(this.#reason)
      // The host would give it what belongs to another request.
      if (this.#generation !== generation) return reject(requestOver())
      this.#fail = reject
      this.#pending = begin(this.op, this.id, undefined, (value, ok) => {
        this.#fail = null
        if (ok) resolve(value as ArrayBuffer | null)
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- settle gives an error here
        else reject(value)
      })
    })
  }

  /** Ends it from this side: what is left is not wanted. */
  breakOff(reason: unknown): void {
    if (this.#broken) return
    this.#broken = true
    this.#reason = reason
    if (this.#fail !== null) {
      cancel(this.#pending)
      this.#fail(reason)
    }
    if (this.op === OPERATIONS.READ && this.#generation === generation) hostCancel(this.id)
  }
}

/** Whether the stream was read from or cancelled. The field is the implementation's own mark for it. */
export function isDisturbed(stream: ReadableStream): boolean {
  return (stream as unknown as { readonly _disturbed: boolean })._disturbed
}

export function isReadableStream(value: unknown): value is ReadableStream {
  return isObject(value) && value instanceof ReadableStream
}

export function streamOfSource(source: HostSource): ByteStream {
  return new ReadableStream<Uint8Array>(
    {
      type: 'bytes',
      async pull(controller) {
        const chunk = await source.next()
        if (chunk !== null && chunk.byteLength > 0) {
          controller.enqueue(new NativeUint8Array(chunk))
          return
        }
        if (chunk === null) {
          controller.close()
          controller.byobRequest?.respond(0)
        }
      },
      cancel(reason) {
        source.breakOff(reason)
      },
    },
    { highWaterMark: 0 },
  )
}

export function streamOfBytes(bytes: () => Uint8Array<ArrayBuffer>): ByteStream {
  return new ReadableStream<Uint8Array>(
    {
      type: 'bytes',
      pull(controller) {
        const all = bytes()
        if (all.byteLength > 0) controller.enqueue(all)
        controller.close()
        controller.byobRequest?.respond(0)
      },
    },
    { highWaterMark: 0 },
  )
}

/** A stream that is read to its end and locked: what `body` is after `text()`. */
export function usedStream(): ByteStream {
  const stream = new ReadableStream<Uint8Array>({ type: 'bytes', start: (controller) => controller.close() }) as ByteStream
  void stream.getReader().read()
  return stream
}

/** Everything that is left of a source or stream. Chunks of a stream must be bytes. */
export async function readAll(body: HostSource | ReadableStream): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = []
  let total = 0
  if (body instanceof HostSource) {
    for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) {
      ArrayPush(chunks, new NativeUint8Array(chunk))
      total += chunk.byteLength
    }
  } else {
    const reader = (body as ByteStream).getReader()
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      const chunk = requireBytes(step.value)
      ArrayPush(chunks, chunk)
      total += chunk.byteLength
    }
  }
  if (chunks.length === 1 && chunks[0] !== undefined && chunks[0].byteLength === chunks[0].buffer.byteLength) return chunks[0] as Uint8Array<ArrayBuffer>
  const all = new NativeUint8Array(total)
  let offset = 0
  for (let i = 0; i < chunks.length; i++) {
    const chunk = chunks[i]
    if (chunk === undefined) continue
    TypedArraySet(all, chunk, offset)
    offset += chunk.byteLength
  }
  return all
}

export function requireBytes(chunk: unknown): Uint8Array {
  if (chunk instanceof NativeUint8Array) return chunk
  throw new TypeError('A body stream must give Uint8Array chunks')
}

