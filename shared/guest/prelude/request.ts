/**
 * `Request`. One that came in keeps the head string it came with and where its body is; method and URL are cut out
 * when read, headers split when asked for. Everything rarer is in RequestRest.
 *
 * Q1: `#head` is '' exactly for requests that a function made; those have `#lines` and `#headers` from the start.
 */
import { ArrayPush, JSONParse, NativeUint8Array, NativeURL, ObjectCreate, RegExpExec, StringToUpperCase } from './primordials.ts'
import { AbortController, followSignal, isAbortSignal, type AbortSignal } from './abort.ts'
import type { Blob } from './blob.ts'
import { assertUsable, BUFFERED, cloneRaw, extractBody, extractedType, isUsed, readArrayBuffer, readBlob, readBytes, readForm, readText, streamOf, USED, type RawBody } from './body.ts'
import type { FormData } from './form-data.ts'
import { headHeaders, headLines, METHOD, URL_LINE, type HeadLines } from './head.ts'
import { copyList, fillHeaders, findHeader, getHeader, headerGuardOf, headerListOf, headersOver, type HeaderList, type Headers } from './headers.ts'
import { CALL_BODY_SHIFT, CALL_METHOD_MASK, CALL_METHOD_SHIFT, METHODS, OPERATIONS } from '../abi.ts'
import { hostBodyText } from './host.ts'
import { isPriming } from './priming.ts'
import { HostSource, type ReadableStream } from './streams.ts'
import { getHref } from './url.ts'
import { isObject, toText } from './webidl.ts'

type Redirect = 'follow' | 'manual' | 'error'

export interface RequestInit {
  readonly method?: string
  readonly headers?: unknown
  readonly body?: unknown
  readonly redirect?: Redirect
  readonly signal?: AbortSignal | null
  readonly cf?: object
}

class RequestRest {
  redirect: Redirect = 'follow'
  signal: AbortSignal | null = null
  cf: object | null = null
}

/** The contract's bodyState. */
const BODY_BUFFERED = 1
const BODY_STREAMED = 2

function rawOf(call: number): RawBody {
  const bodyState = call >> CALL_BODY_SHIFT
  return bodyState === BODY_BUFFERED ? BUFFERED : bodyState === BODY_STREAMED ? new HostSource(OPERATIONS.BODY, 0) : null
}

/** Marks the constructor's call from here, which fills the fields itself. */
const EMPTY = ObjectCreate(null) as never
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

function normalizeMethod(value: unknown): string {
  const method = toText(value)
  if (RegExpExec(TOKEN, method) === null) throw new TypeError(`Invalid method: ${method}`)
  const upper = StringToUpperCase(method)
  if (upper === 'CONNECT' || upper === 'TRACE' || upper === 'TRACK') throw new TypeError(`Method ${upper} is not allowed`)
  return upper === 'GET' || upper === 'POST' || upper === 'PUT' || upper === 'DELETE' || upper === 'HEAD' || upper === 'OPTIONS' ? upper : method
}

let incomingAbort: AbortController | null = null
let clientGone = false

/** The client has gone. */
export function abortIncoming(): void {
  clientGone = true
  incomingAbort?.abort()
}

function incomingSignal(): AbortSignal {
  incomingAbort ??= new AbortController()
  if (clientGone) incomingAbort.abort()
  return incomingAbort.signal
}

/** A request made ahead: it is in the image, which saves its allocation. */
let spareRequest: Request | null = null
export let armRequest: () => void

export let incomingRequest: (call: number, head: string) => Request
/** The same with a body that is in the machine already. */
export let requestWithBody: (head: string, body: string | Uint8Array<ArrayBuffer> | null) => Request
export let isRequest: (value: unknown) => value is Request
/** For fetch: what goes over the wire. The body is taken. */
export let takeRequest: (request: Request) => { readonly method: string; readonly url: string; readonly redirect: Redirect; readonly list: HeaderList; readonly raw: RawBody; readonly signal: AbortSignal | null }

export class Request {
  #head = ''
  /** '' if it is in the lines. */
  #method = ''
  #body: RawBody = null
  #lines: HeadLines | null = null
  #headers: Headers | null = null
  #rest: RequestRest | null = null

