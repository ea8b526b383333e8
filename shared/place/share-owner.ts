/**
 * Which manager counts a share. The store says who owns it; managers are members with a lease of their own, so that one
 * that cannot be reached any more is known to have stopped before another one follows.
 *
 * O1: a manager answers for a share only while the store names it as the owner and its membership holds. Both together
 *     mean that nobody else answers: renewing a lease needs no write then.
 * O2: a share changes its owner only when the owner has let go of it or is no member any more.
 * O3: who takes a share over writes that first, and counts every lease that it finds as renewed at that moment.
 */
export interface OwnerFacts {
  /** As the store has it; null: nobody's. */
  readonly owner: string | null
  /** This manager's membership: one life of its process. */
  readonly self: string
  /** `owner` is an earlier life of this very process, which is over for certain. */
  readonly isFormerSelf: boolean
  /** Members that are alive, as this manager sees it. */
  readonly isAlive: (member: string) => boolean
}

export type OwnerDecision =
  | { readonly kind: 'mine' }
  /** To be written, then it is mine. */
  | { readonly kind: 'take' }
  | { readonly kind: 'others'; readonly owner: string }

export function decideOwner({ owner, self, isFormerSelf, isAlive }: OwnerFacts): OwnerDecision {
  if (owner === self) return { kind: 'mine' }
  if (owner === null || isFormerSelf || !isAlive(owner)) return { kind: 'take' }
  return { kind: 'others', owner }
}
