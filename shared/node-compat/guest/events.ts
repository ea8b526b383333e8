/**
 * `node:events`: the npm package of that name, which is Node's of some years ago, with what Node's has got since then.
 * Its functions stay functions: `EventEmitter.call(this)` and `util.inherits` have to work.
 */
import Base from 'events/'
import { AsyncResource } from './async-context.ts'
import { abortError, invalidType, nodeError, requireFunction } from './errors.ts'

type Listener = (...values: unknown[]) => unknown
interface Emitter {
  on(name: PropertyKey, listener: Listener): unknown
  once(name: PropertyKey, listener: Listener): unknown
  removeListener(name: PropertyKey, listener: Listener): unknown
  emit(name: PropertyKey, ...values: unknown[]): boolean
  listeners(name: PropertyKey): Listener[]
  rawListeners(name: PropertyKey): Listener[]
  getMaxListeners(): number
  setMaxListeners(count: number): unknown
  [capture]?: boolean
  [captureRejectionSymbol]?: (error: unknown, name: PropertyKey, ...values: unknown[]) => void
}
interface Options {
  readonly captureRejections?: boolean
}

export const errorMonitor: unique symbol = Symbol('events.errorMonitor')
export const captureRejectionSymbol: unique symbol = Symbol.for('nodejs.rejection') as typeof captureRejectionSymbol
const capture = Symbol('kCapture')
const prototype = Base.prototype as unknown as Emitter

const emitBase = prototype.emit

export function EventEmitter(this: Emitter, options?: Options): void {
  Base.init.call(this)
  if (options?.captureRejections === true) this[capture] = true
}
EventEmitter.prototype = prototype
Object.defineProperty(prototype, 'constructor', { value: EventEmitter, writable: true, configurable: true })

prototype.emit = function emit(this: Emitter, name: PropertyKey, ...values: unknown[]): boolean {
  if (name === 'error' && this.listeners(errorMonitor).length > 0) emitBase.call(this, errorMonitor, ...values)
  if (name === 'error' && this.listeners('error').length === 0 && !(values[0] instanceof Error)) {
    const error = nodeError(Error, 'ERR_UNHANDLED_ERROR', `Unhandled error. (${typeof values[0] === 'string' ? `'${values[0]}'` : (JSON.stringify(values[0]) as string | undefined) ?? typeof values[0]})`) as Error & { context?: unknown }
    error.context = values[0]
    throw error
  }
  const captures = this[capture] ?? EventEmitter.captureRejections
  if (!captures) return emitBase.call(this, name, ...values)
  const listeners = this.rawListeners(name)
  if (listeners.length === 0) return emitBase.call(this, name, ...values)
  for (const listener of listeners) {
    const result: unknown = listener.apply(this, values)
    if (typeof result !== 'object' || result === null || typeof (result as { then?: unknown }).then !== 'function') continue
    void (result as PromiseLike<unknown>).then(undefined, (error: unknown) => queueMicrotask(() => rejected(this, error, name, values)))
  }
  return true
}

function rejected(emitter: Emitter, error: unknown, name: PropertyKey, values: readonly unknown[]): void {
  const handler = emitter[captureRejectionSymbol]
  if (typeof handler === 'function') {
    handler.call(emitter, error, name, ...values)
    return
  }
  // A listener of 'error' that rejects as well must not come here again.
  const before = emitter[capture]
  emitter[capture] = false
  try {
    emitter.emit('error', error)
  } finally {
    if (before === undefined) Reflect.deleteProperty(emitter, capture)
    else emitter[capture] = before
  }
}

function isEventTarget(value: unknown): value is EventTarget {
  return typeof value === 'object' && value !== null && typeof (value as { addEventListener?: unknown }).addEventListener === 'function'
}

function isEmitter(value: unknown): value is Emitter {
  return typeof value === 'object' && value !== null && typeof (value as { on?: unknown }).on === 'function'
}

interface Waiting {
  readonly signal?: AbortSignal
}

/** A promise of the next event; an 'error' in between rejects it. */
export async function once(emitter: unknown, name: PropertyKey, options: Waiting = {}): Promise<unknown[]> {
  const { signal } = options
  if (signal?.aborted === true) throw abortError(signal.reason)
  return await new Promise((resolve, reject) => {
    const subscribe = subscriptionOf(emitter)
    const ends: (() => void)[] = []
    const finish = (act: () => void) => (): void => {
      for (const end of ends) end()
      act()
    }
    ends.push(subscribe(name, (...values) => finish(() => resolve(values))(), true))
    if (name !== 'error' && !isEventTarget(emitter)) {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what was emitted
      ends.push(subscribe('error', (error) => finish(() => reject(error))(), true))
    }
    if (signal !== undefined) {
      const aborted = finish(() => reject(abortError(signal.reason)))
      signal.addEventListener('abort', aborted, { once: true })
      ends.push(() => signal.removeEventListener('abort', aborted))
    }
  })
}

/** How listeners are added to an emitter or an EventTarget; gives what removes them. */
function subscriptionOf(emitter: unknown): (name: PropertyKey, listener: Listener, once: boolean) => () => void {
  if (isEmitter(emitter)) {
    return (name, listener, onlyOnce) => {
      if (onlyOnce) emitter.once(name, listener)
      else emitter.on(name, listener)
      return () => emitter.removeListener(name, listener)
    }
  }
  if (!isEventTarget(emitter)) throw invalidType('emitter', 'an instance of EventEmitter', emitter)
  return (name, listener, onlyOnce) => {
    emitter.addEventListener(name as string, listener, { once: onlyOnce })
    return () => emitter.removeEventListener(name as string, listener)
  }
}

