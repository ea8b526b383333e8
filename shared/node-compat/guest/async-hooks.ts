/**
 * `node:async_hooks`. A bundle that contains this file is made with its async functions as generators over promises
 * (async-lowering.ts): the engine's own `await` would not come by here. So all that runs later goes through one of what
 * is patched below, which are this function's globals and nobody else's.
 */
import { AsyncResource, carry, currentFrame, enter, executionAsyncId, type Frame, runIn, triggerAsyncId } from './async-context.ts'
import { nodeError, requireFunction } from './errors.ts'

export { AsyncResource, executionAsyncId, triggerAsyncId }

type Callback = (...values: never[]) => unknown
type Settled = ((value: unknown) => unknown) | null | undefined

const patched = Symbol.for('outpost.async-context')

/** Once, however many copies of this file a function has. */
function install(): void {
  const world = globalThis as unknown as Record<PropertyKey, unknown> & { [patched]?: true }
  if (world[patched] === true) return
  Object.defineProperty(world, patched, { value: true })
  for (const name of ['queueMicrotask', 'setTimeout', 'setInterval']) {
    const plain = world[name] as (callback: unknown, ...rest: unknown[]) => unknown
    replace(world, name, { [name]: (callback: unknown, ...rest: unknown[]): unknown => plain(typeof callback === 'function' ? carry(callback as Callback) : callback, ...rest) }[name])
  }
  const promises = Promise.prototype as unknown as Record<string, unknown>

  const plainThen = Promise.prototype.then as (this: unknown, ok: Settled, failed: Settled) => Promise<unknown>
  // Without a frame as well: what another job has left must not be what this one finds.
  replace(promises, 'then', function then(this: unknown, ok?: Settled, failed?: Settled): Promise<unknown> {
    return plainThen.call(this, typeof ok === 'function' ? carry(ok) : ok, typeof failed === 'function' ? carry(failed) : failed)
  })
  // A thenable that is no promise is asked for its value in a job of the engine's.
  const plainResolve = Promise.resolve as unknown as (this: unknown, value?: unknown) => Promise<unknown>
  replace(Promise, 'resolve', function resolve(this: unknown, value?: unknown): Promise<unknown> {
    if (currentFrame() === undefined || typeof value !== 'object' || value === null || value instanceof Promise) return plainResolve.call(this, value)
    const { then } = value as { readonly then?: unknown }
    if (typeof then !== 'function') return plainResolve.call(this, value)
    return plainResolve.call(this, { then: carry((ok: unknown, failed: unknown): unknown => Reflect.apply(then, value, [ok, failed])) })
  })
}

function replace(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true })
}

interface StorageOptions {
  readonly defaultValue?: unknown
  readonly name?: string
}

export class AsyncLocalStorage<T> {
  readonly #defaultValue: T | undefined
  readonly name: string

  constructor(options: StorageOptions = {}) {
    this.#defaultValue = options.defaultValue as T | undefined
    this.name = options.name ?? ''
  }

  static bind<F extends Callback>(run: F): F {
    requireFunction('fn', run)
    return AsyncResource.bind(run)
  }

  static snapshot(): <A extends unknown[], R>(run: (...values: A) => R, ...values: A) => R {
    const frame = currentFrame()
    return (run, ...values) => runIn(frame, run, undefined, values)
  }

  getStore(): T | undefined {
    const frame = currentFrame()
    return frame?.has(this) === true ? (frame.get(this) as T | undefined) : this.#defaultValue
  }

  run<A extends unknown[], R>(store: T, run: (...values: A) => R, ...values: A): R {
    return runIn(withStore(this, store), run, undefined, values)
  }

  exit<A extends unknown[], R>(run: (...values: A) => R, ...values: A): R {
    return runIn(withStore(this, undefined), run, undefined, values)
  }

  enterWith(store: T): void {
    enter(withStore(this, store))
  }

  disable(): void {
    const frame = new Map(currentFrame())
    frame.delete(this)
    enter(frame.size === 0 ? undefined : frame)
  }
}

function withStore(storage: object, store: unknown): Frame {
  const frame = new Map(currentFrame())
  frame.set(storage, store)
  return frame
}

const topLevel = {}

export function executionAsyncResource(): object {
  return topLevel
}

/** Nobody here could tell of promises and handles as they are made. */
export function createHook(_callbacks: object): { enable(): never; disable(): object } {
  const hook = {
    enable(): never {
      throw nodeError(Error, 'ERR_METHOD_NOT_IMPLEMENTED', 'async_hooks.createHook: hooks cannot be enabled in functions of Outpost; use AsyncLocalStorage')
    },
    disable: (): object => hook,
  }
  return hook
}

export const asyncWrapProviders: Readonly<Record<string, number>> = Object.freeze(Object.create(null) as Record<string, number>)

install()

export default { AsyncLocalStorage, AsyncResource, createHook, executionAsyncId, triggerAsyncId, executionAsyncResource, asyncWrapProviders }
