/** `node:timers`: the global timers, with handles as Node's. Nothing keeps a function's process alive, so `ref` and `unref` change nothing. */
import { requireFunction } from './errors.ts'
import * as promises from './timers-promises.ts'

type Callback = (...values: unknown[]) => unknown
const custom = Symbol.for('nodejs.util.promisify.custom')

export class Timeout {
  #id: ReturnType<typeof globalThis.setTimeout> | null = null
  readonly #start: () => ReturnType<typeof globalThis.setTimeout>
  readonly #stop: (id: ReturnType<typeof globalThis.setTimeout>) => void

  constructor(start: () => ReturnType<typeof globalThis.setTimeout>, stop: (id: ReturnType<typeof globalThis.setTimeout>) => void) {
    this.#start = start
    this.#stop = stop
    this.#id = start()
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  hasRef(): boolean {
    return true
  }

  refresh(): this {
    this.close()
    this.#id = this.#start()
    return this
  }

  close(): this {
    if (this.#id !== null) this.#stop(this.#id)
    this.#id = null
    return this
  }

  [Symbol.toPrimitive](): number {
    return Number(this.#id)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

export function setTimeout(callback: Callback, delayMs?: number, ...rest: unknown[]): Timeout {
  requireFunction('callback', callback)
  return new Timeout(() => globalThis.setTimeout(callback, delayMs, ...rest), (id) => globalThis.clearTimeout(id))
}

export function setInterval(callback: Callback, delayMs?: number, ...rest: unknown[]): Timeout {
  requireFunction('callback', callback)
  return new Timeout(() => globalThis.setInterval(callback, delayMs, ...rest), (id) => globalThis.clearInterval(id))
}

/** After what is ready by now: a timer without delay. */
export function setImmediate(callback: Callback, ...rest: unknown[]): Timeout {
  requireFunction('callback', callback)
  return new Timeout(() => globalThis.setTimeout(callback, 0, ...rest), (id) => globalThis.clearTimeout(id))
}

function clear(timer: unknown): void {
  if (timer instanceof Timeout) timer.close()
  else globalThis.clearTimeout(timer as number)
}

export function clearTimeout(timer?: unknown): void {
  clear(timer)
}

export function clearInterval(timer?: unknown): void {
  clear(timer)
}

export function clearImmediate(timer?: unknown): void {
  clear(timer)
}

Object.defineProperty(setTimeout, custom, { value: promises.setTimeout })
Object.defineProperty(setImmediate, custom, { value: promises.setImmediate })

export { promises }
export default { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate, promises: promises.default }
