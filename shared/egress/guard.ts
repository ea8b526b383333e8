/**
 * Connections that only reach what a function may reach.
 *
 * G1  The check is on addresses, at the moment of connecting: literal ones in whatever notation (the URL parser has
 *     made them canonical), and every address that a name resolves to. Nothing resolves the name a second time.
 * G2  The peer address of the connected socket is checked once more before a byte is sent.
 * G3  Ports that this host itself listens on are refused at its own addresses, exceptions or not. Its own addresses
 *     are private, also if they look public: what reaches them from here passes by no firewall.
 * G4  Ports of other protocols are refused as the Fetch standard says, so that no request is read as mail or the like.
 */
import { lookup } from 'node:dns'
import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import type { LookupFunction } from 'node:net'
import { networkInterfaces } from 'node:os'
import { buildConnector } from 'undici'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import { isPublicAddress, unmapped } from './address.ts'

/** Answers are reused this long: 2,000 requests to one slow origin are one lookup, and a change of address is soon seen. */
const LOOKUP_TTL_MS = 5_000
const LOOKUPS_CACHED_MAX = 1_000
/** Connectors kept, one for each host and port: they hold the TLS sessions. */
const CONNECTORS_MAX = 256
/** How long the list of this host's own addresses is used. */
const OWN_ADDRESSES_TTL_MS = 10_000
const CONNECT_TIMEOUT_MS = 10_000

export interface GuardOptions {
  /** Private addresses may be reached; for tests. Own listeners stay refused. */
  readonly allowPrivate: boolean
  /** `host:port` as in the URL (`localhost:9000`, `[::1]:9000`), for which private addresses may be reached. */
  readonly allowedHosts: readonly string[]
  readonly ownListeners: () => readonly { readonly port: number }[]
  /** Addresses of this host. Default: those of its network interfaces. */
  readonly ownAddresses?: () => Iterable<string>
  readonly clock: Clock
}

/** "Bad ports" of the Fetch standard. */
const OTHER_PROTOCOLS_PORTS: ReadonlySet<number> = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143,
  161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
  5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
])

/** Where a connection goes, as its URL says. */
interface Target {
  /** `host:port`. */
  readonly host: string
  readonly port: number
}

type LookupResult = { readonly addresses: readonly LookupAddress[] } | { readonly error: NodeJS.ErrnoException }

interface CachedLookup {
  readonly result: LookupResult
  readonly untilMs: number
}

export class ConnectGuard {
  readonly #options: GuardOptions
  readonly #allowedHosts: ReadonlySet<string>
  readonly #lookups = new Map<string, CachedLookup>()
  readonly #lookingUp = new Map<string, ((result: LookupResult) => void)[]>()
  #ownAddresses: ReadonlySet<string> = new Set()
  #ownAddressesUntilMs = -Infinity

  constructor(options: GuardOptions) {
    this.#options = options
    this.#allowedHosts = new Set(options.allowedHosts.map((host) => host.toLowerCase()))
  }

