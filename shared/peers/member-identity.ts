/**
 * Who may link up as a node: whoever the identity of this link lets in as one, and whom the group knows by that name.
 * A node that has just joined may dial before its name has come here, so an unknown one is waited for a moment.
 */
import type { Clock } from '../clock.ts'
import type { IdentityVerdict, LinkHello, PopIdentity } from '../link/types.ts'
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

  async verify(hello: LinkHello): Promise<IdentityVerdict> {
    const verdict = await this.#inner.verify(hello)
    if (verdict.kind === 'refused' || verdict.role !== 'node') return verdict
    if (verdict.popId === this.#peers.self) return { kind: 'refused', reason: `${verdict.popId} is this member's own name` }
    return (await this.#isKnown(verdict.popId)) ? verdict : { kind: 'refused', reason: `${verdict.popId} is no member of this group` }
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
