/** `Blob` and `File`: bytes held whole, since everything in the machine is in its memory anyway. */
import { ArrayBufferSlice, NativeUint8Array, DateNow, MathTrunc, RegExpExec, StringToLowerCase, StringReplaceAll, SymbolIterator, TypedArraySet, Uint8ArraySlice, ArrayPush } from './primordials.ts'
import { copyOf, isBufferSource } from './bytes.ts'
import { decodeUtf8, encodeUtf8 } from './host.ts'
import { streamOfBytes, type ByteStream } from './streams.ts'
import { isObject, toText } from './webidl.ts'

export interface BlobOptions {
  readonly type?: string
  readonly endings?: 'transparent' | 'native'
}

export let isBlob: (value: unknown) => value is Blob
export let blobBytes: (blob: Blob) => Uint8Array<ArrayBuffer>
/** The same kind, of the same bytes: nobody changes them. */
export let copyBlob: (blob: Blob) => Blob
/** A blob around bytes that nobody else will change. */
export let blobOver: (bytes: Uint8Array<ArrayBuffer>, type: string) => Blob

const NOT_ASCII = /[^\x20-\x7e]/

function blobType(type: unknown): string {
  const text = toText(type)
  return RegExpExec(NOT_ASCII, text) === null ? StringToLowerCase(text) : ''
}

function bytesOfPart(part: unknown, native: boolean): Uint8Array<ArrayBuffer> {
  if (isBlob(part)) return blobBytes(part)
  if (isBufferSource(part)) return copyOf(part)
  const text = toText(part)
  return encodeUtf8(native ? StringReplaceAll(text, '\r\n', '\n') : text)
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  let total = 0
  for (let i = 0; i < parts.length; i++) total += parts[i]?.byteLength ?? 0
  const bytes = new NativeUint8Array(total)
  let offset = 0
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]
    if (part === undefined) continue
    TypedArraySet(bytes, part, offset)
    offset += part.byteLength
  }
  return bytes
}

const EMPTY = new Uint8Array(0)

export class Blob {
  #bytes: Uint8Array<ArrayBuffer> = EMPTY
  #type = ''

  static {
    isBlob = (value): value is Blob => typeof value === 'object' && value !== null && #bytes in value
    blobBytes = (blob) => blob.#bytes
    copyBlob = (blob) => (blob instanceof File ? copyFile(blob) : blobOver(blob.#bytes, blob.#type))
    blobOver = (bytes, type) => {
      const blob = new Blob()
      blob.#bytes = bytes
      blob.#type = type
      return blob
    }
  }

  constructor(parts?: Iterable<unknown>, options?: BlobOptions | null) {
    if (options !== undefined && options !== null && !isObject(options)) throw new TypeError('The options of a Blob must be an object')
    if (parts !== undefined) {
      if (!isObject(parts) || typeof (parts as Partial<Iterable<unknown>>)[SymbolIterator] !== 'function') throw new TypeError('The parts of a Blob must be a sequence')
      const pieces: Uint8Array[] = []
      for (const part of parts) ArrayPush(pieces, bytesOfPart(part, options?.endings === 'native'))
      this.#bytes = concatBytes(pieces)
    }
    if (options?.type !== undefined) this.#type = blobType(options.type)
  }

  get size(): number {
    return this.#bytes.byteLength
  }

  get type(): string {
    return this.#type
  }

  slice(start = 0, end = this.#bytes.byteLength, type = ''): Blob {
    return blobOver(Uint8ArraySlice(this.#bytes, MathTrunc(start) || 0, MathTrunc(end) || 0), blobType(type))
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- a wrong `this` must reject
  async arrayBuffer(): Promise<ArrayBuffer> {
    return ArrayBufferSlice(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteOffset + this.#bytes.byteLength)
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- a wrong `this` must reject
  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return Uint8ArraySlice(this.#bytes)
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- a wrong `this` must reject
  async text(): Promise<string> {
    return decodeUtf8(this.#bytes)
  }

  stream(): ByteStream {
    return streamOfBytes(() => Uint8ArraySlice(this.#bytes))
  }
}

function copyFile(file: File): File {
  return new File([file], file.name, { type: file.type, lastModified: file.lastModified })
}

export class File extends Blob {
  #name: string
  #lastModified: number

  constructor(parts: Iterable<unknown>, name: string, options?: BlobOptions & { readonly lastModified?: unknown }) {
    if (arguments.length < 2) throw new TypeError('File needs parts and a name')
    super(parts, options)
    this.#name = toText(name)
    this.#lastModified = options?.lastModified === undefined ? DateNow() : MathTrunc(Number(options.lastModified)) || 0
  }

  get name(): string {
    return this.#name
  }

  get lastModified(): number {
    return this.#lastModified
  }
}
