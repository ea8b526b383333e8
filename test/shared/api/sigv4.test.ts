/** Signatures as the AWS SDK's own signer makes them, and what must not get past. */
import { Sha256 } from '@aws-crypto/sha256-js'
import { SignatureV4 } from '@smithy/signature-v4'
import fc from 'fast-check'
import t from 'tap'
import { SigV4Authenticator } from '../../../shared/api/sigv4.ts'
import { devAuthenticator, parseKeys, type KeyStore } from '../../../shared/api/keys.ts'
import { ManualClock } from '../../../shared/clock.ts'
import { toCodedError, type ErrorCode } from '../../../shared/errors.ts'
import type { ControlCall } from '../../../shared/http/types.ts'
import { SIGNATURE_SKEW_MAX_MS } from '../../../shared/limits.ts'

const SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'
const ACCOUNT = '123456789012'
const keys: KeyStore = { lookup: (id) => (id === 'AKIDEXAMPLE' ? { secret: SECRET, account: ACCOUNT } : null) }

interface Request {
  readonly method?: string
  readonly path?: string
  readonly query?: Record<string, string | string[]>
  readonly headers?: Record<string, string>
  readonly body?: string
}

interface SignOptions {
  readonly accessKeyId?: string
  readonly secret?: string
  readonly service?: string
  readonly sessionToken?: string
  /** False as botocore does: no x-amz-content-sha256. */
  readonly applyChecksum?: boolean
}

function signer({ accessKeyId = 'AKIDEXAMPLE', secret = SECRET, service = 'lambda', sessionToken, applyChecksum = true }: SignOptions = {}): SignatureV4 {
  return new SignatureV4({ service, applyChecksum, region: 'us-east-1', sha256: Sha256, credentials: { accessKeyId, secretAccessKey: secret, ...(sessionToken === undefined ? {} : { sessionToken }) } })
}

function rawQuery(query: Record<string, string | string[] | null | undefined>): string {
  const encode = (text: string): string => encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
  const parts = Object.entries(query).flatMap(([name, value]) => [value ?? []].flat().map((each) => `${encode(name)}=${encode(each)}`))
  return parts.length === 0 ? '' : `?${parts.join('&')}`
}

async function signedCall(clock: ManualClock, { method = 'GET', path = '/2015-03-31/functions', query = {}, headers = {}, body = '' }: Request, options: SignOptions = {}): Promise<ControlCall> {
  const signed = await signer(options).sign(
    { method, protocol: 'http:', hostname: '127.0.0.1', port: 8787, path, query, headers: { host: '127.0.0.1:8787', ...headers }, body: body === '' ? undefined : body },
    { signingDate: new Date(clock.nowMs()) },
  )
  return { requestId: 'r', method, rawPath: path + rawQuery(query), headers: encode(signed.headers), body: Buffer.from(body), clientIp: '' }
}

const encode = (headers: Record<string, string>): string => Object.entries(headers).map(([name, value]) => `${name.toLowerCase()}\n${value}`).join('\n')

function without(call: ControlCall, name: string): ControlCall {
  const parts = call.headers.split('\n')
  const kept: string[] = []
  for (let index = 0; index < parts.length; index += 2) if (parts[index] !== name) kept.push(parts[index] ?? '', parts[index + 1] ?? '')
  return { ...call, headers: kept.join('\n') }
}

function withHeader(call: ControlCall, name: string, value: string): ControlCall {
  return { ...call, headers: `${call.headers}\n${name}\n${value}` }
}

function verdict(clock: ManualClock, call: ControlCall, authenticator = new SigV4Authenticator({ keys, clock })): string {
  try {
    return authenticator.authenticate(call).account
  } catch (error) {
    return toCodedError(error).code
  }
}

