/**
 * The table of errors in SPECIFICATION.md, made from the registry. `node test/support/errors-table.ts --write` puts it
 * there; the difference in the commit is then what a reader of the table has to accept.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { ERRORS, RETIRED_ERROR_CODES } from '../../shared/errors.ts'

export const DOCUMENT = new URL('../../SPECIFICATION.md', import.meta.url)
const START = '<!-- errors: made by test/support/errors-table.ts -->'
const END = '<!-- end of errors -->'

export interface DocumentedError {
  readonly status: number
  readonly fault: string
  readonly ran: string
  readonly message: string
}

export function renderErrors(): string {
  const rows = Object.entries(ERRORS).map(([code, { status, fault, ran, message }]) => `| \`${code}\` | ${status} | ${fault} | ${ran} | ${escapeCell(message)} |`)
  const retired = RETIRED_ERROR_CODES.length === 0 ? 'none' : RETIRED_ERROR_CODES.map((code) => `\`${code}\``).join(', ')
  return [START, '| code | status | fault | ran | message |', '|---|---|---|---|---|', ...rows, '', `Retired, never used again: ${retired}.`, END].join('\n')
}

/** What the document says, by code. */
export function documentedErrors(): ReadonlyMap<string, DocumentedError> {
  const lines = section().split('\n')
  return new Map(
    lines.flatMap((line): [string, DocumentedError][] => {
      const cells = /^\| `(ERR_[A-Z0-9_]+)` \| (\d{3}) \| (\w+) \| (\w+) \| (.*) \|$/.exec(line)
      if (cells === null) return []
      const [, code = '', status = '', fault = '', ran = '', message = ''] = cells
      return [[code, { status: Number(status), fault, ran, message: message.replaceAll('\\|', '|') }]]
    }),
  )
}

function section(): string {
  const text = readFileSync(DOCUMENT, 'utf8')
  return text.slice(text.indexOf(START), text.indexOf(END))
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|')
}

if (process.argv[2] === '--write') {
  const text = readFileSync(DOCUMENT, 'utf8')
  writeFileSync(DOCUMENT, text.slice(0, text.indexOf(START)) + renderErrors() + text.slice(text.indexOf(END) + END.length))
}
