/** `Intl.ListFormat`, `Intl.DisplayNames` and `Intl.Locale`. */
import { adopt, append, ask, askJson, askText, dress, defineService, type IntlConstructor, keyOf, readOptions, stamp, stateOf } from './intl-objects.ts'
import { JSONParse, JSONStringify, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, StringSlice, StringSplit, StringToUpperCase } from './primordials.ts'
import { define, isObject, toText } from './webidl.ts'

/** StringListFromIterable, as JSON. */
function texts(list: Iterable<unknown> | undefined): string {
  const items: string[] = []
  if (list !== undefined) {
    for (const item of list) {
      if (typeof item !== 'string') throw new TypeError('An item of a list must be a string')
      append(items, item)
    }
  }
  return JSONStringify(items) ?? ''
}

export function listFormat(): IntlConstructor {
  return defineService({ kind: 'L', name: 'ListFormat', options: ['localeMatcher', 'type', 'style'], call: 'new', strict: true, length: 0 }, {
    format(this: unknown, list: Iterable<unknown>): string {
      const { key } = stateOf(this, 'L')
      return askText(key, 'format', texts(list))
    },
    formatToParts(this: unknown, list: Iterable<unknown>): unknown {
      const { key } = stateOf(this, 'L')
      return askJson(key, 'parts', texts(list))
    },
  })
}

export function displayNames(): IntlConstructor {
  return defineService({ kind: 'O', name: 'DisplayNames', options: ['localeMatcher', 'style', 'type', 'fallback', 'languageDisplay'], call: 'new', strict: true, length: 2 }, {
    of(this: unknown, code: unknown): string | undefined {
      const { key } = stateOf(this, 'O')
      return (ask(key, 'of', toText(code)) as string | null) ?? undefined
    },
  })
}

const LOCALE_OPTIONS = StringSplit('language script region calendar collation hourCycle caseFirst ?numeric numberingSystem', ' ')
const LOCALE_FIELDS = StringSplit('baseName language script region calendar caseFirst collation hourCycle numeric numberingSystem', ' ')
/** As getters, as Node 22 has them, and as the methods `getCalendars` and so on, as the standard has them now. */
const LOCALE_LISTS = StringSplit('calendars collations hourCycles numberingSystems textInfo timeZones weekInfo', ' ')

export function locale(): IntlConstructor {
  const made = function (this: object, value: unknown, options: unknown): void {
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- called without `new` it is
    if (new.target === undefined) throw new TypeError("Constructor Intl.Locale requires 'new'")
    adopt(this, new.target as unknown as { readonly prototype?: unknown }, made)
    if (typeof value !== 'string' && !isObject(value)) throw new TypeError('A locale must be a string or an object')
    const tagged = isLocale(value) ? tagOf(value) : toText(value)
    stamp(this, 'T', keyOf('T', [tagged], readOptions(options, LOCALE_OPTIONS)))
  } as unknown as IntlConstructor
  const changed = (value: unknown, how: string): object => new made(askText(stateOf(value, 'T').key, how))
  dress(made, 'Locale', 1, {
    toString(this: unknown): string {
      return tagOf(this)
    },
    maximize(this: unknown): object {
      return changed(this, 'maximize')
    },
    minimize(this: unknown): object {
      return changed(this, 'minimize')
    },
  })
  for (let index = 0; index < LOCALE_FIELDS.length; index++) {
    const name = LOCALE_FIELDS[index] ?? ''
    defineGetter(made.prototype, name, (value) => fieldsOf(value)[name])
  }
  for (let index = 0; index < LOCALE_LISTS.length; index++) {
    const name = LOCALE_LISTS[index] ?? ''
    const list = (value: unknown): unknown => {
      const answer = ask(stateOf(value, 'T').key, 'list', name) as string | null
      return answer === null ? undefined : JSONParse(answer)
    }
    defineGetter(made.prototype, name, list)
    const method = `get${StringToUpperCase(name[0] ?? '')}${StringSlice(name, 1)}`
    const holder = { [method](this: unknown): unknown { return list(this) } }
    define(made.prototype, method, holder[method])
  }
  return made
}

function defineGetter(target: object, name: string, get: (value: unknown) => unknown): void {
  const holder = { get [name](): unknown { return get(this) } }
  ObjectDefineProperty(target, name, { ...ObjectGetOwnPropertyDescriptor(holder, name), enumerable: false })
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return JSONParse(stateOf(value, 'T').resolved) as Readonly<Record<string, unknown>>
}

function tagOf(value: unknown): string {
  return fieldsOf(value).tag as string
}

function isLocale(value: unknown): boolean {
  try {
    stateOf(value, 'T')
    return true
  } catch {
    return false // Anything else.
  }
}
