/**
 * How slots are asked for over a link: topic `grant`, some pools in one question. Both sides check what comes.
 *
 * What a lessee knows of an account's reservations comes with the answers: the revision that it goes by is in each
 * question, the names of reserved functions come whenever there is a newer one.
 */
import { z } from 'zod'
import { LEASE_MAX_MS, RESERVATIONS_PER_ACCOUNT_MAX } from '../limits.ts'
import type { SlotAnswer, SlotQuestion } from '../place/slot-lease.ts'
import type { Pool } from '../place/slot-line.ts'

export const GRANT_TOPIC = 'grant'
/** Pools in one question, and shares of which a pool may have slots: within LINK_ASK_OF_POP_MAX_BYTES whatever they are. */
export const GRANT_ITEMS_MAX = 64
export const GRANT_PARTS_MAX = 1_024
const GRANT_BYTES = 48 * 1024

export interface GrantItem {
  readonly account: string
  /** A function of the account that was asked for here: who may not have it is told nothing. */
  readonly functionName: string
  readonly pool: Pool
  /** Of the reservations that the lessee knows; -1: of none. */
  readonly revision: number
  readonly question: SlotQuestion
}

export interface GrantResult {
  /** Newer than what the lessee knows; null: it is up to date. */
  readonly reservations: { readonly revision: number; readonly functions: readonly string[] } | null
  /** Null: not to be had by this lessee. */
  readonly answer: SlotAnswer | null
  /** Slots needed that nobody gave. */
  readonly missing: number
  /** Idle slots of others that were called back. */
  readonly recallable: number
  /** Something is missing, and another region counts slots of the account: it may have some. */
  readonly elsewhere: boolean
}

const count = z.int().min(0)
const text = z.string().min(1).max(140)
const questionSchema = z.strictObject({
  number: count,
  parts: z.array(z.strictObject({ share: count, held: count })).max(GRANT_PARTS_MAX),
  inUse: count, need: count, spare: count,
  leaseMs: z.number().min(0).max(LEASE_MAX_MS),
})
export const grantQuestionSchema = z.strictObject({
  life: count,
  items: z.array(z.strictObject({ account: text, functionName: text, pool: text.nullable(), revision: z.int().min(-1), question: questionSchema })).max(GRANT_ITEMS_MAX),
})
export type GrantQuestion = z.infer<typeof grantQuestionSchema>

const partSchema = z.strictObject({ share: count, slots: count, validMs: z.number().min(0).max(LEASE_MAX_MS), give: count, scarce: z.boolean(), recallable: count })
export const grantAnswerSchema = z.strictObject({
  items: z.array(z.strictObject({
    reservations: z.strictObject({ revision: count, functions: z.array(text).max(RESERVATIONS_PER_ACCOUNT_MAX) }).nullable(),
    answer: z.strictObject({ number: count, parts: z.array(partSchema).max(GRANT_PARTS_MAX) }).nullable(),
    missing: count,
    recallable: count,
    elsewhere: z.boolean(),
  })).max(GRANT_ITEMS_MAX),
})

/** In questions that fit the link. */
export function inBatches(items: readonly GrantItem[]): GrantItem[][] {
  const batches: GrantItem[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const item of items) {
    const itemBytes = 3 * (item.account.length + item.functionName.length + (item.pool?.length ?? 0)) + 40 * item.question.parts.length + 200
    if (bytes + itemBytes > GRANT_BYTES || (batches.at(-1)?.length ?? 0) >= GRANT_ITEMS_MAX) {
      batches.push([])
      bytes = 0
    }
    batches.at(-1)?.push(item)
    bytes += itemBytes
  }
  return batches
}

