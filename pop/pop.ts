/**
 * A point of presence: a front door, sandboxes, a cache of images, and links to regions.
 *
 *   front door -> PopDispatcher -> place() -> SandboxHost          (hot, complete, room)
 *                                          -> Relay -> region     (all else)
 *   arrivals -> HotSet -> Residency -> ImageCache -> SandboxHost   (in the background)
 *   region -> Versions                                            (pushed)
 *
 * Host, disk and links are made by the caller, who decides about processes, folders and addresses; the POP starts and
 * stops them.
 */
import { randomUUID } from 'node:crypto'
import { Registry } from 'prom-client'
import type { Clock } from '../shared/clock.ts'
import { FrontDoor, type FrontDoorOptions } from '../shared/http/front-door.ts'
import type { Dispatcher } from '../shared/http/types.ts'
import { MIB, SESSION_STATE_MAX_BYTES, SESSIONS_MEMORY_MAX_BYTES } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import { HotSet } from '../shared/place/hot-set.ts'
import { DEFAULT_PLACE_POLICY, type PlacePolicy } from '../shared/place/place.ts'
import { createSessionTable, type CreateTableOptions } from '../shared/sessions/create-table.ts'
import { registerSessionMetrics } from '../shared/sessions/metrics.ts'
import type { SessionTable } from '../shared/sessions/session-table.ts'
import type { Random } from '../shared/random.ts'
import type { PopKeys } from '../shared/store/pop-keys.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import { AccountSlots } from './account-slots.ts'
import { PopDispatcher } from './dispatcher.ts'
import { FunctionTable } from './functions.ts'
import { ImageCache, type ImageDisk } from './image-cache.ts'
import { registerPopMetrics } from './metrics.ts'
import { RegionSet, type RegionSetOptions } from './region-set.ts'
import { Reporter } from './reporter.ts'
import { SessionKeys } from './session-keys.ts'
import { SessionNeeds } from './session-needs.ts'
import { imageRates, Residency } from './residency.ts'
import type { SiteSessionsParts } from './site-sessions.ts'
import { DEFAULT_STALE_MAX_MS, Versions } from './versions.ts'

export interface PopOptions {
  readonly host: SandboxHost
  readonly disk: ImageDisk
  readonly keys: PopKeys
  /** The link to each region, by its place in `regions`. */
  readonly connect: RegionSetOptions['connect']
  /** Names of the regions, for logs and metrics, in order of preference. */
  readonly regions: readonly string[]
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Everything of the front door that is not the POP's to decide. */
  readonly http: Omit<FrontDoorOptions, 'tier' | 'dispatcher' | 'clock' | 'log' | 'registry'>
  /** Puts something before the dispatcher that answers some calls itself. */
  readonly wrapDispatcher?: (inner: Dispatcher) => Dispatcher
  /** Where it stands: POPs of one area are likely to be asked for the same functions. Default: ''. */
  readonly area?: string
  /** What an hour of the day is worth for a place here, in place of each function's own habits. */
  readonly hourWeight?: (nowMs: number) => number
  /** Arrivals within 5 minutes that earn a function a place. Default 3; 1 in development shows it at once. */
  readonly admitCount?: number
  /** Bytes of images of hot functions in memory, what they share included. Default 128 MiB. */
  readonly hotSetBytes?: number
  /** Bytes of images on disk. Default 4 GiB. */
  readonly diskBudgetBytes?: number
  /** How long a POP that is cut off serves what it holds, ms. Default one hour. */
  readonly staleMaxMs?: number
  /** Where session machines rest. Default: in memory, at a site of its own. */
  readonly sessions?: Pick<CreateTableOptions, 'place' | 'dataDir' | 'sessionMemoryMib' | 'sessionStateMaxMib'>
  readonly policy?: PlacePolicy
  /** Default 10,000. */
  readonly inFlightMax?: number
  /** Default 1,000: beyond it a region answers sooner than the queue here. */
  readonly localInFlightMax?: number
  /** `leased`: a region says how many invocations of an account may run here; `unlimited`: for tests without one that does. */
  readonly slots: 'leased' | 'unlimited'
  /** Invocations of one account under way. Default 1,000, Lambda's. */
  readonly accountInFlightMax?: number
  /** How long a call waits for a sandbox before a region is asked, ms; less if the trip there is shorter. Default 20. */
  readonly queueWaitMaxMs?: number
  /** Calls that may wait so. Default 1,000. */
  readonly waitingMax?: number
}

const DEFAULT_SESSIONS = { place: { kind: 'site', site: 'site-1' }, dataDir: null, sessionMemoryMib: SESSIONS_MEMORY_MAX_BYTES / MIB, sessionStateMaxMib: SESSION_STATE_MAX_BYTES / MIB } as const
const SWEEP_PERIOD_MS = 10_000
const REPORT_PERIOD_MS = 10_000

type State = 'idle' | 'serving' | 'draining' | 'closed'

export class Pop {
  readonly registry = new Registry()
  readonly frontDoor: FrontDoor
  readonly dispatcher: PopDispatcher
  readonly hotSet: HotSet
  readonly images: ImageCache
  readonly sessions: SessionTable
  /** What a site of several hosts needs of this one for sessions. */
  readonly sessionParts: SiteSessionsParts
  readonly #options: PopOptions
  readonly #link: RegionSet
  readonly #versions: Versions
  readonly #residency: Residency
  readonly #reporter: Reporter
  readonly #slots: AccountSlots | null
  readonly #log: Log
  #state: State = 'idle'
  #cancelTimers: (() => void)[] = []

