/**
 * `Response`. Most answers are a text or JSON with status 200 and no headers of their own: those keep nothing but the
 * body, and their headers exist only on the wire. Everything else is in Meta, an array because an array literal is one
 * allocation where an object with as many fields is four (bench/guest-prelude.ts).
 *
 * R1: META_NONE, META_TEXT, META_JSON and the three lists in them are shared by all responses and never changed;
 *     `#own` makes copies first.
 */
import { RESPOND_DONE, RESPOND_MORE, RESPOND_WIRE_SHIFT, WIRE_TEXT } from '../abi.ts'
import { ArrayPush, JSONStringify, NativeUint8Array, NumberIsInteger, RegExpExec, MathTrunc } from './primordials.ts'
import { assertUsable, cloneRaw, extractBody, extractedType, isUsed, readArrayBuffer, readBlob, readBytes, readForm, readText, streamOf, TEXT_TYPE, USED, type RawBody } from './body.ts'
import type { Blob } from './blob.ts'
import type { FormData } from './form-data.ts'
import { copyList, fillHeaders, findHeader, getHeader, headersOver, wireHeaders, type Guard, type HeaderList, type Headers } from './headers.ts'
import { hostRespond, RESPOND_JSON, RESPOND_JSON_OK } from './host.ts'
import { JSONParse, NativeURL } from './primordials.ts'
import { HostSource, type ReadableStream } from './streams.ts'
import { getHref } from './url.ts'
import { isObject, toText } from './webidl.ts'

type ResponseType = 'default' | 'basic' | 'error' | 'opaqueredirect'
type Meta = [status: number, statusText: string, list: HeaderList, headers: Headers | null, type: ResponseType, url: string, redirected: boolean, guard: Guard]
const STATUS = 0
const STATUS_TEXT = 1
const LIST = 2
const HEADERS = 3
const TYPE = 4
const URL_ = 5
const REDIRECTED = 6
const GUARD = 7

export interface ResponseInit {
  readonly status?: number
  readonly statusText?: string
  readonly headers?: unknown
}

const JSON_TYPE = 'application/json'
const RESPOND_TEXT = WIRE_TEXT << RESPOND_WIRE_SHIFT
const LIST_NONE: HeaderList = []
const LIST_TEXT: HeaderList = ['content-type', TEXT_TYPE]
const LIST_JSON: HeaderList = ['content-type', JSON_TYPE]
const META_NONE: Meta = [200, '', LIST_NONE, null, 'default', '', false, 'none']
const META_TEXT: Meta = [200, '', LIST_TEXT, null, 'default', '', false, 'none']
const META_JSON: Meta = [200, '', LIST_JSON, null, 'default', '', false, 'none']

 
const BAD_REASON = /[^\t\x20-\x7e\x80-\xff]/

function isNullBodyStatus(status: number): boolean {
  return status === 204 || status === 304 || status === 205 || status === 101
}

function checkedStatus(given: unknown): number {
  const status = MathTrunc(Number(given))
  if (!NumberIsInteger(status) || ((status < 200 || status > 599) && status !== 101)) throw new RangeError(`Responses may only have a status of 101 or between 200 and 599, not ${toText(given)}`)
  return status
}

function metaOf(init: ResponseInit): Meta {
  if (typeof init !== 'object' && !isObject(init)) throw new TypeError('The init of a Response must be an object')
  const givenStatus: unknown = init.status
  const status = givenStatus === undefined ? 200 : checkedStatus(givenStatus)
  let statusText = ''
  const givenText: unknown = init.statusText
  if (givenText !== undefined && givenText !== '') {
    statusText = toText(givenText)
    if (RegExpExec(BAD_REASON, statusText) !== null) throw new TypeError('Invalid statusText')
  }
  const headers = init.headers
  let list = LIST_NONE
  if (headers !== undefined && headers !== null) {
    list = []
    fillHeaders(list, headers)
  }
  return [status, statusText, list, null, 'default', '', false, 'none']
}

