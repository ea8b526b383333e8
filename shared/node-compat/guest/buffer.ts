/**
 * `node:buffer`: the npm package of that name, with the engine's own conversions in the place of its loops: text in QuickJS
 * byte by byte takes a hundred times as long.
 */
import { Buffer as Base, kMaxLength } from 'buffer/'
import { invalidType, nodeError, outOfRange } from './errors.ts'
import { host } from './host.ts'

type Text = (this: Uint8Array, encoding?: string, start?: number, end?: number) => string
type Write = (this: Uint8Array, text: string, ...rest: (number | string | undefined)[]) => number
interface Base64Bytes extends Uint8ArrayConstructor {
  fromBase64(text: string, options: { alphabet: string; lastChunkHandling: string }): Uint8Array<ArrayBuffer>
  fromHex(text: string): Uint8Array<ArrayBuffer>
}
interface Base64Text extends Uint8Array {
  toBase64(options?: { alphabet: string; omitPadding: boolean }): string
  toHex(): string
}

const native = Uint8Array as unknown as Base64Bytes

const { from: fromBase, byteLength: byteLengthBase, alloc: allocBase } = Base as unknown as { from: (...values: unknown[]) => Buffer; byteLength: (value: unknown, encoding?: string) => number; alloc: (size: number, fill?: unknown, encoding?: string) => Buffer }
const prototype = Base.prototype as unknown as { toString: Text; write: Write; fill: (...values: unknown[]) => Buffer; indexOf: (...values: unknown[]) => number; lastIndexOf: (...values: unknown[]) => number; includes: (...values: unknown[]) => boolean; toLocaleString: Text; asciiSlice: unknown }
const { toString: toStringBase, write: writeBase } = prototype

const SHORT_TEXT_MAX = 32

type Encoding = 'utf8' | 'base64' | 'base64url' | 'hex' | 'latin1' | 'ascii' | 'utf16le'
const ENCODINGS: Readonly<Record<string, Encoding>> = { 'utf8': 'utf8', 'utf-8': 'utf8', 'base64': 'base64', 'base64url': 'base64url', 'hex': 'hex', 'latin1': 'latin1', 'binary': 'latin1', 'ascii': 'ascii', 'ucs2': 'utf16le', 'ucs-2': 'utf16le', 'utf16le': 'utf16le', 'utf-16le': 'utf16le' }

function encodingOf(name: unknown): Encoding | undefined {
  if (name === undefined || name === null || name === '') return 'utf8'
  if (typeof name !== 'string') return undefined
  return ENCODINGS[name] ?? ENCODINGS[name.toLowerCase()]
}

function dress(bytes: Uint8Array): Buffer {
  return Object.setPrototypeOf(bytes, Base.prototype as object) as Buffer
}

/** Both alphabets, nothing after padding, what is in no alphabet skipped: as Node reads it. */
export function bytesOfBase64(text: string): Uint8Array {
  const standard = /[-_]/.test(text) ? text.replaceAll('-', '+').replaceAll('_', '/') : text
  try {
    return native.fromBase64(standard, { alphabet: 'base64', lastChunkHandling: 'loose' })
  } catch {
    const end = standard.indexOf('=')
    const clean = (end === -1 ? standard : standard.slice(0, end)).replace(/[^A-Za-z0-9+/]/g, '')
    // A single letter at the end is six bits, which make no byte.
    return native.fromBase64(clean.length % 4 === 1 ? clean.slice(0, -1) : clean, { alphabet: 'base64', lastChunkHandling: 'loose' })
  }
}

/** Up to the first pair that is none. */
function bytesOfHex(text: string): Uint8Array {
  const even = text.length % 2 === 0 ? text : text.slice(0, -1)
  try {
    return native.fromHex(even)
  } catch {
    return native.fromHex(/^(?:[0-9a-fA-F]{2})*/.exec(even)?.[0] ?? '')
  }
}

