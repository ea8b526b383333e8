/** `node:timers/promises`. */
import { abortError } from './errors.ts'

interface Options {
  readonly signal?: AbortSignal
  readonly ref?: boolean
}

/** Asked anew after each wait. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true
}

export function setTimeout<T>(delayMs?: number, value?: T, { signal }: Options = {}): Promise<T | undefined> {
  if (signal?.aborted === true) return Promise.reject(abortError(signal.reason))
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      globalThis.clearTimeout(timer)
      reject(abortError(signal?.reason))
    }
    const timer = globalThis.setTimeout(() => {
      signal?.removeEventListener('abort', aborted)
      resolve(value)
    }, delayMs)
    signal?.addEventListener('abort', aborted, { once: true })
  })
}

export function setImmediate<T>(value?: T, options: Options = {}): Promise<T | undefined> {
  return setTimeout(0, value, options)
}

/** Turns that come while nobody asks are counted, as Node does. */
export async function* setInterval<T>(delayMs?: number, value?: T, { signal }: Options = {}): AsyncGenerator<T | undefined> {
  if (signal?.aborted === true) throw abortError(signal.reason)
  let due = 0
  let wake: (() => void) | null = null
  const notify = (): void => {
    wake?.()
    wake = null
  }
  const timer = globalThis.setInterval(() => {
    due++
    notify()
  }, delayMs)
  signal?.addEventListener('abort', notify, { once: true })
  try {
    for (;;) {
      if (isAborted(signal)) throw abortError(signal?.reason)
      if (due === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      for (; due > 0; due--) yield value
    }
  } finally {
    globalThis.clearInterval(timer)
    signal?.removeEventListener('abort', notify)
  }
}

export const scheduler = {
  wait: (delayMs: number, options?: Options): Promise<undefined> => setTimeout<undefined>(delayMs, undefined, options),
  yield: (): Promise<undefined> => setTimeout<undefined>(0),
}

export default { setTimeout, setImmediate, setInterval, scheduler }
