import { test } from 'tap'
import { Machine, run, type Output } from './harness.ts'

const event = (source: string, body = '{"a":1}', options = {}): Promise<Output> => run(source, { kind: 'event', body }, options)
const parsed = (out: Output): Record<string, unknown> => JSON.parse(out.text) as Record<string, unknown>

const failing: readonly (readonly [title: string, source: string, failure: object])[] = [
  ['throws', `export const handler = () => { throw new RangeError('boom') }`, { name: 'RangeError', message: 'boom', stack: /bundle\.js/ }],
  ['rejects', `export const handler = async () => { throw new Error('boom') }`, { name: 'Error', message: 'boom' }],
  ['rejects with a string', `export const handler = async () => { throw 'text' }`, { name: 'string', message: 'text' }],
  ['calls back with an error', `export const handler = (event, context, callback) => { callback(new TypeError('cb')) }`, { name: 'TypeError', message: 'cb' }],
  ['calls context.fail', `export const handler = (event, context) => { context.fail(new Error('f')) }`, { message: 'f' }],
  ['calls context.done with an error', `export const handler = (event, context) => { context.done(new Error('d')) }`, { message: 'd' }],
  ['returns a cycle', `export const handler = async () => { const a = {}; a.a = a; return a }`, { name: 'TypeError' }],
  ['returns a BigInt', `export const handler = async () => 1n`, { name: 'TypeError' }],
]
for (const [title, source, failure] of failing) {
  void test(`an event handler that ${title} fails the invocation once`, async (t) => {
    const out = await event(source)
    t.match(out.failure, failure)
    t.equal(out.respondCount, 0)
    t.equal(out.doneCount, 1)
  })
}

void test('a payload that is not JSON fails', async (t) => {
  t.match((await event(`export const handler = async () => 1`, '{')).failure, { name: 'SyntaxError' })
})

void test('an empty payload is an empty object', async (t) => {
  t.equal((await event(`export const handler = async (event) => event`, '')).text, '{}')
})

void test('JSON in, JSON out', async (t) => {
  const out = await event(`export const handler = async (event) => ({ b: event.a + 1, u: undefined })`)
  t.match(out, { status: 200, headers: [['content-type', 'application/json']], text: '{"b":2}', respondCount: 1, doneCount: 1 })
})

for (const [title, source, text] of [
  ['undefined', `async () => {}`, 'null'],
  ['null', `async () => null`, 'null'],
  ['a string', `async () => 'x'`, '"x"'],
  ['a value without a promise', `() => ({ a: 1 })`, '{"a":1}'],
  ['nothing at all', `() => {}`, 'null'],
  ['a thenable', `() => ({ then(ok) { ok(5) } })`, '5'],
  ['by callback', `(event, context, callback) => { callback(null, { a: 2 }) }`, '{"a":2}'],
  ['by a late callback', `(event, context, callback) => { setTimeout(() => callback(null, 3), 5) }`, '3'],
  ['by succeed', `(event, context) => { context.succeed(4) }`, '4'],
  ['by done', `(event, context) => { context.done(null, 5) }`, '5'],
  ['by a callback that never comes', `(event, context, callback) => {}`, 'null'],
  ['by a callback that does not come after work', `(event, context, callback) => { setTimeout(() => setTimeout(() => {}, 5), 5) }`, 'null'],
  ['by a callback at the end of several steps', `(event, context, callback) => { setTimeout(() => void Promise.resolve().then(() => setTimeout(() => callback(null, 6), 5)), 5) }`, '6'],
  ['by callback twice', `(event, context, callback) => { callback(null, 1); callback(null, 2) }`, '1'],
] as const) {
  void test(`an answer of ${title}`, async (t) => {
    const out = await event(`export const handler = ${source}`)
    t.equal(out.text, text)
    t.equal(out.failure, null)
    t.equal(out.doneCount, 1)
    t.equal(out.respondCount, 1)
  })
}

void test('a callback waits for work under way', async (t) => {
  const out = await event(`export const handler = (event, context, callback) => { setTimeout(() => console.log('later'), 5); callback(null, 1) }`)
  t.same(out.logs, ['1 later'])
  t.equal(out.doneCount, 1)
})

