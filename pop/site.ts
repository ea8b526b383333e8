/**
 * This host as one of a site: known to the others, asked by them for free sandboxes, and asking them.
 *
 * H1  A question is answered from what is at hand. "Yes" keeps one sandbox's room for 2 s, for the one call that names
 *     the reservation; whatever is not claimed by then is free again.
 * H2  A call that comes with a reservation runs by this host's own rules: its account's slots are counted here.
 * H3  A call of a session that comes from another host runs here if the ring says so, and goes no further.
 * H4  Only members of the site are let in, each by the key that its entry in the group names.
 */
import type { Clock } from '../shared/clock.ts'
import { Cluster } from '../shared/cluster/cluster.ts'
import type { Coordination } from '../shared/coordination/types.ts'
import { CodedError } from '../shared/errors.ts'
import type { Answer, AnswerSink, InvokeCall } from '../shared/http/types.ts'
import { parseFingerprint } from '../shared/identity/fingerprint.ts'
import type { LinkKeyPair } from '../shared/identity/key-pair.ts'
import { dialTls } from '../shared/link/dial.ts'
import { RegionIdentity } from '../shared/link/identity.ts'
import { LinkClient } from '../shared/link/link-client.ts'
import { LinkServer } from '../shared/link/link-server.ts'
import { linkUrl } from '../shared/link/link-url.ts'
import { TlsLinkListener } from '../shared/link/tls-listener.ts'
import type { LinkAnswer, LinkHandler, LinkInvocation, OpenInvocation } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import { MemberIdentity } from '../shared/peers/member-identity.ts'
import { PeerSet } from '../shared/peers/peer-set.ts'
import { HandOff } from '../shared/place/hand-off.ts'
import { Reservations } from '../shared/place/reservations.ts'
import type { Random } from '../shared/random.ts'
import type { PopDispatcher } from './dispatcher.ts'
import type { KnownBuild } from './functions.ts'
import { SiteSessions, type SiteSessionsParts } from './site-sessions.ts'
import { parseProbeQuestion, PROBE_TOPIC, RELEASE_TOPIC, SiteSearch } from './site-search.ts'

export interface SiteOptions {
  readonly coordination: Coordination
  readonly siteName: string
  /** A name that no host has had. */
  readonly newName: () => string
  readonly keys: LinkKeyPair
  /** X25519, as links want it of every peer; nothing is wrapped for a host by another. */
  readonly publicKey: string
  /** Where to listen for the others, and under which address they reach it; null: the one listened on. */
  readonly host: string
  readonly advertise: string | null
  /** Sandboxes. */
  readonly capacity: number
  readonly tripMs: () => number
  readonly sessions: SiteSessionsParts
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

interface Kept {
  readonly account: string
  readonly functionName: string
  readonly known: KnownBuild
}

const SWEEP_MS = 500

export class Site {
  readonly peers: PeerSet
  readonly search: SiteSearch
  readonly sessions: SiteSessions
  readonly #options: SiteOptions
  readonly #dispatcher: PopDispatcher
  readonly #reservations = new Reservations<Kept>(() => undefined)
  readonly #server: LinkServer
  #listener: TlsLinkListener | null = null
  #cluster: Cluster | null = null
  #cancelSweep: (() => void) | null = null
  /** For metrics: questions that others asked here, and calls that came of them. */
  readonly counts = { askedExisting: 0, askedFinal: 0, reserved: 0, ran: 0, refused: 0 }

  constructor(options: SiteOptions, dispatcher: PopDispatcher) {
    const { newName, keys, publicKey, clock, random, log, tripMs } = options
    this.#options = options
    this.#dispatcher = dispatcher
    this.peers = new PeerSet({
      self: newName(), clock, log,
      makeLink: ({ memberId, info }, self) => {
        const key = info.fingerprint === null ? null : parseFingerprint(info.fingerprint)
        return new LinkClient({
          url: linkUrl(`https://${info.address}`), token: '', dial: dialTls({ keys, trust: { kind: 'pinned', fingerprints: key === null ? [] : [key] } }),
          popId: self, publicKey, role: 'node', expects: memberId, clock, random, log,
        })
      },
    })
    this.search = new SiteSearch({ peers: this.peers, tripMs, clock, random })
    this.sessions = new SiteSessions(options.siteName, options.sessions, this.peers, () => this.#cluster)
    dispatcher.attachSessions(this.sessions)
    this.peers.handle(PROBE_TOPIC, (_from, payload) => this.#onProbe(payload))
    this.peers.handle(RELEASE_TOPIC, (_from, payload) => {
      if (typeof payload === 'string') this.#reservations.release(payload, clock.monotonicMs())
      return null
    })
    this.#server = new LinkServer({
      regionId: options.siteName, memberId: () => this.peers.self, identity: new MemberIdentity(new RegionIdentity(null, []), this.peers, clock), handler: this.#handler(), clock, log,
    })
  }

  /** Sandboxes whose room is kept for others. */
  get reserved(): number {
    return this.#reservations.heldCount
  }

  get cluster(): Cluster | null {
    return this.#cluster
  }

