/** `node:assert`. Messages are Node's where they fit on a line; longer ones show both values, not the difference. */
import { isDeepLooseEqual, isDeepStrictEqual } from './deep-equal.ts'
import { invalidType, nodeError } from './errors.ts'
import { inspect as inspectExtracted } from 'node-inspect-extracted'

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

interface Options {
  readonly message?: string
  readonly actual?: unknown
  readonly expected?: unknown
  readonly operator?: string
  readonly stackStartFn?: unknown
}

function inspect(value: unknown): string {
  return inspectExtracted(value, { compact: false, customInspect: false, depth: 1000, maxArrayLength: Infinity, showHidden: false, showProxy: false, sorted: true, getters: true })
}

const HEADS: Readonly<Record<string, string>> = {
  deepStrictEqual: 'Expected values to be strictly deep-equal:', strictEqual: 'Expected values to be strictly equal:', deepEqual: 'Expected values to be loosely deep-equal:',
  notDeepStrictEqual: 'Expected "actual" not to be strictly deep-equal to:', notStrictEqual: 'Expected "actual" to be strictly unequal to:', notDeepEqual: 'Expected "actual" not to be loosely deep-equal to:',
  notIdentical: 'Values identical but not reference-equal:', strictEqualObject: 'Expected "actual" to be reference-equal to "expected":',
}

function describe({ actual, expected, operator = 'fail' }: Options): string {
  const [left, right] = [inspect(actual), inspect(expected)]
  switch (operator) {
    case '==':
    case '!=':
      return `${left} ${operator} ${right}`
    case 'strictEqual':
      if (typeof actual === 'object' && actual !== null && typeof expected === 'object' && expected !== null) return `${left === right ? `${HEADS['notIdentical']}\n\n${left}` : `${HEADS['strictEqualObject']}\n\n${left}\n\nshould equal\n\n${right}`}\n`
      return `${HEADS['strictEqual']}\n\n${left} !== ${right}\n`
    case 'notStrictEqual':
    case 'notDeepStrictEqual':
    case 'notDeepEqual':
      return left.includes('\n') || left.length > 60 ? `${HEADS[operator]}\n\n${left}\n` : `${HEADS[operator]} ${left}`
    default:
      return operator in HEADS ? `${HEADS[operator]}\n\n${left}\n\nshould ${operator === 'deepEqual' ? 'loosely ' : ''}deep-equal\n\n${right}` : 'Failed'
  }
}

export class AssertionError extends Error {
  readonly actual: unknown
  readonly expected: unknown
  readonly operator: string | undefined
  readonly generatedMessage: boolean
  readonly code = 'ERR_ASSERTION'

  constructor(options: Options) {
    if (!isObject(options)) throw invalidType('options', 'of type object', options)
    super(options.message ?? describe(options))
    this.name = 'AssertionError'
    this.generatedMessage = options.message === undefined
    this.actual = options.actual
    this.expected = options.expected
    this.operator = options.operator
    Object.defineProperty(this, 'name', { value: 'AssertionError', enumerable: false, writable: true, configurable: true })
  }
}

type Message = string | Error | undefined

/** `text`: what it says if nothing was `given`. */
function failWith(options: Options & { readonly given: Message; readonly text?: string }): never {
  const { given, text, ...rest } = options
  if (given instanceof Error) throw given
  const message = given ?? text
  const error = new AssertionError({ ...rest, ...(message === undefined ? {} : { message }) })
  if (given === undefined) Object.defineProperty(error, 'generatedMessage', { value: true, writable: true, enumerable: true, configurable: true })
  throw error
}

function need(count: number, given: number): void {
  if (given < count) throw nodeError(TypeError, 'ERR_MISSING_ARGS', 'The "actual" and "expected" arguments must be specified')
}

function check(holds: boolean, actual: unknown, expected: unknown, operator: string, given: Message): void {
  if (!holds) failWith({ actual, expected, operator, given })
}

export function ok(...values: [value?: unknown, message?: Message]): void {
  const [value, message] = values
  if (value) return
  failWith({ actual: value, expected: true, operator: '==', given: message, text: values.length === 0 ? 'No value argument passed to `assert.ok()`' : 'The expression evaluated to a falsy value' })
}

