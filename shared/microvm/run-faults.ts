/** What a trap or an exception in a guest means for its run. */
import { CALL_EVENT } from '../guest/abi.ts'
import { MIB, WAIT_UNTIL_MAX_MS } from '../limits.ts'
import { type Binding, GuestOutOfMemory } from './binding.ts'
import { isOutOfMemory, writeLog } from './host-calls.ts'
import type { Run, RunOutput } from './run.ts'
import type { Slot } from './slot.ts'
import type { TimerQueue } from './timer-queue.ts'

const BACKGROUND_STOPPED = Buffer.from(`waitUntil() work did not end within ${WAIT_UNTIL_MAX_MS / 1000} s after the answer and was stopped`)

/** Stops a run that is in the guest and has used up its CPU or wall time. Whether it has. */
export function stopAtLimit(run: Run, nowMs: number, cpuMs: number): boolean {
  const { limits, deadlineAtMs } = run.spec
  if (nowMs > deadlineAtMs) stopForTime(run, nowMs)
  else if (cpuMs > limits.cpuMs) run.stop('exceededCpu', 'ERR_LIMIT_CPU', [limits.cpuMs, Math.round(cpuMs)])
  else return false
  return true
}

/** A run that waits, at its deadline or that of `limitBackground`. An answered request is not a failed one, whatever its work after the answer comes to. */
export function stopAtDeadline(run: Run, nowMs: number, output: RunOutput): void {
  if (nowMs < run.spec.deadlineAtMs) writeLog(run, output, 2, BACKGROUND_STOPPED)
  else stopForTime(run, nowMs)
}

function stopForTime(run: Run, nowMs: number): void {
  run.stop('exceededWall', 'ERR_LIMIT_WALL', [run.spec.limits.wallMs, Math.round(nowMs - run.startedAtMs)])
}

/** A request that is answered and goes on is looked at when its work has had its time, as at a deadline. An event has all of its function's. */
export function limitBackground(run: Run, nowMs: number, timers: TimerQueue): void {
  if (!run.bodySent || run.backgroundLimited || (run.spec.call & CALL_EVENT) !== 0) return
  run.backgroundLimited = true
  timers.add(nowMs + WAIT_UNTIL_MAX_MS, run.spec.id, 0)
}

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
  if (run.dying !== null) return
  if (isOutOfMemory(exception)) {
    stopForMemory(run, binding.slot)
    run.where ??= exception.stack
  }
  run.failure ??= exception
}

function stopForMemory(run: Run, slot: Slot): void {
  run.stop('exceededMemory', 'ERR_LIMIT_MEMORY', [run.spec.limits.memoryMib, Math.ceil(slot.virtualBytes / MIB)])
}
