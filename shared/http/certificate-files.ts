/**
 * The certificate of a front door, as an operator keeps it: two PEM files, which other programs renew.
 *
 * F1  What cannot be used is refused as a whole, with ERR_TLS_CERTIFICATE and the reason: files that cannot be read or are no
 *     PEM, a key that is another certificate's, a certificate that is not valid yet or no more.
 * F2  Renewal writes two files, one after the other: a change is acted upon once both have looked the same twice.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import { fingerprintOf, type Fingerprint } from '../identity/fingerprint.ts'

export interface CertificateFiles {
  /** PEM: the certificate, then those between it and its authority. */
  readonly certFile: string
  /** PEM, not encrypted. */
  readonly keyFile: string
}

export interface Certificate {
  readonly certificate: string
  readonly privateKey: string
  readonly fingerprint: Fingerprint
  readonly notAfterMs: number
}

/** A renewal is seen within twice this. */
const LOOK_MS = 1_000

/** F1. Throws ERR_TLS_CERTIFICATE. */
export function readCertificate({ certFile, keyFile }: CertificateFiles, nowMs: number): Certificate {
  const [certificate, privateKey] = [readPem(certFile), readPem(keyFile)]
  let parsed: X509Certificate
  try {
    parsed = new X509Certificate(certificate)
  } catch (error) {
    throw unusable(certFile, `it is no PEM certificate (${reasonOf(error)})`)
  }
  try {
    createSecureContext({ cert: certificate, key: privateKey })
  } catch (error) {
    throw unusable(certFile, `with the key in ${keyFile}: ${reasonOf(error)}`)
  }
  const notAfterMs = parsed.validToDate.getTime()
  if (nowMs >= notAfterMs) throw unusable(certFile, `it was valid until ${parsed.validTo}`)
  if (nowMs < parsed.validFromDate.getTime()) throw unusable(certFile, `it is valid from ${parsed.validFrom}`)
  return { certificate, privateKey, fingerprint: fingerprintOf(parsed), notAfterMs }
}

/** F2. Calls `onChange` when the files have changed and settled. Returns what ends it. */
export function watchCertificate({ certFile, keyFile }: CertificateFiles, clock: Clock, onChange: () => void): () => void {
  const look = (): string => `${stampOf(certFile)} ${stampOf(keyFile)}`
  let acted = look()
  let seen = acted
  let cancel = (): void => undefined
  const again = (): void => {
    cancel = clock.after(LOOK_MS, () => {
      const now = look()
      if (now === seen && now !== acted) {
        acted = now
        onChange()
      }
      seen = now
      again()
    })
  }
  again()
  return () => cancel()
}

/** Through links: renewal often swaps one. */
function stampOf(file: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(file)
    return `${ino}/${size}/${mtimeMs}`
  } catch {
    // Just being replaced, or gone: reading it says so.
    return 'none'
  }
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw unusable(file, reasonOf(error))
  }
}

function unusable(file: string, why: string): CodedError {
  return new CodedError('ERR_TLS_CERTIFICATE', [file, why])
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
