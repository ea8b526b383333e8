/** Owner of everything a benchmark starts. What was deferred last is undone first; each exactly once. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export class Scope {
  #isClosed = false
  readonly #undo: (() => Promise<void> | void)[] = []
  readonly #killNow = new Set<() => void>()

  /** True from the start of `close`: nothing may be started any more. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Runs when the scope closes. */
  defer(undo: () => Promise<void> | void): void {
    this.#undo.push(undo)
  }

  /** A directory that is gone with the scope. */
  temporaryDirectory(prefix: string): string {
    const directory = mkdtempSync(join(tmpdir(), prefix))
    const remove = (): void => rmSync(directory, { recursive: true, force: true })
    const forget = this.onAbandon(remove)
    this.defer(() => {
      remove()
      forget()
    })
    return directory
  }

  /** Runs when the process exits before the scope was closed; must not wait. Returns a function that takes it back. */
  onAbandon(kill: () => void): () => void {
    this.#killNow.add(kill)
    return () => this.#killNow.delete(kill)
  }

  /** Undoes everything, also after one undoing failed; rejects with the first failure. */
  async close(): Promise<void> {
    this.#isClosed = true
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
    this.#isClosed = true
    for (const kill of this.#killNow) kill()
    this.#killNow.clear()
  }
}
