import t from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { makeLinkKeyPair } from '../../../shared/identity/key-pair.ts'
import { RegionIdentity } from '../../../shared/link/identity.ts'
import type { LinkHello, LinkRole } from '../../../shared/link/types.ts'
import { silentLog } from '../../../shared/log.ts'
import { MemberIdentity } from '../../../shared/peers/member-identity.ts'
import { PeerSet } from '../../../shared/peers/peer-set.ts'
import type { PeerInfo } from '../../../shared/peers/types.ts'
import { TopicTable } from '../../../shared/link/topics.ts'
import { fakeDial } from '../link/fake-dial.ts'
import { makeClient } from '../link/harness.ts'

const [A, B, STRANGER] = [makeLinkKeyPair(), makeLinkKeyPair(), makeLinkKeyPair()].map(({ fingerprint }) => ({ kind: 'key', fingerprint }) as const)

function info(fingerprint: string | null): PeerInfo {
  return { address: '127.0.0.1:1', capacity: 1, fingerprint, protocol: 3, state: 'serving', ring: 0, held: [], mark: 0 }
}

t.test('over TLS a node is who shows the key that its entry names, and only a node', async (t) => {
  const peers = new PeerSet({ self: 'self', topics: new TopicTable(), clock: systemClock, log: silentLog, makeLink: () => makeClient('ws://127.0.0.1:1/link', { dial: fakeDial().dial }).client })
  t.teardown(() => peers.close())
  peers.update([{ memberId: 'a', info: info(A?.fingerprint ?? null) }, { memberId: 'b', info: info(B?.fingerprint ?? null) }, { memberId: 'keyless', info: info(null) }])
  const identity = new MemberIdentity(new RegionIdentity(null, []), peers, systemClock)
  const hello = (popId: string, role: LinkRole): LinkHello => ({ popId, role, token: 'x', publicKey: 'x' })
  const verify = async (popId: string, role: LinkRole, proof: typeof A): Promise<string> => {
    const verdict = await identity.verify(hello(popId, role), proof ?? { kind: 'none' })
    return verdict.kind === 'accepted' ? `${verdict.role} ${verdict.popId}` : verdict.reason
  }
  t.match(await verify('b', 'node', A), /b is known by another key/)
  t.match(await verify('keyless', 'node', A), /keyless is known by another key/)
  t.match(await verify('a', 'node', STRANGER), /a is known by another key/)
  t.match(await verify('self', 'node', A), /own name/)
  t.match(await verify('a', 'pop', A), /is not registered here/, "a node's key opens no link of a POP")
  t.match(await verify('a', 'node', undefined), /loopback only/)
  t.equal(await verify('a', 'node', A), 'node a')
})