  /** Listens, joins, and has the dispatcher ask the others. Rejects with what keeps it from that. */
  async start(): Promise<void> {
    const { coordination, siteName, newName, keys, host, advertise, capacity, sessions, clock, log } = this.#options
    const port = advertise === null ? 0 : Number(advertise.slice(advertise.lastIndexOf(':') + 1))
    const listener = await TlsLinkListener.listen({ server: this.#server, keys, host, port, clock, log })
    this.#listener = listener
    this.#sweepLater()
    this.#cluster = await Cluster.start({
      coordination, group: `site-${siteName}`, peers: this.peers, address: advertise ?? `${host.includes(':') ? `[${host}]` : host}:${listener.port}`, capacity, fingerprint: keys.fingerprint, newName,
      // Each host brings the images that its own calls earn; those of sessions go where sessions may.
      hot: { spread: 'all', list: () => this.sessions.images(), load: (image) => this.sessions.load(image) },
      makeHandOff: (self, leases) => new HandOff({ self, ring: null, store: this.sessions.owned.store, leases }),
      onStateLost: () => sessions.sessions.forgetAll(), clock, log,
    })
    this.#dispatcher.attachSite(this.search, this.peers)
  }

  /** The others ask nothing more here; what they have running here ends within the time. Never rejects. */
  async drain(timeoutMs: number): Promise<void> {
    await this.#cluster?.drain(timeoutMs)
    this.#listener?.stop()
    await this.#server.drain(timeoutMs)
  }

  /** Never rejects. */
  async close(): Promise<void> {
    this.#cancelSweep?.()
    await this.#cluster?.leave()
    this.peers.close()
    this.#server.close()
    this.#listener?.close()
  }

  /** H1. True: kept. Throws ERR_LINK_PROTOCOL. */
  #onProbe(payload: unknown): boolean {
    const question = parseProbeQuestion(payload)
    if (question === null) throw new CodedError('ERR_LINK_PROTOCOL', ['no question for a sandbox'])
    this.counts[question.final ? 'askedFinal' : 'askedExisting'] += 1
    const { id, account, functionName } = question
    const take = (): Kept | null => {
      const known = this.#dispatcher.idleFor(question, this.#reservations.heldCount)
      return known === null ? null : { account, functionName, known }
    }
    const kept = this.#reservations.reserve(id, take, this.#options.clock.monotonicMs())
    if (kept !== null) this.counts.reserved += 1
    return kept !== null
  }

  #handler(): LinkHandler {
    const refuse = (): never => {
      throw new CodedError('ERR_LINK_IDENTITY', ['a host of a site answers no region\'s questions'])
    }
    return {
      invoke: (_peer, open, deadlineAtMs, answer) => this.#invoke(open, deadlineAtMs, answer),
      ask: (peer, topic, payload) => this.peers.topics.answer(peer, topic, payload),
      snapshot: (_popId, functions) => ({ seq: 0, functions: [], answered: functions.length }),
      control: refuse, chain: refuse, blocks: refuse, peerBlocks: refuse, describe: refuse, report: refuse,
    }
  }

  /** H2, H3. */
  #invoke(open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer): LinkInvocation {
    if (open.hops > 1) throw new CodedError('ERR_LINK_LOOP')
    if (open.session !== null && open.ring !== null) {
      const { session, ring } = open
      if (!this.sessions.isOurs(session)) throw new CodedError('ERR_SESSION_ID', ['the link'])
      this.sessions.ringSeen(ring.version)
      return this.#run(open, deadlineAtMs, answer, (call, sink) => this.#dispatcher.runSessionForSite(call, sink, session))
    }
    const kept = open.reservation === null ? null : this.#reservations.claim(open.reservation, this.#options.clock.monotonicMs())
    if (kept === null || kept.account !== open.account || kept.functionName !== open.functionName) {
      this.counts.refused += 1
      throw new CodedError('ERR_NO_SANDBOX', [0])
    }
    return this.#run(open, deadlineAtMs, answer, (call, sink) => this.#dispatcher.runForSite(call, sink, kept.known))
  }

  #run(open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer, start: (call: InvokeCall, sink: AnswerSink) => Answer): LinkInvocation {
    this.counts.ran += 1
    const { requestId, account, functionName, qualifier, invocationKind, method, url, headers, body, bodyMore, clientIp, wantLogs, selection = null, chain = null } = open
    const call: InvokeCall = { requestId, account, functionName, qualifier, invocationKind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection, chain }
    const sink = new SiteSink(answer)
    const running = start(call, sink)
    // Nothing after a refusal: that has ended the stream.
    answer.started()
    return {
      write(chunk) {
        running.write(new Uint8Array(chunk))
        return !sink.bodyPaused
      },
      writeEnd: () => running.writeEnd(),
      resume: () => running.resume(),
      cancel: () => running.cancel(),
    }
  }

  #sweepLater(): void {
    const { clock } = this.#options
    this.#cancelSweep = clock.after(SWEEP_MS, () => {
      this.#reservations.sweep(clock.monotonicMs())
      this.#sweepLater()
    })
  }
}

/** The answer of a run here on its way to another host. */
class SiteSink implements AnswerSink {
  readonly #answer: LinkAnswer
  /** Said by what `LinkInvocation.write` returns. */
  bodyPaused = false

  constructor(answer: LinkAnswer) {
    this.#answer = answer
  }

  head(...[status, headers, placement, body, last]: Parameters<AnswerSink['head']>): void {
    if (placement.session) this.#answer.session?.(placement.session)
    this.#answer.head(status, headers, placement.startKind, placement.version, body, last)
  }

  data(chunk: Uint8Array): boolean {
    return this.#answer.data(chunk)
  }

  bodyEnd(): void {
    this.#answer.bodyEnd()
  }

  pauseBody(): void {
    this.bodyPaused = true
  }

  resumeBody(): void {
    this.bodyPaused = false
    this.#answer.resumeBody()
  }

  end(...[result, placement]: Parameters<AnswerSink['end']>): void {
    if (placement.session) this.#answer.session?.(placement.session)
    this.#answer.end(result, placement.version)
  }

  fail(error: CodedError): void {
    this.#answer.error(error.toData())
  }
}
