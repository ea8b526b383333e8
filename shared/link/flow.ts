/**
 * Flow control of one direction of one stream.
 *
 * F1  Bytes leave and are handed out in order and without loss.
 * F2  A sender never has more than its window outstanding, LINK_CREDIT_BYTES unless the receiver gave more when it
 *     opened the stream; a receiver that sees more closes the link.
 * F3  What has to wait is copied, counted in the carrier's budget, and given back on every way out (`drop`).
 * F4  A receiver grants credit only for bytes that its reader has taken while it is not pausing, so a slow reader
 *     holds at most its window here and stops its own stream only.
 * F5  Data waits while the socket holds more than LINK_SOCKET_HIGH_WATER_BYTES; waiting senders then take turns, one
 *     frame each, so a large body does not hold up the others.
 */
import { LINK_CREDIT_BYTES, LINK_DATA_MAX_BYTES } from '../limits.ts'
import { MalformedError } from './codec.ts'
import { FRAME, writeBodyEnd, writeCredit } from './frames.ts'
import type { Outbox } from './outbox.ts'

/** What a stream needs of its connection. */
export interface Carrier {
  readonly outbox: Outbox
  /** The socket takes data frames now (F5). */
  canSendData(): boolean
  /** Counts bytes that wait; false: the bound of the link is reached and nothing was counted. */
  reserve(bytes: number): boolean
  release(bytes: number): void
  /** Gives the sender a turn as soon as the socket can take data. */
  awaitTurn(sender: OutboundBody): void
  forgetTurn(sender: OutboundBody): void
}

/** `overload`: the bound of the link is reached; the stream cannot go on and its owner must end it. */
export type WriteVerdict = 'go' | 'wait' | 'overload'

export class OutboundBody {
  readonly #id: number
  readonly #carrier: Carrier
  readonly #onDrain: () => void
  readonly #windowBytes: number
  #creditBytes: number
  /** Copies, oldest at `#queueIndex`. */
  #queue: Uint8Array[] = []
  #queueIndex = 0
  #queuedBytes = 0
  #owesDrain = false
  /** `open`: more may be written. `ending`: bodyEnd goes behind the queue. `closed`: nothing is sent any more. */
  #state: 'open' | 'ending' | 'closed' = 'open'
  #mark: 'bodyEnd' | 'none' = 'bodyEnd'
  #afterEnd: (() => void) | null = null

  constructor(id: number, carrier: Carrier, onDrain: () => void, windowBytes = LINK_CREDIT_BYTES) {
    this.#id = id
    this.#carrier = carrier
    this.#onDrain = onDrain
    this.#windowBytes = windowBytes
    this.#creditBytes = windowBytes
  }

  /** Counts bytes that travelled inside an open or head frame. */
  spend(bytes: number): void {
    this.#creditBytes -= bytes
  }

