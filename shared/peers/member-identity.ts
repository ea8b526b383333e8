/**
 * Who may link up as a node: whom the group knows by that name, and who shows the key that the member's own entry in the group
 * names, or, over a plain socket, whoever the identity of this link lets in as a node. A node that has just joined may dial before its name has come here, so an unknown one is waited for a moment.
 */
import type { Clock } from '../clock.ts'
import type { IdentityVerdict, LinkHello, LinkProof, PopIdentity } from '../link/types.ts'
import type { PeerSet } from './peer-set.ts'

const NAME_TAKES_MS = 2_000

export class MemberIdentity implements PopIdentity {
  readonly #inner: PopIdentity
  readonly #peers: PeerSet
  readonly #clock: Clock

  constructor(inner: PopIdentity, peers: PeerSet, clock: Clock) {
    this.#inner = inner
    this.#peers = peers
    this.#clock = clock
  }

  async verify(hello: LinkHello, proof: LinkProof): Promise<IdentityVerdict> {
    const verdict: IdentityVerdict = hello.role === 'node' && proof.kind === 'key' ? { kind: 'accepted', popId: hello.popId, role: 'node' } : await this.#inner.verify(hello, proof)
    if (verdict.kind === 'refused' || verdict.role !== 'node') return verdict
    if (verdict.popId === this.#peers.self) return refused(`${verdict.popId} is this member's own name`)
    if (!(await this.#isKnown(verdict.popId))) return refused(`${verdict.popId} is no member of this group`)
    if (proof.kind === 'key' && this.#peers.member(verdict.popId)?.info.fingerprint !== proof.fingerprint) return refused(`${verdict.popId} is known by another key`)
    return verdict
  }

  #isKnown(memberId: string): Promise<boolean> {
    if (this.#peers.member(memberId) !== null) return Promise.resolve(true)
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const stopListening = this.#peers.onChange(() => {
      if (this.#peers.member(memberId) !== null) resolve(true)
    })
    const cancelTimer = this.#clock.after(NAME_TAKES_MS, () => resolve(false))
    return promise.finally(() => {
      stopListening()
      cancelTimer()
    })
  }
}

function refused(reason: string): IdentityVerdict {
  return { kind: 'refused', code: 'ERR_LINK_IDENTITY', reason }
}
