/** Draining, health, metrics and bounds. */
import { connect } from 'node:net'
import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { CodedError } from '../../../shared/errors.ts'
import { ArrayHistogram, DURATION_BOUNDS_MS } from '../../../shared/http/metrics.ts'
import { BODIES_BUFFERED_MAX_BYTES } from '../../../shared/limits.ts'
import { LOCAL, OK, RawClient, errorOf, get, openDoor, post } from './harness.ts'

function refusesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.on('error', () => resolve(true))
  })
}

t.test('draining accepts no connection, loses nothing in flight, and closes each connection with its answer', async (t) => {
  const { door, dispatcher, client, port } = await openDoor(t)
  const waiting = client()
  const streaming = client()
  waiting.send(get('/fn/waiting/'))
  streaming.send(get('/fn/streaming/'))
  const [first, second] = [await dispatcher.run(0), await dispatcher.run(1)]
  second.sink.head(200, '', LOCAL, Buffer.from('a'), false)
  const drained = door.drain(10_000)
  t.ok(await refusesConnections(port))
  let isDrained = false
  void drained.then(() => {
    isDrained = true
  })
  await new Promise(setImmediate)
  t.equal(isDrained, false)
  first.reply('done')
  const response = await waiting.response()
  t.equal(response.body, 'done')
  t.equal(response.headers.get('connection'), 'close')
  second.sink.data(Buffer.from('b'))
  second.sink.bodyEnd()
  second.sink.end(OK, LOCAL)
  t.equal((await streaming.response()).body, 'ab')
  await drained
  await waiting.untilClosed()
  await streaming.untilClosed()
})

t.test('a request on an open connection is still served while draining', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  const [busy, idle] = [client(), client()]
  busy.send(get('/fn/busy/'))
  const run = await dispatcher.run()
  dispatcher.onInvoke = (next) => next.reply('late')
  idle.send(get('/fn/idle/'))
  t.equal((await idle.response()).body, 'late')
  const drained = door.drain(10_000)
  idle.send(get('/fn/idle/'))
  const response = await idle.response()
  t.equal(response.body, 'late')
  t.equal(response.headers.get('connection'), 'close')
  run.reply('x')
  await drained
})

t.test('at the deadline what is left is cancelled and answered with an error; a second drain waits for the first', async (t) => {
  const clock = new ManualClock()
  const { door, dispatcher, client } = await openDoor(t, { clock })
  const connection = client()
  connection.send(get('/fn/slow/'))
  const run = await dispatcher.run()
  const both = Promise.all([door.drain(1_000), door.drain(1_000)])
  const pump = setInterval(() => clock.advance(100), 1)
  await both
  clearInterval(pump)
  t.equal(run.cancels, 1)
  t.match(await connection.untilClosed(), /^HTTP\/1\.1 502 .*ERR_WORKER_LOST/s)
  t.equal(door.inFlight, 0)
})

t.test('work after the answer counts as in flight', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  run.sink.head(200, '', LOCAL, Buffer.from('x'), true)
  run.sink.bodyEnd()
  await connection.response()
  t.equal(door.inFlight, 1)
  const drained = door.drain(10_000)
  connection.destroy()
  await new Promise(setImmediate)
  t.equal(run.cancels, 0, 'waitUntil work outlives its client')
  run.sink.end(OK, LOCAL)
  await drained
  t.equal(door.inFlight, 0)
})

t.test('a port that is taken is ERR_PORT_IN_USE', async (t) => {
  const { port } = await openDoor(t)
  await t.rejects(openDoor(t, { port }), { code: 'ERR_PORT_IN_USE', message: new RegExp(String(port)) })
  await t.rejects(openDoor(t, { adminPort: port }), { code: 'ERR_PORT_IN_USE' })
})

t.test('a port that was given up can be listened on at once, old connections or not', async (t) => {
  const first = await openDoor(t)
  first.dispatcher.onInvoke = (run) => run.reply('x')
  const connection = first.client()
  connection.send(get('/fn/hello/'))
  await connection.response()
  await first.door.close()
  await connection.untilClosed()
  t.equal((await openDoor(t, { port: first.port })).port, first.port)
})

