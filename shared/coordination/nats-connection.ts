/**
 * The connection to NATS: made in the background and again whenever it is lost, for as long as it takes. Calls wait for it
 * as long as they may take; none is sent after its caller was told that it failed while it still waited.
 */
import { jetstream, jetstreamManager, JetStreamApiError, type JetStreamClient, type JetStreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection, type NodeConnectionOptions } from '@nats-io/transport-node'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { COORDINATION_TIMEOUT_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import { Calls, closedError } from './calls.ts'

/** What a call works with. */
export interface Nats {
  readonly connection: NatsConnection
  readonly js: JetStreamClient
  readonly jsm: JetStreamManager
}

export interface NatsLinkOptions {
  readonly connect: NodeConnectionOptions
  /** Shown in the server's list of clients. */
  readonly name: string
  readonly clock: Clock
  readonly log: Log
}

/** A server that is silent for twice as long counts as gone: half-open connections and stopped servers are found in 4 s. */
const PING_MS = 2_000
const PINGS_UNANSWERED_MAX = 2
const CONNECT_TIMEOUT_MS = 3_000
const RECONNECT_MS = 250

export class NatsLink {
  readonly clock: Clock
  readonly log: Log
  readonly #options: NatsLinkOptions
  readonly #calls: Calls
  readonly #waiting = new Set<() => void>()
  /** Each rejects one call that was sent. */
  readonly #sent = new Set<(error: CodedError) => void>()
  readonly #onConnected = new Set<() => void>()
  #nats: Nats | null = null
  #up = false
  #toldDown = false
  #closed = false

  constructor(options: NatsLinkOptions) {
    this.#options = options
    this.clock = options.clock
    this.log = options.log
    this.#calls = new Calls(options.clock, toCoordinationError)
    void this.#connect()
  }

  get connected(): boolean {
    return this.#up && !this.#closed
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Waits for the connection, then runs `call`; all within its time (C4 of types.ts). */
  call<T>(call: (nats: Nats) => Promise<T> | T): Promise<T> {
    let over = false
    const run = this.#calls.run(async () => {
      while (!this.#up || this.#nats === null) {
        await new Promise<void>((resolve) => this.#waiting.add(resolve))
        if (over || this.#closed) throw closedError()
      }
      return await this.#whileUp(call(this.#nats))
    })
    const end = (): void => {
      over = true
    }
    run.then(end, end)
    return run
  }

  /** Called after each connection but for what is connected now. Returns a function that ends it. */
  onConnected(listener: () => void): () => void {
    this.#onConnected.add(listener)
    return () => this.#onConnected.delete(listener)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#calls.close()
    this.#wake()
    await this.#nats?.connection.close()
  }

  async #connect(): Promise<void> {
    while (!this.#closed) {
      try {
        const connection = await connect({
          ...this.#options.connect,
          name: this.#options.name,
          timeout: CONNECT_TIMEOUT_MS,
          pingInterval: PING_MS,
          maxPingOut: PINGS_UNANSWERED_MAX,
          maxReconnectAttempts: -1,
          reconnectTimeWait: RECONNECT_MS,
          reconnectJitter: RECONNECT_MS,
          reconnectJitterTLS: RECONNECT_MS,
          // Who may log in can be corrected at the server.
          ignoreAuthErrorAbort: true,
        })
        await this.#use(connection)
      } catch (error) {
        this.#down(toCodedError(error).message)
        await new Promise<void>((resolve) => this.#options.clock.after(RECONNECT_MS * 4, resolve))
      }
    }
  }

  /** Resolves when the connection is closed for good. */
  async #use(connection: NatsConnection): Promise<void> {
    if (this.#closed) {
      await connection.close()
      return
    }
    const jsm = await jetstreamManager(connection, { checkAPI: false, timeout: COORDINATION_TIMEOUT_MS })
    this.#nats = { connection, js: jetstream(connection, { timeout: COORDINATION_TIMEOUT_MS }), jsm }
    this.#connectedNow()
    for await (const status of connection.status()) {
      if (status.type === 'disconnect' || status.type === 'staleConnection') this.#down(status.type)
      if (status.type === 'reconnect') this.#connectedNow()
    }
    this.#down('closed')
  }

  #connectedNow(): void {
    if (this.#closed) return
    this.#up = true
    this.#toldDown = false
    this.log.info('connected to NATS', { server: this.#nats?.connection.getServer() ?? '' })
    this.#wake()
    for (const listener of [...this.#onConnected]) listener()
  }

  #down(reason: string): void {
    this.#up = false
    for (const reject of [...this.#sent]) reject(new CodedError('ERR_COORDINATION_UNREACHABLE', [`the connection is lost (${reason})`]))
    this.#sent.clear()
    if (this.#toldDown || this.#closed) return
    this.#toldDown = true
    this.log.warn('NATS cannot be reached', { reason })
  }

  /** An answer that was under way when the connection broke does not come any more. */
  #whileUp<T>(answer: Promise<T> | T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#sent.add(reject)
      Promise.resolve(answer)
        .finally(() => this.#sent.delete(reject))
        .then(resolve, reject)
    })
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake()
    this.#waiting.clear()
  }
}

const API_WRONG_LAST_SEQUENCE = [10071, 10164]
const API_UNAVAILABLE = [10008, 10009, 10039]
export const API_STREAM_NOT_FOUND = 10059
/** That a message to be deleted is not there any more: 2.9 says 10057, later ones 10037. */
export const API_NO_MESSAGE: readonly (number | null)[] = [10037, 10057]

export function apiCodeOf(error: unknown): number | null {
  return error instanceof JetStreamApiError ? error.code : null
}

/** A refusal of the server is for good; whatever else went wrong may go right later. */
function toCoordinationError(error: unknown): CodedError {
  const code = apiCodeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  if (code !== null && API_WRONG_LAST_SEQUENCE.includes(code)) return new CodedError('ERR_COORDINATION_CONFLICT', ['the document'], { cause: error })
  if (code !== null && code !== API_STREAM_NOT_FOUND && !API_UNAVAILABLE.includes(code)) return new CodedError('ERR_COORDINATION_REFUSED', [message], { cause: error })
  if (error instanceof CodedError) return new CodedError('ERR_COORDINATION_REFUSED', [message], { cause: error })
  return new CodedError('ERR_COORDINATION_UNREACHABLE', [message], { cause: error })
}
