/** Requests and responses made to confuse: sent as bytes, and judged by what the front door dispatches. */
import t from 'tap'
import { LOCAL, OK, errorOf, get, openDoor, type Harness, type RawResponse } from './harness.ts'

/** Follows each hostile request on the same connection. It must never be taken for a request of its own. */
const SMUGGLED = 'GET /fn/smuggled/ HTTP/1.1\r\nHost: a\r\n\r\n'

async function smuggled(harness: Harness, request: string | Buffer): Promise<{ received: string; dispatched: string[] }> {
  const connection = harness.client()
  connection.send(Buffer.concat([Buffer.from(request), Buffer.from(SMUGGLED)]))
  const received = await connection.untilClosed()
  return { received, dispatched: harness.dispatcher.runs.map((run) => run.call.functionName) }
}

t.test('ambiguous framing is refused with 400, the connection closes, and nothing behind it runs', async (t) => {
  const cases: Record<string, string> = {
    'two Content-Length': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
    'two equal Content-Length': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello',
    'an empty Content-Length': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n',
    'Transfer-Encoding: xchunked': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    'Transfer-Encoding: gzip, chunked': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    'Transfer-Encoding: chunked, identity': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
    'two Transfer-Encoding': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'two Host': 'GET /fn/f/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
    'an empty Host': 'GET /fn/f/ HTTP/1.1\r\nHost:\r\n\r\n',
    'a malformed Host': 'GET /fn/f/ HTTP/1.1\r\nHost: a@b\r\n\r\n',
    'a Host with a path': 'GET /fn/f/ HTTP/1.1\r\nHost: a/b\r\n\r\n',
    'a Host with a space': 'GET /fn/f/ HTTP/1.1\r\nHost: a b\r\n\r\n',
    'a Host whose port is none': 'GET /fn/f/ HTTP/1.1\r\nHost: a:99999\r\n\r\n',
    'a Host that is nearly an address': 'GET /fn/f/ HTTP/1.1\r\nHost: 127.999.0.1\r\n\r\n',
    'a Host that is nearly an IPv6 address': 'GET /fn/f/ HTTP/1.1\r\nHost: [::1::]\r\n\r\n',
    'a method in lower case': 'get /fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'a method that is no token': 'G@T /fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'TRACE': 'TRACE /fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'CONNECT': 'CONNECT /fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n',
    '%00 in the path': 'GET /fn/f/%00 HTTP/1.1\r\nHost: a\r\n\r\n',
    '%00 in the query': 'GET /fn/f/?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n',
    'a fragment': 'GET /fn/f/#x HTTP/1.1\r\nHost: a\r\n\r\n',
    'DEL in the path': 'GET /fn/f/\x7f HTTP/1.1\r\nHost: a\r\n\r\n',
    'DEL in a value': 'GET /fn/f/ HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n',
  }
  const harness = await openDoor(t)
  harness.dispatcher.onInvoke = (run) => run.reply('')
  for (const [name, request] of Object.entries(cases)) {
    // Alone: a proper answer.
    const alone = harness.client()
    alone.send(request)
    const response = await alone.response()
    t.equal(response.status, 400, name)
    t.equal(errorOf(response).code, 'ERR_REQUEST_FRAMING', name)
    t.equal(response.headers.get('connection'), 'close', name)
    await alone.untilClosed()
    // With something behind it: no answer to that.
    t.same((await smuggled(harness, request)).dispatched, [], name)
  }
})

t.test('bytes that are no UTF-8 in a value or a path are refused', async (t) => {
  const harness = await openDoor(t)
  for (const request of ['GET /fn/f/ HTTP/1.1\r\nHost: a\r\nX: a\xe9b\r\n\r\n', 'GET /fn/f/\xe9 HTTP/1.1\r\nHost: a\r\n\r\n', 'GET /fn/f/\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n']) {
    const connection = harness.client()
    connection.send(Buffer.from(request, 'latin1'))
    t.equal((await connection.response()).status, 400)
  }
  t.same(harness.dispatcher.runs, [])
})

