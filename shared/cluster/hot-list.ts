/**
 * What a member knows of images that are asked for, as another one needs it that will be asked instead: the builds whose
 * image is in memory, latest used first. Images themselves do not travel here: every member has them, or gets them from where they are kept.
 */
import { z } from 'zod'
import type { ImageId } from '../brand.ts'
import { HOT_LIST_MAX } from '../limits.ts'

export interface HotImage {
  readonly account: string
  readonly functionName: string
  readonly imageId: ImageId
}

const name = z.string().min(1).max(256)
const hotImage: z.ZodType<HotImage> = z.object({ account: name, functionName: name, imageId: z.custom<ImageId>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)) })
const hotList = z.array(hotImage).max(HOT_LIST_MAX)

/** Null for what is no such list. */
export function parseHotList(value: unknown): readonly HotImage[] | null {
  return hotList.safeParse(value).data ?? null
}

/** The images that were used here lately, bounded; the longest unused go first. */
export class HotList {
  readonly #images = new Map<ImageId, HotImage>()

  used(account: string, functionName: string, imageId: ImageId): void {
    const known = this.#images.get(imageId)
    if (known !== undefined) {
      this.#images.delete(imageId)
      this.#images.set(imageId, known)
      return
    }
    if (this.#images.size >= HOT_LIST_MAX) {
      for (const oldest of this.#images.keys()) {
        this.#images.delete(oldest)
        break
      }
    }
    this.#images.set(imageId, { account, functionName, imageId })
  }

  /** Those for which `isHere` holds, latest used first; the others are forgotten. */
  list(isHere: (imageId: ImageId) => boolean): HotImage[] {
    for (const imageId of this.#images.keys()) if (!isHere(imageId)) this.#images.delete(imageId)
    return [...this.#images.values()].reverse()
  }
}
