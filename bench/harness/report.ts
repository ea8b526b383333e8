/** Results for people (a table) and for programs (JSON). Pure. */
import { isMet, type Bar, type FigureSpec, type Measurement, type Unit } from './benchmark.ts'
import type { Environment } from './environment.ts'

export interface Row {
  readonly benchmark: string
  readonly figure: FigureSpec
  /** Null when the benchmark did not give this figure; then `note` says why. */
  readonly measurement: Measurement | null
  readonly note: string
}

export interface Results {
  readonly environment: Environment
  readonly quick: boolean
  readonly rounds: number
  readonly rows: readonly Row[]
  /** Benchmarks that broke, with the reason: a wrong answer, or a server that failed. */
  readonly failures: readonly { readonly benchmark: string; readonly reason: string }[]
}

export type Verdict = 'yes' | 'NO' | '-'

/** `-`: not measured, or a quick run, whose values mean nothing. */
export function verdict(row: Row, quick: boolean): Verdict {
  const value = row.measurement?.value ?? null
  if (value === null || quick) return '-'
  return isMet(row.figure.bar, value) ? 'yes' : 'NO'
}

export function toText(results: Results): string {
  const { environment: e, rows, failures } = results
  const cells = rows.map((row) => [row.figure.what, barText(row.figure.bar), measuredText(row), verdict(row, results.quick)])
  const verdicts = rows.map((row) => verdict(row, results.quick))
  const count = (wanted: Verdict): number => verdicts.filter((given) => given === wanted).length
  const lines = [
    `Outpost benchmarks, ${e.date}, commit ${e.commit}`,
    `machine   ${e.machine}; ${e.kernel}; load before ${e.loadBefore}`,
    `software  Node ${e.node}, engine ${e.engine}`,
    `peers     ${e.peers}`,
    `load      ${e.generator}; peers in turn, order reversed each round, median of ${results.rounds} round${results.rounds === 1 ? '' : 's'}; every answer checked`,
    `not measured here: ${e.notMeasured.join('; ')}`,
    ...(results.quick ? ['QUICK RUN: shows that the benchmarks work; the values mean nothing'] : []),
    '',
    ...table(['what', 'bar', 'measured', 'met'], cells),
    '',
    ...rows.flatMap(detailLines),
    ...failures.map(({ benchmark, reason }) => `FAILED ${benchmark}: ${reason}`),
    `${count('yes')} met, ${count('NO')} missed, ${count('-')} without verdict, ${failures.length} failed`,
  ]
  return lines.join('\n')
}

export function toJson(results: Results): string {
  const rows = results.rows.map((row) => ({
    key: row.figure.key,
    benchmark: row.benchmark,
    what: row.figure.what,
    bar: row.figure.bar,
    value: row.measurement?.value ?? null,
    met: verdict(row, results.quick) === '-' ? null : verdict(row, results.quick) === 'yes',
    rounds: row.measurement?.rounds ?? [],
    detail: row.measurement?.detail ?? {},
    note: row.measurement?.note ?? row.note,
  }))
  const { environment, quick, rounds, failures } = results
  return JSON.stringify({ environment, quick, rounds, figures: rows, failures }, null, 2)
}

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [line(header), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)]
}

function measuredText(row: Row): string {
  const value = row.measurement?.value ?? null
  return value === null ? 'not measured' : valueText(value, row.figure.bar.unit)
}

export function barText(bar: Bar): string {
  // Bars below one are shares, and read better as 1/n where n is whole.
  const whole = Math.round(1 / bar.value)
  const isShare = bar.unit === 'x' && bar.value < 1 && Math.abs(1 / bar.value - whole) < 1e-9
  return `${bar.relation === 'at least' ? '>=' : '<='} ${isShare ? `1/${whole}` : valueText(bar.value, bar.unit)}`
}

export function valueText(value: number, unit: Unit): string {
  const digits = unit === 'errors' ? String(value) : value !== 0 && Math.abs(value) < 0.1 ? value.toPrecision(2) : trimmed(value)
  return unit === 'x' ? `${digits}x` : `${digits} ${unit}`
}

function trimmed(value: number): string {
  const text = Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2)
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

function detailLines(row: Row): string[] {
  const { measurement } = row
  if (measurement === null) return [`${row.figure.key}: not measured: ${row.note}`]
  const detail = Object.entries(measurement.detail).map(([name, value]) => `${name} ${trimmed(value)}`)
  const rounds = measurement.rounds.length > 1 ? [`rounds ${measurement.rounds.map((value) => trimmed(value)).join(' ')}`] : []
  return [`${row.figure.key}: ${[...detail, ...rounds, ...(measurement.note === '' ? [] : [measurement.note])].join(', ')}`]
}
