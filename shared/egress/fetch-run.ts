/**
 * One fetch of a function: the request, its redirects, and the body of the answer as it is asked for.
 *
 *   waiting (for the answer, redirects included) -> body -> done, or broken (a body that failed while nobody read) -> done
 *
 * X1  The sink hears `head` or `fail`, and after a head one `data`, `end` or `fail` for each `read`; nothing after
 *     `end`, `fail` or `abort`.
 * X2  The body is pulled: while nobody reads, the socket is paused.
 * X3  Each hop is a new dispatch, so each connects through the guard; credentials stay with their origin.
 * X4  A hop's handler that is not the present one (`hop`) has no say: late events of an answer left behind do nothing.
 * X5  Nothing outlives the run: what still comes of answers left behind is cut off at its end.
 */
import type { Dispatcher } from 'undici'
import { CodedError, isErrorCode } from '../errors.ts'
import { EGRESS_REDIRECTS_MAX, EGRESS_URL_MAX_CHARS } from '../limits.ts'
import { Decoder, supportedCodings, TooLargeError } from './decode.ts'
import { headerText, headerValue, requestHeaders, responseHeaders, withoutBodyHeaders, withoutCredentials } from './headers.ts'
import type { HeaderList } from './headers.ts'

export type RedirectMode = 'follow' | 'manual' | 'error'

export interface FetchRequest {
  readonly account: string
  readonly method: string
  readonly url: string
  readonly redirect: RedirectMode
  /** `name\nvalue\n...`. */
  readonly headers: string
  readonly body: Uint8Array | null
}

/** Where an answer goes; see X1. Never called from within `start`, `read` or `abort` before they return. */
export interface FetchSink {
  /** `headers` as in the request, lower case. What was decoded here has no content-encoding and no content-length. */
  head(status: number, statusText: string, finalUrl: string, redirected: boolean, headers: string): void
  /** The answer to one `read`. The chunk is the receiver's own and alone in its buffer. */
  data(chunk: Uint8Array): void
  /** The answer to one `read`: the body is complete. */
  end(): void
  /** `name` is the exception's name for the guest; `code` is of the registry. */
  fail(name: string, message: string, code: string): void
}

/** A fetch under way. */
export interface EgressRequest {
  /** Asks for the next piece of the body. One at a time: asking again before the answer is the same question. */
  read(): void
  /** Ends the request; the sink hears nothing more. Idempotent. */
  abort(): void
}

export interface FetchRunOwner {
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): void
  readonly decompressedMaxBytes: number
  /** Room for so many brotli stages, to be given back by what is returned; null if there is none. */
  takeBrotli(count: number): (() => void) | null
  /** The run is over; called exactly once. */
  onDone(): void
}

const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}$/
const METHODS_REFUSED = new Set(['CONNECT', 'TRACE', 'TRACK'])
const METHODS_NORMALIZED = new Set(['DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT'])
const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** The rest of a redirect's answer is read up to this, to keep the connection; a longer one is cut off. */
const DISCARDED_MAX_BYTES = 64 * 1024
/** A kept connection may have been closed while the request was on its way; what is safe to repeat is sent once more. */
const METHODS_REPEATED = new Set(['GET', 'HEAD', 'OPTIONS'])

interface Hop {
  readonly index: number
  readonly url: URL
  readonly method: string
  readonly headers: HeaderList
  readonly body: Uint8Array | null
  readonly repeated: boolean
}

type State =
  | { readonly kind: 'waiting'; readonly hop: Hop; controller: Dispatcher.DispatchController | null }
  | { readonly kind: 'body'; readonly hop: Hop; readonly controller: Dispatcher.DispatchController; readonly decoder: Decoder | null; wireEnded: boolean; decoding: boolean }
  | { readonly kind: 'broken'; readonly hop: Hop; readonly controller: null; readonly error: CodedError }
  | { readonly kind: 'done' }

