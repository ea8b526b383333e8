/** `Intl` and all that goes by locale, by the ICU of the host: see intl-objects.ts. The default locale is en-US, the time zone UTC. */
import { collator } from './intl-collator.ts'
import { dateTimeFormat } from './intl-dates.ts'
import { numberFormat, pluralRules, relativeTimeFormat } from './intl-numbers.ts'
import { askJson, copyHidden, keyOf, localeList } from './intl-objects.ts'
import { installIntlPrototypes } from './intl-prototypes.ts'
import { segmenter } from './intl-segmenter.ts'
import { displayNames, listFormat, locale } from './intl-texts.ts'
import { define, publish, tag, toText } from './webidl.ts'

export function installIntl(): void {
  const intl = {}
  tag(intl, 'Intl')
  copyHidden(intl, {
    getCanonicalLocales(locales: unknown): unknown {
      return askJson(keyOf('', localeList(locales), {}), 'canonical')
    },
    supportedValuesOf(key: unknown): unknown {
      return askJson('', 'values', toText(key))
    },
  })
  const classes = {
    DateTimeFormat: dateTimeFormat(), NumberFormat: numberFormat(), Collator: collator(), PluralRules: pluralRules(), RelativeTimeFormat: relativeTimeFormat(),
    ListFormat: listFormat(), Locale: locale(), DisplayNames: displayNames(), Segmenter: segmenter(),
  }
  for (const [name, made] of Object.entries(classes)) define(intl, name, made)
  publish('Intl', intl)
  installIntlPrototypes()
}
