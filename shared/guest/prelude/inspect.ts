/**
 * Values as text for the log, in the form of Node's `util.inspect`: depth 2, bounded in entries and length.
 * Getters are not called and proxies are not opened further than their own answers.
 */
import { ArrayIndexOf, ArrayIsArray, ArrayJoin, ArrayPush, ArraySlice, JSONStringify, NumberToString, ObjectGetOwnPropertyDescriptor, ObjectGetPrototypeOf, ObjectToString, ReflectOwnKeys, RegExpExec, StringIncludes, StringSlice, StringReplaceAll, TypedArrayTag } from './primordials.ts'
import { isLazyGetter } from './lazy.ts'
import { describeThrown, stackText } from './report.ts'
import { toText } from './webidl.ts'

const DEPTH_MAX = 2
const ENTRIES_MAX = 100
const STRING_MAX = 10_000
/** What one value may fill; the host bounds the whole log. */
export const TEXT_MAX = 16 * 1024
const LINE_WIDTH = 72
/** Of errors within errors, each way. */
const CAUSES_MAX = 4

const IDENTIFIER = /^[A-Za-z_$][A-Za-z0-9_$]*$/

class Inspection {
  readonly depthMax: number
  readonly stack: object[] = []
  budget = TEXT_MAX

  constructor(depthMax: number) {
    this.depthMax = depthMax
  }
}

export function inspect(value: unknown, depthMax = DEPTH_MAX): string {
  try {
    const text = format(value, 0, new Inspection(depthMax), true)
    return text.length > TEXT_MAX ? `${StringSlice(text, 0, TEXT_MAX)}... (truncated)` : text
  } catch (error) {
    return `[uninspectable: ${describeThrown(error).message}]`
  }
}

export function quote(text: string): string {
  const cut = text.length > STRING_MAX ? StringSlice(text, 0, STRING_MAX) : text
  const escaped = JSONStringify(cut) ?? ''
  const rest = text.length > STRING_MAX ? `... ${text.length - STRING_MAX} more characters` : ''
  const inner = StringSlice(escaped, 1, escaped.length - 1)
  if (!StringIncludes(cut, "'")) return `'${StringReplaceAll(inner, '\\"', '"')}'${rest}`
  if (!StringIncludes(cut, '"')) return `"${inner}"${rest}`
  return StringIncludes(cut, '`') ? `'${StringReplaceAll(StringReplaceAll(inner, '\\"', '"'), "'", "\\'")}'${rest}` : `\`${StringReplaceAll(inner, '\\"', '"')}\`${rest}`
}

function format(value: unknown, depth: number, run: Inspection, top: boolean): string {
  switch (typeof value) {
    case 'string':
      return quote(value)
    case 'number':
      return value === 0 && 1 / value < 0 ? '-0' : NumberToString(value)
    case 'bigint':
      return `${value}n`
    case 'symbol':
      return value.toString()
    case 'undefined':
    case 'boolean':
      return `${value}`
    case 'function':
      return formatObject(value, depth, run, top)
    case 'object':
      return value === null ? 'null' : formatObject(value, depth, run, top)
  }
}

/** `constructor.name` of the prototype, without calling getters. */
export function classNameOf(value: object): string {
  for (let object: object | null = value; object !== null; object = ObjectGetPrototypeOf(object) as object | null) {
    const constructor: unknown = ObjectGetOwnPropertyDescriptor(object, 'constructor')?.value
    if (typeof constructor !== 'function') continue
    const name: unknown = ObjectGetOwnPropertyDescriptor(constructor, 'name')?.value
    if (typeof name === 'string' && name !== '') return name
  }
  return ''
}

/** Classes of the prelude show what their getters say. */
type Shower = (value: object) => readonly (readonly [string, unknown])[] | null
let shower: Shower = () => null
export function setShower(show: Shower): void {
  shower = show
}

function formatObject(value: object, depth: number, run: Inspection, top: boolean): string {
  if (ArrayIndexOf(run.stack, value) >= 0) return '[Circular *1]'
  const className = classNameOf(value)
  if (depth > run.depthMax) return ArrayIsArray(value) ? '[Array]' : `[${className === '' ? 'Object: null prototype' : className}]`
  if (run.budget <= 0) return '...'
  ArrayPush(run.stack, value)
  const text = formatKinds(value, className, depth, run, top)
  run.stack.length--
  run.budget -= text.length
  return text
}