t.test('operators have a port of their own, and it outlives the drain', async (t) => {
  const { door, dispatcher, adminPort, ask, client } = await openDoor(t, { adminPort: 0 })
  const admin = async (path: string): Promise<{ status: number; body: string }> => {
    const connection = new RawClient(adminPort ?? 0)
    connection.send(get(path))
    const response = await connection.response()
    connection.destroy()
    return response
  }
  t.equal((await ask(get('/healthz'))).status, 404)
  t.match(await admin('/healthz'), { status: 200, body: '{"status":"alive"}' })
  t.match(await admin('/readyz'), { status: 200, body: /"ready".*"fake":true/ })
  dispatcher.ready = false
  t.match(await admin('/readyz'), { status: 503, body: /"not ready"/ })
  dispatcher.ready = true
  t.equal((await admin('/fn/hello/')).status, 404)
  const connection = client()
  connection.send(get('/fn/hello/'))
  const run = await dispatcher.run()
  const drained = door.drain(10_000)
  t.match(await admin('/readyz'), { status: 503, body: /"draining":true/ })
  t.match((await admin('/metrics')).body, /http_server_active_requests 2/)
  run.reply('x')
  await drained
})

t.test('metrics count requests, starts, places, outcomes and times, with bounded labels', async (t) => {
  const { dispatcher, ask } = await openDoor(t, { mode: 'dev' })
  dispatcher.onInvoke = (run) => run.reply('x')
  await ask(get('/fn/secret-name/'))
  dispatcher.onInvoke = (run) => run.reply('x', { placement: { place: 'region', reason: 'not-hot', version: null, startKind: 'cold', stale: true } })
  await ask(get('/fn/secret-name/'))
  dispatcher.onInvoke = (run) => run.reply('x', { placement: { place: 'region', reason: 'made-up', version: null, startKind: null, stale: false } })
  await ask(get('/fn/secret-name/'))
  dispatcher.onInvoke = (run) => run.sink.end({ ...OK, outcome: 'exceededWall', error: { code: 'ERR_LIMIT_WALL', params: [1, 2] } }, LOCAL)
  await ask(get('/fn/secret-name/'))
  dispatcher.onInvoke = (run) => run.sink.fail(new CodedError('ERR_QUEUE_FULL', ['1']), null)
  await ask(get('/fn/secret-name/'))
  await ask(get('/nothing/here'))
  const response = await ask(get('/metrics'))
  t.match(response.headers.get('content-type'), /^text\/plain/)
  for (const line of [
    'pop_http_requests_total{route="web",status="2xx"} 3', 'pop_http_requests_total{route="web",status="5xx"} 2', 'pop_http_requests_total{route="refused",status="4xx"} 1',
    'pop_invocation_starts_total{kind="warm"} 2', 'pop_invocation_starts_total{kind="cold"} 1', 'pop_invocation_starts_total{kind="unknown"} 1',
    'pop_invocation_places_total{reason="local"} 2', 'pop_invocation_places_total{reason="not-hot"} 1', 'pop_invocation_places_total{reason="other"} 1',
    'pop_invocation_outcomes_total{outcome="ok"} 3', 'pop_invocation_outcomes_total{outcome="exceededWall"} 1', 'pop_invocation_failures_total{fault="overload"} 1',
    'pop_invocation_stale_total 1', 'faas_invocations_total 3', 'faas_timeouts_total 1', 'faas_errors_total 0', 'faas_coldstarts_total 1',
    'http_server_request_duration_seconds_count{http_route="web"} 5', 'faas_invoke_duration_seconds_count 4', 'faas_invoke_duration_seconds_bucket{le="0.002"} 4',
    'faas_invoke_duration_seconds_bucket{le="0.001"} 0',
  ]) t.ok(response.body.includes(`${line}\n`), line)
  t.notMatch(response.body, /secret-name|made-up/)
})

t.test('a histogram puts each value under the first bound that is not below it', async (t) => {
  const histogram = new ArrayHistogram(DURATION_BOUNDS_MS)
  for (const bound of DURATION_BOUNDS_MS) {
    histogram.record(bound)
    histogram.record(bound * 1.0001)
  }
  t.same(histogram.counts, [1, ...DURATION_BOUNDS_MS.slice(1).map(() => 2), 1])
  t.equal(histogram.count(), DURATION_BOUNDS_MS.length * 2)
})

