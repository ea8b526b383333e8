/**
 * How a block's content is written to disk. The store verifies the content against its id after decoding, so a codec
 * need not detect alteration; it must refuse what it cannot decode with ERR_STORE_BLOCK.
 * Encryption goes here: a key per account, the block's id as associated data.
 */
import type { BlockId } from '../microvm/manifest.ts'

export interface BlockCodec {
  /** May return `content` itself. */
  encode(id: BlockId, content: Uint8Array): Uint8Array
  /** `stored` belongs to the codec; it may be returned. */
  decode(id: BlockId, stored: Uint8Array): Uint8Array
}

export const identityCodec: BlockCodec = {
  encode: (_id, content) => content,
  decode: (_id, stored) => stored,
}
