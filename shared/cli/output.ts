/** How the command line prints: tables, sizes, and errors as one line that says what to do. */
import { CodedError } from '../errors.ts'

export interface ErrorLine {
  readonly code: string
  readonly message: string
  readonly requestId: string | null
}

/** A failure that another process reported. Its code may be one that this version does not know. */
export class RemoteError extends Error {
  readonly code: string
  readonly status: number
  readonly requestId: string | null

  constructor(code: string, status: number, message: string, requestId: string | null) {
    super(message)
    this.name = 'RemoteError'
    this.code = code
    this.status = status
    this.requestId = requestId
  }
}

/** The command did its work and has already said what is wrong; only the exit code remains. */
export class QuietFailure extends Error {
  constructor() {
    super('failed')
    this.name = 'QuietFailure'
  }
}

export function errorLine(error: unknown): ErrorLine {
  if (error instanceof CodedError) return { code: error.code, message: oneLine(error.message), requestId: null }
  if (error instanceof RemoteError) return { code: error.code, message: oneLine(error.message), requestId: error.requestId }
  return { code: 'ERR_INTERNAL', message: oneLine(error instanceof Error ? error.message : String(error)), requestId: null }
}

export function renderError(error: unknown): string {
  const { code, message, requestId } = errorLine(error)
  return `outpost: ${code}: ${message}${requestId === null ? '' : ` (request ${requestId})`}\n`
}

/** Columns as wide as their longest cell; the last one is not padded. An empty list prints only the heads. */
export function renderTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    cells.map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ').trimEnd()
  return [line(heads), ...rows.map(line)].map((text) => `${text}\n`).join('')
}

export function renderBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  if (bytes < 1024 ** 2) return `${(bytes / 1024).toFixed(1)} KiB`
  if (bytes < 1024 ** 3) return `${(bytes / 1024 ** 2).toFixed(1)} MiB`
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, '; ').trim()
}