/** The implied content type, unless there is one. */
function impliedType(meta: Meta, type: string, implied: HeaderList): void {
  const list = meta[LIST]
  if (list.length === 0) {
    meta[LIST] = implied
  } else if (findHeader(list, 'content-type', 0) < 0) {
    ArrayPush(list, 'content-type')
    ArrayPush(list, type)
  }
}

function respond(meta: Meta, body: string | Uint8Array<ArrayBuffer> | null, flags: number): void {
  const list = meta[LIST]
  if (list === LIST_JSON) hostRespond(meta[STATUS] | flags | RESPOND_JSON, body)
  else if (list === LIST_TEXT) hostRespond(meta[STATUS] | flags | RESPOND_TEXT, body)
  else hostRespond(meta[STATUS] | flags, body, wireHeaders(list))
}

export let isResponse: (value: unknown) => value is Response
/** A response of fetch: immutable headers, body at the host. */
export let responseFromFetch: (status: number, statusText: string, url: string, redirected: boolean, list: HeaderList, body: RawBody) => Response
/** Sends it, saying that the invocation is done if nothing is left to send; gives what is left to send by `pumpBody`, or null. Throws TypeError if its body was used. */
export let sendResponse: (response: Response, done: boolean) => HostSource | ReadableStream | null
/** Status, headers and body for those who need them in hand; the body counts as used then. */
export let takeResponse: (response: Response) => { readonly status: number; readonly list: HeaderList; readonly raw: RawBody }

export class Response {
  #body: RawBody = null
  #meta: Meta = META_NONE