t.test('UTF-8 in a value reaches the function as the bytes that were sent', async (t) => {
  const harness = await openDoor(t)
  harness.dispatcher.onInvoke = (run) => run.reply('')
  await harness.ask(Buffer.from('GET /fn/f/ HTTP/1.1\r\nHost: a\r\nX: [é]\r\n\r\n'))
  t.equal(harness.dispatcher.runs[0]?.call.headers, `host\na\nx\n[${Buffer.from('é').toString('latin1')}]`)
})

t.test('what uWS refuses by itself stays refused: an upgrade must not let it through', async (t) => {
  const cases: Record<string, string | Buffer> = {
    'both framings': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'Transfer-Encoding: identity': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n',
    'a negative length': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello',
    'a length with a sign': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello',
    'a hexadecimal length': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello',
    'a list of lengths': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello',
    'a huge length': 'POST /fn/f/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello',
    'the absolute form': 'GET http://evil/fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'the asterisk form': 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n',
    'a target without a slash': 'GET fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'HTTP/1.0': 'GET /fn/f/ HTTP/1.0\r\nHost: a\r\n\r\n',
    'HTTP/2 preface': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'no Host': 'GET /fn/f/ HTTP/1.1\r\nX: y\r\n\r\n',
    'bare line feeds': 'GET /fn/f/ HTTP/1.1\nHost: a\n\n',
    'a space in the path': 'GET /fn/f/ x HTTP/1.1\r\nHost: a\r\n\r\n',
    'a tab in the path': 'GET /fn/f/\tx HTTP/1.1\r\nHost: a\r\n\r\n',
    'NUL in the path': 'GET /fn/f/\0 HTTP/1.1\r\nHost: a\r\n\r\n',
    'more headers than uWS takes': `GET /fn/f/ HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(120)}\r\n`,
    'larger headers than we take': `GET /fn/f/ HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(33_000)}\r\n\r\n`,
  }
  for (const [name, request] of Object.entries(cases)) {
    const harness = await openDoor(t)
    harness.dispatcher.onInvoke = (run) => run.reply('')
    const { received, dispatched } = await smuggled(harness, request)
    t.match(received, /^(HTTP\/1\.1 (4\d\d|505) |$)/, name)
    t.same(dispatched, [], name)
  }
})

t.test('malformed chunks end the request before its body is taken for complete', async (t) => {
  for (const chunks of ['zz\r\nhello\r\n0\r\n\r\n', '5;ext=1\r\nhello\r\n0\r\n\r\n', 'ffffffffffffffff1\r\nhello\r\n0\r\n\r\n', '0x5\r\nhello\r\n0\r\n\r\n', '-1\r\nhello\r\n0\r\n\r\n']) {
    const harness = await openDoor(t)
    const connection = harness.client()
    connection.send(`POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`)
    await connection.untilClosed()
    t.same(harness.dispatcher.runs.filter((run) => !run.call.bodyMore), [], chunks)
  }
})

t.test('uWS reads past a wrong end of chunk and past trailers: what follows a chunked body is cut off with its connection', async (t) => {
  for (const chunks of ['5\r\nhelloXX0\r\nXX', '5\nhello\n0\n\n', '5\r\nhello\r\n0\r\nX: y\r\n\r\n']) {
    const harness = await openDoor(t)
    const connection = harness.client()
    connection.send(`POST /fn/f/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}${SMUGGLED}`)
    const run = await harness.dispatcher.run()
    setImmediate(() => run.reply(''))
    await connection.untilClosed()
    t.same(harness.dispatcher.runs.map(({ call }) => call.functionName), ['f'], chunks)
  }
})

t.test('a request behind an unanswered one closes the connection: answers can never be mixed up', async (t) => {
  const harness = await openDoor(t)
  const connection = harness.client()
  connection.send(get('/fn/first/') + get('/fn/second/'))
  const run = await harness.dispatcher.run()
  await connection.untilClosed()
  await run.until(({ cancels }) => cancels === 1)
  t.equal(harness.dispatcher.runs.length, 1)
})

t.test('headers that a function may not send are ERR_FUNCTION_BAD_RESPONSE', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  for (const headers of ['x\na\r\nset-cookie: evil=1', 'x\na\0b', 'x\na\u0001b', 'x\na\x7fb', 'x\nsnow \u2603', 'x y\na', '\na', 'x:\na', 'x', 'x\na\nb', `x\n${'y'.repeat(40_000)}`]) {
    dispatcher.onInvoke = (run) => run.reply('body', { headers })
    const response = await ask(get('/fn/f/'))
    t.equal(response.status, 502, JSON.stringify(headers.slice(0, 40)))
    t.equal(errorOf(response).code, 'ERR_FUNCTION_BAD_RESPONSE')
    t.notOk(response.headers.has('set-cookie'))
  }
})

