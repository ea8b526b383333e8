/** A socket that a test plays by hand, and the region's frames in its hands. */
import { decodeFrames, encodeValue } from '../../../shared/link/codec.ts'
import type { Dial, DialHandlers, LinkSocket } from '../../../shared/link/dial.ts'
import { FRAME, LINK_PROTOCOL } from '../../../shared/link/frames.ts'

export class FakeSocket implements LinkSocket {
  readonly handlers: DialHandlers
  /** Every frame that the client has sent. */
  readonly frames: unknown[][] = []
  destroyed = false
  closed = false
  waitingBytes = 0

  constructor(handlers: DialHandlers) {
    this.handlers = handlers
  }

  send(message: Uint8Array): void {
    decodeFrames(Uint8Array.from(message), (frame) => {
      this.frames.push([...frame])
      return true
    })
  }

  bufferedBytes(): number {
    return this.waitingBytes
  }

  close(): void {
    this.closed = true
  }

  destroy(): void {
    this.destroyed = true
  }

  /** A message of the region with these frames. */
  say(...frames: readonly unknown[][]): void {
    this.handlers.onMessage(Buffer.concat(frames.map((frame) => encodeValue(frame))))
  }

  sent(type: number): unknown[][] {
    return this.frames.filter((frame) => frame[0] === type)
  }

  /** Up to the point where the client asks for its snapshot. */
  async welcome(): Promise<void> {
    this.handlers.onOpen()
    this.say([FRAME.welcome, LINK_PROTOCOL, 'region-1'])
    while (this.sent(FRAME.open).length === 0) await new Promise((resolve) => setImmediate(resolve))
  }

  async answerSnapshot(seq = 10, functions: readonly unknown[] = [], answered = functions.length): Promise<void> {
    this.say([FRAME.head, 1, 200, '', null, null, encodeValue({ seq, functions, answered }), true], [FRAME.end, 1, null, null])
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** A dial that keeps what it dialled. */
export function fakeDial(): { dial: Dial; sockets: FakeSocket[] } {
  const sockets: FakeSocket[] = []
  return {
    sockets,
    dial: (_url, _timeoutMs, handlers) => {
      const socket = new FakeSocket(handlers)
      sockets.push(socket)
      return socket
    },
  }
}
