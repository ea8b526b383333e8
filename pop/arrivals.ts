/**
 * Blocks that pulls have promised to fetch, so that others that need them wait instead of asking again.
 *
 * A promise is kept from the moment a pull decides to fetch a block until that pull has ended: by then the block is on
 * disk, if it has a place there. A pull that ends without a block it promised settles it with null.
 */
import type { SealedBlockId } from '../shared/store/types.ts'

interface Coming {
  readonly block: Promise<Uint8Array | null>
  readonly settle: (block: Uint8Array | null) => void
}

/** One pull's promises. */
export interface Arrival {
  promise(id: SealedBlockId): void
  came(id: SealedBlockId, block: Uint8Array): void
  end(): void
}

export class Arrivals {
  readonly #coming = new Map<SealedBlockId, Coming>()

  /** The block once it has come, null if it did not; or null if nobody fetches it. */
  coming(id: SealedBlockId): Promise<Uint8Array | null> | null {
    return this.#coming.get(id)?.block ?? null
  }

  begin(): Arrival {
    const promised = new Set<SealedBlockId>()
    return {
      promise: (id) => {
        const { promise: block, resolve: settle } = Promise.withResolvers<Uint8Array | null>()
        promised.add(id)
        this.#coming.set(id, { block, settle })
      },
      came: (id, block) => this.#coming.get(id)?.settle(block),
      end: () => {
        for (const id of promised) {
          this.#coming.get(id)?.settle(null)
          this.#coming.delete(id)
        }
      },
    }
  }
}
