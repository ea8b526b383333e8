/** deploy, invoke, logs, list, delete against a server that answers as told. */
import t, { type Test } from 'tap'
import { unzipSync } from 'fflate'
import { runHere } from '../../support/cli.ts'
import { functionAnswer, startFakeRegion, type Asked, type FakeAnswer } from '../../support/fake-region.ts'

const HELLO = `export default { fetch() { return new Response('hello') } }\n`
const missing: FakeAnswer = { status: 404, headers: { 'x-amzn-errortype': 'ResourceNotFoundException' }, body: { OutpostCode: 'ERR_RESOURCE_NOT_FOUND', message: 'Function not found: x' } }

async function region(t: Test, answer: (asked: Asked) => FakeAnswer): ReturnType<typeof startFakeRegion> {
  const fake = await startFakeRegion(answer)
  t.teardown(() => fake.close())
  return fake
}

function bodyOf(asked: Asked | undefined): Record<string, unknown> {
  return JSON.parse(asked?.body ?? 'null') as Record<string, unknown>
}

t.test('an endpoint where nothing listens is named with what to do', async (t) => {
  const ran = await runHere(['list', '--endpoint', 'http://127.0.0.1:9'])
  t.equal(ran.code, 1)
  t.match(ran.err, /^outpost: ERR_ENDPOINT_UNREACHABLE: Nothing answers at http:\/\/127\.0\.0\.1:9 .*outpost dev.*--endpoint/)
  t.equal(ran.err.split('\n').length, 2, 'one line')
  t.equal(ran.out, '')
})

t.test('an error is JSON on stdout where JSON was asked for', async (t) => {
  const ran = await runHere(['list', '--json', '--endpoint', 'http://127.0.0.1:9'])
  t.equal(ran.code, 1)
  t.match(JSON.parse(ran.out), { error: { code: 'ERR_ENDPOINT_UNREACHABLE', requestId: null } })
})

t.test('--debug adds the stack, and nothing else does', async (t) => {
  t.match((await runHere(['list', '--debug', '--endpoint', 'http://127.0.0.1:9'])).err, /\n\s+at .*api-client/)
  t.notMatch((await runHere(['list', '--endpoint', 'http://127.0.0.1:9'])).err, /\n\s+at /)
})

t.test('an endpoint that is no http address is a usage error that says where it came from', async (t) => {
  const byOption = await runHere(['list', '--endpoint', 'localhost:8787'])
  t.equal(byOption.code, 2)
  t.match(byOption.err, /--endpoint/)
  const byEnvironment = await runHere(['list'], { env: { OUTPOST_ENDPOINT: 'ftp://x' } })
  t.equal(byEnvironment.code, 2)
  t.match(byEnvironment.err, /OUTPOST_ENDPOINT/)
})

t.test('half a key pair is refused before anything is sent', async (t) => {
  const ran = await runHere(['list'], { env: { OUTPOST_ACCESS_KEY_ID: 'a' } })
  t.equal(ran.code, 1)
  t.match(ran.err, /ERR_CONFIG: OUTPOST_ACCESS_KEY_ID and OUTPOST_SECRET_ACCESS_KEY/)
})

t.test('a server that is no Outpost is said to be none', async (t) => {
  for (const answer of [{ status: 200, body: '<html>' }, { status: 200, body: { other: 1 } }, { status: 500, body: 'oops' }]) {
    const fake = await region(t, () => answer)
    const ran = await runHere(['list', '--endpoint', fake.url])
    t.equal(ran.code, 1)
    t.match(ran.err, /ERR_ENDPOINT_ANSWER/)
  }
})

t.test("the server's code and message reach the user with the request id", async (t) => {
  const fake = await region(t, () => ({ ...missing, headers: { ...missing.headers, 'x-amzn-requestid': 'r-1' } }))
  const ran = await runHere(['delete', 'nope', '--endpoint', fake.url])
  t.equal(ran.code, 1)
  t.equal(ran.err, 'outpost: ERR_RESOURCE_NOT_FOUND: Function not found: x (request r-1)\n')
})

