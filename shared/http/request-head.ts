/**
 * Reads the head of a uWS request and refuses what is ambiguous. One reader serves all requests of a front door, one
 * after the other: its fields are valid until the next `read`.
 *
 * What uWS does by itself (pinned by test/shared/http/hostile.test.ts): refuses absolute-form and other odd targets,
 * HTTP/1.0, Content-Length beside Transfer-Encoding, malformed lengths and chunk sizes, controls in names, values and
 * targets, and more headers than its bounds. What it lets through, and this file refuses:
 *
 * R1: more than one Content-Length, or an empty one; more than one Transfer-Encoding, or any but exactly `chunked`.
 *     uWS frames by the first Content-Length and takes every Transfer-Encoding for chunked.
 * R2: more than one Host, or an empty one. (Its form is checked where it is resolved, see routes.ts.)
 * R3: methods that are not upper-case tokens; CONNECT, TRACE and TRACK.
 * R4: targets with characters outside printable ASCII, with `#` or with `%00`.
 * R5: header values outside printable ASCII and tab. uWS decodes UTF-8, so what it could decode is given on as Latin-1
 *     text of the bytes received; what it had to replace is refused. (It also trims high bytes off the ends of values:
 *     nothing here can see that.)
 *
 * Not visible here either: uWS stops reading headers at one with an empty name, but so does its framing, and both agree.
 */
import type { ProxyHeaders } from './forwarded.ts'
import { SESSION_HEADER } from '../sessions/session-request.ts'
import type { HttpRequest } from './uws.ts'

/** What to do with a header by its name; every other name is given on, unless it begins with `x-outpost-`. */
const DROP = 1
const HOST = 2
const CONTENT_LENGTH = 3
const TRANSFER_ENCODING = 4
const AUTHORIZATION = 5
const REQUEST_ID = 6
const CONNECTION = 7
const FORWARDED_ADDRESSES = 8
const FORWARDED_SCHEMES = 9