interface Iterating extends Waiting {
  readonly close?: readonly string[]
}

/** The events as an async iterator, from now on. What comes while nobody asks is kept. */
export function on(emitter: unknown, name: PropertyKey, options: Iterating = {}): AsyncIterableIterator<unknown[]> {
  const { signal, close = [] } = options
  if (signal?.aborted === true) throw abortError(signal.reason)
  const events: unknown[][] = []
  const waiting: { readonly resolve: (step: IteratorResult<unknown[]>) => void; readonly reject: (error: unknown) => void }[] = []
  const ends: (() => void)[] = []
  let failure: { readonly error: unknown } | null = null
  let finished = false
  const finish = (): void => {
    finished = true
    for (const end of ends.splice(0)) end()
    for (const { resolve } of waiting.splice(0)) resolve({ value: undefined, done: true })
  }
  const fail = (error: unknown): void => {
    const next = waiting.shift()
    if (next === undefined) failure = { error }
    else next.reject(error)
    finish()
  }
  const subscribe = subscriptionOf(emitter)
  ends.push(subscribe(name, (...values) => {
    const next = waiting.shift()
    if (next === undefined) events.push(values)
    else next.resolve({ value: values, done: false })
  }, false))
  if (name !== 'error' && !isEventTarget(emitter)) ends.push(subscribe('error', fail, false))
  for (const closing of close) ends.push(subscribe(closing, finish, false))
  if (signal !== undefined) {
    const aborted = (): void => fail(abortError(signal.reason))
    signal.addEventListener('abort', aborted, { once: true })
    ends.push(() => signal.removeEventListener('abort', aborted))
  }
  return {
    next: () => {
      const event = events.shift()
      if (event !== undefined) return Promise.resolve({ value: event, done: false })
      if (failure !== null) {
        const { error } = failure
        failure = null
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what was emitted
        return Promise.reject(error)
      }
      if (finished) return Promise.resolve({ value: undefined, done: true })
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }))
    },
    return: () => {
      finish()
      return Promise.resolve({ value: undefined, done: true })
    },
    throw: (error: unknown) => {
      fail(error)
      return Promise.resolve({ value: undefined, done: true })
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

export function getEventListeners(emitter: unknown, name: PropertyKey): Listener[] {
  if (isEmitter(emitter)) return emitter.listeners(name)
  throw isEventTarget(emitter) ? nodeError(Error, 'ERR_METHOD_NOT_IMPLEMENTED', 'Listeners of an EventTarget cannot be listed here') : invalidType('emitter', 'an instance of EventEmitter or EventTarget', emitter)
}

export function getMaxListeners(emitter: unknown): number {
  if (isEmitter(emitter)) return emitter.getMaxListeners()
  if (isEventTarget(emitter)) return 0
  throw invalidType('emitter', 'an instance of EventEmitter or EventTarget', emitter)
}

export function setMaxListeners(count = 10, ...emitters: unknown[]): void {
  if (emitters.length === 0) Base.defaultMaxListeners = count
  // Of an EventTarget nobody counts listeners.
  for (const emitter of emitters) if (isEmitter(emitter)) emitter.setMaxListeners(count)
}

export function listenerCount(emitter: Emitter, name: PropertyKey): number {
  return emitter.listeners(name).length
}

export function addAbortListener(signal: AbortSignal, listener: (event: Event) => void): Disposable {
  requireFunction('listener', listener)
  if (signal.aborted) queueMicrotask(() => listener(new Event('abort')))
  else signal.addEventListener('abort', listener, { once: true })
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', listener) }
}

/** An emitter whose listeners run in the context in which it was made. */
export function EventEmitterAsyncResource(this: Emitter & { asyncResource: AsyncResource }, options?: Options & { readonly name?: string }): void {
  EventEmitter.call(this, options)
  this.asyncResource = new AsyncResource(options?.name ?? 'EventEmitterAsyncResource')
}
EventEmitterAsyncResource.prototype = Object.create(prototype, {
  constructor: { value: EventEmitterAsyncResource, writable: true, configurable: true },
  emit: {
    value: function emit(this: Emitter & { asyncResource: AsyncResource }, ...values: [PropertyKey, ...unknown[]]): boolean {
      return this.asyncResource.runInAsyncScope(() => prototype.emit.apply(this, values))
    },
    writable: true, configurable: true,
  },
}) as object

export const usingDomains = false
export const captureRejections = false
export const { defaultMaxListeners } = Base
export const init: unknown = Base.init

EventEmitter.captureRejections = false
Object.assign(EventEmitter, { EventEmitter, EventEmitterAsyncResource, once, on, getEventListeners, getMaxListeners, setMaxListeners, listenerCount, addAbortListener, errorMonitor, captureRejectionSymbol, usingDomains, init })
Object.defineProperty(EventEmitter, 'defaultMaxListeners', { get: () => Base.defaultMaxListeners, set: (count: number) => (Base.defaultMaxListeners = count), enumerable: true })
Object.defineProperty(EventEmitter, 'name', { value: 'EventEmitter' })
export default EventEmitter
