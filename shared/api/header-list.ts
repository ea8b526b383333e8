/**
 * Headers as they travel inside: `name\nvalue\nname\nvalue...`, names in lower case, values without CR, LF or NUL.
 * A name may come more than once.
 */
export function headerValues(headers: string, name: string): string[] {
  if (headers === '') return []
  const parts = headers.split('\n')
  const values: string[] = []
  for (let index = 0; index + 1 < parts.length; index += 2) {
    if (parts[index] === name) values.push(parts[index + 1] ?? '')
  }
  return values
}

/** The only value, the first of several, or null. */
export function headerValue(headers: string, name: string): string | null {
  return headerValues(headers, name)[0] ?? null
}

export function headerNames(headers: string): string[] {
  return headers === '' ? [] : headers.split('\n').filter((_part, index) => index % 2 === 0)
}

export function encodeHeaders(headers: Readonly<Record<string, string>>): string {
  return Object.entries(headers).map(([name, value]) => `${name}\n${value}`).join('\n')
}