t.test('an error of the front door is read too', async (t) => {
  const fake = await region(t, () => ({ status: 404, body: { error: { code: 'ERR_ROUTE_NOT_FOUND', message: 'Nothing is served at /x', requestId: 'r' } } }))
  t.match((await runHere(['list', '--endpoint', fake.url])).err, /^outpost: ERR_ROUTE_NOT_FOUND: Nothing is served at \/x\n/)
})

t.test('without our code the name that AWS gives is used', async (t) => {
  const fake = await region(t, () => ({ status: 403, headers: { 'x-amzn-errortype': 'InvalidSignatureException:http://x' }, body: { message: 'no' } }))
  t.match((await runHere(['list', '--endpoint', fake.url])).err, /^outpost: InvalidSignatureException: no/)
})

t.test('invoke', async (t) => {
  await t.test('a payload that is no JSON is not sent', async (t) => {
    const fake = await region(t, () => ({ status: 200 }))
    const ran = await runHere(['invoke', 'f', '--payload', '{oops', '--endpoint', fake.url])
    t.equal(ran.code, 1)
    t.match(ran.err, /ERR_PAYLOAD_NOT_JSON/)
    t.equal(fake.asked.length, 0)
  })
  await t.test('a payload file that is not there', async (t) => {
    t.match((await runHere(['invoke', 'f', '--payload', '@nothing.json'])).err, /ERR_ENTRY_NOT_FOUND: There is no file nothing\.json/)
  })
  await t.test('a function that failed: its answer on stdout, exit code 1', async (t) => {
    const fake = await region(t, () => ({ status: 200, headers: { 'x-amz-function-error': 'Unhandled' }, body: { errorMessage: 'boom' } }))
    const ran = await runHere(['invoke', 'f', '--payload', '{}', '--endpoint', fake.url])
    t.equal(ran.code, 1)
    t.equal(ran.out, '{"errorMessage":"boom"}\n')
    t.match(ran.err, /f failed \(Unhandled\)/)
  })
  await t.test('payload from stdin and from a file, the log tail on stderr', async (t) => {
    const dir = t.testdir({ 'event.json': '{"from":"file"}' })
    const fake = await region(t, (asked) => ({ status: 200, headers: { 'x-amz-log-result': Buffer.from('line\n').toString('base64') }, body: asked.body }))
    const byStdin = await runHere(['invoke', 'f', '-p', '-', '--tail', '--endpoint', fake.url], { stdin: '{"from":"stdin"}' })
    t.same(byStdin, { code: 0, out: '{"from":"stdin"}\n', err: 'line\n' })
    t.equal(fake.asked[0]?.headers['x-amz-log-type'], 'Tail')
    const byFile = await runHere(['invoke', 'f', '-p', '@event.json', '-q', 'prod', '--endpoint', fake.url], { cwd: dir })
    t.same(byFile, { code: 0, out: '{"from":"file"}\n', err: '' })
    t.equal(fake.asked[1]?.path, '/2015-03-31/functions/f/invocations?Qualifier=prod')
  })
  await t.test('--json tells place, version and start kind', async (t) => {
    const headers = { 'x-amz-executed-version': '7', 'x-outpost-place': 'pop', 'x-amzn-requestid': 'r-2' }
    const fake = await region(t, () => ({ status: 200, headers, body: 'null' }))
    const ran = await runHere(['invoke', 'f', '--json', '--endpoint', fake.url])
    t.match(JSON.parse(ran.out), { status: 200, functionError: null, executedVersion: '7', place: 'pop', requestId: 'r-2', payload: null })
  })
})

