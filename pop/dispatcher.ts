/**
 * What stands behind a POP's front door: admission, then `place()`, then a run here or a stream to the region.
 *
 * D1: a call counts as in flight, for the host and for its account, from admission until its sink has heard the last.
 * D2: a decision is taken on facts at hand; nothing is waited for. What is found missing is fetched for later calls.
 * D3: a call is never run twice: it moves from here to a region only if the host refused it.
 */
import type { Clock } from '../shared/clock.ts'
import type { SlotPool } from '../shared/concurrency/slot-table.ts'
import { CodedError, ERRORS, toCodedError } from '../shared/errors.ts'
import type { Answer, AnswerSink, ControlCall, ControlReply, Dispatcher, InvokeCall } from '../shared/http/types.ts'
import type { Log } from '../shared/log.ts'
import type { HotSet } from '../shared/place/hot-set.ts'
import { FORWARD_REASONS, place, queueWaitMs, type ForwardReason, type PlaceDecision, type PlaceFacts, type PlacePolicy } from '../shared/place/place.ts'
import { wantedSession } from '../shared/sessions/session-request.ts'
import type { SessionTable } from '../shared/sessions/session-table.ts'
import type { SessionTicket } from '../shared/sessions/session-ticket.ts'
import type { Peers } from '../shared/peers/types.ts'
import type { InvocationResult, SandboxHost } from '../shared/worker/types.ts'
import type { AccountSlots } from './account-slots.ts'
import type { FunctionEntry, FunctionTable, KnownBuild } from './functions.ts'
import { HeldAnswer } from './held-answer.ts'
import { LocalRun, type LocalRunObserver } from './local-run.ts'
import type { OpenOptions, RegionLink } from './region-link.ts'
import { Relay, type RelayObserver } from './relay.ts'
import type { Residency } from './residency.ts'
import type { SessionNeeds } from './session-needs.ts'
import { SiblingRun } from './sibling-run.ts'
import { SiteSessionCall } from './site-session-call.ts'
import type { SiteSessions } from './site-sessions.ts'
import type { ProbeQuestion, SiteSearch } from './site-search.ts'
import type { Versions } from './versions.ts'
import { WaitingRoom } from './waiting-room.ts'

export interface PopDispatcherOptions {
  readonly host: SandboxHost
  readonly link: RegionLink
  readonly table: FunctionTable
  readonly versions: Versions
  readonly hotSet: HotSet
  readonly residency: Residency
  readonly sessions: SessionTable
  readonly needs: SessionNeeds
  readonly policy: PlacePolicy
  readonly clock: Clock
  readonly log: Log
  /** Invocations under way at this POP, forwarded ones included. ERR_QUEUE_FULL beyond. */
  readonly inFlightMax: number
  /** Of those, running or waiting on its own sandboxes; beyond it calls are forwarded. */
  readonly localInFlightMax: number
  /** Of those, waiting for a sandbox; beyond it calls are forwarded. 0: none waits if a region is in reach. */
  readonly waitingMax: number
  /** How long one waits for a sandbox before a region is asked, ms, if the trip there takes as long. */
  readonly queueWaitMaxMs: number
  /** Invocations of one account under way. ERR_ACCOUNT_LIMIT beyond. */
  readonly accountInFlightMax: number
  /** Calls that may run here at once and still leave one more for another host of the site. Default SITE_SLOTS. */
  readonly siteSlots?: number
  /** What of an account may run here; null: whatever the host takes. */
  readonly slots: AccountSlots | null
}

/** A function at the edge of capacity changes place with every call. */
const DECISION_LOG_PERIOD_MS = 1_000

/** As many as there are sandboxes by default. */
const SITE_SLOTS = 64

interface SiteOfDispatcher {
  readonly search: SiteSearch
  readonly peers: Peers
}

