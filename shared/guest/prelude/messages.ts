/**
 * `MessageChannel` and its ports, `MessageEvent`, and `structuredClone` with `transfer`. Both ports are in one machine, so a
 * message is a clone that waits in a list; each is told in a turn of its own, by a timer without delay.
 *
 * N1: messages are told in the order in which they were posted, none before `start` (which setting `onmessage` implies),
 *     none after `close`, none in a later request of a session.
 */
import { OPERATIONS } from '../abi.ts'
import { callHandlerProperty, Event, EventTarget, type EventInit } from './events.ts'
import { begin } from './operations.ts'
import {
  ArrayBufferByteLength, ArrayBufferTransfer, ArrayIndexOf, ArrayPush, ArraySplice, MapGet, MapSet, NativeArrayBuffer, NativeDOMException, SymbolIterator,
} from './primordials.ts'
import { cloneValue } from './structured-clone.ts'
import { expose, isObject, publish, toText } from './webidl.ts'

interface MessageEventInit extends EventInit {
  readonly data?: unknown
  readonly origin?: string
  readonly lastEventId?: string
  readonly source?: unknown
  readonly ports?: Iterable<MessagePort>
}

export class MessageEvent extends Event {
  readonly #data: unknown
  readonly #origin: string
  readonly #lastEventId: string
  readonly #source: unknown
  readonly #ports: readonly MessagePort[]

  constructor(type: string, init: MessageEventInit = {}) {
    super(type, init)
    this.#data = init.data ?? null
    this.#origin = init.origin === undefined ? '' : toText(init.origin)
    this.#lastEventId = init.lastEventId === undefined ? '' : toText(init.lastEventId)
    this.#source = init.source ?? null
    this.#ports = init.ports === undefined ? [] : [...init.ports]
  }

  get data(): unknown {
    return this.#data
  }

  get origin(): string {
    return this.#origin
  }

  get lastEventId(): string {
    return this.#lastEventId
  }

  get source(): unknown {
    return this.#source
  }

  get ports(): readonly MessagePort[] {
    return this.#ports
  }
}

interface Posted {
  readonly data: unknown
  readonly ports: readonly MessagePort[]
}

/** What a port is, apart from the object that stands for it: that changes when the port is transferred. */
class PortState {
  other: PortState | null = null
  owner: MessagePort | null = null
  readonly waiting: Posted[] = []
  started = false
  closed = false
  telling = false
}

let making: PortState | null = null
let stateOf: (port: MessagePort) => PortState | null
/** The old object stands for nothing any more. */
let movePort: (from: MessagePort, to: MessagePort) => void
let handlerOf: (port: MessagePort) => unknown

export class MessagePort extends EventTarget {
  #state: PortState | null
  #handler: unknown = null