await t.test('what was altered on the way is refused', async (t) => {
  const clock = new ManualClock()
  const request: Request = { method: 'POST', path: '/2015-03-31/functions/f/invocations', query: { Qualifier: '1' }, headers: { 'x-amz-invocation-type': 'DryRun', 'content-type': 'application/json' }, body: '{"a":1}' }
  const good = await signedCall(clock, request)
  t.equal(verdict(clock, good), ACCOUNT)
  const replace = (name: string, value: string): ControlCall => withHeader(without(good, name), name, value)
  const cases: [string, ControlCall, ErrorCode][] = [
    ['body', { ...good, body: Buffer.from('{"a":2}') }, 'ERR_SIGNATURE_INVALID'],
    ['no body', { ...good, body: new Uint8Array(0) }, 'ERR_SIGNATURE_INVALID'],
    ['method', { ...good, method: 'PUT' }, 'ERR_SIGNATURE_INVALID'],
    ['path', { ...good, rawPath: good.rawPath.replace('/f/', '/g/') }, 'ERR_SIGNATURE_INVALID'],
    ['query value', { ...good, rawPath: good.rawPath.replace('Qualifier=1', 'Qualifier=2') }, 'ERR_SIGNATURE_INVALID'],
    ['query name added', { ...good, rawPath: `${good.rawPath}&x=1` }, 'ERR_SIGNATURE_INVALID'],
    ['signed header', replace('x-amz-invocation-type', 'Event'), 'ERR_SIGNATURE_INVALID'],
    ['signed header twice', withHeader(good, 'content-type', 'text/plain'), 'ERR_SIGNATURE_INVALID'],
    ['signed header gone', without(good, 'x-amz-invocation-type'), 'ERR_SIGNATURE_INVALID'],
    ['host', replace('host', 'elsewhere'), 'ERR_SIGNATURE_INVALID'],
    ['x-amz header added', withHeader(good, 'x-amz-log-type', 'Tail'), 'ERR_SIGNATURE_INVALID'],
    ['time', replace('x-amz-date', '20231114T221321Z'), 'ERR_SIGNATURE_INVALID'],
    ['time twice', withHeader(good, 'x-amz-date', '20231114T221321Z'), 'ERR_SIGNATURE_INCOMPLETE'],
    ['content hash', replace('x-amz-content-sha256', '0'.repeat(64)), 'ERR_SIGNATURE_INVALID'],
    ['unsigned payload', replace('x-amz-content-sha256', 'UNSIGNED-PAYLOAD'), 'ERR_SIGNATURE_INVALID'],
    ['no content hash', without(good, 'x-amz-content-sha256'), 'ERR_SIGNATURE_INVALID'],
  ]
  for (const [title, call, code] of cases) t.equal(verdict(clock, call), code, title)
  t.equal(verdict(clock, withHeader(good, 'user-agent', 'x')), ACCOUNT, 'unsigned headers that change nothing may be added')
})

await t.test('keys: unknown, wrong, of another service', async (t) => {
  const clock = new ManualClock()
  t.equal(verdict(clock, await signedCall(clock, {}, { accessKeyId: 'AKIDOTHER' })), 'ERR_SIGNATURE_UNKNOWN_KEY')
  t.equal(verdict(clock, await signedCall(clock, {}, { secret: 'wrong' })), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, await signedCall(clock, {}, { service: 's3' })), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, await signedCall(clock, {}, { sessionToken: 'from the environment' })), ACCOUNT)
})

await t.test('malformed headers are incomplete, never a crash', async (t) => {
  const clock = new ManualClock()
  const good = await signedCall(clock, {})
  const authorization = /authorization\n([^\n]*)/.exec(good.headers)?.[1] ?? ''
  const use = (value: string): string => verdict(clock, withHeader(without(good, 'authorization'), 'authorization', value))
  t.equal(verdict(clock, without(good, 'authorization')), 'ERR_SIGNATURE_MISSING')
  t.equal(use(authorization), ACCOUNT)
  t.equal(use(authorization.replaceAll(', ', ',')), ACCOUNT, 'commas without spaces')
  for (const value of [
    '', 'Bearer x', 'AWS4-HMAC-SHA256', 'AWS4-HMAC-SHA256 x', authorization.replace('AWS4-HMAC-SHA256', 'AWS4-HMAC-SHA512'), authorization.replace(/Signature=.*/, 'Signature=zz'),
    authorization.replace(/Signature=.*/, ''), authorization.replace('/aws4_request', ''), authorization.replace('/aws4_request', '/aws4_request/x'), authorization.replace('host;', ''),
    authorization.replace('SignedHeaders=', 'SignedHeaders=;'), authorization.replace('SignedHeaders=', 'SignedHeaders=host;'), `${authorization}, Signature=${'0'.repeat(64)}`,
  ]) t.equal(use(value), 'ERR_SIGNATURE_INCOMPLETE', value.slice(0, 60))
  t.equal(verdict(clock, withHeader(good, 'authorization', authorization)), 'ERR_SIGNATURE_INCOMPLETE', 'given twice')
  t.equal(verdict(clock, without(good, 'x-amz-date')), 'ERR_SIGNATURE_INCOMPLETE')
  t.equal(verdict(clock, withHeader(without(good, 'x-amz-date'), 'x-amz-date', '20239999T999999Z')), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, { ...good, rawPath: `${good.rawPath}?%zz` }), 'ERR_SIGNATURE_INCOMPLETE')
  fc.assert(fc.property(fc.string({ maxLength: 300 }), fc.string({ maxLength: 80 }), (value, query) => /^ERR_SIGNATURE_/.test(verdict(clock, { ...good, rawPath: `/x?${query}`, headers: `host\nh\nx-amz-date\n20231114T221320Z\nauthorization\n${value.replaceAll('\n', '')}` }))))
})