void test('a callback waits for work that work under way begins', async (t) => {
  const out = await event(`export const handler = (event, context, callback) => { setTimeout(() => void Promise.resolve().then(() => setTimeout(() => console.log('much later'), 5)), 5); callback(null, 1) }`)
  t.same(out.logs, ['1 much later'])
  t.equal(out.doneCount, 1)
})

void test('an asynchronous handler that can never answer hangs', async (t) => {
  t.match(await event(`export const handler = async () => { await new Promise(() => {}) }`), { hung: true, respondCount: 0, doneCount: 0 })
})

void test('callbackWaitsForEmptyEventLoop false does not wait', async (t) => {
  const out = await event(`export const handler = (event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => console.log('later'), 5); callback(null, 1) }`)
  t.same(out.logs, [])
})

void test('the context has what Lambda has', async (t) => {
  const out = await event(`export const handler = async (event, context) => ({ ...context, left: context.getRemainingTimeInMillis() })`)
  t.match(parsed(out), {
    functionName: 'hello', functionVersion: '7', invokedFunctionArn: 'arn:aws:lambda:local:123456789012:function:hello', memoryLimitInMB: '128', awsRequestId: 'req-1',
    logGroupName: '/aws/lambda/hello', logStreamName: /^\d{4}\/\d\d\/\d\d\/\[7\]/, callbackWaitsForEmptyEventLoop: true, left: 30000,
  })
})

void test('variables and secrets are found where bundlers send process.env', async (t) => {
  t.equal((await event(`export const handler = async () => [__OUTPOST_ENV__.A, __OUTPOST_ENV__.S, typeof process]`, '{}', { vars: { A: '1' }, secrets: { S: '2' } })).text, '["1","2","undefined"]')
})

void test('a secret read at top level is refused', async (t) => {
  await t.rejects(Machine.create(`const s = __OUTPOST_ENV__.S; export const handler = () => s`, { secrets: { S: 'x' } }), { message: /ERR_BUNDLE_SECRET/ })
})

void test('a handler of CommonJS made into a default export is found', async (t) => {
  const machine = await Machine.create(`export default { handler: async () => 'cjs' }`, { handlerExport: 'handler' })
  t.equal(machine.invoke({ kind: 'event', body: '{}' }).text, '"cjs"')
})

void test('the next invocation of a session waits anew', async (t) => {
  const machine = await Machine.create(`export const handler = async (event, context) => { context.callbackWaitsForEmptyEventLoop = !context.callbackWaitsForEmptyEventLoop; return context.callbackWaitsForEmptyEventLoop }`)
  t.equal(machine.invoke({ kind: 'event', body: '{}' }).text, 'false')
  t.equal(machine.invoke({ kind: 'event', body: '{}' }).text, 'false')
})

const whole = `export const handler = async (event) => ({ statusCode: 200, body: JSON.stringify(event) })`

void test('an event handler gets a request as an event of format 2.0', async (t) => {
  const out = await run(whole, {
    method: 'POST', url: 'http://hello.localhost/a%20b/c?x=1&y=%C3%A9&x=2', body: '{"hé":1}',
    headers: [['content-type', 'application/json'], ['user-agent', 'test/1'], ['x-a', '1'], ['x-a', '2'], ['cookie', 'a=1; b=2']],
  })
  t.match(parsed(out), {
    version: '2.0', routeKey: '$default', rawPath: '/a%20b/c', rawQueryString: 'x=1&y=%C3%A9&x=2', cookies: ['a=1', 'b=2'],
    headers: { 'content-type': 'application/json', 'x-a': '1,2' }, queryStringParameters: { x: '1,2', y: 'é' },
    requestContext: {
      domainName: 'hello.localhost', http: { method: 'POST', path: '/a%20b/c', protocol: 'HTTP/1.1', sourceIp: '203.0.113.9', userAgent: 'test/1' },
      requestId: 'req-1', time: /^\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d \+0000$/, timeEpoch: Number,
    },
    body: '{"hé":1}', isBase64Encoded: false,
  })
})

