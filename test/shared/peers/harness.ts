/** Members of a group in one process, linked over real sockets; coordination in memory. */
import type { Test } from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { App, closeListenSocket, localPort } from '../../../shared/http/uws.ts'
import { LINK_PROTOCOL } from '../../../shared/link/frames.ts'
import { TokenIdentity } from '../../../shared/link/identity.ts'
import { LinkClient } from '../../../shared/link/link-client.ts'
import { LinkServer } from '../../../shared/link/link-server.ts'
import { MemberIdentity } from '../../../shared/peers/member-identity.ts'
import { PeerGroup } from '../../../shared/peers/peer-group.ts'
import { PeerSet } from '../../../shared/peers/peer-set.ts'
import type { PeerInfo } from '../../../shared/peers/types.ts'
import { seededRandom } from '../../../shared/random.ts'
import type { MemoryCoordination } from '../../support/memory-coordination.ts'
import { PUBLIC_KEY, TestHandler, testLog, until, type TestLog } from '../link/harness.ts'

export const PEER_TOKEN = 'a token of members'

export interface TestPeers {
  readonly peers: PeerSet
  readonly handler: TestHandler
  readonly address: string
  readonly logged: TestLog
  /** Ends its links and its listener, as the end of its process would. */
  kill(): void
}

export interface TestMember extends TestPeers {
  readonly group: PeerGroup
  readonly lost: string[]
}

export interface TestPeersOptions {
  readonly token?: string
  readonly linksMax?: number
}

/** The links of one member, without its place in a group. */
export async function startPeers(t: Test, name: string, options: TestPeersOptions = {}): Promise<TestPeers> {
  const handler = new TestHandler()
  const logged = testLog()
  const token = options.token ?? PEER_TOKEN
  const peers = new PeerSet({
    self: name, topics: handler.topics, clock: systemClock, log: logged.log,
    makeLink: ({ memberId, info }, self) => new LinkClient({
      url: `ws://${info.address}/link`, token, popId: self, publicKey: PUBLIC_KEY, role: 'node', expects: memberId, clock: systemClock, random: seededRandom(1), log: logged.log,
    }),
    ...(options.linksMax === undefined ? {} : { linksMax: options.linksMax }),
  })
  const server = new LinkServer({ regionId: 'region-1', memberId: () => peers.self, identity: new MemberIdentity(new TokenIdentity('of POPs', PEER_TOKEN), peers, systemClock), handler, clock: systemClock, log: logged.log })
  const app = App()
  server.attach(app)
  const [address, stopListening] = await new Promise<[string, () => void]>((resolve, reject) => {
    app.listen('127.0.0.1', 0, (listener) => (listener === false ? reject(new Error('cannot listen')) : resolve([`127.0.0.1:${localPort(listener)}`, () => closeListenSocket(listener)])))
  })
  let alive = true
  const kill = (): void => {
    if (!alive) return
    alive = false
    peers.close()
    server.close()
    stopListening()
  }
  t.teardown(kill)
  return { peers, handler, address, logged, kill }
}

export async function startMember(t: Test, coordination: MemoryCoordination, name: string, options: TestPeersOptions & { readonly info?: Partial<PeerInfo>; readonly names?: string[] } = {}): Promise<TestMember> {
  const made = await startPeers(t, name, options)
  const { peers, logged, address } = made
  const names = options.names ?? []
  const lost: string[] = []
  const group = await PeerGroup.join({
    members: await coordination.members('region/test'), peers, clock: systemClock, log: logged.log,
    info: { address, capacity: 4, fingerprint: null, protocol: LINK_PROTOCOL, state: 'serving', ring: 0, held: [], mark: 0, ...options.info },
    newName: () => names.shift() ?? `${name}.again`, onLost: () => lost.push(peers.self), onRenamed: () => undefined,
  })
  t.teardown(async () => {
    made.kill()
    await group.leave()
  })
  return { ...made, group, lost }
}

/** Until each has a link to every other one. */
export async function untilLinked(...members: readonly TestPeers[]): Promise<void> {
  await until(() => members.every(({ peers }) => members.every((other) => other.peers.self === peers.self || peers.reachable(other.peers.self))), 'all linked up')
}
