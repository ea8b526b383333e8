/** Images for POPs that take them page by page in the clear: those asked for last are kept open, since every page is a call of its own. */
import type { ImageId } from '../shared/brand.ts'
import type { BlockId } from '../shared/microvm/manifest.ts'
import type { Content, StoredImage } from './content.ts'

/** Pulls that POPs have under way at once, about; each image a few megabytes. */
const OPEN_IMAGES_MAX = 32

export class PlainImages {
  readonly #content: Content
  readonly #open = new Map<ImageId, StoredImage>()

  constructor(content: Content) {
    this.#content = content
  }

  manifest(imageId: ImageId): Uint8Array | null {
    const image = this.#content.readAnyImage(imageId)
    if (image === null) return null
    this.#open.delete(imageId)
    this.#open.set(imageId, image)
    const [oldest] = this.#open.keys()
    if (this.#open.size > OPEN_IMAGES_MAX && oldest !== undefined) this.#open.delete(oldest)
    return image.encodedManifest
  }

  /** Null: no image asked for lately has it. */
  page(id: BlockId): Uint8Array | null {
    for (const image of this.#open.values()) if (image.has(id)) return image.page(id)
    return null
  }
}
