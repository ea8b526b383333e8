/** `Intl.DateTimeFormat`, and the options that dates are written with when none are given. */
import { askJson, askText, defineService, type IntlConstructor, type IntlOptions, legacyStateOf, readOptions, stateOf, toNumber } from './intl-objects.ts'
import { DateNow, StringSplit } from './primordials.ts'

const DATE_OPTIONS = StringSplit('localeMatcher calendar numberingSystem ?hour12 hourCycle timeZone weekday era year month day dayPeriod hour minute second #fractionalSecondDigits timeZoneName formatMatcher dateStyle timeStyle', ' ')

export function dateTimeFormat(): IntlConstructor {
  const made: IntlConstructor = defineService({ kind: 'D', name: 'DateTimeFormat', options: DATE_OPTIONS, call: 'legacy', strict: false, length: 0 }, {
    formatToParts(this: unknown, date: unknown): unknown {
      const { key } = stateOf(this, 'D')
      return askJson(key, 'parts', instant(date))
    },
    get format(): unknown {
      const state = legacyStateOf(this, 'D', made)
      return (state.bound ??= (date: unknown) => askText(state.key, 'format', instant(date)))
    },
    formatRange(this: unknown, start: unknown, end: unknown): string {
      const { key } = stateOf(this, 'D')
      return askText(key, 'range', bound(start, end), toNumber(end))
    },
    formatRangeToParts(this: unknown, start: unknown, end: unknown): unknown {
      const { key } = stateOf(this, 'D')
      return askJson(key, 'rangeParts', bound(start, end), toNumber(end))
    },
  })
  return made
}

function instant(date: unknown): number {
  return date === undefined ? DateNow() : toNumber(date)
}

/** The start of a range, converted before its end. */
function bound(start: unknown, end: unknown): number {
  if (start === undefined || end === undefined) throw new TypeError('A range needs a start and an end')
  return toNumber(start)
}

const DATE_FIELDS = ['weekday', 'year', 'month', 'day']
const TIME_FIELDS = ['dayPeriod', 'hour', 'minute', 'second', 'fractionalSecondDigits']

/** Options of `toLocaleString` (`all`), `toLocaleDateString` and `toLocaleTimeString`, with fields where none of theirs are given. */
export function dateOptions(options: unknown, wanted: 'all' | 'date' | 'time'): IntlOptions {
  const plain = readOptions(options, DATE_OPTIONS)
  const dated = wanted !== 'time'
  const timed = wanted !== 'date'
  if (!dated && plain.dateStyle !== undefined) throw new TypeError('Invalid option : dateStyle')
  if (!timed && plain.timeStyle !== undefined) throw new TypeError('Invalid option : timeStyle')
  if (plain.dateStyle !== undefined || plain.timeStyle !== undefined || (dated && hasAny(plain, DATE_FIELDS)) || (timed && hasAny(plain, TIME_FIELDS))) return plain
  if (dated) plain.year = plain.month = plain.day = 'numeric'
  if (timed) plain.hour = plain.minute = plain.second = 'numeric'
  return plain
}

function hasAny(plain: IntlOptions, names: readonly string[]): boolean {
  for (let index = 0; index < names.length; index++) if (plain[names[index] ?? ''] !== undefined) return true
  return false
}