void test('a request without query, cookies and body has none in the event', async (t) => {
  const out = parsed(await run(whole, { url: 'http://hello.localhost' }))
  t.match(out, { rawPath: '/', rawQueryString: '', isBase64Encoded: false })
  for (const absent of ['cookies', 'queryStringParameters', 'body']) t.notOk(absent in out)
})

void test('bytes come as base64', async (t) => {
  const out = parsed(await run(whole, { method: 'POST', body: new Uint8Array([0, 255]), headers: [['content-type', 'image/png']] }))
  t.match(out, { body: 'AP8=', isBase64Encoded: true })
})

void test('text that is not UTF-8 comes as base64', async (t) => {
  t.match(parsed(await run(whole, { method: 'POST', body: new Uint8Array([0xff]), headers: [['content-type', 'text/plain']] })), { body: '/w==', isBase64Encoded: true })
})

void test('a streamed body is collected for the event', async (t) => {
  t.match(parsed(await run(whole, { method: 'POST', chunks: ['a', 'b'], headers: [['content-type', 'text/plain']] })), { body: 'ab' })
})

const answers: readonly (readonly [title: string, result: string, expected: object])[] = [
  ['with a statusCode', `{ statusCode: 404, headers: { 'X-A': 1, 'content-type': 'text/html' }, cookies: ['a=1', 'b=2'], body: 'hé' }`, { status: 404, headers: [['x-a', '1'], ['content-type', 'text/html'], ['set-cookie', 'a=1'], ['set-cookie', 'b=2']], text: 'hé' }],
  ['without a content type', `{ statusCode: 200, body: '{}' }`, { headers: [['content-type', 'application/json']] }],
  ['in base64', `{ statusCode: 200, body: 'AP8=', isBase64Encoded: true }`, { body: Buffer.from([0, 255]) }],
  ['with multiValueHeaders', `{ statusCode: 200, multiValueHeaders: { a: ['1', '2'] } }`, { headers: [['a', '1'], ['a', '2'], ['content-type', 'application/json']] }],
  ['with a statusCode as text', `{ statusCode: '201' }`, { status: 201, text: '' }],
  ['with an object as body', `{ statusCode: 200, body: { a: 1 } }`, { text: '{"a":1}' }],
  ['without a statusCode', `{ a: 1 }`, { status: 200, headers: [['content-type', 'application/json']], text: '{"a":1}' }],
  ['of a string', `'hello'`, { status: 200, headers: [['content-type', 'application/json']], text: 'hello' }],
  ['of undefined', `undefined`, { status: 200, text: 'null' }],
  ['of a number', `5`, { status: 200, text: '5' }],
]
for (const [title, result, expected] of answers) {
  void test(`an HTTP answer ${title}`, async (t) => {
    t.match(await run(`export const handler = async () => (${result})`), expected)
  })
}

for (const result of [`{ statusCode: 'x' }`, `{ statusCode: 99 }`, `{ statusCode: 200, headers: { 'a b': '1' } }`, `{ statusCode: 200, headers: { a: 'b\\nc' } }`, `{ statusCode: 200, body: '*', isBase64Encoded: true }`]) {
  void test(`the HTTP answer ${result} fails`, async (t) => {
    const out = await run(`export const handler = async () => (${result})`)
    t.ok(out.failure)
    t.equal(out.respondCount, 0)
    t.equal(out.doneCount, 1)
  })
}

const echo = `export default { async fetch(request) { const r = Response.json([request.method, request.url, [...request.headers], await request.text()], { status: 201 }); r.headers.append('set-cookie', 'a=1'); return r } }`

void test('a payload for a fetch handler is POST / with it as JSON, and the body is the result', async (t) => {
  const out = await event(echo, '{"k":"é"}')
  t.equal(out.status, 200)
  t.same(out.headers, [['content-type', 'application/json']])
  t.same(parsed(out), ['POST', 'http://localhost/', [['content-type', 'application/json']], '{"k":"é"}'])
})