function formatKinds(value: object, className: string, depth: number, run: Inspection, top: boolean): string {
  const entries: string[] = []
  let head = ''
  let open = '{'
  let close = '}'
  let skipIndices = false
  const kind = ObjectToString(value)
  if (ArrayIsArray(value)) {
    head = className === 'Array' ? '' : `${className}(${value.length}) `
    open = '['
    close = ']'
    skipIndices = true
    addItems(entries, value, depth, run)
  } else if (TypedArrayTag(value) !== undefined) {
    const array = value as Uint8Array
    head = `${className}(${array.length}) `
    open = '['
    close = ']'
    skipIndices = true
    addItems(entries, array, depth, run)
  } else if (typeof value === 'function') {
    head = functionHead(value)
  } else if (value instanceof Error) {
    head = top ? errorText(value) : `[${errorText(value)}]`
  } else if (value instanceof Map) {
    head = `${className}(${value.size}) `
    for (const [key, item] of value) {
      if (entries.length >= ENTRIES_MAX) break
      ArrayPush(entries, `${format(key, depth + 1, run, false)} => ${format(item, depth + 1, run, false)}`)
    }
    if (value.size > ENTRIES_MAX) ArrayPush(entries, `... ${value.size - ENTRIES_MAX} more items`)
  } else if (value instanceof Set) {
    head = `${className}(${value.size}) `
    for (const item of value) {
      if (entries.length >= ENTRIES_MAX) break
      ArrayPush(entries, format(item, depth + 1, run, false))
    }
    if (value.size > ENTRIES_MAX) ArrayPush(entries, `... ${value.size - ENTRIES_MAX} more items`)
  } else if (value instanceof Date) {
    const time = value.getTime()
    head = time !== time ? 'Invalid Date' : value.toISOString()
  } else if (kind === '[object RegExp]' && value instanceof RegExp) {
    head = `/${value.source}/${value.flags}`
  } else if (value instanceof Promise) {
    head = 'Promise '
    ArrayPush(entries, '<pending or settled>')
  } else if (value instanceof ArrayBuffer) {
    head = 'ArrayBuffer '
    ArrayPush(entries, `byteLength: ${value.byteLength}`)
  } else if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    head = `[${className}: ${format(value.valueOf(), depth, run, false)}]`
    skipIndices = true
  } else if (className === '') head = '[Object: null prototype] '
  else if (className !== 'Object') head = `${className} `
  const shown = shower(value)
  if (shown !== null) for (let i = 0; i < shown.length; i++) ArrayPush(entries, `${keyText(shown[i]?.[0] ?? '')}: ${format(shown[i]?.[1], depth + 1, run, false)}`)
  addProperties(entries, value, skipIndices, depth, run)
  const standsAlone = head !== '' && !head.endsWith(' ')
  if (entries.length === 0) return standsAlone ? head : `${head}${open}${close}`
  return layOut(standsAlone ? `${head} ` : head, open, close, entries)
}

function functionHead(value: object): string {
  const name: unknown = ObjectGetOwnPropertyDescriptor(value, 'name')?.value
  const label = typeof name === 'string' && name !== '' ? name : '(anonymous)'
  let source = ''
  try {
    source = Function.prototype.toString.call(value)
  } catch {
    source = '' // A proxy of a function has no source.
  }
  if (RegExpExec(/^class\b/, source) !== null) {
    const parent: unknown = ObjectGetPrototypeOf(value)
    const parentName: unknown = typeof parent === 'function' ? ObjectGetOwnPropertyDescriptor(parent, 'name')?.value : ''
    return typeof parentName === 'string' && parentName !== '' ? `[class ${label} extends ${parentName}]` : `[class ${label}]`
  }
  const kind = classNameOf(value)
  return `[${kind === '' ? 'Function' : kind}${label === '(anonymous)' ? ' ' : ': '}${label}]`
}

/** With its causes, and the errors of an AggregateError: as deep as they go, up to CAUSES_MAX. */
function errorText(error: Error, depth = 0): string {
  const text = stackText(describeThrown(error))
  if (depth >= CAUSES_MAX) return text
  const nested = (value: unknown): string => StringReplaceAll(value instanceof Error ? errorText(value, depth + 1) : inspect(value), '\n', '\n  ')
  let more = error.cause === undefined ? '' : `\n  [cause]: ${nested(error.cause)}`
  const errors: unknown = error instanceof AggregateError ? error.errors : null
  if (ArrayIsArray(errors)) {
    for (let i = 0; i < errors.length && i < CAUSES_MAX; i++) more += `\n  [errors ${i}]: ${nested(errors[i])}`
    if (errors.length > CAUSES_MAX) more += `\n  ... ${errors.length - CAUSES_MAX} more`
  }
  return more === '' ? text : `${text} {${more}\n}`
}

/** What an uncaught value looks like; getters of the function may throw. */
export function uncaughtText(error: unknown): string {
  try {
    return error instanceof Error ? errorText(error) : stackText(describeThrown(error))
  } catch {
    return stackText(describeThrown(error))
  }
}

function addItems(entries: string[], items: ArrayLike<unknown>, depth: number, run: Inspection): void {
  let holes = 0
  for (let i = 0; i < items.length; i++) {
    if (entries.length >= ENTRIES_MAX) {
      ArrayPush(entries, `... ${items.length - i} more item${items.length - i > 1 ? 's' : ''}`)
      return
    }
    if (ObjectGetOwnPropertyDescriptor(items, i) === undefined) {
      holes++
      if (ObjectGetOwnPropertyDescriptor(items, i + 1) !== undefined || i + 1 === items.length) {
        ArrayPush(entries, `<${holes} empty item${holes > 1 ? 's' : ''}>`)
        holes = 0
      }
    } else ArrayPush(entries, format(items[i], depth + 1, run, false))
  }
}

