/**
 * `Request`. One that came in keeps the head string it came with and a number that says where its body is; method and
 * URL are cut out when read, headers split when asked for, and only then is there an object behind it.
 *
 * Q1: `#state` is a number exactly as long as `#head` tells everything; once it is a RequestState, `#head` is only
 *     read to fill that state's null fields.
 */
import { ArrayPush, JSONParse, NativeUint8Array, NativeURL, ObjectCreate, RegExpExec, StringIndexOf, StringSlice, StringSplit, StringToUpperCase } from './primordials.ts'
import { AbortController, AbortSignal, followSignal, isAbortSignal } from './abort.ts'
import type { Blob } from './blob.ts'
import { assertUsable, BUFFERED, cloneRaw, extractBody, extractedType, isUsed, readArrayBuffer, readBlob, readBytes, readForm, readText, streamOf, USED, type RawBody } from './body.ts'
import type { FormData } from './form-data.ts'
import { copyList, fillHeaders, findHeader, getHeader, headersOver, type Guard, type HeaderList, type Headers } from './headers.ts'
import { hostBodyText } from './host.ts'
import { OPERATIONS } from '../abi.ts'
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

/** Values of `#state` while the head tells everything; the contract's bodyState, and one more. */
const BODY_NONE = 0
const BODY_BUFFERED = 1
const BODY_STREAMED = 2
const BODY_USED = 3

class RequestState {
  method: string
  url: string
  list: HeaderList | null = null
  headers: Headers | null = null
  guard: Guard = 'none'
  body: RawBody
  redirect: Redirect = 'follow'
  signal: AbortSignal | null = null
  cf: object | null = null

  constructor(method: string, url: string, body: RawBody) {
    this.method = method
    this.url = url
    this.body = body
  }
}

/** A part of a request's head: its line number in `requestId\nclientIp\nMETHOD\nURL\nname\nvalue...`. */
export const HEAD_REQUEST_ID = 0
export const HEAD_CLIENT_IP = 1
const HEAD_METHOD = 2
const HEAD_URL = 3
const HEAD_HEADERS = 4

function lineStart(head: string, line: number): number {
  let at = 0
  for (let i = 0; i < line; i++) {
    at = StringIndexOf(head, '\n', at) + 1
    if (at === 0) return -1
  }
  return at
}

export function headLine(head: string, line: number): string {
  const start = lineStart(head, line)
  const end = StringIndexOf(head, '\n', start)
  return end < 0 ? StringSlice(head, start) : StringSlice(head, start, end)
}

export function headHeaders(head: string): HeaderList {
  const start = lineStart(head, HEAD_HEADERS)
  return start < 0 || start === head.length ? [] : StringSplit(StringSlice(head, start), '\n')
}

function rawOfState(state: number): RawBody {
  switch (state) {
    case BODY_NONE:
      return null
    case BODY_BUFFERED:
      return BUFFERED
    case BODY_STREAMED:
      return new HostSource(OPERATIONS.BODY, 0)
    default:
      return USED
  }
}

/** Marks the constructor's call from `incomingRequest`. */
const INCOMING = ObjectCreate(null) as object
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

/** Entry `abort` of the contract. */
export function abortIncoming(): void {
  clientGone = true
  incomingAbort?.abort()
}

export function resetIncoming(): void {
  incomingAbort = null
  clientGone = false
}

function incomingSignal(): AbortSignal {
  incomingAbort ??= new AbortController()
  if (clientGone) incomingAbort.abort()
  return incomingAbort.signal
}

/**
 * A request made ahead: it is in the image, which saves its allocation. The first use, which is priming, makes the one
 * for the image; the second does not, since after it the machine is reset.
 */
let spareRequest: Request | null = null
let spareRequestAgain = false
export let armRequest: () => void

export let incomingRequest: (head: string, bodyState: number) => Request
/** The same with a body that is in the machine already. */
export let requestWithBody: (head: string, body: string | Uint8Array<ArrayBuffer> | null) => Request
export let isRequest: (value: unknown) => value is Request
/** For fetch: what goes over the wire. The body is taken. */
export let takeRequest: (request: Request) => { readonly method: string; readonly url: string; readonly redirect: Redirect; readonly list: HeaderList; readonly raw: RawBody; readonly signal: AbortSignal | null }

export class Request {
  #head: string
  #state: number | RequestState

