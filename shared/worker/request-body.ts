/** The streamed request body of a run on its way to the guest: how much of it may wait, and when its sender pauses. */
import { CodedError } from '../errors.ts'
import { REQUEST_BODY_MAX_BYTES, REQUEST_WINDOW_BYTES, STREAMED_BODY_MAX_BYTES } from '../limits.ts'
import type { ActiveRun } from './active-run.ts'
import type { ToWorker } from './messages.ts'

/** Counts what comes, and asks the sender to pause. Throws ERR_BODY_TOO_LARGE. */
export function countWritten(run: ActiveRun, bytes: number): void {
  run.bodyBytes += bytes
  run.bodyWaitingBytes += bytes
  const maxBytes = run.input.build.handlerKind === 'fetch' ? STREAMED_BODY_MAX_BYTES : REQUEST_BODY_MAX_BYTES
  if (run.bodyBytes > maxBytes) throw new CodedError('ERR_BODY_TOO_LARGE', [maxBytes])
  // Who does not pause.
  if (run.bodyWaitingBytes > REQUEST_BODY_MAX_BYTES) throw new CodedError('ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
  if (run.bodyWaitingBytes <= REQUEST_WINDOW_BYTES) return
  run.bodyPaused = true
  // With each piece: whoever held the body before the run was found may have told its sender to go on since.
  run.sink.pauseBody?.()
}

/** The guest has read some of it. */
export function countTaken(run: ActiveRun, bytes: number): void {
  run.bodyWaitingBytes -= bytes
  if (!run.bodyPaused || run.bodyWaitingBytes > REQUEST_WINDOW_BYTES / 2) return
  run.bodyPaused = false
  run.sink.resumeBody?.()
}

/** What came before the worker awaited it, once. */
export function heldBody(run: ActiveRun): ToWorker[] {
  const messages: ToWorker[] = (run.chunks ?? []).map((chunk) => ({ kind: 'body', runId: run.id, chunk: wholeBuffer(chunk) }))
  run.chunks = null
  if (run.chunksEnded) messages.push({ kind: 'body', runId: run.id, chunk: null })
  return messages
}

/** For a message: a view of a larger buffer would take all of that along. */
export function wholeBuffer(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}
