/** Who may use a link: for now whoever knows the token of this region, which is for loopback and private networks only. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IdentityVerdict, LinkHello, PopIdentity } from './types.ts'

export class TokenIdentity implements PopIdentity {
  readonly #digest: Buffer

  constructor(token: string) {
    this.#digest = digest(token)
  }

  verify(hello: LinkHello): IdentityVerdict {
    // Digests have equal length and comparing them takes equal time.
    if (!timingSafeEqual(digest(hello.token), this.#digest)) return { kind: 'refused', reason: 'wrong token' }
    return { kind: 'accepted', popId: hello.popId }
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
