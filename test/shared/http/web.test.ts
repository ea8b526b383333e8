import t from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { STREAMED_BODY_MAX_BYTES } from '../../../shared/limits.ts'
import { LOCAL, OK, errorOf, get, openDoor, post } from './harness.ts'

t.test('a failure before a head becomes JSON with code, message and request id, by the registry', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.fail(new CodedError('ERR_FUNCTION_NOT_FOUND', ['hello']), null)
  const response = await ask(get('/fn/hello/'))
  t.equal(response.status, 404)
  const error = errorOf(response)
  t.equal(error.code, 'ERR_FUNCTION_NOT_FOUND')
  t.match(error.message, /hello/)
  t.equal(error.requestId, response.headers.get('x-outpost-request-id'))
})

t.test('overload says when to come back', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.fail(new CodedError('ERR_QUEUE_FULL', ['1']), LOCAL)
  t.equal((await ask(get('/fn/hello/'))).headers.get('retry-after'), '1')
})

t.test('a failure in the middle of a body closes the connection without an end of the body', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => {
    run.sink.head(200, '', LOCAL, Buffer.from('half'), false)
    setImmediate(() => run.sink.fail(new CodedError('ERR_WORKER_LOST', ['x']), LOCAL))
  }
  const connection = client()
  connection.send(get('/fn/hello/'))
  const received = await connection.untilClosed()
  t.match(received, /4\r\nhalf/)
  t.notMatch(received, /\r\n0\r\n/)
})

t.test('an outcome that is not ok in the middle of a body does so too', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => {
    run.sink.head(200, '', LOCAL, Buffer.from('half'), false)
    setImmediate(() => run.sink.end({ ...OK, outcome: 'exceededCpu', error: { code: 'ERR_LIMIT_CPU', params: [50, 51] } }, LOCAL))
  }
  const connection = client()
  connection.send(get('/fn/hello/'))
  t.notMatch(await connection.untilClosed(), /\r\n0\r\n/)
})

t.test('a dispatcher that throws is answered with ERR_INTERNAL', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = () => {
    throw new Error('bug')
  }
  const response = await ask(get('/fn/hello/'))
  t.equal(response.status, 500)
  t.equal(errorOf(response).code, 'ERR_INTERNAL')
})

t.test('what a function threw is shown to developers with its stack, elsewhere not at all', async (t) => {
  for (const mode of ['dev', 'production'] as const) {
    const { dispatcher, ask } = await openDoor(t, { mode })
    dispatcher.onInvoke = (run) => run.sink.end({
      ...OK, outcome: 'exception', error: { code: 'ERR_FUNCTION_EXCEPTION', params: ['TypeError: boom'] }, exception: { name: 'TypeError', message: 'boom', stack: '    at handler (index.mjs:3)' },
    }, LOCAL)
    const response = await ask(get('/fn/hello/'))
    t.equal(response.status, 500)
    t.equal(errorOf(response).code, 'ERR_FUNCTION_EXCEPTION')
    t.equal(response.body.includes('index.mjs:3'), mode === 'dev')
    t.equal(response.body.includes('boom'), mode === 'dev')
  }
})

t.test('the client leaving cancels the run once, and nothing is written after', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  connection.destroy()
  await run.until(({ cancels }) => cancels === 1)
  t.equal(door.inFlight, 1, 'in flight until the run has ended')
  run.reply('too late')
  t.equal(run.cancels, 1)
  t.equal(door.inFlight, 0)
  t.equal(door.metrics.clientAborts, 1)
})

t.test('the client leaving while a body streams cancels the run', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.head(200, '', LOCAL, null, false)
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  run.sink.data(Buffer.from('one'))
  await connection.untilReceived('one')
  connection.destroy()
  await run.until(({ cancels }) => cancels === 1)
  t.ok(run.sink.data(Buffer.from('two')), 'data for nobody asks for no pause')
})

t.test('the client leaving before its body is complete dispatches nothing', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf')
  while (door.inFlight === 0) await new Promise(setImmediate)
  connection.destroy()
  while (door.inFlight === 1) await new Promise(setImmediate)
  t.same(dispatcher.runs, [])
})

t.test('a second end, a second head and data after the end change nothing', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => {
    run.reply('one')
    run.sink.head(500, '', LOCAL, Buffer.from('two'), true)
    run.sink.data(Buffer.from('three'))
    run.sink.bodyEnd()
    run.sink.fail(new CodedError('ERR_INTERNAL', ['four']), LOCAL)
  }
  const connection = client()
  for (let round = 0; round < 2; round++) {
    connection.send(get('/fn/hello/'))
    t.equal((await connection.response()).body, 'one')
  }
})

