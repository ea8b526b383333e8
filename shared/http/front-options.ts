/** What the operator of either tier says of its front door, as the front door wants it. */
import { CodedError } from '../errors.ts'
import type { CertificateFiles } from './certificate-files.ts'
import { type ProxyHeaders, TrustedProxies } from './forwarded.ts'

export interface FrontConfig {
  readonly tlsCertFile: string | null
  readonly tlsKeyFile: string | null
  readonly trustedProxies: readonly string[]
  readonly proxyHeaders: ProxyHeaders
}

/** Throws ERR_CONFIG. */
export function frontOptions({ tlsCertFile, tlsKeyFile, trustedProxies, proxyHeaders }: FrontConfig): { readonly tls: CertificateFiles | null; readonly trustedProxies: TrustedProxies | null } {
  if ((tlsCertFile === null) !== (tlsKeyFile === null)) throw new CodedError('ERR_CONFIG', ['tlsCertFile (--tls-cert) and tlsKeyFile (--tls-key) go together'])
  return {
    tls: tlsCertFile === null || tlsKeyFile === null ? null : { certFile: tlsCertFile, keyFile: tlsKeyFile },
    trustedProxies: trustedProxies.length === 0 ? null : new TrustedProxies(trustedProxies, proxyHeaders),
  }
}