/** Null for an encoding that the package converts. */
function bytesOf(text: string, encoding: Encoding): Uint8Array | null {
  if (encoding === 'utf8') return new Uint8Array(host.encodeUtf8(text))
  if (encoding === 'base64' || encoding === 'base64url') return bytesOfBase64(text)
  return encoding === 'hex' ? bytesOfHex(text) : null
}

function requireEncoding(name: unknown): Encoding {
  const encoding = encodingOf(name)
  if (encoding === undefined) throw nodeError(TypeError, 'ERR_UNKNOWN_ENCODING', `Unknown encoding: ${String(name)}`)
  return encoding
}

function from(value: unknown, encodingOrOffset?: unknown, length?: unknown): Buffer {
  if (typeof value !== 'string') {
    // A Buffer, or another array of bytes: the package copies it element by element.
    if (value instanceof Uint8Array) return dress(new Uint8Array(value))
    if (value === null || (typeof value !== 'object' && typeof value !== 'function')) throw invalidType('first argument', 'of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like Object.', value)
    return fromBase(value, encodingOrOffset, length)
  }
  const encoding = requireEncoding(typeof encodingOrOffset === 'string' ? encodingOrOffset : undefined)
  const bytes = bytesOf(value, encoding)
  return bytes === null ? fromBase(value, encoding) : dress(bytes)
}

function byteLength(value: unknown, encoding?: string): number {
  if (typeof value !== 'string') return byteLengthBase(value, encoding)
  switch (encodingOf(encoding)) {
    case 'base64':
    case 'base64url': {
      const padded = value.endsWith('==') ? 2 : value.endsWith('=') ? 1 : 0
      return ((value.length - padded) * 3) >>> 2
    }
    case 'hex':
      return value.length >>> 1
    case 'latin1':
    case 'ascii':
      return value.length
    case 'utf16le':
      return value.length * 2
    default:
      return host.encodeUtf8(value).byteLength
  }
}

prototype.toString = function toString(this: Uint8Array, name?: string, start: unknown = 0, end: unknown = this.length): string {
  const from = Math.max(0, Math.trunc(Number(start)) || 0)
  const to = Math.min(this.length, Math.trunc(Number(end)) || 0)
  if (to <= from) return ''
  const encoding = requireEncoding(name)
  const part = (from === 0 && to === this.length ? this : new Uint8Array(this.buffer, this.byteOffset + from, to - from)) as Base64Text
  if (encoding === 'utf8') return host.decodeUtf8(part)
  if (encoding === 'base64') return Uint8ArrayText.toBase64.call(part)
  if (encoding === 'base64url') return Uint8ArrayText.toBase64.call(part, { alphabet: 'base64url', omitPadding: true })
  if (encoding === 'hex') return Uint8ArrayText.toHex.call(part)
  return toStringBase.call(this, encoding, from, to)
}
const Uint8ArrayText = Uint8Array.prototype as unknown as Base64Text
Object.defineProperty(prototype, 'toLocaleString', { value: prototype.toString, writable: true, configurable: true })

prototype.write = function write(this: Uint8Array, text: string, ...rest: (number | string | undefined)[]): number {
  const last = rest.findIndex((value) => typeof value === 'string')
  const encoding = requireEncoding(last === -1 ? undefined : rest[last])
  if (typeof text !== 'string') throw invalidType('argument', 'of type string', text)
  // The package's loop is the faster one for short texts, and knows where to stop inside a character.
  if (encoding !== 'base64url' && (text.length <= SHORT_TEXT_MAX || encoding === 'utf8')) return writeBase.call(this, text, ...rest)
  const bytes = bytesOf(text, encoding)
  if (bytes === null) return writeBase.call(this, text, ...rest)
  const [offset = 0, length] = rest.filter((value) => typeof value === 'number')
  const room = Math.min(length ?? this.length, this.length - offset)
  const written = bytes.subarray(0, room)
  this.set(written, offset)
  return written.length
}

