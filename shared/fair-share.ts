/**
 * An allowance that many draw from, where nobody can leave nothing to the others: who holds as much as would be left gets no
 * more. One that draws alone has half of it at most, n of them 1/(n + 1) each, and as much as each of them has is left.
 * These are the dynamic queue thresholds of Choudhury and Hahne (1998); there is nothing to divide in advance.
 */
export class FairShare {
  readonly #total: number
  /** Of those who hold something. */
  readonly #held = new Map<string, number>()
  #used = 0

  constructor(total: number) {
    this.#total = total
  }

  get used(): number {
    return this.#used
  }

  /** Whether `owner` holds so much that it gets no more of it, however little. */
  isExhausted(owner: string): boolean {
    return !this.#fits(owner, 1)
  }

  /** False: it would be more than a fair share, and nothing was taken. */
  take(owner: string, amount: number): boolean {
    if (amount > 0 && !this.#fits(owner, amount)) return false
    this.add(owner, amount)
    return true
  }

  /** Counts what is there, whether it is a fair share or not; below 0 it is given back. */
  add(owner: string, amount: number): void {
    if (amount === 0) return
    const held = (this.#held.get(owner) ?? 0) + amount
    this.#used += amount
    if (held === 0) this.#held.delete(owner)
    else this.#held.set(owner, held)
  }

  #fits(owner: string, amount: number): boolean {
    return (this.#held.get(owner) ?? 0) + amount <= this.#total - this.#used - amount
  }
}