  static {
    armRequest = () => {
      spareRequest = new Request(INCOMING as never)
      spareRequestAgain = true
    }
    incomingRequest = (head, bodyState) => {
      const request = spareRequest ?? new Request(INCOMING as never)
      spareRequest = spareRequestAgain ? new Request(INCOMING as never) : null
      spareRequestAgain = false
      request.#head = head
      request.#state = bodyState
      return request
    }
    requestWithBody = (head, body) => {
      const request = incomingRequest(head, BODY_NONE)
      if (body !== null) request.#own().body = body
      return request
    }
    isRequest = (value): value is Request => typeof value === 'object' && value !== null && #head in value
    takeRequest = (request) => {
      const state = request.#own()
      const raw = request.#take()
      return { method: state.method, url: state.url, redirect: state.redirect, list: request.#list(), raw, signal: state.signal }
    }
  }

  constructor(input: Request | URL | string, init?: RequestInit | null) {
    this.#head = ''
    this.#state = 0
    if ((input as object) === INCOMING) return
    this.#state = initialState(input, init)
  }

  get method(): string {
    const state = this.#state
    return typeof state === 'number' ? headLine(this.#head, HEAD_METHOD) : state.method
  }

  get url(): string {
    const state = this.#state
    return typeof state === 'number' ? headLine(this.#head, HEAD_URL) : state.url
  }

  get headers(): Headers {
    const state = this.#own()
    return (state.headers ??= headersOver(this.#list(), state.guard))
  }

  get body(): ReadableStream | null {
    const state = this.#own()
    const stream = streamOf(state.body)
    if (stream !== null) state.body = stream
    return stream
  }

  get bodyUsed(): boolean {
    const state = this.#state
    return typeof state === 'number' ? state === BODY_USED : isUsed(state.body)
  }

  get signal(): AbortSignal {
    const state = this.#own()
    return (state.signal ??= this.#head === '' ? new AbortController().signal : incomingSignal())
  }

  get redirect(): Redirect {
    const state = this.#state
    return typeof state === 'number' ? 'follow' : state.redirect
  }

  get cf(): object | undefined {
    const state = this.#own()
    if (state.cf === null && this.#head !== '') state.cf = { colo: 'local' }
    return state.cf ?? undefined
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
    const state = this.#own()
    const [own, copied] = cloneRaw(state.body)
    state.body = own
    const request = new Request(INCOMING as never)
    const copy = new RequestState(state.method, state.url, copied)
    copy.list = copyList(this.#list())
    copy.guard = state.guard
    copy.redirect = state.redirect
    copy.cf = this.cf ?? null
    copy.signal = followSignal(this.signal)
    request.#state = copy
    return request
  }

  async text(): Promise<string> {
    if (this.#state === BODY_BUFFERED) {
      this.#state = BODY_USED
      return hostBodyText()
    }
    const text = readText(this.#take())
    return typeof text === 'string' ? text : await text
  }

  async json(): Promise<unknown> {
    // The common case makes no state object: B1 is kept by the number.
    if (this.#state === BODY_BUFFERED) {
      this.#state = BODY_USED
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
    const type = getHeader(this.#list(), 'content-type')
    return await readBlob(this.#take(), type)
  }

  async formData(): Promise<FormData> {
    const type = getHeader(this.#list(), 'content-type')
    return await readForm(this.#take(), type)
  }

  #take(): RawBody {
    const state = this.#state
    if (typeof state === 'number') {
      const raw = rawOfState(state)
      assertUsable(raw)
      if (raw !== null) this.#state = BODY_USED
      return raw
    }
    const raw = state.body
    assertUsable(raw)
    if (raw !== null && (typeof raw !== 'object' || raw instanceof NativeUint8Array || raw instanceof HostSource)) state.body = USED
    return raw
  }

  /** The state object, made from the head if there was none. */
  #own(): RequestState {
    const state = this.#state
    if (typeof state !== 'number') return state
    const made = new RequestState(headLine(this.#head, HEAD_METHOD), headLine(this.#head, HEAD_URL), rawOfState(state))
    made.guard = 'immutable'
    this.#state = made
    return made
  }

  #list(): HeaderList {
    const state = this.#own()
    return (state.list ??= headHeaders(this.#head))
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

function initialState(input: unknown, init: RequestInit | null | undefined): RequestState {
  if (init !== undefined && init !== null && !isObject(init)) throw new TypeError('The init of a Request must be an object')
  const source = isRequest(input) ? input : null
  const state = new RequestState(source === null ? 'GET' : source.method, source === null ? parseUrl(input) : source.url, null)
  const options: RequestInit = init ?? {}
  if (source !== null) {
    state.redirect = source.redirect
    state.cf = source.cf ?? null
  }
  if (options.method !== undefined) state.method = normalizeMethod(options.method)
  if (options.redirect !== undefined) {
    const redirect = toText(options.redirect)
    if (redirect !== 'follow' && redirect !== 'manual' && redirect !== 'error') throw new TypeError(`Invalid redirect mode: ${redirect}`)
    state.redirect = redirect
  }
  if (options.cf !== undefined) state.cf = options.cf
  initSignal(state, source, options)
  const list: HeaderList = []
  if (options.headers !== undefined && options.headers !== null) fillHeaders(list, options.headers)
  else if (source !== null) fillHeaders(list, source.headers)
  state.list = list
  initBody(state, source, options)
  return state
}

function initSignal(state: RequestState, source: Request | null, options: RequestInit): void {
  const signal: unknown = options.signal
  if (signal === null) return
  if (signal !== undefined) {
    if (!isAbortSignal(signal)) throw new TypeError('The signal must be an AbortSignal')
    state.signal = followSignal(signal)
  } else if (source !== null) state.signal = followSignal(source.signal)
}

function initBody(state: RequestState, source: Request | null, options: RequestInit): void {
  const given = options.body
  const bodyless = state.method === 'GET' || state.method === 'HEAD'
  if (given !== undefined && given !== null) {
    if (bodyless) throw new TypeError(`A ${state.method} request has no body`)
    state.body = extractBody(given)
    if (extractedType !== '' && state.list !== null && findHeader(state.list, 'content-type', 0) < 0) {
      ArrayPush(state.list, 'content-type')
      ArrayPush(state.list, extractedType)
    }
    return
  }
  if (source === null || given === null) return
  const raw = takeRequest(source).raw
  if (raw !== null && bodyless) throw new TypeError(`A ${state.method} request has no body`)
  state.body = raw
}
