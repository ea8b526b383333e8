/** `Event`, `EventTarget` and `CustomEvent`. There is no tree: an event has one target and one phase. */
import { ArrayPush, ArraySlice, ArraySplice, DateNow, MapGet, MapSet, NativeDOMException, ReflectApply } from './primordials.ts'
import { reportUncaught } from './report.ts'
import { isObject, toText } from './webidl.ts'

export interface EventInit {
  readonly bubbles?: boolean
  readonly cancelable?: boolean
  readonly composed?: boolean
}

/** Bits of an event's flags. */
const CANCELED = 1
const STOPPED = 2
const STOPPED_AT_ONCE = 4
const DISPATCHING = 8
const PASSIVE = 16
const TRUSTED = 32

let dispatchOn: (target: EventTarget, event: Event) => boolean
let flagsOf: (event: Event) => number
let setFlags: (event: Event, flags: number) => void
let setTarget: (event: Event, target: EventTarget | null, current: EventTarget | null) => void

export class Event {
  static readonly NONE = 0
  static readonly CAPTURING_PHASE = 1
  static readonly AT_TARGET = 2
  static readonly BUBBLING_PHASE = 3

  #type: string
  #init: EventInit
  #flags = 0
  #target: EventTarget | null = null
  #currentTarget: EventTarget | null = null
  #timeStamp: number

  static {
    flagsOf = (event) => event.#flags
    setFlags = (event, flags) => {
      event.#flags = flags
    }
    setTarget = (event, target, current) => {
      event.#target = target
      event.#currentTarget = current
    }
  }

  constructor(type: string, init?: EventInit) {
    if (arguments.length === 0) throw new TypeError('An Event needs a type')
    this.#type = toText(type)
    this.#init = { bubbles: Boolean(init?.bubbles), cancelable: Boolean(init?.cancelable), composed: Boolean(init?.composed) }
    this.#timeStamp = DateNow()
  }

  get type(): string {
    return this.#type
  }

  get target(): EventTarget | null {
    return this.#target
  }

  get srcElement(): EventTarget | null {
    return this.#target
  }

  get currentTarget(): EventTarget | null {
    return this.#currentTarget
  }

