/**
 * What a session needs before it is served here: what its function is, asked of the region, and the function's image, brought
 * as what a region recommends is, into room that nobody wants. For sessions that have rested while this process, or the
 * function's place, was gone, and for those that come from another host of the site.
 */
import type { Clock } from '../shared/clock.ts'
import type { SandboxHost } from '../shared/worker/types.ts'
import type { FunctionEntry, KnownBuild } from './functions.ts'
import type { Residency } from './residency.ts'
import type { Versions } from './versions.ts'

export interface SessionNeedsOptions {
  readonly versions: Pick<Versions, 'resolve' | 'learn'>
  readonly residency: Pick<Residency, 'advised' | 'isBringing'>
  readonly host: Pick<SandboxHost, 'hasImage'>
  readonly clock: Clock
}

/** How long one is waited for that is told, and that is brought. */
const KNOWN_MS = 3_000
const IMAGE_MS = 5_000
const LOOK_MS = 10

export class SessionNeeds {
  readonly #options: SessionNeedsOptions

  constructor(options: SessionNeedsOptions) {
    this.#options = options
  }

  /** What a qualifier stands for, asked of the region if need be. Null: it is not told in time. Never rejects. */
  async known(entry: FunctionEntry, qualifier: string | null): Promise<KnownBuild | null> {
    const { versions } = this.#options
    let known = versions.resolve(entry, qualifier)
    await this.#until(KNOWN_MS, () => {
      known ??= versions.resolve(entry, qualifier)
      // It asks once at a time, and not while no region is in reach.
      if (known === null) versions.learn(entry, qualifier)
      return known !== null
    })
    return known
  }

  /** The build with its image in memory; null: not to be had. Never rejects. */
  async ready(entry: FunctionEntry, qualifier: string | null): Promise<KnownBuild | null> {
    const { residency, host } = this.#options
    const known = await this.known(entry, qualifier)
    if (known === null || !known.capable) return null
    const isHere = (): boolean => host.hasImage(known.build.imageId)
    if (!isHere()) residency.advised(entry)
    await this.#until(IMAGE_MS, () => isHere() || !residency.isBringing(known))
    return isHere() ? known : null
  }

  async #until(timeoutMs: number, condition: () => boolean): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.monotonicMs() + timeoutMs
    while (!condition() && clock.monotonicMs() < deadlineMs) await new Promise<void>((resolve) => clock.after(LOOK_MS, resolve))
  }
}
