/** Care of what all nodes share, by one of them at a time: what nothing names is deleted, and marks of old deletions are forgotten. */
import type { Clock } from '../shared/clock.ts'
import type { Candidacy, Documents, Leadership } from '../shared/coordination/types.ts'
import { toCodedError } from '../shared/errors.ts'
import { CHANGE_TOMBSTONES_MAX, SHARED_GC_PERIOD_MS } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import { randomUuid } from '../shared/uuid.ts'
import type { SharedContent } from './shared-content.ts'
import type { SharedRegistry } from './shared-registry.ts'

export interface SharedHousekeepingOptions {
  readonly leadership: Leadership
  readonly registry: SharedRegistry
  readonly documents: Documents
  readonly shared: SharedContent
  readonly clock: Clock
  readonly log: Log
}

export class SharedHousekeeping {
  readonly #options: SharedHousekeepingOptions
  readonly #log: Log
  #candidacy: Candidacy | null = null
  #cancelTimer: () => void = () => undefined
  #running: Promise<unknown> = Promise.resolve()
  #stopped = false

  constructor(options: SharedHousekeepingOptions) {
    this.#options = options
    this.#log = options.log.child('region-shared-housekeeping')
  }

  start(): void {
    const { leadership } = this.#options
    this.#candidacy = leadership.stand(randomUuid(), { onElected: (term) => this.#log.info('this node looks after the shared content', { term }), onLost: () => undefined })
    this.#schedule()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelTimer()
    await this.#candidacy?.stop()
    await this.#running
  }

  /** Never rejects. Only a mirror that has everything may say what is named by nothing. Resolves with how many blobs went. */
  async run(): Promise<number> {
    const { registry, shared, documents } = this.#options
    const mayNot = (): boolean => this.#stopped || this.#candidacy?.term() === null || !registry.status().current || !registry.status().connected
    if (mayNot()) return 0
    try {
      await documents.forgetDeleted(CHANGE_TOMBSTONES_MAX)
      return await shared.collect({ objects: registry.liveObjects(), rows: registry.liveRows() }, mayNot)
    } catch (error) {
      this.#log.warn('a pass over the shared content failed and is tried again later', { code: toCodedError(error).code, reason: toCodedError(error).message })
      return 0
    }
  }

  #schedule(): void {
    if (this.#stopped) return
    this.#cancelTimer = this.#options.clock.after(SHARED_GC_PERIOD_MS, () => {
      this.#running = this.run().finally(() => this.#schedule())
    })
  }
}
