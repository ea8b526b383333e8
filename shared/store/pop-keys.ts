/**
 * How a POP gets to open what it was granted, and nothing else. A POP has an X25519 pair, made at its first start, whose
 * private half never leaves it. The region wraps the data key of one manifest for one POP:
 *
 *   32  public half of a pair made for this wrap
 *   48  AES-256-GCM of the data key, tag last; key = HKDF-SHA-256(shared secret, both public halves, the object)
 *
 * The key of a wrap is used once, so its nonce is fixed. A wrap opens at its POP and for its object only.
 */
import { createCipheriv, createDecipheriv, createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { CodedError, toCodedError } from '../errors.ts'
import { SEAL_TAG_BYTES } from './block-seal.ts'
import { DATA_KEY_BYTES } from './sealed-manifest.ts'
import { createSecretFile, readSecretFile } from './secret-file.ts'
import type { DataKey, ObjectId } from './types.ts'

const PUBLIC_KEY_BYTES = 32
export const POP_WRAP_BYTES = PUBLIC_KEY_BYTES + DATA_KEY_BYTES + SEAL_TAG_BYTES
const CIPHER = 'aes-256-gcm'
const NONCE = Buffer.alloc(12)
const LABEL = 'outpost pop wrap 1'

export interface PopKeys {
  /** 32 bytes, base64url: what a POP says in its hello. */
  readonly publicKey: string
  readonly privateKey: KeyObject
}

const keyFile = z.strictObject({ format: z.literal(1), publicKey: z.string(), privateKey: z.string() })

export function makePopKeys(): PopKeys {
  const { publicKey, privateKey } = generateKeyPairSync('x25519')
  return { publicKey: rawPublicKey(publicKey).toString('base64url'), privateKey }
}

/** The keys in `path`, made there if there are none, readable by the owner only. Throws ERR_STORE_KEY. */
export function loadPopKeys(path: string): PopKeys {
  const stored = readKeyFile(path)
  if (stored !== null) return stored
  const keys = makePopKeys()
  const { d = '' } = keys.privateKey.export({ format: 'jwk' })
  createSecretFile(path, `${JSON.stringify({ format: 1, publicKey: keys.publicKey, privateKey: d })}\n`)
  // Another process may have been first: what is on disk counts.
  return readKeyFile(path) ?? keys
}

/** Throws ERR_STORE_KEY if `publicKey` is none. */
export function wrapForPop(publicKey: string, objectId: ObjectId, dataKey: DataKey): Uint8Array {
  try {
    const own = generateKeyPairSync('x25519')
    const ownPublic = rawPublicKey(own.publicKey)
    const secret = diffieHellman({ privateKey: own.privateKey, publicKey: toPublicKey(publicKey) })
    const cipher = createCipheriv(CIPHER, wrapKey(secret, ownPublic, publicKey, objectId), NONCE)
    const ciphertext = cipher.update(dataKey)
    cipher.final()
    return Buffer.concat([ownPublic, ciphertext, cipher.getAuthTag()])
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', ['the POP', toCodedError(error).message], { cause: error })
  }
}

/** Throws ERR_STORE_KEY if it was wrapped for another POP or object, or is altered. */
export function unwrapAtPop(keys: PopKeys, objectId: ObjectId, wrapped: Uint8Array): DataKey {
  try {
    if (wrapped.byteLength !== POP_WRAP_BYTES) throw new Error(`${wrapped.byteLength} bytes`)
    const theirs = Buffer.from(wrapped.subarray(0, PUBLIC_KEY_BYTES))
    const secret = diffieHellman({ privateKey: keys.privateKey, publicKey: toPublicKey(theirs.toString('base64url')) })
    const decipher = createDecipheriv(CIPHER, wrapKey(secret, theirs, keys.publicKey, objectId), NONCE)
    decipher.setAuthTag(wrapped.subarray(-SEAL_TAG_BYTES))
    const dataKey = decipher.update(wrapped.subarray(PUBLIC_KEY_BYTES, -SEAL_TAG_BYTES))
    decipher.final()
    return new Uint8Array(dataKey) as DataKey
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', [`the manifest of ${objectId}`, 'it was not wrapped for this POP'], { cause: error })
  }
}

/** True for what `wrapForPop` takes. */
export function isPopPublicKey(text: string): boolean {
  return /^[A-Za-z0-9_-]{43}$/.test(text)
}

function wrapKey(secret: Buffer, wrapPublic: Buffer, popPublic: string, objectId: ObjectId): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, wrapPublic, JSON.stringify([LABEL, popPublic, objectId]), 32))
}

function toPublicKey(x: string): KeyObject {
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' })
}

function rawPublicKey(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url')
}

function readKeyFile(path: string): PopKeys | null {
  const text = readSecretFile(path)
  if (text === null) return null
  try {
    const { publicKey, privateKey } = keyFile.parse(JSON.parse(text))
    return { publicKey, privateKey: createPrivateKey({ key: { kty: 'OKP', crv: 'X25519', x: publicKey, d: privateKey }, format: 'jwk' }) }
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', [path, 'it does not hold the keys of a POP'], { cause: error })
  }
}
