/**
 * A lessee's question on its way through the managers: what it has is renewed at each share's manager, what it needs is
 * asked of one after another, and the set grows when they are full. Pure: says whom to ask what, takes the answers.
 *
 * A share is asked once in a round: its ledger takes a number once (ShareLedger S3).
 */
import type { LimitSets, Acquisition } from './limit-set.ts'
import type { LeaseAnswer, LeaseQuestion } from './share-ledger.ts'
import type { SlotAnswer, SlotQuestion } from './slot-lease.ts'
import { sharesOf, type AccountLimits, type Pool } from './slot-line.ts'

export interface RoundOptions {
  readonly sets: LimitSets
  readonly limits: AccountLimits
  readonly shareSlots: number
  readonly account: string
  readonly pool: Pool
  readonly lessee: string
  readonly life: number
  readonly question: SlotQuestion
  readonly nowMs: number
}

export interface ShareQuestion {
  readonly share: number
  readonly question: LeaseQuestion
}

export class GrantRound {
  readonly #options: RoundOptions
  readonly #shares: readonly number[]
  /** What is held and was not asked for yet, with what of it runs. */
  readonly #parts: { readonly share: number; readonly held: number; readonly inUse: number }[]
  readonly #asked = new Set<number>()
  readonly #answers: SlotAnswer['parts'][number][] = []
  #acquisition: Acquisition | null = null
  #need: number
  #spare: number
  #pending = 0
  #recallable = 0
  #unanswered = 0
  #elsewhere = false

  constructor(options: RoundOptions) {
    const { limits, shareSlots, pool, question } = options
    this.#options = options
    this.#shares = sharesOf(limits, shareSlots, pool)
    this.#need = question.need
    this.#spare = question.spare
    let inUse = question.inUse
    // What runs is said to run in the largest parts: the others come back first.
    this.#parts = [...question.parts].sort((a, b) => b.held - a.held || a.share - b.share).map(({ share, held }) => {
      const used = Math.min(held, inUse)
      inUse -= used
      return { share, held, inUse: used }
    })
  }

  /** What to ask now, to be answered by `answered` in any order; empty with questions under way: wait; empty without: over. */
  next(): readonly ShareQuestion[] {
    const questions: ShareQuestion[] = []
    while (this.#parts.length > 0) {
      // One after another while something is wanted, all at once when not.
      if (this.#wants && (this.#pending > 0 || questions.length > 0)) return questions
      const part = this.#parts.shift()
      if (part !== undefined) questions.push(this.#ask(part.share, part.held, part.inUse))
    }
    if (this.#pending > 0 || !this.#wants || (this.#need === 0 && this.#answers.length > 0)) return questions
    this.#acquisition ??= this.#options.sets.acquire(this.#options.account, this.#options.pool, this.#shares, this.#asked, this.#need > 0 ? 'need' : 'spare', this.#options.nowMs)
    const share = this.#acquisition.next()
    if (share !== null) questions.push(this.#ask(share, 0, 0))
    return questions
  }

  /** `answer` null: nobody answers for the share, or the question came too late; `elsewhere`: another region counts it. */
  answered(share: number, answer: LeaseAnswer | 'elsewhere' | null): void {
    this.#pending--
    const heldBefore = this.#options.question.parts.find((part) => part.share === share)?.held ?? 0
    if (answer === null) this.#unanswered++
    else if (answer === 'elsewhere') this.#elsewhere = true
    else {
      let granted = Math.max(0, answer.slots - heldBefore)
      const needed = Math.min(this.#need, granted)
      granted -= needed
      this.#need -= needed
      this.#spare = Math.max(0, this.#spare - granted)
      this.#recallable += answer.recallable
      const { slots, validMs, give, scarce, recallable } = answer
      this.#answers.push({ share, slots, validMs, give, scarce, recallable })
    }
    const lent = answer === null || answer === 'elsewhere' ? null : answer
    const met = lent !== null && this.#need === 0 && lent.slots > heldBefore
    this.#acquisition?.answered(share, lent === null ? 'unreachable' : met ? 'met' : 'full')
  }

  get isOver(): boolean {
    return this.#pending === 0
  }

  /** Slots needed that nobody gave. */
  get missing(): number {
    return this.#need
  }

  /** Idle slots of others, which were called back, and shares that nobody answered for: asking again may bring something. */
  get recallable(): number {
    return this.#recallable + this.#unanswered
  }

  /** Something is missing that another region may have. */
  get elsewhere(): boolean {
    return this.#elsewhere && this.#need > 0
  }

  result(): SlotAnswer {
    return { number: this.#options.question.number, parts: this.#answers }
  }

  get #wants(): boolean {
    return this.#need > 0 || this.#spare > 0
  }

  #ask(share: number, held: number, inUse: number): ShareQuestion {
    const { lessee, life, pool, question } = this.#options
    this.#asked.add(share)
    this.#pending++
    return { share, question: { lessee, life, pool, number: question.number, held, inUse, need: this.#need, spare: this.#spare, leaseMs: question.leaseMs } }
  }
}
