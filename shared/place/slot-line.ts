/**
 * How an account's maximum of running invocations is divided: a line of slots, cut into shares of a fixed size. Each share
 * is counted by one manager at a time, so the sum over all of them cannot exceed the maximum whoever grants what.
 *
 *   slots    0 ........................ U ............ max
 *            |  for every function     | f2 |   f1    |      reserved functions stand at the end, the first one last
 *   shares   |  0  |  1  |  2  |  3  |  4  |  5  |  6  |
 *
 * L1: shares of one maximum add up to it, and no share of a smaller maximum is larger than that of a greater one: while
 *     a change of the maximum is on its way, any mixture of both stays within the greater one.
 * L2: what is fenced in a share and what is open in it add up to the share.
 * L3: a function that is reserved later does not move those that were reserved before.
 */
import { createHash } from 'node:crypto'

/** Null: the functions without a reservation, together. Else the function's name. */
export type Pool = string | null

export interface AccountLimits {
  /** Running invocations of the account, at most. */
  readonly maximum: number
  /** Of these, kept for one function and at most for it; in the order in which they were reserved. */
  readonly reserved: ReadonlyMap<string, number>
}

export interface ShareQuota {
  /** Of all pools together. */
  readonly slots: number
  /** For one pool. */
  of(pool: Pool): number
}

/** What no function has reserved. */
export function unreserved({ maximum, reserved }: AccountLimits): number {
  let left = maximum
  for (const slots of reserved.values()) left -= slots
  return Math.max(0, left)
}

/** A reserved function's own pool; all others share one. */
export function poolOf({ reserved }: AccountLimits, functionName: string): Pool {
  return reserved.has(functionName) ? functionName : null
}

export function quotaOf(limits: AccountLimits, shareSlots: number, share: number): ShareQuota {
  const [from, to] = shareBounds(limits, shareSlots, share)
  return { slots: to - from, of: (pool) => overlap(intervalOf(limits, pool), [from, to]) }
}

/** Shares in which a pool has slots, ascending; for a pool of none an empty list. */
export function sharesOf(limits: AccountLimits, shareSlots: number, pool: Pool): readonly number[] {
  const [from, to] = intervalOf(limits, pool)
  if (to <= from) return []
  const first = Math.floor(from / shareSlots)
  return Array.from({ length: Math.ceil(to / shareSlots) - first }, (_, index) => first + index)
}

/**
 * Who counts a share: the managers stand on a ring by the hash of their id, an account's first share is with the first
 * manager from the account's hash on, the next share with the next one. Returns all managers, the one in charge first,
 * then those that take its place when it does not answer.
 */
export function managersOf(managers: readonly string[], account: string, share: number): readonly string[] {
  if (managers.length === 0) return []
  const ring = managers.map((id) => ({ id, at: position(id) })).sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1))
  const hash = position(account)
  const first = ring.findIndex(({ at }) => at >= hash)
  const start = (first === -1 ? 0 : first) + share
  return ring.map((_, index) => ring[(start + index) % ring.length]?.id ?? '')
}

function position(text: string): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 6)
}

function shareBounds({ maximum }: AccountLimits, shareSlots: number, share: number): readonly [number, number] {
  return [Math.min(maximum, share * shareSlots), Math.min(maximum, (share + 1) * shareSlots)]
}

/** L2, L3. What is reserved beyond the maximum (it was lowered since) has no slots. */
function intervalOf(limits: AccountLimits, pool: Pool): readonly [number, number] {
  if (pool === null) return [0, unreserved(limits)]
  let end = limits.maximum
  for (const [name, slots] of limits.reserved) {
    const from = Math.max(0, end - slots)
    if (name === pool) return [from, end]
    end = from
  }
  return [0, 0]
}

function overlap(a: readonly [number, number], b: readonly [number, number]): number {
  return Math.max(0, Math.min(a[1], b[1]) - Math.max(a[0], b[0]))
}
