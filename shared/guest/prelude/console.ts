/** `console`: formatted here, since the host only sees strings. */
import { ArrayIsArray, ArrayPush, MapDelete, MapGet, MapSet, ObjectKeys, StringPadEnd, StringRepeat, StringReplaceAll, performanceNow, ArraySlice, ArrayIndexOf } from './primordials.ts'
import { hostLog } from './host.ts'
import { formatLog, inspect } from './inspect.ts'
import { LEVEL_DEBUG, LEVEL_ERROR, LEVEL_INFO, LEVEL_WARN } from './report.ts'
import { publish, tag, toText } from './webidl.ts'

let indent = ''
const counts = new Map<string, number>()
const timers = new Map<string, number>()

function write(level: number, text: string): void {
  hostLog(level, indent === '' ? text : indent + StringReplaceAll(text, '\n', `\n${indent}`))
}

function label(value: unknown): string {
  return value === undefined ? 'default' : toText(value)
}

function elapsed(name: string): string | null {
  const start = MapGet(timers, name)
  return start === undefined ? null : `${(performanceNow(performance) - start).toFixed(3)}ms`
}

function stackHere(): string {
  const lines = (new Error().stack ?? '').split('\n')
  return ArraySlice(lines, 2).join('\n')
}

function tableText(data: unknown, columns: unknown): string {
  if (typeof data !== 'object' || data === null) return inspect(data)
  const names: string[] = []
  const rows: { readonly index: string; readonly cells: Record<string, string>; readonly value: string | null }[] = []
  const indices = ObjectKeys(data)
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i] ?? ''
    const row = (data as Record<string, unknown>)[index]
    const cells: Record<string, string> = {}
    if (typeof row === 'object' && row !== null) {
      const keys = ObjectKeys(row)
      for (let k = 0; k < keys.length; k++) {
        const key = keys[k] ?? ''
        if (ArrayIsArray(columns) && ArrayIndexOf(columns as unknown[], key) < 0) continue
        if (ArrayIndexOf(names, key) < 0) ArrayPush(names, key)
        cells[key] = inspect((row as Record<string, unknown>)[key], 0)
      }
      ArrayPush(rows, { index, cells, value: null })
    } else ArrayPush(rows, { index, cells, value: inspect(row, 0) })
  }
  const heads = ['(index)', ...names]
  const hasValues = rows.some((row) => row.value !== null)
  if (hasValues) ArrayPush(heads, 'Values')
  const lines = rows.map((row) => [row.index, ...names.map((name) => row.cells[name] ?? ''), ...(hasValues ? [row.value ?? ''] : [])])
  const widths = heads.map((head, i) => Math.max(head.length, ...lines.map((line) => line[i]?.length ?? 0)) + 2)
  const rule = (left: string, middle: string, right: string): string => left + widths.map((width) => StringRepeat('─', width)).join(middle) + right
  const line = (cells: readonly string[]): string => `│${cells.map((cell, i) => StringPadEnd(` ${cell}`, widths[i] ?? 0)).join('│')}│`
  return [rule('┌', '┬', '┐'), line(heads), rule('├', '┼', '┤'), ...lines.map(line), rule('└', '┴', '┘')].join('\n')
}

const methods = {
  debug: (...values: unknown[]) => write(LEVEL_DEBUG, formatLog(values)),
  log: (...values: unknown[]) => write(LEVEL_INFO, formatLog(values)),
  info: (...values: unknown[]) => write(LEVEL_INFO, formatLog(values)),
  warn: (...values: unknown[]) => write(LEVEL_WARN, formatLog(values)),
  error: (...values: unknown[]) => write(LEVEL_ERROR, formatLog(values)),
  trace: (...values: unknown[]) => write(LEVEL_ERROR, `Trace${values.length > 0 ? `: ${formatLog(values)}` : ''}\n${stackHere()}`),
  dir: (value: unknown) => write(LEVEL_INFO, inspect(value)),
  dirxml: (...values: unknown[]) => write(LEVEL_INFO, formatLog(values)),
  table: (data: unknown, columns?: unknown) => write(LEVEL_INFO, tableText(data, columns)),
  assert: (condition: unknown, ...values: unknown[]) => {
    if (!condition) write(LEVEL_ERROR, values.length === 0 ? 'Assertion failed' : typeof values[0] === 'string' ? formatLog([`Assertion failed: ${values[0]}`, ...ArraySlice(values, 1)]) : formatLog(['Assertion failed:', ...values]))
  },
  count: (name?: unknown) => {
    const key = label(name)
    const count = (MapGet(counts, key) ?? 0) + 1
    MapSet(counts, key, count)
    write(LEVEL_INFO, `${key}: ${count}`)
  },
  countReset: (name?: unknown) => {
    MapDelete(counts, label(name))
  },
  time: (name?: unknown) => {
    MapSet(timers, label(name), performanceNow(performance))
  },
  timeLog: (name?: unknown, ...values: unknown[]) => {
    const text = elapsed(label(name))
    if (text !== null) write(LEVEL_INFO, formatLog([`${label(name)}: ${text}`, ...values]))
  },
  timeEnd: (name?: unknown) => {
    const text = elapsed(label(name))
    if (text === null) return
    MapDelete(timers, label(name))
    write(LEVEL_INFO, `${label(name)}: ${text}`)
  },
  group: (...values: unknown[]) => {
    if (values.length > 0) write(LEVEL_INFO, formatLog(values))
    indent += '  '
  },
  groupCollapsed: (...values: unknown[]) => methods.group(...values),
  groupEnd: () => {
    indent = indent.slice(0, -2)
  },
}

export function installConsole(): void {
  const console = { ...methods }
  tag(console, 'console')
  publish('console', console)
}