export class FetchRun implements EgressRequest {
  readonly #request: FetchRequest
  readonly #sink: FetchSink
  readonly #owner: FetchRunOwner
  #state: State = { kind: 'done' }
  #wanted = false
  #turnScheduled = false
  /** Undecoded pieces that came before they were asked for: what the parser had in hand when it was paused. */
  #ready: Uint8Array[] = []
  /** Redirects' answers that have not ended (X5). */
  readonly #leftBehind = new Set<Dispatcher.DispatchController>()

  constructor(request: FetchRequest, sink: FetchSink, owner: FetchRunOwner) {
    this.#request = request
    this.#sink = sink
    this.#owner = owner
  }

  /** Throws a CodedError for a request that cannot be sent at all. */
  start(): void {
    const { method, url, headers, body } = this.#request
    const upper = method.toUpperCase()
    if (!METHOD.test(method) || METHODS_REFUSED.has(upper)) throw new CodedError('ERR_FETCH_FAILED', [url.slice(0, 200), `method ${method.slice(0, 64)} cannot be sent`])
    const target = parseTarget(url, null)
    this.#dispatch({ index: 0, url: target, method: METHODS_NORMALIZED.has(upper) ? upper : method, headers: requestHeaders(headers, where(target)), body, repeated: false })
  }

