/** Results of payload format 2.0 (`ecosystem.md` 2.6), and its events as a fetch handler sees them. */
import { ArrayIsArray, ArrayPush, JSONStringify, ObjectKeys, StringStartsWith, Uint8ArrayFromBase64 } from './primordials.ts'
import { findHeader, getHeader, normalizeName, normalizeValue, wireHeaders, type HeaderList } from './headers.ts'
import { RESPOND_JSON, RESPOND_JSON_OK } from './host.ts'
import { respondAndRelease } from './invocation.ts'
import { encodeBody } from './lambda-event.ts'
import { isObject, toText } from './webidl.ts'

interface HttpResult {
  readonly statusCode?: unknown
  readonly headers?: unknown
  readonly multiValueHeaders?: unknown
  readonly cookies?: unknown
  readonly body?: unknown
  readonly isBase64Encoded?: unknown
}

/** What an event handler returned for a request, as a response. */
export function respondWithHttpResult(result: unknown): void {
  if (!isObject(result) || (result as HttpResult).statusCode === undefined) {
    const text = typeof result === 'string' ? result : (JSONStringify(result) ?? 'null')
    respondAndRelease(RESPOND_JSON_OK, text)
    return
  }
  const { body, isBase64Encoded } = result as HttpResult
  const status = statusOf(result)
  const list = listOf(result, 'application/json')
  const content = resultBody(body, isBase64Encoded === true)
  // Most results have this one header.
  if (list.length === 2 && list[0] === 'content-type' && list[1] === 'application/json') respondAndRelease(status | RESPOND_JSON, content)
  else respondAndRelease(status, content, wireHeaders(list))
}

function statusOf({ statusCode }: HttpResult): number {
  const status = Number(statusCode)
  if (!(status >= 100 && status <= 599) || status % 1 !== 0) throw new TypeError(`The handler returned an invalid statusCode: ${String(statusCode)}`)
  return status
}

function listOf({ headers, multiValueHeaders, cookies }: HttpResult, defaultType: string): HeaderList {
  const list: HeaderList = []
  addHeaders(list, multiValueHeaders)
  addHeaders(list, headers)
  if (ArrayIsArray(cookies)) for (let i = 0; i < cookies.length; i++) addHeader(list, 'set-cookie', cookies[i])
  if (findHeader(list, 'content-type', 0) < 0) addHeader(list, 'content-type', defaultType)
  return list
}

/** The head of a streamed answer, by what HttpResponseStream.from was given: `{ statusCode?, headers?, cookies? }`. */
export function httpHead(metadata: object, defaultType: string): { readonly status: number; readonly headers: string } {
  const given = { statusCode: 200, ...metadata }
  return { status: statusOf(given), headers: wireHeaders(listOf(given, defaultType)) }
}

function resultBody(body: unknown, encoded: boolean): string | Uint8Array | null {
  if (body === undefined || body === null) return null
  if (typeof body !== 'string') return JSONStringify(body) ?? null
  return encoded ? Uint8ArrayFromBase64(body) : body
}

function addHeader(list: HeaderList, name: string, value: unknown): void {
  if (value === undefined || value === null) return
  const key = normalizeName(name)
  ArrayPush(list, key)
  ArrayPush(list, normalizeValue(toText(value), key))
}

function addHeaders(list: HeaderList, headers: unknown): void {
  if (!isObject(headers)) return
  const names = ObjectKeys(headers)
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? ''
    const value = (headers as Record<string, unknown>)[name]
    if (!ArrayIsArray(value)) addHeader(list, name, value)
    else for (let j = 0; j < value.length; j++) addHeader(list, name, value[j])
  }
}

interface HttpEvent {
  readonly version: '2.0'
  readonly rawPath: string
  readonly rawQueryString?: string
  readonly cookies?: readonly string[]
  readonly headers?: Readonly<Record<string, string>>
  readonly requestContext: { readonly domainName?: string; readonly requestId?: string; readonly http: { readonly method: string; readonly sourceIp?: string } }
  readonly body?: string
  readonly isBase64Encoded?: boolean
}

export function isHttpEvent(payload: unknown): payload is HttpEvent {
  if (!isObject(payload)) return false
  const { version, rawPath, requestContext } = payload as Partial<HttpEvent>
  return version === '2.0' && typeof rawPath === 'string' && isObject(requestContext) && isObject(requestContext.http) && typeof requestContext.http.method === 'string'
}

/** The head of the request that an event tells of, and its body. */
export function requestOfEvent(event: HttpEvent, requestId: string): { readonly head: string; readonly body: string | Uint8Array<ArrayBuffer> | null } {
  const list: HeaderList = []
  addHeaders(list, event.headers)
  if (ArrayIsArray(event.cookies) && event.cookies.length > 0) addHeader(list, 'cookie', event.cookies.join('; '))
  const host = event.requestContext.domainName ?? getHeader(list, 'host') ?? 'localhost'
  const query = typeof event.rawQueryString === 'string' && event.rawQueryString !== '' ? `?${event.rawQueryString}` : ''
  const url = new URL(`https://${host}${StringStartsWith(event.rawPath, '/') ? '' : '/'}${event.rawPath}${query}`).href
  const head = `${requestId}\n${event.requestContext.http.sourceIp ?? ''}\n${event.requestContext.http.method}\n${url}${list.length === 0 ? '' : `\n${wireHeaders(list)}`}`
  const body = typeof event.body !== 'string' || event.body === '' ? null : event.isBase64Encoded === true ? Uint8ArrayFromBase64(event.body) : event.body
  return { head, body }
}

/** A response as the v2.0 result object. */
export function resultOfResponse(status: number, list: HeaderList, bytes: Uint8Array<ArrayBuffer>): unknown {
  const headers: Record<string, string> = {}
  const cookies: string[] = []
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? ''
    if (name === 'set-cookie') ArrayPush(cookies, list[i + 1] ?? '')
    else headers[name] ??= getHeader(list, name) ?? ''
  }
  return { statusCode: status, headers, ...(cookies.length === 0 ? null : { cookies }), ...encodeBody(bytes, getHeader(list, 'content-type') ?? '') }
}
