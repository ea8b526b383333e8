/**
 * Additions to the engine's native `TextDecoder`, which knows UTF-8 and UTF-16 only: the Latin-1 family, and the two
 * stream classes. Other legacy encodings stay a RangeError.
 */
import { ArrayIndexOf, getterOf, NativeTextDecoder, NativeTextEncoder, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ObjectSetPrototypeOf, ReflectConstruct, StringCharCodeAt, StringFromCharCode, StringSlice, StringToLowerCase, StringTrim, TextDecoderDecode } from './primordials.ts'
import { isBufferSource, viewOf } from './bytes.ts'
import { TransformStream, type ReadableStream, type WritableStream } from './streams.ts'
import { define, publish, expose, tag, toText } from './webidl.ts'

interface DecoderOptions {
  readonly fatal?: boolean
  readonly ignoreBOM?: boolean
}

const WINDOWS_1252_LABELS = ['ansi_x3.4-1968', 'ascii', 'cp1252', 'cp819', 'csisolatin1', 'ibm819', 'iso-8859-1', 'iso-ir-100', 'iso8859-1', 'iso88591', 'iso_8859-1', 'iso_8859-1:1987', 'l1', 'latin1', 'us-ascii', 'windows-1252', 'x-cp1252']
/** 0x80 to 0x9f of windows-1252, which is what all those labels mean. */
const WINDOWS_1252 = '\u20AC\x81\u201A\u0192\u201E\u2026\u2020\u2021\u02C6\u2030\u0160\u2039\u0152\x8D\u017D\x8F\x90\u2018\u2019\u201C\u201D\u2022\u2013\u2014\u02DC\u2122\u0161\u203A\u0153\x9D\u017E\u0178'

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

let settingsOf: (value: unknown) => DecoderOptions | null

class Windows1252Decoder {
  readonly #settings: DecoderOptions

  static {
    settingsOf = (value) => (typeof value === 'object' && value !== null && #settings in value ? value.#settings : null)
  }

  constructor(options: DecoderOptions | null | undefined) {
    this.#settings = { fatal: Boolean(options?.fatal), ignoreBOM: Boolean(options?.ignoreBOM) }
  }
}

function decodeWindows1252(input: unknown): string {
  if (input === undefined) return ''
  if (!isBufferSource(input)) throw new TypeError('decode needs an ArrayBuffer or a view')
  const bytes = viewOf(input)
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
  const name = StringToLowerCase(StringTrim(toText(label)))
  const target = new.target as unknown as { readonly prototype: object }
  if (ArrayIndexOf(WINDOWS_1252_LABELS, name) < 0) return ReflectConstruct(NativeTextDecoder, [name, options ?? {}], target as never)
  return ObjectSetPrototypeOf(new Windows1252Decoder(options), target.prototype) as object
}

const members = {
  decode(input?: unknown, options?: unknown): string {
    return settingsOf(this) === null ? TextDecoderDecode(this, input, options) : decodeWindows1252(input)
  },
  get encoding(): unknown {
    return settingsOf(this) === null ? nativeAttribute(this, 'encoding') : 'windows-1252'
  },
  get fatal(): unknown {
    return settingsOf(this)?.fatal ?? nativeAttribute(this, 'fatal')
  },
  get ignoreBOM(): unknown {
    return settingsOf(this)?.ignoreBOM ?? nativeAttribute(this, 'ignoreBOM')
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
    return 'utf-8'
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
  ObjectDefineProperty(TextDecoder, 'prototype', { value: prototype })
  ObjectDefineProperty(TextDecoder, 'length', { value: 0 })
  define(prototype, 'constructor', TextDecoder)
  tag(prototype, 'TextDecoder')
  tag(NativeTextEncoder.prototype, 'TextEncoder')
  publish('TextDecoder', TextDecoder)
  expose('TextEncoderStream', TextEncoderStream, 0)
  expose('TextDecoderStream', TextDecoderStream, 0)
}
