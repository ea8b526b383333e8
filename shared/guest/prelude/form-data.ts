/** `FormData` with its two encodings. */
import { ArrayPush, ArraySplice, ObjectGetOwnPropertyDescriptor, ReflectApply, StringIndexOf, StringReplaceAll, StringSlice, StringSplit, StringToLowerCase, StringTrim, Uint8ArraySubarray, Uint8ArraySlice } from './primordials.ts'
import { Blob, File, blobBytes, blobOver, concatBytes, isBlob } from './blob.ts'
import { decodeUtf8, encodeUtf8, hostRandom, hostUtf8Decode } from './host.ts'
import { aliasIterator, createPairIterator } from './pair-iterator.ts'
import { parseUrlencoded } from './urlencoded.ts'
import { isObject, toText } from './webidl.ts'

type Entry = readonly [string, string | File]

export let isFormData: (value: unknown) => value is FormData
let entriesOf: (form: FormData) => Entry[]

const iterate = createPairIterator<FormData>('FormData Iterator', (form, index) => entriesOf(form)[index])

export class FormData {
  #entries: Entry[] = []

  static {
    isFormData = (value): value is FormData => typeof value === 'object' && value !== null && #entries in value
    entriesOf = (form) => form.#entries
  }

  constructor(form?: unknown) {
    if (form !== undefined) throw new TypeError('FormData takes no form here')
  }

  append(name: string, value: unknown, fileName?: string): void {
    ArrayPush(this.#entries, toEntry(name, value, fileName, arguments.length))
  }

  delete(name: string): void {
    const key = toText(name)
    const entries = this.#entries
    for (let i = entries.length - 1; i >= 0; i--) if (entries[i]?.[0] === key) ArraySplice(entries, i, 1)
  }

  get(name: string): string | File | null {
    const key = toText(name)
    const entries = this.#entries
    for (let i = 0; i < entries.length; i++) if (entries[i]?.[0] === key) return entries[i]?.[1] ?? null
    return null
  }

  getAll(name: string): (string | File)[] {
    const key = toText(name)
    const entries = this.#entries
    const values: (string | File)[] = []
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      if (entry?.[0] === key) ArrayPush(values, entry[1])
    }
    return values
  }

  has(name: string): boolean {
    return this.get(name) !== null
  }

  set(name: string, value: unknown, fileName?: string): void {
    const entry = toEntry(name, value, fileName, arguments.length)
    const entries = this.#entries
    let placed = false
    for (let i = 0; i < entries.length; i++) {
      if (entries[i]?.[0] !== entry[0]) continue
      if (placed) ArraySplice(entries, i--, 1)
      else entries[i] = entry
      placed = true
    }
    if (!placed) ArrayPush(entries, entry)
  }