  get eventPhase(): number {
    return (this.#flags & DISPATCHING) !== 0 ? 2 : 0
  }

  get bubbles(): boolean {
    return this.#init.bubbles === true
  }

  get cancelable(): boolean {
    return this.#init.cancelable === true
  }

  get composed(): boolean {
    return this.#init.composed === true
  }

  get defaultPrevented(): boolean {
    return (this.#flags & CANCELED) !== 0
  }

  get returnValue(): boolean {
    return !this.defaultPrevented
  }

  set returnValue(value: boolean) {
    if (!(value as unknown)) this.preventDefault()
  }

  get cancelBubble(): boolean {
    return (this.#flags & STOPPED) !== 0
  }

  set cancelBubble(value: boolean) {
    if (value) this.#flags |= STOPPED
  }

  get timeStamp(): number {
    return this.#timeStamp
  }

  get isTrusted(): boolean {
    return (this.#flags & TRUSTED) !== 0
  }

  composedPath(): EventTarget[] {
    return this.#currentTarget === null ? [] : [this.#currentTarget]
  }

  /** Legacy. */
  initEvent(type: string, bubbles: unknown = false, cancelable: unknown = false): void {
    if ((this.#flags & DISPATCHING) !== 0) return
    this.#type = toText(type)
    this.#init = { bubbles: Boolean(bubbles), cancelable: Boolean(cancelable), composed: this.composed }
    this.#flags = 0
  }

  preventDefault(): void {
    if (this.#init.cancelable === true && (this.#flags & PASSIVE) === 0) this.#flags |= CANCELED
  }

  stopPropagation(): void {
    this.#flags |= STOPPED
  }

  stopImmediatePropagation(): void {
    this.#flags |= STOPPED | STOPPED_AT_ONCE
  }
}

/** An event of the platform's own. */
export function trustedEvent(type: string): Event {
  const event = new Event(type)
  setFlags(event, TRUSTED)
  return event
}

export class CustomEvent extends Event {
  #detail: unknown

  constructor(type: string, init?: EventInit & { readonly detail?: unknown }) {
    super(type, init)
    this.#detail = init?.detail ?? null
  }

  get detail(): unknown {
    return this.#detail
  }
}

interface ListenerObject {
  handleEvent?(event: Event): void
}
export type Listener = ((event: Event) => void) | ListenerObject

class Registration {
  readonly callback: Listener
  readonly capture: boolean
  readonly once: boolean
  readonly passive: boolean
  removed = false

  constructor(callback: Listener, capture: boolean, once: boolean, passive: boolean) {
    this.callback = callback
    this.capture = capture
    this.once = once
    this.passive = passive
  }
}

export interface ListenerOptions {
  readonly capture?: boolean
  readonly once?: boolean
  readonly passive?: boolean
  readonly signal?: EventTarget & { readonly aborted: boolean }
}

export class EventTarget {
  #listeners: Map<string, Registration[]> | null = null

  static {
    dispatchOn = (target, event) => {
      const listeners = target.#listeners === null ? undefined : MapGet(target.#listeners, event.type)
      setTarget(event, target, target)
      setFlags(event, flagsOf(event) | DISPATCHING)
      if (listeners !== undefined) callAll(target, event, listeners)
      setFlags(event, flagsOf(event) & ~(DISPATCHING | STOPPED | STOPPED_AT_ONCE))
      setTarget(event, target, null)
      return !event.defaultPrevented
    }
  }

  addEventListener(type: string, callback: Listener | null | undefined, options?: boolean | ListenerOptions | null): void {
    const settings: ListenerOptions = typeof options === 'object' && options !== null ? options : { capture: Boolean(options) }
    // Read whatever the listener is: that is how code finds out what is supported.
    const { capture: captures, once, passive, signal } = settings
    if (signal !== undefined && !isObject(signal)) throw new TypeError('The signal must be an AbortSignal')
    if (callback === null || callback === undefined) return
    if (!isObject(callback)) throw new TypeError('A listener must be a function or an object')
    if (signal?.aborted === true) return
    const capture = Boolean(captures)
    const key = toText(type)
    this.#listeners ??= new Map()
    let list = MapGet(this.#listeners, key)
    if (list === undefined) MapSet(this.#listeners, key, (list = []))
    if (indexOfListener(list, callback, capture) >= 0) return
    ArrayPush(list, new Registration(callback, capture, Boolean(once), Boolean(passive)))
    signal?.addEventListener('abort', () => this.removeEventListener(type, callback, options), { once: true })
  }

  removeEventListener(type: string, callback: Listener | null | undefined, options?: boolean | ListenerOptions | null): void {
    const capture = Boolean(typeof options === 'object' && options !== null ? options.capture : options)
    const list = this.#listeners === null ? undefined : MapGet(this.#listeners, toText(type))
    if (list === undefined || callback === null || callback === undefined) return
    const i = indexOfListener(list, callback, capture)
    if (i >= 0) removeAt(list, i)
  }

  dispatchEvent(event: Event): boolean {
    if (!(event instanceof Event)) throw new TypeError('dispatchEvent needs an Event')
    if ((flagsOf(event) & DISPATCHING) !== 0) throw new NativeDOMException('The event is being dispatched', 'InvalidStateError')
    return dispatchOn(this, event)
  }
}

function indexOfListener(list: readonly Registration[], callback: Listener, capture: boolean): number {
  for (let i = 0; i < list.length; i++) if (list[i]?.callback === callback && list[i]?.capture === capture) return i
  return -1
}

function removeAt(list: Registration[], i: number): void {
  const registration = list[i]
  if (registration === undefined) return
  registration.removed = true
  ArraySplice(list, i, 1)
}

function callAll(target: EventTarget, event: Event, listeners: Registration[]): void {
  const snapshot = ArraySlice(listeners)
  for (let i = 0; i < snapshot.length; i++) {
    const registration = snapshot[i]
    if (registration === undefined || registration.removed) continue
    if (registration.once) removeAt(listeners, indexOfListener(listeners, registration.callback, registration.capture))
    if (registration.passive) setFlags(event, flagsOf(event) | PASSIVE)
    try {
      const callback = registration.callback
      if (typeof callback === 'function') ReflectApply(callback, target, [event])
      else callback.handleEvent?.(event)
    } catch (error) {
      reportUncaught(error) // A listener's failure does not stop the others.
    }
    setFlags(event, flagsOf(event) & ~PASSIVE)
    if ((flagsOf(event) & STOPPED_AT_ONCE) !== 0) return
  }
}

/** An `onabort`-like attribute: the handler of that property is one listener in the order of its first setting. */
export function callHandlerProperty(target: EventTarget, event: Event, handler: unknown): void {
  if (typeof handler !== 'function') return
  try {
    ReflectApply(handler as (event: Event) => void, target, [event])
  } catch (error) {
    reportUncaught(error) // As for listeners.
  }
}
