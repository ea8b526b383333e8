/** Names of functions in all the forms that clients use. */
import fc from 'fast-check'
import t from 'tap'
import { functionArn, parseAliasName, parseFunctionReference } from '../../../shared/api/names.ts'
import { exceptionName } from '../../../shared/api/replies.ts'
import { ERRORS, toCodedError, type ErrorCode } from '../../../shared/errors.ts'

function parse(text: string, qualifier: string | null = null): unknown {
  try {
    return parseFunctionReference(text, qualifier)
  } catch (error) {
    return toCodedError(error).code
  }
}

await t.test('malformed names are refused', (t) => {
  for (const text of [
    '', ' ', 'a b', 'a/b', 'a.b', 'ä', 'a:b:c', 'x'.repeat(65), 'a:', ':a', '123:function:a', '123456789012:function:', '123456789012:layer:a', 'arn:aws:lambda:us-east-1:123456789012:function',
    'arn:aws:lambda:us-east-1:12:function:a', 'arn:aws:s3:us-east-1:123456789012:function:a', 'arn:aws:lambda:us-east-1:123456789012:function:a:b:c', 'a:b c', 'a:$OTHER', '../a', 'a\0',
  ]) t.equal(parse(text), 'ERR_PARAMETER', JSON.stringify(text))
  t.equal(parse('a', 'b c'), 'ERR_PARAMETER')
  t.equal(parse('a:1', '2'), 'ERR_PARAMETER')
  t.end()
})

await t.test('all forms name the same', (t) => {
  const none = { account: null, region: null, name: 'hello', qualifier: null }
  t.same(parse('hello'), none)
  t.same(parse('hello:prod'), { ...none, qualifier: 'prod' })
  t.same(parse('hello', '$LATEST'), { ...none, qualifier: '$LATEST' })
  t.same(parse('hello:7', '7'), { ...none, qualifier: '7' })
  t.same(parse('123456789012:function:hello'), { ...none, account: '123456789012' })
  t.same(parse('123456789012:function:hello:prod'), { ...none, account: '123456789012', qualifier: 'prod' })
  t.same(parse('arn:aws:lambda:us-east-1:123456789012:function:hello:prod'), { account: '123456789012', region: 'us-east-1', name: 'hello', qualifier: 'prod' })
  t.same(parse('arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:hello'), { account: '123456789012', region: 'us-gov-west-1', name: 'hello', qualifier: null })
  fc.assert(fc.property(fc.stringMatching(/^[a-zA-Z0-9-_]{1,64}$/), fc.option(fc.stringMatching(/^[a-zA-Z0-9-_]{1,128}$/)), (name, qualifier) => {
    const parsed = parseFunctionReference(functionArn('eu-west-1', '123456789012', name, qualifier), null)
    return parsed.name === name && parsed.qualifier === qualifier && parsed.region === 'eu-west-1'
  }))
  t.end()
})

await t.test('an alias is not a number', (t) => {
  t.equal(parseAliasName('v1'), 'v1')
  for (const name of ['1', '0012', '', 'a b', '$LATEST', 'x'.repeat(129)]) t.throws(() => parseAliasName(name), { code: 'ERR_PARAMETER' }, name)
  t.end()
})

await t.test('every code has an exception name that fits its status', (t) => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const name = exceptionName(code)
    t.match(name, /^[A-Z][A-Za-z]+Exception$/, code)
    if (ERRORS[code].status === 404 && code.startsWith('ERR_RESOURCE')) t.equal(name, 'ResourceNotFoundException')
    if (ERRORS[code].status === 409) t.equal(name, 'ResourceConflictException', code)
    if (ERRORS[code].status === 412) t.equal(name, 'PreconditionFailedException', code)
    if (ERRORS[code].status === 429) t.equal(name, 'TooManyRequestsException', code)
    if (ERRORS[code].fault === 'platform') t.not(name, 'InvalidParameterValueException', code)
  }
  for (const code of ['ERR_BUNDLE_SYNTAX', 'ERR_BUNDLE_THROWS', 'ERR_BUNDLE_ENTROPY', 'ERR_BUNDLE_SECRET', 'ERR_BUNDLE_HANDLE', 'ERR_BUNDLE_LIMIT', 'ERR_BUNDLE_NO_HANDLER', 'ERR_ZIP_INVALID', 'ERR_MODULE_REFUSED'] as const) {
    t.equal(exceptionName(code), 'InvalidParameterValueException', code)
  }
  t.end()
})
