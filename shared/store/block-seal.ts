/**
 * Convergent encryption of one block: equal content under an equal domain and salt gives an equal block, whoever stores
 * it, and nobody needs a common secret for that.
 *
 *   digest = SHA-256(content)
 *   key    = SHA-256(label, domain, salt, digest)
 *   block  = AES-256-GCM(key, fixed nonce, content), tag last
 *   id     = SHA-256(block)
 *
 * B1: a key encrypts exactly one content, since it follows from the content; so a fixed nonce is never used twice.
 * B2: an id is checked before its block is decrypted, and the tag with it. GCM alone would not do: who knows the content
 *     knows the key, and could make another block that this key opens. SHA-256 binds the block to its id, and the
 *     manifest, which is sealed, binds id and key to the object.
 *
 * What it gives away, as every convergent scheme does: who has a content can tell whether it is stored in the same
 * domain and salt. A domain per account confines that to the account.
 */
import { createCipheriv, createDecipheriv, hash } from 'node:crypto'
import { CodedError } from '../errors.ts'
import type { BlockKey, SealedBlockId } from './types.ts'

export const SEAL_TAG_BYTES = 16
const NONCE = Buffer.alloc(12)
const CIPHER = 'aes-256-gcm'
const LABEL = 'outpost block 1'
const ZEROS = Buffer.alloc(4096)

export interface SealedBlock {
  readonly id: SealedBlockId
  readonly key: BlockKey
  /** Ciphertext and tag. */
  readonly bytes: Uint8Array
}

/** What a piece is known by before it is sealed: the same for every salt. */
export type ContentDigest = Buffer

export function contentDigest(content: Uint8Array): ContentDigest {
  return hash('sha256', content, 'buffer')
}

/** `domain`: '' for all accounts together, else an account. */
export function blockKey(domain: string, saltId: number, digest: ContentDigest): BlockKey {
  // JSON, so that no domain can end where a salt begins.
  return hash('sha256', JSON.stringify([LABEL, domain, saltId, digest.toString('hex')]), 'buffer') as Uint8Array as BlockKey
}

export function sealBlock(key: BlockKey, content: Uint8Array): SealedBlock {
  const cipher = createCipheriv(CIPHER, key, NONCE)
  const ciphertext = cipher.update(content)
  cipher.final()
  const bytes = Buffer.concat([ciphertext, cipher.getAuthTag()])
  return { id: sealedBlockId(bytes), key, bytes }
}

export function sealedBlockId(bytes: Uint8Array): SealedBlockId {
  return hash('sha256', bytes) as SealedBlockId
}

/** B2. The content is the caller's own. Throws ERR_STORE_BLOCK, which names the block. */
export function openBlock(key: BlockKey, id: SealedBlockId, bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength < SEAL_TAG_BYTES || sealedBlockId(bytes) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered'])
  try {
    const decipher = createDecipheriv(CIPHER, key, NONCE)
    decipher.setAuthTag(bytes.subarray(-SEAL_TAG_BYTES))
    const content = decipher.update(bytes.subarray(0, -SEAL_TAG_BYTES))
    decipher.final()
    return content
  } catch (error) {
    throw new CodedError('ERR_STORE_BLOCK', [id, 'not what its manifest says: its key does not open it'], { cause: error })
  }
}

export function isZeros(content: Uint8Array): boolean {
  for (let at = 0; at < content.byteLength; at += ZEROS.byteLength) {
    const part = content.subarray(at, at + ZEROS.byteLength)
    if (Buffer.compare(part, ZEROS.subarray(0, part.byteLength)) !== 0) return false
  }
  return true
}