export function fail(message?: Message): never {
  return failWith({ operator: 'fail', given: message, text: 'Failed' })
}

export function equal(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
   
  check(a == b || (Number.isNaN(a) && Number.isNaN(b)), a, b, '==', message)
}

export function notEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
   
  check(!(a == b || (Number.isNaN(a) && Number.isNaN(b))), a, b, '!=', message)
}

export function strictEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
  check(Object.is(a, b), a, b, 'strictEqual', message)
}

export function notStrictEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
  check(!Object.is(a, b), a, b, 'notStrictEqual', message)
}

export function deepEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
  check(isDeepLooseEqual(a, b), a, b, 'deepEqual', message)
}

export function notDeepEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
  check(!isDeepLooseEqual(a, b), a, b, 'notDeepEqual', message)
}

export function deepStrictEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
  check(isDeepStrictEqual(a, b), a, b, 'deepStrictEqual', message)
}

export function notDeepStrictEqual(...values: [actual?: unknown, expected?: unknown, message?: Message]): void {
  need(2, values.length)
  const [a, b, message] = values
  check(!isDeepStrictEqual(a, b), a, b, 'notDeepStrictEqual', message)
}

export function match(text: unknown, pattern: unknown, message?: Message): void {
  if (!(pattern instanceof RegExp)) throw invalidType('regexp', 'an instance of RegExp', pattern)
  if (typeof text === 'string' && pattern.test(text)) return
  const what = typeof text === 'string' ? 'The input did not match the regular expression' : 'The "string" argument must be of type string. Received type'
  failWith({ actual: text, expected: pattern, operator: 'match', given: message, text: (typeof text === 'string' ? `${what} ${inspect(pattern)}. Input:\n\n${inspect(text)}\n` : `${what} ${typeof text} (${inspect(text)})`) })
}

export function doesNotMatch(text: unknown, pattern: unknown, message?: Message): void {
  if (!(pattern instanceof RegExp)) throw invalidType('regexp', 'an instance of RegExp', pattern)
  if (typeof text === 'string' && !pattern.test(text)) return
  failWith({ actual: text, expected: pattern, operator: 'doesNotMatch', given: message, text: `The input was expected to not match the regular expression ${inspect(pattern)}. Input:\n\n${inspect(text)}\n` })
}

type Expected = ((new (...values: never[]) => unknown) | ((error: unknown) => unknown) | RegExp | Readonly<Record<string, unknown>> | Error) | undefined

/** Throws unless `thrown` is what is expected. */
function requireExpected(thrown: unknown, expected: Expected, message: Message, operator: string): void {
  if (expected === undefined) return
  if (expected instanceof RegExp) {
    if (!expected.test(String(thrown))) failWith({ actual: thrown, expected, operator, given: message, text: `The input did not match the regular expression ${inspect(expected)}. Input:\n\n${inspect(String(thrown))}\n` })
    return
  }
  if (typeof expected === 'function') {
    if ((expected as { prototype?: unknown }).prototype !== undefined && thrown instanceof (expected as new () => unknown)) return
    // A class of errors that it is not of: what was thrown goes on.
    if (Object.prototype.isPrototypeOf.call(Error, expected) || (expected as unknown) === Error) failWith({ actual: thrown, expected, operator, given: message, text: `The error is expected to be an instance of "${expected.name}". Received "${(thrown as Error | undefined)?.name ?? inspect(thrown)}"\n\nError message:\n\n${(thrown as Error | undefined)?.message ?? ''}` })
    if ((expected as (error: unknown) => unknown).call({}, thrown) === true) return
    failWith({ actual: thrown, expected, operator, given: message, text: `The ${expected.name === '' ? '' : `"${expected.name}" `}validation function is expected to return "true".` })
  }
  const wanted = expected as Readonly<Record<string, unknown>>
  for (const name of expected instanceof Error ? ['name', 'message', ...Object.keys(expected)] : Object.keys(wanted)) {
    const found = (thrown as Record<string, unknown> | undefined)?.[name]
    const pattern = wanted[name]
    const fits = pattern instanceof RegExp && typeof found === 'string' ? pattern.test(found) : isDeepStrictEqual(found, pattern)
    if (!fits) failWith({ actual: thrown, expected, operator, given: message, text: `Expected values to be strictly deep-equal:\n\n${name}: ${inspect(found)}\n\nshould deep-equal\n\n${name}: ${inspect(pattern)}` })
  }
}