function keyText(key: string | symbol): string {
  return typeof key === 'symbol' ? `[${key.toString()}]` : RegExpExec(IDENTIFIER, key) !== null ? key : quote(key)
}

function addProperties(entries: string[], value: object, skipIndices: boolean, depth: number, run: Inspection): void {
  const keys = ReflectOwnKeys(value)
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]
    if (key === undefined) continue
    const descriptor = ObjectGetOwnPropertyDescriptor(value, key)
    if (descriptor?.enumerable !== true) continue
    if (skipIndices && typeof key === 'string' && RegExpExec(/^\d+$/, key) !== null) continue
    if (entries.length > ENTRIES_MAX * 2) return
    const name = keyText(key)
    const shown =
      isLazyGetter((descriptor as { readonly get?: unknown }).get) ? format((value as Record<string | symbol, unknown>)[key], depth + 1, run, false) : descriptor.get !== undefined ? (descriptor.set !== undefined ? '[Getter/Setter]' : '[Getter]') : descriptor.set !== undefined ? '[Setter]' : format(descriptor.value, depth + 1, run, false)
    ArrayPush(entries, `${name}: ${shown}`)
  }
}

/** On one line if it is short, else one entry a line, many short ones of a list packed. */
function layOut(head: string, open: string, close: string, entries: readonly string[]): string {
  let length = head.length + entries.length
  let broken = false
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] ?? ''
    length += entry.length + 1
    broken ||= StringIncludes(entry, '\n')
  }
  if (!broken && length <= LINE_WIDTH) return `${head}${open} ${ArrayJoin(entries, ', ')} ${close}`
  const lines = open === '[' && entries.length > 6 && !broken ? packed(entries) : entries
  const indented: string[] = []
  for (let i = 0; i < lines.length; i++) ArrayPush(indented, `  ${StringReplaceAll(lines[i] ?? '', '\n', '\n  ')}`)
  return `${head}${open}\n${ArrayJoin(indented, ',\n')}\n${close}`
}

function packed(entries: readonly string[]): string[] {
  const lines: string[] = []
  let line: string[] = []
  let width = 0
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] ?? ''
    if (width + entry.length > LINE_WIDTH && line.length > 0) {
      ArrayPush(lines, ArrayJoin(line, ', '))
      line = []
      width = 0
    }
    ArrayPush(line, entry)
    width += entry.length + 2
  }
  if (line.length > 0) ArrayPush(lines, ArrayJoin(line, ', '))
  return lines
}

/** The text of a console call: format specifiers of the first argument, then the others. */
export function formatLog(values: readonly unknown[]): string {
  let text = ''
  let next = 0
  const first = values[0]
  if (typeof first === 'string') {
    next = 1
    text = values.length === 1 ? first : ''
    if (values.length > 1) {
      let from = 0
      for (let at = first.indexOf('%'); at >= 0 && at + 1 < first.length; at = first.indexOf('%', from)) {
        const replaced = specifier(first[at + 1] ?? '', values, next)
        if (replaced === null) {
          text += StringSlice(first, from, at + 1)
          from = at + 1
          continue
        }
        text += StringSlice(first, from, at) + replaced
        if (first[at + 1] !== '%') next++
        from = at + 2
      }
      text += StringSlice(first, from)
    }
  }
  const rest = ArraySlice(values, next)
  for (let i = 0; i < rest.length; i++) {
    const value = rest[i]
    text += (next + i > 0 ? ' ' : '') + (typeof value === 'string' ? value : inspect(value))
  }
  return text.length > TEXT_MAX ? `${StringSlice(text, 0, TEXT_MAX)}... (truncated)` : text
}

/** Null: leave the percent sign as it is. */
function specifier(letter: string, values: readonly unknown[], next: number): string | null {
  if (letter === '%') return '%'
  if (next >= values.length) return null
  const value = values[next]
  switch (letter) {
    case 's':
      return typeof value === 'string' ? value : typeof value === 'object' && value !== null ? inspect(value, 0) : typeof value === 'bigint' ? `${value}n` : typeof value === 'symbol' ? value.toString() : typeof value === 'function' ? inspect(value) : toText(value)
    case 'd':
      return typeof value === 'bigint' ? `${value}n` : typeof value === 'symbol' || (typeof value === 'object' && value !== null) ? 'NaN' : NumberToString(Number(value))
    case 'i':
      return typeof value === 'bigint' ? `${value}n` : typeof value === 'symbol' || (typeof value === 'object' && value !== null) ? 'NaN' : NumberToString(parseInt(value as string, 10))
    case 'f':
      return typeof value === 'symbol' ? 'NaN' : NumberToString(parseFloat(value as string))
    case 'j':
      try {
        return JSONStringify(value) ?? 'undefined'
      } catch {
        return '[Circular]' // As Node does.
      }
    case 'o':
      return inspect(value, 4)
    case 'O':
      return inspect(value)
    case 'c':
      return ''
    default:
      return null
  }
}
