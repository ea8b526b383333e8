/** How a region is reached: over TLS with this end's own key for an `https:` address, else over a plain socket with a token. */
import { readFileSync } from 'node:fs'
import { CodedError, toCodedError } from '../errors.ts'
import type { Fingerprint } from '../identity/fingerprint.ts'
import type { LinkKeyPair } from '../identity/key-pair.ts'
import type { ServerTrust } from '../identity/tls.ts'
import { dialTls, dialWebSocket, type Dial } from './dial.ts'

export interface RegionAddress {
  readonly url: string
  /** Keys that may answer there. Empty: a certificate from an authority. */
  readonly fingerprints: readonly Fingerprint[]
  /** PEM of authorities; null: those that Node knows. */
  readonly caFile: string | null
  /** For a plain socket; null: there is none. */
  readonly token: string | null
  /** Asked only for TLS. Throws if this end has none. */
  readonly keys: () => LinkKeyPair
}

export interface RegionDial {
  readonly dial: Dial
  /** Empty for a region that is shown a key: whoever listens there must not learn a token. */
  readonly token: string
}

/** Throws ERR_CONFIG, and what `keys` throws. */
export function regionDial({ url, fingerprints, caFile, token, keys }: RegionAddress): RegionDial {
  if (new URL(url).protocol !== 'https:') {
    if (fingerprints.length > 0 || caFile !== null) throw new CodedError('ERR_CONFIG', [`${url} is reached without TLS, where the region's key cannot be checked: give the https: address of its link port`])
    if (token === null) throw new CodedError('ERR_CONFIG', [`${url} is reached without TLS, where a token is needed`])
    return { dial: dialWebSocket, token }
  }
  const trust: ServerTrust = fingerprints.length > 0 ? { kind: 'pinned', fingerprints } : { kind: 'authority', certificates: caFile === null ? null : read(caFile) }
  return { dial: dialTls({ keys: keys(), trust }), token: '' }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`The authorities of a region's certificate cannot be read: ${toCodedError(error).message}`])
  }
}