t.test('a status that no response has is ERR_FUNCTION_BAD_RESPONSE', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  for (const status of [0, 100, 101, 199, 600, 200.5, Number.NaN, -200, Infinity]) {
    dispatcher.onInvoke = (run) => run.reply('body', { status })
    t.equal((await ask(get('/fn/f/'))).status, 502, String(status))
  }
})

t.test('a bad head on a streamed answer stops the run', async (t) => {
  const { dispatcher, ask } = await openDoor(t)
  dispatcher.onInvoke = (run) => {
    run.sink.head(200, 'x\r\n\na', LOCAL, null, false)
    t.ok(run.sink.data(Buffer.from('x')))
  }
  t.equal((await ask(get('/fn/f/'))).status, 502)
  t.equal(dispatcher.runs[0]?.cancels, 1)
})

t.test('framing, hop-by-hop and x-outpost headers of a function are dropped, all others kept in order', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const dropped = ['content-length\n9999', 'transfer-encoding\nchunked', 'connection\nclose', 'keep-alive\n5', 'te\nx', 'trailer\nx', 'upgrade\nh2c', 'date\nnever', 'proxy-authenticate\nx', 'proxy-foo\nx', 'X-Outpost-Place\nmoon', 'x-outpost-request-id\nforged']
  const kept = ['set-cookie\na=1', 'set-cookie\nb=2', 'X-Custom\t'.trim() + '\nyes\tno', 'x-latin\ncaf\xe9']
  dispatcher.onInvoke = (run) => run.reply('hello', { headers: [...dropped, ...kept].join('\n') })
  const connection = client()
  for (let round = 0; round < 2; round++) {
    connection.send(get('/fn/f/'))
    const { lines, body, headers } = await connection.response()
    t.equal(body, 'hello')
    t.same(lines.slice(0, 4), ['set-cookie: a=1', 'set-cookie: b=2', 'x-custom: yes\tno', 'x-latin: caf\xe9'])
    t.equal(lines.filter((line) => /^content-length:/i.test(line)).join(), 'Content-Length: 5')
    t.equal(headers.get('x-outpost-place'), 'pop')
    t.equal(lines.filter((line) => /^(date|connection|transfer-encoding):/i.test(line)).length, 1, 'uWS\'s own Date only')
    t.ok(Math.abs(Date.parse(headers.get('date') ?? '') - Date.now()) < 5000)
  }
})

t.test('any header string at all leaves one well-formed answer', async (t) => {
  const { seededRandom } = await import('../../../shared/random.ts')
  const random = seededRandom(20_261)
  const { dispatcher, client } = await openDoor(t)
  const alphabet = ['\n', '\r', '\0', ':', ' ', '\t', 'a', 'content-length', '0', '5', '\xe9', '\u2603', 'x', ';', '"', '\n', 'transfer-encoding', 'chunked']
  const connection = client()
  for (let round = 0; round < 300; round++) {
    let headers = ''
    for (let part = random.below(12); part > 0; part--) headers += alphabet[random.below(alphabet.length)] ?? ''
    dispatcher.onInvoke = (run) => run.reply('0123456789', { headers })
    connection.send(get('/fn/f/'))
    const response: RawResponse = await connection.response()
    t.ok(response.status === 200 ? response.body === '0123456789' : response.status === 502, `round ${round}: ${JSON.stringify(headers)}`)
  }
})

t.test('closing the front door in the middle of everything throws nothing', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.sink.head(200, '', LOCAL, Buffer.from('x'), false)
  const connections = [client(), client(), client()]
  for (const connection of connections) connection.send(get('/fn/f/'))
  await dispatcher.run(2)
  await door.close()
  for (const run of dispatcher.runs) {
    t.equal(run.cancels, 1)
    run.sink.data(Buffer.from('late'))
    run.sink.bodyEnd()
    run.sink.end(OK, LOCAL)
  }
  t.equal(door.inFlight, 0)
})
