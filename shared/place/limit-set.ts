/**
 * How many of an account's managers serve it now: the current limit, raised when they are full and lowered when they
 * stand idle. One frontend's view; frontends tell each other of changes. Nothing depends on these views being equal or
 * right: each manager keeps to its share, so what is wrong here costs a question more and never a slot too many.
 *
 * C1: a raise is one share at a time, after the shares of the set that were asked said that they are full: those of which
 *     the asker has slots, and TRIES_MAX others.
 * C2: a share whose manager does not answer is asked of the manager's successor; the set does not grow for that.
 * C3: lowered by one share at a time, at most once in LOWER_PERIOD_MS, if load is below LOWER_BELOW on average and would stay
 *     below LOWERED_MAX_LOAD, and if nothing was refused in that time. Never below one share.
 * C4: of two views the higher version counts, among equals the one of the greater origin. A raise is taken at once, a
 *     lowering only by who has seen nothing refused since LOWER_PERIOD_MS.
 */
import type { Pool } from './slot-line.ts'

export const LOWER_PERIOD_MS = 60_000
export const LOWER_BELOW = 0.3
export const LOWERED_MAX_LOAD = 0.7
/** Managers of the set that are asked before it grows; more would make growth slow, fewer would take imbalance for load. */
export const TRIES_MAX = 3
/** Frontends told of a change, and of the state every GOSSIP_PERIOD_MS. */
export const GOSSIP_FANOUT = 3
export const GOSSIP_PERIOD_MS = 5_000
/** A pool that was not asked for since this is not told of and is forgotten. */
export const FORGET_MS = 10 * LOWER_PERIOD_MS

/** A view as frontends tell it each other. */
export interface SetView {
  readonly account: string
  readonly pool: Pool
  /** Shares in use, from the first of the pool's on. */
  readonly size: number
  readonly version: number
  readonly origin: string
}

export type LimitEvent =
  | { readonly kind: 'raise' | 'lower' | 'throttle'; readonly account: string; readonly pool: Pool; readonly size: number; readonly version: number }
  | { readonly kind: 'replace'; readonly account: string; readonly pool: Pool; readonly share: number; readonly manager: string }

interface SetState {
  readonly account: string
  readonly pool: Pool
  size: number
  version: number
  origin: string
  usedAtMs: number
  refusedAtMs: number
  loweredAtMs: number
  /** To be told soon. */
  changed: boolean
}

/** Load of one share for one pool, as its manager says. */
export interface ShareLoad {
  readonly inUse: number
  readonly quota: number
}

/** One question for slots on its way through the managers. */
export interface Acquisition {
  /** Which share to ask next for what is still needed; null: none is left. */
  next(): number | null
  /** Share `share` gave all that was asked for (`met`) or not. */
  answered(share: number, verdict: 'met' | 'full' | 'unreachable'): void
  /** Everything was asked and something is missing. */
  readonly refused: boolean
}

export class LimitSets {
  readonly #self: string
  readonly #setsMax: number
  readonly #onEvent: (event: LimitEvent) => void
  readonly #sets = new Map<string, SetState>()

  /** `setsMax`: pools kept in mind; the one used longest ago is forgotten, which costs it some questions. */
  constructor(options: { readonly self: string; readonly setsMax: number; readonly onEvent: (event: LimitEvent) => void }) {
    this.#self = options.self
    this.#setsMax = options.setsMax
    this.#onEvent = options.onEvent
  }

  get count(): number {
    return this.#sets.size
  }

  /** Shares that serve the pool now. */
  size(account: string, pool: Pool): number {
    return this.#sets.get(keyOf(account, pool))?.size ?? 1
  }

  /**
   * `shares`: all that the pool has, in ring order; `tried`: those that were asked already. Only for invocations that wait
   * (`need`) the set grows; for those that may come (`spare`) a few of the set are asked.
   */
  acquire(account: string, pool: Pool, shares: readonly number[], alreadyTried: ReadonlySet<number>, purpose: 'need' | 'spare', nowMs: number): Acquisition {
    const state = this.#use(account, pool, nowMs)
    if (state.size > shares.length) state.size = Math.max(1, shares.length)
    const tried = new Set(alreadyTried)
    let tries = 0
    let met = false
    let refused = false
    const untried = (from: number, to: number): number | null => {
      for (let index = from; index < to; index++) {
        const share = shares[index]
        if (share !== undefined && !tried.has(share)) return share
      }
      return null
    }
    const candidate = (): number | null => {
      const known = tries < TRIES_MAX ? untried(0, state.size) : null
      if (known !== null || purpose === 'spare') return known
      // C1. What the asker holds beyond the set was tried, and others raised for it.
      const beyond = untried(state.size, shares.length)
      // Nothing to grow by: the bound on tries must not leave slots unused.
      if (beyond === null) return untried(0, state.size)
      while (shares[state.size - 1] !== beyond) this.#raise(state, nowMs)
      return beyond
    }
    return {
      next: () => {
        if (met) return null
        const share = candidate()
        if (share === null && !refused && purpose === 'need') {
          refused = true
          state.refusedAtMs = nowMs
          this.#onEvent({ kind: 'throttle', account, pool, size: state.size, version: state.version })
        }
        return share
      },
      answered: (share, verdict) => {
        tried.add(share)
        tries++
        if (verdict === 'met') met = true
        else if (purpose === 'need') state.refusedAtMs = nowMs
      },
      get refused() {
        return refused
      },
    }
  }

