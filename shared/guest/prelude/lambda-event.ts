/**
 * The HTTP event of payload format 2.0 (`ecosystem.md` 2.6) that an event handler gets for a request. Few handlers
 * read more than the path and the body, so every part is made when read; the object itself is made ahead.
 */
import { DateNow, NativeUint8Array, ObjectDefineProperty, StringIncludes, StringIndexOf, StringPadStart, StringSlice, StringSplit, StringStartsWith, StringToLowerCase, Uint8ArrayToBase64 } from './primordials.ts'
import { configuration } from './configuration.ts'
import { CLIENT_IP, headHeaders, headLines, METHOD, REQUEST_ID, URL_LINE, type HeadLines } from './head.ts'
import { getHeader, type HeaderList } from './headers.ts'
import { hostBodyBytes, hostBodyText, hostUtf8Decode } from './host.ts'
import { defineLazy } from './lazy.ts'
import { isPriming } from './priming.ts'
import { parseUrlencoded } from './urlencoded.ts'

export interface EncodedBody {
  readonly body: string | undefined
  readonly isBase64Encoded: boolean
}

/** The request at the host has a body. */
const AT_HOST = 1

interface Target {
  readonly host: string
  readonly path: string
  readonly query: string
}

class EventSource {
  head = ''
  /** null: none. */
  body: Uint8Array<ArrayBuffer> | typeof AT_HOST | null = null
  #lines: HeadLines | null = null
  #list: HeaderList | null = null
  #target: Target | null = null
  #encoded: EncodedBody | null = null

