/** Heads of service calls and of their answers. Everything in a call's head may be forged by the guest. Pure. */
import { CodedError } from '../errors.ts'
import { REQUEST_HEADERS_MAX_BYTES, REQUEST_HEADERS_MAX_COUNT, EGRESS_URL_MAX_CHARS } from '../limits.ts'
import { SESSION_HEADER, SESSION_STATE_HEADER } from '../sessions/session-request.ts'
import type { SessionAnswer } from '../sessions/types.ts'

export interface ServiceHead {
  /** Of the binding, as the guest says; NaN if it says nothing. */
  readonly index: number
  readonly more: boolean
  readonly method: string
  /** Absolute, without fragment and credentials. */
  readonly url: string
  /** `name\nvalue...` as a front door gives them, `host` first. */
  readonly headers: string
}

const METHOD = /^[A-Z][A-Z0-9_-]{0,31}$/
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
/** What concerns a connection, and lengths, which are ours to say. */
const DROPPED: ReadonlySet<string> = new Set(['host', 'connection', 'keep-alive', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'expect'])
const DROPPED_OF_ANSWERS: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'transfer-encoding', 'te', 'trailer', 'upgrade'])

/** Throws ERR_SERVICE_FAILED for what no front door would let in. */
export function parseServiceHead(text: string): ServiceHead {
  const [index = '', more = '', method = '', target = '', ...lines] = text.split('\n')
  const refuse = (why: string): never => {
    throw new CodedError('ERR_SERVICE_FAILED', ['', why])
  }
  const upper = method.toUpperCase()
  if (!METHOD.test(upper) || upper === 'CONNECT' || upper === 'TRACE' || upper === 'TRACK') refuse('its method cannot be sent')
  if (target.length > EGRESS_URL_MAX_CHARS) refuse(`its URL is longer than ${EGRESS_URL_MAX_CHARS} characters`)
  const url = URL.parse(target)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return refuse('its URL must be absolute, with http or https; any host will do')
  if (lines.length % 2 !== 0 || lines.length / 2 > REQUEST_HEADERS_MAX_COUNT) refuse(`its headers are malformed, or more than ${REQUEST_HEADERS_MAX_COUNT}`)
  let headers = `host\n${url.host}`
  for (let at = 0; at < lines.length; at += 2) {
    const name = (lines[at] ?? '').toLowerCase()
    const value = lines[at + 1] ?? ''
    if (!NAME.test(name) || !VALUE.test(value)) refuse(`its header ${JSON.stringify(name.slice(0, 80))} is malformed`)
    if (!DROPPED.has(name) && !isOurs(name)) headers += `\n${name}\n${value}`
  }
  if (headers.length > REQUEST_HEADERS_MAX_BYTES) refuse(`its headers are larger than ${REQUEST_HEADERS_MAX_BYTES} bytes`)
  url.hash = ''
  url.username = ''
  url.password = ''
  return { index: /^\d{1,4}$/.test(index) ? Number(index) : Number.NaN, more: more === '1', method: upper, url: url.href, headers }
}

/** What a caller may see of an answer's headers; null: they are malformed. `session`: which the call was of, told as a client from outside is told. */
export function serviceResponseHeaders(text: string, session: SessionAnswer | null): string | null {
  const lines = text === '' ? [] : text.split('\n')
  if (lines.length % 2 !== 0) return null
  const kept: string[] = []
  for (let at = 0; at < lines.length; at += 2) {
    const name = (lines[at] ?? '').toLowerCase()
    const value = lines[at + 1] ?? ''
    if (!NAME.test(name) || !VALUE.test(value)) return null
    // How a function ends its own session: a caller that passes the answer on must not end its own by it.
    if (!DROPPED_OF_ANSWERS.has(name) && !isOurs(name) && name !== SESSION_HEADER) kept.push(name, value)
  }
  if (session !== null) {
    kept.push(SESSION_HEADER, session.id, SESSION_STATE_HEADER, session.reason === null ? session.state : `${session.state}; reason=${session.reason}`)
    if (session.setCookie !== null) kept.push('set-cookie', session.setCookie)
  }
  return kept.join('\n')
}

function isOurs(name: string): boolean {
  return name.startsWith('proxy-') || (name.startsWith('x-outpost-') && name !== SESSION_HEADER)
}