  write(chunk: Uint8Array): WriteVerdict {
    if (this.#state !== 'open' || chunk.length === 0) return 'go'
    let offset = 0
    if (this.#queuedBytes === 0) {
      while (offset < chunk.length && this.#creditBytes > 0 && this.#carrier.canSendData()) {
        const bytes = Math.min(LINK_DATA_MAX_BYTES, this.#creditBytes, chunk.length - offset)
        this.#carrier.outbox.pushData(FRAME.data, this.#id, offset === 0 && bytes === chunk.length ? chunk : chunk.subarray(offset, offset + bytes))
        this.#creditBytes -= bytes
        offset += bytes
      }
      if (offset === chunk.length) return 'go'
    }
    const waiting = chunk.length - offset
    if (!this.#carrier.reserve(waiting)) return 'overload'
    this.#queue.push(Uint8Array.prototype.slice.call(chunk, offset))
    this.#queuedBytes += waiting
    this.#owesDrain = true
    if (this.#creditBytes > 0) this.#carrier.awaitTurn(this)
    return 'wait'
  }

  /** Nothing more is written; `mark` and then `after` follow once the queue is empty, at once if it is. A second call only adds its `after`. */
  end(mark: 'bodyEnd' | 'none', after: (() => void) | null): void {
    if (this.#state === 'closed') return after?.()
    if (after !== null) this.#afterEnd = after
    if (this.#state === 'ending') return
    this.#state = 'ending'
    this.#owesDrain = false
    this.#mark = mark
    if (this.#queuedBytes === 0) this.#finish()
  }

  /** The peer takes more. Throws MalformedError for more than was ever outstanding. */
  credit(bytes: number): void {
    if (bytes === 0 || this.#creditBytes + bytes > this.#windowBytes) throw new MalformedError('credit beyond the window')
    this.#creditBytes += bytes
    if (this.#queuedBytes > 0) this.#carrier.awaitTurn(this)
  }

  /** Sends one frame of what waits. True: wants another turn. */
  takeTurn(): boolean {
    const head = this.#queue[this.#queueIndex]
    if (head === undefined || this.#creditBytes === 0 || this.#state === 'closed') return false
    const bytes = Math.min(LINK_DATA_MAX_BYTES, this.#creditBytes, head.length)
    this.#carrier.outbox.pushData(FRAME.data, this.#id, head.subarray(0, bytes))
    this.#creditBytes -= bytes
    this.#queuedBytes -= bytes
    this.#carrier.release(bytes)
    if (bytes < head.length) this.#queue[this.#queueIndex] = head.subarray(bytes)
    else this.#advance()
    if (this.#queuedBytes > 0) return this.#creditBytes > 0
    if (this.#state === 'ending') this.#finish()
    else if (this.#owesDrain) {
      this.#owesDrain = false
      this.#onDrain()
    }
    return false
  }

  /** Nothing more is sent, what waits is dropped (F3). Idempotent. */
  drop(): void {
    this.#state = 'closed'
    this.#afterEnd = null
    this.#carrier.release(this.#queuedBytes)
    this.#queuedBytes = 0
    this.#queue = []
    this.#queueIndex = 0
    this.#carrier.forgetTurn(this)
  }

  #finish(): void {
    this.#state = 'closed'
    if (this.#mark === 'bodyEnd') writeBodyEnd(this.#carrier.outbox, this.#id)
    const after = this.#afterEnd
    this.#afterEnd = null
    after?.()
  }

  /** Drops the oldest chunk; the array is compacted once half of it is used up. */
  #advance(): void {
    this.#queueIndex += 1
    if (this.#queueIndex * 2 < this.#queue.length) return
    this.#queue.splice(0, this.#queueIndex)
    this.#queueIndex = 0
  }
}

export interface InboundReader {
  /** False: pause until `resume`. */
  onData(chunk: Uint8Array): boolean
  onBodyEnd(): void
}

export class InboundBody {
  readonly #id: number
  readonly #carrier: Carrier
  readonly #reader: InboundReader
  /** What the peer may still send. */
  #windowBytes: number
  /** Credit is granted in steps of half the window: fewer frames, and a sender at full speed never runs dry. */
  readonly #stepBytes: number
  /** Taken by the reader and not yet granted again. */
  #takenBytes = 0
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  #paused = false
  #delivering = false
  /** The peer has said bodyEnd. */
  #ended = false
  /** `open`: the reader waits for more. `closed`: it has had all, or nobody reads. */
  #state: 'open' | 'closed' = 'open'
  #afterDelivery: (() => void) | null = null

  constructor(id: number, carrier: Carrier, reader: InboundReader, windowBytes = LINK_CREDIT_BYTES) {
    this.#id = id
    this.#carrier = carrier
    this.#reader = reader
    this.#windowBytes = windowBytes
    this.#stepBytes = windowBytes / 2
  }

  /** Counts bytes that travelled inside an open or head frame and were taken. */
  spend(bytes: number): void {
    this.#windowBytes -= bytes
    this.#takenBytes += bytes
  }

  /** A data frame. Throws MalformedError for a frame after the end or beyond the credit (F2). */
  accept(chunk: Uint8Array): 'go' | 'overload' {
    const bytes = chunk.length
    if (bytes === 0) throw new MalformedError('empty data frame')
    if (bytes > this.#windowBytes) throw new MalformedError('data beyond the credit')
    this.#windowBytes -= bytes
    if (this.#ended) throw new MalformedError('data after the end of the body')
    if (this.#state === 'closed') return 'go'
    if (this.#queuedBytes === 0 && !this.#paused && !this.#delivering) {
      this.#deliver(chunk)
      this.#grant()
      return 'go'
    }
    if (!this.#carrier.reserve(bytes)) return 'overload'
    this.#queue.push(Uint8Array.prototype.slice.call(chunk))
    this.#queuedBytes += bytes
    return 'go'
  }

  /** The peer's bodyEnd. Throws MalformedError for a second one. */
  end(): void {
    if (this.#ended) throw new MalformedError('second end of the body')
    this.#ended = true
    this.#settle()
  }

  /** Runs `action` once all that came has been handed out, now if so. */
  whenDelivered(action: () => void): void {
    this.#afterDelivery = action
    this.#settle()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    if (this.#delivering) return
    // At most a window waits, so shifting costs little.
    for (let chunk = this.#queue.shift(); chunk !== undefined; chunk = this.#next()) {
      this.#queuedBytes -= chunk.length
      this.#carrier.release(chunk.length)
      this.#deliver(chunk)
    }
    this.#settle()
    this.#grant()
  }

  /** Nobody reads any more: what waits is dropped, what comes is ignored and earns no credit. Idempotent. */
  drop(): void {
    this.#state = 'closed'
    this.#afterDelivery = null
    this.#carrier.release(this.#queuedBytes)
    this.#queuedBytes = 0
    this.#queue = []
  }

  #next(): Uint8Array | undefined {
    return this.#paused ? undefined : this.#queue.shift()
  }

  #deliver(chunk: Uint8Array): void {
    this.#delivering = true
    this.#takenBytes += chunk.length
    try {
      if (!this.#reader.onData(chunk)) this.#paused = true
    } finally {
      this.#delivering = false
    }
  }

  #settle(): void {
    if (this.#queuedBytes > 0 || this.#delivering) return
    if (this.#ended && this.#state === 'open') {
      this.#state = 'closed'
      this.#reader.onBodyEnd()
    }
    const action = this.#afterDelivery
    this.#afterDelivery = null
    action?.()
  }

  #grant(): void {
    if (this.#paused || this.#ended || this.#state === 'closed' || this.#takenBytes < this.#stepBytes) return
    const bytes = this.#takenBytes
    this.#takenBytes = 0
    this.#windowBytes += bytes
    writeCredit(this.#carrier.outbox, this.#id, bytes)
  }
}
