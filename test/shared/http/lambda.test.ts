import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda'
import t from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import type { InvocationResult } from '../../../shared/worker/types.ts'
import { LOCAL, OK, get, openDoor, post, type Harness, type RawResponse } from './harness.ts'

const AUTH = 'Authorization: AWS4-HMAC-SHA256 Credential=any\r\n'
const PATH = '/2015-03-31/functions/hello/invocations'

function invoke(path: string, body: string, headers = ''): string {
  return post(path, body, AUTH + headers)
}

function failed(outcome: InvocationResult['outcome'], error: InvocationResult['error'], more: Partial<InvocationResult> = {}): InvocationResult {
  return { ...OK, outcome, error, ...more }
}

function lambdaError(response: RawResponse): { status: number; name: string | undefined; body: Record<string, unknown> } {
  return { status: response.status, name: response.headers.get('x-amzn-errortype'), body: JSON.parse(response.body) as Record<string, unknown> }
}

function dev(t: Parameters<typeof openDoor>[0]): Promise<Harness> {
  return openDoor(t, { mode: 'dev' })
}

t.test('a body that is not JSON is InvalidRequestContentException and runs nothing', async (t) => {
  const { dispatcher, ask } = await dev(t)
  for (const body of ['{', 'hello', '{"a":1}x', '\xff']) {
    const { status, name, body: answer } = lambdaError(await ask(invoke(PATH, body)))
    t.equal(status, 400)
    t.equal(name, 'InvalidRequestContentException')
    t.match(answer, { Type: 'User', message: /^Could not parse request body into json: /, Message: String, OutpostCode: 'ERR_PAYLOAD_NOT_JSON' })
  }
  t.same(dispatcher.runs, [])
})

t.test('a body beyond 6 MiB is RequestTooLargeException', async (t) => {
  const { dispatcher, ask } = await dev(t)
  const { status, name } = lambdaError(await ask(invoke(PATH, `"${'x'.repeat(6 * 1024 * 1024)}"`)))
  t.equal(status, 413)
  t.equal(name, 'RequestTooLargeException')
  t.same(dispatcher.runs, [])
})

t.test('names, types and contexts that make no sense are refused in Lambda\'s words', async (t) => {
  const { dispatcher, ask } = await dev(t)
  const cases: [path: string, headers: string, name: string][] = [
    ['/2015-03-31/functions/no%20name/invocations', '', 'InvalidParameterValueException'],
    ['/2015-03-31/functions/%zz/invocations', '', 'InvalidParameterValueException'],
    [`${PATH}?Qualifier=a%20b`, '', 'InvalidParameterValueException'],
    ['/2015-03-31/functions/hello%3Aprod/invocations?Qualifier=other', '', 'InvalidParameterValueException'],
    [PATH, 'X-Amz-Invocation-Type: Event\r\n', 'InvalidParameterValueException'],
    [PATH, 'X-Amz-Invocation-Type: Nonsense\r\n', 'InvalidParameterValueException'],
    [PATH, 'X-Amz-Client-Context: bm90IGpzb24=\r\n', 'InvalidRequestContentException'],
    [PATH, `X-Amz-Client-Context: ${'A'.repeat(4000)}\r\n`, 'InvalidRequestContentException'],
  ]
  for (const [path, headers, name] of cases) {
    const answer = lambdaError(await ask(invoke(path, '{}', headers)))
    t.equal(answer.status, 400, path + headers)
    t.equal(answer.name, name, path + headers)
  }
  t.same(dispatcher.runs, [])
})

t.test('what kept a function from running has a status of its own', async (t) => {
  const { dispatcher, ask } = await dev(t)
  const cases: [error: CodedError, status: number, name: string][] = [
    [new CodedError('ERR_FUNCTION_NOT_FOUND', ['hello']), 404, 'ResourceNotFoundException'],
    [new CodedError('ERR_ACCOUNT_LIMIT', [5]), 429, 'TooManyRequestsException'],
    [new CodedError('ERR_FUNCTION_LIMIT', ['hello', 5]), 429, 'TooManyRequestsException'],
    [new CodedError('ERR_QUEUE_FULL', ['5']), 503, 'ServiceException'],
    [new CodedError('ERR_INTERNAL', ['x']), 500, 'ServiceException'],
  ]
  for (const [error, status, name] of cases) {
    dispatcher.onInvoke = (run) => run.sink.fail(error, null)
    const response = await ask(invoke(PATH, '{}'))
    t.equal(response.status, status)
    t.equal(response.headers.get('x-amzn-errortype'), name)
    if (status === 429 || status === 503) t.equal(response.headers.get('retry-after'), '1')
    if (status === 429) t.match(JSON.parse(response.body), { Reason: error.code === 'ERR_ACCOUNT_LIMIT' ? 'ConcurrentInvocationLimitExceeded' : 'ReservedFunctionConcurrentInvocationLimitExceeded', retryAfterSeconds: '1' })
  }
})

