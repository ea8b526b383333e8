/**
 * Operations that wait for their turn: few at once, since they take libuv's threads, which DNS look-ups need too; one of
 * each account at a time while others wait, and never as many as all: an account that makes RSA keys delays nobody else's.
 *
 * Q1  What waits is bounded by number for an account, and by bytes for all, of which each account has a fair share.
 * Q2  Whoever started an operation can give it up. Then it is not begun, or its answer is dropped if it was.
 */
import { formatMessage } from '../errors.ts'
import { FairShare } from '../fair-share.ts'
import { CRYPTO_AT_ONCE_MAX, CRYPTO_AT_ONCE_PER_ACCOUNT_MAX, CRYPTO_WAITING_MAX_BYTES, CRYPTO_WAITING_PER_ACCOUNT_MAX } from '../limits.ts'
import { performSubtle, type SubtleAnswer } from './perform.ts'

interface Waiting {
  readonly request: string
  readonly data: Uint8Array
  readonly answer: (answer: SubtleAnswer) => void
}

interface Account {
  readonly waiting: Waiting[]
  running: number
}

export class CryptoQueue {
  /** Those that have something here, in order of their turns. */
  readonly #accounts = new Map<string, Account>()
  readonly #held = new FairShare(CRYPTO_WAITING_MAX_BYTES)
  #running = 0

  /** Bytes of what is not over. */
  get heldBytes(): number {
    return this.#held.used
  }

  /** `answer` is called once, never from within this call, unless the operation is given up by calling what is returned (Q2). */
  start(account: string, request: string, data: Uint8Array, answer: (answer: SubtleAnswer) => void): () => void {
    const own = this.#accounts.get(account) ?? { waiting: [], running: 0 }
    let wanted = true
    const waiting: Waiting = { request, data, answer: (given) => {
      if (wanted) answer(given)
    } }
    if (own.waiting.length + own.running >= CRYPTO_WAITING_PER_ACCOUNT_MAX || !this.#held.take(account, sizeOf(waiting))) {
      queueMicrotask(() => waiting.answer(TOO_MANY))
      return () => {
        wanted = false
      }
    }
    own.waiting.push(waiting)
    this.#accounts.set(account, own)
    this.#next()
    return () => {
      wanted = false
      const at = own.waiting.indexOf(waiting)
      if (at === -1) return
      own.waiting.splice(at, 1)
      this.#over(account, own, waiting)
    }
  }

  #next(): void {
    while (this.#running < CRYPTO_AT_ONCE_MAX) {
      const turn = this.#turn()
      if (turn === null) return
      const [account, own, next] = turn
      // To the end of the line.
      this.#accounts.delete(account)
      this.#accounts.set(account, own)
      own.running += 1
      this.#running += 1
      // It never rejects.
      void performSubtle(next.request, next.data).then((answer) => {
        own.running -= 1
        this.#running -= 1
        this.#over(account, own, next)
        next.answer(answer)
        this.#next()
      })
    }
  }

  #turn(): readonly [string, Account, Waiting] | null {
    for (const [account, own] of this.#accounts) {
      const next = own.running < CRYPTO_AT_ONCE_PER_ACCOUNT_MAX ? own.waiting.shift() : undefined
      if (next !== undefined) return [account, own, next]
    }
    return null
  }

  #over(account: string, { waiting, running }: Account, over: Waiting): void {
    this.#held.add(account, -sizeOf(over))
    if (waiting.length === 0 && running === 0) this.#accounts.delete(account)
  }
}

const TOO_MANY: SubtleAnswer = {
  kind: 'failed', name: 'OperationError', code: 'ERR_LIMIT_OPERATIONS',
  message: formatMessage('ERR_LIMIT_OPERATIONS', [`${CRYPTO_WAITING_PER_ACCOUNT_MAX} operations of crypto.subtle, or as many bytes as this account may have, wait already`]),
}

function sizeOf({ request, data }: Waiting): number {
  return 2 * request.length + data.length
}
