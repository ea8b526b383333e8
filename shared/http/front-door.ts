/**
 * The HTTP front door of a POP or a region: uWebSockets.js on the main thread, a Dispatcher behind it.
 *
 *   uWS request -> RequestHead (read and check) -> Routes (host, path) -> an exchange (one request's life) -> Dispatcher
 *
 * This is the hot path: no promise, no URL object and no scan of headers per request; a buffered request costs one pass
 * over its headers, one object, and two writes. bench/front-door.ts holds it against bare uWS.
 *
 * Paths: `/fn/NAME[:QUALIFIER]/rest` and `NAME.localhost` are functions, `/20YY-MM-DD/...` is the Lambda-compatible API,
 * `/healthz`, `/readyz` and `/metrics` are for operators: on the admin port, and in development on the main one too.
 */
import { createServer } from 'node:net'
import { clearInterval, setImmediate, setInterval } from 'node:timers'
import { Registry } from 'prom-client'
import { parseFunctionReference, type FunctionReference } from '../api/names.ts'
import { encodeError } from '../api/replies.ts'
import { assertNever } from '../brand.ts'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { BODIES_BUFFERED_MAX_BYTES, CONTROL_BODY_MAX_BYTES, EXCHANGES_MAX, REQUEST_BODY_MAX_BYTES, REQUEST_DEADLINE_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import { SESSION_HEADER } from '../sessions/session-request.ts'
import { randomUuid } from '../uuid.ts'
import { addressText, isLoopback } from './address.ts'
import { adminReply } from './admin.ts'
import type { CertificateFiles } from './certificate-files.ts'
import { errorAnswer } from './error-answer.ts'
import { ExchangeList, type Door } from './exchange.ts'
import type { Origin, TrustedProxies } from './forwarded.ts'
import { InvokeExchange } from './invoke-exchange.ts'
import { HttpMetrics, routeIndex, type Tier } from './metrics.ts'
import { PlacementLines } from './placement-lines.ts'
import { ReplyExchange } from './reply-exchange.ts'
import { RequestHead, rawHeaders } from './request-head.ts'
import { ResponseHeads } from './response-head.ts'
import { Routes, decodePart, invokeSegment, pathBehindTarget, queryParameter, type WebTarget } from './routes.ts'
import { isScheduledPath, runScheduled } from './scheduled.ts'
import { registerTlsMetrics, TlsFront } from './tls-front.ts'
import { StreamInvokeExchange } from './stream-invoke-exchange.ts'
import type { ControlCall, ControlReply, Dispatcher, Placement } from './types.ts'
import { App, LISTEN_EXCLUSIVE, closeListenSocket, localPort, type HttpRequest, type HttpResponse, type TemplatedApp, type us_listen_socket } from './uws.ts'
import { WebExchange } from './web-exchange.ts'

export type InvokeAuth =
  /** Development: any Authorization header will do. */
  | { readonly kind: 'any' }
  /** This tier has no keys: Invoke goes to `Dispatcher.control` as it was signed. */
  | { readonly kind: 'relay' }
  /** Gives the caller's account, or the error that refuses the call. */
  | { readonly kind: 'verify'; readonly verify: (call: ControlCall) => string | CodedError }

export interface FrontDoorOptions {
  readonly tier: Tier
  /** `dev`: loopback host names only on management paths and Invoke, errors show stacks, admin paths on the main port. */
  readonly mode: 'dev' | 'production'
  readonly dispatcher: Dispatcher
  readonly clock: Clock
  readonly log: Log
  /** Address to listen on. Default 127.0.0.1; `dev` accepts loopback addresses only (ERR_CONFIG). */
  readonly host?: string
  /** 0: any free one. */
  readonly port: number
  /** Where `/healthz`, `/readyz` and `/metrics` are, on `adminHost`; null: nowhere but in `dev`. Default null. */
  readonly adminPort?: number | null
  /** Default 127.0.0.1. */
  readonly adminHost?: string
  /** Account of calls that name none. Default 000000000000. */
  readonly account?: string
  /** Region name in ARNs. Default us-east-1. */
  readonly awsRegion?: string
  /** Default: `any` in `dev`, else `relay`. */
  readonly invokeAuth?: InvokeAuth
  /** Whose headers say where a request comes from. Everybody else's are dropped. Default: nobody's. */
  readonly trustedProxies?: TrustedProxies | null
  /** Speak TLS on the main port. The files are read again when they change, see `reloadCertificate`. Default null: plain. */
  readonly tls?: CertificateFiles | null
  /** Suffixes of host names whose first label is a function. Default `localhost`. */
  readonly webDomains?: readonly string[]
  /** Let anybody start scheduled events of functions, see scheduled.ts. Default: in `dev` only. */
  readonly scheduledPaths?: boolean
  /** Send Server-Timing. Default: in `dev` only, since it tells strangers about load. */
  readonly serverTiming?: boolean
  /** Time until nobody waits for an answer, ms. Default REQUEST_DEADLINE_MS. */
  readonly requestTimeoutMs?: number
  /** Requests in flight, those whose body is still arriving included. ERR_QUEUE_FULL beyond. Default EXCHANGES_MAX. */
  readonly exchangesMax?: number
  /** Request bodies that are held, all together. Default BODIES_BUFFERED_MAX_BYTES. */
  readonly bodiesMaxBytes?: number
  /** Where metrics are registered and read from. Default: a registry of its own. */
  readonly registry?: Registry
  /** Adds routes of another kind to the main port before it listens: a region's link. Their connections live until `close`, `drain` leaves them alone. */
  readonly attach?: (app: TemplatedApp) => void
}

/** What a request may take beyond its deadline before the front door stops believing in an answer. */
const GIVE_UP_GRACE_MS = 10_000
const SWEEP_PERIOD_MS = 5_000
/** After the last answer: time for connections to take what uWS still holds for them, and for a last request to be refused properly. */
const LINGER_MS = 250
const DRAIN_POLL_MS = 10
const HOLD_MS = 2_147_483_647
const FREE_PORT_ATTEMPTS = 5
const REFUSED = routeIndex('refused')
const RELAYED_FOR_AUTH: Placement = { place: 'region', reason: 'auth', version: null, startKind: null, stale: false }

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'listening'; readonly sockets: readonly us_listen_socket[] }
  | { readonly kind: 'draining'; readonly done: Promise<void> }
  | { readonly kind: 'closed' }