t.test('a function that fails is answered with 200 and told apart by a header', async (t) => {
  const { dispatcher, ask } = await dev(t)
  const cases: [result: InvocationResult, payload: object][] = [
    [
      failed('exception', { code: 'ERR_FUNCTION_EXCEPTION', params: ['TypeError: boom'] }, { exception: { name: 'TypeError', message: 'boom', stack: '    at handler (index.mjs:3)\n' } }),
      { errorType: 'TypeError', errorMessage: 'boom', trace: ['TypeError: boom', '    at handler (index.mjs:3)'] },
    ],
    [
      failed('exception', { code: 'ERR_FUNCTION_EXCEPTION', params: ['text'] }, { exception: { name: 'string', message: 'text', stack: '' } }),
      { errorType: 'string', errorMessage: 'text', trace: [] },
    ],
    [failed('exceededWall', { code: 'ERR_LIMIT_WALL', params: [1000, 1003] }), { errorType: 'Sandbox.Timedout', errorMessage: /^RequestId: [0-9a-f-]{36} Error: Task timed out after 1\.00 seconds$/ }],
    [failed('exceededResponse', { code: 'ERR_LIMIT_RESPONSE', params: [1, 2] }), { errorType: 'Function.ResponseSizeTooLarge', errorMessage: 'Response payload size exceeded maximum allowed payload size (6291556 bytes).' }],
    [failed('exceededMemory', { code: 'ERR_LIMIT_MEMORY', params: [128, 129] }), { errorType: 'Runtime.OutOfMemory' }],
    [failed('exceededCpu', { code: 'ERR_LIMIT_CPU', params: [50, 51] }), { errorType: 'ERR_LIMIT_CPU', errorMessage: /50 ms/ }],
    [failed('hung', { code: 'ERR_FUNCTION_HUNG', params: [] }), { errorType: 'Runtime.NodeJsExit', errorMessage: /never settled/ }],
  ]
  for (const [result, payload] of cases) {
    dispatcher.onInvoke = (run) => run.sink.end(result, LOCAL)
    const response = await ask(invoke(PATH, '{}'))
    t.equal(response.status, 200)
    t.equal(response.headers.get('x-amz-function-error'), 'Unhandled')
    t.equal(response.headers.get('x-amz-executed-version'), '7')
    t.match(JSON.parse(response.body), payload)
  }
})

t.test('an event that only the function could parse, and could not, is InvalidRequestContentException', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onInvoke = (run) => run.sink.end(failed('exception', { code: 'ERR_FUNCTION_EXCEPTION', params: [''] }, { exception: { name: 'InvalidRequestContentException', message: 'unexpected end', stack: '' } }), LOCAL)
  const { status, name } = lambdaError(await ask(invoke(PATH, `{"a":"${'x'.repeat(300_000)}"`)))
  t.equal(status, 400)
  t.equal(name, 'InvalidRequestContentException')
})

t.test('a result beyond Lambda\'s limit is ResponseSizeTooLarge, in one piece and streamed', async (t) => {
  const { dispatcher, ask } = await dev(t)
  const large = Buffer.alloc(6_291_557, 'x')
  dispatcher.onInvoke = (run) => run.reply(large)
  const whole = await ask(invoke(PATH, '{}'))
  t.equal(whole.headers.get('x-amz-function-error'), 'Unhandled')
  t.match(JSON.parse(whole.body), { errorType: 'Function.ResponseSizeTooLarge' })
  dispatcher.onInvoke = (run) => {
    run.sink.head(200, '', LOCAL, large.subarray(0, 4_000_000), false)
    run.sink.data(large.subarray(0, 4_000_000))
    run.sink.bodyEnd()
    run.sink.end(OK, LOCAL)
  }
  t.match(JSON.parse((await ask(invoke(PATH, '{}'))).body), { errorType: 'Function.ResponseSizeTooLarge' })
})