  static {
    stateOf = (port) => port.#state
    handlerOf = (port) => port.#handler
    movePort = (from, to) => {
      to.#state = from.#state
      if (to.#state !== null) to.#state.owner = to
      from.#state = null
    }
  }

  constructor() {
    if (making === null) throw new TypeError('Illegal constructor')
    super()
    this.#state = making
    making.owner = this
    making = null
  }

  get onmessage(): unknown {
    return this.#handler
  }

  set onmessage(value: unknown) {
    this.#handler = typeof value === 'function' ? value : null
    if (this.#handler !== null) this.start()
  }

  postMessage(message: unknown, options?: Iterable<unknown> | { readonly transfer?: Iterable<unknown> }): void {
    if (arguments.length === 0) throw new TypeError('postMessage needs a message')
    const transfer = transferList(options)
    if (ArrayIndexOf(transfer, this as unknown) >= 0) throw new NativeDOMException('A port cannot send itself', 'DataCloneError')
    const state = this.#state
    const posted = clone(message, transfer)
    const to = state?.other ?? null
    if (to === null) return
    ArrayPush(to.waiting, posted)
    tellNext(to)
  }

  start(): void {
    if (this.#state === null || this.#state.started) return
    this.#state.started = true
    tellNext(this.#state)
  }

  /** What was posted to the other side before still arrives there. */
  close(): void {
    const state = this.#state
    if (state === null) return
    state.closed = true
    state.waiting.length = 0
    if (state.other !== null) state.other.other = null
    state.other = null
  }
}

export class MessageChannel {
  readonly #port1: MessagePort
  readonly #port2: MessagePort

  constructor() {
    const one = new PortState()
    const two = new PortState()
    one.other = two
    two.other = one
    this.#port1 = portOf(one)
    this.#port2 = portOf(two)
  }

  get port1(): MessagePort {
    return this.#port1
  }

  get port2(): MessagePort {
    return this.#port2
  }
}

function portOf(state: PortState): MessagePort {
  making = state
  return new MessagePort()
}

/** N1. */
function tellNext(state: PortState): void {
  if (state.telling || !state.started || state.waiting.length === 0) return
  state.telling = true
  begin(OPERATIONS.TIMER, 0, undefined, (_value, ok) => {
    state.telling = false
    if (!ok) return
    const [posted] = ArraySplice(state.waiting, 0, 1) as Posted[]
    const { owner } = state
    if (posted !== undefined && owner !== null && !state.closed) {
      const event = new MessageEvent('message', { data: posted.data, ports: posted.ports })
      callHandlerProperty(owner, event, handlerOf(owner))
      owner.dispatchEvent(event)
    }
    tellNext(state)
  })
}

/**
 * A copy of `value` in which everything in `transfer` has moved: the originals are empty afterwards. Throws DataCloneError
 * before anything has moved.
 */
function clone(value: unknown, transfer: readonly unknown[]): Posted {
  const memory = new Map<unknown, unknown>()
  const ports: MessagePort[] = []
  for (let at = 0; at < transfer.length; at++) {
    const item = transfer[at]
    const isPort = item instanceof MessagePort
    if (!isPort && !(item instanceof NativeArrayBuffer)) throw new NativeDOMException('This value cannot be transferred', 'DataCloneError')
    if (ArrayIndexOf(transfer, item) !== at) throw new NativeDOMException('A value is in the transfer list twice', 'DataCloneError')
    if (isPort ? stateOf(item) === null : isDetached(item)) throw new NativeDOMException('A value was transferred before', 'DataCloneError')
    if (!isPort) continue
    const port = portOf(new PortState())
    MapSet(memory, item, port)
    ArrayPush(ports, port)
  }
  const data = cloneValue(value, memory)
  for (let at = 0; at < transfer.length; at++) {
    const item = transfer[at]
    if (item instanceof NativeArrayBuffer) ArrayBufferTransfer(item)
    else movePort(item as MessagePort, MapGet(memory, item) as MessagePort)
  }
  return { data, ports }
}

function isDetached(buffer: ArrayBuffer): boolean {
  return ArrayBufferByteLength(buffer) === 0 && (buffer as unknown as { readonly detached?: boolean }).detached === true
}

function transferList(options: unknown): unknown[] {
  if (options === undefined || options === null) return []
  if (!isObject(options)) throw new TypeError('The second argument is a list of what moves, or an object that has one')
  const given = typeof (options as Partial<Iterable<unknown>>)[SymbolIterator] === 'function' ? options : (options as { readonly transfer?: unknown }).transfer
  if (given === undefined) return []
  if (!isObject(given) || typeof (given as Partial<Iterable<unknown>>)[SymbolIterator] !== 'function') throw new TypeError('transfer must be a list')
  return [...(given as Iterable<unknown>)]
}

export function installMessages(): void {
  expose('MessageEvent', MessageEvent, 1)
  expose('MessagePort', MessagePort)
  expose('MessageChannel', MessageChannel, 0)
  publish('structuredClone', function structuredClone(value: unknown, options?: { readonly transfer?: unknown } | null): unknown {
    if (arguments.length === 0) throw new TypeError('structuredClone needs a value')
    return clone(value, transferList({ transfer: options?.transfer })).data
  })
}
