/**
 * Consistent hashing with bounded loads (V. Mirrokni, M. Thorup, M. Zadimoghaddam, "Consistent Hashing with Bounded
 * Loads", SODA 2018): no member takes more than (1 + slack) times its fair share of what is under way; what does not fit at a key's owner
 * goes to the next one on the ring that has room. So a hot function cannot sink its home, and a key moves
 * no further than it must. Never for keys with state: their one owner serves them or nobody does.
 */
import type { Ring } from './ring.ts'

/** More lets hot members run hotter, less sends more keys away from where their images are. */
export const LOAD_SLACK = 0.25

export interface PoolChoice {
  readonly member: string
  /** False: the owners had no room, this one is beyond them and has nothing to inherit. */
  readonly owner: boolean
}

/**
 * Where a request of a key without state goes: the least loaded of its owners, the first of equals; beyond them if they are full. `loadOf`: what is
 * under way at a member as far as the caller knows. Null on an empty ring, or if `usable` refuses all.
 */
export function chooseFromPool(ring: Ring, key: string, loadOf: (member: string) => number, usable: (member: string) => boolean = () => true, slack = LOAD_SLACK): PoolChoice | null {
  const members = ring.document.members.filter(({ id }) => usable(id))
  const totalLoad = members.reduce((sum, { id }) => sum + loadOf(id), 0)
  const totalWeight = members.reduce((sum, { weight }) => sum + weight, 0)
  const hasRoom = (id: string): boolean => loadOf(id) < Math.ceil(((1 + slack) * (totalLoad + 1) * ring.weightOf(id)) / totalWeight)
  let best: string | null = null
  for (const id of ring.owners(key, 'pool')) {
    if (usable(id) && hasRoom(id) && (best === null || loadOf(id) / ring.weightOf(id) < loadOf(best) / ring.weightOf(best))) best = id
  }
  if (best !== null) return { member: best, owner: true }
  const beyond = ring.walk(key, ring.document.members.length).find((id) => usable(id) && hasRoom(id))
  return beyond === undefined ? null : { member: beyond, owner: false }
}