t.test('an event carries name, qualifier, ARN, context and trace; no body is {}', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onInvoke = (run) => run.reply('{"ok":true}')
  const arn = 'arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello%3Aprod'
  const context = Buffer.from('{"a":1}').toString('base64')
  const response = await ask(invoke(`/2015-03-31/functions/${arn}/invocations`, '', `X-Amz-Client-Context: ${context}\r\nX-Amzn-Trace-Id: Root=1-2-3\r\n`))
  t.equal(response.status, 200)
  t.equal(response.body, '{"ok":true}')
  t.equal(response.headers.get('content-type'), 'application/json')
  t.equal(response.headers.get('x-amz-executed-version'), '7')
  t.equal(response.headers.get('x-amzn-trace-id'), 'Root=1-2-3')
  t.match(response.headers.get('x-amzn-requestid'), /^[0-9a-f-]{36}$/)
  t.match(dispatcher.runs[0]?.call, {
    account: '123456789012', functionName: 'hello', qualifier: 'prod', invocationKind: 'event', method: 'POST', bodyMore: false, wantLogs: false,
    url: 'arn:aws:lambda:us-east-1:123456789012:function:hello:prod', headers: `x-amz-client-context\n${context}\nx-amzn-trace-id\nRoot=1-2-3`,
  })
  t.equal(dispatcher.runs[0]?.bodyText(), '{}')
  await ask(invoke(`${PATH}?Qualifier=%24LATEST`, '[1]'))
  t.match(dispatcher.runs[1]?.call, { account: '000000000000', functionName: 'hello', qualifier: '$LATEST' })
})

t.test('an empty result is null, and a streamed one is joined', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onInvoke = (run) => run.reply(null)
  t.equal((await ask(invoke(PATH, '{}'))).body, 'null')
  dispatcher.onInvoke = (run) => {
    const bytes = Buffer.from('[1,')
    run.sink.head(200, '', LOCAL, bytes, false)
    bytes.fill(0)
    run.sink.data(Buffer.from('2]'))
    run.sink.bodyEnd()
    run.sink.end(OK, LOCAL)
  }
  t.equal((await ask(invoke(PATH, '{}'))).body, '[1,2]')
})

t.test('Tail gives the last 4 KiB of the log with the lines that tools look for', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onInvoke = (run) => {
    t.equal(run.call.wantLogs, true)
    run.reply('1', { placement: { ...LOCAL, memoryMib: 256 }, result: { ...OK, logs: ['0\tzero', '1\tone', '2\ttwo', '3\tthree\nfour'] } })
  }
  const response = await ask(invoke(PATH, '{}', 'X-Amz-Log-Type: Tail\r\n'))
  t.equal(response.body, '1')
  const log = Buffer.from(response.headers.get('x-amz-log-result') ?? '', 'base64').toString()
  const id = response.headers.get('x-amzn-requestid') ?? ''
  const lines = log.split('\n')
  t.equal(lines[0], `START RequestId: ${id} Version: 7`)
  for (const [at, line] of ['DEBUG\\tzero', 'INFO\\tone', 'WARN\\ttwo', 'ERROR\\tthree\\rfour'].entries()) {
    t.match(lines[1 + at], new RegExp(`^\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z\\t${id}\\t${line}$`))
  }
  t.equal(lines[5], `END RequestId: ${id}`)
  t.equal(lines[6], `REPORT RequestId: ${id}\tDuration: 1.50 ms\tBilled Duration: 2 ms\tMemory Size: 256 MB\tMax Memory Used: 5 MB\t`)
  dispatcher.onInvoke = (run) => run.reply('1', { result: { ...OK, logs: ['1\t' + 'x'.repeat(9000)] } })
  const long = await ask(invoke(PATH, '{}', 'X-Amz-Log-Type: Tail\r\n'))
  t.equal(Buffer.from(long.headers.get('x-amz-log-result') ?? '', 'base64').byteLength, 4096)
})

t.test('Tail on a function that fails has both', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onInvoke = (run) => run.sink.end(failed('exception', { code: 'ERR_FUNCTION_EXCEPTION', params: [''] }, { exception: { name: 'Error', message: 'x', stack: '' } }), LOCAL)
  const response = await ask(invoke(PATH, '{}', 'X-Amz-Log-Type: Tail\r\n'))
  t.match(Buffer.from(response.headers.get('x-amz-log-result') ?? '', 'base64').toString(), /\tERROR\tInvoke Error \t\{"errorType":"Error","errorMessage":"x","stack":\[.*\]\}\nEND/)
  t.equal(response.headers.get('x-amz-function-error'), 'Unhandled')
})

