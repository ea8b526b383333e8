/** What `Intl` answers without an object. */
import { CONSTRUCTORS, parseKey } from './make-formatter.ts'
import { isKind } from './operations.ts'
import type { IntlValue } from './intl-host.ts'
import { IntlRefusal } from './intl-refusal.ts'

/** Whose mapping of case differs from the one of all others: ICU's rules, by language. */
const CASED_LANGUAGES = ['az', 'el', 'lt', 'tr']

type Static = { supportedLocalesOf(locales: string[], options: object): string[] }

/** Each takes the key as the prelude writes it and one text. */
const QUESTIONS: Readonly<Record<string, (key: string, text: IntlValue) => string>> = {
  /** supportedLocalesOf: a JSON list. */
  supported: (key) => {
    const { kind, locales, options } = parseKey(key)
    if (!isKind(kind) || kind === 'T') throw new IntlRefusal('TypeError', 'There is no such kind of Intl object')
    return JSON.stringify((CONSTRUCTORS[kind] as unknown as Static).supportedLocalesOf([...locales], options))
  },
  /** Intl.getCanonicalLocales: a JSON list. */
  canonical: (key) => JSON.stringify(Intl.getCanonicalLocales(parseKey(key).locales)),
  /** Intl.supportedValuesOf: a JSON list. */
  values: (_key, name) => JSON.stringify(Intl.supportedValuesOf(name as 'calendar')),
  upper: (key, text) => String(text).toLocaleUpperCase(casedLocale(key)),
  lower: (key, text) => String(text).toLocaleLowerCase(casedLocale(key)),
}

export function isQuestion(what: string): boolean {
  return Object.hasOwn(QUESTIONS, what)
}

export function answerQuestion(what: string, key: string, text: IntlValue): string {
  return QUESTIONS[what]?.(key, text) ?? ''
}

/** Never this process's own locale. */
function casedLocale(key: string): string {
  const [locale = 'en'] = Intl.getCanonicalLocales(parseKey(key).locales)
  return CASED_LANGUAGES.includes(locale.split('-')[0] ?? '') ? locale : 'en'
}
