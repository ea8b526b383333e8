/**
 * A call whose place is still being found: keeps what comes of its body, and hands it over once somebody runs it.
 *
 * The client is asked to hold its body meanwhile, so what is kept is what was on its way.
 */
import type { Answer, AnswerSink } from '../shared/http/types.ts'

type HeldState =
  | { readonly kind: 'held'; readonly chunks: Uint8Array[]; ended: boolean }
  | { readonly kind: 'placed'; readonly answer: Answer }
  | { readonly kind: 'canceled' }

export class HeldAnswer implements Answer {
  readonly #sink: AnswerSink
  readonly #onCancel: () => void
  #state: HeldState = { kind: 'held', chunks: [], ended: false }

  /** `onCancel`: the client has gone before a place was found. */
  constructor(sink: AnswerSink, onCancel: () => void) {
    this.#sink = sink
    this.#onCancel = onCancel
  }

  get isHeld(): boolean {
    return this.#state.kind === 'held'
  }

  write(chunk: Uint8Array): void {
    if (this.#state.kind === 'placed') this.#state.answer.write(chunk)
    if (this.#state.kind !== 'held') return
    this.#state.chunks.push(chunk)
    this.#sink.pauseBody?.()
  }

  writeEnd(): void {
    if (this.#state.kind === 'placed') this.#state.answer.writeEnd()
    else if (this.#state.kind === 'held') this.#state.ended = true
  }

  resume(): void {
    if (this.#state.kind === 'placed') this.#state.answer.resume()
  }

  cancel(): void {
    if (this.#state.kind === 'placed') this.#state.answer.cancel()
    if (this.#state.kind !== 'held') return
    this.#state = { kind: 'canceled' }
    this.#onCancel()
  }

  /** Its place is found. Does nothing if the client has gone. */
  place(run: () => Answer): void {
    const state = this.#state
    if (state.kind !== 'held') return
    const answer = run()
    this.#state = { kind: 'placed', answer }
    for (const chunk of state.chunks) answer.write(chunk)
    if (state.ended) answer.writeEnd()
    else if (state.chunks.length > 0) this.#sink.resumeBody?.()
  }
}