t.test('deploy', async (t) => {
  await t.test('an entry that is not there, or is a directory without a project', async (t) => {
    const dir = t.testdir({ sub: {} })
    t.match(await runHere(['deploy', 'no.js'], { cwd: dir }), { code: 1, err: /ERR_ENTRY_NOT_FOUND: There is no file no\.js/ })
    t.match(await runHere(['deploy', 'sub'], { cwd: dir }), { code: 2, err: /ERR_USAGE: .*sub has no outpost\.jsonc/ })
  })
  await t.test('names and values that cannot be are usage errors, nothing is sent', async (t) => {
    const dir = t.testdir({ 'a.js': HELLO })
    const fake = await region(t, () => missing)
    const wrong = [['--name', 'no spaces'], ['--name', 'x'.repeat(65)], ['--var', 'NOVALUE'], ['--var', '1A=b'], ['--secret', 'A', '--secret', 'B'], ['--timeout', '0'], ['--memory', 'lots'], ['--cpu-ms', '1.5'], ['--nonsense']]
    for (const options of wrong) {
      const ran = await runHere(['deploy', 'a.js', ...options, '--endpoint', fake.url], { cwd: dir })
      t.equal(ran.code, 2, options.join(' '))
    }
    t.equal(fake.asked.length, 0)
  })
  await t.test('code that does not compile gives file, line and column', async (t) => {
    const dir = t.testdir({ 'a.js': 'let x = \n' })
    t.match(await runHere(['deploy', 'a.js', '--name', 'a'], { cwd: dir }), { code: 1, err: /ERR_BUNDLE_SYNTAX: .*a\.js:2:1: Unexpected end of file/ })
  })
  await t.test('a new function is created with all that was said, secrets from stdin', async (t) => {
    const dir = t.testdir({ 'a.js': HELLO })
    const fake = await region(t, (asked) => (asked.method === 'GET' ? missing : { status: 201, body: functionAnswer('f', { Outpost: { Report: { primed: true, primeNote: 'GET /', warnings: ['careful'], buildMs: 9, pages: 12 } } }) }))
    const ran = await runHere(
      ['deploy', 'a.js', '--name', 'f', '--var', 'A=1', '--var', 'B=x=y', '--secret', 'KEY', '--secret', 'K2=v', '--timeout', '3', '--memory', '64', '--cpu-ms', '20', '--prime', '/', '--prime', '/api', '--json', '--endpoint', fake.url],
      { cwd: dir, stdin: 's3cret\n' },
    )
    t.equal(ran.code, 0, ran.err)
    t.match(JSON.parse(ran.out), { name: 'f', created: true, version: '$LATEST', url: `${fake.url}/fn/f/`, report: { primed: true, warnings: ['careful'] } })
    t.notMatch(ran.out + ran.err, /s3cret/)
    const [, create] = fake.asked
    t.match(create, { method: 'POST', path: '/2015-03-31/functions', headers: { authorization: /^AWS4-HMAC-SHA256 Credential=dev\/\d{8}\/us-east-1\/lambda\/aws4_request/ } })
    const { Code: code, ...members } = bodyOf(create)
    t.match(members, {
      FunctionName: 'f', Timeout: 3, MemorySize: 64, Publish: false, Environment: { Variables: { A: '1', B: 'x=y' } },
      Outpost: { Secrets: { KEY: 's3cret', K2: 'v' }, Prime: ['/', '/api'], Limits: { CpuMs: 20 } },
    })
    const zip = unzipSync(Buffer.from((code as { ZipFile: string }).ZipFile, 'base64'))
    t.same(Object.keys(zip), ['index.mjs', 'index.mjs.map'])
    t.match(Buffer.from(zip['index.mjs'] ?? []).toString(), /new Response\("hello"\)/)
  })
  await t.test('one that exists is updated; settings are touched only if given', async (t) => {
    const dir = t.testdir({ 'a.js': HELLO })
    const fake = await region(t, () => ({ status: 200, body: functionAnswer('a') }))
    t.equal((await runHere(['deploy', 'a.js', '--endpoint', fake.url], { cwd: dir })).code, 0)
    t.same(fake.asked.map(({ method, path }) => `${method} ${path}`), ['GET /2015-03-31/functions/a/configuration', 'PUT /2015-03-31/functions/a/code'])
    t.equal((await runHere(['deploy', 'a.js', '--no-prime', '--endpoint', fake.url], { cwd: dir })).code, 0)
    t.equal(fake.asked[3]?.path, '/2015-03-31/functions/a/configuration')
    t.same(bodyOf(fake.asked[3]), { Outpost: { Prime: false } })
    t.equal(bodyOf(fake.asked[1]).ZipFile, bodyOf(fake.asked[4]).ZipFile, 'the same bundle is the same zip')
  })
  await t.test('a function that somebody creates at the same time is updated', async (t) => {
    const dir = t.testdir({ 'a.js': HELLO })
    const fake = await region(t, ({ method }) => (method === 'GET' ? missing : method === 'POST' ? { status: 409, body: { OutpostCode: 'ERR_CONFLICT', message: 'Function already exist: a' } } : { status: 200, body: functionAnswer('a') }))
    t.equal((await runHere(['deploy', 'a.js', '--endpoint', fake.url], { cwd: dir })).code, 0)
    t.equal(fake.asked.at(-1)?.method, 'PUT')
  })
  await t.test('--alias publishes and makes the alias if there is none', async (t) => {
    const dir = t.testdir({ 'a.js': HELLO })
    const fake = await region(t, ({ path, method }) => {
      if (!path.includes('/aliases')) return { status: 200, body: functionAnswer('a', { Version: '4' }) }
      return method === 'PUT' ? missing : { status: 201, body: { Name: 'prod', FunctionVersion: '4', AliasArn: 'arn' } }
    })
    t.equal((await runHere(['deploy', 'a.js', '--alias', 'prod', '--endpoint', fake.url], { cwd: dir })).code, 0)
    t.equal(bodyOf(fake.asked[1]).Publish, true)
    t.same(bodyOf(fake.asked.at(-1)), { Name: 'prod', FunctionVersion: '4' })
  })
})

