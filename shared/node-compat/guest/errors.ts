/** Errors as Node's: with a code, and messages that name what was given. */
type ErrorClass = new (message: string) => Error

export function nodeError(constructor: ErrorClass, code: string, message: string): Error & { code: string } {
  const error = new constructor(message) as Error & { code: string }
  error.code = code
  return error
}

export function invalidType(name: string, expected: string, value: unknown): Error {
  const what = name.endsWith(' argument') ? `The ${name}` : name.includes('.') ? `The "${name}" property` : `The "${name}" argument`
  return nodeError(TypeError, 'ERR_INVALID_ARG_TYPE', `${what} must be ${expected}. Received ${described(value)}`)
}

export function outOfRange(name: string, range: string, value: unknown): Error {
  return nodeError(RangeError, 'ERR_OUT_OF_RANGE', `The value of "${name}" is out of range. It must be ${range}. Received ${typeof value === 'number' && Number.isInteger(value) && Math.abs(value) > 2 ** 32 ? withUnderscores(value) : String(value)}`)
}

export function invalidValue(name: string, value: unknown, reason = 'is invalid'): Error {
  return nodeError(TypeError, 'ERR_INVALID_ARG_VALUE', `The argument '${name}' ${reason}. Received ${typeof value === 'string' ? `'${value}'` : described(value)}`)
}

export function abortError(cause?: unknown): Error {
  const error = nodeError(Error, 'ABORT_ERR', 'The operation was aborted')
  error.name = 'AbortError'
  if (cause !== undefined) error.cause = cause
  return error
}

export function requireFunction(name: string, value: unknown): asserts value is (...rest: unknown[]) => unknown {
  if (typeof value !== 'function') throw invalidType(name, 'of type function', value)
}

export function requireString(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value)
}

/** What Node's messages say of a value. */
function described(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'function') return `function ${value.name}`
  if (typeof value === 'object') {
    const name = (value as { constructor?: { name?: unknown } }).constructor?.name
    return typeof name === 'string' && name !== '' ? `an instance of ${name}` : '[Object: null prototype] {}'
  }
  const text = typeof value === 'string' ? `'${value.length > 28 ? `${value.slice(0, 25)}...` : value}'` : typeof value === 'bigint' ? `${value}n` : typeof value === 'symbol' ? value.toString() : `${value as number}`
  return `type ${typeof value} (${text})`
}

function withUnderscores(value: number): string {
  return String(value).replace(/(?<=\d)(?=(\d{3})+$)/g, '_')
}