function requireNames(expected: unknown, message: Message): readonly [Expected, Message] {
  return typeof expected === 'string' ? [undefined, expected] : [expected as Expected, message]
}

export function throws(run: unknown, expectedOrMessage?: unknown, given?: Message): void {
  if (typeof run !== 'function') throw invalidType('fn', 'of type function', run)
  const [expected, message] = requireNames(expectedOrMessage, given)
  try {
    ;(run as () => unknown)()
  } catch (error) {
    requireExpected(error, expected, message, 'throws')
    return
  }
  failWith({ actual: undefined, expected, operator: 'throws', ...missing('exception', expected, message) })
}

export async function rejects(run: unknown, expectedOrMessage?: unknown, given?: Message): Promise<void> {
  const [expected, message] = requireNames(expectedOrMessage, given)
  const promise = promiseOf(run)
  try {
    await promise
  } catch (error) {
    requireExpected(error, expected, message, 'rejects')
    return
  }
  failWith({ actual: undefined, expected, operator: 'rejects', ...missing('rejection', expected, message) })
}

function missing(what: string, expected: Expected, message: Message): { readonly given: Message } {
  const name = typeof expected === 'function' && expected.name !== '' ? ` (${expected.name})` : ''
  const text = `Missing expected ${what}${name}${message === undefined ? '.' : `: ${String(message)}`}`
  return { given: message instanceof Error ? message : text }
}

export function doesNotThrow(run: unknown, expectedOrMessage?: unknown, given?: Message): void {
  if (typeof run !== 'function') throw invalidType('fn', 'of type function', run)
  const message = typeof expectedOrMessage === 'string' ? expectedOrMessage : given
  try {
    ;(run as () => unknown)()
  } catch (error) {
    unwanted('exception', error, message, 'doesNotThrow')
  }
}

export async function doesNotReject(run: unknown, expectedOrMessage?: unknown, given?: Message): Promise<void> {
  const message = typeof expectedOrMessage === 'string' ? expectedOrMessage : given
  try {
    await promiseOf(run)
  } catch (error) {
    unwanted('rejection', error, message, 'doesNotReject')
  }
}

function unwanted(what: string, error: unknown, message: Message, operator: string): never {
  return failWith({ actual: error, expected: undefined, operator, given: `Got unwanted ${what}${message === undefined ? '.' : `: ${String(message)}`}\nActual message: "${(error as Error | undefined)?.message ?? ''}"` })
}

function promiseOf(run: unknown): PromiseLike<unknown> {
  const result: unknown = typeof run === 'function' ? (run as () => unknown)() : run
  if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') return result as PromiseLike<unknown>
  if (typeof run === 'function') throw nodeError(TypeError, 'ERR_INVALID_RETURN_VALUE', 'Expected instance of Promise to be returned from the "promiseFn" function')
  throw invalidType('promiseFn', 'of type function or an instance of Promise', run)
}

export function ifError(value: unknown): void {
  if (value === null || value === undefined) return
  failWith({ actual: value, expected: null, operator: 'ifError', given: `ifError got unwanted exception: ${value instanceof Error ? value.message : inspect(value)}` })
}

const common = { AssertionError, ok, fail, match, doesNotMatch, throws, rejects, doesNotThrow, doesNotReject, ifError, strictEqual, notStrictEqual, deepStrictEqual, notDeepStrictEqual }

/** What `==` compares is compared as `===` does. */
const strictAssert = /* @__PURE__ */ Object.assign((...values: Parameters<typeof ok>) => ok(...values), common, { equal: strictEqual, notEqual: notStrictEqual, deepEqual: deepStrictEqual, notDeepEqual: notDeepStrictEqual })
export const strict: typeof strictAssert & { strict?: unknown } = strictAssert
strict.strict = strict

const assert = /* @__PURE__ */ Object.assign((...values: Parameters<typeof ok>) => ok(...values), common, { equal, notEqual, deepEqual, notDeepEqual, strict })
export default assert
