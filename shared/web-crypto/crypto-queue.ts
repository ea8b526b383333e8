/**
 * Operations that wait for their turn: few at once, since they take libuv's threads, which DNS look-ups need too; one of
 * each account at a time while others wait, so that an account that makes RSA keys delays nobody else's.
 */
import { CRYPTO_AT_ONCE_MAX, CRYPTO_WAITING_BYTES_PER_ACCOUNT_MAX, CRYPTO_WAITING_PER_ACCOUNT_MAX } from '../limits.ts'
import { performSubtle, type SubtleAnswer } from './perform.ts'

interface Waiting {
  readonly request: string
  readonly data: Uint8Array
  readonly answer: (answer: SubtleAnswer) => void
}

export class CryptoQueue {
  /** Accounts that wait, in order of their turns; those with nothing waiting are not in it. */
  readonly #waiting = new Map<string, Waiting[]>()
  #running = 0

  /** `answer` is called once, never from within this call. */
  start(account: string, request: string, data: Uint8Array, answer: (answer: SubtleAnswer) => void): void {
    const own = this.#waiting.get(account) ?? []
    const bytes = own.reduce((sum, waiting) => sum + sizeOf(waiting), 0)
    if (own.length >= CRYPTO_WAITING_PER_ACCOUNT_MAX || (own.length > 0 && bytes + sizeOf({ request, data }) > CRYPTO_WAITING_BYTES_PER_ACCOUNT_MAX)) {
      queueMicrotask(() => answer({ kind: 'failed', name: 'OperationError', message: `Too many operations of crypto.subtle wait already: ${CRYPTO_WAITING_PER_ACCOUNT_MAX} of ${CRYPTO_WAITING_BYTES_PER_ACCOUNT_MAX} bytes together may` }))
      return
    }
    own.push({ request, data, answer })
    this.#waiting.set(account, own)
    this.#next()
  }

  #next(): void {
    while (this.#running < CRYPTO_AT_ONCE_MAX) {
      const [turn] = this.#waiting
      if (turn === undefined) return
      const [account, own] = turn
      const next = own.shift()
      // To the end of the line, or out of it.
      this.#waiting.delete(account)
      if (own.length > 0) this.#waiting.set(account, own)
      if (next === undefined) continue
      this.#running += 1
      // It never rejects.
      void performSubtle(next.request, next.data).then((answer) => {
        this.#running -= 1
        next.answer(answer)
        this.#next()
      })
    }
  }
}

function sizeOf({ request, data }: Pick<Waiting, 'request' | 'data'>): number {
  return 2 * request.length + data.length
}