  static {
    isResponse = (value): value is Response => typeof value === 'object' && value !== null && #body in value

    responseFromFetch = (status, statusText, url, redirected, list, body) => {
      const response = new Response()
      response.#body = body
      response.#meta = [status, statusText, list, null, 'basic', url, redirected, 'immutable']
      return response
    }

    sendResponse = (response, done) => {
      const body = response.#body
      const meta = response.#meta
      if (typeof body === 'string') {
        if (meta === META_JSON) hostRespond(done ? RESPOND_JSON_OK | RESPOND_DONE : RESPOND_JSON_OK, body)
        else respond(meta, body, done ? RESPOND_DONE : 0)
        response.#body = USED
        return null
      }
      if (meta[TYPE] === 'error') throw new TypeError('Response.error() cannot be sent')
      assertUsable(body)
      if (body === null || body instanceof NativeUint8Array) {
        respond(meta, body, done ? RESPOND_DONE : 0)
        if (body !== null) response.#body = USED
        return null
      }
      if (body instanceof HostSource) response.#body = USED
      respond(meta, null, RESPOND_MORE)
      return body as HostSource | ReadableStream
    }

    takeResponse = (response) => ({ status: response.#meta[STATUS], list: response.#meta[LIST], raw: response.#take() })
  }

  static error(): Response {
    const response = new Response()
    response.#meta = [0, '', [], null, 'error', '', false, 'immutable']
    return response
  }

  static redirect(url: string, status: unknown = 302): Response {
    const target = getHref(new NativeURL(toText(url)))
    const code = Number(status)
    if (code !== 301 && code !== 302 && code !== 303 && code !== 307 && code !== 308) throw new RangeError(`${code} is not a redirect status`)
    const response = new Response()
    response.#meta = [code, '', ['location', target], null, 'default', '', false, 'immutable']
    return response
  }

  static json(data: unknown, init?: ResponseInit): Response {
    const text = JSONStringify(data)
    if (text === undefined) throw new TypeError('The data is not JSON serializable')
    const response = new Response()
    if (init === undefined) response.#meta = META_JSON
    else {
      const meta = metaOf(init)
      if (isNullBodyStatus(meta[STATUS])) throw new TypeError(`A response with status ${meta[STATUS]} has no body`)
      impliedType(meta, JSON_TYPE, LIST_JSON)
      response.#meta = meta
    }
    response.#body = text
    return response
  }

  constructor(body?: unknown, init?: ResponseInit | null) {
    if (typeof body === 'string' && init === undefined) {
      this.#body = body
      this.#meta = META_TEXT
      return
    }
    if (init !== undefined && init !== null) this.#meta = init instanceof Response && #meta in init ? init.#metaForCopy() : metaOf(init)
    if (body === undefined || body === null) return
    if (isNullBodyStatus(this.#meta[STATUS])) throw new TypeError(`A response with status ${this.#meta[STATUS]} has no body`)
    if (typeof body === 'string') {
      this.#body = body
      impliedType(this.#meta, TEXT_TYPE, LIST_TEXT)
      return
    }
    this.#body = extractBody(body)
    if (extractedType === '') return
    if (this.#meta === META_NONE) this.#meta = [200, '', LIST_NONE, null, 'default', '', false, 'none']
    impliedType(this.#meta, extractedType, extractedType === TEXT_TYPE ? LIST_TEXT : ['content-type', extractedType])
  }

  get status(): number {
    return this.#meta[STATUS]
  }

  get ok(): boolean {
    const status = this.#meta[STATUS]
    return status >= 200 && status <= 299
  }

  get statusText(): string {
    return this.#meta[STATUS_TEXT]
  }

  get type(): ResponseType {
    return this.#meta[TYPE]
  }

  get url(): string {
    return this.#meta[URL_]
  }

  get redirected(): boolean {
    return this.#meta[REDIRECTED]
  }

  get headers(): Headers {
    const known = this.#meta[HEADERS]
    if (known !== null) return known
    const meta = this.#own()
    return (meta[HEADERS] = headersOver(meta[LIST], meta[GUARD]))
  }

  get body(): ReadableStream | null {
    const stream = streamOf(this.#body)
    if (stream !== null) this.#body = stream
    return stream
  }

  get bodyUsed(): boolean {
    return isUsed(this.#body)
  }

  clone(): Response {
    const [own, copy] = cloneRaw(this.#body)
    this.#body = own
    const response = new Response()
    response.#body = copy
    const meta = this.#meta
    response.#meta = [meta[STATUS], meta[STATUS_TEXT], copyList(meta[LIST]), null, meta[TYPE], meta[URL_], meta[REDIRECTED], meta[GUARD]]
    return response
  }

  async text(): Promise<string> {
    const text = readText(this.#take())
    return typeof text === 'string' ? text : await text
  }

  async json(): Promise<unknown> {
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
    return await readBlob(this.#take(), getHeader(this.#meta[LIST], 'content-type'))
  }

  async formData(): Promise<FormData> {
    return await readForm(this.#take(), getHeader(this.#meta[LIST], 'content-type'))
  }

  #take(): RawBody {
    const raw = this.#body
    assertUsable(raw)
    if (raw !== null && (typeof raw !== 'object' || raw instanceof NativeUint8Array || raw instanceof HostSource)) this.#body = USED
    return raw
  }

  /** A meta that is this response's alone. */
  #own(): Meta {
    let meta = this.#meta
    const list = meta[LIST]
    if (meta === META_TEXT || meta === META_JSON || meta === META_NONE) this.#meta = meta = [200, '', copyList(list), null, 'default', '', false, 'none']
    else if (list === LIST_TEXT || list === LIST_JSON || list === LIST_NONE) meta[LIST] = copyList(list)
    return meta
  }

  /** `new Response(body, response)`: the same status and headers, mutable, without reading the getters one by one. */
  #metaForCopy(): Meta {
    const meta = this.#meta
    if (meta[STATUS] === 0) throw new RangeError('A Response cannot be made from Response.error()')
    return [meta[STATUS], meta[STATUS_TEXT], copyList(meta[LIST]), null, 'default', '', false, 'none']
  }
}
