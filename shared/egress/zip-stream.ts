/**
 * One CompressionStream or DecompressionStream of a function. Output is made as far as it is read, and input taken as
 * far as there is room for output, so that what 51 bytes unpack to is made only for somebody who reads it.
 *
 * Z1: `data` answers one `read`, with null once at the end; after `fail` or null nothing comes.
 * Z2: one write at a time, so that no more than one chunk waits here. Another one is a failure.
 */
import type { Transform } from 'node:stream'
import { createDeflate, createDeflateRaw, createGunzip, createGzip, createInflate, createInflateRaw, type ZlibOptions } from 'node:zlib'

export interface ZipSink {
  /** `chunk` is the receiver's own. */
  data(chunk: Uint8Array | null): void
  fail(reason: string): void
  /** It holds nothing any more, whatever ended it; once, before the last word. */
  over(): void
}

/** What follows the end of the packed data is an error, says the standard; Node knows the option by name only. */
const STRICT = { rejectGarbageAfterEnd: true } as ZlibOptions
const MAKE: Readonly<Record<string, () => Transform>> = {
  gzip: () => createGzip(),
  deflate: () => createDeflate(),
  'deflate-raw': () => createDeflateRaw(),
  '-gzip': () => createGunzip(STRICT),
  '-deflate': () => createInflate(STRICT),
  '-deflate-raw': () => createInflateRaw(STRICT),
}

export class ZipStream {
  readonly #sink: ZipSink
  readonly #stream: Transform | null
  #reads = 0
  #writing = false
  #over = false

  /** `format`: of ZIP_FORMATS, `-` before it to unpack. The sink is never called from within this call. */
  constructor(format: string, sink: ZipSink) {
    this.#sink = sink
    this.#stream = Object.hasOwn(MAKE, format) ? (MAKE[format]?.() ?? null) : null
    if (this.#stream === null) queueMicrotask(() => this.#fail(`Unknown format ${format}`))
    this.#stream?.on('readable', () => this.#give())
    this.#stream?.once('end', () => this.#give())
    this.#stream?.on('error', (error) => this.#fail(error.message))
  }

  /** Null: the end. `taken` is called when the next may come, for the end once all output was read; not at all after a failure. */
  write(chunk: Uint8Array | null, taken: () => void): void {
    if (this.#over || this.#stream === null) return
    if (this.#writing) return this.#fail('The chunk before has not been taken yet')
    if (chunk !== null) {
      this.#writing = true
      this.#stream.write(chunk, (error) => {
        this.#writing = false
        if (error === undefined || error === null) taken()
      })
      return
    }
    // Whether all was there shows when the last of it has been unpacked, which is after `finish`.
    this.#stream.once('end', taken)
    this.#stream.end()
  }

  /** The next output; answered by `data`. */
  read(): void {
    this.#reads += 1
    this.#give()
  }

  abort(): void {
    this.#end()
  }

  #give(): void {
    const stream = this.#stream
    while (stream !== null && this.#reads > 0 && !this.#over) {
      const chunk = stream.read() as Buffer | null
      if (chunk !== null) {
        this.#reads -= 1
        this.#sink.data(new Uint8Array(chunk))
        continue
      }
      if (!stream.readableEnded) return
      this.#end()
      this.#sink.data(null)
    }
  }

  /** Z1. */
  #fail(reason: string): void {
    if (this.#over) return
    this.#end()
    this.#sink.fail(reason)
  }

  #end(): void {
    if (this.#over) return
    this.#over = true
    this.#stream?.destroy()
    this.#sink.over()
  }
}
