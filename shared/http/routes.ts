/**
 * Where a request belongs, by its host and path. Pure but for two bounded memos: a host name or a function segment is
 * taken apart once and looked up from then on.
 */
import { isFunctionName, parseQualifier } from '../api/names.ts'

export interface WebTarget {
  readonly functionName: string
  readonly qualifier: string | null
}

export type HostKind =
  /** `NAME.localhost`: every path belongs to that function. */
  | { readonly kind: 'function'; readonly target: WebTarget }
  | { readonly kind: 'loopback' }
  | { readonly kind: 'other' }
  | { readonly kind: 'malformed' }

export type PathKind = 'web' | 'invoke' | 'invoke-stream' | 'api' | 'admin' | 'unknown'

/** Distinct host names and function segments remembered; strangers can make up any number, then all are forgotten. */
const MEMO_MAX = 4096
/** `[v6]`, or a name or v4 address, with an optional port. */
const HOST = /^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::\d{1,5})?$/
const LOOPBACK = /^(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])\.?$/i
const API = /^\/20\d\d-\d\d-\d\d\//
const INVOKE_PREFIX = '/2015-03-31/functions/'
const INVOKE_SUFFIX = '/invocations'
const STREAM_PREFIX = '/2021-11-15/functions/'
const STREAM_SUFFIX = '/response-streaming-invocations'
const WEB_PREFIX = '/fn/'
const ADMIN_PATHS: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics'])

export interface RoutesOptions {
  /** Suffixes under which a host name's first label is a function: `localhost` makes `hello.localhost` one. */
  readonly webDomains: readonly string[]
}

export class Routes {
  readonly #webDomains: readonly string[]
  readonly #hosts = new Map<string, HostKind>()
  readonly #targets = new Map<string, WebTarget | null>()

  constructor(options: RoutesOptions) {
    this.#webDomains = options.webDomains.map((domain) => `.${domain.toLowerCase()}`)
  }

  host(host: string): HostKind {
    const known = this.#hosts.get(host)
    if (known !== undefined) return known
    if (this.#hosts.size >= MEMO_MAX) this.#hosts.clear()
    const kind = this.#parseHost(host)
    this.#hosts.set(host, kind)
    return kind
  }

  path(path: string): PathKind {
    if (path.startsWith(WEB_PREFIX)) return 'web'
    if (path.startsWith(INVOKE_PREFIX) && path.endsWith(INVOKE_SUFFIX)) return 'invoke'
    if (path.startsWith(STREAM_PREFIX) && path.endsWith(STREAM_SUFFIX)) return 'invoke-stream'
    if (API.test(path)) return 'api'
    return ADMIN_PATHS.has(path) ? 'admin' : 'unknown'
  }

  /** Of a path that is `web`: null if its segment names no function. */
  target(path: string): WebTarget | null {
    const end = path.indexOf('/', WEB_PREFIX.length)
    const segment = end === -1 ? path.slice(WEB_PREFIX.length) : path.slice(WEB_PREFIX.length, end)
    const known = this.#targets.get(segment)
    if (known !== undefined) return known
    if (this.#targets.size >= MEMO_MAX) this.#targets.clear()
    const target = parseTarget(segment)
    this.#targets.set(segment, target)
    return target
  }

  #parseHost(host: string): HostKind {
    const bare = HOST.exec(host)?.[1]
    // `request.url` is made of it: what no URL can hold would fail in the function.
    if (bare === undefined || !URL.canParse(`http://${host}/`)) return { kind: 'malformed' }
    if (LOOPBACK.test(bare)) return { kind: 'loopback' }
    const lower = bare.toLowerCase()
    for (const domain of this.#webDomains) {
      if (!lower.endsWith(domain)) continue
      const functionName = bare.slice(0, -domain.length)
      if (isFunctionName(functionName)) return { kind: 'function', target: { functionName, qualifier: null } }
    }
    return { kind: 'other' }
  }
}

/** What the function sees as the path of `/fn/NAME/rest`: `/rest`, and `/` for `/fn/NAME`. */
export function pathBehindTarget(path: string): string {
  const end = path.indexOf('/', WEB_PREFIX.length)
  return end === -1 ? '/' : path.slice(end)
}

/** The encoded function segment of a path that is `invoke` or `invoke-stream`. */
export function invokeSegment(path: string): string {
  return path.startsWith(STREAM_PREFIX) ? path.slice(STREAM_PREFIX.length, -STREAM_SUFFIX.length) : path.slice(INVOKE_PREFIX.length, -INVOKE_SUFFIX.length)
}

/** A percent-encoded path or query part as text; null if it is malformed. */
export function decodePart(text: string): string | null {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    // Malformed escapes are the client's mistake; the caller names it.
    return null
  }
}

/** One parameter of a query as received, decoded; null if it is not there. */
export function queryParameter(query: string | null, name: string): string | null {
  if (query === null || query === '') return null
  for (const part of query.split('&')) {
    const equals = part.indexOf('=')
    if (decodePart(equals === -1 ? part : part.slice(0, equals)) === name) return equals === -1 ? '' : decodePart(part.slice(equals + 1))
  }
  return null
}

function parseTarget(segment: string): WebTarget | null {
  const text = decodePart(segment)
  if (text === null) return null
  const colon = text.indexOf(':')
  const functionName = colon === -1 ? text : text.slice(0, colon)
  if (!isFunctionName(functionName)) return null
  if (colon === -1) return { functionName, qualifier: null }
  try {
    return { functionName, qualifier: parseQualifier(text.slice(colon + 1)) }
  } catch {
    // Not a qualifier: nothing is served there.
    return null
  }
}
