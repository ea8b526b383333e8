/**
 * The sessions of one process: their machines at rest, and whose turn it is.
 *
 *   a request's ticket -> queue of its session -> its turn -> run with the machine -> the machine is put back -> next
 *
 * T1  One request of a session runs at a time; the others wait in the order in which they came, SESSION_WAITING_MAX at most.
 * T2  A machine is in one place: in memory here, in a file, or with another member. Whoever takes it leaves nothing behind.
 * T3  A session goes on with what its last request left: also if that threw. If the guest was stopped in the midst of
 *     something the session ends; if the client went away, or nothing ran, the machine of before stays.
 * T4  Memory is bounded by the budget: the session used least recently goes to disk or ends.
 * T5  An older state is never taken for a newer one: sequence numbers begin with the time and grow with every request;
 *     what was last known of a session that went away is remembered.
 */
import type { BuildKey } from '../brand.ts'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import { SESSION_OVERHEAD_BYTES, SESSION_WAITING_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import type { BuildSpec, Invocation, InvocationInput, InvocationResult, InvocationSink } from '../worker/types.ts'
import { EndedSessions } from './ended-sessions.ts'
import type { SessionDisk } from './session-disk.ts'
import { mintedIdsIn, mintSessionId, placeOfSession, type SessionPlace } from './session-id.ts'
import { endsSession, wantedSession, withSessionHeader } from './session-request.ts'
import { endOf, SessionRun, type SessionHost } from './session-run.ts'
import { openSession, sealSession, type SealKeys } from './session-seal.ts'
import { SessionTicket } from './session-ticket.ts'
import { parseSessionName, sessionName, type SessionKey, type SessionOwnership, type SessionReason } from './types.ts'

export interface SessionTableOptions {
  /** What minted ids say. */
  readonly place: SessionPlace
  readonly clock: Clock
  readonly log: Log
  readonly keys: SealKeys
  /** Null: what has no room in memory ends. */
  readonly disk: SessionDisk | null
  readonly stateMaxBytes: number
  readonly memoryMaxBytes: number
  readonly perAccountMax: number
  /** The build of this key, as long as some version of the function names it. */
  readonly buildOf: (session: SessionKey, buildKey: BuildKey) => BuildSpec | null
}

/** What of a request says which session it is for. */
export type SessionRequest = Pick<InvocationInput, 'kind' | 'method' | 'url' | 'headers'>

export interface Session {
  readonly key: SessionKey
  readonly name: string
  build: BuildSpec
  /** Null: nothing is kept yet, or any more. */
  state: Uint8Array | null
  sequence: number
  createdAtMs: number
  usedAtMs: number
  /** Whose turn it is; also while it is found out where the machine is. */
  running: SessionRun | null
  readonly waiting: SessionRun[]
  /** Why the next request begins anew. */
  reason: SessionReason | null
}

/** A member of a large ring owns one id in some hundred. */
const MINT_TRIES_MAX = 2_000
/** A request that has its turn and no slot tries for two seconds. */
const GATE_RETRY_MS = 20
const GATE_TRIES_MAX = 100
const SWEEP_MS = 1_000
/** While requests wait their deadlines are looked at more often. */
const SWEEP_WAITING_MS = 100

export class SessionTable {
  readonly #options: SessionTableOptions
  readonly #log: Log
  /** By name, least recently used first. */
  readonly #sessions = new Map<string, Session>()
  readonly #perAccount = new Map<string, number>()
  readonly #ended = new EndedSessions()
  #ownership: SessionOwnership | null = null
  #bytes = 0
  #waitingCount = 0
  #turns = 0
  #cancelSweep: (() => void) | null = null
  #sweepPeriodMs = 0
  #closed = false
  readonly counts = { begun: 0, resumed: 0, refused: 0, endedBy: new Map<SessionReason, number>() }

  constructor(options: SessionTableOptions) {
    this.#options = options
    this.#log = options.log.child('sessions')
  }

  /** Sessions in memory. */
  get live(): number {
    return this.#sessions.size
  }

  /** Of machines at rest in memory. */
  get bytes(): number {
    return this.#bytes
  }

  get onDisk(): number {
    return this.#options.disk?.count ?? 0
  }

  get waiting(): number {
    return this.#waitingCount
  }

  /** With several members. To be set before the first request. */
  set ownership(ownership: SessionOwnership | null) {
    this.#ownership = ownership
  }

  /**
   * The session that a request is for; null: none, it gets a fresh machine. `given`: its id as somebody before us found it.
   * Throws ERR_SESSION_ID.
   */
  ticket(request: SessionRequest, build: BuildSpec, given: string | null = null): SessionTicket | null {
    const { sessions: settings } = build.traits
    if (settings === null) return null
    const wanted = given === null ? wantedSession(settings, request.headers) : ({ kind: 'named', id: given, by: settings.header === null ? 'cookie' : 'header' } as const)
    // An event comes from a program, which says what it wants.
    if (wanted.kind === 'none' || (wanted.kind === 'new' && wanted.by === 'cookie' && request.kind === 'event')) return null
    const { account, functionName } = build
    const shared = { settings, by: wanted.by, ends: endsSession(request.method, request.url), url: request.url }
    const fresh = (reason: SessionReason | null): SessionTicket => new SessionTicket(this, { ...shared, key: this.#mint(account, functionName), fresh: true, regional: false, reason, build })
    if (wanted.kind === 'new') return fresh(null)
    const place = placeOfSession(wanted.id)
    const key = { account, functionName, id: wanted.id }
    // A POP keeps what it began; what clients name themselves has to mean the same at every POP.
    if (this.#options.place.kind === 'site' && place?.kind !== 'site') return new SessionTicket(this, { ...shared, key, fresh: false, regional: true, reason: null, build })
    if (place !== null && !this.#isHere(place)) return fresh('moved')
    const session = this.#current(sessionName(key))
    const known = session === null || session.state === null ? build : (this.#liveBuild(session) ?? build)
    return new SessionTicket(this, { ...shared, key, fresh: false, regional: false, reason: null, build: known })
  }

  /** Whether the machine of a request's session is in this process. */
  holds(ticket: SessionTicket): boolean {
    const name = sessionName(ticket.key)
    return this.#sessions.has(name) || (this.#options.disk?.has(name) ?? false)
  }

  /** Whether a head bears the id of a session of this function that is on this process's disk: for who does not know yet by what name ids come. */
  rests(account: string, functionName: string, headers: string): boolean {
    const { disk, place } = this.#options
    if (disk === null || disk.count === 0) return false
    return mintedIdsIn(headers, place).some((id) => disk.has(sessionName({ account, functionName, id })))
  }

  invoke(ticket: SessionTicket, host: SessionHost, input: InvocationInput, sink: InvocationSink): Invocation {
    const name = sessionName(ticket.key)
    let session = this.#current(name)
    // What it waits for may take longer than the caller keeps the body.
    const run = new SessionRun(this, ticket, host, { ...input, body: input.body === null ? null : new Uint8Array(input.body) }, sink)
    if (session === null && !ticket.isFresh && !this.#mayBeElsewhere(name)) session = this.#makeAnew(ticket, input.build)
    session ??= this.#make(ticket.key, input.build, ticket.options.reason)
    if (session.waiting.length >= SESSION_WAITING_MAX) {
      this.counts.refused++
      run.refuse(new CodedError('ERR_SESSION_BUSY', [SESSION_WAITING_MAX]))
      return run
    }
    run.session = session
    session.waiting.push(run)
    this.#waitingCount++
    this.#next(session)
    this.#sweepLater()
    return run
  }

  /** A request that waits is not wanted any more. */
  leave(run: SessionRun): void {
    const queued = this.#unqueue(run)
    run.refuse(new CodedError('ERR_CANCELED'), 'canceled')
    if (queued && run.session !== null) this.#rest(run.session)
  }

  /** T3. A request has run; its answer leaves when this returns. */
  ended(run: SessionRun, result: InvocationResult): void {
    const { session } = run
    if (session?.running !== run) return
    const reason = endOf(run, result)
    if (result.machine?.kind === 'kept') {
      this.#keep(session, result.machine.state)
      session.sequence = Math.max(session.sequence + 1, Math.floor(this.#options.clock.nowMs()))
    }
    if (reason !== null) {
      this.#endWith(session, reason)
      if (reason !== 'closed') this.#log.warn('a session has ended', { function: session.key.functionName, reason, requestId: run.input.requestId })
      if (!run.headSent) run.ticket.tell('ended', reason)
    } else if (session.state === null) run.ticket.retract()
    this.#release(session, run)
  }

  // -- where machines go

  /** The names of all sessions here that have a machine. */
  keys(): string[] {
    return [...this.#sessions.values()].filter(({ state }) => state !== null).map(({ name }) => name)
  }

  /** T2: a session as it travels; nobody has it until `adopt` somewhere. Null: there is none, or it stays busy until the time is over. */
  async take(name: string, timeoutMs: number): Promise<Uint8Array | null> {
    const { clock } = this.#options
    const deadlineMs = clock.monotonicMs() + timeoutMs
    while (this.#isBusy(name) && clock.monotonicMs() < deadlineMs) await new Promise<void>((resolve) => clock.after(SWEEP_WAITING_MS / 4, resolve))
    if (this.#isBusy(name)) return null
    const sealed = this.pack(name)
    if (sealed !== null) this.forget(name, 'moved')
    return sealed
  }

  /** The same, to be given away by `forget` later; the session must be at rest. Null: there is none, or it cannot be sealed. */
  pack(name: string): Uint8Array | null {
    const session = this.#sessions.get(name)
    if (session === undefined || session.state === null || this.#isBusy(name)) return null
    const { build, sequence, createdAtMs, usedAtMs, state } = session
    return sealSession(this.#options.keys, session.key, { buildKey: build.key, imageId: build.imageId, sequence, createdAtMs, usedAtMs, state })
  }

  /** False: it is no session of this name, or an older state of one (T5). */
  adopt(name: string, sealed: Uint8Array): boolean {
    const key = parseSessionName(name)
    if (key === null) return false
    try {
      return this.#adopt(key, name, sealed)
    } catch (error) {
      this.#log.warn('a session that came here cannot be used', { account: key.account, function: key.functionName, reason: toCodedError(error).message })
      return false
    }
  }

  /** It is another member's by now, or nobody's. */
  forget(name: string, reason: SessionReason): void {
    const session = this.#sessions.get(name)
    if (session === undefined) return
    this.#ended.add(name, reason, session.sequence)
    this.#drop(session)
    this.#count(reason)
    // They end as requests of a session that is no more.
    const { running } = session
    session.running = null
    running?.cancel()
    for (const run of session.waiting.splice(0)) {
      this.#waitingCount--
      run.refuse(new CodedError('ERR_SESSION_MOVED'))
    }
  }

  /** Everything here is void: another member may have begun to serve it. */
  forgetAll(): void {
    for (const name of [...this.#sessions.keys()]) this.forget(name, 'lost')
  }

  /** Writes machines at rest to disk, as far as there is one, and ends the rest. Requests should have ended before. */
  async drain(): Promise<void> {
    this.#closed = true
    this.#cancelSweep?.()
    for (const session of [...this.#sessions.values()]) {
      for (const run of session.waiting.filter((each) => this.#unqueue(each))) run.refuse(new CodedError('ERR_DRAINING'))
      if (session.running === null && session.state !== null) this.#evict(session)
    }
    await this.#options.disk?.settled()
  }

  // -- turns

  /** T1. */
  #next(session: Session): void {
    if (session.running !== null) return
    const run = session.waiting.shift()
    if (run === undefined) {
      this.#rest(session)
      return
    }
    this.#waitingCount--
    session.running = run
    if (this.#ownership === null && !(session.state === null && this.#onDisk(session))) {
      this.#begin(session, run)
      return
    }
    void this.#obtain(session, run).then(
      () => {
        if (session.running === run && run.isWaiting) this.#begin(session, run)
        else this.#release(session, run)
      },
      (error: unknown) => {
        run.refuse(toCodedError(error))
        this.#release(session, run)
      },
    )
  }

  /** Finds the machine, wherever it is. */
  async #obtain(session: Session, run: SessionRun): Promise<void> {
    const { name } = session
    const ownership = this.#ownership
    run.turn = `${run.input.requestId}/${++this.#turns}`
    await ownership?.acquire({
      name, requestId: run.turn, fresh: run.ticket.isFresh, deadlineAtMs: run.input.deadlineAtMs,
      stop: () => this.forget(name, 'lost'),
    })
    run.owned = ownership !== null
    if (session.state !== null || !this.#onDisk(session)) return
    const sealed = (await this.#options.disk?.take(name)) ?? null
    if (sealed === null || !this.adopt(name, sealed)) session.reason = 'lost'
  }

  #begin(session: Session, run: SessionRun): void {
    const { ticket, input } = run
    const nowMs = this.#options.clock.nowMs()
    if (session.state !== null && this.#isOver(session, nowMs)) this.#endWith(session, 'expired')
    if (session.state !== null && (this.#liveBuild(session) === null || !run.host.hasImage(session.build.imageId))) this.#endWith(session, 'replaced')
    // Nobody has it, wherever was looked.
    if (session.state === null && session.reason === null && !ticket.isFresh && !ticket.options.ends) {
      if (placeOfSession(session.key.id) !== null) return this.#beginElsewhere(session, run)
      session.reason = this.#ended.reasonOf(session.name) ?? 'unknown'
    }
    if (ticket.options.ends) {
      this.#endWith(session, 'closed')
      ticket.tell('ended', 'closed')
      run.answerEnded()
      this.#release(session, run)
      return
    }
    if (ticket.gate?.enter() === false) return this.#waitAtGate(session, run)
    if (session.state === null) {
      this.counts.begun++
      session.build = input.build
      session.createdAtMs = nowMs
      ticket.tell('new', session.reason)
      session.reason = null
    } else {
      this.counts.resumed++
      ticket.tell('resumed', null)
    }
    session.usedAtMs = nowMs
    // Without the header a function could not tell its sessions apart.
    run.begin({ ...input, build: session.build, headers: withSessionHeader(input.headers, session.key.id), session: { state: session.state, keepMaxBytes: this.#options.stateMaxBytes } })
  }

  /** Slots come back within milliseconds, or are asked for meanwhile. */
  #waitAtGate(session: Session, run: SessionRun): void {
    if (++run.turnedAway > GATE_TRIES_MAX || run.input.deadlineAtMs <= this.#options.clock.nowMs()) {
      run.refuse(new CodedError('ERR_ACCOUNT_LIMIT', [0]))
      this.#release(session, run)
      return
    }
    this.#options.clock.after(GATE_RETRY_MS, () => {
      if (session.running === run && run.isWaiting) this.#begin(session, run)
      else this.#release(session, run)
    })
  }

  /** Under an id that is made for it. */
  #beginElsewhere(session: Session, run: SessionRun): void {
    const renewed = this.#makeAnew(run.ticket, run.input.build)
    run.session = renewed
    renewed.waiting.push(run)
    this.#waitingCount++
    this.#release(session, run)
    this.#next(renewed)
  }

  /** An id of ours that nobody knows is not made known: whoever sends it may have it from somebody else. */
  #makeAnew(ticket: SessionTicket, build: BuildSpec): Session {
    const reason = this.#ended.reasonOf(sessionName(ticket.key)) ?? 'unknown'
    if (placeOfSession(ticket.key.id) !== null) ticket.rename(this.#mint(ticket.key.account, ticket.key.functionName))
    return this.#make(ticket.key, build, reason)
  }

  #release(session: Session, run: SessionRun): void {
    const mine = session.running === run
    if (mine) session.running = null
    if (run.owned) {
      run.owned = false
      this.#ownership?.release(run.turn, session.name, session.state === null ? 'closed' : 'kept')
    }
    if (!mine) return
    session.usedAtMs = this.#options.clock.nowMs()
    this.#next(session)
  }

  /** Nobody waits: what has no machine is no session. */
  #rest(session: Session): void {
    if (session.running !== null || session.waiting.length > 0 || !this.#isListed(session)) return
    if (session.state === null) {
      // One that never began has nothing to be remembered.
      if (session.reason !== null) this.#ended.add(session.name, session.reason, session.sequence)
      this.#drop(session)
      return
    }
    // Used last.
    this.#sessions.delete(session.name)
    this.#sessions.set(session.name, session)
    this.#makeRoom(session)
  }

  #unqueue(run: SessionRun): boolean {
    const at = run.session?.waiting.indexOf(run) ?? -1
    if (at === -1) return false
    run.session?.waiting.splice(at, 1)
    this.#waitingCount--
    return true
  }

  // -- the table

  /** What is here of a session, unless it has expired at rest. */
  #current(name: string): Session | null {
    const session = this.#sessions.get(name)
    if (session === undefined) return null
    if (session.running !== null || session.waiting.length > 0 || !this.#isOver(session, this.#options.clock.nowMs())) return session
    this.#expire(session)
    return null
  }

  #make(key: SessionKey, build: BuildSpec, reason: SessionReason | null): Session {
    const nowMs = this.#options.clock.nowMs()
    const name = sessionName(key)
    const session: Session = {
      key, name, build, state: null, sequence: Math.max(Math.floor(nowMs), this.#ended.leastSequence(name)), createdAtMs: nowMs, usedAtMs: nowMs, running: null, waiting: [], reason,
    }
    this.#sessions.set(session.name, session)
    this.#perAccount.set(key.account, (this.#perAccount.get(key.account) ?? 0) + 1)
    this.#bytes += SESSION_OVERHEAD_BYTES
    return session
  }

  #drop(session: Session): void {
    if (!this.#isListed(session)) return
    this.#keep(session, null)
    this.#sessions.delete(session.name)
    this.#bytes -= SESSION_OVERHEAD_BYTES
    const left = (this.#perAccount.get(session.key.account) ?? 1) - 1
    if (left === 0) this.#perAccount.delete(session.key.account)
    else this.#perAccount.set(session.key.account, left)
  }

  #isListed(session: Session): boolean {
    return this.#sessions.get(session.name) === session
  }

  #keep(session: Session, state: Uint8Array | null): void {
    if (this.#isListed(session)) this.#bytes += (state?.length ?? 0) - (session.state?.length ?? 0)
    session.state = state
  }

  /** Those that wait begin anew, under the same id: they hold it. */
  #endWith(session: Session, reason: SessionReason): void {
    if (session.state !== null || reason !== 'closed') this.#count(reason)
    this.#keep(session, null)
    session.reason = reason
  }

  #expire(session: Session): void {
    this.#endWith(session, 'expired')
    this.#ownership?.discard(session.name)
    this.#rest(session)
  }

  #count(reason: SessionReason): void {
    this.counts.endedBy.set(reason, (this.counts.endedBy.get(reason) ?? 0) + 1)
  }

  #isOver({ build, createdAtMs, usedAtMs }: Session, nowMs: number): boolean {
    const { sessions: settings } = build.traits
    return settings === null || nowMs - usedAtMs > settings.idleMs || nowMs - createdAtMs > settings.maxAgeMs
  }

  #isBusy(name: string): boolean {
    const session = this.#sessions.get(name)
    return session !== undefined && (session.running !== null || session.waiting.length > 0)
  }

  /** With several members: one whose requests come to this one, so that no request has to go further. */
  #mint(account: string, functionName: string): SessionKey {
    for (let tries = 1; ; tries++) {
      const key = { account, functionName, id: mintSessionId(this.#options.place) }
      if (this.#ownership === null || tries === MINT_TRIES_MAX || this.#ownership.owns(sessionName(key))) return key
    }
  }

  #isHere(place: SessionPlace): boolean {
    const here = this.#options.place
    return place.kind === 'region' ? here.kind === 'region' : here.kind === 'site' && here.site === place.site
  }

  #onDisk(session: Session): boolean {
    return this.#options.disk?.has(session.name) ?? false
  }

  #mayBeElsewhere(name: string): boolean {
    return this.#ownership !== null || (this.#options.disk?.has(name) ?? false)
  }

  #liveBuild({ key, build }: Session): BuildSpec | null {
    return this.#options.buildOf(key, build.key)
  }

  #adopt(key: SessionKey, name: string, sealed: Uint8Array): boolean {
    const record = openSession(this.#options.keys, key, sealed)
    const present = this.#sessions.get(name)
    // T5.
    if (record.sequence < this.#ended.leastSequence(name)) throw new CodedError('ERR_SESSION_STATE', ['it is older than what was here'])
    if (present !== undefined && present.state !== null) throw new CodedError('ERR_SESSION_STATE', ['the session is here'])
    const build = this.#options.buildOf(key, record.buildKey)
    if (build === null || build.imageId !== record.imageId) {
      if (present !== undefined) present.reason = 'replaced'
      this.#log.info('a session ends with its build', { function: key.functionName })
      return present !== undefined
    }
    const session = present ?? this.#make(key, build, null)
    session.build = build
    session.sequence = record.sequence
    session.createdAtMs = record.createdAtMs
    session.usedAtMs = record.usedAtMs
    this.#keep(session, record.state)
    this.#ended.forget(name)
    if (present === undefined) this.#rest(session)
    this.#sweepLater()
    return true
  }

  // -- room and time

  /** T4. */
  #makeRoom(used: Session): void {
    const { memoryMaxBytes, perAccountMax } = this.#options
    const { account } = used.key
    if ((this.#perAccount.get(account) ?? 0) > perAccountMax) {
      for (const session of this.#sessions.values()) {
        if (session.key.account !== account || session.running !== null || session === used) continue
        this.#evict(session)
        break
      }
    }
    if (this.#bytes <= memoryMaxBytes) return
    for (const session of this.#sessions.values()) {
      if (this.#bytes <= memoryMaxBytes) return
      if (session.running === null && session.waiting.length === 0) this.#evict(session)
    }
  }

  #evict(session: Session): void {
    const { disk } = this.#options
    const sealed = disk === null || this.#ownership !== null ? null : this.pack(session.name)
    this.#ended.add(session.name, 'evicted', session.sequence)
    const { idleMs, maxAgeMs } = session.build.traits.sessions ?? NO_SETTINGS
    const expiresAtMs = Math.min(session.usedAtMs + idleMs, session.createdAtMs + maxAgeMs)
    this.#drop(session)
    if (sealed !== null) {
      // It never rejects; what could not be written is gone, and the next request is told so.
      void disk?.put(session.name, sealed, expiresAtMs)
      return
    }
    this.#ownership?.discard(session.name)
    this.#count('evicted')
  }

  #sweepLater(): void {
    const periodMs = this.#waitingCount > 0 ? SWEEP_WAITING_MS : SWEEP_MS
    if (this.#closed || this.#sessions.size === 0 || (this.#cancelSweep !== null && this.#sweepPeriodMs <= periodMs)) return
    this.#cancelSweep?.()
    this.#sweepPeriodMs = periodMs
    this.#cancelSweep = this.#options.clock.after(periodMs, () => {
      this.#cancelSweep = null
      this.#sweep()
      this.#sweepLater()
    })
  }

  #sweep(): void {
    const nowMs = this.#options.clock.nowMs()
    for (const session of [...this.#sessions.values()]) {
      for (const run of session.waiting.filter(({ input }) => input.deadlineAtMs <= nowMs)) {
        if (this.#unqueue(run)) run.refuse(new CodedError('ERR_QUEUE_DEADLINE', [Math.round(nowMs - session.usedAtMs)]))
      }
      if (session.running === null && session.waiting.length === 0 && this.#isOver(session, nowMs)) this.#expire(session)
    }
    if (this.#waitingCount === 0) void this.#options.disk?.expire()
  }
}

const NO_SETTINGS = { header: null, cookie: null, idleMs: 0, maxAgeMs: 0 }
