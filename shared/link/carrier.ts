/**
 * One connection's share of the work, the same at both ends: the outbox, the turns of waiting senders, the budget of
 * waiting bytes, and the reading of messages.
 *
 * K1  Whatever bytes arrive, `receive` does not throw: a violation is reported once by `onViolation` and the rest of
 *     the message is not looked at.
 * K2  After `close` nothing is sent and no frame is dispatched.
 */
import { LINK_BUFFERED_MAX_BYTES, LINK_MESSAGE_MAX_BYTES, LINK_SOCKET_HIGH_WATER_BYTES } from '../limits.ts'
import { decodeFrames, MalformedError } from './codec.ts'
import type { Carrier, OutboundBody } from './flow.ts'
import { dispatchFrame } from './frames.ts'
import type { FrameReceiver } from './frames.ts'
import { Outbox } from './outbox.ts'

/** The socket below, whichever library it is of. */
export interface Transport {
  /** Takes a message; its bytes are overwritten after the return. Never throws and never calls back. */
  send(message: Uint8Array): void
  /** Bytes taken and not yet given to the kernel. */
  bufferedBytes(): number
}

export interface CarrierOwner {
  /** The peer broke the protocol. */
  onViolation(why: string): void
  /** Code behind a frame threw what it must not: ours, not the peer's fault. */
  onFault(error: unknown): void
}

export class LinkCarrier implements Carrier {
  readonly outbox: Outbox
  readonly #transport: Transport
  readonly #owner: CarrierOwner
  readonly #receiver: FrameReceiver
  readonly #bufferedMaxBytes: number
  readonly #waiting = new Set<OutboundBody>()
  readonly #take: (frame: readonly unknown[]) => boolean
  #bufferedBytes = 0
  #closed = false

  constructor(transport: Transport, receiver: FrameReceiver, owner: CarrierOwner, bufferedMaxBytes = LINK_BUFFERED_MAX_BYTES) {
    this.#transport = transport
    this.#receiver = receiver
    this.#owner = owner
    this.#bufferedMaxBytes = bufferedMaxBytes
    this.outbox = new Outbox({ sendMessage: (message) => this.#transport.send(message), beforeFlush: () => this.#giveTurns() })
    this.#take = (frame) => {
      dispatchFrame(frame, this.#receiver)
      return !this.#closed
    }
  }

  /** Bytes of bodies that wait here, both directions. Free to read. */
  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  /** One message of the peer; `message` is not used after the return. */
  receive(message: Uint8Array): void {
    if (this.#closed) return
    if (message.length > LINK_MESSAGE_MAX_BYTES) return this.#owner.onViolation('message too large')
    try {
      decodeFrames(message, this.#take)
    } catch (error) {
      if (error instanceof MalformedError) this.#owner.onViolation(error.message)
      else this.#owner.onFault(error)
    }
  }

  /** The socket has given bytes to the kernel. */
  drained(): void {
    if (this.#waiting.size > 0) this.outbox.schedule()
  }

  canSendData(): boolean {
    return this.#transport.bufferedBytes() < LINK_SOCKET_HIGH_WATER_BYTES
  }

  reserve(bytes: number): boolean {
    if (this.#bufferedBytes + bytes > this.#bufferedMaxBytes) return false
    this.#bufferedBytes += bytes
    return true
  }

  release(bytes: number): void {
    this.#bufferedBytes -= bytes
  }

  awaitTurn(sender: OutboundBody): void {
    this.#waiting.add(sender)
    if (this.canSendData()) this.outbox.schedule()
  }

  forgetTurn(sender: OutboundBody): void {
    this.#waiting.delete(sender)
  }

  /** K2. */
  close(): void {
    this.#closed = true
    this.#waiting.clear()
    this.outbox.close()
  }

  #giveTurns(): void {
    while (this.#waiting.size > 0 && this.canSendData()) {
      for (const sender of this.#waiting) {
        this.#waiting.delete(sender)
        if (sender.takeTurn()) this.#waiting.add(sender)
        break
      }
    }
  }
}
