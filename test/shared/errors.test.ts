import t from 'tap'
import { CodedError, ERRORS, formatMessage, isErrorCode, toCodedError } from '../../shared/errors.ts'
import { documentedErrors } from '../support/errors-table.ts'

const HOW = 'run: node test/support/errors-table.ts --write'

t.test('the table in SPECIFICATION.md is the registry', async (t) => {
  const documented = documentedErrors()
  for (const [code, { status, fault, ran, message }] of Object.entries(ERRORS)) {
    t.same(documented.get(code), { status, fault, ran, message }, `${code} is documented as it is; else ${HOW}`)
  }
  for (const code of documented.keys()) t.ok(isErrorCode(code), `${code} is documented and in the registry; else ${HOW}`)
})

t.test('parameters fill a message in order, and a missing one repeats the first', async (t) => {
  t.equal(formatMessage('ERR_LIMIT_CPU', [50, 61]), 'Exceeded the CPU limit of 50 ms (used 61 ms). Raise Limits.CpuMs or do less work')
  t.match(formatMessage('ERR_FUNCTION_NOT_FOUND', ['hello']), /named hello .*--name hello$/)
})

t.test('an error keeps code, status and parameters over a message between threads', async (t) => {
  const error = new CodedError('ERR_BODY_TOO_LARGE', [6])
  const copy = CodedError.fromData(structuredClone(error.toData()))
  t.match(copy, { code: 'ERR_BODY_TOO_LARGE', status: 413, ran: 'no', message: error.message })
})

t.test('what has no code becomes ERR_INTERNAL and keeps its cause', async (t) => {
  const cause = new TypeError('x is not a function')
  t.match(toCodedError(cause), { code: 'ERR_INTERNAL', status: 500, message: 'Internal error: x is not a function', cause })
  t.match(toCodedError('text'), { params: ['text'] })
  const coded = new CodedError('ERR_DRAINING')
  t.equal(toCodedError(coded), coded)
})

t.test('names of objects are no codes', async (t) => {
  for (const name of ['toString', '__proto__', 'constructor', '', 1, null]) t.notOk(isErrorCode(name))
})
