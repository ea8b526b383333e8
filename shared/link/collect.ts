/** The answer to a question or a control call, collected into one piece. */
import { CodedError } from '../errors.ts'
import type { CodedErrorData } from '../errors.ts'
import { LINK_ANSWER_MAX_BYTES } from '../limits.ts'
import type { StartKind } from '../outcome.ts'
import type { LinkStream, LinkStreamSink } from './types.ts'

export interface CollectedAnswer {
  readonly status: number
  readonly headers: string
  readonly body: Uint8Array
}

export class AnswerCollector implements LinkStreamSink {
  readonly #answerMaxBytes: number
  readonly #resolve: (answer: CollectedAnswer) => void
  readonly #reject: (error: CodedError) => void
  readonly #chunks: Uint8Array[] = []
  #bytes = 0
  #status = 0
  #headers = ''
  #complete = false
  #stream: LinkStream | null = null

  private constructor(answerMaxBytes: number, resolve: (answer: CollectedAnswer) => void, reject: (error: CodedError) => void) {
    this.#answerMaxBytes = answerMaxBytes
    this.#resolve = resolve
    this.#reject = reject
  }

  /** `open` opens the stream with the sink it is given. Rejects with a CodedError. */
  static collect(open: (sink: LinkStreamSink) => LinkStream | CodedErrorData, answerMaxBytes = LINK_ANSWER_MAX_BYTES): Promise<CollectedAnswer> {
    return new Promise((resolve, reject) => {
      const collector = new AnswerCollector(answerMaxBytes, resolve, reject)
      const stream = open(collector)
      if ('code' in stream) reject(CodedError.fromData(stream))
      else collector.#stream = stream
    })
  }

  started(): void {
    // Says nothing about an answer.
  }

  head(status: number, headers: string, _startKind: StartKind | null, _version: string | null, body: Uint8Array | null, _last: boolean): void {
    this.#status = status
    this.#headers = headers
    if (body !== null) this.data(body)
  }

  data(chunk: Uint8Array): boolean {
    this.#bytes += chunk.length
    if (this.#bytes <= this.#answerMaxBytes) this.#chunks.push(Uint8Array.prototype.slice.call(chunk))
    else this.#stream?.cancel()
    return true
  }

  bodyEnd(): void {
    this.#complete = true
  }

  drain(): void {
    // The question was given as a whole.
  }

  end(): void {
    if (this.#bytes > this.#answerMaxBytes) return this.#rejectTooLarge()
    if (!this.#complete) return this.error({ code: 'ERR_LINK_PROTOCOL', params: ['the answer ends too early'] })
    this.#resolve({ status: this.#status, headers: this.#headers, body: this.#chunks.length === 1 ? (this.#chunks[0] ?? new Uint8Array(0)) : Buffer.concat(this.#chunks) })
  }

  error(error: CodedErrorData): void {
    if (this.#bytes > this.#answerMaxBytes) return this.#rejectTooLarge()
    this.#reject(CodedError.fromData(error))
  }

  #rejectTooLarge(): void {
    this.#reject(new CodedError('ERR_LIMIT_RESPONSE', [this.#answerMaxBytes, this.#bytes]))
  }
}
