/**
 * What each kind of Intl object does, on texts and numbers. Parts are JSON.
 * A number may come as a decimal text, so that none of its digits is lost.
 */
import { INTL_CODE_MAX_CHARS, INTL_LIST_MAX_ITEMS } from '../limits.ts'
import type { IntlValue } from './intl-host.ts'
import { IntlRefusal } from './intl-refusal.ts'
import { comparable } from './comparable.ts'
import { segmentAround, segmentsFrom } from './segments.ts'

export type Kind = 'D' | 'N' | 'C' | 'P' | 'R' | 'L' | 'S' | 'O' | 'T'

type Operation<F> = (formatter: F, a: IntlValue, b: IntlValue) => IntlValue | null
type Operations<F> = Readonly<Record<string, Operation<F>>>

/** NumberFormat takes decimal texts and ranges since its third version, which the types of Node 22 do not know. */
interface Numbers extends Resolved {
  format(value: IntlValue): string
  formatToParts(value: IntlValue): object[]
  formatRange(start: IntlValue, end: IntlValue): string
  formatRangeToParts(start: IntlValue, end: IntlValue): object[]
}

interface Resolved {
  resolvedOptions(): object
}

type Unit = Intl.RelativeTimeFormatUnit
type Plurals = Intl.PluralRules & { selectRange(start: number, end: number): string }

const date: Operations<Intl.DateTimeFormat> = {
  format: (formatter, at) => formatter.format(Number(at)),
  parts: (formatter, at) => JSON.stringify(formatter.formatToParts(Number(at))),
  range: (formatter, start, end) => formatter.formatRange(Number(start), Number(end)),
  rangeParts: (formatter, start, end) => JSON.stringify(formatter.formatRangeToParts(Number(start), Number(end))),
}

const number: Operations<Numbers> = {
  format: (formatter, value) => formatter.format(value),
  parts: (formatter, value) => JSON.stringify(formatter.formatToParts(value)),
  range: (formatter, start, end) => formatter.formatRange(start, end),
  rangeParts: (formatter, start, end) => JSON.stringify(formatter.formatRangeToParts(start, end)),
}

const collator: Operations<Intl.Collator> = {
  compare: (formatter, a, b) => {
    const [left, right] = comparable(String(a), String(b))
    return formatter.compare(left, right)
  },
}

const plural: Operations<Plurals> = {
  select: (formatter, value) => formatter.select(Number(value)),
  selectRange: (formatter, start, end) => formatter.selectRange(Number(start), Number(end)),
}

const relative: Operations<Intl.RelativeTimeFormat> = {
  format: (formatter, value, unit) => formatter.format(Number(value), unit as Unit),
  parts: (formatter, value, unit) => JSON.stringify(formatter.formatToParts(Number(value), unit as Unit)),
}

/** The list is JSON text. */
function itemsOf(json: IntlValue): string[] {
  const items = JSON.parse(String(json)) as string[]
  if (items.length > INTL_LIST_MAX_ITEMS) throw new IntlRefusal('RangeError', `A list for Intl has more than ${INTL_LIST_MAX_ITEMS} items`)
  return items
}

const list: Operations<Intl.ListFormat> = {
  format: (formatter, items) => formatter.format(itemsOf(items)),
  parts: (formatter, items) => JSON.stringify(formatter.formatToParts(itemsOf(items))),
}

const segmenter: Operations<Intl.Segmenter> = {
  from: (formatter, text, isLast) => segmentsFrom(formatter, String(text), isLast === 1),
  around: (formatter, text, at) => segmentAround(formatter, String(text), Number(at)),
}

const names: Operations<Intl.DisplayNames> = {
  of: (formatter, code) => {
    // ICU looks at each variant of a language against all others.
    if (String(code).length > INTL_CODE_MAX_CHARS) throw new IntlRefusal('RangeError', `A code for Intl has more than ${INTL_CODE_MAX_CHARS} characters`)
    return formatter.of(String(code)) ?? null
  },
}

const LOCALE_FIELDS = ['baseName', 'language', 'script', 'region', 'calendar', 'caseFirst', 'collation', 'hourCycle', 'numeric', 'numberingSystem'] as const
/** By the names of the getters of Node 22; later versions have methods. */
const LOCALE_LISTS = ['calendars', 'collations', 'hourCycles', 'numberingSystems', 'timeZones', 'textInfo', 'weekInfo']

const locale: Operations<Intl.Locale> = {
  maximize: (formatter) => formatter.maximize().toString(),
  minimize: (formatter) => formatter.minimize().toString(),
  list: (formatter, name) => {
    const field = String(name)
    if (!LOCALE_LISTS.includes(field)) throw new IntlRefusal('TypeError', `A locale has no ${field}`)
    const lists = formatter as unknown as Readonly<Record<string, unknown>>
    const method = lists[`get${field.charAt(0).toUpperCase()}${field.slice(1)}`]
    const value: unknown = typeof method === 'function' ? (method as () => unknown).call(formatter) : lists[field]
    return value === undefined ? null : JSON.stringify(value)
  },
}

/** By kind, which says what the formatter is. */
export const OPERATIONS = { D: date, N: number, C: collator, P: plural, R: relative, L: list, S: segmenter, O: names, T: locale } as unknown as Readonly<Record<Kind, Operations<object>>>

const optionsOf = (formatter: object): string => JSON.stringify((formatter as Resolved).resolvedOptions())
const fieldsOf = (formatter: object): string => {
  const known = formatter as Intl.Locale
  return JSON.stringify({ tag: known.toString(), ...Object.fromEntries(LOCALE_FIELDS.map((field) => [field, known[field]])) })
}

/** What `new` answers, as JSON: the resolved options, of a locale its parts. */
export const RESOLVED: Readonly<Record<Kind, (formatter: object) => string>> = {
  D: optionsOf, N: optionsOf, C: optionsOf, P: optionsOf, R: optionsOf, L: optionsOf, S: optionsOf, O: optionsOf, T: fieldsOf,
}

export function isKind(text: string): text is Kind {
  return Object.hasOwn(OPERATIONS, text)
}
