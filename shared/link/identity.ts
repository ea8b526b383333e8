/**
 * Who may use a link: for now whoever knows the token of this region, which is for loopback and private networks only.
 * Other regions and nodes of this one show another one.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IdentityVerdict, LinkHello, PopIdentity } from './types.ts'

export class TokenIdentity implements PopIdentity {
  readonly #digest: Buffer
  readonly #peerDigest: Buffer | null

  /** `peerToken` null: no other region and no other node is let in. */
  constructor(token: string, peerToken: string | null = null) {
    this.#digest = digest(token)
    this.#peerDigest = peerToken === null ? null : digest(peerToken)
  }

  verify(hello: LinkHello): IdentityVerdict {
    // Digests have equal length and comparing them takes equal time.
    const given = digest(hello.token)
    const wanted = hello.role === 'pop' ? this.#digest : this.#peerDigest
    if (wanted === null || !timingSafeEqual(given, wanted)) return { kind: 'refused', reason: 'wrong token' }
    return { kind: 'accepted', popId: hello.popId, role: hello.role }
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
