/** Makes a formatter of the key that a guest sent: hostile text, of which only names, strings, numbers and booleans count. */
import { INTL_LOCALES_MAX } from '../limits.ts'
import { IntlRefusal } from './intl-refusal.ts'
import type { Kind } from './operations.ts'

/** What a guest gets that names no locale, or none that ICU knows; and its time zone. */
const DEFAULT_LOCALE = 'en-US'
const DEFAULT_TIME_ZONE = 'UTC'

export interface IntlOptions {
  readonly [name: string]: string | number | boolean | undefined
}

export interface FormatterKey {
  readonly kind: string
  readonly locales: readonly string[]
  readonly options: IntlOptions
}

export interface MadeFormatter {
  readonly formatter: object
  /** What it came to, as JSON: asked for at each `new` of a guest. */
  resolved: string | null
}

type Constructor = new (locales: string | string[], options: object) => object

/** DisplayNames is O, Locale T. */
export const CONSTRUCTORS: Readonly<Record<Kind, Constructor>> = {
  D: Intl.DateTimeFormat,
  N: Intl.NumberFormat,
  C: Intl.Collator,
  P: Intl.PluralRules,
  R: Intl.RelativeTimeFormat,
  L: Intl.ListFormat,
  S: Intl.Segmenter,
  O: Intl.DisplayNames as unknown as Constructor,
  T: Intl.Locale as unknown as Constructor,
}

/** Throws IntlRefusal if it is not of the form that the prelude writes. */
export function parseKey(key: string): FormatterKey {
  const parsed: unknown = JSON.parse(key)
  if (!Array.isArray(parsed)) throw malformed()
  const [kind, locales, options] = parsed as unknown[]
  if (typeof kind !== 'string' || !isTexts(locales) || typeof options !== 'object' || options === null) throw malformed()
  if (locales.length > INTL_LOCALES_MAX) throw new IntlRefusal('RangeError', `More than ${INTL_LOCALES_MAX} locales`)
  return { kind, locales, options: options as IntlOptions }
}

export function makeFormatter({ kind, locales, options }: FormatterKey): MadeFormatter {
  const make = CONSTRUCTORS[kind as Kind]
  if (kind === 'T') return { formatter: new make(locales[0] ?? '', options), resolved: null }
  // The last locale is taken when none before it is known, where ICU would take the locale of this process.
  const formatter = new make([...locales, DEFAULT_LOCALE], zonedOptions(kind, options))
  // The rules of plurals are those of `en`, which would be told, though what is spoken of is the default.
  const named = kind === 'P' && Intl.PluralRules.supportedLocalesOf(locales).length === 0 ? JSON.stringify({ ...(formatter as Intl.PluralRules).resolvedOptions(), locale: DEFAULT_LOCALE }) : null
  return { formatter, resolved: named }
}

function zonedOptions(kind: string, options: IntlOptions): IntlOptions {
  return kind === 'D' && options.timeZone === undefined ? { ...options, timeZone: DEFAULT_TIME_ZONE } : options
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string')
}

function malformed(): IntlRefusal {
  return new IntlRefusal('TypeError', 'Not a key of an Intl object')
}
