/**
 * This process's place in its group: joins it, keeps the set of peers up to date, and joins again under another name when
 * its lease was lost.
 *
 *   joining -> member -> (lease lost) -> joining -> ... -> left
 *
 * G1  A name stands for one life: after a lost lease nothing is done in the old one's.
 * G2  What the group is told of this member is what it said last, whichever life it is in.
 */
import type { Clock } from '../clock.ts'
import { toCodedError } from '../errors.ts'
import type { Members, Membership, Watch } from '../coordination/types.ts'
import type { Log } from '../log.ts'
import { readMember } from './member-info.ts'
import type { PeerSet } from './peer-set.ts'
import type { PeerInfo, PeerMember } from './types.ts'

export interface PeerGroupOptions {
  readonly members: Members
  readonly peers: PeerSet
  readonly info: PeerInfo
  /** A name that nobody has had. The first one is that of `peers`. */
  readonly newName: () => string
  /** All that are alive, this one among them as the group sees it; after `peers` has them. */
  readonly onMembers?: (members: readonly PeerMember[]) => void
  /** The lease is lost: whatever this member owned it owns no longer. Called before it joins again. */
  readonly onLost: () => void
  /** It has another name now. */
  readonly onRenamed: () => void
  readonly clock: Clock
  readonly log: Log
}

const REJOIN_PAUSE_MS = 1_000

export class PeerGroup {
  readonly #options: PeerGroupOptions
  readonly #log: Log
  #info: PeerInfo
  #membership: Membership | null = null
  #watch: Watch | null = null
  #left = false

  private constructor(options: PeerGroupOptions) {
    this.#options = options
    this.#info = options.info
    this.#log = options.log.child('group')
  }

  /** Rejects with what keeps it from joining. */
  static async join(options: PeerGroupOptions): Promise<PeerGroup> {
    const group = new PeerGroup(options)
    await group.#join(options.peers.self)
    group.#watch = options.members.watch((members) => {
      const readable = members.flatMap((member) => readMember(member) ?? [])
      options.peers.update(readable)
      options.onMembers?.(readable)
    })
    return group
  }

  get info(): PeerInfo {
    return this.#info
  }

  /** Whether this member may act in its own name now. */
  holds(): boolean {
    return this.#membership?.holds() ?? false
  }

  /** Resolves when the group can see it. A group that cannot be reached is told at the next join (G2). */
  async say(change: Partial<PeerInfo>): Promise<void> {
    this.#info = { ...this.#info, ...change }
    try {
      await this.#membership?.update(this.#info)
    } catch (error) {
      this.#log.warn('the group could not be told', { code: toCodedError(error).code })
    }
  }

  /** Idempotent, never rejects. */
  async leave(): Promise<void> {
    this.#left = true
    this.#watch?.stop()
    const membership = this.#membership
    this.#membership = null
    await membership?.leave()
  }

  async #join(name: string): Promise<void> {
    const membership = await this.#options.members.join(name, this.#info)
    this.#membership = membership
    // It never rejects.
    void membership.lost.then(() => this.#onLost())
  }

  #onLost(): void {
    if (this.#left) return
    this.#membership = null
    this.#log.warn('the lease of this member is lost', { memberId: this.#options.peers.self })
    this.#options.onLost()
    this.#rejoin().catch((error: unknown) => this.#log.error('this member cannot join again', { error: String(error) }))
  }

  async #rejoin(): Promise<void> {
    const { peers, newName, clock } = this.#options
    while (!this.#left) {
      const name = newName()
      try {
        await this.#join(name)
        peers.rename(name)
        this.#log.info('this member is back under another name', { memberId: name })
        this.#options.onRenamed()
        return
      } catch (error) {
        this.#log.warn('joining again failed', { code: toCodedError(error).code })
        await new Promise<void>((resolve) => clock.after(REJOIN_PAUSE_MS, resolve))
      }
    }
  }
}
