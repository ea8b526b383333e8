/**
 * What a POP is given of images: sealed manifests with their keys wrapped for this POP, and sealed blocks.
 *
 * G1: it is given in the name of a function that is granted to the POP, and only what builds of that function are made of.
 * G2: a block or manifest that is damaged is mended, if it can be, while the POP waits: it need not begin again.
 * G3: what leaves is sealed as it is stored; a data key leaves its wrap only to check its manifest and to get another wrap.
 */
import type { ImageId } from '../shared/brand.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { LINK_ANSWER_MAX_BYTES } from '../shared/limits.ts'
import type { ReadBlock } from '../shared/link/blocks.ts'
import type { BlockSelection, ChainLink, ImageChain, ImageRef, PopPeer } from '../shared/link/types.ts'
import type { SealedObject } from '../shared/store/object-store.ts'
import { imageObjectId } from '../shared/store/page-groups.ts'
import { wrapForPop } from '../shared/store/pop-keys.ts'
import { blocksOf, decodeSealedManifest, openManifest } from '../shared/store/sealed-manifest.ts'
import type { SealedBlockId } from '../shared/store/types.ts'

export interface ImageSupplyDeps {
  /** Null if it is not there. Throws ERR_STORE_KEY. */
  readonly sealedImage: (account: string, imageId: ImageId) => SealedObject | null
  /** Verified. Throws ERR_STORE_BLOCK, and remembers that it is damaged. */
  readonly block: (id: SealedBlockId) => Uint8Array
  /** Stores an image anew, of which a block was missing or altered. Never rejects: whether it helped shows. */
  readonly repair: (image: ImageRef) => Promise<unknown>
  /** Images of the build that runs an image, ancestors first; null if the function has no such build. */
  readonly chainOf: (account: string, functionName: string, imageId: ImageId) => readonly ImageId[] | null
  /** Throws ERR_LINK_IDENTITY if the function is not granted to the POP. */
  readonly requireGrant: (popId: string, account: string, functionName: string) => void
}

/** What a manifest needs in an answer besides its bytes. */
const CHAIN_LINK_OVERHEAD_BYTES = 256

export class ImageSupply {
  readonly #deps: ImageSupplyDeps

  constructor(deps: ImageSupplyDeps) {
    this.#deps = deps
  }

  /** See LinkHandler. */
  async chain({ popId, publicKey }: PopPeer, image: ImageRef, from: ImageId, known: ReadonlySet<ImageId>): Promise<ImageChain | null> {
    const ancestry = this.#ancestry(popId, image)
    const end = ancestry.indexOf(from)
    if (end < 0) return null
    const wanted = ancestry.slice(0, end + 1).reverse()
    try {
      return this.#chain(publicKey, image.account, wanted, known)
    } catch (error) {
      if (!isDamage(error)) throw error
      await this.#deps.repair(image)
      return this.#chain(publicKey, image.account, wanted, known)
    }
  }

  /** `wanted`: descendants first. */
  #chain(publicKey: string, account: string, wanted: readonly ImageId[], known: ReadonlySet<ImageId>): ImageChain {
    const links: ChainLink[] = []
    let bytes = 0
    for (const imageId of wanted) {
      if (known.has(imageId) && links.length > 0) break
      const { manifest, dataKey } = this.#sealed(account, imageId)
      // Better found here, where it can be mended, than at the POP.
      openManifest(dataKey, decodeSealedManifest(manifest, imageObjectId(imageId)))
      bytes += manifest.byteLength + CHAIN_LINK_OVERHEAD_BYTES
      if (links.length > 0 && bytes > LINK_ANSWER_MAX_BYTES) break
      links.push({ imageId, manifest, wrappedKey: wrapForPop(publicKey, imageObjectId(imageId), dataKey) })
    }
    return { links }
  }

  /** See LinkHandler. */
  blocks(popId: string, image: ImageRef, wanted: readonly BlockSelection[]): ReadBlock {
    const ancestry = this.#ancestry(popId, image)
    const ids = wanted.flatMap(({ imageId, numbers }): (SealedBlockId | undefined)[] => {
      if (!ancestry.includes(imageId)) throw new CodedError('ERR_STORE_BLOCK', [imageId, `not an image of ${image.functionName}`])
      const blocks = blocksOf(decodeSealedManifest(this.#sealed(image.account, imageId).manifest, imageObjectId(imageId)))
      return numbers.map((number) => blocks[number])
    })
    // Once for a request: what did not help the first block does not help the next.
    let repair: Promise<unknown> | null = null
    return (at) => {
      const id = ids[at]
      if (id === undefined) return null
      try {
        return this.#deps.block(id)
      } catch (error) {
        if (!isDamage(error)) throw error
        repair ??= this.#mend(image, ids)
        return repair.then(() => this.#deps.block(id))
      }
    }
  }

  /** G2. Only what was found damaged is written anew, so all is looked at first. */
  #mend(image: ImageRef, ids: readonly (SealedBlockId | undefined)[]): Promise<unknown> {
    for (const id of ids) {
      try {
        if (id !== undefined) this.#deps.block(id)
      } catch (error) {
        if (!isDamage(error)) throw error
      }
    }
    return this.#deps.repair(image)
  }

  /** G1. Ancestors first; empty if the function has no such image. */
  #ancestry(popId: string, { account, functionName, imageId }: ImageRef): readonly ImageId[] {
    this.#deps.requireGrant(popId, account, functionName)
    return this.#deps.chainOf(account, functionName, imageId) ?? []
  }

  #sealed(account: string, imageId: ImageId): SealedObject {
    const sealed = this.#deps.sealedImage(account, imageId)
    if (sealed === null) throw new CodedError('ERR_STORE_BLOCK', [imageId, 'missing, as image'])
    return sealed
  }
}

function isDamage(error: unknown): boolean {
  const { code } = toCodedError(error)
  return code === 'ERR_STORE_BLOCK' || code === 'ERR_STORE_KEY'
}
