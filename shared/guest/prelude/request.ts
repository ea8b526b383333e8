/**
 * `Request`. One that came in keeps the head string it came with and where its body is; method and URL are cut out
 * when read, headers split when asked for. Everything rarer is in RequestRest.
 *
 * Q1: `#head` is '' exactly for requests that a function made; those have `#lines` and `#headers` from the start.
 */
import { ArrayIndexOf, ArrayPush, JSONParse, NativeUint8Array, NativeURL, ObjectCreate, ObjectKeys, RegExpExec, StringToUpperCase } from './primordials.ts'
import { AbortController, followSignal, isAbortSignal, type AbortSignal } from './abort.ts'
import type { Blob } from './blob.ts'
import { assertUsable, BUFFERED, cloneRaw, extractBody, extractedType, isUsed, readArrayBuffer, readBlob, readBytes, readForm, readText, streamOf, USED, type RawBody } from './body.ts'
import type { FormData } from './form-data.ts'
import { headHeaders, headLines, METHOD, URL_LINE, type HeadLines } from './head.ts'
import { copyList, fillHeaders, findHeader, getHeader, headerGuardOf, headerListOf, headersOver, type HeaderList, type Headers } from './headers.ts'
import { CALL_BODY_SHIFT, CALL_METHOD_MASK, CALL_METHOD_SHIFT, METHODS, OPERATIONS } from '../abi.ts'
import { hostBodyText, hostSite } from './host.ts'
import { defineLazy } from './lazy.ts'
import { isPriming } from './priming.ts'
import { HostSource, isReadableStream, TransformStream, type ReadableStream } from './streams.ts'
import { getHref } from './url.ts'
import { isObject, toText } from './webidl.ts'

type Redirect = 'follow' | 'manual' | 'error'

/** Values that members of an init may have; the first is what a request has without one. What they mean to a browser means nothing here: they are checked and shown. */
const MEMBERS = {
  mode: ['cors', 'same-origin', 'no-cors'],
  credentials: ['same-origin', 'omit', 'include'],
  cache: ['default', 'no-store', 'reload', 'no-cache', 'force-cache', 'only-if-cached'],
  referrerPolicy: ['', 'no-referrer', 'no-referrer-when-downgrade', 'origin', 'origin-when-cross-origin', 'unsafe-url', 'same-origin', 'strict-origin', 'strict-origin-when-cross-origin'],
  priority: ['auto', 'high', 'low'],
  duplex: ['half'],
} as const
const MEMBER_NAMES = ObjectKeys(MEMBERS) as (keyof typeof MEMBERS)[]

export interface RequestInit {
  readonly method?: string
  readonly headers?: unknown
  readonly body?: unknown
  readonly redirect?: Redirect
  readonly signal?: AbortSignal | null
  readonly cf?: object
  readonly mode?: unknown
  readonly credentials?: unknown
  readonly cache?: unknown
  readonly referrer?: unknown
  readonly referrerPolicy?: unknown
  readonly integrity?: unknown
  readonly keepalive?: unknown
  readonly priority?: unknown
  readonly duplex?: unknown
  readonly window?: unknown
}

/** Of an init, as texts. */
type Members = { [name in keyof typeof MEMBERS | 'referrer' | 'integrity' | 'keepalive']?: string | undefined }

