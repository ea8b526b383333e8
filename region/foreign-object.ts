/** A sealed object that comes from elsewhere, from an export or another node, opened with every check that a read of a store makes. */
import { CodedError } from '../shared/errors.ts'
import { openBlock } from '../shared/store/block-seal.ts'
import type { ObjectStore } from '../shared/store/object-store.ts'
import type { ObjectKey } from '../shared/store/object-tables.ts'
import { decodeSealedManifest, openManifest } from '../shared/store/sealed-manifest.ts'
import type { PlainObject, SealedBlockId } from '../shared/store/types.ts'

export interface ForeignObject extends ObjectKey {
  readonly wrapped: Uint8Array
  readonly manifest: Uint8Array
}

/** `block`: null if it is not there. Throws ERR_STORE_BLOCK, ERR_STORE_KEY; ERR_STORE_SALT if its salts are not among ours. */
export function openForeignObject(store: ObjectStore, { account, objectId, wrapped, manifest: encoded }: ForeignObject, block: (id: SealedBlockId) => Uint8Array | null): PlainObject {
  const manifest = decodeSealedManifest(encoded, objectId)
  const opened = openManifest(store.keyring.unwrap(account, objectId, wrapped), manifest)
  const pieces = manifest.pieces.map((piece, at) => {
    const key = opened.keys[at] ?? null
    if (piece.id === null || key === null) return new Uint8Array(piece.bytes)
    store.salts.require(opened.saltIds[at] ?? 0)
    const bytes = block(piece.id)
    if (bytes === null) throw new CodedError('ERR_STORE_BLOCK', [piece.id, 'missing'])
    return openBlock(key, piece.id, bytes)
  })
  return { objectId, kind: manifest.kind, parentId: manifest.parentId, head: opened.head, pieces }
}
