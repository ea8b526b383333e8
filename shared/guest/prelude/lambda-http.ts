/** HTTP events of payload format 2.0 (`ecosystem.md` 2.6): from a request, and to and from a fetch handler's view. */
import { ArrayIsArray, ArrayPush, DateNow, JSONStringify, NativeUint8Array, ObjectKeys, StringIndexOf, StringPadStart, StringSlice, StringSplit, StringStartsWith, StringIncludes, StringToLowerCase, Uint8ArrayFromBase64, Uint8ArrayToBase64 } from './primordials.ts'
import { configuration } from './configuration.ts'
import { findHeader, getHeader, normalizeName, normalizeValue, wireHeaders, type HeaderList } from './headers.ts'
import { hostBodyBytes, hostRespond, hostUtf8Decode } from './host.ts'
import { HEAD_CLIENT_IP, HEAD_REQUEST_ID, headHeaders, headLine } from './request.ts'
import { HostSource, readAll } from './streams.ts'
import { OPERATIONS } from '../abi.ts'
import { parseUrlencoded } from './urlencoded.ts'
import { isObject, toText } from './webidl.ts'


const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec'

/** `21/Nov/2026:01:36:26 +0000` */
function commonLogTime(epochMs: number): string {
  const date = new Date(epochMs)
  const two = (value: number): string => StringPadStart(`${value}`, 2, '0')
  const month = StringSlice(MONTHS, date.getUTCMonth() * 3, date.getUTCMonth() * 3 + 3)
  return `${two(date.getUTCDate())}/${month}/${date.getUTCFullYear()}:${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`
}

/** Text goes as it is; what is not UTF-8 or not a text type goes as base64. */
function isTextType(type: string): boolean {
  const lower = StringToLowerCase(type)
  return lower === '' || StringStartsWith(lower, 'text/') || StringIncludes(lower, 'json') || StringIncludes(lower, 'xml') || StringIncludes(lower, 'javascript') || StringIncludes(lower, 'x-www-form-urlencoded') || StringIncludes(lower, 'charset=')
}

function encodedBody(bytes: Uint8Array<ArrayBuffer>, type: string): { readonly body: string; readonly isBase64Encoded: boolean } {
  const text = isTextType(type) ? hostUtf8Decode(bytes, true, true) : null
  return text === null ? { body: Uint8ArrayToBase64(bytes), isBase64Encoded: true } : { body: text, isBase64Encoded: false }
}

/** The event of a request; a promise if its body still streams in. */
export function httpEvent(head: string, bodyState: number): unknown {
  if (bodyState === 2) return readAll(new HostSource(OPERATIONS.BODY, 0)).then((bytes) => buildEvent(head, bytes))
  return buildEvent(head, bodyState === 0 ? null : new NativeUint8Array(hostBodyBytes()))
}

function buildEvent(head: string, bytes: Uint8Array<ArrayBuffer> | null): unknown {
  const list = headHeaders(head)
  const url = headLine(head, 3)
  const schemeEnd = StringIndexOf(url, '://')
  const pathStart = StringIndexOf(url, '/', schemeEnd < 0 ? 0 : schemeEnd + 3)
  const host = StringSlice(url, schemeEnd + 3, pathStart < 0 ? undefined : pathStart)
  const target = pathStart < 0 ? '/' : StringSlice(url, pathStart)
  const question = StringIndexOf(target, '?')
  const rawPath = question < 0 ? target : StringSlice(target, 0, question)
  const rawQueryString = question < 0 ? '' : StringSlice(target, question + 1)
  const now = DateNow()
  const headers: Record<string, string> = {}
  let cookies: string[] | undefined
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? ''
    const value = list[i + 1] ?? ''
    if (name === 'cookie') cookies = StringSplit(value, '; ')
    else headers[name] = headers[name] === undefined ? value : `${headers[name]},${value}`
  }
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath,
    rawQueryString,
    ...(cookies === undefined ? null : { cookies }),
    headers,
    ...(rawQueryString === '' ? null : { queryStringParameters: queryParameters(rawQueryString) }),
    requestContext: {
      accountId: configuration.accountId === '' ? 'anonymous' : configuration.accountId,
      apiId: configuration.functionName,
      domainName: host,
      domainPrefix: configuration.functionName,
      http: {
        method: headLine(head, 2),
        path: rawPath,
        protocol: 'HTTP/1.1',
        sourceIp: headLine(head, HEAD_CLIENT_IP),
        userAgent: getHeader(list, 'user-agent') ?? '',
      },
      requestId: headLine(head, HEAD_REQUEST_ID),
      routeKey: '$default',
      stage: '$default',
      time: commonLogTime(now),
      timeEpoch: now,
    },
    ...(bytes === null ? { isBase64Encoded: false } : encodedBody(bytes, getHeader(list, 'content-type') ?? '')),
  }
}

function queryParameters(query: string): Record<string, string> {
  const parameters: Record<string, string> = {}
  const list = parseUrlencoded(query)
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? ''
    parameters[name] = parameters[name] === undefined ? (list[i + 1] ?? '') : `${parameters[name]},${list[i + 1] ?? ''}`
  }
  return parameters
}

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
    hostRespond(200, 'content-type\napplication/json', text, false)
    return
  }
  const { statusCode, headers, multiValueHeaders, cookies, body, isBase64Encoded } = result as HttpResult
  const status = Number(statusCode)
  if (!(status >= 100 && status <= 599) || status % 1 !== 0) throw new TypeError(`The handler returned an invalid statusCode: ${String(statusCode)}`)
  const list: HeaderList = []
  addHeaders(list, multiValueHeaders)
  addHeaders(list, headers)
  if (ArrayIsArray(cookies)) for (let i = 0; i < cookies.length; i++) addHeader(list, 'set-cookie', cookies[i])
  if (findHeader(list, 'content-type', 0) < 0) addHeader(list, 'content-type', 'application/json')
  hostRespond(status, wireHeaders(list), resultBody(body, isBase64Encoded === true), false)
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
  return { statusCode: status, headers, ...(cookies.length === 0 ? null : { cookies }), ...encodedBody(bytes, getHeader(list, 'content-type') ?? '') }
}
