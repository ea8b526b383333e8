/** `AbortController` and `AbortSignal`. */
import { ArrayIndexOf, ArrayPush, ArraySplice, NativeDOMException } from './primordials.ts'
import { OPERATIONS } from '../abi.ts'
import { callHandlerProperty, EventTarget, trustedEvent } from './events.ts'
import { begin } from './operations.ts'

let constructing = false
let abortSignal: (signal: AbortSignal, reason: unknown) => void
let follow: (signal: AbortSignal, source: AbortSignal) => void
/** `algorithm` runs once when the signal is aborted, before its event. */
export let onAbort: (signal: AbortSignal, algorithm: () => void) => void
export let offAbort: (signal: AbortSignal, algorithm: () => void) => void
export let isAbortSignal: (value: unknown) => value is AbortSignal

function newSignal(): AbortSignal {
  constructing = true
  try {
    return new AbortSignal()
  } finally {
    constructing = false
  }
}

/** A signal that is aborted whenever `source` is. */
export function followSignal(source: AbortSignal): AbortSignal {
  const signal = newSignal()
  follow(signal, source)
  return signal
}

export class AbortSignal extends EventTarget {
  #aborted = false
  #reason: unknown = undefined
  #algorithms: (() => void)[] = []
  /** Signals that are aborted with this one, in order of their making; none has dependents itself. */
  #dependents: AbortSignal[] | null = null
  /** Of a dependent signal: what it depends on, which depend on nothing. */
  #sources: AbortSignal[] | null = null
  #handler: unknown = null
  #handles = false

  static {
    isAbortSignal = (value): value is AbortSignal => typeof value === 'object' && value !== null && #aborted in value
    onAbort = (signal, algorithm) => {
      ArrayPush(signal.#algorithms, algorithm)
    }
    offAbort = (signal, algorithm) => {
      const i = ArrayIndexOf(signal.#algorithms, algorithm)
      if (i >= 0) ArraySplice(signal.#algorithms, i, 1)
    }
    follow = (signal, source) => {
      if (source.#aborted) {
        signal.#aborted = true
        signal.#reason = source.#reason
        return
      }
      signal.#sources ??= []
      const roots = source.#sources ?? [source]
      for (let i = 0; i < roots.length; i++) {
        const root = roots[i]
        if (root === undefined || ArrayIndexOf(signal.#sources, root) >= 0) continue
        ArrayPush(signal.#sources, root)
        ArrayPush((root.#dependents ??= []), signal)
      }
    }
    const tell = (signal: AbortSignal | undefined): void => {
      if (signal === undefined) return
      const algorithms = signal.#algorithms
      signal.#algorithms = []
      for (let i = 0; i < algorithms.length; i++) algorithms[i]?.()
      signal.dispatchEvent(trustedEvent('abort'))
    }
    abortSignal = (signal, reason) => {
      if (signal.#aborted) return
      signal.#aborted = true
      signal.#reason = reason === undefined ? new NativeDOMException('The operation was aborted', 'AbortError') : reason
      const dependents = signal.#dependents
      signal.#dependents = null
      // All are aborted before anybody is told of any.
      const told = [signal]
      for (let i = 0; dependents !== null && i < dependents.length; i++) {
        const dependent = dependents[i]
        if (dependent === undefined || dependent.#aborted) continue
        dependent.#aborted = true
        dependent.#reason = signal.#reason
        ArrayPush(told, dependent)
      }
      for (let i = 0; i < told.length; i++) tell(told[i])
    }
  }

  constructor() {
    if (!constructing) throw new TypeError('Illegal constructor')
    super()
  }

  static abort(reason?: unknown): AbortSignal {
    const signal = newSignal()
    abortSignal(signal, reason)
    return signal
  }

  static timeout(delayMs: unknown): AbortSignal {
    const delay = Number(delayMs)
    if (!(delay >= 0) || delay > Number.MAX_SAFE_INTEGER) throw new TypeError('The delay must be a number of milliseconds')
    const signal = newSignal()
    begin(OPERATIONS.TIMER, delay, undefined, (_value, ok) => {
      if (ok) abortSignal(signal, new NativeDOMException('The operation was aborted due to timeout', 'TimeoutError'))
    })
    return signal
  }

  static any(signals: Iterable<AbortSignal>): AbortSignal {
    const signal = newSignal()
    const sources: AbortSignal[] = []
    for (const source of signals) {
      if (!isAbortSignal(source)) throw new TypeError('AbortSignal.any needs a sequence of signals')
      ArrayPush(sources, source)
    }
    for (let i = 0; i < sources.length && !signal.#aborted; i++) {
      const source = sources[i]
      if (source !== undefined) follow(signal, source)
    }
    return signal
  }

  get aborted(): boolean {
    return this.#aborted
  }

  get reason(): unknown {
    return this.#reason
  }

  get onabort(): unknown {
    return this.#handler
  }

  set onabort(value: unknown) {
    this.#handler = typeof value === 'function' ? value : null
    if (this.#handles || this.#handler === null) return
    this.#handles = true
    this.addEventListener('abort', (event) => {
      callHandlerProperty(this, event, this.#handler)
    })
  }

  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason
  }
}

export class AbortController {
  #signal = newSignal()

  get signal(): AbortSignal {
    return this.#signal
  }

  abort(reason?: unknown): void {
    abortSignal(this.#signal, reason)
  }
}