  static {
    armRequest = () => {
      spareRequest = new Request(EMPTY)
    }
    incomingRequest = (call, head) => {
      const request = spareRequest ?? new Request(EMPTY)
      spareRequest = isPriming ? new Request(EMPTY) : null
      if (clientGone || incomingAbort !== null) {
        clientGone = false
        incomingAbort = null
      }
      request.#head = head
      request.#method = METHODS[(call >> CALL_METHOD_SHIFT) & CALL_METHOD_MASK] ?? ''
      if (call >= 1 << CALL_BODY_SHIFT) request.#body = rawOf(call)
      return request
    }
    requestWithBody = (head, body) => {
      const request = incomingRequest(0, head)
      request.#body = body
      return request
    }
    isRequest = (value): value is Request => typeof value === 'object' && value !== null && #head in value
    takeRequest = (request) => {
      const rest = request.#rest
      return { method: request.method, url: request.url, redirect: rest?.redirect ?? 'follow', list: headerListOf(request.headers), raw: request.#take(), signal: rest?.signal ?? (request.#head === '' ? null : incomingSignal()) }
    }
  }

  constructor(input: Request | URL | string, init?: RequestInit | null) {
    if ((input as unknown) === EMPTY) return
    if (init !== undefined && init !== null && !isObject(init)) throw new TypeError('The init of a Request must be an object')
    const source = isRequest(input) ? input : null
    const options: RequestInit = init ?? {}
    const url = source === null ? parseUrl(input) : source.url
    const method = options.method === undefined ? (source?.method ?? 'GET') : normalizeMethod(options.method)
    this.#rest = restOf(source, source === null ? null : source.#rest, options)
    const list: HeaderList = []
    if (options.headers !== undefined && options.headers !== null) fillHeaders(list, options.headers)
    else if (source !== null) fillHeaders(list, source.headers)
    this.#lines = ['', '', method, url]
    this.#body = bodyOf(method, list, source, options)
    this.#headers = headersOver(list, 'none')
  }

  get method(): string {
    return this.#method !== '' ? this.#method : ((this.#lines ?? this.#cut())[METHOD] ?? '')
  }

  get url(): string {
    return (this.#lines ?? this.#cut())[URL_LINE] ?? ''
  }

  get headers(): Headers {
    return (this.#headers ??= headersOver(headHeaders(this.#head, this.#lines ?? this.#cut()), 'immutable'))
  }

  get body(): ReadableStream | null {
    const stream = streamOf(this.#body)
    if (stream !== null) this.#body = stream
    return stream
  }

  get bodyUsed(): boolean {
    return isUsed(this.#body)
  }

  get signal(): AbortSignal {
    const rest = (this.#rest ??= new RequestRest())
    return (rest.signal ??= this.#head === '' ? new AbortController().signal : incomingSignal())
  }

  get redirect(): Redirect {
    return this.#rest?.redirect ?? 'follow'
  }

  get cf(): object | undefined {
    const rest = (this.#rest ??= new RequestRest())
    if (rest.cf === null && this.#head !== '') rest.cf = { colo: 'local' }
    return rest.cf ?? undefined
  }

  get cache(): string {
    return 'default'
  }

  get credentials(): string {
    return 'same-origin'
  }

  get destination(): string {
    return ''
  }

  get duplex(): string {
    return 'half'
  }

  get integrity(): string {
    return ''
  }

  get keepalive(): boolean {
    return false
  }

  get mode(): string {
    return 'cors'
  }

  get referrer(): string {
    return 'about:client'
  }

  get referrerPolicy(): string {
    return ''
  }

  clone(): Request {
    const [own, copied] = cloneRaw(this.#body)
    this.#body = own
    const request = new Request(EMPTY)
    request.#head = this.#head
    request.#body = copied
    request.#method = this.#method
    request.#lines = this.#lines
    if (this.#headers !== null) request.#headers = headersOver(copyList(headerListOf(this.#headers)), headerGuardOf(this.#headers))
    if (this.#rest !== null) request.#rest = restOf(this, this.#rest, {})
    return request
  }

  async text(): Promise<string> {
    const text = readText(this.#take())
    return typeof text === 'string' ? text : await text
  }

  async json(): Promise<unknown> {
    // What most requests do, without the two calls that it would take below.
    if (this.#body === BUFFERED) {
      this.#body = USED
      return JSONParse(hostBodyText())
    }
    const text = readText(this.#take())
    return JSONParse(typeof text === 'string' ? text : await text)
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return await readArrayBuffer(this.#take())
  }

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return await readBytes(this.#take())
  }

  async blob(): Promise<Blob> {
    return await readBlob(this.#take(), getHeader(headerListOf(this.headers), 'content-type'))
  }

  async formData(): Promise<FormData> {
    return await readForm(this.#take(), getHeader(headerListOf(this.headers), 'content-type'))
  }

  #cut(): HeadLines {
    return (this.#lines = headLines(this.#head))
  }

  #take(): RawBody {
    const raw = this.#body
    if (raw === BUFFERED) {
      this.#body = USED
      return raw
    }
    assertUsable(raw)
    if (raw !== null && (typeof raw !== 'object' || raw instanceof NativeUint8Array || raw instanceof HostSource)) this.#body = USED
    return raw
  }
}

function parseUrl(input: unknown): string {
  const text = toText(input)
  let url: URL
  try {
    url = new NativeURL(text)
  } catch {
    throw new TypeError(`Invalid URL: ${text}`)
  }
  if (url.username !== '' || url.password !== '') throw new TypeError('A request URL may not hold a user name or password')
  return getHref(url)
}

/** Null if all of it has its default, which the getters know. */
function restOf(source: Request | null, sourceRest: RequestRest | null, options: RequestInit): RequestRest | null {
  if (source === null && options.redirect === undefined && options.signal === undefined && options.cf === undefined) return null
  const rest = new RequestRest()
  if (sourceRest !== null) {
    rest.redirect = sourceRest.redirect
    rest.cf = sourceRest.cf
  }
  if (options.redirect !== undefined) {
    const redirect = toText(options.redirect)
    if (redirect !== 'follow' && redirect !== 'manual' && redirect !== 'error') throw new TypeError(`Invalid redirect mode: ${redirect}`)
    rest.redirect = redirect
  }
  if (options.cf !== undefined) rest.cf = options.cf
  const signal: unknown = options.signal
  if (signal === undefined) {
    if (source !== null) rest.signal = followSignal(source.signal)
  } else if (signal !== null) {
    if (!isAbortSignal(signal)) throw new TypeError('The signal must be an AbortSignal')
    rest.signal = followSignal(signal)
  }
  return rest
}

function bodyOf(method: string, list: HeaderList, source: Request | null, options: RequestInit): RawBody {
  const given = options.body
  const bodyless = method === 'GET' || method === 'HEAD'
  if (given !== undefined && given !== null) {
    if (bodyless) throw new TypeError(`A ${method} request has no body`)
    const raw = extractBody(given)
    if (extractedType !== '' && findHeader(list, 'content-type', 0) < 0) {
      ArrayPush(list, 'content-type')
      ArrayPush(list, extractedType)
    }
    return raw
  }
  if (source === null || given === null) return null
  const { raw } = takeRequest(source)
  if (raw !== null && bodyless) throw new TypeError(`A ${method} request has no body`)
  return raw
}
