/**
 * `TextDecoder` of all the encodings of the standard, and the two stream classes. UTF-8 and UTF-16 are the engine's own,
 * windows-1252 is a table here, all others are decoded by the host.
 *
 * C1: the host keeps nothing between two calls. What a chunk of a stream leaves (bytes of a character that is cut, the last
 *     escape sequence of ISO-2022-JP) is kept here and given to it again before the next one.
 */
import { getterOf, MapGet, NativeTextDecoder, NativeTextEncoder, NativeUint8Array, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ObjectSetPrototypeOf, ReflectConstruct, RegExpExec, StringCharCodeAt, StringFromCharCode, StringSlice, StringToLowerCase, TextDecoderDecode, Uint8ArraySlice, Uint8ArraySubarray } from './primordials.ts'
import { LEGACY_FATAL, LEGACY_MAX_BYTES, LEGACY_STREAM } from '../abi.ts'
import { concatBytes } from './blob.ts'
import { isBufferSource, viewOf } from './bytes.ts'
import { hostLegacyDecode } from './host.ts'
import { TransformStream, type ReadableStream, type WritableStream } from './streams.ts'
import { define, publish, expose, isObject, tag, toText } from './webidl.ts'

interface DecoderOptions {
  readonly fatal?: boolean
  readonly ignoreBOM?: boolean
}

/** Names of what is decoded in the machine, by label. */
const NAMES = new Map<string, string>()
for (const [name, labels] of Object.entries({
  'utf-8': 'unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8',
  'utf-16le': 'csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le',
  'utf-16be': 'unicodefffe utf-16be',
  'windows-1252': 'ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252',
})) {
  for (const label of labels.split(' ')) NAMES.set(label, name)
}
/** 0x80 to 0x9f. */
const WINDOWS_1252 = '\u20AC\x81\u201A\u0192\u201E\u2026\u2020\u2021\u02C6\u2030\u0160\u2039\u0152\x8D\u017D\x8F\x90\u2018\u2019\u201C\u201D\u2022\u2013\u2014\u02DC\u2122\u0161\u203A\u0153\x9D\u017E\u0178'
/** A label between the white space that does not count. */
const LABEL = /^[\t\n\f\r ]*([^]*?)[\t\n\f\r ]*$/
const NOTHING: Uint8Array<ArrayBuffer> = new NativeUint8Array(0)
const ESCAPE_BYTES = 3

const prototype: object = NativeTextDecoder.prototype
const nativeGetters = { encoding: getterOf(prototype, 'encoding'), fatal: getterOf(prototype, 'fatal'), ignoreBOM: getterOf(prototype, 'ignoreBOM') }

/** The native getter throws something that is no JavaScript value when `this` is no decoder. */
function nativeAttribute(decoder: unknown, name: keyof typeof nativeGetters): unknown {
  try {
    return nativeGetters[name](decoder)
  } catch {
    throw new TypeError('Illegal invocation: this is not a TextDecoder')
  }
}

interface Legacy {
  readonly encoding: string
  readonly fatal: boolean
  readonly ignoreBOM: boolean
  /** C1. */
  carry: Uint8Array<ArrayBuffer>
}

let legacyOf: (value: unknown) => Legacy | null

class LegacyDecoder {
  readonly #legacy: Legacy