  /** A connector for one undici agent. Fails with ERR_FETCH_FORBIDDEN for what may not be reached. */
  connector(): buildConnector.connector {
    const connectors = new Map<string, buildConnector.connector>()
    const connectorFor = (target: Target): buildConnector.connector => {
      const known = connectors.get(target.host)
      if (known !== undefined) return known
      const made = buildConnector({ timeout: CONNECT_TIMEOUT_MS, allowH2: false, lookup: this.#lookup(target) })
      const [oldest] = connectors.keys()
      if (connectors.size >= CONNECTORS_MAX && oldest !== undefined) connectors.delete(oldest)
      connectors.set(target.host, made)
      return made
    }
    return (options, callback) => {
      const { hostname, protocol } = options
      const port = options.port === '' ? (protocol === 'https:' ? 443 : 80) : Number(options.port)
      const target: Target = { host: isIP(hostname) === 6 ? `[${hostname}]:${port}` : `${hostname}:${port}`, port }
      const refusal = isIP(hostname) === 0 ? null : this.#refusal(hostname, target)
      if (refusal !== null) {
        // undici expects the answer later.
        queueMicrotask(() => callback(refusal, null))
        return
      }
      connectorFor(target)(options, (...result) => {
        if (result[0] !== null) {
          callback(...result)
          return
        }
        // G2.
        const late = this.#refusal(unmapped(result[1].remoteAddress ?? ''), target)
        if (late === null) callback(...result)
        else {
          result[1].destroy()
          callback(late, null)
        }
      })
    }
  }

  #refusal(address: string, target: Target): CodedError | null {
    const { allowPrivate, ownListeners } = this.#options
    // G3. Every address of 127.0.0.0/8 and the unspecified one reach this host.
    if (ownListeners().some(({ port }) => port === target.port) && this.#isOwnAddress(address)) return new CodedError('ERR_FETCH_FORBIDDEN', [target.host, 'it is this host itself'])
    if (this.#allowedHosts.has(target.host.toLowerCase())) return null
    if (OTHER_PROTOCOLS_PORTS.has(target.port)) return new CodedError('ERR_FETCH_FORBIDDEN', [target.host, "its port is another protocol's"])
    if (allowPrivate) return null
    if (this.#isOwnAddress(address)) return new CodedError('ERR_FETCH_FORBIDDEN', [target.host, 'it is this host itself'])
    if (isPublicAddress(address)) return null
    return new CodedError('ERR_FETCH_FORBIDDEN', [target.host, 'it is not a public address'])
  }

  #isOwnAddress(address: string): boolean {
    const plain = unmapped(address)
    if (/^(127|0)\./.test(plain) || plain === '::1' || plain === '::') return true
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs >= this.#ownAddressesUntilMs) {
      this.#ownAddressesUntilMs = nowMs + OWN_ADDRESSES_TTL_MS
      this.#ownAddresses = new Set((this.#options.ownAddresses ?? interfaceAddresses)())
    }
    return this.#ownAddresses.has(plain)
  }

  /** G1: gives net.connect only addresses that passed. */
  #lookup(target: Target): LookupFunction {
    return (hostname, options, callback) => {
      this.#resolve(hostname, (result) => {
        if ('error' in result) return callback(result.error, [])
        const refusals = result.addresses.map(({ address }) => this.#refusal(address, target))
        const addresses = result.addresses.filter((_, index) => refusals[index] === null)
        const [first] = addresses
        if (first === undefined) return callback(refusals[0] ?? new CodedError('ERR_FETCH_FORBIDDEN', [target.host, 'it has no address']), [])
        if (options.all === true) callback(null, addresses)
        else callback(null, first.address, first.family)
      })
    }
  }

  #resolve(hostname: string, callback: (result: LookupResult) => void): void {
    const cached = this.#lookups.get(hostname)
    if (cached !== undefined && this.#options.clock.monotonicMs() < cached.untilMs) {
      queueMicrotask(() => callback(cached.result))
      return
    }
    const waiting = this.#lookingUp.get(hostname)
    if (waiting !== undefined) {
      waiting.push(callback)
      return
    }
    const callbacks = [callback]
    this.#lookingUp.set(hostname, callbacks)
    lookup(hostname, { all: true }, (error, addresses) => {
      const result: LookupResult = error === null ? { addresses } : { error }
      this.#lookingUp.delete(hostname)
      if (error === null) this.#remember(hostname, result)
      for (const each of callbacks) each(result)
    })
  }

  #remember(hostname: string, result: LookupResult): void {
    this.#lookups.delete(hostname)
    const [oldest] = this.#lookups.keys()
    if (this.#lookups.size >= LOOKUPS_CACHED_MAX && oldest !== undefined) this.#lookups.delete(oldest)
    this.#lookups.set(hostname, { result, untilMs: this.#options.clock.monotonicMs() + LOOKUP_TTL_MS })
  }
}

function interfaceAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((list = []) => list.map((each) => each.address))
}
