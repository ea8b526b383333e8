/** Errors nobody catches, and what an error looks like as text. */
import { hostLog } from './host.ts'
import { uncaughtText } from './inspect.ts'
import { ObjectToString } from './primordials.ts'
import { toText } from './webidl.ts'

export const LEVEL_DEBUG = 0
export const LEVEL_INFO = 1
export const LEVEL_WARN = 2
export const LEVEL_ERROR = 3

export interface ErrorText {
  readonly name: string
  readonly message: string
  readonly stack: string
}

function textProperty(value: object, key: string): string {
  const property = (value as Record<string, unknown>)[key]
  return typeof property === 'string' ? property : ''
}

/** Name, message and stack of anything thrown. Getters and proxies of the function may throw again: that is caught. */
export function describeThrown(thrown: unknown): ErrorText {
  try {
    if (typeof thrown !== 'object' || thrown === null) {
      return { name: thrown === null ? 'object' : typeof thrown, message: typeof thrown === 'symbol' ? thrown.toString() : toText(thrown), stack: '' }
    }
    const name = textProperty(thrown, 'name')
    const message = textProperty(thrown, 'message')
    if (name === '' && message === '') return { name: 'object', message: ObjectToString(thrown), stack: '' }
    return { name: name === '' ? 'Error' : name, message, stack: textProperty(thrown, 'stack') }
  } catch {
    return { name: 'Error', message: 'The thrown value throws when read', stack: '' }
  }
}

/** QuickJS stacks have no first line `Name: message`. */
export function stackText(error: ErrorText): string {
  const head = error.message === '' ? error.name : `${error.name}: ${error.message}`
  return error.stack === '' ? head : `${head}\n${trimEnd(error.stack)}`
}

function trimEnd(text: string): string {
  return text.endsWith('\n') ? text.slice(0, -1) : text
}

/** Told of each error before it is logged; true keeps it out of the log. */
let tell: ((error: unknown) => boolean) | null = null

export function onUncaught(listener: (error: unknown) => boolean): void {
  tell = listener
}

export function reportUncaught(error: unknown, note = 'Uncaught'): void {
  if (tell?.(error) !== true) logUncaught(error, note)
}

export function logUncaught(error: unknown, note: string): void {
  hostLog(LEVEL_ERROR, `${note} ${uncaughtText(error)}`)
}
