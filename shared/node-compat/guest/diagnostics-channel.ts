/** `node:diagnostics_channel`. */
import { invalidType, requireFunction } from './errors.ts'

type Name = string | symbol
type Subscriber = (message: unknown, name: Name) => void
type AnyFunction = (this: unknown, ...values: unknown[]) => unknown
interface Storage {
  run(store: unknown, run: () => unknown): unknown
}

const channels = new Map<Name, Channel>()

export class Channel {
  readonly name: Name
  #subscribers: readonly Subscriber[] = []
  readonly #stores = new Map<Storage, (message: unknown) => unknown>()

  constructor(name: Name) {
    this.name = name
  }

  get hasSubscribers(): boolean {
    return this.#subscribers.length > 0 || this.#stores.size > 0
  }

  subscribe(subscriber: Subscriber): void {
    requireFunction('subscription', subscriber)
    this.#subscribers = [...this.#subscribers, subscriber]
  }

  unsubscribe(subscriber: Subscriber): boolean {
    const rest = [...this.#subscribers]
    const index = rest.indexOf(subscriber)
    if (index === -1) return false
    rest.splice(index, 1)
    this.#subscribers = rest
    return true
  }

  /** A subscriber's failure is not the publisher's. */
  publish(message: unknown): void {
    for (const subscriber of this.#subscribers) {
      try {
        subscriber(message, this.name)
      } catch (error) {
        queueMicrotask(() => (globalThis as unknown as { reportError(error: unknown): void }).reportError(error))
      }
    }
  }

  bindStore(store: Storage, transform: (message: unknown) => unknown = (message) => message): void {
    this.#stores.set(store, transform)
  }

  unbindStore(store: Storage): boolean {
    return this.#stores.delete(store)
  }

  runStores(message: unknown, run: AnyFunction, self?: unknown, ...values: unknown[]): unknown {
    let inner = (): unknown => {
      this.publish(message)
      return Reflect.apply(run, self, values)
    }
    for (const [store, transform] of this.#stores) {
      const next = inner
      inner = () => store.run(transform(message), next)
    }
    return inner()
  }
}

export function channel(name: Name): Channel {
  if (typeof name !== 'string' && typeof name !== 'symbol') throw invalidType('channel', 'one of type string or symbol', name)
  const known = channels.get(name)
  if (known !== undefined) return known
  const made = new Channel(name)
  channels.set(name, made)
  return made
}

export function hasSubscribers(name: Name): boolean {
  return channels.get(name)?.hasSubscribers ?? false
}

export function subscribe(name: Name, subscriber: Subscriber): void {
  channel(name).subscribe(subscriber)
}

export function unsubscribe(name: Name, subscriber: Subscriber): boolean {
  return channel(name).unsubscribe(subscriber)
}

const EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const
type Events = Readonly<Record<(typeof EVENTS)[number], Channel>>

class TracingChannel {
  readonly start: Channel
  readonly end: Channel
  readonly asyncStart: Channel
  readonly asyncEnd: Channel
  readonly error: Channel

  constructor(given: string | Events) {
    const of = (event: (typeof EVENTS)[number]): Channel => (typeof given === 'string' ? channel(`tracing:${given}:${event}`) : given[event])
    this.start = of('start')
    this.end = of('end')
    this.asyncStart = of('asyncStart')
    this.asyncEnd = of('asyncEnd')
    this.error = of('error')
  }

  get hasSubscribers(): boolean {
    return EVENTS.some((event) => this[event].hasSubscribers)
  }

  subscribe(handlers: Partial<Record<(typeof EVENTS)[number], Subscriber>>): void {
    for (const event of EVENTS) if (handlers[event] !== undefined) this[event].subscribe(handlers[event])
  }

  unsubscribe(handlers: Partial<Record<(typeof EVENTS)[number], Subscriber>>): boolean {
    return EVENTS.map((event) => handlers[event] === undefined || this[event].unsubscribe(handlers[event])).every(Boolean)
  }

  traceSync(run: AnyFunction, context: Record<string, unknown> = {}, self?: unknown, ...values: unknown[]): unknown {
    return this.start.runStores(context, () => {
      try {
        const result = Reflect.apply(run, self, values)
        context['result'] = result
        return result
      } catch (error) {
        context['error'] = error
        this.error.publish(context)
        throw error
      } finally {
        this.end.publish(context)
      }
    })
  }

  tracePromise(run: AnyFunction, context: Record<string, unknown> = {}, self?: unknown, ...values: unknown[]): unknown {
    const settled = (key: string, value: unknown): void => {
      context[key] = value
      if (key === 'error') this.error.publish(context)
      this.asyncStart.publish(context)
      this.asyncEnd.publish(context)
    }
    return this.start.runStores(context, () => {
      try {
        return Promise.resolve(Reflect.apply(run, self, values)).then(
          (value: unknown) => {
            settled('result', value)
            return value
          },
          (error: unknown) => {
            settled('error', error)
            throw error
          },
        )
      } catch (error) {
        context['error'] = error
        this.error.publish(context)
        throw error
      } finally {
        this.end.publish(context)
      }
    })
  }

  traceCallback(run: AnyFunction, position = -1, context: Record<string, unknown> = {}, self?: unknown, ...values: unknown[]): unknown {
    const callback = values.at(position)
    requireFunction('callback', callback)
    const { asyncStart, asyncEnd, error } = this
    const traced = function (this: unknown, failure: unknown, result: unknown): unknown {
      context[failure !== null && failure !== undefined ? 'error' : 'result'] = failure ?? result
      if (failure !== null && failure !== undefined) error.publish(context)
      return asyncStart.runStores(context, () => {
        try {
          return Reflect.apply(callback, this, [failure, result])
        } finally {
          asyncEnd.publish(context)
        }
      })
    }
    values.splice(position, 1, traced)
    return this.start.runStores(context, () => {
      try {
        return Reflect.apply(run, self, values)
      } catch (thrown) {
        context['error'] = thrown
        error.publish(context)
        throw thrown
      } finally {
        this.end.publish(context)
      }
    })
  }
}

export function tracingChannel(given: string | Events): TracingChannel {
  return new TracingChannel(given)
}

export default { channel, hasSubscribers, subscribe, unsubscribe, tracingChannel, Channel }
