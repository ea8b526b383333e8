/**
 * Blocks on their way to a POP, sealed. The answer to a request is a row of records in the order in which they were asked for:
 * one byte 0 for a block that is not there, or one byte 1, its length in four bytes, and its bytes.
 *
 * B1  A block is handed out only after its SHA-256 equals its id.
 * B2  The sender reads the next block from its store only when the stream takes more, whatever its credit: a slow POP
 *     holds one frame and one block here.
 * B3  The sender reads for a millisecond or so at a time: its thread serves others.
 */
import type { ImageId } from '../brand.ts'
import { CodedError, toCodedError } from '../errors.ts'
import type { CodedErrorData } from '../errors.ts'
import { KIB, LINK_BLOCK_MAX_BYTES, LINK_DATA_MAX_BYTES } from '../limits.ts'
import type { StartKind } from '../outcome.ts'
import { sealedBlockId } from '../store/block-seal.ts'
import type { SealedBlockId } from '../store/types.ts'
import type { BlockSelection, LinkAnswer, LinkInvocation, LinkStream, LinkStreamSink } from './types.ts'

/** A block as a POP asks for it: which one of which image, and what it has to be. */
export interface WantedBlock {
  readonly imageId: ImageId
  /** Among the distinct blocks of the image's manifest. */
  readonly number: number
  readonly id: SealedBlockId
}

/** Gives one record's block, or null; a promise where it has to be got from elsewhere first. */
export type ReadBlock = (at: number) => Uint8Array | null | Promise<Uint8Array | null>

const MISSING = 0
const PRESENT = 1
const RECORD_HEADER_BYTES = 5
/** B3: reading and hashing, about 1 ms. */
const BYTES_PER_TURN = 256 * KIB

/** What is asked for as it travels: numbers by image, in the same order. */
export function selectionsOf(wanted: readonly WantedBlock[]): BlockSelection[] {
  const selections: { imageId: ImageId; numbers: number[] }[] = []
  for (const { imageId, number } of wanted) {
    const last = selections.at(-1)
    if (last?.imageId === imageId) last.numbers.push(number)
    else selections.push({ imageId, numbers: [number] })
  }
  return selections
}

/** The POP's end: takes records apart, verifies, hands out. */
export class BlockReader implements LinkStreamSink {
  readonly #wanted: readonly Pick<WantedBlock, 'id'>[]
  readonly #onBlock: (id: SealedBlockId, block: Uint8Array) => unknown
  readonly #resolve: () => void
  readonly #reject: (error: unknown) => void
  /** The beginning of a record whose rest has not come. */
  #rest: Uint8Array = new Uint8Array(0)
  #next = 0
  #stream: LinkStream | null = null
  #failure: unknown = null

  private constructor(wanted: readonly Pick<WantedBlock, 'id'>[], onBlock: (id: SealedBlockId, block: Uint8Array) => unknown, resolve: () => void, reject: (error: unknown) => void) {
    this.#wanted = wanted
    this.#onBlock = onBlock
    this.#resolve = resolve
    this.#reject = reject
  }

  static read(wanted: readonly Pick<WantedBlock, 'id'>[], onBlock: (id: SealedBlockId, block: Uint8Array) => unknown, open: (sink: LinkStreamSink) => LinkStream | CodedErrorData): Promise<void> {
    return new Promise((resolve, reject) => {
      const reader = new BlockReader(wanted, onBlock, resolve, reject)
      const stream = open(reader)
      if ('code' in stream) reject(CodedError.fromData(stream))
      else reader.#stream = stream
    })
  }

  started(): void {
    // Says nothing about blocks.
  }

  head(_status: number, _headers: string, _startKind: StartKind | null, _version: string | null, body: Uint8Array | null, _last: boolean): void {
    if (body !== null) this.data(body)
  }

