/**
 * Who may use a link, and under which name.
 *
 *   over mutual TLS        the key decides: who is registered for its fingerprint. What the hello says counts for nothing.
 *   over a plain socket    the shared token, if the region has one: for a region that listens on loopback only
 *
 * A name that is registered for a key is nobody's to claim with the token.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { Fingerprint } from '../identity/fingerprint.ts'
import type { IdentityVerdict, LinkHello, LinkProof, LinkRole, PopIdentity } from './types.ts'

/** Keys that somebody keeps: the POPs that a region registered, the members of a group. */
export interface KeyDirectory {
  /** Null: never heard of. Revoked: once known, and the holder is told so. */
  find(fingerprint: Fingerprint): { readonly kind: 'known'; readonly name: string; readonly role: LinkRole } | { readonly kind: 'revoked' } | null
  /** True if somebody is registered under this name. */
  has(name: string): boolean
}

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
    if (wanted === null || !timingSafeEqual(given, wanted)) return refused('wrong token')
    return { kind: 'accepted', popId: hello.popId, role: hello.role }
  }
}

export class RegionIdentity implements PopIdentity {
  readonly #tokens: TokenIdentity | null
  readonly #directories: readonly KeyDirectory[]

  /** `tokens` null: a key is the only way in. */
  constructor(tokens: TokenIdentity | null, directories: readonly KeyDirectory[]) {
    this.#tokens = tokens
    this.#directories = directories
  }

  verify(hello: LinkHello, proof: LinkProof): IdentityVerdict {
    if (proof.kind === 'key') return this.#byKey(proof.fingerprint, hello.role)
    if (this.#tokens === null) return refused('a token is accepted on loopback only: link up by the port of --link-port, with a key that is registered')
    if (this.#directories.some((directory) => directory.has(hello.popId))) return refused(`${hello.popId} is registered for a key, and no key was shown`)
    return this.#tokens.verify(hello)
  }

  #byKey(fingerprint: Fingerprint, role: LinkRole): IdentityVerdict {
    let revoked = false
    for (const directory of this.#directories) {
      const found = directory.find(fingerprint)
      if (found?.kind === 'known') {
        if (found.role !== role) return refused(`${found.name} is registered as ${found.role}, not as ${role}`)
        return { kind: 'accepted', popId: found.name, role }
      }
      revoked ||= found !== null
    }
    if (revoked) return { kind: 'refused', code: 'ERR_LINK_REVOKED', reason: fingerprint }
    return refused(`the key ${fingerprint} is not registered here: outpost region pop add NAME --fingerprint ${fingerprint}`)
  }
}

function refused(reason: string): IdentityVerdict {
  return { kind: 'refused', code: 'ERR_LINK_IDENTITY', reason }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