t.test('a function is called by path, by path with a qualifier, and by host name', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply(JSON.stringify([run.call.functionName, run.call.qualifier, run.call.url]))
  const called = async (request: string): Promise<unknown> => JSON.parse((await ask(request)).body)
  t.same(await called(get('/fn/hello/a/b?c=d&e')), ['hello', null, 'http://127.0.0.1/a/b?c=d&e'])
  t.same(await called(get('/fn/hello')), ['hello', null, 'http://127.0.0.1/'])
  t.same(await called(get('/fn/hello?x')), ['hello', null, 'http://127.0.0.1/?x'])
  t.same(await called(get('/fn/hello:prod/a')), ['hello', 'prod', 'http://127.0.0.1/a'])
  t.same(await called(get('/fn/hello:%24LATEST/a')), ['hello', '$LATEST', 'http://127.0.0.1/a'])
  t.same(await called('GET /fn/x?y=1 HTTP/1.1\r\nHost: hello.localhost:8080\r\n\r\n'), ['hello', null, 'http://hello.localhost:8080/fn/x?y=1'])
})

t.test('a path that is nobody\'s is ERR_ROUTE_NOT_FOUND', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  for (const path of ['/', '/fn', '/fn/', '/fn//x', '/fn/no%20name/', '/fn/a:b:c/', '/healthz', '/metrics', '/favicon.ico']) {
    const response = await ask(get(path))
    t.equal(response.status, 404, path)
    t.equal(errorOf(response).code, 'ERR_ROUTE_NOT_FOUND', path)
  }
  t.same(dispatcher.runs, [])
})

t.test('a call carries method, clean headers, body, account, address and a deadline', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply(null, { status: 204 })
  const before = Date.now()
  const headers = 'X-Custom: a\r\nX-Outpost-Place: forged\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\n'
  const response = await ask(post('/fn/hello/', '{"a":1}', headers))
  t.equal(response.status, 204)
  const [run] = dispatcher.runs
  t.match(run?.call, { account: '000000000000', invocationKind: 'http', method: 'POST', bodyMore: false, clientIp: '127.0.0.1', wantLogs: false })
  t.equal(run?.call.headers, 'host\n127.0.0.1\ncontent-length\n7\nx-custom\na')
  t.equal(run?.bodyText(), '{"a":1}')
  t.ok((run?.call.deadlineAtMs ?? 0) > before + 900_000)
})

t.test('a sane request id is taken over and returned, any other is replaced by a UUID', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply('')
  const first = await ask(get('/fn/hello/', 'X-Request-Id: trace-12345\r\n'))
  t.equal(first.headers.get('x-outpost-request-id'), 'trace-12345')
  t.equal(dispatcher.runs[0]?.call.requestId, 'trace-12345')
  for (const id of ['', 'a b', 'x'.repeat(200), '<script>']) {
    const response = await ask(get('/fn/hello/', `X-Request-Id: ${id}\r\n`))
    t.match(response.headers.get('x-outpost-request-id'), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-/)
  }
})

t.test('an answer says where, how and as what it ran', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply('', { placement: { place: 'region', reason: 'not-hot', version: '3', startKind: 'cold', stale: false } })
  const forwarded = await ask(get('/fn/hello/'))
  t.equal(forwarded.headers.get('x-outpost-place'), 'region; reason=not-hot')
  t.equal(forwarded.headers.get('x-outpost-start'), 'cold')
  t.equal(forwarded.headers.get('x-outpost-version'), '3')
  t.notOk(forwarded.headers.has('x-outpost-stale'))
  dispatcher.onInvoke = (run) => run.reply('', { placement: { place: 'pop', reason: null, version: null, startKind: 'warm', stale: true } })
  const stale = await ask(get('/fn/hello/'))
  t.equal(stale.headers.get('x-outpost-place'), 'pop')
  t.equal(stale.headers.get('x-outpost-stale'), '1')
  t.notOk(stale.headers.has('x-outpost-version'))
})