  read(): void {
    if (this.#state.kind === 'done') return
    this.#wanted = true
    this.#scheduleTurn()
  }

  abort(): void {
    this.#leave(new Error('aborted'))
  }

  #dispatch(hop: Hop): void {
    const state: State = { kind: 'waiting', hop, controller: null }
    this.#state = state
    const { url, method, headers, body } = hop
    this.#owner.dispatch(
      { origin: url.origin, path: `${url.pathname}${url.search}`, method, headers: headers.flat(), body },
      this.#handler(state),
    )
  }

  #handler(state: Extract<State, { kind: 'waiting' }>): Dispatcher.DispatchHandler {
    const { hop } = state
    const isPresent = (): boolean => this.#state.kind !== 'done' && this.#state.hop === hop
    let discardedBytes = 0
    return {
      onRequestStart: (controller) => {
        if (isPresent()) state.controller = controller
        else controller.abort(new Error('aborted'))
      },
      onResponseStart: (controller, status, _headers, statusText = '') => {
        if (status < 200) return
        if (isPresent()) this.#onAnswer(hop, controller, status, statusText)
      },
      onResponseData: (controller, chunk) => {
        if (isPresent()) return this.#onChunk(controller, chunk)
        discardedBytes += chunk.length
        if (discardedBytes > DISCARDED_MAX_BYTES) controller.abort(new Error('not wanted'))
      },
      onResponseEnd: (controller) => {
        this.#leftBehind.delete(controller)
        if (isPresent()) this.#onWireEnd()
      },
      onResponseError: (controller, error) => {
        this.#leftBehind.delete(controller)
        if (isPresent()) this.#onError(hop, error)
      },
    }
  }

  #onAnswer(hop: Hop, controller: Dispatcher.DispatchController, status: number, statusText: string): void {
    const headers = responseHeaders(rawHeaders(controller))
    const location = headerValue(headers, 'location')
    if (REDIRECTS.has(status) && location !== null && this.#request.redirect !== 'manual') {
      try {
        if (this.#request.redirect === 'error') throw new CodedError('ERR_FETCH_FAILED', [where(hop.url), 'it redirects, and redirect is "error"'])
        // Servers write UTF-8 there; header values come as Latin-1.
        this.#dispatch(nextHop(hop, status, Buffer.from(location, 'latin1').toString()))
        this.#leftBehind.add(controller)
      } catch (error) {
        // First, so that the abort's own error finds nobody (X4).
        this.#fail(error)
        controller.abort(new Error('not wanted'))
      }
      return
    }
    const hasBody = hop.method !== 'HEAD' && status !== 204 && status !== 205 && status !== 304
    const codings = hasBody ? supportedCodings(headerValue(headers, 'content-encoding')) : []
    const decodes = codings !== null && codings.length > 0
    const brotliCount = codings?.filter((coding) => coding === 'br').length ?? 0
    const release = brotliCount === 0 ? doNothing : this.#owner.takeBrotli(brotliCount)
    if (release === null) {
      this.#fail(new CodedError('ERR_FETCH_FAILED', [where(hop.url), 'too many brotli answers are being read here, and brotli was not asked for']))
      controller.abort(new Error('not wanted'))
      return
    }
    const decoder = decodes ? this.#decoder(codings, where(hop.url), release) : null
    if (hasBody) controller.pause()
    this.#state = { kind: 'body', hop, controller, decoder, wireEnded: false, decoding: false }
    const visible = decodes ? headers.filter(([name]) => name !== 'content-encoding' && name !== 'content-length') : headers
    this.#sink.head(status, statusText, withoutHash(hop.url), hop.index > 0, headerText(visible))
  }

  #decoder(codings: readonly string[], target: string, release: () => void): Decoder {
    const decoder = new Decoder(codings, this.#owner.decompressedMaxBytes, (error) => {
      const why = error instanceof TooLargeError ? error.message : 'its content is not what its Content-Encoding says'
      this.#failBody(new CodedError('ERR_FETCH_FAILED', [target, why]))
    }, release)
    decoder.onReadable(() => this.#scheduleTurn())
    decoder.onEnd(() => this.#scheduleTurn())
    return decoder
  }

  #onChunk(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const state = this.#state
    // On a resume undici's parser tells of an empty piece when nothing has come yet: pausing for it would turn in circles.
    if (state.kind !== 'body' || chunk.length === 0) return
    controller.pause()
    if (state.decoder === null) {
      // The parser's buffer is used again, and a view would carry all of it to another thread.
      this.#ready.push(Uint8Array.prototype.slice.call(chunk))
      this.#scheduleTurn()
      return
    }
    state.decoding = true
    state.decoder.write(Uint8Array.prototype.slice.call(chunk), () => {
      state.decoding = false
      this.#scheduleTurn()
    })
  }

  #onWireEnd(): void {
    const state = this.#state
    if (state.kind !== 'body') return
    state.wireEnded = true
    state.decoder?.end()
    this.#scheduleTurn()
  }

  /** X1: events are never told from within a call of the reader. */
  #scheduleTurn(): void {
    if (this.#turnScheduled) return
    this.#turnScheduled = true
    queueMicrotask(() => {
      this.#turnScheduled = false
      this.#turn()
    })
  }

  /** Answers the reader if it can be answered, or lets more flow. */
  #turn(): void {
    const state = this.#state
    if (!this.#wanted) return
    if (state.kind === 'broken') return this.#tellFailure(state.error)
    if (state.kind !== 'body') return
    const chunk = state.decoder === null ? this.#ready.shift() : own(state.decoder.read())
    if (chunk !== undefined) {
      this.#wanted = false
      this.#sink.data(chunk)
      return
    }
    if (state.decoder === null ? state.wireEnded : state.decoder.ended) {
      this.#finish()
      this.#sink.end()
      return
    }
    if (!state.wireEnded && !state.decoding) state.controller.resume()
  }

  #onError(hop: Hop, error: Error): void {
    const isStale = 'code' in error && (error.code === 'UND_ERR_SOCKET' || error.code === 'ECONNRESET' || error.code === 'EPIPE')
    if (this.#state.kind !== 'waiting' || !isStale || hop.repeated || !METHODS_REPEATED.has(hop.method)) return this.#fail(error)
    try {
      this.#dispatch({ ...hop, repeated: true })
    } catch (again) {
      this.#fail(again)
    }
  }

  #failBody(error: Error): void {
    const { controller } = this.#state.kind === 'body' ? this.#state : { controller: null }
    this.#fail(error)
    controller?.abort(error)
  }

  /** Before the head told at once, after it as the answer to a read. */
  #fail(error: unknown): void {
    const state = this.#state
    if (state.kind === 'done' || state.kind === 'broken') return
    const coded = asFetchError(error, where(state.hop.url))
    if (state.kind === 'waiting' || this.#wanted) return this.#tellFailure(coded)
    if (state.decoder !== null) state.decoder.destroy()
    this.#ready = []
    this.#state = { kind: 'broken', hop: state.hop, controller: null, error: coded }
  }

  #tellFailure(error: CodedError): void {
    this.#finish()
    this.#sink.fail('TypeError', error.message, error.code)
  }

  /** Ends without a word. */
  #leave(reason: Error): void {
    const state = this.#state
    if (state.kind === 'done') return
    this.#finish()
    state.controller?.abort(reason)
  }

  #finish(): void {
    const state = this.#state
    this.#state = { kind: 'done' }
    this.#ready = []
    if (state.kind === 'body') state.decoder?.destroy()
    for (const controller of this.#leftBehind) controller.abort(new Error('not wanted'))
    this.#owner.onDone()
  }
}

