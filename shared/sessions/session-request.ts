/** Which session a request is for, read from its head. Pure. */
import { CodedError } from '../errors.ts'
import { isSessionId, placeOfSession } from './session-id.ts'
import type { SessionSettings } from './types.ts'

export const SESSION_HEADER = 'x-outpost-session'
export const SESSION_STATE_HEADER = 'x-outpost-session-state'
/** A DELETE of this path, below the function, ends the session that it bears. */
export const SESSION_PATH = '/.well-known/outpost/session'
/** Value of the header that asks for a new session. */
const NEW = 'new'

export type Wanted =
  /** A fresh machine, of which nothing is kept. */
  | { readonly kind: 'none' }
  | { readonly kind: 'new'; readonly by: 'header' | 'cookie' }
  | { readonly kind: 'named'; readonly id: string; readonly by: 'header' | 'cookie' }

const NONE: Wanted = { kind: 'none' }

/** `headers`: `name\nvalue...`, lower case. The header goes before the cookie. Throws ERR_SESSION_ID for a header that is no id. */
export function wantedSession(settings: SessionSettings, headers: string): Wanted {
  const given = settings.header === null ? null : headerOf(headers, settings.header)
  if (given === NEW) return { kind: 'new', by: 'header' }
  if (given !== null) {
    if (!isSessionId(given)) throw new CodedError('ERR_SESSION_ID', [settings.header ?? ''])
    return { kind: 'named', id: given, by: 'header' }
  }
  if (settings.cookie === null) return NONE
  // Browsers send what anybody set for the host: only what was minted is taken for an id.
  const id = cookieOf(headers, settings.cookie)
  return id === null || placeOfSession(id) === null ? { kind: 'new', by: 'cookie' } : { kind: 'named', id, by: 'cookie' }
}

export function headerOf(headers: string, name: string): string | null {
  for (let at = 0; at < headers.length; ) {
    const nameEnd = headers.indexOf('\n', at)
    const found = nameEnd - at === name.length && headers.startsWith(name, at)
    const end = nameEnd === -1 ? headers.length : headers.indexOf('\n', nameEnd + 1)
    if (found) return headers.slice(nameEnd + 1, end === -1 ? undefined : end).trim()
    if (end === -1) return null
    at = end + 1
  }
  return null
}

/** The head as a function sees it: with the id of its session, whatever the client wrote there. */
export function withSessionHeader(headers: string, id: string): string {
  const own = `${SESSION_HEADER}\n${id}`
  if (headers === '') return own
  if (!headers.includes(SESSION_HEADER)) return `${headers}\n${own}`
  const parts = headers.split('\n')
  const kept: string[] = []
  for (let index = 0; index + 1 < parts.length; index += 2) if (parts[index] !== SESSION_HEADER) kept.push(parts[index] ?? '', parts[index + 1] ?? '')
  return [...kept, own].join('\n')
}

function cookieOf(headers: string, name: string): string | null {
  const line = headerOf(headers, 'cookie')
  if (line === null) return null
  for (const part of line.split(';')) {
    const equals = part.indexOf('=')
    if (equals !== -1 && part.slice(0, equals).trim() === name) return part.slice(equals + 1).trim()
  }
  return null
}

/** Value of Set-Cookie for a session that begins. */
export function sessionCookie(settings: SessionSettings, id: string, url: string): string {
  return cookieLine(settings.cookie ?? '', id, url, Math.floor(settings.maxAgeMs / 1000))
}

/** The same for one that has ended. */
export function endedCookie(settings: SessionSettings, url: string): string {
  return cookieLine(settings.cookie ?? '', '', url, 0)
}

function cookieLine(name: string, value: string, url: string, maxAgeSeconds: number): string {
  return `${name}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${url.startsWith('https:') ? '; Secure' : ''}`
}

/** Whether a client asks to end its session. */
export function endsSession(method: string, url: string): boolean {
  if (method !== 'DELETE') return false
  const query = url.indexOf('?')
  return (query === -1 ? url : url.slice(0, query)).endsWith(SESSION_PATH)
}
