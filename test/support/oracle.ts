/**
 * The reset oracle, written apart from the code that it judges: all of a slot's physical memory, its globals and its
 * flags against the image, byte for byte.
 */
import type { ImageArena } from '../../shared/microvm/arena.ts'
import { PAGE_BYTES } from '../../shared/microvm/manifest.ts'
import { CONTROL_OFFSET } from '../../shared/microvm/rewrite/layout.ts'
import type { Slot } from '../../shared/microvm/slot.ts'

/** What differs, in words; null if nothing does. */
export function difference(arena: ImageArena, slot: Slot): string | null {
  const memory = Buffer.from(slot.instance.memory.buffer)
  for (let index = 0; index * PAGE_BYTES < memory.length; index++) {
    const actual = memory.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES)
    const expected = arena.page(slot.image, index)
    if (actual.equals(expected)) continue
    const at = expected.findIndex((byte, offset) => byte !== actual[offset])
    return `page ${index} byte ${at}: ${actual[at]} instead of ${expected[at]}`
  }
  const flags = Buffer.from(slot.instance.flags.buffer, 0, CONTROL_OFFSET + 64)
  const flagged = flags.findIndex((byte) => byte !== 0)
  if (flagged !== -1) return `flag or control byte ${flagged} is set`
  const globals = slot.instance.globals.map((global) => Number(global.value))
  const wrong = globals.findIndex((value, index) => value !== slot.image.globals[index])
  return wrong === -1 ? null : `global ${wrong} is ${globals[wrong]} instead of ${slot.image.globals[wrong]}`
}
