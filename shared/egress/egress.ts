/**
 * Outbound requests of functions. Each account has connections of its own, so that nothing of one (kept connections,
 * TLS sessions, waiting requests) is seen or used up by another.
 *
 * E1  Every connection goes through the guard; see guard.ts.
 * E2  Agents, brotli decoders, requests under way and their bodies are bounded; an agent that is pushed out closes when its requests have ended.
 *     Of requests and bodies each account has a fair share.
 */
import { Agent } from 'undici'
import type { Dispatcher } from 'undici'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import {
  EGRESS_ACCOUNTS_MAX, EGRESS_BODIES_MAX_BYTES, EGRESS_BROTLI_MAX, EGRESS_BROTLI_PER_ACCOUNT_MAX, EGRESS_CONNECTIONS_PER_ORIGIN_MAX, EGRESS_DECOMPRESSED_MAX_BYTES, EGRESS_REQUESTS_MAX, EGRESS_RESPONSE_HEADERS_MAX_BYTES, FUNCTION_LIMIT_MAX,
} from '../limits.ts'
import { FairShare } from '../fair-share.ts'
import type { Log } from '../log.ts'
import { FetchRun } from './fetch-run.ts'
import type { EgressRequest, FetchRequest, FetchSink } from './fetch-run.ts'
import { ConnectGuard } from './guard.ts'
import type { GuardOptions } from './guard.ts'

export type { EgressRequest, FetchRequest, FetchSink, RedirectMode } from './fetch-run.ts'

/** Idle connections are kept this long unless the origin asks for less. */
const KEEP_ALIVE_MS = 4_000
const KEEP_ALIVE_MAX_MS = 60_000

export interface EgressOptions extends GuardOptions {
  readonly clock: Clock
  readonly log: Log
  /** Default EGRESS_DECOMPRESSED_MAX_BYTES. */
  readonly decompressedMaxBytes?: number
  /** Connections of one account to one origin. Default EGRESS_CONNECTIONS_PER_ORIGIN_MAX. */
  readonly connectionsPerOriginMax?: number
  /** Default EGRESS_ACCOUNTS_MAX. */
  readonly accountsMax?: number
  /** Default EGRESS_REQUESTS_MAX. */
  readonly requestsMax?: number
  /** Default EGRESS_BODIES_MAX_BYTES. */
  readonly bodiesMaxBytes?: number
}

export class Egress {
  readonly #options: EgressOptions
  readonly #log: Log
  readonly #guard: ConnectGuard
  readonly #decompressedMaxBytes: number
  /** Least recently used first. */
  readonly #agents = new Map<string, Agent>()
  readonly #running = new Set<FetchRun>()
  readonly #requests: FairShare
  readonly #bodies: FairShare
  /** Brotli stages by account, those that have any. */
  readonly #brotli = new Map<string, number>()
  #brotliCount = 0
  #closed = false

  constructor(options: EgressOptions) {
    this.#options = options
    this.#log = options.log.child('egress')
    this.#guard = new ConnectGuard(options)
    this.#decompressedMaxBytes = options.decompressedMaxBytes ?? EGRESS_DECOMPRESSED_MAX_BYTES
    this.#requests = new FairShare(options.requestsMax ?? EGRESS_REQUESTS_MAX)
    this.#bodies = new FairShare(options.bodiesMaxBytes ?? EGRESS_BODIES_MAX_BYTES)
  }

  /** Sends a request. Every failure goes to `sink.fail`; see FetchSink for when it is called. Aborting is the caller's timeout. */
  start(request: FetchRequest, sink: FetchSink): EgressRequest {
    const run: FetchRun = new FetchRun(request, sink, {
      decompressedMaxBytes: this.#decompressedMaxBytes,
      takeBrotli: (count) => this.#takeBrotli(request.account, count),
      dispatch: (options, handler) => void this.#agent(request.account).dispatch(options, handler),
      onDone: () => this.#over(run, request),
    })
    // In a later turn of the microtask queue: nothing is told from within this call.
    let aborted = false
    queueMicrotask(() => {
      if (aborted) return
      try {
        if (this.#closed) throw new CodedError('ERR_DRAINING', [])
        this.#admit(request)
        this.#running.add(run)
        run.start()
      } catch (error) {
        this.#over(run, request)
        const coded = toCodedError(error)
        sink.fail('TypeError', coded.message, coded.code)
      }
    })
    return {
      read: () => run.read(),
      abort: () => {
        aborted = true
        run.abort()
      },
    }
  }

  /** Requests under way and accounts with open connections. Free to read. */
  stats(): { readonly running: number; readonly accounts: number } {
    return { running: this.#running.size, accounts: this.#agents.size }
  }

  /** Ends everything; requests under way hear nothing more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    for (const run of [...this.#running]) run.abort()
    const agents = [...this.#agents.values()]
    this.#agents.clear()
    await Promise.all(agents.map((agent) => agent.destroy()))
  }

  #admit({ account, body }: FetchRequest): void {
    const bodyBytes = body?.byteLength ?? 0
    if (!this.#requests.take(account, 1)) throw new CodedError('ERR_QUEUE_FULL', [`${this.#running.size} outbound requests`])
    if (this.#bodies.take(account, bodyBytes)) return
    this.#requests.add(account, -1)
    throw new CodedError('ERR_LIMIT_OPERATIONS', ['as many bytes of outbound requests as this account may have wait to be sent'])
  }

  /** Once for each that was admitted. */
  #over(run: FetchRun, { account, body }: FetchRequest): void {
    if (!this.#running.delete(run)) return
    this.#requests.add(account, -1)
    this.#bodies.add(account, -(body?.byteLength ?? 0))
  }

  #takeBrotli(account: string, count: number): (() => void) | null {
    const own = this.#brotli.get(account) ?? 0
    if (own + count > EGRESS_BROTLI_PER_ACCOUNT_MAX || this.#brotliCount + count > EGRESS_BROTLI_MAX) return null
    this.#brotliCount += count
    this.#brotli.set(account, own + count)
    return () => {
      this.#brotliCount -= count
      const left = (this.#brotli.get(account) ?? 0) - count
      if (left === 0) this.#brotli.delete(account)
      else this.#brotli.set(account, left)
    }
  }

  /** E2. */
  #agent(account: string): Dispatcher {
    const known = this.#agents.get(account)
    if (known !== undefined) {
      this.#agents.delete(account)
      this.#agents.set(account, known)
      return known
    }
    const [oldest] = this.#agents
    if (this.#agents.size >= (this.#options.accountsMax ?? EGRESS_ACCOUNTS_MAX) && oldest !== undefined) {
      this.#agents.delete(oldest[0])
      oldest[1].close().catch((error: unknown) => this.#log.error('Connections of an account could not be closed', { reason: String(error) }))
    }
    const agent = new Agent({
      connect: this.#guard.connector(),
      connections: this.#options.connectionsPerOriginMax ?? EGRESS_CONNECTIONS_PER_ORIGIN_MAX,
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MAX_MS,
      maxHeaderSize: EGRESS_RESPONSE_HEADERS_MAX_BYTES,
      // The invocation's own limits end a request; these only catch what they would not.
      headersTimeout: FUNCTION_LIMIT_MAX.wallMs,
      bodyTimeout: FUNCTION_LIMIT_MAX.wallMs,
    })
    this.#agents.set(account, agent)
    return agent
  }
}