const SPECIAL: ReadonlyMap<string, number> = new Map([
  ['keep-alive', DROP], ['proxy-authenticate', DROP], ['proxy-authorization', DROP], ['proxy-connection', DROP], ['te', DROP],
  ['trailer', DROP], ['upgrade', DROP], ['expect', DROP],
  ['host', HOST], ['content-length', CONTENT_LENGTH], ['transfer-encoding', TRANSFER_ENCODING], ['authorization', AUTHORIZATION],
  ['x-request-id', REQUEST_ID], ['connection', CONNECTION],
  ['forwarded', DROP], ['x-forwarded-host', DROP], ['x-forwarded-port', DROP], ['x-forwarded-proto', DROP], ['x-forwarded-for', DROP],
])
/** What anybody can write, and what counts if a proxy wrote it. The others stay dropped. */
const OF_PROXIES: Readonly<Record<ProxyHeaders, ReadonlyMap<string, number>>> = {
  'x-forwarded': new Map([...SPECIAL, ['x-forwarded-for', FORWARDED_ADDRESSES], ['x-forwarded-proto', FORWARDED_SCHEMES]]),
  forwarded: new Map([...SPECIAL, ['forwarded', FORWARDED_ADDRESSES]]),
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
const METHOD = /^[A-Z][A-Z0-9_-]{0,31}$/
const FORBIDDEN_METHODS: ReadonlySet<string> = new Set(['CONNECT', 'TRACE', 'TRACK'])
/** Anything but printable ASCII, and `#`. One class: an alternation takes three times as long. */
const TARGET_BAD = /[^\x21\x22\x24-\x7e]/
const VALUE_BAD = /[^\t\n\x20-\x7e]/
const CLIENT_REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{7,63}$/

export interface RequestHeadOptions {
  /** Which headers of proxies to read into `forwardedAddresses` and `forwardedSchemes`; whether they are believed is for others to say. Null: none. None is given on. */
  readonly proxyHeaders: ProxyHeaders | null
}

export class RequestHead {
  method = ''
  path = ''
  /** Without `?`; null if there was none. */
  query: string | null = null
  host = ''
  /** What a function may see, `name\nvalue...`. */
  headers = ''
  /** -1: none was given. */
  contentLength = -1
  chunked = false
  authorized = false
  /** What the client calls this request, if that is fit to be used; else null. */
  requestId: string | null = null
  /** Several lines are joined by commas. */
  forwardedAddresses: string | null = null
  forwardedSchemes: string | null = null
  /** Why the request is refused, or null. */
  refusal: string | null = null

  readonly #special: ReadonlyMap<string, number>
  #flat = ''
  #hosts = 0
  #contentLengths = 0
  #transferEncodings = 0
  #connection = ''
  // Bound once: a closure per request would cost as much as reading two headers.
  readonly #collect = (name: string, value: string): void => {
    const special = this.#special.get(name)
    if (special === undefined) {
      if (name.charCodeAt(0) === 0x78 && name.startsWith('x-outpost-') && name !== SESSION_HEADER) return
      this.#append(name, value)
    } else {
      this.#collectSpecial(special, name, value)
    }
  }

  constructor(options: RequestHeadOptions) {
    this.#special = options.proxyHeaders === null ? SPECIAL : OF_PROXIES[options.proxyHeaders]
  }

  /** Fills the fields; look at `refusal` first. */
  read(request: HttpRequest): void {
    this.method = request.getCaseSensitiveMethod()
    this.path = request.getUrl()
    this.query = orNull(request.getQuery())
    this.host = ''
    this.contentLength = -1
    this.chunked = false
    this.authorized = false
    this.requestId = null
    this.forwardedAddresses = null
    this.forwardedSchemes = null
    this.refusal = null
    this.#flat = ''
    this.#hosts = 0
    this.#contentLengths = 0
    this.#transferEncodings = 0
    this.#connection = ''
    request.forEach(this.#collect)
    this.headers = this.#flat
    if (VALUE_BAD.test(this.headers)) this.#toLatin1()
    if (this.#connection !== '') this.#dropNominated()
    this.#check()
  }

  #collectSpecial(special: number, name: string, value: string): void {
    switch (special) {
      case HOST:
        this.host = value
        this.#hosts++
        break
      case CONTENT_LENGTH:
        this.#contentLengths++
        // uWS refuses what is no number, but only once the body is read: until then it must not count.
        this.contentLength = /^\d{1,15}$/.test(value) ? Number(value) : -1
        if (this.contentLength === -1) this.#refuse('malformed Content-Length')
        break
      case TRANSFER_ENCODING:
        this.#transferEncodings++
        this.chunked = true
        if (value.toLowerCase() !== 'chunked') this.#refuse('Transfer-Encoding other than chunked')
        return
      case AUTHORIZATION:
        this.authorized = value !== ''
        break
      case REQUEST_ID:
        if (CLIENT_REQUEST_ID.test(value)) this.requestId = value
        break
      case CONNECTION:
        if (value.length !== 5 && value.toLowerCase() !== 'keep-alive') this.#connection += ',' + value
        return
      case FORWARDED_ADDRESSES:
        this.forwardedAddresses = this.forwardedAddresses === null ? value : `${this.forwardedAddresses},${value}`
        return
      case FORWARDED_SCHEMES:
        this.forwardedSchemes = this.forwardedSchemes === null ? value : `${this.forwardedSchemes},${value}`
        return
      default:
        return
    }
    this.#append(name, value)
  }

  /** A header of our own, for a function to see. */
  add(name: string, value: string): void {
    this.headers = this.headers === '' ? name + '\n' + value : this.headers + '\n' + name + '\n' + value
  }

  /** Without a line break at the end, which would have to be cut off: a copy of the whole. */
  #append(name: string, value: string): void {
    const flat = this.#flat
    this.#flat = flat === '' ? name + '\n' + value : flat + '\n' + name + '\n' + value
  }

  #refuse(why: string): void {
    this.refusal ??= why
  }

  #check(): void {
    if (this.#hosts !== 1 || this.host === '') this.#refuse(this.#hosts > 1 ? 'more than one Host' : 'no Host')
    if (this.#contentLengths > 1) this.#refuse('more than one Content-Length')
    if (this.#transferEncodings > 1) this.#refuse('more than one Transfer-Encoding')
    if (this.chunked && this.#contentLengths > 0) this.#refuse('Content-Length beside Transfer-Encoding')
    if (!KNOWN_METHODS.has(this.method)) {
      if (!METHOD.test(this.method)) this.#refuse('malformed method')
      else if (FORBIDDEN_METHODS.has(this.method)) this.#refuse(`method ${this.method}`)
    }
    if (isBadTarget(this.path) || (this.query !== null && isBadTarget(this.query))) this.#refuse('malformed target')
  }

  /** R5. Rare, so it may be slow. */
  #toLatin1(): void {
    if (/[^\t\n\x20-\x7e\x80-\u{10ffff}]|\ufffd/u.test(this.headers)) this.#refuse('a header value that is neither ASCII nor UTF-8')
    this.headers = Buffer.from(this.headers, 'utf8').toString('latin1')
  }

  /** Headers that `Connection` names concern the connection too. Rare. */
  #dropNominated(): void {
    const nominated = new Set(this.#connection.split(',').map((name) => name.trim().toLowerCase()))
    const parts = this.headers.split('\n')
    let kept = ''
    for (let index = 0; index + 1 < parts.length; index += 2) {
      const name = parts[index] ?? ''
      if (!nominated.has(name) || name === 'host' || name === 'content-length') kept += `${name}\n${parts[index + 1] ?? ''}\n`
    }
    this.headers = kept.slice(0, -1)
  }
}

/** R4. */
function isBadTarget(text: string): boolean {
  return TARGET_BAD.test(text) || text.includes('%00')
}

/** uWS gives undefined where there is no `?`, against what its types say. */
function orNull(query: string | undefined): string | null {
  return query ?? null
}

/** Every header as received, for calls whose signature covers them. Call it before the uWS callback returns. */
export function rawHeaders(request: HttpRequest): string {
  let flat = ''
  request.forEach((name, value) => {
    flat += name + '\n' + value + '\n'
  })
  return flat.slice(0, -1)
}