t.test('recording costs less than 0.3 us', async (t) => {
  const { door } = await openDoor(t)
  const rounds = 200_000
  let bestUs = Infinity
  for (let attempt = 0; attempt < 5; attempt++) {
    const startedAtMs = performance.now()
    for (let round = 0; round < rounds; round++) {
      door.metrics.answered(0, 200, round % 20)
      door.metrics.ended(OK, LOCAL)
    }
    bestUs = Math.min(bestUs, ((performance.now() - startedAtMs) * 1000) / rounds)
  }
  t.ok(bestUs < 0.3, `${bestUs} us`)
})

t.test('requests beyond the bound are refused at once', async (t) => {
  const { dispatcher, client, ask } = await openDoor(t, { exchangesMax: 2 })
  for (const connection of [client(), client()]) connection.send(get('/fn/hello/'))
  await dispatcher.run(1)
  const refused = await ask(get('/fn/hello/'))
  t.equal(refused.status, 503)
  t.equal(errorOf(refused).code, 'ERR_QUEUE_FULL')
  t.equal(refused.headers.get('retry-after'), '1')
  dispatcher.runs[0]?.reply('x')
  dispatcher.onInvoke = (run) => run.reply('y')
  t.equal((await ask(get('/fn/hello/'))).body, 'y')
})

t.test('bodies that are held are counted and given back, whatever ends them', async (t) => {
  const { door, dispatcher, client } = await openDoor(t, { mode: 'dev' })
  const connection = client()
  connection.send(post('/fn/hello/', 'x'.repeat(200_000)))
  const run = await dispatcher.run()
  await run.until(({ writeEnds }) => writeEnds === 1)
  t.equal(door.metrics.bodies.used, 200_000)
  run.reply('x')
  await connection.response()
  t.equal(door.metrics.bodies.used, 0)
  const leaving = client()
  leaving.send('POST /2015-03-31/functions/hello/invocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nContent-Length: 1000\r\n\r\nhalf')
  while (door.metrics.bodies.used === 0) await new Promise(setImmediate)
  t.equal(door.metrics.bodies.used, 1000)
  leaving.destroy()
  while (door.inFlight > 0) await new Promise(setImmediate)
  t.equal(door.metrics.bodies.used, 0)
})

t.test('bodies that are only announced take no room from others', async (t) => {
  const { door, dispatcher, client, ask } = await openDoor(t, { mode: 'dev' })
  const invoke = (bytes: number): string => `POST /2015-03-31/functions/hello/invocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nContent-Length: ${bytes}\r\n\r\n`
  // Whole, these would be 360 MB where 256 MiB may be held.
  const idle = Array.from({ length: 60 }, () => client())
  for (const connection of idle) connection.send(invoke(6_000_000) + '"x')
  while (door.metrics.bodies.used < 60 * 16_384) await new Promise(setImmediate)
  dispatcher.onInvoke = (run) => run.reply(String(run.call.body?.byteLength))
  const long = JSON.stringify('y'.repeat(5_999_998))
  t.equal((await ask(invoke(long.length) + long)).body, '6000000')
  t.ok(door.metrics.bodies.used <= 60 * 32_768, 'what is held is near what has come')
  for (const connection of idle) connection.destroy()
  while (door.inFlight > 0) await new Promise(setImmediate)
  t.equal(door.metrics.bodies.used, 0)
})

t.test('a body that finds no room is refused, and so is one that is half dispatched', async (t) => {
  const { door, dispatcher, client } = await openDoor(t)
  const others = BODIES_BUFFERED_MAX_BYTES - 400_000
  door.metrics.bodies.add('others', others)
  const early = client()
  early.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n' + 'x'.repeat(80_000))
  const run = await dispatcher.run()
  early.send('x'.repeat(220_000))
  await run.until(({ cancels }) => cancels === 1)
  const response = await early.response()
  t.equal(response.status, 503)
  t.equal(errorOf(response).code, 'ERR_QUEUE_FULL')
  run.sink.fail(new CodedError('ERR_CANCELED'), null)
  t.equal(door.metrics.bodies.used, others)
})

t.test('a connection that was paused takes its next request', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const connection = client()
  connection.send('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n' + 'x'.repeat(70_000))
  const run = await dispatcher.run()
  run.sink.pauseBody?.()
  run.reply('early')
  t.equal((await connection.response()).body, 'early')
  dispatcher.onInvoke = (next) => next.reply('next')
  connection.send('x'.repeat(30_000) + get('/fn/hello/'))
  t.equal((await connection.response()).body, 'next')
})