for (const name of ['fill', 'indexOf', 'lastIndexOf', 'includes'] as const) {
  const plain = prototype[name] as (this: Uint8Array, ...values: unknown[]) => unknown
  const wrapped = function (this: Uint8Array, value: unknown, ...rest: unknown[]): unknown {
    const given = rest.find((each) => typeof each === 'string')
    // The package does not know this encoding.
    if (typeof value === 'string' && given !== undefined && encodingOf(given) === 'base64url') return plain.call(this, from(value, given), ...rest.filter((each) => typeof each !== 'string'))
    return plain.call(this, value, ...rest)
  }
  Object.defineProperty(prototype, name, { value: wrapped, writable: true, configurable: true })
}

for (const [name, encoding] of [['utf8', 'utf8'], ['base64', 'base64'], ['base64url', 'base64url'], ['hex', 'hex'], ['latin1', 'latin1'], ['ascii', 'ascii'], ['ucs2', 'utf16le']] as const) {
  const slice = function (this: Uint8Array, start?: number, end?: number): string {
    return prototype.toString.call(this, encoding, start, end)
  }
  const write = function (this: Uint8Array, text: string, offset?: number, length?: number): number {
    return prototype.write.call(this, text, offset ?? 0, length ?? this.length - (offset ?? 0), encoding)
  }
  Object.defineProperty(prototype, `${name}Slice`, { value: slice, writable: true, configurable: true })
  Object.defineProperty(prototype, `${name}Write`, { value: write, writable: true, configurable: true })
}

function requireSize(size: unknown): void {
  if (typeof size !== 'number') throw invalidType('size', 'of type number', size)
  if (!(size >= 0 && size <= kMaxLength)) throw outOfRange('size', `>= 0 && <= ${kMaxLength}`, size)
}

Object.assign(Base, {
  from,
  byteLength,
  isEncoding: (name: unknown) => typeof name === 'string' && name !== '' && encodingOf(name) !== undefined,
  alloc: (size: number, fill?: unknown, encoding?: string) => {
    requireSize(size)
    return (typeof fill === 'string' && encodingOf(encoding) === 'base64url' ? allocBase(size).fill(from(fill, encoding)) : allocBase(size, fill, encoding))
  },
  of: (...values: number[]) => dress(new Uint8Array(values)),
  copyBytesFrom: (view: Uint8Array, offset = 0, length = view.length - offset) => {
    const part = view.subarray(offset, offset + length)
    return dress(new Uint8Array(part.buffer.slice(part.byteOffset, part.byteOffset + part.byteLength)))
  },
})

export const Buffer = Base
export { kMaxLength }
export const kStringMaxLength = 0x1fffffe8
export const constants: Readonly<Record<string, number>> = { MAX_LENGTH: kMaxLength, MAX_STRING_LENGTH: kStringMaxLength }
export const INSPECT_MAX_BYTES = 50
export const { atob, btoa, Blob, File } = globalThis

export function SlowBuffer(size: number): Buffer {
  return Base.allocUnsafeSlow(size)
}

export function isUtf8(value: ArrayBuffer | ArrayBufferView): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(value as ArrayBuffer)
    return true
  } catch {
    return false
  }
}

export function isAscii(value: ArrayBuffer | ArrayBufferView): boolean {
  const bytes = ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value)
  return bytes.every((byte) => byte < 0x80)
}

/** What the new encoding cannot say is `?`. */
export function transcode(source: Uint8Array, fromName: string, toName: string): Buffer {
  const text = dress(new Uint8Array(source)).toString(requireEncoding(fromName))
  const to = requireEncoding(toName)
  if (to === 'latin1' || to === 'ascii') {
    const max = to === 'ascii' ? 0x7f : 0xff
    return from(Array.from(text, (letter) => ((letter.codePointAt(0) ?? 0) > max ? '?' : letter)).join(''), to)
  }
  return from(text, to)
}

export default { Buffer, SlowBuffer, transcode, isUtf8, isAscii, kMaxLength, kStringMaxLength, btoa, atob, constants, INSPECT_MAX_BYTES, Blob, File }
