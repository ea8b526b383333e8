/**
 * The last thing that happens in a session's machine after a request: what the host held of it is freed, cycles are
 * collected if it has grown, and it becomes bytes.
 *
 * A guest collects by itself only beyond GARBAGE_MAX_BYTES (build-machine.ts): it would dirty most of its heap. Kept over many
 * requests garbage adds up, so here it is collected, first at FIRST_COLLECT_BYTES and then each time that what is left has doubled.
 */
import type { KeptMachine } from '../worker/types.ts'
import type { Binding } from './binding.ts'
import { collectAndZero } from './capture.ts'
import { setCollectAbove } from './machine-state.ts'
import { engineCaller } from './runtime.ts'
import type { Slot } from './slot.ts'

export const FIRST_COLLECT_BYTES = 64 * 1024

/** Runs inside the guest: under fuel, and it may trap. */
export function captureSession(slot: Slot, binding: Binding, maxBytes: number, collectAboveBytes: number): KeptMachine {
  binding.freeHoldings()
  const state = slot.capture(maxBytes, collectAboveBytes)
  if (state !== null && state.length <= collectAboveBytes) return { kind: 'kept', state }
  collectAndZero(slot, engineCaller(slot.instance.engine))
  const collected = slot.capture(maxBytes, 0)
  if (collected === null) return { kind: 'tooLarge' }
  setCollectAbove(collected, Math.max(collectAboveBytes, 2 * collected.length))
  return { kind: 'kept', state: collected }
}
