/**
 * What one end of a link has to say, collected into messages.
 *
 * O1  Frames leave in the order in which they were pushed.
 * O2  All frames of one turn of the event loop leave as one message (one mask, one system call, one event at the
 *     peer), or as several when they do not fit. The turn ends at `setImmediate`, which runs right after the sockets
 *     that are readable now were read: it costs an idle link nothing measurable; see bench/link.ts.
 * O3  `sent` counts messages; a frame pushed now is certainly not on the wire while `sent` has its present value.
 */
import { LINK_DATA_MAX_BYTES, LINK_FRAME_MAX_BYTES, LINK_MESSAGE_MAX_BYTES } from '../limits.ts'
import { encode } from './codec.ts'

/** Type, stream number and length before the payload of a data frame, at most: 1 + 1 + 9 + 5. */
const DATA_HEADER_MAX_BYTES = 16
/** A power of two below LINK_MESSAGE_MAX_BYTES, which is one too. */
const BATCH_MIN_BYTES = 16 * 1024

export interface OutboxOwner {
  /** Sends the bytes now; they are overwritten after the return. */
  sendMessage(message: Uint8Array): void
  /** Called before a turn's message leaves, to add what waited. */
  beforeFlush(): void
}

export class Outbox {
  readonly #owner: OutboxOwner
  /** Grows up to LINK_MESSAGE_MAX_BYTES, so that an idle link holds little. */
  #batch = Buffer.allocUnsafeSlow(BATCH_MIN_BYTES)
  readonly #onTurnEnd: () => void
  #length = 0
  #scheduled = false
  #closed = false
  #sent = 0

  constructor(owner: OutboxOwner) {
    this.#owner = owner
    this.#onTurnEnd = () => this.#turnEnd()
  }

  get sent(): number {
    return this.#sent
  }

  /** Encodes a frame. False: it is larger than `maxBytes` and was not taken. */
  push(frame: readonly unknown[], maxBytes = LINK_FRAME_MAX_BYTES): boolean {
    if (this.#closed) return true
    const { buffer, start, end } = encode(frame)
    const bytes = end - start
    if (bytes > maxBytes) return false
    this.#makeRoom(bytes)
    buffer.copy(this.#batch, this.#length, start, end)
    this.#length += bytes
    this.schedule()
    return true
  }

  /** A data frame, written in place: one copy of the payload instead of two. At most LINK_DATA_MAX_BYTES. */
  pushData(type: number, id: number, payload: Uint8Array): void {
    if (this.#closed) return
    const length = payload.length
    if (length > LINK_DATA_MAX_BYTES) throw new RangeError('payload larger than a data frame')
    this.#makeRoom(DATA_HEADER_MAX_BYTES + length)
    let at = this.#length
    const batch = this.#batch
    batch[at++] = 0x93
    batch[at++] = type
    if (id < 0x80) batch[at++] = id
    else if (id <= 0xffff_ffff) {
      batch[at++] = 0xce
      at = batch.writeUInt32BE(id, at)
    } else {
      batch[at++] = 0xcb
      at = batch.writeDoubleBE(id, at)
    }
    if (length < 0x100) {
      batch[at++] = 0xc4
      batch[at++] = length
    } else {
      batch[at++] = 0xc6
      at = batch.writeUInt32BE(length, at)
    }
    batch.set(payload, at)
    this.#length = at + length
    this.schedule()
  }

  /** Has `beforeFlush` and a flush happen at the end of this turn. */
  schedule(): void {
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    setImmediate(this.#onTurnEnd)
  }

  /** Sends what there is now. */
  flush(): void {
    if (this.#length === 0 || this.#closed) return
    const length = this.#length
    this.#length = 0
    this.#sent += 1
    this.#owner.sendMessage(this.#batch.subarray(0, length))
  }

  /** Nothing leaves any more. */
  close(): void {
    this.#closed = true
    this.#length = 0
  }

  #turnEnd(): void {
    this.#scheduled = false
    if (this.#closed) return
    this.#owner.beforeFlush()
    this.flush()
  }

  #makeRoom(bytes: number): void {
    if (this.#length + bytes > LINK_MESSAGE_MAX_BYTES) this.flush()
    const needed = this.#length + bytes
    if (needed <= this.#batch.length) return
    let size = this.#batch.length
    while (size < needed) size *= 2
    const grown = Buffer.allocUnsafeSlow(size)
    this.#batch.copy(grown, 0, 0, this.#length)
    this.#batch = grown
  }
}
