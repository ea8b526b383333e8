/**
 * Calls to a store under way: so many at once, each answered or given up within its time, none left when the driver
 * closes (C4 of types.ts). A driver's own failures become one of the three codes of coordination here.
 */
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError, type ErrorCode } from '../errors.ts'
import { COORDINATION_CALLS_MAX, COORDINATION_TIMEOUT_MS } from '../limits.ts'

const OWN_CODES: readonly ErrorCode[] = ['ERR_COORDINATION_CONFLICT', 'ERR_COORDINATION_UNREACHABLE', 'ERR_COORDINATION_REFUSED']

export class Calls {
  readonly #clock: Clock
  readonly #toCoded: (error: unknown) => CodedError
  /** Each rejects one call. */
  readonly #underWay = new Set<(error: CodedError) => void>()
  #closed = false

  /** `toCoded`: what the store's own errors mean. */
  constructor(clock: Clock, toCoded: (error: unknown) => CodedError) {
    this.#clock = clock
    this.#toCoded = toCoded
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Settles when `call` does, or rejects after its time or when the driver closes: what `call` does later is nobody's business then. */
  run<T>(call: () => T | Promise<T>, timeoutMs: number = COORDINATION_TIMEOUT_MS): Promise<T> {
    if (this.#closed) return Promise.reject(closedError())
    if (this.#underWay.size >= COORDINATION_CALLS_MAX) return Promise.reject(new CodedError('ERR_COORDINATION_UNREACHABLE', [`${this.#underWay.size} calls wait already`]))
    return new Promise<T>((resolve, reject) => {
      const end = (): void => {
        cancelTimer()
        this.#underWay.delete(fail)
      }
      const fail = (error: CodedError): void => {
        end()
        reject(error)
      }
      const cancelTimer = this.#clock.after(timeoutMs, () => fail(new CodedError('ERR_COORDINATION_UNREACHABLE', [`nothing within ${timeoutMs} ms`])))
      this.#underWay.add(fail)
      new Promise<T>((done) => done(call())).then(
        (value) => {
          end()
          resolve(value)
        },
        (error: unknown) => fail(this.#code(error)),
      )
    })
  }

  close(): void {
    this.#closed = true
    for (const fail of [...this.#underWay]) fail(closedError())
  }

  #code(error: unknown): CodedError {
    if (error instanceof CodedError && OWN_CODES.includes(error.code)) return error
    return this.#toCoded(error)
  }
}

/** Rejects when `promise` takes longer; what it does later is nobody's business then. */
export function within<T>(clock: Clock, timeoutMs: number, promise: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const cancelTimer = clock.after(timeoutMs, () => reject(new CodedError('ERR_COORDINATION_UNREACHABLE', [`nothing within ${timeoutMs} ms`])))
    promise.finally(cancelTimer).then(resolve, reject)
  })
}

export function closedError(): CodedError {
  return new CodedError('ERR_COORDINATION_UNREACHABLE', ['it is closed'])
}

export function conflict(key: string): CodedError {
  return new CodedError('ERR_COORDINATION_CONFLICT', [key])
}

export function isConflict(error: unknown): boolean {
  return toCodedError(error).code === 'ERR_COORDINATION_CONFLICT'
}