void test('an HTTP event for a fetch handler is that request, and the response an object of format 2.0', async (t) => {
  const payload = { version: '2.0', rawPath: '/p', rawQueryString: 'q=1', headers: { host: 'h.example', 'x-a': 'b' }, cookies: ['c=1', 'd=2'], requestContext: { domainName: 'd.example', http: { method: 'PUT', sourceIp: '1.2.3.4' } }, body: 'aMOp', isBase64Encoded: true }
  const out = parsed(await event(echo, JSON.stringify(payload)))
  t.match(out, { statusCode: 201, headers: { 'content-type': 'application/json' }, cookies: ['a=1'], isBase64Encoded: false })
  t.same(JSON.parse(out['body'] as string), ['PUT', 'https://d.example/p?q=1', [['cookie', 'c=1; d=2'], ['host', 'h.example'], ['x-a', 'b']], 'hé'])
})

void test('bytes of a response come back in base64', async (t) => {
  const payload = { version: '2.0', rawPath: '/', requestContext: { http: { method: 'GET' } } }
  t.match(parsed(await event(`export default { fetch() { return new Response(new Uint8Array([0, 255]), { headers: { 'content-type': 'image/png' } }) } }`, JSON.stringify(payload))), { body: 'AP8=', isBase64Encoded: true })
})

void test('a stream is collected for an event', async (t) => {
  t.equal((await event(`export default { fetch() { return new Response(ReadableStream.from([new Uint8Array([49]), new Uint8Array([50])])) } }`)).text, '12')
})

void test('a fetch handler that fails fails the event', async (t) => {
  const out = await event(`export default { async fetch() { throw new Error('x') } }`)
  t.match(out.failure, { message: 'x' })
  t.equal(out.doneCount, 1)
})

void test('a fetch handler that returns no Response fails the event', async (t) => {
  t.match((await event(`export default { async fetch() { return 1 } }`)).failure, { name: 'TypeError' })
})

void test('an event on a module without a handler fails', async (t) => {
  t.match((await event(`export const x = 1`)).failure, { name: 'TypeError' })
})

void test('what an Invoke says is in the context, for each event of a session', async (t) => {
  const machine = await Machine.create(`export const handler = async (event, { invokedFunctionArn, functionVersion, clientContext }) => ({ invokedFunctionArn, functionVersion, clientContext, trace: __OUTPOST_ENV__._X_AMZN_TRACE_ID })`)
  const url = 'arn:aws:lambda:local:123456789012:function:hello:prod'
  const clientContext = { Custom: { é: '1' }, client: { app_title: 'a' } }
  const headers: [string, string][] = [['x-amz-client-context', Buffer.from(JSON.stringify(clientContext)).toString('base64')], ['x-amzn-trace-id', 'Root=1-2-3'], ['x-outpost-version', '12']]
  t.same(parsed(machine.invoke({ kind: 'event', body: '{}', url, headers })), { invokedFunctionArn: url, functionVersion: '12', clientContext, trace: 'Root=1-2-3' })
  t.same(parsed(machine.invoke({ kind: 'event', body: '{}' })), { invokedFunctionArn: url.replace(':prod', ''), functionVersion: '7' })
  t.same(parsed(machine.invoke({ headers: [['x-amz-client-context', 'e30='], ['x-outpost-version', '9']] })), { invokedFunctionArn: url.replace('prod', '7'), functionVersion: '7' }, 'headers of a request say nothing of it')
})

void test("Lambda's variables are there at top level and in the handler, behind the function's own; a fetch handler has none", async (t) => {
  const read = `(() => { const env = __OUTPOST_ENV__; return [env.AWS_LAMBDA_FUNCTION_NAME, env.AWS_LAMBDA_FUNCTION_VERSION, env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE, env.AWS_REGION, env._HANDLER, env.LAMBDA_TASK_ROOT, env.TZ, 'AWS_EXECUTION_ENV' in env] })()`
  const out = await event(`const top = ${read}; export const handler = async () => [top, ${read}]`, '{}', { vars: { AWS_REGION: 'mine' } })
  const values = ['hello', '7', '128', 'mine', 'index.handler', '/var/task', ':UTC', true]
  t.same(JSON.parse(out.text), [values, values])
  t.equal((await run(`export default { fetch: (request, env) => Response.json(Object.keys(env)) }`, {}, { vars: { TZ: 'x', A: 'b' } })).text, '["TZ","A"]')
})
