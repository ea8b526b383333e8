/** What a trap or an exception in a guest means for its run. */
import { MIB } from '../limits.ts'
import { type Binding, GuestOutOfMemory } from './binding.ts'
import { isOutOfMemory } from './host-calls.ts'
import type { Run } from './run.ts'
import type { Slot } from './slot.ts'

/** Returns the error when it is a fault of the platform, else null. */
export function explainTrap(run: Run, slot: Slot, error: unknown): unknown {
  if (run.kill !== null && error instanceof WebAssembly.RuntimeError) return null
  if (error instanceof GuestOutOfMemory) {
    stopForMemory(run, slot)
    return null
  }
  // V8's own stack limit: the guest recursed deeper than the engine's check saw.
  if (error instanceof RangeError && error.message.includes('call stack')) {
    run.failure ??= { name: 'RangeError', message: 'Maximum call stack size exceeded', stack: '' }
    return null
  }
  if (error instanceof WebAssembly.RuntimeError) {
    run.failure ??= { name: 'RuntimeError', message: error.message, stack: '' }
    run.stop('exception', 'ERR_FUNCTION_EXCEPTION', [error.message])
    return null
  }
  return error
}

/** Takes the engine's pending exception as the run's failure. */
export function noteException(run: Run, binding: Binding): void {
  const exception = binding.takeException()
  if (isOutOfMemory(exception)) stopForMemory(run, binding.slot)
  run.failure ??= exception
}

function stopForMemory(run: Run, slot: Slot): void {
  run.stop('exceededMemory', 'ERR_LIMIT_MEMORY', [run.spec.limits.memoryMib, Math.ceil(slot.virtualBytes / MIB)])
}