  static {
    legacyOf = (value) => (typeof value === 'object' && value !== null && #legacy in value ? value.#legacy : null)
  }

  constructor(encoding: string, fatal: boolean, ignoreBOM: boolean) {
    this.#legacy = { encoding, fatal, ignoreBOM, carry: NOTHING }
  }
}

function decodeLegacy(legacy: Legacy, input: unknown, isStream: boolean): string {
  if (input !== undefined && !isBufferSource(input)) throw new TypeError('decode needs an ArrayBuffer or a view')
  const bytes = input === undefined ? NOTHING : viewOf(input)
  if (legacy.encoding === 'windows-1252') return decodeWindows1252(bytes)
  let text = ''
  let at = 0
  do {
    const end = at + LEGACY_MAX_BYTES
    text += decodeSlice(legacy, Uint8ArraySubarray(bytes, at, end), isStream || end < bytes.length)
    at = end
  } while (at < bytes.length)
  return text
}

function decodeSlice(legacy: Legacy, slice: Uint8Array, isStream: boolean): string {
  const joined: Uint8Array = legacy.carry.length === 0 ? slice : concatBytes([legacy.carry, slice])
  // Two escape sequences with nothing between are an error to the host; the one that was kept had something after it.
  const bytes = isEscape(legacy.carry, 0) && isEscape(joined, ESCAPE_BYTES) ? Uint8ArraySubarray(joined, ESCAPE_BYTES) : joined
  legacy.carry = NOTHING
  const text = hostLegacyDecode(legacy.encoding, bytes, (legacy.fatal ? LEGACY_FATAL : 0) | (isStream ? LEGACY_STREAM : 0))
  if (text === null) throw new TypeError(`The encoded data was not valid for encoding ${legacy.encoding}`)
  if (!isStream) return text
  // Of a stream the first character is the number of bytes at the end that are no character yet.
  const cut = bytes.length - StringCharCodeAt(text, 0)
  const rest = Uint8ArraySlice(bytes, cut)
  legacy.carry = legacy.encoding === 'iso-2022-jp' ? concatBytes([lastEscape(bytes, cut), rest]) : rest
  return StringSlice(text, 1)
}

/** It says which characters the bytes after it stand for. */
function lastEscape(bytes: Uint8Array, end: number): Uint8Array {
  for (let at = end - ESCAPE_BYTES; at >= 0; at--) if (isEscape(bytes, at)) return Uint8ArraySlice(bytes, at, at + ESCAPE_BYTES)
  return NOTHING
}

/** ESC ( and one of B J I, or ESC $ and one of @ B. */
function isEscape(bytes: Uint8Array, at: number): boolean {
  const last = bytes[at + 2]
  return bytes[at] === 0x1b && (bytes[at + 1] === 0x28 ? last === 0x42 || last === 0x4a || last === 0x49 : bytes[at + 1] === 0x24 && (last === 0x40 || last === 0x42))
}

function decodeWindows1252(bytes: Uint8Array): string {
  let text = ''
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0
    text += byte >= 0x80 && byte <= 0x9f ? (WINDOWS_1252[byte - 0x80] ?? '') : StringFromCharCode(byte)
  }
  return text
}

/** Native for what the engine knows, so that the usual decoder costs nothing more. */
function TextDecoder(this: unknown, label: unknown = 'utf-8', options?: DecoderOptions | null): object {
  if ((new.target as unknown) === undefined) throw new TypeError("Class constructor TextDecoder cannot be invoked without 'new'")
  const text = StringToLowerCase(toText(label))
  const known = MapGet(NAMES, text)
  const asked = known ?? RegExpExec(LABEL, text)?.[1] ?? ''
  const name = known ?? MapGet(NAMES, asked) ?? hostLegacyDecode(asked, null, 0)
  if (name === null) throw new RangeError(`The "${asked}" encoding is not supported`)
  if (options !== undefined && options !== null && !isObject(options)) throw new TypeError('The options of a TextDecoder must be an object')
  const target = new.target as unknown as { readonly prototype: object }
  if (name === 'utf-8' || name === 'utf-16le' || name === 'utf-16be') return ReflectConstruct(NativeTextDecoder, [name, options ?? {}], target as never)
  return ObjectSetPrototypeOf(new LegacyDecoder(name, Boolean(options?.fatal), Boolean(options?.ignoreBOM)), target.prototype) as object
}

