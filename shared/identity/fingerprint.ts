/**
 * What a peer is known by: the SHA-256 of its public key as it stands in a certificate (SubjectPublicKeyInfo), in hex.
 * Of the key and not of the certificate, so that a certificate may be made anew for the same key.
 */
import { createHash, type X509Certificate } from 'node:crypto'

declare const fingerprintBrand: unique symbol
export type Fingerprint = string & { readonly [fingerprintBrand]: true }

export function fingerprintOf(certificate: X509Certificate): Fingerprint {
  return fingerprintOfKey(certificate.publicKey.export({ type: 'spki', format: 'der' }))
}

export function fingerprintOfKey(subjectPublicKeyInfo: Uint8Array): Fingerprint {
  return createHash('sha256').update(subjectPublicKeyInfo).digest('hex') as Fingerprint
}

/** As people write it: with or without `sha256:`, in either case, with or without colons between the bytes. Null if it is none. */
export function parseFingerprint(text: string): Fingerprint | null {
  const hex = text.trim().toLowerCase().replace(/^sha-?256[:=]/, '')
  const plain = /^([0-9a-f]{2}:){31}[0-9a-f]{2}$/.test(hex) ? hex.replaceAll(':', '') : hex
  return /^[0-9a-f]{64}$/.test(plain) ? (plain as Fingerprint) : null
}
