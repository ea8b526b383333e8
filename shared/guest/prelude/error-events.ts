/**
 * The global object as an EventTarget, and the events of errors that nobody catches: `error` and `unhandledrejection`, with
 * their handler properties. An error whose event is cancelled (`preventDefault`, or `onerror` that returns true) is not logged.
 *
 * V1: while such an event is told, another error is logged and not told: a listener that fails does not call itself.
 */
import { callHandlerProperty, Event, EventTarget, type EventInit, type Listener, type ListenerOptions } from './events.ts'
import { ObjectDefineProperty, ReflectApply, StringIndexOf, StringSlice, StringSplit, globals } from './primordials.ts'
import { describeThrown, onUncaught } from './report.ts'
import { expose, publish, toText } from './webidl.ts'

interface ErrorEventInit extends EventInit {
  readonly message?: string
  readonly filename?: string
  /** Whatever a caller gives; made a number. */
  readonly lineno?: unknown
  readonly colno?: unknown
  readonly error?: unknown
}

export class ErrorEvent extends Event {
  readonly #message: string
  readonly #filename: string
  readonly #lineno: number
  readonly #colno: number
  readonly #error: unknown

  constructor(type: string, init: ErrorEventInit = {}) {
    super(type, init)
    this.#message = init.message === undefined ? '' : toText(init.message)
    this.#filename = init.filename === undefined ? '' : toText(init.filename)
    this.#lineno = Number(init.lineno ?? 0) >>> 0
    this.#colno = Number(init.colno ?? 0) >>> 0
    this.#error = init.error
  }

  get message(): string {
    return this.#message
  }

  get filename(): string {
    return this.#filename
  }

  get lineno(): number {
    return this.#lineno
  }

  get colno(): number {
    return this.#colno
  }

  get error(): unknown {
    return this.#error
  }
}

export class PromiseRejectionEvent extends Event {
  readonly #promise: unknown
  readonly #reason: unknown

  constructor(type: string, init: EventInit & { readonly promise: unknown; readonly reason?: unknown }) {
    super(type, init)
    if (typeof init !== 'object' || !('promise' in init)) throw new TypeError('A PromiseRejectionEvent needs a promise')
    this.#promise = init.promise
    this.#reason = init.reason
  }

  get promise(): unknown {
    return this.#promise
  }

  get reason(): unknown {
    return this.#reason
  }
}

const scope = new EventTarget()
const handlers: Record<string, unknown> = { error: null, unhandledrejection: null, rejectionhandled: null }
let telling = false

/** True: somebody said that the error is taken care of. */
function tell(event: Event): boolean {
  if (telling) return false
  telling = true
  try {
    const handler = handlers[event.type]
    // As HTML has it: `onerror` gets the parts, and true from it cancels; the others get the event, and false cancels.
    if (event instanceof ErrorEvent && typeof handler === 'function') {
      try {
        if (ReflectApply(handler as (...parts: unknown[]) => unknown, globalThis, [event.message, event.filename, event.lineno, event.colno, event.error]) === true) event.preventDefault()
      } catch {
        // V1: the error at hand is logged anyway.
      }
    } else callHandlerProperty(globalThis as unknown as EventTarget, event, handler)
    return !scope.dispatchEvent(event)
  } finally {
    telling = false
  }
}

/** Entry `unhandled`: a promise that was rejected and has no handler. The engine names only the reason. */
export function tellRejection(reason: unknown): boolean {
  return tell(new PromiseRejectionEvent('unhandledrejection', { cancelable: true, promise: null, reason }))
}

function tellError(error: unknown): boolean {
  const { name, message, stack } = describeThrown(error)
  const place = placeOf(stack)
  return tell(new ErrorEvent('error', { cancelable: true, message: message === '' ? name : `${name}: ${message}`, error, ...place }))
}

/** File, line and column of a stack's first frame: `at name (file:line:column)`. */
function placeOf(stack: string): { readonly filename?: string; readonly lineno?: number; readonly colno?: number } {
  const from = StringIndexOf(stack, '(')
  const to = StringIndexOf(stack, ')', from)
  if (from < 0 || to < 0) return {}
  const parts = StringSplit(StringSlice(stack, from + 1, to), ':')
  const colno = Number(parts[parts.length - 1])
  const lineno = Number(parts[parts.length - 2])
  return lineno > 0 && colno > 0 ? { filename: parts[0] ?? '', lineno, colno } : {}
}

function isOwn(self: unknown): boolean {
  return self === undefined || self === null || self === globalThis
}

/** On the global object, which is no EventTarget by its prototype: a function that sets that would take ours apart. */
export function installErrorEvents(): void {
  expose('ErrorEvent', ErrorEvent, 1)
  expose('PromiseRejectionEvent', PromiseRejectionEvent, 2)
  const requireScope = (self: unknown): void => {
    if (!isOwn(self)) throw new TypeError('Illegal invocation')
  }
  publish('addEventListener', function addEventListener(this: unknown, type: string, callback: Listener | null, options?: boolean | ListenerOptions): void {
    requireScope(this)
    scope.addEventListener(type, callback, options)
  })
  publish('removeEventListener', function removeEventListener(this: unknown, type: string, callback: Listener | null, options?: boolean | ListenerOptions): void {
    requireScope(this)
    scope.removeEventListener(type, callback, options)
  })
  publish('dispatchEvent', function dispatchEvent(this: unknown, event: Event): boolean {
    requireScope(this)
    return scope.dispatchEvent(event)
  })
  for (const type of ['error', 'unhandledrejection', 'rejectionhandled']) {
    ObjectDefineProperty(globals, `on${type}`, {
      get: () => handlers[type],
      set: (value: unknown) => {
        handlers[type] = typeof value === 'function' ? value : null
      },
      configurable: true,
    })
  }
  onUncaught(tellError)
}