t.test('HEAD, 204 and 304 have no body and keep the connection usable', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  const cases = [
    { method: 'HEAD', status: 200, headers: '', body: 'hello', length: '5' },
    { method: 'HEAD', status: 200, headers: 'content-length\n99', body: null, length: '99' },
    { method: 'GET', status: 204, headers: '', body: null, length: undefined },
    { method: 'GET', status: 304, headers: 'etag\n"a"', body: null, length: undefined },
    { method: 'GET', status: 304, headers: 'content-length\n77', body: null, length: '77' },
  ]
  for (const { method, status, headers, body, length } of cases) {
    dispatcher.onInvoke = (run) => run.reply(body, { status, headers })
    connection.send(`${method} /fn/hello/ HTTP/1.1\r\nHost: a\r\n\r\n`)
    const response = await connection.response()
    t.equal(response.status, status)
    t.equal(response.headers.get('content-length'), length, `${method} ${status}`)
  }
  dispatcher.onInvoke = (run) => run.reply('still here')
  connection.send(get('/fn/hello/'))
  t.equal((await connection.response()).body, 'still here')
})

t.test('a streamed answer to HEAD stops the run', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.head(200, '', LOCAL, null, false)
  const connection = client()
  connection.send('HEAD /fn/hello/ HTTP/1.1\r\nHost: a\r\n\r\n')
  t.equal((await connection.response()).status, 200)
  t.equal(dispatcher.runs[0]?.cancels, 1)
})

t.test('a streamed answer arrives piece by piece', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.head(200, 'content-type\ntext/event-stream\ncontent-length\n3', LOCAL, null, false)
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  await connection.untilReceived('text/event-stream')
  for (const piece of ['one', '', 'two']) t.ok(run.sink.data(Buffer.from(piece)))
  await connection.untilReceived('two')
  run.sink.bodyEnd()
  const response = await connection.response()
  t.equal(response.body, 'onetwo')
  t.notOk(response.headers.has('content-length'))
  run.sink.end(OK, LOCAL)
})

t.test('a reader that does not read stops the flow until it reads again', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.head(200, '', LOCAL, null, false)
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  connection.pause()
  const chunk = Buffer.alloc(256 * 1024, 'x')
  let sentBytes = 0
  do sentBytes += chunk.byteLength
  while (run.sink.data(chunk) && sentBytes < 64e6)
  t.ok(sentBytes < 64e6, 'asked for a pause')
  t.equal(run.resumes, 0)
  connection.resume()
  await run.until(({ resumes }) => resumes > 0)
  run.sink.bodyEnd()
  run.sink.end(OK, LOCAL)
  t.equal((await connection.response()).body.length, sentBytes)
})

t.test('a body larger than the socket takes at once arrives whole, and from bytes that change afterwards', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  const body = Buffer.alloc(16e6, 'y')
  dispatcher.onInvoke = (run) => {
    run.sink.head(200, '', LOCAL, body, true)
    body.fill('z')
    run.sink.bodyEnd()
    run.sink.end(OK, LOCAL)
  }
  const connection = client()
  connection.send(get('/fn/hello/'))
  await dispatcher.run()
  t.equal(door.inFlight, 1, 'in flight while the socket drains')
  const response = await connection.response()
  t.ok(response.body === 'y'.repeat(16e6))
  t.equal(door.inFlight, 0)
})

t.test('a small body is dispatched whole however it is cut', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply(`${run.call.bodyMore} ${run.bodyText()}`)
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello')
  await new Promise(setImmediate)
  connection.send('world')
  t.equal((await connection.response()).body, 'false helloworld')
})

t.test('a chunked body that is there at once is dispatched whole, and its connection closes', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply(`${run.call.bodyMore} ${run.bodyText()}`)
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n')
  const response = await connection.response()
  t.equal(response.body, 'false helloworld')
  t.equal(response.headers.get('connection'), 'close')
  await connection.untilClosed()
})

t.test('a chunked body that takes time is dispatched early and streamed', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
  const run = await dispatcher.run()
  t.equal(run.call.bodyMore, true)
  connection.send('5\r\nworld\r\n')
  await run.until(() => run.bodyText() === 'helloworld')
  connection.send('0\r\n\r\n')
  await run.until(({ writeEnds }) => writeEnds === 1)
  run.reply('done')
  t.equal((await connection.response()).body, 'done')
})

t.test('a large body is dispatched early, streamed, and can be paused', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  const body = 'b'.repeat(3_000_000)
  connection.send(post('/fn/hello/', body))
  const run = await dispatcher.run()
  t.equal(run.call.bodyMore, true)
  run.sink.pauseBody?.()
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
  t.equal(run.writeEnds, 0)
  t.ok(run.bodyText().length < 1_000_000, 'the rest waits in the socket')
  run.sink.resumeBody?.()
  await run.until(({ writeEnds }) => writeEnds === 1)
  t.ok(run.bodyText() === body)
  run.reply('done')
  t.equal((await connection.response()).body, 'done')
})