/** Of the calls of a function that is faster elsewhere, one in so many runs here to see whether it still is. */
const TRIAL_EVERY = 64
/** A region that takes so long to answer a ping may be gone: waiting here is better than waiting there. */
const TRIP_DOUBTFUL_MS = 1_000
const ONCE: OpenOptions = { idempotent: false }
const IDEMPOTENT: OpenOptions = { idempotent: true }
/** A call that cannot run here for these reasons may find a place at another host of the site. */
const SEARCHED: ReadonlySet<ForwardReason> = new Set(['not-hot', 'no-image', 'capacity'])
const DONE: Answer = { write() {}, writeEnd() {}, resume() {}, cancel() {} }

export class PopDispatcher implements Dispatcher {
  readonly #options: PopDispatcherOptions
  readonly #log: Log
  #inFlight = 0
  #localInFlight = 0
  #hostReady = false
  #site: SiteOfDispatcher | null = null
  #siteSessions: SiteSessions | null = null
  /** Written for each call, so that a decision makes no object. */
  readonly #facts: PlaceFacts
  readonly #waitingRoom: WaitingRoom
  readonly counts = { admissionRefused: 0, shedToRegion: 0, shed: 0, sibling: 0 }
  readonly forwards: Readonly<Record<ForwardReason, { count: number }>>