await t.test('a signature is valid for the skew, on both sides', async (t) => {
  const clock = new ManualClock()
  const call = await signedCall(clock, {})
  clock.advance(SIGNATURE_SKEW_MAX_MS)
  t.equal(verdict(clock, call), ACCOUNT)
  clock.advance(1)
  t.equal(verdict(clock, call), 'ERR_SIGNATURE_EXPIRED')
  const early = new ManualClock(clock.nowMs() + SIGNATURE_SKEW_MAX_MS)
  const future = await signedCall(early, {})
  early.advance(1000)
  t.equal(verdict(clock, future), ACCOUNT)
  t.equal(verdict(clock, await signedCall(early, {})), 'ERR_SIGNATURE_EXPIRED')
  const midnight = new ManualClock(Date.parse('2024-01-01T00:00:10Z'))
  const before = new ManualClock(Date.parse('2023-12-31T23:59:50Z'))
  t.equal(verdict(midnight, await signedCall(before, {})), ACCOUNT, 'the scope is that of the signing day')
})

await t.test('paths with escapes and queries of all kinds verify', async (t) => {
  const clock = new ManualClock()
  for (const request of [
    { path: '/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello%3Aprod/invocations' },
    { path: '/2015-03-31/functions/' },
    { path: '/' },
    { query: { Qualifier: '$LATEST' } },
    { query: { b: '2', a: ['2', '1'], A: 'x', 'c d': '', e: "!'()*~-_." } },
    { query: { Marker: 'a+b/c==&d=ü' } },
    { headers: { 'x-amz-meta': '  a   b  ' } },
    { method: 'PUT', body: 'ü'.repeat(1000) },
  ] satisfies Request[]) t.equal(verdict(clock, await signedCall(clock, request)), ACCOUNT, JSON.stringify(request).slice(0, 80))
  await fc.assert(fc.asyncProperty(fc.dictionary(fc.string({ minLength: 1, unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), { maxKeys: 5 }), fc.webSegment(), async (query, segment) => {
    // A name that the signer itself cannot hold in an object.
    const plain = Object.fromEntries(Object.entries(query).filter(([name]) => name !== 'X-Amz-Algorithm' && name !== '__proto__'))
    return verdict(clock, await signedCall(clock, { path: `/2015-03-31/functions/${encodeURIComponent(segment.replace(/^\.+$/, 'x'))}`, query: plain })) === ACCOUNT
  }), { numRuns: 60 })
})

await t.test('without x-amz-content-sha256 the body is hashed here', async (t) => {
  const clock = new ManualClock()
  const call = await signedCall(clock, { method: 'POST', body: '{"a":1}' }, { applyChecksum: false })
  t.notMatch(call.headers, /x-amz-content-sha256/)
  t.equal(verdict(clock, call), ACCOUNT)
  t.equal(verdict(clock, { ...call, body: Buffer.from('{"a":2}') }), 'ERR_SIGNATURE_INVALID')
})

await t.test('presigned URLs verify until they expire', async (t) => {
  const clock = new ManualClock()
  const presign = async (expiresIn: number, headers: Record<string, string> = {}): Promise<ControlCall> => {
    const signed = await signer().presign(
      { method: 'GET', protocol: 'http:', hostname: '127.0.0.1', port: 8787, path: '/2015-03-31/functions/f', query: { Qualifier: '1' }, headers: { host: '127.0.0.1:8787', ...headers } },
      { signingDate: new Date(clock.nowMs()), expiresIn },
    )
    return { requestId: 'r', method: 'GET', rawPath: signed.path + rawQuery(signed.query ?? {}), headers: encode(signed.headers), body: new Uint8Array(0), clientIp: '' }
  }
  const call = await presign(60)
  t.equal(verdict(clock, call), ACCOUNT)
  t.equal(verdict(clock, { ...call, rawPath: call.rawPath.replace('Qualifier=1', 'Qualifier=2') }), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, { ...call, rawPath: call.rawPath.replace('X-Amz-Expires=60', 'X-Amz-Expires=6000') }), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, { ...call, rawPath: call.rawPath.replace('X-Amz-Expires=60', 'X-Amz-Expires=9999999') }), 'ERR_SIGNATURE_INCOMPLETE')
  t.equal(verdict(clock, { ...call, rawPath: `${call.rawPath}&X-Amz-Expires=60` }), 'ERR_SIGNATURE_INCOMPLETE')
  t.equal(verdict(clock, withHeader(call, 'x-amz-invocation-type', 'Event')), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, withHeader(call, 'authorization', 'AWS4-HMAC-SHA256 x')), 'ERR_SIGNATURE_INCOMPLETE', 'both forms at once')
  clock.advance(60_001)
  t.equal(verdict(clock, call), 'ERR_SIGNATURE_EXPIRED')
})

