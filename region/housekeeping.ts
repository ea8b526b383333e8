/** What a region does for its store beside its calls: collects what nobody names, reads through the blocks, mends what is damaged. */
import type { Clock } from '../shared/clock.ts'
import { toCodedError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import type { Repairer, Scrubber } from '../shared/store/repair.ts'
import type { Collector } from '../shared/store/roots.ts'

export interface HousekeepingDeps {
  readonly collector: Collector
  readonly scrubber: Scrubber
  readonly repairer: Repairer
  readonly clock: Clock
  readonly log: Log
  /** Between the end of one collection and the begin of the next. */
  readonly gcPeriodMs: number
}

export class Housekeeping {
  readonly #deps: HousekeepingDeps
  readonly #log: Log
  #cancel: () => void = () => undefined
  #stopped = false

  constructor(deps: HousekeepingDeps) {
    this.#deps = deps
    this.#log = deps.log.child('region-housekeeping')
  }

  start(): void {
    this.#deps.repairer.watch()
    this.#deps.scrubber.start()
    this.#schedule()
  }

  #schedule(): void {
    if (this.#stopped) return
    this.#cancel = this.#deps.clock.after(this.#deps.gcPeriodMs, () => void this.#collect())
  }

  /** Ends after the step that is under way. To be called before the store is closed. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancel()
    this.#deps.scrubber.stop()
    await Promise.all([this.#deps.collector.stop(), this.#deps.repairer.stop()])
  }

  /** Never rejects. */
  async #collect(): Promise<void> {
    let objects = 0
    let blockBytes = 0
    try {
      await this.#deps.collector.run((step) => {
        if (step.kind !== 'deleted') return
        objects += step.objects
        blockBytes += step.blockBytes
      })
      if (objects > 0) this.#log.info('objects that nothing names were deleted', { objects, blockBytes })
    } catch (error) {
      this.#log.error('a collection failed and is tried again later', { code: toCodedError(error).code, reason: toCodedError(error).message })
    }
    this.#schedule()
  }
}
