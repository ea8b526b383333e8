/**
 * `Intl` of guests, by the ICU of this process: pure data in and out. A guest's object is a key, the JSON text
 * `[kind, locales, options]`, and every call brings it along; nothing here belongs to a run. Formatters are kept between calls
 * because making one takes 5 to 200 us (FormatterCache). Nothing is asked of this process's own locale and time zone.
 *
 * Every call is bounded by the bounds of limits.ts on its texts; the caller charges what it took to the guest.
 */
import { INTL_KEY_MAX_CHARS, INTL_TEXT_MAX_CHARS } from '../limits.ts'
import { FormatterCache } from './formatter-cache.ts'
import { IntlRefusal } from './intl-refusal.ts'
import { isKind, type Kind, OPERATIONS, RESOLVED } from './operations.ts'
import { makeFormatter, type MadeFormatter, parseKey } from './make-formatter.ts'
import { answerQuestion, isQuestion } from './questions.ts'

export type IntlValue = string | number

export class IntlHost {
  readonly #cache: FormatterCache

  /** `collectGarbage`: called when much was made that nobody holds any more. */
  constructor(collectGarbage: () => void) {
    this.#cache = new FormatterCache(collectGarbage)
  }

  /**
   * `what`: of `kind` in OPERATIONS, or of QUESTIONS. `account` says whose formatters may be used and made. Throws
   * IntlRefusal for what the guest shall see as a RangeError or TypeError.
   */
  perform(account: string, key: string, what: string, a: IntlValue, b: IntlValue): IntlValue | null {
    if (key.length > INTL_KEY_MAX_CHARS) throw new IntlRefusal('RangeError', `Locales and options take more than ${INTL_KEY_MAX_CHARS} characters`)
    for (const value of [a, b]) if (typeof value === 'string' && value.length > INTL_TEXT_MAX_CHARS) throw new IntlRefusal('RangeError', `A text for Intl has more than ${INTL_TEXT_MAX_CHARS} characters`)
    try {
      if (isQuestion(what)) return answerQuestion(what, key, a)
      const kind = key.charAt(2)
      if (!isKind(kind)) throw new IntlRefusal('TypeError', 'There is no such kind of Intl object')
      const made = this.#cache.get(account, key) ?? this.#make(account, key, kind)
      if (what === 'new') return (made.resolved ??= RESOLVED[kind](made.formatter))
      const operation = OPERATIONS[kind][what]
      if (operation === undefined) throw new IntlRefusal('TypeError', `Intl has no operation ${what}`)
      return operation(made.formatter, a, b)
    } catch (error) {
      if (error instanceof RangeError) throw new IntlRefusal('RangeError', error.message)
      // ICU's own failures come as TypeErrors; a SyntaxError would be of JSON that the prelude did not write.
      if (error instanceof TypeError || error instanceof SyntaxError) throw new IntlRefusal('TypeError', error.message)
      throw error
    }
  }

  #make(account: string, key: string, kind: Kind): MadeFormatter {
    const made = makeFormatter(parseKey(key))
    this.#cache.add(account, key, made, kind)
    return made
  }
}
