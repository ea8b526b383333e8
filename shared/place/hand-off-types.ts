/**
 * The words of hand-off: what a member is told, what it wants done, and what members say to each other. `HandOff`
 * (hand-off.ts) decides; whoever wires it in carries messages, keeps states and runs requests.
 *
 * An *item* is what has state and moves: a session machine (its key is `single`: one item, whose id is the key), or one of the
 * things that a `pool` key has several of. Moving is always asked for by the one that takes:
 *
 *     owner                               predecessor
 *       | take (key)  ------------------->  |   has it idle: gives it, and from now on neither serves nor gives it elsewhere
 *       | <-- state (items, busy, elsewhere)|
 *       | taken (key, item, give) -------->|   forgets it
 *       | <--------------------------- noted|   from now on the owner may give it further
 *
 *     predecessor                         owner
 *       | offer (key) ------------------->  |   a member that leaves or lost a key to a newer ring, or has just ended a run
 *       | <-- noted                         |   that was waited for; the owner then asks: take
 *       |
 *       | given (key, item, give) ------->  |   nothing was heard of what was given
 *       | <-- fate (taken, not, open) ------|   `not`: never will be, by that giving; then it may go elsewhere
 *
 * Messages may be lost, doubled, late and out of order. All times are milliseconds of the member's own monotonic clock.
 */
import { z } from 'zod'
import { HAND_OFF_ITEMS_MAX } from '../limits.ts'
import type { KeyKind, Ring } from './ring.ts'

export interface HandOffRequest {
  /** Not used twice while the first is under way. */
  readonly requestId: string
  readonly key: string
  readonly kind: KeyKind
  /** As the front end sent it: its version, and whom that version has as predecessors. */
  readonly ring: { readonly version: number; readonly predecessors: readonly string[] }
  /** The key was made for this request: nobody can hold state for it. */
  readonly fresh: boolean
  /** A request that is not served by then is refused. */
  readonly deadlineMs: number
}

/** Why a request is not served here. All of them mean that the function did not run. */
export type HandOffRefusal = 'ERR_RING_MOVED' | 'ERR_HAND_OFF_TIMEOUT' | 'ERR_OWNERSHIP_LOST' | 'ERR_QUEUE_FULL'

export type HandOffEffect =
  /** Send `message` to `to`; give what comes back to `answered`, null for a failure or nothing within `timeoutMs`. */
  | { readonly kind: 'ask'; readonly askId: number; readonly to: string; readonly message: HandOffMessage; readonly timeoutMs: number }
  /** Run the request on the item; then call `finished`. `new`: there is none yet, make it. */
  | { readonly kind: 'serve'; readonly requestId: string; readonly key: string; readonly itemId: string; readonly state: 'held' | 'moved' | 'new' }
  /** `ringVersion`: the newest that is known here, for a front end that has an older one. */
  | { readonly kind: 'refuse'; readonly requestId: string; readonly code: HandOffRefusal; readonly ringVersion: number }
  /** The lease is lost: end the run now and let nothing of it out. No `finished` is wanted. */
  | { readonly kind: 'stop'; readonly requestId: string }
  /** Somebody knows this version: read the document and call `ringChanged`. Said again until that is done. */
  | { readonly kind: 'read-ring'; readonly version: number }

/** Where the states of items are. Synchronous; never called for an item that runs, except `forget` after a `stop`. */
export interface ItemStore {
  /** The state as it travels. May be asked for again until `forget`: the same state. */
  pack(key: string, itemId: string): unknown
  /** Takes over what another member packed. False: it cannot; the item then stays where it was. */
  adopt(key: string, itemId: string, state: unknown): boolean
  /** It is another member's by now, or nobody's. */
  forget(key: string, itemId: string): void
}

/** What a member knows about leases; see lease.ts. */
export interface LeaseFacts {
  /** This member's own lease, by its own clock, at this moment: `Membership.holds`. */
  readonly holds: () => boolean
  /** That member's lease is certainly over: whatever it held, it serves no more. `PeerView.isOver`. */
  readonly isOver: (memberId: string) => boolean
}

