/**
 * The context that AsyncLocalStorage keeps: one frame, an immutable map from storages to values, is the current one. This
 * file only holds it. That it is carried over to what runs later is async-hooks.ts's doing, which only bundles that use
 * it contain: without a storage there is nothing to carry.
 */
import { requireFunction, requireString } from './errors.ts'

export type Frame = ReadonlyMap<object, unknown> | undefined

let current: Frame
let depth = 0
let lastId = 1
let executionId = 1
let triggerId = 0
/** The engine's own, whatever is patched later. */
const nativeQueueMicrotask = queueMicrotask

export function currentFrame(): Frame {
  return current
}

/** Runs with a frame, which is current again as it was afterwards. */
export function runIn<A extends unknown[], R>(frame: Frame, run: (this: unknown, ...values: A) => R, self: unknown, values: A): R {
  const before = current
  current = frame
  depth++
  try {
    return run.apply(self, values)
  } finally {
    depth--
    current = before
  }
}

/**
 * From here to the end of what runs now. Within `runIn` its end puts the old one back; a handler's first turn has no such
 * end, so the first job after it does.
 */
export function enter(frame: Frame): void {
  if (depth === 0) {
    const before = current
    nativeQueueMicrotask(() => {
      if (current === frame) current = before
    })
  }
  current = frame
}

/** A callback that runs in the context of now. */
export function carry<F extends (...values: never[]) => unknown>(callback: F): F {
  const frame = current
  return function carried(this: unknown, ...values: never[]): unknown {
    return runIn(frame, callback, this, values)
  } as unknown as F
}

export function executionAsyncId(): number {
  return executionId
}

export function triggerAsyncId(): number {
  return triggerId
}

interface ResourceOptions {
  readonly triggerAsyncId?: number
  readonly requireManualDestroy?: boolean
}

export class AsyncResource {
  readonly #frame = current
  readonly #id = ++lastId
  readonly #trigger: number

  constructor(type: string, options: ResourceOptions | number = {}) {
    requireString('type', type)
    this.#trigger = typeof options === 'number' ? options : (options.triggerAsyncId ?? executionId)
  }

  runInAsyncScope<A extends unknown[], R>(run: (this: unknown, ...values: A) => R, self?: unknown, ...values: A): R {
    const [execution, trigger] = [executionId, triggerId]
    executionId = this.#id
    triggerId = this.#trigger
    try {
      return runIn(this.#frame, run, self, values)
    } finally {
      executionId = execution
      triggerId = trigger
    }
  }

  bind<F extends (...values: never[]) => unknown>(run: F, self?: unknown): F {
    requireFunction('fn', run)
    const inScope = (receiver: unknown, values: never[]): unknown => this.runInAsyncScope(run, receiver, ...values)
    const bound = function bound(this: unknown, ...values: never[]): unknown {
      return inScope(self ?? this, values)
    }
    Object.defineProperties(bound, { length: { value: run.length, configurable: true } })
    return bound as unknown as F
  }

  static bind<F extends (...values: never[]) => unknown>(run: F, type?: string, self?: unknown): F {
    const { name } = run
    return new AsyncResource(type ?? (name === '' ? 'bound-anonymous-fn' : name)).bind(run, self)
  }

  emitDestroy(): this {
    return this
  }

  asyncId(): number {
    return this.#id
  }

  triggerAsyncId(): number {
    return this.#trigger
  }
}
