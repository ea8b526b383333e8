/** Header lines of outbound requests and their answers. Pure. */
import { CodedError } from '../errors.ts'
import { REQUEST_HEADERS_MAX_BYTES, REQUEST_HEADERS_MAX_COUNT } from '../limits.ts'

/** Framing and routing are ours; a function that sets them is not heard, as in fetch. */
const DROPPED_REQUEST_HEADERS = new Set(['host', 'connection', 'keep-alive', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'expect', 'http2-settings'])
const DROPPED_RESPONSE_HEADERS = new Set(['connection', 'keep-alive', 'transfer-encoding', 'trailer', 'upgrade', 'proxy-connection', 'proxy-authenticate', 'proxy-authentication-info'])
/** Not sent on to another origin. */
const CREDENTIAL_HEADERS = new Set(['authorization', 'cookie', 'proxy-authorization'])
/** They describe a body that is gone once a redirect has turned the method into GET. */
const BODY_HEADERS = new Set(['content-type', 'content-encoding', 'content-language', 'content-location'])

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
// A value is bytes: no control characters but tab, nothing beyond Latin-1.
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

export type HeaderList = readonly (readonly [name: string, value: string])[]

/** Reads `name\nvalue\n...`, drops what a function may not set, adds what every request has. Throws ERR_FETCH_FAILED. */
export function requestHeaders(text: string, url: string): HeaderList {
  const refuse = (why: string): never => {
    throw new CodedError('ERR_FETCH_FAILED', [url, why])
  }
  const parts = text === '' ? [] : text.split('\n')
  if (parts.length % 2 !== 0) refuse('its headers are malformed')
  if (text.length > REQUEST_HEADERS_MAX_BYTES) refuse(`its headers are larger than ${REQUEST_HEADERS_MAX_BYTES} bytes`)
  if (parts.length / 2 > REQUEST_HEADERS_MAX_COUNT) refuse(`it has more than ${REQUEST_HEADERS_MAX_COUNT} headers`)
  const headers: [string, string][] = []
  for (let index = 0; index < parts.length; index += 2) {
    const name = (parts[index] ?? '').toLowerCase()
    const value = (parts[index + 1] ?? '').trim()
    if (!NAME.test(name) || !VALUE.test(value)) refuse(`its header ${JSON.stringify(name.slice(0, 80))} is malformed`)
    if (DROPPED_REQUEST_HEADERS.has(name) || name.startsWith('proxy-') || name.startsWith('x-outpost-')) continue
    headers.push([name, name === 'accept-encoding' ? withoutBrotli(value) : value])
  }
  const add = (name: string, value: string): void => {
    if (!headers.some(([each]) => each === name)) headers.push([name, value])
  }
  add('accept', '*/*')
  add('accept-encoding', 'gzip, deflate')
  add('user-agent', 'outpost')
  return headers
}

/** Often a browser's own header, sent on; see EGRESS_BROTLI_MAX. */
function withoutBrotli(acceptEncoding: string): string {
  const offered = acceptEncoding.split(',').map((coding) => coding.trim()).filter((coding) => !/^br\b/i.test(coding))
  return offered.length === 0 ? 'identity' : offered.join(', ')
}

export function withoutCredentials(headers: HeaderList): HeaderList {
  return headers.filter(([name]) => !CREDENTIAL_HEADERS.has(name))
}

export function withoutBodyHeaders(headers: HeaderList): HeaderList {
  return headers.filter(([name]) => !BODY_HEADERS.has(name))
}

/** Raw header lines of undici: names and values in turn. */
export function responseHeaders(raw: readonly (Buffer | string)[]): HeaderList {
  const headers: [string, string][] = []
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = latin1(raw[index]).toLowerCase()
    const value = latin1(raw[index + 1]).trim()
    if (NAME.test(name) && VALUE.test(value) && !DROPPED_RESPONSE_HEADERS.has(name)) headers.push([name, value])
  }
  return headers
}

export function headerText(headers: HeaderList): string {
  return headers.map(([name, value]) => `${name}\n${value}`).join('\n')
}

export function headerValue(headers: HeaderList, name: string): string | null {
  const values = headers.filter(([each]) => each === name).map(([, value]) => value)
  return values.length === 0 ? null : values.join(', ')
}

function latin1(part: Buffer | string | undefined): string {
  return typeof part === 'string' ? part : (part?.toString('latin1') ?? '')
}
