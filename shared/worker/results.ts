/** What a run came to: read from a worker's last record of it, or made here when there is none. */
import type { CodedErrorData } from '../errors.ts'
import { OUTCOMES, START_KINDS } from '../outcome.ts'
import type { ActiveRun } from './active-run.ts'
import { END_NUMBERS_BYTES, KEPT } from './channel.ts'
import type { InvocationResult, KeptMachine } from './types.ts'

export function failedResult(outcome: InvocationResult['outcome'], error: CodedErrorData): InvocationResult {
  return { outcome, error, exception: null, startKind: 'warm', cpuUs: 0, wallUs: 0, dirtyPages: 0, memoryBytes: 0, logs: [] }
}

export function readResult(outcome: number, startKind: number, bytes: Uint8Array): InvocationResult {
  const numbers = new Float64Array(bytes.buffer, bytes.byteOffset, 4)
  const detail = bytes.length > END_NUMBERS_BYTES
    ? (JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + END_NUMBERS_BYTES, bytes.length - END_NUMBERS_BYTES).toString()) as Pick<InvocationResult, 'error' | 'exception' | 'logs'>)
    : { error: null, exception: null, logs: [] }
  return {
    outcome: OUTCOMES[outcome] ?? 'platformFault', startKind: START_KINDS[startKind] ?? 'warm', ...detail,
    cpuUs: numbers[0] ?? 0, wallUs: numbers[1] ?? 0, dirtyPages: numbers[2] ?? 0, memoryBytes: numbers[3] ?? 0,
  }
}

/** A part of a session's machine; they come in order, and END after the last. */
export function takeState(run: ActiveRun, totalBytes: number, part: Uint8Array): void {
  run.state ??= new Uint8Array(totalBytes)
  run.state.set(part, run.stateBytes)
  run.stateBytes += part.length
}

export function keptMachine(kept: number, state: Uint8Array | null): KeptMachine {
  const kind = KEPT[kept] ?? 'lost'
  return kind === 'kept' ? (state === null ? { kind: 'lost' } : { kind, state }) : { kind }
}