/** Where a redirect leads. Throws ERR_FETCH_FAILED. */
function nextHop(hop: Hop, status: number, location: string): Hop {
  if (hop.index >= EGRESS_REDIRECTS_MAX) throw new CodedError('ERR_FETCH_FAILED', [where(hop.url), `it redirects more than ${EGRESS_REDIRECTS_MAX} times`])
  const url = parseTarget(location, hop.url)
  if (url.hash === '') url.hash = hop.url.hash
  const becomesGet = (status === 303 && hop.method !== 'GET' && hop.method !== 'HEAD') || ((status === 301 || status === 302) && hop.method === 'POST')
  const sameOrigin = url.origin === hop.url.origin
  const kept = becomesGet ? withoutBodyHeaders(hop.headers) : hop.headers
  return {
    index: hop.index + 1,
    url,
    method: becomesGet ? 'GET' : hop.method,
    headers: sameOrigin ? kept : withoutCredentials(kept),
    body: becomesGet ? null : hop.body,
    repeated: false,
  }
}

/** Only http and https, no credentials. Throws ERR_FETCH_FAILED. */
function parseTarget(text: string, base: URL | null): URL {
  const refuse = (why: string): never => {
    throw new CodedError('ERR_FETCH_FAILED', [text.slice(0, 200).replace(/\/\/[^/]*@/, '//'), why])
  }
  if (text.length > EGRESS_URL_MAX_CHARS) refuse(`its URL is longer than ${EGRESS_URL_MAX_CHARS} characters`)
  const url = URL.parse(text, base?.href) ?? refuse('its URL is malformed')
  if (url.protocol !== 'http:' && url.protocol !== 'https:') refuse('only http and https can be fetched')
  if (url.username !== '' || url.password !== '') refuse('its URL holds credentials')
  return url
}

/** Response.url has no fragment. */
function withoutHash(url: URL): string {
  return url.hash === '' ? url.href : url.href.slice(0, url.href.length - url.hash.length)
}

/** For messages: no query, which may hold secrets. */
function where(url: URL): string {
  return `${url.origin}${url.pathname}`.slice(0, 300)
}

function asFetchError(error: unknown, target: string): CodedError {
  if (error instanceof CodedError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (isErrorCode(code)) return new CodedError(code, [target, error instanceof Error ? error.message : ''])
  return new CodedError('ERR_FETCH_FAILED', [target, REASONS[code] ?? (code === '' ? 'the connection failed' : code)], { cause: error })
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection was reset',
  ENOTFOUND: 'its name does not resolve',
  EAI_AGAIN: 'its name cannot be resolved now',
  UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
  UND_ERR_HEADERS_TIMEOUT: 'no answer in time',
  UND_ERR_BODY_TIMEOUT: 'its body stopped',
  UND_ERR_HEADERS_OVERFLOW: 'the headers of its answer are too large',
  UND_ERR_SOCKET: 'the connection was closed',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'its body is shorter than it said',
}

function rawHeaders(controller: Dispatcher.DispatchController): readonly (Buffer | string)[] {
  return Array.isArray(controller.rawHeaders) ? controller.rawHeaders : []
}

/** A copy that is alone in its buffer: what is posted to another thread is the whole buffer behind a view. */
function own(chunk: Buffer | null): Uint8Array | undefined {
  return chunk === null ? undefined : Uint8Array.prototype.slice.call(chunk)
}

function doNothing(): void {
  // For what holds nothing.
}
