/**
 * Streamed request bodies and answers to service calls on their way into guests: what has come is kept with the run until
 * the guest reads, and each piece that it reads is a turn of its own.
 *
 * F1: one feeding of a run at a time; a turn that it causes ends in `feed` again, which then does nothing: a loop, no recursion.
 */
import { KIB } from '../limits.ts'
import type { Binding, GuestValue } from './binding.ts'
import type { Run, RunOutput, ServiceInflow } from './run.ts'

/** What a guest gets in one read, so that many small pieces are few turns. */
const READ_BYTES = 64 * KIB

/** The executor's `settle`. */
export type Settle = (runId: number, id: number, ok: boolean, make: (binding: Binding) => GuestValue) => void

export class InflowFeeder {
  readonly #settle: Settle
  readonly #output: Pick<RunOutput, 'bodyTaken' | 'serviceTaken'>

  constructor(settle: Settle, output: Pick<RunOutput, 'bodyTaken' | 'serviceTaken'>) {
    this.#settle = settle
    this.#output = output
  }

  /** A piece of an answer, or what ended it. */
  take(run: Run, serviceId: number, data: Uint8Array | NonNullable<ServiceInflow['end']>): void {
    const service = run.serviceOf(serviceId)
    if (service === null || service.end !== null) return
    if (data instanceof Uint8Array) service.chunks.push(data)
    else service.end = data
    // Without an answer the call fails as a whole; else reads get first what came before.
    if (service.end !== null && service.end !== 'complete' && run.operations.has(serviceId)) this.#fail(run, serviceId, service.end.failure)
    else this.feed(run)
  }

  /** Gives the guest the next chunk of a streamed body if it waits for one. */
  feedBody(run: Run): void {
    for (const [id, operation] of run.operations) {
      if (operation.kind !== 'body') continue
      if (run.bodyChunks.length > 0) {
        const chunk = takeChunks(run.bodyChunks, READ_BYTES)
        this.#output.bodyTaken(run, chunk.length)
        this.#settle(run.spec.id, id, true, (binding) => binding.newArrayBuffer(chunk))
      } else if (run.bodyEnded) this.#settle(run.spec.id, id, true, (binding) => binding.newNull())
      return
    }
  }

  /** Gives the guest what it waits for of services' answers, and what has come. */
  feed(run: Run): void {
    if (run.feeding) return // F1
    run.feeding = true
    for (let next = nextRead(run); next !== null && !run.ended; next = nextRead(run)) this.#give(run, next)
    run.feeding = false
  }

  #give(run: Run, { id, serviceId, service: { chunks, end } }: PendingRead): void {
    if (chunks.length > 0) {
      const chunk = takeChunks(chunks, READ_BYTES)
      this.#output.serviceTaken(run, serviceId, chunk.length)
      this.#settle(run.spec.id, id, true, (binding) => binding.newArrayBuffer(chunk))
    } else if (end === 'complete') this.#settle(run.spec.id, id, true, (binding) => binding.newNull())
    else if (end !== null) this.#fail(run, serviceId, end.failure)
  }

  /** Whoever still writes is told that it was taken. */
  #fail(run: Run, serviceId: number, reason: string): void {
    for (const [id, operation] of [...run.operations]) {
      if (id === serviceId || (operation.kind === 'read' && operation.fetchId === serviceId)) this.#settle(run.spec.id, id, false, (binding) => binding.newString(reason))
      else if (operation.kind === 'write' && operation.fetchId === serviceId) this.#settle(run.spec.id, id, true, (binding) => binding.newNull())
    }
  }
}

interface PendingRead {
  readonly id: number
  readonly serviceId: number
  readonly service: ServiceInflow
}

/** A read that can be answered. */
function nextRead(run: Run): PendingRead | null {
  for (const [id, operation] of run.operations) {
    if (operation.kind !== 'read') continue
    const service = run.serviceOf(operation.fetchId)
    if (service !== null && (service.chunks.length > 0 || service.end !== null)) return { id, serviceId: operation.fetchId, service }
  }
  return null
}

/** The first chunk, and those after it that together stay within `maxBytes`. */
function takeChunks(chunks: Uint8Array[], maxBytes: number): Uint8Array {
  let count = 1
  let bytes = chunks[0]?.length ?? 0
  for (; count < chunks.length && bytes + (chunks[count]?.length ?? 0) <= maxBytes; count++) bytes += chunks[count]?.length ?? 0
  const taken = chunks.splice(0, count)
  return count === 1 && taken[0] !== undefined ? taken[0] : Buffer.concat(taken)
}
