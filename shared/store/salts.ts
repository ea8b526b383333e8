/**
 * How many copies of one content a store holds, and who shares which. A salt goes into a block's key, so each of the N
 * salts that a policy permits makes a copy of its own: a damaged block harms only the objects made with its salt, and
 * is mended from another one's. The policy belongs to the server; a manifest from elsewhere that names other salts is
 * refused. Manifests record their salts, so a change of policy never concerns what is stored.
 */
import { hash } from 'node:crypto'
import { z } from 'zod'
import { assertNever } from '../brand.ts'
import { CodedError } from '../errors.ts'

export const COPIES_MAX = 1000

const copies = z.int().min(1).max(COPIES_MAX)
export const saltOptions = z.discriminatedUnion('by', [
  /** An account always has the same copy; accounts spread over all. With one copy this is plain convergence. */
  z.strictObject({ by: z.literal('user'), copies }),
  /** The next copy each `epochMs`: no copy is shared by what was stored further apart than N epochs. */
  z.strictObject({ by: z.literal('epoch'), copies, epochMs: z.int().min(1) }),
  /** Each of `zones` has its own, so that a zone reads what it wrote. */
  z.strictObject({ by: z.literal('location'), zones: z.array(z.string().min(1)).min(1).max(COPIES_MAX), zone: z.string() }),
  /** A copy that is not there yet, until there are N; then as `user`. */
  z.strictObject({ by: z.literal('state'), copies }),
])
export type SaltOptions = z.infer<typeof saltOptions>

export const ONE_COPY: SaltOptions = { by: 'user', copies: 1 }

export interface SaltQuestion {
  readonly account: string
  readonly nowMs: number
  /** Salts under which this content is stored already. Asked only by a policy that needs to know. */
  readonly present: () => readonly number[]
}

export class SaltPolicy {
  /** N: at most so many blocks for one content. */
  readonly copies: number
  readonly #options: SaltOptions

  /** Throws ERR_CONFIG. */
  constructor(options: SaltOptions) {
    const checked = saltOptions.safeParse(options)
    if (!checked.success) throw new CodedError('ERR_CONFIG', [`copies of blocks: ${z.prettifyError(checked.error)}`])
    if (options.by === 'location' && !options.zones.includes(options.zone)) throw new CodedError('ERR_CONFIG', [`copies of blocks: zone ${options.zone} is not among ${options.zones.join(', ')}`])
    this.#options = options
    this.copies = options.by === 'location' ? options.zones.length : options.copies
  }

  /** From 0 to N - 1. */
  choose({ account, nowMs, present }: SaltQuestion): number {
    const options = this.#options
    switch (options.by) {
      case 'user': return spread(account, options.copies)
      case 'epoch': return Math.floor(nowMs / options.epochMs) % options.copies
      case 'location': return options.zones.indexOf(options.zone)
      case 'state': {
        const there = new Set(present())
        for (let saltId = 0; saltId < options.copies; saltId += 1) if (!there.has(saltId)) return saltId
        return spread(account, options.copies)
      }
      default: return assertNever(options)
    }
  }

  /** Throws ERR_STORE_SALT for a salt that this policy would never choose. */
  require(saltId: number): void {
    if (!Number.isInteger(saltId) || saltId < 0 || saltId >= this.copies) throw new CodedError('ERR_STORE_SALT', [saltId, `this store makes ${this.copies} copies at most`])
  }
}

function spread(account: string, count: number): number {
  return hash('sha256', account, 'buffer').readUIntBE(0, 6) % count
}