class RequestRest {
  redirect: Redirect = 'follow'
  members: Members | null = null
  signal: AbortSignal | null = null
  cf: object | null = null
  /** A request whose `cf` this one has, made when it is asked for. */
  cfOf: Request | null = null
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

/** What is known for certain: where it runs, and that front doors speak HTTP/1.1. */
function incomingCf(): object {
  const cf = { httpProtocol: 'HTTP/1.1' }
  defineLazy(cf, 'colo', hostSite)
  return cf
}

export interface TakenRequest {
  readonly method: string
  readonly url: string
  readonly redirect: Redirect
  readonly list: HeaderList
  readonly raw: RawBody
  readonly signal: AbortSignal | null
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
let hasBody: (request: Request) => boolean
/** For fetch: what goes over the wire. The body is taken. */
export let takeRequest: (request: Request) => TakenRequest

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
    hasBody = (request) => request.#body !== null
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
    if (this.#rest?.members?.mode === 'no-cors' && method !== 'GET' && method !== 'HEAD' && method !== 'POST') throw new TypeError(`Mode no-cors does not allow method ${method}`)
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
    if (rest.cf === null && this.#head !== '' && rest.cfOf === null) rest.cf = incomingCf()
    return rest.cf ?? rest.cfOf?.cf
  }

  get cache(): string {
    return this.#rest?.members?.cache ?? 'default'
  }

  get credentials(): string {
    return this.#rest?.members?.credentials ?? 'same-origin'
  }

  get destination(): string {
    return ''
  }

  get duplex(): string {
    return 'half'
  }

  get integrity(): string {
    return this.#rest?.members?.integrity ?? ''
  }

  get isHistoryNavigation(): boolean {
    return false
  }

  get isReloadNavigation(): boolean {
    return false
  }

  get keepalive(): boolean {
    return this.#rest?.members?.keepalive !== undefined
  }

  get mode(): string {
    return this.#rest?.members?.mode ?? 'cors'
  }

  get referrer(): string {
    return this.#rest?.members?.referrer ?? 'about:client'
  }

  get referrerPolicy(): string {
    return this.#rest?.members?.referrerPolicy ?? ''
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

/** Has `look` see each request that comes in, before the handler does. */
export function watchIncoming(look: (request: Request) => void): void {
  const unwatched = incomingRequest
  incomingRequest = (call, head) => {
    const request = unwatched(call, head)
    look(request)
    return request
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
  const members = membersOf(options, sourceRest?.members ?? null)
  if (source === null && members === null && options.redirect === undefined && options.signal === undefined && options.cf === undefined) return null
  const rest = new RequestRest()
  rest.members = members
  if (sourceRest !== null) {
    rest.redirect = sourceRest.redirect
  }
  if (options.redirect !== undefined) {
    const redirect = toText(options.redirect)
    if (redirect !== 'follow' && redirect !== 'manual' && redirect !== 'error') throw new TypeError(`Invalid redirect mode: ${redirect}`)
    rest.redirect = redirect
  }
  if (options.cf !== undefined) rest.cf = options.cf
  else rest.cfOf = source
  const signal: unknown = options.signal
  if (signal === undefined) {
    if (source !== null) rest.signal = followSignal(source.signal)
  } else if (signal !== null) {
    if (!isAbortSignal(signal)) throw new TypeError('The signal must be an AbortSignal')
    rest.signal = followSignal(signal)
  }
  return rest
}

/** Those of `options` over those of the source; null for none. */
function membersOf(options: RequestInit, of: Members | null): Members | null {
  if (options.window !== undefined && options.window !== null) throw new TypeError('The window of a Request can only be null')
  // A request that is changed says no longer where it came from.
  let members: Members | null = of !== null && ObjectKeys(options).length > 0 ? { ...of, referrer: undefined, referrerPolicy: undefined } : of
  for (let i = 0; i < MEMBER_NAMES.length; i++) {
    const name = MEMBER_NAMES[i] ?? 'mode'
    const given = options[name]
    if (given === undefined) continue
    const value = toText(given)
    if (ArrayIndexOf<string>(MEMBERS[name], value) < 0) throw new TypeError(`Invalid ${name}: ${value}`)
    members = { ...members, [name]: value }
  }
  if (options.integrity !== undefined) members = { ...members, integrity: toText(options.integrity) }
  if (options.keepalive !== undefined) members = { ...members, keepalive: (options.keepalive as boolean) ? 'true' : undefined }
  if (options.referrer !== undefined) members = { ...members, referrer: referrerOf(toText(options.referrer)) }
  if (members?.cache === 'only-if-cached' && members.mode !== 'same-origin') throw new TypeError('cache only-if-cached needs mode same-origin')
  return members
}

function referrerOf(text: string): string {
  if (text === '') return ''
  try {
    return getHref(new NativeURL(text))
  } catch {
    throw new TypeError(`Invalid referrer: ${text}`)
  }
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
  if (bodyless && hasBody(source)) throw new TypeError(`A ${method} request has no body`)
  const { raw } = takeRequest(source)
  // The source keeps its stream, which counts as read then.
  return isReadableStream(raw) ? raw.pipeThrough(new TransformStream()) : raw
}
