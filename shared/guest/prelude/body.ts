/**
 * What a Request or Response holds as its body, and how it is read. Reading never makes a stream unless the function
 * asks for `body`.
 *
 * B1: a RawBody in hand was not read before; whoever takes it leaves USED in its place (a stream stays: it is locked).
 */
import { ArrayBufferSlice, JSONParse, NativeUint8Array, StringSplit, StringToLowerCase, StringToWellFormed, StringTrim } from './primordials.ts'
import { blobBytes, blobOver, isBlob, type Blob } from './blob.ts'
import { copyOf, isBufferSource } from './bytes.ts'
import { encodeForm, isFormData, parseForm, type FormData } from './form-data.ts'
import { decodeUtf8, encodeUtf8, hostBodyBytes, hostBodyText } from './host.ts'
import { HostSource, isDisturbed, isReadableStream, readAll, streamOfBytes, streamOfSource, usedStream, type ByteStream, type ReadableStream } from './streams.ts'
import { requestOver } from './operations.ts'
import { isSearchParams } from './search-params.ts'
import { toText } from './webidl.ts'

/** The body was read, by a method or by being sent. */
export const USED = 0
/** The request body lies whole at the host. Another number in each request of a session: an older one's is gone. */
export let BUFFERED = 1
export type RawBody = null | string | Uint8Array<ArrayBuffer> | number | HostSource | ReadableStream

export const TEXT_TYPE = 'text/plain;charset=UTF-8'

/** Content type that the last `extractBody` implies, or ''. A second result without an object. */
export let extractedType = ''

/** Any BodyInit as a RawBody. */
export function extractBody(body: unknown): RawBody {
  extractedType = ''
  if (typeof body === 'object' && body !== null) {
    if (isReadableStream(body)) {
      if (body.locked || isDisturbed(body)) throw new TypeError('The body stream is locked or was read already')
      return body
    }
    if (isBufferSource(body)) return copyOf(body)
    if (isBlob(body)) {
      extractedType = body.type
      // A copy: whoever reads the body owns what it gets, and a blob can be read again.
      return copyOf(blobBytes(body))
    }
    if (isSearchParams(body)) {
      extractedType = 'application/x-www-form-urlencoded;charset=UTF-8'
      return body.toString()
    }
    if (isFormData(body)) {
      const blob = encodeForm(body)
      extractedType = blob.type
      return blobBytes(blob)
    }
  }
  extractedType = TEXT_TYPE
  return toText(body)
}

export function isUsed(raw: RawBody): boolean {
  return raw === USED || (isReadableStream(raw) && isDisturbed(raw))
}

/** Throws if the body cannot be read any more. */
export function assertUsable(raw: RawBody): void {
  if (raw === USED) throw new TypeError('Body has already been used. It can only be used once. Use tee() or clone() first if you need to read it twice.')
  if (isReadableStream(raw) && (raw.locked || isDisturbed(raw))) throw new TypeError('Body has already been used or its stream is locked')
}

export function readText(raw: RawBody): string | Promise<string> {
  if (raw === BUFFERED) return hostBodyText()
  if (raw === null) return ''
  if (typeof raw === 'string') {
    const text = StringToWellFormed(raw)
    return text[0] === '\uFEFF' ? text.slice(1) : text
  }
  if (raw instanceof NativeUint8Array) return decodeUtf8(raw)
  if (typeof raw === 'number') throw requestOver()
  return readAll(raw as HostSource | ReadableStream).then(decodeUtf8)
}

/** An own array: the caller may hand it out. */
export function readBytes(raw: RawBody): Uint8Array<ArrayBuffer> | Promise<Uint8Array<ArrayBuffer>> {
  if (raw === BUFFERED) return new NativeUint8Array(hostBodyBytes())
  if (raw === null) return new NativeUint8Array(0)
  if (typeof raw === 'string') return encodeUtf8(raw)
  if (raw instanceof NativeUint8Array) return raw
  if (typeof raw === 'number') throw requestOver()
  return readAll(raw as HostSource | ReadableStream)
}

/** The request body that was at the host is no longer there. */
export function renewBody(): void {
  BUFFERED++
}

export async function readJson(raw: RawBody): Promise<unknown> {
  const text = readText(raw)
  return JSONParse(typeof text === 'string' ? text : await text)
}

export async function readArrayBuffer(raw: RawBody): Promise<ArrayBuffer> {
  const bytes = await readBytes(raw)
  return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : ArrayBufferSlice(bytes.buffer, bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
}

export async function readBlob(raw: RawBody, contentType: string | null): Promise<Blob> {
  return blobOver(await readBytes(raw), blobTypeOf(contentType ?? ''))
}

/** As the standard writes a MIME type: what is before the parameters in lower case, no white space around them. */
function blobTypeOf(contentType: string): string {
  const parts = StringSplit(contentType, ';')
  let type = StringToLowerCase(StringTrim(parts[0] ?? ''))
  for (let i = 1; i < parts.length; i++) type += `;${StringTrim(parts[i] ?? '')}`
  return type
}

export async function readForm(raw: RawBody, contentType: string | null): Promise<FormData> {
  return parseForm(await readBytes(raw), contentType ?? '')
}

/** The stream that `body` shows for a raw body; null for none. */
export function streamOf(raw: RawBody): ReadableStream | null {
  if (raw === null) return null
  if (raw === USED) return usedStream()
  if (raw instanceof HostSource) return streamOfSource(raw)
  if (isReadableStream(raw)) return raw
  return streamOfBytes(() => readBytes(raw) as Uint8Array<ArrayBuffer>)
}

/** Two bodies out of one: [what stays, the copy]. Throws if it was read. */
export function cloneRaw(raw: RawBody): readonly [RawBody, RawBody] {
  assertUsable(raw)
  if (raw instanceof NativeUint8Array) return [raw, copyOf(raw)]
  if (raw instanceof HostSource || isReadableStream(raw)) {
    const stream = streamOf(raw)
    if (stream !== null) return teeBytes(stream as ByteStream)
  }
  return [raw, raw]
}

function teeBytes(stream: ByteStream): readonly [ReadableStream, ReadableStream] {
  const [first, second] = stream.tee()
  return [first, second]
}
