/**
 * Who may use a link: for now whoever knows the token of this region, which is for loopback and private networks only.
 * Other regions show another one.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IdentityVerdict, LinkHello, PopIdentity } from './types.ts'

export class TokenIdentity implements PopIdentity {
  readonly #digest: Buffer
  readonly #peerDigest: Buffer | null

  /** `peerToken` null: no other region is let in. */
  constructor(token: string, peerToken: string | null = null) {
    this.#digest = digest(token)
    this.#peerDigest = peerToken === null ? null : digest(peerToken)
  }

  verify(hello: LinkHello): IdentityVerdict {
    // Digests have equal length and comparing them takes equal time.
    const given = digest(hello.token)
    if (this.#peerDigest !== null && timingSafeEqual(given, this.#peerDigest)) return { kind: 'accepted', popId: hello.popId, role: 'region' }
    if (!timingSafeEqual(given, this.#digest)) return { kind: 'refused', reason: 'wrong token' }
    return { kind: 'accepted', popId: hello.popId, role: 'pop' }
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
