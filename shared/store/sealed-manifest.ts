/**
 * Manifests, sealed. As bytes:
 *
 *   4  `OSM1`
 *   4  length of the public part (little endian), then the public part: JSON, canonical by its order of members
 *   n  the key part to the end: AES-256-GCM under the data key, tag last; the public part is its associated data
 *
 * The key part in the clear: 4 bytes length of the head, the head, then 34 bytes per piece: salt (2), key (32); zeros
 * for a piece of zeros. A data key is random and seals one manifest, so the nonce is fixed.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import { SEAL_TAG_BYTES } from './block-seal.ts'
import { OBJECT_KINDS, type BlockKey, type DataKey, type ObjectId, type OpenedManifest, type SealedBlockId, type SealedManifest, type SealedPiece } from './types.ts'

const MAGIC = Buffer.from('OSM1')
const CIPHER = 'aes-256-gcm'
const NONCE = Buffer.alloc(12)
export const DATA_KEY_BYTES = 32
const KEY_BYTES = 32
const SALT_BYTES = 2
/** Pieces of one object at most: 1 GiB of pages, each alone in its window. */
export const PIECES_MAX = 262_144
/** One piece at most: far more than a group of pages or a cut of a bundle has. */
export const PIECE_MAX_BYTES = 1024 * 1024

const hexId = z.string().regex(/^[0-9a-f]{64}$/)
const publicPart = z.strictObject({
  format: z.literal(1),
  objectId: hexId,
  kind: z.enum(OBJECT_KINDS),
  parentId: hexId.nullable(),
  pieces: z.array(z.tuple([hexId.nullable(), z.int().min(1).max(PIECE_MAX_BYTES)])).max(PIECES_MAX),
})

/** Throws ERR_STORE_BLOCK if the text cannot be an object's id. */
export function parseObjectId(text: string): ObjectId {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new CodedError('ERR_STORE_BLOCK', [text.slice(0, 80), 'not an id'])
  return text as ObjectId
}

export function newDataKey(): DataKey {
  return new Uint8Array(randomBytes(DATA_KEY_BYTES)) as DataKey
}

/** `opened` has a key and a salt for each of `pieces`. */
export function sealManifest(dataKey: DataKey, head: Omit<SealedManifest, 'keyPart' | 'format'>, opened: OpenedManifest): SealedManifest {
  const manifest = { format: 1, ...head } as const
  const cipher = createCipheriv(CIPHER, dataKey, NONCE)
  cipher.setAAD(encodePublic(manifest))
  const ciphertext = cipher.update(encodeKeys(opened))
  cipher.final()
  return { ...manifest, keyPart: Buffer.concat([ciphertext, cipher.getAuthTag()]) }
}

/** Throws ERR_STORE_KEY if it is another manifest's key, or if any part of the manifest is altered. */
export function openManifest(dataKey: DataKey, sealed: SealedManifest): OpenedManifest {
  try {
    const decipher = createDecipheriv(CIPHER, dataKey, NONCE)
    decipher.setAAD(encodePublic(sealed))
    decipher.setAuthTag(sealed.keyPart.subarray(-SEAL_TAG_BYTES))
    const clear = decipher.update(sealed.keyPart.subarray(0, -SEAL_TAG_BYTES))
    decipher.final()
    return decodeKeys(clear, sealed.pieces)
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', [`the manifest of ${sealed.objectId}`, 'it does not open it'], { cause: error })
  }
}

export function encodeSealedManifest(manifest: SealedManifest): Uint8Array {
  const text = encodePublic(manifest)
  return Buffer.concat([MAGIC, u32(text.byteLength), text, manifest.keyPart])
}

/** Checks the form only: what it says is proven by `openManifest`. Throws ERR_STORE_BLOCK, which names the object. */
export function decodeSealedManifest(bytes: Uint8Array, expected: ObjectId): SealedManifest {
  const refuse = (why: string): CodedError => new CodedError('ERR_STORE_BLOCK', [`manifest of ${expected}`, why])
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.byteLength < 8 || !view.subarray(0, 4).equals(MAGIC)) throw refuse('not a sealed manifest')
  const keyPartAt = 8 + view.readUInt32LE(4)
  if (keyPartAt + SEAL_TAG_BYTES > view.byteLength) throw refuse('cut short')
  let parsed: z.infer<typeof publicPart>
  try {
    parsed = publicPart.parse(JSON.parse(view.subarray(8, keyPartAt).toString()))
  } catch (error) {
    throw new CodedError('ERR_STORE_BLOCK', [`manifest of ${expected}`, 'malformed'], { cause: error })
  }
  if (parsed.objectId !== expected) throw refuse(`that of ${parsed.objectId}`)
  return {
    format: 1,
    objectId: expected,
    kind: parsed.kind,
    parentId: parsed.parentId as ObjectId | null,
    pieces: parsed.pieces.map(([id, pieceBytes]): SealedPiece => ({ id: id as SealedBlockId | null, bytes: pieceBytes })),
    keyPart: new Uint8Array(view.subarray(keyPartAt)),
  }
}

/** Distinct blocks that a manifest names. */
export function blocksOf(manifest: SealedManifest): SealedBlockId[] {
  const ids = new Set<SealedBlockId>()
  for (const { id } of manifest.pieces) if (id !== null) ids.add(id)
  return [...ids]
}

function encodePublic({ format, objectId, kind, parentId, pieces }: Omit<SealedManifest, 'keyPart'>): Buffer {
  return Buffer.from(JSON.stringify({ format, objectId, kind, parentId, pieces: pieces.map(({ id, bytes }) => [id, bytes]) }))
}

function encodeKeys({ head, keys, saltIds }: OpenedManifest): Buffer {
  const clear = Buffer.alloc(4 + head.byteLength + keys.length * (SALT_BYTES + KEY_BYTES))
  clear.writeUInt32LE(head.byteLength, 0)
  clear.set(head, 4)
  let at = 4 + head.byteLength
  keys.forEach((key, index) => {
    clear.writeUInt16LE(saltIds[index] ?? 0, at)
    if (key !== null) clear.set(key, at + SALT_BYTES)
    at += SALT_BYTES + KEY_BYTES
  })
  return clear
}

function decodeKeys(clear: Buffer, pieces: readonly SealedPiece[]): OpenedManifest {
  const headBytes = clear.readUInt32LE(0)
  const keysAt = 4 + headBytes
  if (clear.byteLength !== keysAt + pieces.length * (SALT_BYTES + KEY_BYTES)) throw new Error('keys and pieces differ in number')
  const keys: (BlockKey | null)[] = []
  const saltIds: number[] = []
  pieces.forEach(({ id }, index) => {
    const at = keysAt + index * (SALT_BYTES + KEY_BYTES)
    saltIds.push(clear.readUInt16LE(at))
    keys.push(id === null ? null : (clear.subarray(at + SALT_BYTES, at + SALT_BYTES + KEY_BYTES) as Uint8Array as BlockKey))
  })
  return { head: clear.subarray(4, keysAt), keys, saltIds }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