  constructor(options: PopOptions) {
    const { host, disk, clock, random } = options
    const log = options.log.child('pop')
    this.#options = options
    this.#log = log
    this.hotSet = new HotSet({ clock, budgetBytes: options.hotSetBytes ?? 128 * MIB, sharedBytes: () => this.images.sharedBytes, admitCount: options.admitCount ?? 3 })
    const table = new FunctionTable({ hotSet: this.hotSet })
    const link = new RegionSet({ names: options.regions, connect: options.connect, holds: () => this.#versions.holds(), clock, log })
    this.#link = link
    this.images = new ImageCache({ host, disk, link, keys: options.keys, clock, log, diskBudgetBytes: options.diskBudgetBytes ?? 4096 * MIB, rates: () => imageRates(this.hotSet, table) })
    this.#residency = new Residency({ hotSet: this.hotSet, table, images: this.images, clock, log, ...(options.hourWeight === undefined ? {} : { hourWeight: options.hourWeight }) })
    const sessionKeys = new SessionKeys()
    this.sessions = createSessionTable({
      ...(options.sessions ?? DEFAULT_SESSIONS), clock, log, keys: sessionKeys,
      buildOf: ({ account, functionName }, key) => table.find(account, functionName)?.builds.get(key)?.build ?? null,
    })
    this.#versions = new Versions({
      link, table, clock, random, log,
      onSessionKey: (account, key) => sessionKeys.learn(account, key),
      staleMaxMs: options.staleMaxMs ?? DEFAULT_STALE_MAX_MS,
      onGone: (entry, builds, fate) => this.#residency.gone(entry, builds, fate),
      onResolved: (entry, known) => this.#residency.resolved(entry, known),
    })
    this.#reporter = new Reporter({ regions: link, table, versions: this.#versions, residency: this.#residency, host, clock, log, epoch: randomUUID(), area: options.area ?? '' })
    this.#slots = options.slots === 'unlimited' ? null : new AccountSlots({ link, host, clock, log, staleMaxMs: options.staleMaxMs ?? DEFAULT_STALE_MAX_MS })
    const needs = new SessionNeeds({ versions: this.#versions, residency: this.#residency, host, clock })
    this.dispatcher = new PopDispatcher({
      host, link, table, versions: this.#versions, hotSet: this.hotSet, residency: this.#residency, sessions: this.sessions, needs, clock, log,
      policy: options.policy ?? DEFAULT_PLACE_POLICY,
      inFlightMax: options.inFlightMax ?? 10_000,
      localInFlightMax: options.localInFlightMax ?? 1_000,
      waitingMax: options.waitingMax ?? 1_000,
      queueWaitMaxMs: options.queueWaitMaxMs ?? 20,
      accountInFlightMax: options.accountInFlightMax ?? 1_000,
      slots: this.#slots,
    })
    this.sessionParts = { table, needs, host, sessions: this.sessions, clock }
    this.frontDoor = new FrontDoor({ ...options.http, tier: 'pop', dispatcher: options.wrapDispatcher?.(this.dispatcher) ?? this.dispatcher, clock, log, registry: this.registry })
    registerPopMetrics(this.registry, { dispatcher: this.dispatcher, table, hotSet: this.hotSet, images: this.images, host, link, slots: this.#slots })
    registerSessionMetrics(this.registry, 'pop', this.sessions)
  }

  /** What a trip to the nearest region in reach and back takes, ms. */
  get tripMs(): number {
    return this.#link.tripMs
  }

  /** Warms the sandboxes up, begins to connect, accepts requests. Rejects with what kept it from that; then it is closed. */
  async start(): Promise<{ readonly port: number; readonly adminPort: number | null }> {
    if (this.#state !== 'idle') throw new Error('a POP starts once')
    this.#state = 'serving'
    try {
      await this.#options.host.start()
      this.dispatcher.hostIsReady()
      this.#link.start()
      const ports = await this.frontDoor.listen()
      this.#repeat(SWEEP_PERIOD_MS, () => this.#residency.sweep())
      this.#repeat(REPORT_PERIOD_MS, () => this.#reporter.report())
      this.#log.info('serving', { port: ports.port })
      return ports
    } catch (error) {
      await this.close()
      throw error
    }
  }

  /** Accepts nothing new, finishes what is under way until the deadline, then stops. Idempotent. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#state === 'closed') return
    this.#state = 'draining'
    const { clock, host } = this.#options
    const deadlineAtMs = clock.monotonicMs() + timeoutMs
    const leftMs = (): number => Math.max(0, deadlineAtMs - clock.monotonicMs())
    await this.frontDoor.drain(timeoutMs)
    // Answers are out; what remains is `waitUntil` work, and the last report.
    await this.#reporter.report()
    await host.drain(leftMs())
    await this.#slots?.resign()
    await this.sessions.drain()
    await this.#link.drain(leftMs())
    await this.close()
  }

  /** Stops now. Idempotent. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    for (const cancel of this.#cancelTimers) cancel()
    await this.frontDoor.close()
    this.#link.close()
    this.#versions.close()
    this.dispatcher.close()
    this.#slots?.close()
    await this.#options.host.close()
    await this.#options.disk.close()
  }

  /** Each round begins a period after the last one has ended. */
  #repeat(periodMs: number, work: () => Promise<void>): void {
    const index = this.#cancelTimers.length
    const schedule = (): void => {
      if (this.#state === 'closed') return
      this.#cancelTimers[index] = this.#options.clock.after(periodMs, () => {
        work().catch((error: unknown) => this.#log.error('background work failed', { error: String(error) })).finally(schedule)
      })
    }
    schedule()
  }
}
