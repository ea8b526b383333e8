/** Values on the command line: each parser says what it wants when it does not get it. */
import { InvalidArgumentError } from 'commander'
import { CodedError } from '../errors.ts'
import type { CliContext } from './context.ts'

export const DEFAULT_PORT = 8787
/** As in shared/config.ts. */
export const DEFAULT_REGION_PORT = 8788
const DEFAULT_ENDPOINT = `http://127.0.0.1:${DEFAULT_PORT}`

/** A whole number within bounds, both included. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN
    if (!(value >= min && value <= max)) throw new InvalidArgumentError(`Want a whole number from ${min} to ${max}.`)
    return value
  }
}

/** 0 lets the system choose a free port. */
export const portNumber = wholeNumber(0, 65_535)

/** For options that may be given more than once. */
export function collect(text: string, previous: unknown): readonly string[] {
  // Not a list before the first one, and after a `--no-` form of the same option.
  return Array.isArray(previous) ? [...(previous as readonly string[]), text] : [text]
}

/** `K=V`, or `K` alone with a null value. Throws ERR_USAGE for a name that no environment could hold. */
export function keyAndValue(text: string): { readonly key: string; readonly value: string | null } {
  const at = text.indexOf('=')
  const key = at === -1 ? text : text.slice(0, at)
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) throw new CodedError('ERR_USAGE', [`${JSON.stringify(key)} is no name for a variable: letters, digits and _ only, not starting with a digit`])
  return { key, value: at === -1 ? null : text.slice(at + 1) }
}

/** A variable with its value, `K=V` or as wrangler has it `K:V`, whichever sign comes first. Throws ERR_USAGE. */
export function variableOption(text: string): readonly [key: string, value: string] {
  const { key, value } = keyAndValue(/^[A-Za-z_][A-Za-z0-9_]*:/.test(text) ? text.replace(':', '=') : text)
  if (value === null) throw new CodedError('ERR_USAGE', [`--var ${text} has no value; write --var ${key}=VALUE`])
  return [key, value]
}

/** Lambda's rule. */
export function functionName(text: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(text)) throw new CodedError('ERR_USAGE', [`${JSON.stringify(text)} is no name for a function: 1 to 64 letters, digits, - and _`])
  return text
}

/** Option, then OUTPOST_ENDPOINT, then the dev server. */
export function resolveEndpoint(option: string | undefined, context: CliContext): URL {
  const text = option ?? context.env.OUTPOST_ENDPOINT ?? DEFAULT_ENDPOINT
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new CodedError('ERR_USAGE', [`${JSON.stringify(text)} (${option === undefined ? 'OUTPOST_ENDPOINT' : '--endpoint'}) is no http address; an example: ${DEFAULT_ENDPOINT}`])
  }
  return url
}
