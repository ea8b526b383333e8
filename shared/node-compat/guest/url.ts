/** `node:url`: the old interface by unenv, which is Node's own; the classes are the globals. */
import { domainToASCII, domainToUnicode, fileURLToPath, format as formatParts, parse, pathToFileURL, resolve, resolveObject, Url, urlToHttpOptions } from 'unenv/node/url'

const { URL, URLSearchParams } = globalThis

interface FormatOptions {
  readonly auth?: boolean
  readonly fragment?: boolean
  readonly search?: boolean
}

/** Of a URL, of its parts, or of a text. */
export function format(value: unknown, options: FormatOptions = {}): string {
  if (!(value instanceof URL)) return formatParts(value as string)
  const { auth = true, fragment = true, search = true } = options
  const copy = new URL(value.href)
  if (!auth) copy.username = copy.password = ''
  if (!fragment) copy.hash = ''
  if (!search) copy.search = ''
  return copy.href
}

export { domainToASCII, domainToUnicode, fileURLToPath, parse, pathToFileURL, resolve, resolveObject, Url, urlToHttpOptions, URL, URLSearchParams }
export default { Url, parse, resolve, resolveObject, format, URL, URLSearchParams, domainToASCII, domainToUnicode, pathToFileURL, fileURLToPath, urlToHttpOptions }
