/**
 * TLS between processes that know each other by their keys: options for `node:tls` and `node:https` at either end, and
 * who the peer of a finished handshake is.
 *
 * T1  Chains are not looked at where a key is pinned: `rejectUnauthorized` is off, and the fingerprint of the peer's key is
 *     compared by whoever calls `peerFingerprint`, before a byte of the peer is used. That the peer holds the key was proved
 *     by its signature over the handshake, which TLS 1.3 always checks.
 * T2  Nothing is resumed: a resumed session would stand on a proof of earlier.
 */
import { constants, type X509Certificate } from 'node:crypto'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import { fingerprintOf, type Fingerprint } from './fingerprint.ts'
import type { LinkKeyPair } from './key-pair.ts'

/** How a dialling end knows that it has reached whom it wanted. */
export type ServerTrust =
  | { readonly kind: 'pinned'; readonly fingerprints: readonly Fingerprint[] }
  /** A chain to one of these certificates (PEM), or to what the system trusts, and the host name. */
  | { readonly kind: 'authority'; readonly certificates: string | null }

export interface DialTls {
  readonly keys: LinkKeyPair
  readonly trust: ServerTrust
}

/** For tls.createServer and https.createServer. Every client is asked for a certificate; any is let in until its fingerprint is looked at (T1). */
export function serverTlsOptions(keys: LinkKeyPair): SecureContextOptions & { readonly requestCert: true; readonly rejectUnauthorized: false } {
  return { ...common(keys), requestCert: true, rejectUnauthorized: false, secureOptions: constants.SSL_OP_NO_TICKET }
}

/** For tls.connect and for undici's connector. */
export function clientTlsOptions({ keys, trust }: DialTls): SecureContextOptions & { readonly rejectUnauthorized: boolean } {
  if (trust.kind === 'pinned') return { ...common(keys), rejectUnauthorized: false }
  return { ...common(keys), rejectUnauthorized: true, ...(trust.certificates === null ? {} : { ca: trust.certificates }) }
}

/** Null: the peer showed no certificate, or one whose key cannot be read. */
export function peerFingerprint(socket: TLSSocket): Fingerprint | null {
  try {
    const certificate: X509Certificate | undefined = socket.getPeerX509Certificate()
    return certificate === undefined ? null : fingerprintOf(certificate)
  } catch {
    // A key of a kind that this OpenSSL does not know: as good as none.
    return null
  }
}

function common({ privateKey, certificate }: LinkKeyPair): SecureContextOptions {
  return { key: privateKey, cert: certificate, minVersion: 'TLSv1.3' }
}
