/**
 * The latest lines that functions logged on this host, in memory and bounded: what `outpost logs` reads. A record of
 * everything is the business of whoever collects the process's log.
 *
 * R1: lines have numbers that grow by one; a reader goes on behind the number it has seen.
 * R2: numbers are good for one life of a process. A reader that comes with another life's token starts from the oldest line.
 */
import type { Clock } from '../clock.ts'
import { MIB } from '../limits.ts'

export interface LogLine {
  readonly atMs: number
  readonly account: string
  readonly functionName: string
  readonly version: string
  readonly requestId: string
  /** 0 debug, 1 info, 2 warn, 3 error. */
  readonly level: number
  readonly text: string
}

export interface LogRingOptions {
  /** Names this host and this life of it; letters, digits and `-`. Part of tokens. */
  readonly sourceId: string
  readonly clock: Clock
  readonly linesMax?: number
  readonly bytesMax?: number
}

/** A few minutes of a busy dev server; a page of them is still one small answer. */
const LINES_MAX = 10_000
const BYTES_MAX = 8 * MIB
/** Lines of one answer. */
const PAGE_LINES_MAX = 1_000

export class LogRing {
  readonly #options: Required<LogRingOptions>
  /** `#lines[0]` has number `#firstNumber`. Entries before `#head` were dropped and are removed in bulk. */
  #lines: LogLine[] = []
  #head = 0
  #firstNumber = 1
  #bytes = 0

  constructor(options: LogRingOptions) {
    this.#options = { linesMax: LINES_MAX, bytesMax: BYTES_MAX, ...options }
  }

  get lineCount(): number {
    return this.#lines.length - this.#head
  }

  add(line: Omit<LogLine, 'atMs'>): void {
    const { clock, linesMax, bytesMax } = this.#options
    this.#lines.push({ atMs: clock.nowMs(), ...line })
    this.#bytes += line.text.length
    while (this.lineCount > linesMax || (this.#bytes > bytesMax && this.lineCount > 1)) {
      this.#bytes -= this.#lines[this.#head]?.text.length ?? 0
      this.#head += 1
    }
    if (this.#head > linesMax) {
      this.#lines = this.#lines.slice(this.#head)
      this.#firstNumber += this.#head
      this.#head = 0
    }
  }

  /** Lines of one function behind a token, oldest first. `token` may hold entries of other hosts, and be empty. */
  page(account: string, functionName: string, token: string): { readonly lines: readonly LogLine[]; readonly token: string } {
    const { sourceId } = this.#options
    const seen = Number(new RegExp(`(?:^|,)${sourceId}\\.(\\d{1,15})(?:,|$)`).exec(token)?.[1] ?? 0)
    const lines: LogLine[] = []
    let index = Math.max(this.#head, seen - this.#firstNumber + 1)
    for (; index < this.#lines.length && lines.length < PAGE_LINES_MAX; index += 1) {
      const line = this.#lines[index]
      if (line?.account === account && line.functionName === functionName) lines.push(line)
    }
    return { lines, token: `${sourceId}.${this.#firstNumber + index - 1}` }
  }
}
