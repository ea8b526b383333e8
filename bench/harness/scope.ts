/** Owner of everything a benchmark starts. What was deferred last is undone first; each exactly once. */
export class Scope {
  readonly #undo: (() => Promise<void> | void)[] = []
  readonly #killNow = new Set<() => void>()

  /** Runs when the scope closes. */
  defer(undo: () => Promise<void> | void): void {
    this.#undo.push(undo)
  }

  /** Runs when the process exits before the scope was closed; must not wait. Returns a function that takes it back. */
  onAbandon(kill: () => void): () => void {
    this.#killNow.add(kill)
    return () => this.#killNow.delete(kill)
  }

  /** Undoes everything, also after one undoing failed; rejects with the first failure. */
  async close(): Promise<void> {
    const failures: unknown[] = []
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  abandon(): void {
    for (const kill of this.#killNow) kill()
    this.#killNow.clear()
  }
}