  data(chunk: Uint8Array): boolean {
    if (this.#failure !== null) return true
    try {
      this.#take(this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]))
    } catch (error) {
      this.#failure = error
      this.#stream?.cancel()
    }
    return true
  }

  bodyEnd(): void {
    // `end` follows.
  }

  drain(): void {
    // The request was given as a whole.
  }

  end(): void {
    if (this.#failure !== null) this.#reject(this.#failure)
    else if (this.#next < this.#wanted.length) this.#reject(new CodedError('ERR_LINK_PROTOCOL', ['fewer blocks than asked for']))
    else this.#resolve()
  }

  error(error: CodedErrorData): void {
    this.#reject(this.#failure ?? CodedError.fromData(error))
  }

  #take(bytes: Uint8Array): void {
    let at = 0
    for (;;) {
      const kind = bytes[at]
      if (kind === undefined) break
      const id = this.#wanted[this.#next]?.id
      if (id === undefined) throw new CodedError('ERR_LINK_PROTOCOL', ['more blocks than asked for'])
      if (kind === MISSING) throw new CodedError('ERR_STORE_BLOCK', [id, 'not at the region'])
      if (kind !== PRESENT) throw new CodedError('ERR_LINK_PROTOCOL', ['malformed block'])
      if (at + RECORD_HEADER_BYTES > bytes.length) break
      const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + 1)
      if (length > LINK_BLOCK_MAX_BYTES) throw new CodedError('ERR_STORE_BLOCK', [id, 'too long'])
      const start = at + RECORD_HEADER_BYTES
      if (start + length > bytes.length) break
      const block = Uint8Array.prototype.slice.call(bytes, start, start + length)
      // B1.
      if (sealedBlockId(block) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered on its way'])
      this.#next += 1
      at = start + length
      this.#onBlock(id, block)
    }
    this.#rest = Uint8Array.prototype.slice.call(bytes, at)
  }
}

/** The region's end: fills frames with records as long as the stream takes them (B2). */
export class BlockWriter implements LinkInvocation {
  readonly #count: number
  readonly #read: ReadBlock
  readonly #answer: LinkAnswer
  readonly #chunk = Buffer.allocUnsafeSlow(LINK_DATA_MAX_BYTES)
  /** Bytes of `#chunk` that wait to be sent. */
  #filled = 0
  /** A block that is being cut into frames, and how far it is. */
  #block: Uint8Array | null = null
  #blockAt = 0
  #next = 0
  /** `reading`: waits for a block from elsewhere. `yielding`: for its next turn (B3). */
  #state: 'idle' | 'running' | 'reading' | 'yielding' | 'done' = 'idle'

  constructor(count: number, read: ReadBlock, answer: LinkAnswer) {
    this.#count = count
    this.#read = read
    this.#answer = answer
  }

  start(): void {
    if (this.#answer.head(200, '', null, null, null, false)) this.resume()
  }

  write(): boolean {
    return true
  }

  writeEnd(): void {
    // The request came as a whole.
  }

  resume(): void {
    if (this.#state !== 'idle') return
    this.#state = 'running'
    try {
      this.#run()
    } catch (error) {
      this.#fail(error)
    }
  }

  cancel(): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#answer.error({ code: 'ERR_CANCELED', params: [] })
  }

  #run(): void {
    for (let turnBytes = 0; turnBytes < BYTES_PER_TURN;) {
      const filled = this.#fill()
      if (filled === 'reading') return
      const bytes = this.#filled
      this.#filled = 0
      turnBytes += bytes
      const more = bytes === 0 || this.#answer.data(this.#chunk.subarray(0, bytes))
      if (filled === 'end') {
        this.#state = 'done'
        this.#answer.bodyEnd()
        this.#answer.end(null, null)
        return
      }
      if (!more) {
        this.#state = 'idle'
        return
      }
    }
    this.#state = 'yielding'
    setImmediate(() => this.#goOn('yielding'))
  }

  /** Fills the chunk with records and parts of records; `end` when there are no more. */
  #fill(): 'full' | 'end' | 'reading' {
    for (;;) {
      if (this.#block !== null) {
        const bytes = Math.min(this.#block.length - this.#blockAt, this.#chunk.length - this.#filled)
        this.#chunk.set(this.#block.subarray(this.#blockAt, this.#blockAt + bytes), this.#filled)
        this.#filled += bytes
        this.#blockAt += bytes
        if (this.#blockAt < this.#block.length) return 'full'
        this.#block = null
      }
      if (this.#next === this.#count) return 'end'
      if (this.#filled + RECORD_HEADER_BYTES > this.#chunk.length) return 'full'
      const block = this.#read(this.#next)
      this.#next += 1
      if (block instanceof Promise) {
        this.#await(block)
        return 'reading'
      }
      this.#begin(block)
    }
  }

  #begin(block: Uint8Array | null): void {
    if (block === null) {
      this.#chunk[this.#filled++] = MISSING
      return
    }
    if (block.length > LINK_BLOCK_MAX_BYTES) throw new CodedError('ERR_STORE_BLOCK', [this.#next - 1, 'longer than a block can be'])
    this.#chunk[this.#filled++] = PRESENT
    this.#filled = this.#chunk.writeUInt32BE(block.length, this.#filled)
    this.#block = block
    this.#blockAt = 0
  }

  #await(block: Promise<Uint8Array | null>): void {
    this.#state = 'reading'
    block.then((content) => {
      if (this.#state !== 'reading') return
      this.#begin(content)
      this.#goOn('reading')
    }).catch((error: unknown) => this.#fail(error))
  }

  /** Cancelled meanwhile: then there is nothing to go on with. */
  #goOn(from: 'reading' | 'yielding'): void {
    if (this.#state !== from) return
    this.#state = 'idle'
    this.resume()
  }

  #fail(error: unknown): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#answer.error(toCodedError(error).toData())
  }
}
