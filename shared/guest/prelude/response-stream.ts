/**
 * Lambda's response streaming: `awslambda.streamifyResponse` and the stream that such a handler writes to, which is as
 * much of Node's Writable as `pipe`, `pipeline` and the usual calls look at.
 *
 * The head goes out with the first bytes. For a request it is what `HttpResponseStream.from` was given; for an Invoke
 * that is JSON at the beginning of the body, with eight zero bytes behind it.
 *
 * R1: bytes reach the host in the order of the writes. While the host wants a pause they wait in `#queue`.
 * R2: the stream holds the invocation until it is finished or destroyed, and lets go once.
 */
import { ArrayPush, JSONStringify, nativeQueueMicrotask, NativeUint8Array, SymbolFor, Uint8ArrayFromBase64, Uint8ArrayFromHex } from './primordials.ts'
import { OPERATIONS, RESPOND_MORE } from '../abi.ts'
import { isBufferSource, viewOf } from './bytes.ts'
import { Emitter, type Listener } from './emitter.ts'
import { hostEnd, hostRespond, hostWrite } from './host.ts'
import { failWith, hold, release, whenSettled } from './invocation.ts'
import { httpHead } from './lambda-http.ts'
import { begin } from './operations.ts'
import { nameAs, publish, toText } from './webidl.ts'

type Chunk = string | Uint8Array
type Done = (error?: Error | null) => void

/** Where the real runtime marks such handlers; middleware looks for it. */
const STREAMING = SymbolFor('aws.lambda.runtime.handler.streaming')
const HTTP_INTEGRATION = 'application/vnd.awslambda.http-integration-response'
const DELIMITER_BYTES = 8
/** As the real one says; what is written beyond waits in the guest. */
const HIGH_WATER_BYTES = 64 * 1024

export type StreamedTo = 'request' | 'invoke'

class ResponseStream extends Emitter {
  readonly #to: StreamedTo
  #contentType = 'application/octet-stream'
  #metadata: object | null = null
  #state: 'open' | 'ending' | 'finished' | 'destroyed' = 'open'
  #headSent = false
  #paused = false
  #drainWanted = false
  #queue: { readonly chunk: Chunk; readonly done: Done | null }[] = []
  #queuedBytes = 0
  #error: Error | null = null

  constructor(to: StreamedTo) {
    super()
    this.#to = to
    hold()
  }

  setContentType(type: string): void {
    this.#contentType = type
  }

  /** For HttpResponseStream.from. */
  setMetadata(metadata: object): void {
    this.#contentType = HTTP_INTEGRATION
    this.#metadata = metadata
  }