t.test('a body that is paused while its answer waits for the client does not keep the answer back', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send(`POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n${'b'.repeat(100_000)}`)
  const run = await dispatcher.run()
  connection.pause()
  run.sink.head(200, '', LOCAL, null, false)
  const piece = Buffer.alloc(15_000, 'a')
  let written = 0
  while (run.sink.data(piece)) written += 1
  run.sink.pauseBody?.()
  for (let sent = 0; sent < 40; sent += 1) connection.send('b'.repeat(500_000))
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
  t.ok(run.bodyText().length <= 600_000, 'nothing is written to who has asked for a pause')
  connection.resume()
  await run.until(({ resumes }) => resumes > 0)
  t.ok(written > 100)
  run.sink.resumeBody?.()
  await run.until(() => run.bodyText().length === 20_100_000)
  connection.destroy()
  await run.until(({ cancels }) => cancels === 1)
})

t.test('a body beyond the bound is ERR_BODY_TOO_LARGE by its length, and the connection survives', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send(post('/fn/hello/', 'b'.repeat(STREAMED_BODY_MAX_BYTES + 1)))
  const response = await connection.response()
  t.equal(response.status, 413)
  t.equal(errorOf(response).code, 'ERR_BODY_TOO_LARGE')
  t.same(dispatcher.runs, [])
  dispatcher.onInvoke = (run) => run.reply('next')
  connection.send(get('/fn/hello/'))
  t.equal((await connection.response()).body, 'next')
})

t.test('a chunked body beyond the bound cancels the run', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
  const chunk = `80000\r\n${'c'.repeat(0x80000)}\r\n`
  for (let sentBytes = 0; sentBytes <= STREAMED_BODY_MAX_BYTES; sentBytes += 0x80000) connection.send(chunk)
  const run = await dispatcher.run()
  await run.until(({ cancels }) => cancels === 1)
  t.equal((await connection.response()).status, 413)
})

t.test('a run that ends within the call that cancels it does not change what the client is told', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => {
    run.onCancel = () => run.sink.end({ ...OK, outcome: 'canceled', error: { code: 'ERR_CANCELED', params: [] } }, LOCAL)
  }
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
  const chunk = `80000\r\n${'c'.repeat(0x80000)}\r\n`
  for (let sentBytes = 0; sentBytes <= STREAMED_BODY_MAX_BYTES; sentBytes += 0x80000) connection.send(chunk)
  t.equal((await connection.response()).status, 413)
})

t.test('Server-Timing is sent where it was asked for', async (t) => {
  const { dispatcher, ask } = await openDoor(t, { serverTiming: true })
  dispatcher.onInvoke = (run) => run.reply('')
  t.match((await ask(get('/fn/hello/'))).headers.get('server-timing'), /^outpost;dur=\d+\.\d\d$/)
})

t.test('an exchange that is never answered is given up long after its deadline', async (t) => {
  const { ManualClock } = await import('../../../shared/clock.ts')
  const clock = new ManualClock()
  const { door, dispatcher, client } = await openDoor(t, { clock, requestTimeoutMs: 1000 })
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  clock.advance(10_000)
  t.equal(run.cancels, 0)
  clock.advance(10_000)
  t.equal(run.cancels, 1)
  t.equal((await connection.response()).status, 500)
  t.equal(door.inFlight, 0)
})

t.test("the first request of a front door may take longer than uWS's own timer, with a body and without", async (t) => {
  const take = async (request: string, rest: string): Promise<void> => {
    const { dispatcher, client } = await openDoor(t)
    const connection = client()
    connection.send(request)
    const run = await dispatcher.run()
    if (rest !== '') connection.send(rest)
    // uWS closes after 10 s, looked at every 4 s of real time.
    await new Promise((resolve) => setTimeout(resolve, 15_000))
    run.reply('late')
    const { status, body } = await connection.response()
    t.same([status, body], [200, 'late'], request)
    t.equal(run.cancels, 0)
  }
  await Promise.all([
    take(get('/fn/hello/'), ''),
    take('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab', ''),
    take('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n' + 'a'.repeat(80_000), 'a'.repeat(20_000)),
    take('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n', ''),
  ])
})