await t.test('a changed secret takes effect at once, and many keys do not accumulate', async (t) => {
  const clock = new ManualClock()
  let secret = SECRET
  const authenticator = new SigV4Authenticator({ keys: { lookup: () => ({ secret, account: ACCOUNT }) }, clock })
  const call = await signedCall(clock, {})
  t.equal(verdict(clock, call, authenticator), ACCOUNT)
  secret = 'rotated'
  t.equal(verdict(clock, call, authenticator), 'ERR_SIGNATURE_INVALID')
  t.equal(verdict(clock, await signedCall(clock, {}, { secret }), authenticator), ACCOUNT)
  for (let index = 0; index < 1_100; index += 1) verdict(clock, await signedCall(clock, {}, { accessKeyId: `AKID${index}`, secret }), authenticator)
  t.equal(verdict(clock, await signedCall(clock, {}, { secret }), authenticator), ACCOUNT)
})

await t.test('development accepts any header of the right shape, and demands one', (t) => {
  const call = (headers: string, rawPath = '/'): ControlCall => ({ requestId: 'r', method: 'GET', rawPath, headers, body: new Uint8Array(0), clientIp: '' })
  t.same(devAuthenticator.authenticate(call('authorization\nAWS4-HMAC-SHA256 Credential=ABC/20240101/us-east-1/lambda/aws4_request, x')), { account: '000000000000', accessKeyId: 'ABC' })
  t.equal(devAuthenticator.authenticate(call('authorization\nBearer x')).account, '000000000000')
  t.equal(devAuthenticator.authenticate(call('', '/x?X-Amz-Credential=ABC/1/2/3/4')).accessKeyId, 'ABC')
  t.throws(() => devAuthenticator.authenticate(call('host\nx')), { code: 'ERR_SIGNATURE_MISSING' })
  t.throws(() => devAuthenticator.authenticate(call('authorization\nx')), { code: 'ERR_SIGNATURE_INCOMPLETE' })
  t.end()
})

await t.test('a keys file is checked, and its errors do not show secrets', (t) => {
  const entry = { accessKeyId: 'AKIDEXAMPLE', secret: 'a-secret-of-some-length', account: ACCOUNT }
  const store = parseKeys(JSON.stringify({ keys: [entry] }))
  t.same(store.lookup('AKIDEXAMPLE'), { secret: entry.secret, account: ACCOUNT })
  t.equal(store.lookup('toString'), null)
  for (const text of ['', '[]', '{"keys":{}}', JSON.stringify({ keys: [entry, entry] }), JSON.stringify({ keys: [{ ...entry, account: '12' }] }), JSON.stringify({ keys: [{ ...entry, secret: 'short-secret' }] }), JSON.stringify({ keys: [{ ...entry, extra: 1 }] })]) {
    try {
      parseKeys(text)
      t.fail(`${text} was accepted`)
    } catch (error) {
      t.match(toCodedError(error), { code: 'ERR_CONFIG' })
      t.notMatch(toCodedError(error).message, /short-secret|a-secret/)
    }
  }
  t.end()
})