t.test('every other call of the API goes to the control plane as it was signed', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onControl = (call) => Promise.resolve({ status: 201, headers: 'content-type\napplication/json\ndate\nyesterday\nx-amzn-requestid\nabc', body: Buffer.from(`{"n":${call.body.byteLength}}`) })
  const body = 'z'.repeat(300_000)
  const response = await ask(invoke('/2015-03-31/functions?a=%2Fb', body, 'X-Outpost-Anything: kept\r\nConnection: keep-alive\r\n'))
  t.equal(response.status, 201)
  t.equal(response.body, '{"n":300000}')
  t.ok(Math.abs(Date.parse(response.headers.get('date') ?? '') - Date.now()) < 5000, 'SDKs set their clock by Date')
  const [call] = dispatcher.controls
  t.match(call, { method: 'POST', rawPath: '/2015-03-31/functions?a=%2Fb', clientIp: '127.0.0.1' })
  t.equal(call?.headers, 'host\n127.0.0.1\ncontent-length\n300000\nauthorization\nAWS4-HMAC-SHA256 Credential=any\nx-outpost-anything\nkept\nconnection\nkeep-alive')
  for (const path of ['/2017-03-31/tags/x', '/2019-09-25/functions/x/event-invoke-config', '/2021-10-31/functions/x/url', '/2021-11-15/functions/x/response-streaming-invocations', '/2015-03-31/functions/hello/invocationsx']) {
    t.equal((await ask(get(path, AUTH))).status, 201, path)
  }
  t.equal((await ask(invoke(PATH, '{}', 'X-Amz-Invocation-Type: DryRun\r\n'))).status, 201)
  t.equal(dispatcher.controls.length, 7)
  t.same(dispatcher.runs, [])
})

t.test('a control plane that fails, or throws, is answered in Lambda\'s words; 204 has no body', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onControl = () => Promise.reject(new CodedError('ERR_REGION_UNREACHABLE', ['the control plane']))
  t.equal(lambdaError(await ask(get('/2015-03-31/functions', AUTH))).name, 'ServiceException')
  dispatcher.onControl = () => {
    throw new Error('bug')
  }
  t.equal((await ask(get('/2015-03-31/functions', AUTH))).status, 500)
  dispatcher.onControl = () => Promise.resolve({ status: 204, headers: '', body: new Uint8Array(0) })
  const response = await ask(`DELETE /2015-03-31/functions/x HTTP/1.1\r\nHost: localhost\r\n${AUTH}\r\n`)
  t.equal(response.status, 204)
  t.notOk(response.headers.has('content-length'))
})

