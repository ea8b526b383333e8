/** `Intl.NumberFormat`, `Intl.PluralRules` and `Intl.RelativeTimeFormat`. */
import { askJson, askText, defineService, type IntlConstructor, type IntlValue, legacyStateOf, stateOf, toNumber } from './intl-objects.ts'
import { BigIntToString, ReflectApply, StringSplit, SymbolToPrimitive } from './primordials.ts'
import { isObject, toText } from './webidl.ts'

const DIGITS = '#minimumIntegerDigits #minimumFractionDigits #maximumFractionDigits #minimumSignificantDigits #maximumSignificantDigits #roundingIncrement roundingMode roundingPriority trailingZeroDisplay'
export const NUMBER_OPTIONS = StringSplit(`localeMatcher numberingSystem style currency currencyDisplay currencySign unit unitDisplay notation ${DIGITS} compactDisplay !useGrouping signDisplay`, ' ')

interface Convertible {
  valueOf?: unknown
  toString?: unknown
}

/** ToPrimitive with the hint "number": unlike `+value` it lets a BigInt and the digits of a text through. */
function primitiveOf(value: Convertible): unknown {
  const own = (value as Readonly<Record<symbol, unknown>>)[SymbolToPrimitive]
  const hinted = own !== undefined && own !== null
  const first = hinted ? ReflectApply(own as (hint: string) => unknown, value, ['number']) : plainly(value.valueOf, value)
  if (!isObject(first)) return first
  const second = hinted ? first : plainly(value.toString, value)
  if (!isObject(second)) return second
  throw new TypeError('Cannot convert an object to a number')
}

/** What a conversion gives; the object itself if it is no function. */
function plainly(method: unknown, value: object): unknown {
  return typeof method === 'function' ? ReflectApply(method as () => unknown, value, []) : value
}

/** A number, or a text that stands for one with all its digits. */
export function mathematical(given: unknown): IntlValue {
  if (typeof given === 'number') return given
  const value = isObject(given) ? primitiveOf(given) : given
  if (typeof value === 'bigint') return BigIntToString(value)
  return typeof value === 'string' ? value : toNumber(value)
}

function pair(start: unknown, end: unknown): void {
  if (start === undefined || end === undefined) throw new TypeError('A range needs a start and an end')
}

export function numberFormat(): IntlConstructor {
  const made: IntlConstructor = defineService({ kind: 'N', name: 'NumberFormat', options: NUMBER_OPTIONS, call: 'legacy', strict: false, length: 0 }, {
    formatToParts(this: unknown, value: unknown): unknown {
      const { key } = stateOf(this, 'N')
      return askJson(key, 'parts', mathematical(value))
    },
    get format(): unknown {
      const state = legacyStateOf(this, 'N', made)
      return (state.bound ??= (value: unknown) => askText(state.key, 'format', mathematical(value)))
    },
    formatRange(this: unknown, start: unknown, end: unknown): string {
      const { key } = stateOf(this, 'N')
      pair(start, end)
      return askText(key, 'range', mathematical(start), mathematical(end))
    },
    formatRangeToParts(this: unknown, start: unknown, end: unknown): unknown {
      const { key } = stateOf(this, 'N')
      pair(start, end)
      return askJson(key, 'rangeParts', mathematical(start), mathematical(end))
    },
  })
  return made
}

export function pluralRules(): IntlConstructor {
  return defineService({ kind: 'P', name: 'PluralRules', options: StringSplit(`localeMatcher type ${DIGITS}`, ' '), call: 'new', strict: false, length: 0 }, {
    select(this: unknown, value: unknown): string {
      const { key } = stateOf(this, 'P')
      return askText(key, 'select', toNumber(value))
    },
    selectRange(this: unknown, start: unknown, end: unknown): string {
      const { key } = stateOf(this, 'P')
      pair(start, end)
      return askText(key, 'selectRange', toNumber(start), toNumber(end))
    },
  })
}

export function relativeTimeFormat(): IntlConstructor {
  return defineService({ kind: 'R', name: 'RelativeTimeFormat', options: ['localeMatcher', 'numberingSystem', 'style', 'numeric'], call: 'new', strict: false, length: 0 }, {
    format(this: unknown, value: unknown, unit: unknown): string {
      const { key } = stateOf(this, 'R')
      return askText(key, 'format', toNumber(value), toText(unit))
    },
    formatToParts(this: unknown, value: unknown, unit: unknown): unknown {
      const { key } = stateOf(this, 'R')
      return askJson(key, 'parts', toNumber(value), toText(unit))
    },
  })
}
