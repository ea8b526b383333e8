/** `CompressionStream` and `DecompressionStream`: the host does the work, a chunk at a time, as far as the output is read. */
import { OPERATIONS, ZIP_FORMATS, ZIP_WRITE_MAX_BYTES } from '../abi.ts'
import { copyOf, isBufferSource } from './bytes.ts'
import { hostCancel } from './host.ts'
import { begin, generation, operation } from './operations.ts'
import { ArrayIndexOf, NativeUint8Array, PromiseThen, TypedArrayByteLength, Uint8ArraySubarray } from './primordials.ts'
import { ReadableStream, WritableStream } from './streams.ts'
import { expose, toText } from './webidl.ts'

/** One stream at the host, and both ends of it. A failure of either ends both. */
class Zip {
  readonly readable: ReadableStream<Uint8Array>
  readonly writable: WritableStream
  readonly #id: number
  readonly #generation = generation
  #fail: (error: unknown) => void = () => undefined
  #over = false

  constructor(format: string) {
    let began: (value: unknown) => void
    let refused: (error: unknown) => void
    const started = new Promise((resolve, reject) => {
      began = resolve
      refused = reject
    })
    this.#id = begin(OPERATIONS.ZIP, format, undefined, (value, ok) => (ok ? began(value) : refused(value)))
    this.readable = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        await this.#guarded(started)
        const chunk = (await this.#guarded(operation(OPERATIONS.READ, this.#id))) as ArrayBuffer | null
        if (chunk !== null) return controller.enqueue(new NativeUint8Array(chunk))
        this.#over = true
        controller.close()
      },
      cancel: () => this.#end(),
      start: (controller) => {
        this.#fail = (error) => controller.error(error)
      },
    }, { highWaterMark: 0 })
    this.writable = new WritableStream({
      write: async (chunk: unknown) => {
        if (!isBufferSource(chunk)) throw this.#broken(new TypeError('A chunk must be an ArrayBuffer or a view'))
        await this.#guarded(started)
        const bytes = copyOf(chunk)
        const length = TypedArrayByteLength(bytes)
        for (let at = 0; at < length; at += ZIP_WRITE_MAX_BYTES) {
          await this.#guarded(operation(OPERATIONS.WRITE, this.#id, Uint8ArraySubarray(bytes, at, at + ZIP_WRITE_MAX_BYTES)))
        }
      },
      close: async () => {
        await this.#guarded(started)
        await this.#guarded(operation(OPERATIONS.WRITE, this.#id, null))
      },
      abort: (reason) => {
        this.#broken(reason)
      },
    })
  }

  #guarded(work: Promise<unknown>): Promise<unknown> {
    return PromiseThen(work, (value) => value, (error) => {
      throw this.#broken(error)
    })
  }

  /** The error, for whoever throws it on. */
  #broken(error: unknown): unknown {
    this.#fail(error)
    this.#end()
    return error
  }

  #end(): void {
    if (this.#over || this.#generation !== generation) return
    this.#over = true
    hostCancel(this.#id)
  }
}

function formatOf(count: number, format: unknown): string {
  if (count === 0) throw new TypeError('A format is needed')
  const name = toText(format)
  if (ArrayIndexOf<string>(ZIP_FORMATS, name) < 0) throw new TypeError(`Unsupported compression format: '${name}'`)
  return name
}

class CompressionStream {
  readonly #zip: Zip

  constructor(format?: unknown) {
    this.#zip = new Zip(formatOf(arguments.length, format))
  }

  get readable(): ReadableStream<Uint8Array> {
    return this.#zip.readable
  }

  get writable(): WritableStream {
    return this.#zip.writable
  }
}

class DecompressionStream {
  readonly #zip: Zip

  constructor(format?: unknown) {
    this.#zip = new Zip(`-${formatOf(arguments.length, format)}`)
  }

  get readable(): ReadableStream<Uint8Array> {
    return this.#zip.readable
  }

  get writable(): WritableStream {
    return this.#zip.writable
  }
}

export function installCompression(): void {
  expose('CompressionStream', CompressionStream, 1)
  expose('DecompressionStream', DecompressionStream, 1)
}