  get lines(): HeadLines {
    return (this.#lines ??= headLines(this.head))
  }

  get list(): HeaderList {
    return (this.#list ??= headHeaders(this.head, this.lines))
  }

  get target(): Target {
    return (this.#target ??= splitUrl(this.lines[URL_LINE] ?? ''))
  }

  get encoded(): EncodedBody {
    return (this.#encoded ??= this.#encode())
  }

  #encode(): EncodedBody {
    const { body } = this
    if (body === null) return { body: undefined, isBase64Encoded: false }
    // Most bodies are JSON: seen without taking the headers apart. A header's name has no slash, so it is a value.
    const isJson = StringIncludes(this.head, '\ncontent-type\napplication/json')
    const type = isJson ? 'application/json' : (getHeader(this.list, 'content-type') ?? '')
    if (body !== AT_HOST) return encodeBody(body, type)
    if (isJson || isTextType(type)) {
      const text = hostBodyText()
      // The host puts U+FFFD for wrong bytes: then, and only then, look at the bytes.
      if (!StringIncludes(text, '\uFFFD')) return { body: text, isBase64Encoded: false }
    }
    return encodeBody(new NativeUint8Array(hostBodyBytes()), type)
  }
}

function splitUrl(url: string): Target {
  const start = StringIndexOf(url, '://') + 3
  const slash = StringIndexOf(url, '/', start)
  if (slash < 0) return { host: StringSlice(url, start), path: '/', query: '' }
  const question = StringIndexOf(url, '?', slash)
  return { host: StringSlice(url, start, slash), path: question < 0 ? StringSlice(url, slash) : StringSlice(url, slash, question), query: question < 0 ? '' : StringSlice(url, question + 1) }
}

const TEXT_TYPES = ['json', 'xml', 'javascript', 'x-www-form-urlencoded', 'charset=']

function isTextType(type: string): boolean {
  const lower = StringToLowerCase(type)
  if (lower === '' || StringStartsWith(lower, 'text/')) return true
  for (let i = 0; i < TEXT_TYPES.length; i++) if (StringIncludes(lower, TEXT_TYPES[i] ?? '')) return true
  return false
}

/** Text as it is; what is not of a text type or not UTF-8 as base64. */
export function encodeBody(bytes: Uint8Array<ArrayBuffer>, type: string): EncodedBody {
  const text = isTextType(type) ? hostUtf8Decode(bytes, true, true) : null
  return text === null ? { body: Uint8ArrayToBase64(bytes), isBase64Encoded: true } : { body: text, isBase64Encoded: false }
}

/** Adds a value to a record; later ones of a name follow after a comma. A plain assignment would take `__proto__` for the prototype. */
function join(record: Record<string, string>, name: string, value: string): void {
  if (name === '__proto__') ObjectDefineProperty(record, name, { value, writable: true, enumerable: true, configurable: true })
  else record[name] = typeof record[name] === 'string' ? `${record[name]},${value}` : value
}

function headersOf(list: HeaderList): Record<string, string> {
  const headers: Record<string, string> = {}
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? ''
    if (name !== 'cookie') join(headers, name, list[i + 1] ?? '')
  }
  return headers
}

function cookiesOf(list: HeaderList): string[] | undefined {
  const cookies = getHeader(list, 'cookie')
  return cookies === null ? undefined : StringSplit(cookies, '; ')
}

function parametersOf(query: string): Record<string, string> | undefined {
  if (query === '') return undefined
  const parameters: Record<string, string> = {}
  const list = parseUrlencoded(query)
  for (let i = 0; i < list.length; i += 2) join(parameters, list[i] ?? '', list[i + 1] ?? '')
  return parameters
}

const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec'

/** `21/Nov/2026:01:36:26 +0000` */
function commonLogTime(epochMs: number): string {
  const date = new Date(epochMs)
  const two = (value: number): string => StringPadStart(`${value}`, 2, '0')
  const month = StringSlice(MONTHS, date.getUTCMonth() * 3, date.getUTCMonth() * 3 + 3)
  return `${two(date.getUTCDate())}/${month}/${date.getUTCFullYear()}:${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`
}

function httpOf(source: EventSource): object {
  const { lines, target } = source
  return { method: lines[METHOD], path: target.path, protocol: 'HTTP/1.1', sourceIp: lines[CLIENT_IP], userAgent: getHeader(source.list, 'user-agent') ?? '' }
}

function contextOf(source: EventSource): object {
  const { accountId, functionName } = configuration
  const context = { accountId: accountId === '' ? 'anonymous' : accountId, apiId: functionName, domainPrefix: functionName, routeKey: '$default', stage: '$default' }
  defineLazy(context, 'domainName', () => source.target.host)
  defineLazy(context, 'http', () => httpOf(source))
  defineLazy(context, 'requestId', () => source.lines[REQUEST_ID])
  defineLazy(context, 'time', () => commonLogTime(DateNow()))
  defineLazy(context, 'timeEpoch', () => DateNow())
  return context
}

interface Made {
  readonly source: EventSource
  readonly event: object
}

function make(): Made {
  const source = new EventSource()
  const event = { version: '2.0', routeKey: '$default', requestContext: contextOf(source) }
  defineLazy(event, 'rawPath', () => source.target.path)
  defineLazy(event, 'rawQueryString', () => source.target.query)
  defineLazy(event, 'cookies', () => cookiesOf(source.list))
  defineLazy(event, 'headers', () => headersOf(source.list))
  defineLazy(event, 'queryStringParameters', () => parametersOf(source.target.query))
  defineLazy(event, 'body', () => source.encoded.body)
  defineLazy(event, 'isBase64Encoded', () => source.encoded.isBase64Encoded)
  return { source, event }
}

/** Made ahead, as in request.ts. */
let spare: Made | null = null

export function armHttpEvent(): void {
  spare = make()
}

/** `body`: already in the machine; undefined: see `bodyState`. */
export function httpEvent(head: string, bodyState: number, body?: Uint8Array<ArrayBuffer>): object {
  const { source, event } = spare ?? make()
  spare = isPriming ? make() : null
  source.head = head
  source.body = body ?? (bodyState === 0 ? null : AT_HOST)
  return event
}