  /** C2: `manager` did not answer for this share, and its successor does. */
  replaced(account: string, pool: Pool, share: number, manager: string): void {
    this.#onEvent({ kind: 'replace', account, pool, share, manager })
  }

  /** Pools of which the loads should be asked now, with the number of shares to ask. Forgets those that nobody uses. */
  toLower(nowMs: number): { readonly account: string; readonly pool: Pool; readonly size: number }[] {
    const due: { account: string; pool: Pool; size: number }[] = []
    for (const [key, { account, pool, size, usedAtMs, loweredAtMs, refusedAtMs }] of this.#sets) {
      if (size === 1 && nowMs - usedAtMs >= FORGET_MS) this.#sets.delete(key)
      else if (size > 1 && nowMs - loweredAtMs >= LOWER_PERIOD_MS && nowMs - refusedAtMs >= LOWER_PERIOD_MS) due.push({ account, pool, size })
    }
    return due
  }

  /** C3. `loads`: of the shares of the set, in order; one that did not answer counts as full. */
  lower(account: string, pool: Pool, loads: readonly ShareLoad[], nowMs: number): void {
    const state = this.#sets.get(keyOf(account, pool))
    // A raise came meanwhile, or a lowering.
    if (state === undefined || state.size <= 1 || state.size !== loads.length || nowMs - state.loweredAtMs < LOWER_PERIOD_MS) return
    const inUse = loads.reduce((sum, load) => sum + load.inUse, 0)
    const quota = loads.reduce((sum, load) => sum + load.quota, 0)
    const left = loads.slice(0, -1).reduce((sum, load) => sum + load.quota, 0)
    // The interval counts from a look that found it busy too: load that comes and goes keeps its set.
    state.loweredAtMs = nowMs
    if (inUse >= quota * LOWER_BELOW || inUse >= left * LOWERED_MAX_LOAD) return
    state.size--
    this.#change(state, 'lower')
  }

  /** C4. */
  heard(view: SetView, nowMs: number): void {
    const { account, pool, size, version, origin } = view
    const state = this.#use(account, pool, null)
    if (version < state.version || (version === state.version && origin <= state.origin)) return
    if (size < state.size && nowMs - state.refusedAtMs < LOWER_PERIOD_MS) return
    if (size !== state.size) state.loweredAtMs = nowMs
    state.size = size
    state.version = version
    state.origin = origin
  }

  /** Changes since the last call, to be told now. */
  changes(): SetView[] {
    const views: SetView[] = []
    for (const state of this.#sets.values()) {
      if (!state.changed) continue
      state.changed = false
      views.push(viewOf(state))
    }
    return views
  }

  /** All that is worth telling, every GOSSIP_PERIOD_MS: who missed a message hears of it so. */
  views(nowMs: number, viewsMax: number): SetView[] {
    const views: SetView[] = []
    for (const state of this.#sets.values()) {
      if (views.length >= viewsMax) break
      if (state.version > 0 && nowMs - state.usedAtMs < FORGET_MS) views.push(viewOf(state))
    }
    return views
  }

  #raise(state: SetState, nowMs: number): void {
    state.size++
    state.loweredAtMs = nowMs
    this.#change(state, 'raise')
  }

  #change(state: SetState, kind: 'raise' | 'lower'): void {
    state.version++
    state.origin = this.#self
    state.changed = true
    this.#onEvent({ kind, account: state.account, pool: state.pool, size: state.size, version: state.version })
  }

  #use(account: string, pool: Pool, nowMs: number | null): SetState {
    const key = keyOf(account, pool)
    const known = this.#sets.get(key)
    const state = known ?? { account, pool, size: 1, version: 0, origin: '', usedAtMs: nowMs ?? 0, refusedAtMs: Number.NEGATIVE_INFINITY, loweredAtMs: nowMs ?? 0, changed: false }
    if (nowMs !== null) state.usedAtMs = nowMs
    // In the order of use, so that the first one is the one to forget.
    this.#sets.delete(key)
    this.#sets.set(key, state)
    if (known === undefined && this.#sets.size > this.#setsMax) {
      for (const oldest of this.#sets.keys()) {
        this.#sets.delete(oldest)
        break
      }
    }
    return state
  }
}

function keyOf(account: string, pool: Pool): string {
  return pool === null ? account : `${account}\n${pool}`
}

function viewOf({ account, pool, size, version, origin }: SetState): SetView {
  return { account, pool, size, version, origin }
}
