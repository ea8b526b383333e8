/**
 * Content decoding, pulled: input is taken and output made only as far as somebody reads.
 *
 * D1  No stage gives out more than its bound: a bomb fails before its content is held, and costs no more time than
 *     unpacking that much.
 * D2  A stage holds at most its stream's high-water marks, because nothing flows that was not asked for.
 */
import { Transform } from 'node:stream'
import type { TransformCallback } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib'
import { EGRESS_DECOMPRESSED_MAX_BYTES } from '../limits.ts'

/** Codings of one answer. More than two make no sense and only multiply the work. */
const CODINGS_MAX = 3
const SUPPORTED = new Set(['gzip', 'x-gzip', 'deflate', 'br'])

// A cut-off body gives what it has, as fetch does; the message framing says whether it was cut off.
const ZLIB = { flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH }
const BROTLI = { flush: constants.BROTLI_OPERATION_FLUSH, finishFlush: constants.BROTLI_OPERATION_FLUSH }

/** The codings of a Content-Encoding value in the order in which they were applied; null if one is not ours to undo. */
export function supportedCodings(contentEncoding: string | null): readonly string[] | null {
  const codings = (contentEncoding ?? '').toLowerCase().split(',').map((coding) => coding.trim()).filter((coding) => coding !== '' && coding !== 'identity')
  return codings.length <= CODINGS_MAX && codings.every((coding) => SUPPORTED.has(coding)) ? codings : null
}

export class TooLargeError extends Error {}

export class Decoder {
  readonly #first: Transform
  readonly #last: Transform
  readonly #stages: readonly Transform[]
  #release: () => void

  /** `release` is called once, when the decoder gives back its memory. */
  constructor(codings: readonly string[], maxBytes: number = EGRESS_DECOMPRESSED_MAX_BYTES, onError: (error: Error) => void = () => undefined, release: () => void = () => undefined) {
    // The coding that was applied last is undone first.
    const stages = codings.toReversed().flatMap((coding) => [decompressor(coding), new Limit(maxBytes)])
    const [first] = stages
    const last = stages.at(-1)
    if (first === undefined || last === undefined) throw new Error('no coding to undo')
    stages.reduce((from, to) => from.pipe(to))
    for (const stage of stages) stage.on('error', onError)
    this.#first = first
    this.#last = last
    this.#stages = stages
    this.#release = release
  }

  /** Takes input; `taken` is called when the next may come. */
  write(chunk: Uint8Array, taken: () => void): void {
    this.#first.write(chunk, () => taken())
  }

  end(): void {
    this.#first.end()
  }

  /** What there is, or null; then `onReadable` says when to ask again. */
  read(): Buffer | null {
    return this.#last.read() as Buffer | null
  }

  /** `listener` is called whenever there is something to read, or the end has come. */
  onReadable(listener: () => void): void {
    this.#last.on('readable', listener)
  }

  get ended(): boolean {
    return this.#last.readableEnded
  }

  onEnd(listener: () => void): void {
    this.#last.once('end', listener)
  }

  destroy(): void {
    for (const stage of this.#stages) stage.destroy()
    this.#release()
    this.#release = () => undefined
  }
}

function decompressor(coding: string): Transform {
  switch (coding) {
    case 'br': return createBrotliDecompress(BROTLI)
    case 'deflate': return new Inflate()
    default: return createGunzip(ZLIB)
  }
}

/** `deflate` is zlib by the standard and raw deflate from some servers; the first byte tells them apart. */
class Inflate extends Transform {
  #inflate: Transform | null = null

  override _transform(chunk: Buffer, _encoding: BufferEncoding, callback: TransformCallback): void {
    if (this.#inflate === null) {
      this.#inflate = ((chunk[0] ?? 0) & 0x0f) === 0x08 ? createInflate(ZLIB) : createInflateRaw(ZLIB)
      this.#inflate.on('data', (part: Buffer) => {
        if (!this.push(part)) this.#inflate?.pause()
      })
      this.#inflate.once('error', (error) => this.destroy(error))
    }
    this.#inflate.write(chunk, () => callback())
  }

  override _read(size: number): void {
    this.#inflate?.resume()
    super._read(size)
  }

  override _flush(callback: TransformCallback): void {
    if (this.#inflate === null) return callback()
    this.#inflate.once('end', () => callback())
    this.#inflate.end()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#inflate?.destroy()
    callback(error)
  }
}

/** D1. */
class Limit extends Transform {
  readonly #maxBytes: number
  #bytes = 0

  constructor(maxBytes: number) {
    super()
    this.#maxBytes = maxBytes
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, callback: TransformCallback): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes) callback(new TooLargeError(`its content unpacks to more than ${this.#maxBytes} bytes`))
    else callback(null, chunk)
  }
}
