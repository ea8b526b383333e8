/** Of Node's EventEmitter what those need who write to a stream or pipe into one. */
import { ArrayPush, ArraySlice, ArraySplice, MapClear, MapDelete, MapGet, MapSet, ReflectApply } from './primordials.ts'

export type Listener = (...values: unknown[]) => void

interface Entry {
  readonly listener: Listener
  readonly once: boolean
}

export class Emitter {
  readonly #entries = new Map<unknown, Entry[]>()

  on(name: unknown, listener: Listener): this {
    return this.#add(name, { listener, once: false })
  }

  addListener(name: unknown, listener: Listener): this {
    return this.on(name, listener)
  }

  once(name: unknown, listener: Listener): this {
    return this.#add(name, { listener, once: true })
  }

  prependListener(name: unknown, listener: Listener): this {
    MapSet(this.#entries, name, [{ listener, once: false }, ...(MapGet(this.#entries, name) ?? [])])
    return this
  }

  /** Takes the one away that was added last. */
  off(name: unknown, listener: Listener): this {
    const entries = MapGet(this.#entries, name) ?? []
    for (let i = entries.length - 1; i >= 0; i--) {
      if (entries[i]?.listener !== listener) continue
      ArraySplice(entries, i, 1)
      break
    }
    return this
  }

  removeListener(name: unknown, listener: Listener): this {
    return this.off(name, listener)
  }

  removeAllListeners(name?: unknown): this {
    if (name === undefined) MapClear(this.#entries)
    else MapDelete(this.#entries, name)
    return this
  }

  listenerCount(name: unknown): number {
    return MapGet(this.#entries, name)?.length ?? 0
  }

  /** Throws the error of an `error` that nobody listens to. */
  emit(name: unknown, ...values: unknown[]): boolean {
    const entries = ArraySlice(MapGet(this.#entries, name) ?? [])
    if (entries.length === 0 && name === 'error') throw values[0]
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      if (entry === undefined) continue
      if (entry.once) this.off(name, entry.listener)
      ReflectApply(entry.listener, this, values)
    }
    return entries.length > 0
  }

  #add(name: unknown, entry: Entry): this {
    const entries = MapGet(this.#entries, name)
    if (entries === undefined) MapSet(this.#entries, name, [entry])
    else ArrayPush(entries, entry)
    return this
  }
}