t.test('list: a table for people, the records for programs, all pages', async (t) => {
  const fake = await region(t, ({ path }) =>
    path.includes('Marker') ? { status: 200, body: { Functions: [functionAnswer('b')], NextMarker: null } } : { status: 200, body: { Functions: [functionAnswer('a', { CodeSize: 2048, MemorySize: 128, Timeout: 30 })], NextMarker: 'm+/=' } })
  const table = await runHere(['list', '--endpoint', fake.url])
  t.equal(table.out, 'NAME  CODE     MEMORY   TIMEOUT  MODIFIED\na     2.0 KiB  128 MiB  30 s     -\nb     -        -        -        -\n')
  t.equal(fake.asked[1]?.path, '/2015-03-31/functions?Marker=m%2B%2F%3D')
  const json = await runHere(['list', '--json', '--endpoint', fake.url])
  t.match(JSON.parse(json.out), [{ FunctionName: 'a' }, { FunctionName: 'b' }])
})

t.test('delete says so, and as JSON', async (t) => {
  const fake = await region(t, () => ({ status: 204 }))
  t.same(await runHere(['delete', 'a', '--endpoint', fake.url]), { code: 0, out: '', err: 'deleted a\n' })
  t.same(await runHere(['delete', 'a', '--json', '--endpoint', fake.url]), { code: 0, out: '{"name":"a","deleted":true}\n', err: '' })
})

t.test('logs prints what is kept; --follow goes on from there until stopped', async (t) => {
  const event = { Timestamp: 0, Level: 'info', Message: 'hi', RequestId: 'r', Version: null, Place: 'pop' }
  const stop = new AbortController()
  const fake = await region(t, ({ path }) => {
    if (!path.includes('NextToken')) return { status: 200, body: { Events: [event], NextToken: 't1' } }
    stop.abort()
    return { status: 200, body: { Events: [{ ...event, Message: 'later' }], NextToken: 't2' } }
  })
  t.same(await runHere(['logs', 'f', '--endpoint', fake.url]), { code: 0, out: '1970-01-01T00:00:00.000Z  r  INFO   hi\n', err: '' })
  const followed = await runHere(['logs', 'f', '--follow', '--json', '--endpoint', fake.url], { stop: stop.signal })
  t.equal(followed.code, 0)
  t.same(followed.out.trim().split('\n').map((line) => (JSON.parse(line) as typeof event).Message), ['hi', 'later'])
  t.match(fake.asked.at(-1)?.path, /NextToken=t1/)
  t.match((await runHere(['logs', '--help'])).out, /A POP prints its own and those of its region/)
})
