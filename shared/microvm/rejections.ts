/** Promises of the guest in the slot that were rejected in this turn and have no handler yet. */
import type { Binding, GuestValue } from './binding.ts'

export class Rejections {
  /** Reasons, by where the promise is. */
  readonly #reasons = new Map<number, GuestValue>()

  get size(): number {
    return this.#reasons.size
  }

  /** The engine's notice; both boxes are the host's. */
  note(binding: Binding, promise: GuestValue, reason: GuestValue, isHandled: boolean): void {
    binding.hold(promise)
    binding.hold(reason)
    if (isHandled) this.forgive(binding, promise)
    else this.#reasons.set(identityOf(binding, promise), reason)
  }

  forgive(binding: Binding, promise: GuestValue): void {
    this.#reasons.delete(identityOf(binding, promise))
  }

  take(): GuestValue[] {
    const reasons = [...this.#reasons.values()]
    this.#reasons.clear()
    return reasons
  }

  clear(): void {
    this.#reasons.clear()
  }
}

function identityOf({ slot }: Binding, value: GuestValue): number {
  return slot.instance.engine['qjs_get_value_ptr']?.(value) ?? 0
}