  forEach(callback: (value: string | File, name: string, form: FormData) => void, thisArg?: unknown): void {
    if (typeof callback !== 'function') throw new TypeError('forEach needs a function')
    for (let i = 0, entry = this.#entries[0]; entry !== undefined; entry = this.#entries[++i]) ReflectApply(callback, thisArg, [entry[1], entry[0], this])
  }

  entries(): IterableIterator<[string, string | File]> {
    return iterate(this, 'entries') as IterableIterator<[string, string | File]>
  }

  keys(): IterableIterator<string> {
    return iterate(this, 'keys') as IterableIterator<string>
  }

  values(): IterableIterator<string | File> {
    return iterate(this, 'values') as IterableIterator<string | File>
  }
}
aliasIterator(FormData.prototype, ObjectGetOwnPropertyDescriptor(FormData.prototype, 'entries')?.value)

function toEntry(name: unknown, value: unknown, fileName: unknown, count: number): Entry {
  if (count < 2) throw new TypeError('A form entry needs a name and a value')
  const key = toText(name)
  if (!isBlob(value)) {
    if (count > 2) throw new TypeError('Only an entry that is a Blob takes a file name')
    return [key, toText(value)]
  }
  if (value instanceof File && count < 3) return [key, value]
  return [key, new File([value], count > 2 ? toText(fileName) : value instanceof File ? value.name : 'blob', { type: value.type })]
}

/** A body of `application/x-www-form-urlencoded` or `multipart/form-data`. */
export function parseForm(bytes: Uint8Array<ArrayBuffer>, contentType: string): FormData {
  const semicolon = StringIndexOf(contentType, ';')
  const type = StringToLowerCase(StringTrim(semicolon < 0 ? contentType : StringSlice(contentType, 0, semicolon)))
  const form = new FormData()
  if (type === 'application/x-www-form-urlencoded') {
    const pairs = parseUrlencoded(hostUtf8Decode(bytes, false, true) ?? '')
    for (let i = 0; i < pairs.length; i += 2) form.append(pairs[i] ?? '', pairs[i + 1] ?? '')
    return form
  }
  if (type === 'multipart/form-data') {
    const boundary = parameter(contentType, 'boundary')
    if (boundary !== '') {
      parseMultipart(form, bytes, boundary)
      return form
    }
  }
  throw new TypeError(`The body cannot be read as a form: its content-type is ${contentType === '' ? 'missing' : contentType}`)
}

/** A parameter of a header value like `form-data; name="a"`; '' if absent. */
function parameter(header: string, name: string): string {
  let rest = header
  for (let at = StringIndexOf(rest, ';'); at >= 0; at = StringIndexOf(rest, ';')) {
    rest = StringSlice(rest, at + 1)
    const equals = StringIndexOf(rest, '=')
    if (equals < 0) return ''
    const key = StringToLowerCase(StringTrim(StringSlice(rest, 0, equals)))
    const quoted = rest[equals + 1] === '"'
    const end = quoted ? StringIndexOf(rest, '"', equals + 2) : StringIndexOf(rest, ';', equals + 1)
    const stop = end < 0 ? rest.length : end
    if (key === name) {
      const value = quoted ? StringSlice(rest, equals + 2, stop) : StringTrim(StringSlice(rest, equals + 1, stop))
      return value
    }
    rest = StringSlice(rest, quoted ? stop + 1 : stop)
  }
  return ''
}

function indexOfBytes(bytes: Uint8Array, wanted: Uint8Array, from: number): number {
  const first = wanted[0] ?? 0
  const last = bytes.byteLength - wanted.byteLength
  for (let i = bytes.indexOf(first, from); i >= 0 && i <= last; i = bytes.indexOf(first, i + 1)) {
    let matched = 1
    while (matched < wanted.byteLength && bytes[i + matched] === wanted[matched]) matched++
    if (matched === wanted.byteLength) return i
  }
  return -1
}

const HEAD_END = new Uint8Array([13, 10, 13, 10])

function parseMultipart(form: FormData, bytes: Uint8Array<ArrayBuffer>, boundary: string): void {
  const delimiter = encodeUtf8(`--${boundary}`)
  const between = encodeUtf8(`\r\n--${boundary}`)
  const malformed = (): TypeError => new TypeError('The multipart body is malformed')
  let at = indexOfBytes(bytes, delimiter, 0)
  if (at !== 0 && !(at === 2 && bytes[0] === 13)) throw malformed()
  at += delimiter.byteLength
  while (bytes[at] !== 45 || bytes[at + 1] !== 45) {
    const headEnd = indexOfBytes(bytes, HEAD_END, at)
    const end = headEnd < 0 ? -1 : indexOfBytes(bytes, between, headEnd + 2)
    if (end < 0) throw malformed()
    appendPart(form, decodeUtf8(Uint8ArraySubarray(bytes, at + 2, headEnd)), Uint8ArraySlice(bytes, headEnd + 4, end))
    at = end + between.byteLength
  }
}

function appendPart(form: FormData, head: string, body: Uint8Array<ArrayBuffer>): void {
  const lines = StringSplit(head, '\r\n')
  let disposition = ''
  let type = ''
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] ?? ''
    const colon = StringIndexOf(line, ':')
    const name = StringToLowerCase(StringSlice(line, 0, colon < 0 ? 0 : colon))
    if (name === 'content-disposition') disposition = StringTrim(StringSlice(line, colon + 1))
    if (name === 'content-type') type = StringTrim(StringSlice(line, colon + 1))
  }
  const name = unescapeName(parameter(disposition, 'name'))
  if (StringIndexOf(disposition, 'filename=') < 0) form.append(name, decodeUtf8(body))
  else form.append(name, new File([body], unescapeName(parameter(disposition, 'filename')), { type: type === '' ? 'application/octet-stream' : type }))
}

function escapeName(name: string): string {
  return StringReplaceAll(StringReplaceAll(StringReplaceAll(name, '\n', '%0A'), '\r', '%0D'), '"', '%22')
}

function unescapeName(name: string): string {
  return StringReplaceAll(StringReplaceAll(StringReplaceAll(name, '%0A', '\n'), '%0D', '\r'), '%22', '"')
}

/** The multipart encoding and its content type. */
export function encodeForm(form: FormData): Blob {
  const random = new Uint8Array(hostRandom(12))
  let boundary = '----outpost-form-'
  for (let i = 0; i < random.length; i++) boundary += (random[i] ?? 0).toString(36)
  const parts: Uint8Array[] = []
  const entries = entriesOf(form)
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]
    if (entry === undefined) continue
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(entry[0])}"`
    const value = entry[1]
    if (isObject(value)) {
      ArrayPush(parts, encodeUtf8(`${head}; filename="${escapeName(value.name)}"\r\nContent-Type: ${value.type === '' ? 'application/octet-stream' : value.type}\r\n\r\n`))
      ArrayPush(parts, blobBytes(value))
      ArrayPush(parts, encodeUtf8('\r\n'))
    } else ArrayPush(parts, encodeUtf8(`${head}\r\n\r\n${value}\r\n`))
  }
  ArrayPush(parts, encodeUtf8(`--${boundary}--\r\n`))
  return blobOver(concatBytes(parts), `multipart/form-data; boundary=${boundary}`)
}
