/** What built-in classes do by locale: `toLocaleString` and the like, `localeCompare`, the mapping of case. */
import { COLLATOR_OPTIONS, comparePlain } from './intl-collator.ts'
import { dateOptions } from './intl-dates.ts'
import { NUMBER_OPTIONS } from './intl-numbers.ts'
import { ask, askJson, askText, defineHidden, type IntlOptions, keyOf, localeList, readOptions } from './intl-objects.ts'
import { ArrayIndexOf, ArrayPush, BigIntToString, BigIntValueOf, DateGetTime, NativeObject, NumberValueOf, ReflectApply, RegExpExec, StringSlice, StringToLowerCase, StringToUpperCase, TypedArrayLength } from './primordials.ts'
import { toText } from './webidl.ts'

/** Text whose case is mapped at once. */
const CASED_CHARS = 16_384
const NO_OPTIONS: IntlOptions = {}

function dateMethod(wanted: 'all' | 'date' | 'time'): (this: unknown, locales: unknown, options: unknown) => string {
  return function (locales, options) {
    const time = DateGetTime(this)
    if (time !== time) return 'Invalid Date'
    return askText(keyOf('D', localeList(locales), dateOptions(options, wanted)), 'format', time)
  }
}

function numberKey(locales: unknown, options: unknown): string {
  return keyOf('N', localeList(locales), readOptions(options, NUMBER_OPTIONS))
}

function requireText(value: unknown, name: string): string {
  if (value === undefined || value === null) throw new TypeError(`String.prototype.${name} called on null or undefined`)
  return toText(value)
}

function localeCompare(this: unknown, that: unknown, locales: unknown, options: unknown): number {
  const left = requireText(this, 'localeCompare')
  const right = toText(that)
  if (locales === undefined && options === undefined) {
    const known = comparePlain(left, right)
    if (known === known) return known
  }
  return ask(keyOf('C', localeList(locales), readOptions(options, COLLATOR_OPTIONS)), 'compare', left, right) as number
}

/** Languages whose letters change case as in most: everything but these goes by the engine's own tables. */
const OWN_CASES = ['az', 'el', 'lt', 'tr']
const SIMPLE_TAG = /^[a-z]{2}(-[a-zA-Z]{2})?$/

function caseMethod(name: string, what: 'upper' | 'lower', plain: (text: string) => string): (this: unknown, locales: unknown) => string {
  return function (locales) {
    const text = requireText(this, name)
    const list = localeList(locales)
    const first = list[0]
    if (first === undefined) return plain(text)
    const key = keyOf('U', list, NO_OPTIONS)
    // The host refuses what is no tag.
    const locale = list.length === 1 && RegExpExec(SIMPLE_TAG, first) !== null ? first : ((askJson(key, 'canonical') as string[])[0] ?? '')
    if ((locale[2] ?? '-') !== '-' || ArrayIndexOf(OWN_CASES, StringSlice(locale, 0, 2)) < 0) return plain(text)
    let mapped = ''
    for (let at = 0; at < text.length;) {
      const end = spaceAfter(text, at + CASED_CHARS)
      mapped += askText(key, what, StringSlice(text, at, end))
      at = end
    }
    return mapped
  }
}

/** Where a text may be cut without a letter losing what decides its case: at the first space from `at` on. One without spaces is cut all the same. */
function spaceAfter(text: string, at: number): number {
  for (let index = at; index < text.length && index < at + CASED_CHARS; index++) if (text[index] === ' ' || text[index] === '\n') return index
  return at
}

/** Lists that are being written, so that one that holds itself comes to an end. */
const writing: object[] = []

function listToLocaleString(list: ArrayLike<unknown>, length: number, locales: unknown, options: unknown): string {
  if (ArrayIndexOf(writing, list) >= 0) return ''
  ArrayPush(writing, list)
  try {
    let text = ''
    for (let index = 0; index < length; index++) {
      if (index > 0) text += ','
      const item = list[index] as { toLocaleString(locales: unknown, options: unknown): unknown } | undefined | null
      if (item !== undefined && item !== null) text += toText(item.toLocaleString(locales, options))
    }
    return text
  } finally {
    writing.length--
  }
}

export function installIntlPrototypes(): void {
  defineHidden(Date.prototype, 'toLocaleString', 0, methodOf(dateMethod('all')))
  defineHidden(Date.prototype, 'toLocaleDateString', 0, methodOf(dateMethod('date')))
  defineHidden(Date.prototype, 'toLocaleTimeString', 0, methodOf(dateMethod('time')))
  defineHidden(Number.prototype, 'toLocaleString', 0, methodOf(function (this: unknown, locales: unknown, options: unknown) {
    const value = NumberValueOf(this)
    return askText(numberKey(locales, options), 'format', value)
  }))
  defineHidden(BigInt.prototype, 'toLocaleString', 0, methodOf(function (this: unknown, locales: unknown, options: unknown) {
    const value = BigIntValueOf(this)
    return askText(numberKey(locales, options), 'format', BigIntToString(value))
  }))
  defineHidden(String.prototype, 'localeCompare', 1, methodOf(localeCompare))
  defineHidden(String.prototype, 'toLocaleUpperCase', 0, methodOf(caseMethod('toLocaleUpperCase', 'upper', StringToUpperCase)))
  defineHidden(String.prototype, 'toLocaleLowerCase', 0, methodOf(caseMethod('toLocaleLowerCase', 'lower', StringToLowerCase)))
  defineHidden(Array.prototype, 'toLocaleString', 0, methodOf(function (this: unknown, locales: unknown, options: unknown) {
    const list = NativeObject(this) as ArrayLike<unknown>
    return listToLocaleString(list, list.length, locales, options)
  }))
  defineHidden(Object.getPrototypeOf(Uint8Array.prototype) as object, 'toLocaleString', 0, methodOf(function (this: unknown, locales: unknown, options: unknown) {
    return listToLocaleString(this as ArrayLike<unknown>, TypedArrayLength(this), locales, options)
  }))
}

/** The same as a method, which `new` does not take. */
function methodOf(value: (this: unknown, a: unknown, b: unknown, c: unknown) => unknown): (...values: never[]) => unknown {
  const holder: Readonly<Record<'method', (...values: never[]) => unknown>> = { method(this: unknown, a?: unknown, b?: unknown, c?: unknown): unknown { return ReflectApply(value, this, [a, b, c]) } }
  const { method } = holder
  return method
}
