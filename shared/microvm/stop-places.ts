/**
 * What of the engine's memory the host uses to stop a guest and to see where it was. Addresses are the same in every
 * machine of an engine: they are found once, in a machine of their own, by running code whose effect is known.
 */
import { CodedError } from '../errors.ts'
import { Binding, SCRATCH_BYTES } from './binding.ts'
import { type FrameLayout, findLayout, PROBE_FILE, PROBES, runtimeWords } from './guest-frames.ts'
import type { EngineExports } from './instance.ts'
import type { Slot } from './slot.ts'

export interface StopPlaces {
  /** The 4 bytes that count down to the next `interrupt`. */
  readonly interruptCounter: number
  /** The 8 bytes of `Error.prepareStackTrace`, which the engine calls with each new stack. */
  readonly prepareStack: number
  /** Null: the engine's frames are not as known here, and nobody can say where a guest was. */
  readonly frames: FrameLayout | null
}

const EVAL_GLOBAL = 0
const CONTEXT_BYTES = 2048
/** JS_INTERRUPT_COUNTER_INIT of quickjs.c. */
const INTERRUPT_EVERY = 10_000
const LOOPS_COUNTED = 1_000

export function findStops(newSlot: (interrupt: (slot: Slot) => number) => Slot): StopPlaces {
  let layout: FrameLayout | null = null
  let idle: Uint32Array | null = null
  const slot = newSlot((interrupted) => {
    const found = idle === null ? null : findLayout(interrupted, call('qjs_get_runtime_ptr'), idle)
    if (found !== null) layout = { ...found, classes: [...new Set([...(layout?.classes ?? []), ...found.classes])] }
    return 0
  })
  const engine: EngineExports = slot.instance.engine
  const call = (name: string, ...values: number[]): number => engine[name]?.(...values) ?? 0
  const binding = new Binding(slot, call('wasm_malloc', SCRATCH_BYTES), call('qjs_get_undefined'))
  const run = (script: string): number => {
    const text = Buffer.from(`${script}\0${PROBE_FILE}\0`)
    const at = call('wasm_malloc', text.length) >>> 0
    binding.writeBytes(at, text)
    return call('qjs_eval', at, script.length, at + script.length + 1, EVAL_GLOBAL)
  }
  const context = call('qjs_get_context_ptr')
  const look = (): Int32Array => new Int32Array(slot.bytes.slice(context, context + CONTEXT_BYTES).buffer)

  const interruptCounter = context + 4 * findCounter(look, () => run(`for (let i = 0; i < ${LOOPS_COUNTED}; i++);`))
  const before = look()
  const prepare = run('Error.prepareStackTrace = () => ""')
  const object = call('qjs_get_value_ptr', prepare)
  const prepareIndex = look().findIndex((value, index) => value === object && value !== before[index])
  if (prepareIndex < 0 || object === 0) throw new CodedError('ERR_INTERNAL', ['Error.prepareStackTrace was not found in the engine'])
  run('Error.prepareStackTrace = undefined')
  idle = runtimeWords(slot, call('qjs_get_runtime_ptr'))
  for (const probe of PROBES) run(probe)
  return { interruptCounter, prepareStack: context + 4 * prepareIndex, frames: layout }
}

/** The word of the context that falls with each pass of a loop (quickjs.c, `js_poll_interrupts`). */
function findCounter(look: () => Int32Array, loop: () => void): number {
  loop()
  // Again, for the count may have started anew in between.
  for (let attempt = 0; attempt < 3; attempt++) {
    const before = look()
    loop()
    const index = look().findIndex((value, at) => {
      const fallen = (before[at] ?? 0) - value
      return value >= 0 && value <= INTERRUPT_EVERY && fallen >= LOOPS_COUNTED && fallen < 4 * LOOPS_COUNTED
    })
    if (index >= 0) return index
  }
  throw new CodedError('ERR_INTERNAL', ['the interrupt counter was not found in the engine'])
}
