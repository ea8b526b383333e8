/**
 * The key pair by which a POP or a region is known on a link, and the certificate that carries it through TLS.
 *
 * Nobody vouches for the certificate and nobody reads its names or dates: peers compare the fingerprint of the key in it.
 * So it is a pure function of the key (names and dates fixed, Ed25519 signatures have no randomness), only the key is
 * stored, and there is nothing to renew. Taking a key out of use is `outpost region pop revoke`.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { CodedError, toCodedError } from '../errors.ts'
import { createSecretFile, readSecretFile } from '../store/secret-file.ts'
import { bitString, explicit, integer, objectId, octetString, sequence, set, time, TRUE, utf8String } from './der.ts'
import { fingerprintOfKey, type Fingerprint } from './fingerprint.ts'

export interface LinkKeyPair {
  readonly fingerprint: Fingerprint
  /** PEM, PKCS #8. */
  readonly privateKey: string
  /** PEM, self-signed. */
  readonly certificate: string
}

/** In the data folder of a tier. */
export const LINK_KEY_FILE = 'link-key.json'
const ED25519 = sequence(objectId('1.3.101.112'))
const COMMON_NAME = objectId('2.5.4.3')
const BASIC_CONSTRAINTS = objectId('2.5.29.19')
/** RFC 5280: the date for "no end is known". */
const NOT_BEFORE = '20000101000000Z'
const NOT_AFTER = '99991231235959Z'
const SERIAL_BYTES = 16

const keyFile = z.strictObject({ format: z.literal(1), privateKey: z.string() })

export function makeLinkKeyPair(): LinkKeyPair {
  return pairOf(generateKeyPairSync('ed25519').privateKey)
}

/** The pair in `path`, made there if there is none, readable by the owner only. Throws ERR_STORE_KEY. */
export function loadLinkKeyPair(path: string): LinkKeyPair {
  const stored = readKeyFile(path)
  if (stored !== null) return stored
  const made = makeLinkKeyPair()
  createSecretFile(path, `${JSON.stringify({ format: 1, privateKey: made.privateKey })}\n`)
  // Another process may have been first: what is on disk counts.
  return readKeyFile(path) ?? made
}

function readKeyFile(path: string): LinkKeyPair | null {
  const text = readSecretFile(path)
  if (text === null) return null
  try {
    const key = createPrivateKey(keyFile.parse(JSON.parse(text)).privateKey)
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`a key of type ${key.asymmetricKeyType ?? 'unknown'}`)
    return pairOf(key)
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', [path, `it does not hold the key of a link: ${toCodedError(error).message}`], { cause: error })
  }
}

function pairOf(privateKey: KeyObject): LinkKeyPair {
  const subjectPublicKeyInfo = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  const fingerprint = fingerprintOfKey(subjectPublicKeyInfo)
  const name = sequence(set(sequence(COMMON_NAME, utf8String(`outpost ${fingerprint.slice(0, 16)}`))))
  const version3 = explicit(0, integer(Buffer.from([2])))
  const serial = Buffer.from(fingerprint, 'hex').subarray(0, SERIAL_BYTES)
  // Not an authority: whoever trusts this certificate trusts no other by it.
  const extensions = explicit(3, sequence(sequence(BASIC_CONSTRAINTS, TRUE, octetString(sequence()))))
  const body = sequence(version3, integer(serial), ED25519, name, sequence(time(NOT_BEFORE), time(NOT_AFTER)), name, subjectPublicKeyInfo, extensions)
  const certificate = sequence(body, ED25519, bitString(sign(null, body, privateKey)))
  return { fingerprint, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), certificate: pem(certificate) }
}

function pem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}
