/**
 * Blocks on their way to a POP. The answer to a request is a row of records in the order of the ids asked for:
 * one byte 0 for a block that is not there, or one byte 1, its length in four bytes, and its bytes.
 *
 * B1  A block is handed out only after its SHA-256 equals its id.
 * B2  The sender reads the next blocks from its store only when the stream takes them: a slow POP holds nothing here.
 */
import { CodedError, toCodedError } from '../errors.ts'
import type { CodedErrorData } from '../errors.ts'
import { LINK_DATA_MAX_BYTES } from '../limits.ts'
import { blockIdOf, PAGE_BYTES } from '../microvm/manifest.ts'
import type { BlockId } from '../microvm/manifest.ts'
import type { StartKind } from '../outcome.ts'
import { encodeValue } from './codec.ts'
import type { LinkAnswer, LinkInvocation, LinkStream, LinkStreamSink } from './types.ts'

const MISSING = 0
const PRESENT = 1
const RECORD_HEADER_BYTES = 5
/** A block is a page; anything longer is not one. */
const BLOCK_MAX_BYTES = PAGE_BYTES

/** The POP's end: takes records apart, verifies, hands out. */
export class BlockReader implements LinkStreamSink {
  readonly #ids: readonly BlockId[]
  readonly #onBlock: (id: BlockId, block: Uint8Array) => void
  readonly #resolve: () => void
  readonly #reject: (error: unknown) => void
  /** The beginning of a record whose rest has not come. */
  #rest: Uint8Array = new Uint8Array(0)
  #next = 0
  #stream: LinkStream | null = null
  #failure: unknown = null

  private constructor(ids: readonly BlockId[], onBlock: (id: BlockId, block: Uint8Array) => void, resolve: () => void, reject: (error: unknown) => void) {
    this.#ids = ids
    this.#onBlock = onBlock
    this.#resolve = resolve
    this.#reject = reject
  }

  static read(ids: readonly BlockId[], onBlock: (id: BlockId, block: Uint8Array) => void, open: (body: Uint8Array, sink: LinkStreamSink) => LinkStream | CodedErrorData): Promise<void> {
    return new Promise((resolve, reject) => {
      const reader = new BlockReader(ids, onBlock, resolve, reject)
      const stream = open(encodeValue({ ids }), reader)
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
    else if (this.#next < this.#ids.length) this.#reject(new CodedError('ERR_LINK_PROTOCOL', ['fewer blocks than asked for']))
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
      const id = this.#ids[this.#next]
      if (id === undefined) throw new CodedError('ERR_LINK_PROTOCOL', ['more blocks than asked for'])
      if (kind === MISSING) throw new CodedError('ERR_STORE_BLOCK', [id, 'not at the region'])
      if (kind !== PRESENT) throw new CodedError('ERR_LINK_PROTOCOL', ['malformed block'])
      if (at + RECORD_HEADER_BYTES > bytes.length) break
      const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + 1)
      if (length > BLOCK_MAX_BYTES) throw new CodedError('ERR_STORE_BLOCK', [id, 'too long'])
      const start = at + RECORD_HEADER_BYTES
      if (start + length > bytes.length) break
      const block = Uint8Array.prototype.slice.call(bytes, start, start + length)
      // B1.
      if (blockIdOf(block) !== id) throw new CodedError('ERR_STORE_BLOCK', [id, 'altered on its way'])
      this.#next += 1
      at = start + length
      this.#onBlock(id, block)
    }
    this.#rest = Uint8Array.prototype.slice.call(bytes, at)
  }
}

/** The region's end: fills frames with records as long as the stream takes them (B2). */
export class BlockWriter implements LinkInvocation {
  readonly #ids: readonly BlockId[]
  readonly #read: (id: BlockId) => Uint8Array | null
  readonly #answer: LinkAnswer
  readonly #chunk = Buffer.allocUnsafeSlow(LINK_DATA_MAX_BYTES)
  #next = 0
  #state: 'running' | 'done' = 'running'

  constructor(ids: readonly BlockId[], read: (id: BlockId) => Uint8Array | null, answer: LinkAnswer) {
    this.#ids = ids
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
    try {
      while (this.#state === 'running') {
        const bytes = this.#fill()
        if (bytes > 0 && !this.#answer.data(this.#chunk.subarray(0, bytes))) return
        if (this.#next === this.#ids.length) {
          this.#state = 'done'
          this.#answer.bodyEnd()
          this.#answer.end(null, null)
        }
      }
    } catch (error) {
      this.#state = 'done'
      this.#answer.error(toCodedError(error).toData())
    }
  }

  cancel(): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#answer.error({ code: 'ERR_CANCELED', params: [] })
  }

  #fill(): number {
    let at = 0
    while (this.#next < this.#ids.length && at + RECORD_HEADER_BYTES + BLOCK_MAX_BYTES <= this.#chunk.length) {
      const id = this.#ids[this.#next]
      if (id === undefined) break
      const block = this.#read(id)
      this.#next += 1
      if (block === null) {
        this.#chunk[at++] = MISSING
        continue
      }
      if (block.length > BLOCK_MAX_BYTES) throw new CodedError('ERR_STORE_BLOCK', [id, 'longer than a page'])
      this.#chunk[at++] = PRESENT
      at = this.#chunk.writeUInt32BE(block.length, at)
      this.#chunk.set(block, at)
      at += block.length
    }
    return at
  }
}