  constructor(options: PopDispatcherOptions) {
    this.#options = options
    this.#log = options.log.child('dispatcher')
    this.#facts = {
      hot: false, versionKnown: false, imageHere: false, capable: true, declaredCpuMs: 0, learnedCpuUs: 0, localUs: 0, regionUs: 0, trial: false,
      sensitivity: 'normal', inFlight: 0, inFlightMax: options.localInFlightMax, regionInReach: false,
      waiting: 0, waitingMax: options.waitingMax,
    }
    const { clock, host, link, queueWaitMaxMs } = options
    this.#waitingRoom = new WaitingRoom({
      clock, host,
      // A session goes nowhere else: its sink is another one.
      withdraw: (sink) => sink instanceof LocalRun && sink.withdraw(),
      waitMs: () => queueWaitMs(link.tripMs, queueWaitMaxMs),
      regionInReach: () => link.state.kind === 'open' && link.tripMs < TRIP_DOUBTFUL_MS,
    })
    this.forwards = Object.fromEntries(FORWARD_REASONS.map((reason) => [reason, { count: 0 }])) as Record<ForwardReason, { count: number }>
  }

  get inFlight(): number {
    return this.#inFlight
  }

  get localInFlight(): number {
    return this.#localInFlight
  }

  /** Calls that had to wait for a sandbox, and those of them whose wait was ended. */
  get waits(): Readonly<WaitingRoom['counts']> {
    return this.#waitingRoom.counts
  }

  close(): void {
    this.#waitingRoom.close()
  }

  /** The sandboxes are warmed up. */
  hostIsReady(): void {
    this.#hostReady = true
  }

  invoke(call: InvokeCall, sink: AnswerSink): Answer {
    const { table, hotSet, versions, residency, sessions, host, link, policy } = this.#options
    const entry = table.get(call.account, call.functionName)
    entry.counts.arrivals++
    const earned = hotSet.arrived(entry.hot)
    const refusal = this.#admission(entry)
    if (refusal !== null) {
      this.counts.admissionRefused++
      entry.counts.failed++
      sink.fail(refusal, null)
      return DONE
    }
    this.#inFlight++
    entry.account.inFlight++
    const known = versions.resolve(entry, call.qualifier)
    if (known !== null && (earned || entry.hot.member)) residency.consider(entry, known)
    const facts = this.#facts
    facts.hot = entry.hot.member
    facts.versionKnown = known !== null
    facts.imageHere = known !== null && host.hasImage(known.build.imageId)
    facts.capable = known?.capable ?? true
    facts.declaredCpuMs = known?.build.limits.cpuMs ?? 0
    facts.learnedCpuUs = entry.cpu.value
    facts.localUs = entry.localTime.value
    facts.regionUs = entry.regionTime.value
    facts.trial = entry.counts.arrivals % TRIAL_EVERY === 0
    facts.sensitivity = entry.traits.latencySensitivity
    facts.inFlight = this.#localInFlight
    facts.regionInReach = link.state.kind === 'open'
    facts.waiting = host.queued
    const decision = place(facts, policy)
    if (decision !== entry.lastDecision) this.#logDecision(entry, decision, call.requestId)
    if (known !== null && known.build.traits.sessions !== null) return this.#inSession(call, sink, entry, known, decision)
    if (decision.kind === 'local' && known !== null) return this.#admitHere(call, sink, entry, known)
    if (known === null && this.#siteSessions?.mayBear(call.headers) === true) return this.#whenKnown(call, sink, entry, decision)
    if (known === null && sessions.rests(call.account, call.functionName, call.headers)) return this.#whenReady(call, sink, entry, decision)
    const reason = decision.kind === 'forward' ? decision.reason : 'version-unknown'
    // By the time its image is here there is a slot to run it.
    if (reason === 'no-image') this.#options.slots?.poolOf(entry).expect()
    if (this.#site !== null && SEARCHED.has(reason) && this.#site.search.isWorthIt()) return this.#search(this.#site, call, sink, entry, reason)
    return this.#forward(call, sink, entry, reason)
  }

  async control(call: ControlCall): Promise<ControlReply> {
    if (this.#options.link.state.kind !== 'open') throw new CodedError('ERR_REGION_UNREACHABLE', ['the control plane'])
    return this.#options.link.control(call)
  }

  readiness(): { ready: boolean; checks: Record<string, boolean> } {
    const region = this.#options.link.state.kind === 'open'
    // Cut off, it is of use as long as it holds something.
    const useful = region || this.#options.hotSet.memberCount > 0
    return { ready: this.#hostReady && useful, checks: { sandboxes: this.#hostReady, region } }
  }

  /** Other hosts of the same site are asked before a call leaves it. */
  attachSite(search: SiteSearch, peers: Peers): void {
    this.#site = { search, peers }
  }

  /** Sessions are on the site's ring from now on. To be called before the first call. */
  attachSessions(sessions: SiteSessions): void {
    this.#siteSessions = sessions
  }

  /** A call of a session that is this host's own, as far as another one of the site knows. */
  runSessionForSite(call: InvokeCall, sink: AnswerSink, id: string): Answer {
    const entry = this.#options.table.get(call.account, call.functionName)
    this.#inFlight++
    entry.account.inFlight++
    return this.#ownSession(call, sink, entry, id, true)
  }

  /** For another host of the site: a build that could run here at once. If there is none, a final question counts as a call that came here. */
  idleFor({ account, functionName, qualifier, final }: ProbeQuestion, reserved: number): KnownBuild | null {
    const { table, versions, host, hotSet, residency, siteSlots = SITE_SLOTS } = this.#options
    const entry = final ? table.get(account, functionName) : table.find(account, functionName)
    if (entry === undefined) return null
    const known = versions.resolve(entry, qualifier)
    // Sessions have their own way.
    if (known !== null && known.build.traits.sessions !== null) return null
    if (known !== null && known.capable && host.hasImage(known.build.imageId) && this.#hostReady && host.queued === 0 && this.#localInFlight + reserved < siteSlots) return known
    if (!final) return null
    const earned = hotSet.arrived(entry.hot)
    if (known === null) versions.learn(entry, qualifier)
    else if (earned || entry.hot.member) residency.consider(entry, known)
    return null
  }

  /** A call of another host of the site, for which room was kept here. */
  runForSite(call: InvokeCall, sink: AnswerSink, known: KnownBuild): Answer {
    const entry = this.#options.table.get(call.account, call.functionName)
    const pool = this.#options.slots?.poolOf(entry) ?? null
    if (pool !== null && !pool.enter()) {
      sink.fail(new CodedError('ERR_NO_SANDBOX', [0]), null)
      return DONE
    }
    this.#inFlight++
    entry.account.inFlight++
    return this.#runHere(call, sink, entry, known, pool, null)
  }

  #search({ search, peers }: SiteOfDispatcher, call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, reason: ForwardReason): Answer {
    const { clock } = this.#options
    // What waits is this POP's own: the front door uses its buffers again.
    const own = { ...call, body: call.body === null ? null : new Uint8Array(call.body) }
    const held = this.#hold(sink, entry, true)
    const leftMs = call.deadlineAtMs - clock.nowMs()
    // It never rejects.
    void search.find(call.account, call.functionName, call.qualifier, clock.monotonicMs() + leftMs).then((found) => {
      if (found === null) held.place(() => this.#forward(own, sink, entry, reason))
      else if (!held.isHeld) search.release(found)
      else {
        held.place(() => new SiblingRun(own, sink, {
          peers, ...found, reason: 'sibling', nowMs: clock.nowMs(),
          onRefused: (refused) => this.#forward(refused, sink, entry, reason),
          onOver: (result) => {
            this.counts.sibling++
            this.#over(entry, result)
          },
        }))
      }
    })
    return held
  }

  #admission(entry: FunctionEntry): CodedError | null {
    const { inFlightMax, accountInFlightMax } = this.#options
    if (this.#inFlight >= inFlightMax) return new CodedError('ERR_QUEUE_FULL', [inFlightMax])
    if (entry.account.inFlight >= accountInFlightMax) return new CodedError('ERR_ACCOUNT_LIMIT', [accountInFlightMax])
    return null
  }

  /** Without a slot at hand the region counts it, and knows whether there is one. */
  #admitHere(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, known: KnownBuild, ticket: SessionTicket | null = null): Answer {
    const pool = this.#options.slots?.poolOf(entry) ?? null
    if (pool !== null && ticket !== null && this.#options.sessions.holds(ticket)) {
      // It cannot go on elsewhere, and may wait for its turn: the slot is taken when that has come.
      ticket.gate = pool
      return this.#runHere(call, sink, entry, known, null, ticket)
    }
    if (pool === null || pool.enter()) return this.#runHere(call, sink, entry, known, pool, ticket)
    pool.functionName = entry.name
    if (this.#options.link.state.kind === 'open') return this.#forward(call, sink, entry, 'limit')
    this.#over(entry, null)
    this.counts.admissionRefused++
    sink.fail(pool.pool === null ? new CodedError('ERR_ACCOUNT_LIMIT', [pool.lease.held]) : new CodedError('ERR_FUNCTION_LIMIT', [pool.pool, pool.lease.held]), null)
    return DONE
  }

  /** A call of a function with sessions: a session that is here runs here, wherever else there would be room for it. */
  #inSession(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, known: KnownBuild, decision: PlaceDecision, image: 'wanted' | 'tried' = 'wanted'): Answer {
    const { host, sessions } = this.#options
    const site = this.#siteSessions
    let ticket: SessionTicket | null
    try {
      if (site !== null && known.build.traits.sessions !== null) {
        const wanted = wantedSession(known.build.traits.sessions, call.headers)
        if (wanted.kind === 'named' && site.isOurs(wanted.id)) return this.#onRing(site, call, sink, entry, wanted.id)
        if (wanted.kind !== 'none' && !site.mayBegin) return this.#forward(call, sink, entry, 'session')
      }
      ticket = sessions.ticket({ kind: call.invocationKind, method: call.method, url: call.url, headers: call.headers }, known.build)
    } catch (error) {
      sink.fail(toCodedError(error), null)
      this.#over(entry, null)
      return DONE
    }
    if (ticket?.options.regional === true) return this.#forward(call, sink, entry, 'session')
    const pinned = ticket === null ? known : (entry.builds.get(ticket.build.key) ?? known)
    const isHeld = ticket !== null && sessions.holds(ticket)
    if (decision.kind === 'local' || (isHeld && host.hasImage(pinned.build.imageId))) return this.#admitHere(call, sink, entry, pinned, ticket)
    return isHeld && image === 'wanted' ? this.#whenReady(call, sink, entry, decision) : this.#forward(call, sink, entry, decision.reason)
  }

  /** A head bears what looks like a session of this site, and what the function is has not been told here yet. */
  #whenKnown(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, decision: PlaceDecision): Answer {
    return this.#later(call, sink, entry, this.#options.needs.known(entry, call.qualifier), (own, known) => this.#inSessionIfAny(own, sink, entry, known, decision, 'wanted'))
  }

  /** A session is here, and what it needs is not. What cannot be had in time is a reason to begin anew in the region. */
  #whenReady(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, decision: PlaceDecision): Answer {
    return this.#later(call, sink, entry, this.#options.needs.ready(entry, call.qualifier), (own, known) => this.#inSessionIfAny(own, sink, entry, known, decision, 'tried'))
  }

  #inSessionIfAny(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, known: KnownBuild | null, decision: PlaceDecision, image: 'wanted' | 'tried'): Answer {
    if (known !== null && known.build.traits.sessions !== null) return this.#inSession(call, sink, entry, known, decision, image)
    return this.#forward(call, sink, entry, decision.kind === 'forward' ? decision.reason : 'version-unknown')
  }

  /** `ready` never rejects. */
  #later(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, ready: Promise<KnownBuild | null>, run: (own: InvokeCall, known: KnownBuild | null) => Answer): Answer {
    // The front door uses its buffers again once this call has returned.
    const own = { ...call, body: call.body === null ? null : new Uint8Array(call.body) }
    const held = this.#hold(sink, entry, true)
    void ready.then((known) => held.place(() => run(own, known)))
    return held
  }

  /** A call of a session of this site, whichever host has it. */
  #onRing(site: SiteSessions, call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, id: string): Answer {
    const { clock } = this.#options
    const key = { account: call.account, functionName: call.functionName, id }
    return new SiteSessionCall(call, sink, {
      clock, onOver: (result) => this.#over(entry, result),
      attempt: (own, to, code) => {
        if (code === 'ERR_RING_MOVED') site.ringMoved()
        const owner = site.ownerOf(key)
        if (owner === null) return null
        if (owner.isSelf) return this.#ownSession(own, to, entry, id, false)
        this.counts.sibling++
        return new SiblingRun(own, to, {
          peers: site.peers, memberId: owner.memberId, reservation: null, session: { id, ring: owner.ring }, reason: 'session', nowMs: clock.nowMs(),
          onRefused: null, onOver: () => undefined,
        })
      },
    })
  }

  /** The session is this host's; it may never have been here. `counts`: the call is over for this host's books when it is over here. */
  #ownSession(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, id: string, counts: boolean): Answer {
    const { host, versions } = this.#options
    const known = versions.resolve(entry, call.qualifier)
    if (known !== null && host.hasImage(known.build.imageId)) return this.#runOwn(call, sink, entry, known, id, counts)
    const own = { ...call, body: call.body === null ? null : new Uint8Array(call.body) }
    const held = this.#hold(sink, entry, counts)
    // It never rejects.
    void this.#options.needs.ready(entry, call.qualifier).then((ready) => {
      held.place(() => {
        if (ready !== null) return this.#runOwn(own, sink, entry, ready, id, counts)
        if (counts) this.#over(entry, null)
        sink.fail(new CodedError('ERR_NO_SANDBOX', [1]), null)
        return DONE
      })
    })
    return held
  }

  #runOwn(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, known: KnownBuild, id: string, counts: boolean): Answer {
    const { sessions, slots } = this.#options
    const request = { kind: call.invocationKind, method: call.method, url: call.url, headers: call.headers }
    const named = sessions.ticket(request, known.build)
    // The version here may read its sessions from elsewhere than the one that the sender knows.
    const ticket = named?.key.id === id ? named : sessions.ticket(request, known.build, id)
    // It cannot go on elsewhere, and may wait for its turn: the slot is taken when that has come.
    if (ticket !== null) ticket.gate = slots?.poolOf(entry) ?? null
    return this.#runHere(call, sink, entry, ticket === null ? known : (entry.builds.get(ticket.build.key) ?? known), null, ticket, counts)
  }

  #hold(sink: AnswerSink, entry: FunctionEntry, counts: boolean): HeldAnswer {
    return new HeldAnswer(sink, () => {
      if (counts) this.#over(entry, null)
      sink.fail(new CodedError('ERR_CANCELED'), null)
    })
  }

  /** `counts`: nobody else says when the call is over. */
  #runHere(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, known: KnownBuild, pool: SlotPool | null, ticket: SessionTicket | null, counts = true): Answer {
    this.#localInFlight++
    const observer: LocalRunObserver = {
      onShed: (error) => {
        // A session whose id was made by a ring that is old by now can begin elsewhere: nobody knows that id.
        const movable = ticket === null || (counts && ticket.options.fresh && error.code === 'ERR_RING_MOVED')
        if (this.#options.link.state.kind !== 'open' || !movable) {
          this.counts.shed++
          return null
        }
        this.counts.shedToRegion++
        this.#localInFlight--
        pool?.leave()
        return this.#forward(call, sink, entry, ticket !== null ? 'session' : error.code === 'ERR_INTERNAL' ? 'no-image' : 'capacity')
      },
      onOver: (result) => {
        this.#localInFlight--
        pool?.leave()
        entry.counts.local++
        entry.counts.localUs += result.wallUs
        // What never ran says nothing of how long it takes.
        if (result.outcome === 'ok') entry.localTime.record(result.wallUs)
        if (counts) this.#over(entry, result)
      },
    }
    const { host, versions } = this.#options
    const run = new LocalRun(call, sink, known, versions.cutOff ? 'stale' : 'current', observer, ticket)
    const answer = run.start(host)
    // Something waits in the host's queue, so this does, being the last. A session goes nowhere else.
    if (host.queued > 0 && answer === run && ticket === null) this.#waitingRoom.watch()
    return answer
  }

  #forward(call: InvokeCall, sink: AnswerSink, entry: FunctionEntry, reason: ForwardReason): Answer {
    this.forwards[reason].count++
    const { clock } = this.#options
    const sentAtMs = clock.monotonicMs()
    const observer: RelayObserver = {
      onHead: () => this.#options.versions.learn(entry, call.qualifier),
      onOver: (result) => {
        if (result !== null) this.#options.versions.learn(entry, call.qualifier)
        entry.counts.forwarded++
        const tookUs = Math.round((clock.monotonicMs() - sentAtMs) * 1000)
        entry.counts.forwardedUs += tookUs
        if (result?.outcome === 'ok') entry.regionTime.record(tookUs)
        this.#over(entry, result)
      },
    }
    return new Relay(this.#options.link, call, sink, reason, clock.nowMs(), observer, entry.traits.idempotent ? IDEMPOTENT : ONCE)
  }

  /** D1. */
  #over(entry: FunctionEntry, result: InvocationResult | null): void {
    this.#inFlight--
    entry.account.inFlight--
    if (result === null || (result.error !== null && ERRORS[result.error.code].fault !== 'client')) entry.counts.failed++
    if (result === null) return
    entry.counts.cpuUs += result.cpuUs
    entry.cpu.record(result.cpuUs)
  }

  /** Every decision is the function's last one until this says otherwise: the log tells them all without a line for each call. */
  #logDecision(entry: FunctionEntry, decision: PlaceDecision, requestId: string): void {
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs - entry.decisionLoggedAtMs < DECISION_LOG_PERIOD_MS) return
    entry.decisionLoggedAtMs = nowMs
    entry.lastDecision = decision
    this.#log.info('placement', { function: entry.hot.key, place: decision.kind, reason: decision.kind === 'forward' ? decision.reason : null, requestId })
  }
}