t.test('in development, other host names and calls without Authorization are refused: a web page could send them', async (t) => {
  const { dispatcher, ask } = await dev(t)
  for (const host of ['evil.example', 'evil.example:8080', '10.0.0.1', 'localhost.evil.example', '127.0.0.1.evil.example']) {
    for (const path of [PATH, '/2015-03-31/functions']) {
      const { status, name } = lambdaError(await ask(`POST ${path} HTTP/1.1\r\nHost: ${host}\r\n${AUTH}Content-Length: 2\r\n\r\n{}`))
      t.equal(status, 403, host)
      t.equal(name, 'AccessDeniedException')
    }
    t.equal((await ask(`GET /metrics HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).status, 403)
  }
  for (const path of [PATH, '/2015-03-31/functions']) {
    t.equal(lambdaError(await ask(post(path, '{}'))).name, 'MissingAuthenticationTokenException')
  }
  t.same([dispatcher.runs, dispatcher.controls], [[], []])
  for (const host of ['localhost', 'localhost:9000', '127.0.0.1:80', '[::1]:80', 'LOCALHOST']) {
    dispatcher.onInvoke = (run) => run.reply('1')
    t.equal((await ask(`POST ${PATH} HTTP/1.1\r\nHost: ${host}\r\n${AUTH}Content-Length: 2\r\n\r\n{}`)).status, 200, host)
  }
})

t.test('a presigned call needs no Authorization header', async (t) => {
  const { dispatcher, ask } = await dev(t)
  dispatcher.onControl = () => Promise.resolve({ status: 200, headers: '', body: Buffer.from('{}') })
  t.equal((await ask(get('/2015-03-31/functions?X-Amz-Signature=abc'))).status, 200)
})

t.test('development listens on loopback only', async (t) => {
  await t.rejects(openDoor(t, { mode: 'dev', host: '0.0.0.0' }), { code: 'ERR_CONFIG' })
})

t.test('without keys, Invoke is relayed as it was signed', async (t) => {
  const { dispatcher, ask } = await openDoor(t, { mode: 'production' })
  dispatcher.onControl = (call) => Promise.resolve({ status: 200, headers: 'x-amz-executed-version\n3', body: call.body })
  const response = await ask(invoke(PATH, '{"a":1}'))
  t.equal(response.body, '{"a":1}')
  t.equal(response.headers.get('x-amz-executed-version'), '3')
  t.match(dispatcher.controls[0], { method: 'POST', rawPath: PATH })
  t.same(dispatcher.runs, [])
})

t.test('with keys, Invoke runs for the account that signed it, over exactly what was signed', async (t) => {
  let verdict: string | CodedError = new CodedError('ERR_SIGNATURE_INVALID', ['no'])
  const seen: unknown[] = []
  const { dispatcher, ask } = await openDoor(t, {
    invokeAuth: { kind: 'verify', verify: (call) => { seen.push([call.method, call.rawPath, call.headers.includes('authorization'), Buffer.from(call.body).toString()]); return verdict } },
  })
  dispatcher.onInvoke = (run) => run.reply('1')
  t.equal(lambdaError(await ask(invoke(`${PATH}?Qualifier=1`, '{}'))).name, 'InvalidSignatureException')
  t.same(dispatcher.runs, [])
  verdict = '111122223333'
  t.equal((await ask(invoke(`${PATH}?Qualifier=1`, '{}'))).status, 200)
  t.equal(dispatcher.runs[0]?.call.account, '111122223333')
  t.same(seen, Array.from({ length: 2 }, () => ['POST', `${PATH}?Qualifier=1`, true, '{}']))
  const foreign = encodeURIComponent('arn:aws:lambda:us-east-1:999988887777:function:hello')
  t.equal(lambdaError(await ask(invoke(`/2015-03-31/functions/${foreign}/invocations`, '{}'))).name, 'ResourceNotFoundException', 'an ARN of another account runs nothing')
  t.equal(dispatcher.runs.length, 1)
})

t.test('an unmodified AWS SDK reads results, function errors, logs and refusals', async (t) => {
  const { dispatcher, port } = await dev(t)
  const client = new LambdaClient({ endpoint: `http://127.0.0.1:${port}`, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, maxAttempts: 1 })
  t.teardown(() => client.destroy())
  dispatcher.onInvoke = (run) => run.reply(run.bodyText())
  const good = await client.send(new InvokeCommand({ FunctionName: 'arn:aws:lambda:us-east-1:123456789012:function:hello:prod', Payload: Buffer.from('{"a":"é"}'), LogType: 'Tail' }))
  t.equal(Buffer.from(good.Payload ?? []).toString(), '{"a":"é"}')
  t.equal(good.ExecutedVersion, '7')
  t.match(Buffer.from(good.LogResult ?? '', 'base64').toString(), /REPORT RequestId/)
  t.match(good.$metadata.requestId, /^[0-9a-f-]{36}$/)
  dispatcher.onInvoke = (run) => run.sink.end(failed('exception', { code: 'ERR_FUNCTION_EXCEPTION', params: [''] }, { exception: { name: 'Error', message: 'boom', stack: '' } }), LOCAL)
  const thrown = await client.send(new InvokeCommand({ FunctionName: 'hello' }))
  t.equal(thrown.FunctionError, 'Unhandled')
  dispatcher.onInvoke = (run) => run.sink.fail(new CodedError('ERR_FUNCTION_NOT_FOUND', ['hello']), null)
  await t.rejects(client.send(new InvokeCommand({ FunctionName: 'hello' })), { name: 'ResourceNotFoundException', message: /hello/ })
})

t.test('the client leaving cancels an event\'s run once', async (t) => {
  const { door, dispatcher, client } = await dev(t)
  const connection = client()
  connection.send(invoke(PATH, '{}'))
  const run = await dispatcher.run()
  connection.destroy()
  await run.until(({ cancels }) => cancels === 1)
  run.sink.end(failed('canceled', { code: 'ERR_CANCELED', params: [] }), LOCAL)
  t.equal(door.inFlight, 0)
})
