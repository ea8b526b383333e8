/**
 * Session machines as they leave a process, to a disk or to another member: sealed under a key derived from their
 * account's, so that they are read and made by nobody else. A state may hold what the function held, secrets included.
 *
 *   u8 format, u32 version of the account's key, 12 nonce, ciphertext, 16 tag
 *
 * Z1  What is opened was sealed for this very account, function and id, by somebody who has the key: all three are
 *     authenticated with it. Build, image and sequence number are inside.
 * Z2  A copy of an older state is as authentic as the newest one: who keeps sessions remembers sequence numbers.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { BuildKey, ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'
import { sessionName, type SessionKey, type SessionRecord } from './types.ts'

/** A key for one account's sessions in one tier, and which version of the account's key it comes from. */
export interface SealKey {
  readonly version: number
  readonly key: Uint8Array
}

/** Who has the keys. Null: this account's are not here, so nothing of it can be sealed or opened. */
export interface SealKeys {
  /** The newest, for sealing. */
  current(account: string): SealKey | null
  of(account: string, version: number): SealKey | null
}

const FORMAT = 1
const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES = 5 + NONCE_BYTES

const meta = z.strictObject({
  buildKey: z.string().max(2048).transform((text) => text as BuildKey),
  imageId: z.string().regex(/^[0-9a-f]{64}$/).transform((text) => text as ImageId),
  sequence: z.int().min(1),
  createdAtMs: z.int().min(0),
  usedAtMs: z.int().min(0),
})

/** Null if the account's key is not here. */
export function sealSession(keys: SealKeys, session: SessionKey, { state, ...rest }: SessionRecord): Uint8Array | null {
  const sealKey = keys.current(session.account)
  if (sealKey === null) return null
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt8(FORMAT, 0)
  head.writeUInt32LE(sealKey.version, 1)
  const nonce = randomBytes(NONCE_BYTES)
  nonce.copy(head, 5)
  const cipher = createCipheriv(CIPHER, sealKey.key, nonce)
  cipher.setAAD(boundTo(session, sealKey.version))
  const text = Buffer.from(JSON.stringify({ ...rest, createdAtMs: Math.floor(rest.createdAtMs), usedAtMs: Math.floor(rest.usedAtMs) }))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return Buffer.concat([head, cipher.update(length), cipher.update(text), cipher.update(state), cipher.final(), cipher.getAuthTag()])
}

/** Z1. Throws ERR_SESSION_STATE. */
export function openSession(keys: SealKeys, session: SessionKey, sealed: Uint8Array): SessionRecord {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
  if (bytes.length < HEAD_BYTES + TAG_BYTES + 4 || bytes[0] !== FORMAT) throw new CodedError('ERR_SESSION_STATE', ['it is no sealed session'])
  const version = bytes.readUInt32LE(1)
  const sealKey = keys.of(session.account, version)
  if (sealKey === null) throw new CodedError('ERR_SESSION_STATE', ['the key that it was sealed with is not here'])
  try {
    const decipher = createDecipheriv(CIPHER, sealKey.key, bytes.subarray(5, HEAD_BYTES))
    decipher.setAAD(boundTo(session, version))
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
    const opened = decipher.update(bytes.subarray(HEAD_BYTES, -TAG_BYTES))
    decipher.final()
    const textEnd = 4 + opened.readUInt32LE(0)
    // A copy: the state is read as words, which lie at multiples of four.
    return { ...meta.parse(JSON.parse(opened.subarray(4, textEnd).toString())), state: new Uint8Array(opened.subarray(textEnd)) }
  } catch (error) {
    throw new CodedError('ERR_SESSION_STATE', ['it was sealed for another session or with another key, or is altered'], { cause: error })
  }
}

function boundTo(session: SessionKey, version: number): Buffer {
  return Buffer.from(JSON.stringify(['outpost session 1', sessionName(session), version]))
}