  write(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    const done = (typeof encoding === 'function' ? encoding : typeof callback === 'function' ? callback : null) as Done | null
    if (this.#state !== 'open') {
      this.#refuse(done)
      return false
    }
    this.#push(toChunk(chunk, encoding), done)
    if (this.#paused) this.#drainWanted = true
    return !this.#paused
  }

  end(chunk?: unknown, encoding?: unknown, callback?: unknown): this {
    if (typeof chunk === 'function') return this.end(undefined, undefined, chunk)
    const done = (typeof encoding === 'function' ? encoding : callback) as Done | undefined
    if (this.#state !== 'open') {
      if (chunk !== undefined && chunk !== null) this.#refuse(done ?? null)
      return this
    }
    if (typeof done === 'function') this.once('finish', done as Listener)
    const last = chunk === undefined || chunk === null ? null : toChunk(chunk, encoding)
    this.#state = 'ending'
    if (last !== null) this.#push(last, null)
    this.#finishIfFlushed()
    return this
  }

  /** Breaks the answer off, unless all of it was given. */
  destroy(error?: Error | null): this {
    if (this.#state === 'destroyed') return this
    const finished = this.#state === 'finished'
    this.#state = 'destroyed'
    this.#queue = []
    this.#queuedBytes = 0
    this.#error = error ?? null
    if (!finished) {
      failWith(error ?? new Error('The response stream was destroyed before its end'))
      release()
    }
    nativeQueueMicrotask(() => {
      if (this.#error !== null && this.listenerCount('error') > 0) this.emit('error', this.#error)
      this.emit('close')
    })
    return this
  }

  cork(): void {}
  uncork(): void {}
  setDefaultEncoding(): this {
    return this
  }

  get writable(): boolean {
    return this.#state === 'open'
  }
  get writableEnded(): boolean {
    return this.#state !== 'open'
  }
  get writableFinished(): boolean {
    return this.#state === 'finished'
  }
  get writableNeedDrain(): boolean {
    return this.#drainWanted
  }
  get writableLength(): number {
    return this.#queuedBytes
  }
  get writableHighWaterMark(): number {
    return HIGH_WATER_BYTES
  }
  get writableObjectMode(): boolean {
    return false
  }
  get destroyed(): boolean {
    return this.#state === 'destroyed'
  }
  get closed(): boolean {
    return this.#state === 'destroyed' || this.#state === 'finished'
  }
  get errored(): Error | null {
    return this.#error
  }

  #refuse(done: Done | null): void {
    const error = Object.assign(new Error(this.#state === 'destroyed' ? 'Cannot call write after a stream was destroyed' : 'write after end'), { code: this.#state === 'destroyed' ? 'ERR_STREAM_DESTROYED' : 'ERR_STREAM_WRITE_AFTER_END' })
    nativeQueueMicrotask(() => {
      done?.(error)
      if (this.#state !== 'destroyed') this.emit('error', error)
    })
  }

  #push(chunk: Chunk, done: Done | null): void {
    if (this.#paused) {
      ArrayPush(this.#queue, { chunk: typeof chunk === 'string' ? chunk : new NativeUint8Array(chunk), done })
      this.#queuedBytes += chunk.length
      return
    }
    this.#send(chunk)
    if (done !== null) nativeQueueMicrotask(() => done())
  }

  #send(chunk: Chunk): void {
    if (!this.#headSent) {
      this.#head(chunk)
      return
    }
    if (chunk.length > 0 && !hostWrite(chunk)) this.#pause()
  }

  /** The first bytes, with the head. */
  #head(chunk: Chunk): void {
    const metadata = this.#metadata
    if (this.#to === 'request') {
      const { status, headers } = httpHead(metadata ?? {}, metadata === null ? this.#contentType : 'application/octet-stream')
      this.#headSent = true
      hostRespond(status | RESPOND_MORE, chunk.length === 0 ? null : chunk, headers)
      return
    }
    const prelude = metadata === null ? null : (JSONStringify(metadata) ?? '{}')
    this.#headSent = true
    hostRespond(200 | RESPOND_MORE, prelude ?? (chunk.length === 0 ? null : chunk), `content-type\n${headerValue(this.#contentType)}`)
    if (prelude === null) return
    const room = hostWrite(new NativeUint8Array(DELIMITER_BYTES))
    if ((chunk.length > 0 && !hostWrite(chunk)) || !room) this.#pause()
  }

  #pause(): void {
    this.#paused = true
    begin(OPERATIONS.DRAIN, 0, undefined, (_value, ok) => {
      this.#paused = false
      if (ok) this.#flush()
    })
  }

  #flush(): void {
    const queue = this.#queue
    this.#queue = []
    this.#queuedBytes = 0
    for (let i = 0; i < queue.length; i++) {
      const item = queue[i]
      if (item !== undefined) this.#push(item.chunk, item.done)
    }
    if (this.#paused) return
    this.#finishIfFlushed()
    if (!this.#drainWanted || this.#state !== 'open') return
    this.#drainWanted = false
    this.emit('drain')
  }

  #finishIfFlushed(): void {
    if (this.#state !== 'ending' || this.#paused) return
    if (!this.#headSent) this.#send('')
    this.#state = 'finished'
    hostEnd()
    nativeQueueMicrotask(() => {
      this.emit('finish')
      this.emit('close')
      release()
    })
  }
}

function headerValue(type: unknown): string {
  const text = toText(type)
  if (text.includes('\n') || text.includes('\r')) throw new TypeError('A content type has one line')
  return text
}

/** What is neither text nor bytes is sent as JSON, as the real runtime does. */
function toChunk(chunk: unknown, encoding: unknown): Chunk {
  if (typeof chunk === 'string') return encoding === undefined || typeof encoding !== 'string' ? chunk : decode(chunk, encoding)
  if (isBufferSource(chunk)) return viewOf(chunk)
  if (chunk === undefined || chunk === null) throw new TypeError('A chunk is text or bytes, or an object that is sent as JSON')
  return JSONStringify(chunk) ?? ''
}

function decode(text: string, encoding: string): Chunk {
  switch (encoding.toLowerCase()) {
    case 'utf8':
    case 'utf-8':
      return text
    case 'base64':
      return Uint8ArrayFromBase64(text)
    case 'hex':
      return Uint8ArrayFromHex(text)
    case 'latin1':
    case 'binary':
    case 'ascii': {
      const bytes = new NativeUint8Array(text.length)
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
      return bytes
    }
    default:
      throw Object.assign(new TypeError(`Unknown encoding: ${encoding}`), { code: 'ERR_UNKNOWN_ENCODING' })
  }
}

export type StreamingHandler = (event: unknown, stream: object, context: object) => unknown

export function isStreaming(handler: object): boolean {
  return (handler as Record<symbol, unknown>)[STREAMING] === 'response'
}

/** The handler and its stream hold the invocation; a failure of the handler breaks the stream off. */
export function runStreaming(handler: StreamingHandler, to: StreamedTo, event: unknown, context: object): void {
  const stream = new ResponseStream(to)
  const failed = (error: unknown): void => {
    failWith(error)
    if (!stream.closed) stream.destroy(error instanceof Error ? error : null)
    release()
  }
  try {
    whenSettled(handler(event, stream, context), release, failed)
  } catch (error) {
    failed(error)
  }
}


export function installResponseStream(): void {
  nameAs(ResponseStream, 'ResponseStream')
  publish('awslambda', {
    HttpResponseStream: {
      from(stream: ResponseStream, metadata: object): object {
        stream.setMetadata(metadata)
        return stream
      },
    },
    streamifyResponse(handler: object): object {
      if (typeof handler !== 'function') throw new TypeError('streamifyResponse takes a handler')
      ;(handler as unknown as Record<symbol, unknown>)[STREAMING] = 'response'
      return handler
    },
  })
}
