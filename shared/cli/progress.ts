/** How far a long command is: a bar that is drawn again in place on a terminal, nothing elsewhere. */
import type { CliContext } from './context.ts'

const WIDTH = 30
/** Drawing more often than this is work that nobody sees. */
const REDRAW_MS = 100

export class Progress {
  readonly #context: CliContext
  readonly #nowMs: () => number
  #drawnAtMs = Number.NEGATIVE_INFINITY
  #drawn = false

  constructor(context: CliContext, nowMs: () => number) {
    this.#context = context
    this.#nowMs = nowMs
  }

  /** `total` null: not known, then only the count is shown. */
  show(label: string, done: number, total: number | null): void {
    if (!this.#context.stderrIsTerminal) return
    const isLast = total !== null && done >= total
    if (!isLast && this.#nowMs() - this.#drawnAtMs < REDRAW_MS) return
    this.#drawnAtMs = this.#nowMs()
    this.#drawn = true
    this.#context.err(`\r\x1b[K${renderBar(label, done, total)}`)
  }

  /** Leaves the line empty for what is printed next. Idempotent. */
  end(): void {
    if (this.#drawn) this.#context.err('\r\x1b[K')
    this.#drawn = false
  }
}

export function renderBar(label: string, done: number, total: number | null): string {
  if (total === null) return `${label} ${done}`
  const share = total === 0 ? 1 : Math.min(1, done / total)
  const filled = Math.round(share * WIDTH)
  return `${label} [${'#'.repeat(filled)}${' '.repeat(WIDTH - filled)}] ${Math.floor(share * 100)} % (${done} of ${total})`
}