export class FrontDoor {
  readonly metrics: HttpMetrics
  readonly registry: Registry
  readonly #options: FrontDoorOptions
  readonly #door: Door
  readonly #routes: Routes
  readonly #head: RequestHead
  readonly #invokeAuth: InvokeAuth
  readonly #peerIsLoopback: boolean
  readonly #exchangesMax: number
  readonly #scheduledPaths: boolean
  readonly #trusted: TrustedProxies | null
  readonly #scheme: 'http' | 'https'
  /** Listens. With TLS it hands its sockets on. */
  readonly #app: TemplatedApp
  readonly #tls: TlsFront | null
  readonly #adminApp: TemplatedApp | null
  /** Of the request that is being read, if there are trusted proxies. */
  #origin: Origin | null = null
  #state: State = { kind: 'idle' }
  #cancelSweep: (() => void) | null = null

  /** Throws ERR_CONFIG, ERR_TLS_CERTIFICATE. */
  constructor(options: FrontDoorOptions) {
    const host = options.host ?? '127.0.0.1'
    if (options.mode === 'dev' && !isLoopback(host)) {
      throw new CodedError('ERR_CONFIG', [`a development front door listens on loopback only, not on ${host}`])
    }
    this.#options = options
    this.metrics = new HttpMetrics(options.bodiesMaxBytes ?? BODIES_BUFFERED_MAX_BYTES)
    this.#invokeAuth = options.invokeAuth ?? { kind: options.mode === 'dev' ? 'any' : 'relay' }
    this.#peerIsLoopback = isLoopback(host)
    this.#exchangesMax = options.exchangesMax ?? EXCHANGES_MAX
    this.#scheduledPaths = options.scheduledPaths ?? options.mode === 'dev'
    this.#routes = new Routes({ webDomains: options.webDomains ?? ['localhost'] })
    this.#trusted = options.trustedProxies ?? null
    this.#head = new RequestHead({ proxyHeaders: this.#trusted?.headers ?? null })
    this.registry = options.registry ?? new Registry()
    this.metrics.register(this.registry, options.tier)
    this.#door = {
      settings: {
        mode: options.mode,
        account: options.account ?? '000000000000',
        awsRegion: options.awsRegion ?? 'us-east-1',
        requestTimeoutMs: options.requestTimeoutMs ?? REQUEST_DEADLINE_MS,
        serverTiming: options.serverTiming ?? options.mode === 'dev',
      },
      dispatcher: options.dispatcher,
      clock: options.clock,
      log: options.log.child('http'),
      metrics: this.metrics,
      responseHeads: new ResponseHeads(),
      placementLines: new PlacementLines(),
      live: new ExchangeList(),
      corked: null,
      draining: false,
      hasPaused: false,
    }
    this.#scheme = options.tls === undefined || options.tls === null ? 'http' : 'https'
    const furnish = (app: TemplatedApp): void => {
      options.attach?.(app)
      app.any('/*', (response, request) => this.#guarded(response, request, 'main')).filter((_response, change) => {
        this.metrics.connections += change
      })
    }
    this.#tls = options.tls === undefined || options.tls === null ? null : new TlsFront({ files: options.tls, furnish, clock: options.clock, log: options.log })
    this.#app = this.#tls?.acceptor ?? App()
    if (this.#tls === null) furnish(this.#app)
    else registerTlsMetrics(this.registry, this.#tls)
    this.#adminApp = typeof options.adminPort === 'number' ? App().any('/*', (response, request) => this.#guarded(response, request, 'admin')) : null
  }

  /** Begins to accept. Rejects with ERR_PORT_IN_USE. Once. */
  async listen(): Promise<{ readonly port: number; readonly adminPort: number | null }> {
    if (this.#state.kind !== 'idle') throw new CodedError('ERR_INTERNAL', ['a front door listens once'])
    const { port, host = '127.0.0.1', adminPort = null, adminHost = '127.0.0.1' } = this.#options
    const socket = await listenOn(this.#app, host, port, '--port')
    const sockets = [socket]
    if (this.#adminApp !== null && adminPort !== null) {
      try {
        sockets.push(await listenOn(this.#adminApp, adminHost, adminPort, '--admin-port'))
      } catch (error) {
        closeListenSocket(socket)
        throw error
      }
    }
    this.#state = { kind: 'listening', sockets }
    this.#sweepLater()
    const admin = sockets[1]
    return { port: localPort(socket), adminPort: admin === undefined ? null : localPort(admin) }
  }

  /** Takes the certificate's files as they are now for new connections; what cannot be used is logged and changes nothing. Does nothing without TLS. */
  reloadCertificate(): void {
    this.#tls?.reload()
  }

  /** Requests that are not over. */
  get inFlight(): number {
    return this.#door.live.size
  }

  /**
   * Accepts no more connections, lets what is in flight finish, answers what still comes on open connections with
   * `Connection: close`, and closes them all, but for those of attached routes; at the deadline what is left is ended
   * with an error. A second call waits for the first.
   */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#state.kind === 'draining') return this.#state.done
    if (this.#state.kind === 'closed') return
    const sockets = this.#state.kind === 'listening' ? this.#state.sockets : []
    // The admin port stays: whoever watches the drain asks there.
    const [main] = sockets
    if (main !== undefined) closeListenSocket(main)
    this.#door.draining = true
    const done = this.#drained(timeoutMs).then(() => {
      // uWS closes all connections of an app or none.
      if (this.#options.attach === undefined) this.#shut()
    })
    this.#state = { kind: 'draining', done }
    return done
  }

  /** Ends everything now. Idempotent. */
  close(): Promise<void> {
    this.#door.draining = true
    this.#shut()
    return Promise.resolve()
  }

  async #drained(timeoutMs: number): Promise<void> {
    const { clock, live, metrics } = this.#door
    // The clock's timers do not keep a process alive, and by now there may be nothing else that does.
    const hold = setInterval(() => {}, HOLD_MS)
    const deadlineAtMs = clock.monotonicMs() + timeoutMs
    while (live.size > 0 && clock.monotonicMs() < deadlineAtMs) await pause(clock, Math.min(DRAIN_POLL_MS, timeoutMs))
    for (const exchange of live.all()) exchange.giveUp('closing')
    const lingerUntilMs = Math.max(clock.monotonicMs(), Math.min(deadlineAtMs, clock.monotonicMs() + LINGER_MS))
    while ((metrics.connections > 0 || live.size > 0) && clock.monotonicMs() < lingerUntilMs) await pause(clock, DRAIN_POLL_MS)
    clearInterval(hold)
  }

  #shut(): void {
    if (this.#state.kind === 'closed') return
    this.#state = { kind: 'closed' }
    this.#cancelSweep?.()
    for (const exchange of this.#door.live.all()) exchange.giveUp('closing')
    if (this.#tls === null) this.#app.close()
    else this.#tls.close()
    this.#adminApp?.close()
  }

  /** Ends exchanges whose deadline has long passed: a dispatcher that forgets one must not hold it for ever. */
  #sweepLater(): void {
    const { clock, live, settings } = this.#door
    this.#cancelSweep = clock.after(SWEEP_PERIOD_MS, () => {
      const giveUpAgeMs = settings.requestTimeoutMs + GIVE_UP_GRACE_MS
      for (const exchange of live.olderThan(giveUpAgeMs)) exchange.giveUp('overdue')
      if (this.#state.kind !== 'closed') this.#sweepLater()
    })
  }

  // One request.

  #guarded(response: HttpResponse, request: HttpRequest, listener: 'main' | 'admin'): void {
    try {
      if (listener === 'main') this.#handle(response, request)
      else this.#handleAdmin(response, request)
    } catch (error) {
      // uWS would end the process. The response has an exchange or is lost; either way its connection is of no use.
      this.#door.log.error('request failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
      response.close()
    }
    this.#door.corked = null
  }

  #handle(response: HttpResponse, request: HttpRequest): void {
    const head = this.#head
    head.read(request)
    const requestId = head.requestId ?? randomUuid()
    if (head.refusal !== null) return this.#refuseAndClose(response, requestId, head.refusal)
    if (this.#trusted !== null) this.#readOrigin(response, this.#trusted)
    if (this.#door.live.size >= this.#exchangesMax) return this.#answerError(response, requestId, new CodedError('ERR_QUEUE_FULL', [this.#exchangesMax]))
    const host = this.#routes.host(head.host)
    if (host.kind === 'malformed') return this.#refuseAndClose(response, requestId, 'malformed Host')
    if (host.kind === 'function') return this.#web(response, host.target, head.path, requestId)
    const path = this.#routes.path(head.path)
    switch (path) {
      case 'web': {
        const target = this.#routes.target(head.path)
        if (target === null) return this.#answerError(response, requestId, new CodedError('ERR_ROUTE_NOT_FOUND', [head.path.slice(0, 200)]))
        return this.#web(response, target, pathBehindTarget(head.path), requestId)
      }
      case 'invoke':
      case 'invoke-stream':
      case 'api': {
        const forbidden = this.#forbidden(host.kind)
        if (forbidden !== null) return this.#reply(response, requestId, () => encodeError(forbidden, requestId, this.#door.clock))
        return path !== 'api' && head.method === 'POST' ? this.#invoke(response, request, requestId, path === 'invoke' ? InvokeExchange : StreamInvokeExchange) : this.#control(response, request, requestId)
      }
      case 'admin':
        if (this.#options.mode !== 'dev') break
        if (host.kind !== 'loopback') return this.#answerError(response, requestId, new CodedError('ERR_HOST_FORBIDDEN', [head.host.slice(0, 200)]))
        return this.#admin(response, requestId)
      case 'unknown':
        break
      default:
        assertNever(path)
    }
    this.#answerError(response, requestId, new CodedError('ERR_ROUTE_NOT_FOUND', [head.path.slice(0, 200)]))
  }

  #web(response: HttpResponse, target: WebTarget, path: string, requestId: string): void {
    const head = this.#head
    if (this.#scheduledPaths && isScheduledPath(path)) return this.#scheduled(response, target, path, requestId)
    const url = ((this.#origin?.scheme ?? this.#scheme) === 'https' ? 'https://' : 'http://') + head.host + (head.query === null ? path : path + '?' + head.query)
    const exchange = new WebExchange(this.#door, response, head, target, url, requestId, this.#clientIp(response))
    exchange.start()
  }

  #scheduled(response: HttpResponse, target: WebTarget, path: string, requestId: string): void {
    const { method, query, host, contentLength, chunked } = this.#head
    // As for the API: a web page must not reach it under a name of its own.
    if (this.#options.mode === 'dev' && this.#routes.host(host).kind === 'other') return this.#answerError(response, requestId, new CodedError('ERR_HOST_FORBIDDEN', [host.slice(0, 200)]))
    const clientIp = this.#clientIp(response)
    const exchange = new ReplyExchange(this.#door, response, {
      route: 'web', requestId, method, contentLength, chunked, bodyMaxBytes: 0, clientIp, placement: null,
      reply: () => runScheduled(this.#door, { requestId, target, path, query, clientIp }),
    })
    exchange.start()
  }

  /** Why a call of the API is refused before anything is read of it, or null. */
  #forbidden(host: 'loopback' | 'other'): CodedError | null {
    const head = this.#head
    // Any web page can make a browser send requests here: under a name of its own (DNS rebinding), or without the
    // header that a page may not set for a foreign address.
    if (this.#options.mode === 'dev' && host !== 'loopback') return new CodedError('ERR_HOST_FORBIDDEN', [head.host.slice(0, 200)])
    if (!head.authorized && queryParameter(head.query, 'X-Amz-Signature') === null) return new CodedError('ERR_SIGNATURE_MISSING')
    return null
  }

  #invoke(response: HttpResponse, request: HttpRequest, requestId: string, Exchange: typeof InvokeExchange | typeof StreamInvokeExchange): void {
    const head = this.#head
    const invocationType = request.getHeader('x-amz-invocation-type')
    if (invocationType === 'DryRun') return this.#control(response, request, requestId)
    if (this.#invokeAuth.kind === 'relay') return this.#control(response, request, requestId, RELAYED_FOR_AUTH)
    let reference: FunctionReference
    try {
      reference = referenceOf(head)
      checkInvocationType(invocationType)
    } catch (error) {
      return this.#reply(response, requestId, () => encodeError(toCodedError(error), requestId, this.#door.clock))
    }
    const clientIp = this.#clientIp(response)
    const verify = this.#invokeAuth.kind === 'verify' ? this.#invokeAuth.verify : null
    const exchange = new Exchange(this.#door, response, {
      requestId,
      reference,
      contentLength: head.contentLength,
      chunked: head.chunked,
      wantLogs: request.getHeader('x-amz-log-type') === 'Tail',
      clientContext: request.getHeader('x-amz-client-context'),
      traceId: cleanToken(request.getHeader('x-amzn-trace-id')),
      session: cleanToken(request.getHeader(SESSION_HEADER)),
      clientIp,
      signed: verify === null ? null : this.#signedCall(request, requestId, clientIp),
      authorize: verify,
    })
    exchange.start()
  }

  #control(response: HttpResponse, request: HttpRequest, requestId: string, placement: Placement | null = null): void {
    const signed = this.#signedCall(request, requestId, this.#clientIp(response))
    const exchange = new ReplyExchange(this.#door, response, {
      route: 'control',
      requestId,
      method: signed.method,
      contentLength: this.#head.contentLength,
      chunked: this.#head.chunked,
      bodyMaxBytes: placement === null ? CONTROL_BODY_MAX_BYTES : REQUEST_BODY_MAX_BYTES,
      clientIp: signed.clientIp,
      placement,
      reply: (body) => this.#door.dispatcher.control({ ...signed, body }),
    })
    exchange.start()
  }

  #signedCall(request: HttpRequest, requestId: string, clientIp: string): Omit<ControlCall, 'body'> {
    const { method, path, query } = this.#head
    return { requestId, method, rawPath: query === null ? path : `${path}?${query}`, headers: rawHeaders(request), clientIp }
  }

  #handleAdmin(response: HttpResponse, request: HttpRequest): void {
    const head = this.#head
    head.read(request)
    const requestId = head.requestId ?? randomUuid()
    if (head.refusal !== null) return this.#refuseAndClose(response, requestId, head.refusal)
    if (this.#routes.path(head.path) === 'admin') return this.#admin(response, requestId)
    this.#answerError(response, requestId, new CodedError('ERR_ROUTE_NOT_FOUND', [head.path.slice(0, 200)]))
  }

  #admin(response: HttpResponse, requestId: string): void {
    const { method, path } = this.#head
    this.#reply(response, requestId, () => adminReply(path, this.#door, this.registry), method)
  }

  /** Answers without looking at the body. */
  #reply(response: HttpResponse, requestId: string, reply: () => ControlReply | Promise<ControlReply>, method = 'GET'): void {
    const exchange = new ReplyExchange(this.#door, response, { route: 'admin', requestId, method, contentLength: 0, chunked: false, bodyMaxBytes: 0, clientIp: '', placement: null, reply })
    exchange.start()
  }

  #answerError(response: HttpResponse, requestId: string, error: CodedError): void {
    const { status, lines, body } = errorAnswer(error, requestId, null)
    this.metrics.answered(REFUSED, status, 0)
    response.writeStatus(`${status} ${error.code}${lines}\r\nx-outpost-request-id: ${requestId}`)
    if (this.#head.method === 'HEAD') response.endWithoutBody()
    else response.end(body, this.#door.draining)
  }

  /**
   * For requests whose end is not certain. The answer waits for the next turn of the loop: uWS goes on with the bytes
   * behind this request at once, even after an answer that closes, but closes a connection on which a request follows
   * one that is still unanswered. So nothing behind an ambiguous request is ever taken for a request.
   */
  #refuseAndClose(response: HttpResponse, requestId: string, why: string): void {
    const { status, lines, body } = errorAnswer(new CodedError('ERR_REQUEST_FRAMING', [why]), requestId, null)
    this.metrics.answered(REFUSED, status, 0)
    let gone = false
    response.onAborted(() => {
      gone = true
    })
    setImmediate(() => {
      if (gone) return
      response.cork(() => {
        response.writeStatus(`${status} Bad Request${lines}\r\nx-outpost-request-id: ${requestId}`).end(body, true)
      })
    })
  }

  /** Functions behind a trusted proxy see what is known for certain, under the usual names, whatever the proxy passed on. */
  #readOrigin(response: HttpResponse, trusted: TrustedProxies): void {
    const head = this.#head
    this.#origin = null
    const peerIp = this.#clientIp(response)
    if (!trusted.trusts(peerIp)) return
    this.#origin = trusted.originOf(peerIp, head.forwardedAddresses, head.forwardedSchemes)
    head.add('x-forwarded-for', this.#origin.clientIp)
    head.add('x-forwarded-proto', this.#origin.scheme ?? this.#scheme)
  }

  #clientIp(response: HttpResponse): string {
    if (this.#origin !== null) return this.#origin.clientIp
    // Asking uWS costs 0.5 us, and on loopback the answer is known.
    if (this.#peerIsLoopback) return '127.0.0.1'
    return addressText(new Uint8Array(response.getRemoteAddress()))
  }
}

/**
 * Port 0 is turned into a number first: uWS sets SO_REUSEADDR only for a port given by number, and without it a process
 * that is started again on the port it had cannot listen for a minute, while old connections are in TIME_WAIT.
 */
async function listenOn(app: TemplatedApp, host: string, port: number, option: string): Promise<us_listen_socket> {
  if (port !== 0) return listenOnNumber(app, host, port, option)
  for (let attempt = 1; ; attempt++) {
    try {
      return await listenOnNumber(app, host, await freePort(host), option)
    } catch (error) {
      // Somebody else took it in between.
      if (attempt === FREE_PORT_ATTEMPTS) throw error
    }
  }
}

function listenOnNumber(app: TemplatedApp, host: string, port: number, option: string): Promise<us_listen_socket> {
  return new Promise((resolve, reject) => {
    const settle = (socket: us_listen_socket | false): void => {
      if (socket === false) reject(new CodedError('ERR_PORT_IN_USE', [port, option]))
      else resolve(socket)
    }
    // uWS takes options after a host too, which its types leave out.
    const listen = app.listen.bind(app) as unknown as (host: string, port: number, options: number, done: typeof settle) => void
    listen(host, port, LISTEN_EXCLUSIVE, settle)
  })
}

function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (error) => reject(new CodedError('ERR_ENVIRONMENT', [`Nothing can listen on ${host}: ${error.message}`])))
    probe.listen({ host, port: 0 }, () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

function pause(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => clock.after(delayMs, resolve))
}

/** Throws ERR_PARAMETER. */
function referenceOf(head: RequestHead): FunctionReference {
  const segment = decodePart(invokeSegment(head.path))
  if (segment === null) throw new CodedError('ERR_PARAMETER', ['The function name is not properly percent-encoded'])
  return parseFunctionReference(segment, queryParameter(head.query, 'Qualifier'))
}

/** Throws ERR_PARAMETER. */
function checkInvocationType(type: string): void {
  if (type === '' || type === 'RequestResponse') return
  if (type === 'Event') throw new CodedError('ERR_PARAMETER', ['Invocation type Event is not supported yet: this version has no durable queue. Use RequestResponse'])
  throw new CodedError('ERR_PARAMETER', [`Value '${type.slice(0, 80)}' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]`])
}

/** It is sent back in a header, so only what a header may hold. */
function cleanToken(text: string): string {
  return /^[\x21-\x7e]{0,256}$/.test(text) ? text : ''
}
