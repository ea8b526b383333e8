/**
 * How a run at a limit comes to its end, and how it is found out where it was. It has one more slice of fuel, the engine is
 * made to ask for an interrupt at once, and throws what no code catches. That needs a stack, for which the engine calls
 * `Error.prepareStackTrace`: in its place there is a function of the host, which reads the guest's frames. So it does not
 * matter what the guest set there, or to `Error.stackTraceLimit`.
 *
 * A native loop asks for no interrupt and takes the slice up: then the frames are read as they are, and the guest is
 * stopped in its midst. Nothing a guest does in its last slice counts: jobs do not run, host calls do nothing.
 */
import { STOP_CALL } from '../guest/abi.ts'
import type { Binding } from './binding.ts'
import { innermostCode, innermostFrame, readFrames } from './guest-frames.ts'
import type { Run } from './run.ts'
import type { MachineRuntime } from './runtime.ts'

const STOP_CODE = STOP_CALL.charCodeAt(0)
const VALUE_WORDS = 2

/** Of a run that is to be stopped: 0 goes on for a slice of `fuel`, 1 stops the guest. */
export function lastSlice(run: Run, binding: Binding, runtime: MachineRuntime, fuel: number): 0 | 1 {
  // Nobody asks where one was that was cancelled; one that has ended is being captured for its session.
  if (run.dying !== null || run.ended || run.kill?.outcome === 'canceled') {
    if (run.dying !== null) noteWhere(run, binding, runtime)
    return 1
  }
  beginLastSlice(run, binding, runtime)
  binding.slot.grantFuel(fuel)
  return 0
}

/** The caller grants the slice. */
export function beginLastSlice(run: Run, binding: Binding, { stops, stopHook }: MachineRuntime): void {
  run.dying = { polledAt: null }
  binding.writeU32(stops.interruptCounter, 1)
  for (let index = 0; index < VALUE_WORDS; index++) binding.writeU32(stops.prepareStack + 4 * index, binding.slot.words[(stopHook >>> 2) + index] ?? 0)
}

/** The engine asks whether to go on: 1 makes it throw. */
export function interrupt(run: Run | null | undefined, binding: Binding, runtime: MachineRuntime): 0 | 1 {
  const { stops } = runtime
  if (run?.dying === null || run?.dying === undefined) return 0
  if (stops.frames === null) return 1
  run.dying.polledAt ??= innermostFrame(binding.slot, stops.frames)
  // A regular expression asks too, and no stack is made for what it throws.
  if (run.dying.polledAt?.hasBytecode === false) noteWhere(run, binding, runtime)
  return 1
}

/** A host call in the last slice. */
export function lastHostCall(run: Run, binding: Binding, runtime: MachineRuntime, call: number): void {
  if (call === STOP_CODE) noteWhere(run, binding, runtime)
}

/** At the end of the last slice, or in it: the first answer is the best. */
export function noteWhere(run: Run, { slot }: Binding, { stops: { frames } }: MachineRuntime): void {
  if (run.where !== null || frames === null) return
  const polledAt = run.dying?.polledAt ?? null
  // Above it there is only the function that stands for Error.prepareStackTrace.
  const from = polledAt?.hasBytecode === true ? innermostCode(slot, frames) : null
  // Asked at the end of a loop's pass the function goes on at the loop's beginning; asked at a call, behind the call, as it was saved before.
  const inLoop = from !== null && from.at === polledAt?.at && from.savedPc !== polledAt.savedPc
  run.where = readFrames(slot, frames, from?.at ?? null, inLoop)
}