const members = {
  decode(input?: unknown, options?: { readonly stream?: boolean } | null): string {
    const legacy = legacyOf(this)
    if (legacy !== null) return decodeLegacy(legacy, input, Boolean(options?.stream))
    try {
      return TextDecoderDecode(this, input, options ?? undefined)
    } catch (error) {
      throw error instanceof Error ? error : new TypeError('Illegal invocation: this is not a TextDecoder')
    }
  },
  get encoding(): unknown {
    return legacyOf(this)?.encoding ?? nativeAttribute(this, 'encoding')
  },
  get fatal(): unknown {
    return legacyOf(this)?.fatal ?? nativeAttribute(this, 'fatal')
  },
  get ignoreBOM(): unknown {
    return legacyOf(this)?.ignoreBOM ?? nativeAttribute(this, 'ignoreBOM')
  },
}

interface Transform {
  readonly readable: ReadableStream
  readonly writable: WritableStream
}

class TextEncoderStream {
  readonly #transform: Transform

  constructor() {
    const encoder = new NativeTextEncoder()
    // A surrogate pair may be cut by the chunks' border.
    let high = ''
    this.#transform = new TransformStream<unknown, Uint8Array>({
      transform(chunk, controller) {
        let text = high + toText(chunk)
        const last = StringCharCodeAt(text, text.length - 1)
        high = last >= 0xd800 && last <= 0xdbff ? StringSlice(text, -1) : ''
        if (high !== '') text = StringSlice(text, 0, -1)
        if (text !== '') controller.enqueue(encoder.encode(text))
      },
      flush(controller) {
        if (high !== '') controller.enqueue(encoder.encode('\uFFFD'))
      },
    })
  }

  get encoding(): string {
    // The field refuses what is not of this class.
    return (this.#transform as object | null) === null ? '' : 'utf-8'
  }

  get readable(): ReadableStream {
    return this.#transform.readable
  }

  get writable(): WritableStream {
    return this.#transform.writable
  }
}

interface Decoder {
  readonly encoding: string
  readonly fatal: boolean
  readonly ignoreBOM: boolean
  decode(input?: unknown, options?: unknown): string
}

class TextDecoderStream {
  readonly #decoder: Decoder
  readonly #transform: Transform

  constructor(label?: string, options?: DecoderOptions) {
    const decoder = new (TextDecoder as unknown as new (label?: string, options?: DecoderOptions) => Decoder)(label, options)
    this.#decoder = decoder
    this.#transform = new TransformStream<unknown, string>({
      transform(chunk, controller) {
        // decode itself takes undefined for nothing.
        if (!isBufferSource(chunk)) throw new TypeError('A chunk must be an ArrayBuffer or a view')
        const text = decoder.decode(chunk, { stream: true })
        if (text !== '') controller.enqueue(text)
      },
      flush(controller) {
        const text = decoder.decode()
        if (text !== '') controller.enqueue(text)
      },
    })
  }

  get encoding(): string {
    return this.#decoder.encoding
  }

  get fatal(): boolean {
    return this.#decoder.fatal
  }

  get ignoreBOM(): boolean {
    return this.#decoder.ignoreBOM
  }

  get readable(): ReadableStream {
    return this.#transform.readable
  }

  get writable(): WritableStream {
    return this.#transform.writable
  }
}

export function installEncoding(): void {
  for (const name of ['decode', 'encoding', 'fatal', 'ignoreBOM']) ObjectDefineProperty(prototype, name, { ...ObjectGetOwnPropertyDescriptor(members, name), enumerable: true, configurable: true })
  ObjectDefineProperty(TextDecoder, 'prototype', { value: prototype, writable: false })
  for (const name of ['encode', 'encodeInto']) ObjectDefineProperty(NativeTextEncoder.prototype, name, { enumerable: true })
  ObjectDefineProperty(ObjectGetOwnPropertyDescriptor(prototype, 'decode')?.value, 'length', { value: 0, configurable: true })
  ObjectDefineProperty(TextDecoder, 'length', { value: 0 })
  define(prototype, 'constructor', TextDecoder)
  tag(prototype, 'TextDecoder')
  tag(NativeTextEncoder.prototype, 'TextEncoder')
  publish('TextDecoder', TextDecoder)
  expose('TextEncoderStream', TextEncoderStream, 0)
  expose('TextDecoderStream', TextDecoderStream, 0)
}