const key = z.string().min(1).max(4096)
const id = z.string().min(1).max(4096)
const number = z.int().min(0)
const kind = z.enum(['single', 'pool'])

const messageSchema = z.discriminatedUnion('kind', [
  /** `ring`: the version by which the sender is an owner. */
  /** For a pool: the asker is the `share[0]`-th of `share[1]` that draw from this member. */
  z.strictObject({ kind: z.literal('take'), key, keyKind: kind, ring: number, share: z.tuple([number, z.int().min(1)]) }),
  z.strictObject({ kind: z.literal('offer'), key, keyKind: kind, ring: number }),
  z.strictObject({ kind: z.literal('taken'), key, id, give: number, ring: number }),
  z.strictObject({ kind: z.literal('given'), key, id, give: number, ring: number }),
])

const answerSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('state'),
    ring: number,
    /** `version` grows with every move of an item; `give` names this giving. `state`: as `pack` gave it. */
    items: z.array(z.strictObject({ id, version: number, give: number, state: z.unknown() })).max(HAND_OFF_ITEMS_MAX),
    /** Items of this key that run here; they are offered when they have ended. */
    busy: number,
    /** Members that have or may have been given items of this key. */
    elsewhere: z.array(id).max(HAND_OFF_ITEMS_MAX),
  }),
  /** The asker's ring is older than this one. */
  z.strictObject({ kind: z.literal('stale'), ring: number }),
  z.strictObject({ kind: z.literal('fate'), ring: number, fate: z.enum(['taken', 'not', 'open']) }),
  /** To `offer`: heard. To `taken`: done, also if there was nothing to do. */
  z.strictObject({ kind: z.literal('noted'), ring: number }),
  /** This member's lease is over: it has nothing and says nothing. */
  z.strictObject({ kind: z.literal('lost') }),
])

export type HandOffMessage = z.infer<typeof messageSchema>
export type HandOffAnswer = z.infer<typeof answerSchema>

/** Null for what no member sends. */
export function parseHandOffMessage(value: unknown): HandOffMessage | null {
  return messageSchema.safeParse(value).data ?? null
}

export function parseHandOffAnswer(value: unknown): HandOffAnswer | null {
  return answerSchema.safeParse(value).data ?? null
}

/** What hand-off.ts gives: one for each member. Every call returns what has to be done now, in order. */
export interface HandOffMachine {
  request(request: HandOffRequest, nowMs: number): readonly HandOffEffect[]
  /** A served request has ended. `closed`: the item is no more. `kept`: its state is in the store. */
  finished(requestId: string, item: 'kept' | 'closed', nowMs: number): readonly HandOffEffect[]
  /** The client has gone, or its deadline: nothing is served for it that is not yet. A run that was started ends by `finished`. */
  cancel(requestId: string): void
  /** An idle item is no more: closed, too old, or evicted. False: it is not held here, or busy. */
  discard(key: string, itemId: string): boolean
  answered(askId: number, answer: HandOffAnswer | null, nowMs: number): readonly HandOffEffect[]
  received(from: string, message: HandOffMessage, nowMs: number): { readonly answer: HandOffAnswer; readonly effects: readonly HandOffEffect[] }
  /** Ignored if it is not newer. A member that is not in it offers everything that it holds to the new owners: a drain. */
  ringChanged(ring: Ring, nowMs: number): readonly HandOffEffect[]
  /** Somebody's lease may be over. */
  membersChanged(nowMs: number): readonly HandOffEffect[]
  /** To be called at `dueAtMs` or soon after. */
  tick(nowMs: number): readonly HandOffEffect[]
  dueAtMs(): number | null
  /** Versions of the ring by which items are held here. The member says it in its info; the leader drops none that is needed (R4). */
  heldVersions(): readonly number[]
  /** Items that are held, given and not yet confirmed, or may be under way to here. A member that drains leaves at 0. */
  itemCount(): number
}
