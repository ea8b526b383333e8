import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { Scope } from '../../bench/harness/scope.ts'
import { parseAnswer } from '../../bench/load/connection.ts'
import { runLoad, runLoadUnjudged } from '../../bench/load/generator.ts'
import type { Arrivals, LoadSpec } from '../../bench/load/load-spec.ts'
import { asksOf, churn, jsonAsk, zipf } from '../../bench/load/plans.ts'
import { readReport } from '../../bench/load/wrk.ts'
import { seededRandom } from '../../shared/random.ts'

void t.test('an answer is read whole, in parts, and in chunks', (t) => {
  const plain = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
  t.same(parseAnswer(Buffer.from(plain)), { status: 200, body: 'ok' })
  for (let length = 0; length < plain.length; length++) t.equal(parseAnswer(Buffer.from(plain.slice(0, length))), 'incomplete')
  t.same(parseAnswer(Buffer.from('HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n')), { status: 201, body: 'abcd' })
  t.equal(parseAnswer(Buffer.from('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab')), 'incomplete')
  t.equal(parseAnswer(Buffer.from(`${plain}x`)), 'malformed')
  t.equal(parseAnswer(Buffer.from('HTTP/1.1 200 OK\r\n\r\n')), 'malformed')
  t.equal(parseAnswer(Buffer.from('SSH-2.0-x\r\n\r\n')), 'malformed')
  t.same(parseAnswer(Buffer.from('HTTP/1.1 204 No Content\r\n\r\n')), { status: 204, body: '' })
  t.end()
})

void t.test('a JSON answer is checked in full, and its counter by what the server promises', (t) => {
  const ask = jsonAsk('/', 7, 'fresh')
  const right = '{"id":7,"sum":316,"name":"ORDER-7","n":1}'
  t.equal(ask.verify(200, right), null)
  t.equal(ask.verify(200, right.replace('"n":1}', '"n":2}')), '200 {"id":7,"sum":316,"name":"ORDER-7","n":2}')
  t.not(ask.verify(500, right), null)
  t.not(ask.verify(200, right.replace('316', '317')), null)
  t.not(ask.verify(200, right.replace('"id":7', '"id":8')), null)
  const any = jsonAsk('/', 7, 'any')
  t.equal(any.verify(200, right.replace('"n":1}', '"n":812}')), null)
  t.not(any.verify(200, right.replace('"n":1}', '"n":}')), null)
  t.end()
})

void t.test('every plan asks something new each time and accepts only its own answer', (t) => {
  const cpu = asksOf({ kind: 'cpu', path: '/', loops: 10 }, 1)
  const [first, second] = [cpu(), cpu()]
  t.not(first.path, second.path)
  t.equal(first.verify(200, `{"value":${churn(1, 10)},"n":1}`), null)
  t.not(second.verify(200, `{"value":${churn(1, 10)},"n":1}`), null)
  const upstream = asksOf({ kind: 'upstream', path: '/', upstream: 'http://127.0.0.1:1', delayMs: 5 }, 1)()
  t.equal(upstream.verify(200, '{"body":"upstream 1","n":1}'), null)
  const memory = asksOf({ kind: 'memory', path: '/', mebibytes: 1 }, 1)()
  t.equal(memory.verify(200, '{"pages":256,"sum":256,"n":1}'), null)
  const many = asksOf({ kind: 'zipf', path: '/fn/f-{}/', functions: 5, exponent: 1 }, 1)()
  const index = /f-(\d)/.exec(many.path)?.[1]
  t.equal(many.verify(200, `{"index":${index},"id":"1","n":1}`), null)
  t.end()
})

void t.test('Zipf draws rank k with a chance in proportion to 1/k', (t) => {
  const draw = zipf(100, 1, seededRandom(3))
  const counts = new Map<number, number>()
  for (let index = 0; index < 50_000; index++) {
    const rank = draw()
    counts.set(rank, (counts.get(rank) ?? 0) + 1)
  }
  const ratio = (counts.get(0) ?? 0) / (counts.get(9) ?? 1)
  t.ok(ratio > 8 && ratio < 12.5, `rank 1 came ${ratio} times as often as rank 10`)
  t.ok([...counts.keys()].every((rank) => rank >= 0 && rank < 100))
  t.end()
})

void t.test('a wrk report with any failure is refused', (t) => {
  const report = {
    requests: 10, durationUs: 1e6, checked: 10, wrong: 0, notOk: 0, connectErrors: 0, readErrors: 0, writeErrors: 0, statusErrors: 0, timeouts: 0, p50Us: 1, p99Us: 2, firstWrong: '',
  }
  const text = (changes: object): string => `noise of wrk\n${JSON.stringify({ ...report, ...changes })}\n`
  t.equal(readReport(text({}), 'fresh').requestsPerSecond, 10)
  for (const name of ['wrong', 'notOk', 'connectErrors', 'readErrors', 'writeErrors', 'statusErrors', 'timeouts']) {
    t.throws(() => readReport(text({ [name]: 1 }), 'fresh'), { message: new RegExp(`${name} 1`) })
  }
  t.throws(() => readReport(text({ checked: 9 }), 'any'), /only 9 of 10/)
  t.equal(readReport(text({ checked: 0 }), 'unchecked').requests, 10)
  t.throws(() => readReport(text({ requests: 0 }), 'any'), /no answer at all/)
  t.throws(() => readReport('unable to connect\n', 'any'), /no report/)
  t.end()
})

interface Options {
  readonly arrivals: Arrivals
  readonly connections?: number
  readonly durationMs?: number
}

function spec(server: Server, options: Options): LoadSpec {
  return {
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    streams: [{ label: 'json', plan: { kind: 'json', path: '/', counter: 'fresh' }, connections: options.connections ?? 4, arrivals: options.arrivals }],
    warmupMs: 0,
    durationMs: options.durationMs ?? 600,
    drainMs: 2_000,
    seed: 1,
  }
}

/** Does what fixtures/json-fetch.js does; `delayMs` is asked before each answer, `status` gives its status. */
async function jsonServer(owner: Pick<typeof t, 'teardown'>, behaviour: { readonly delayMs?: () => number; readonly status?: () => number } = {}): Promise<Server> {
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      const order = JSON.parse(body) as { id: number; name: string; values: number[] }
      const text = JSON.stringify({ id: order.id, sum: order.values.reduce((sum, value) => sum + value, 0), name: order.name.toUpperCase(), n: 1 })
      setTimeout(() => response.writeHead(behaviour.status?.() ?? 200, { 'content-length': text.length }).end(text), behaviour.delayMs?.() ?? 0).unref()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  owner.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return server
}

void t.test('an open loop offers its rate and checks each answer', async (t) => {
  const server = await jsonServer(t)
  const stream = (await runLoad(new Scope(), spec(server, { arrivals: { kind: 'open', ratePerSecond: 400 }, connections: 16 }))).stream('json')
  t.ok(stream.sent > 170 && stream.sent < 310, `${stream.sent} requests in 0.6 s at 400/s`)
  t.equal(stream.answered, stream.sent)
  t.equal(stream.failed, 0)
  t.ok(stream.p50Us > 100 && stream.p50Us < 200_000)
})

void t.test('a stall shows in every request that was due meanwhile, not only in those sent', async (t) => {
  let firstAtMs = 0
  // From 0.4 s to 0.8 s after the first request nothing is answered: about 40 of 120 requests were due then, on two connections.
  const server = await jsonServer(t, {
    delayMs() {
      const nowMs = performance.now()
      if (firstAtMs === 0) firstAtMs = nowMs
      return nowMs - firstAtMs > 400 && nowMs - firstAtMs < 800 ? 800 - (nowMs - firstAtMs) : 0
    },
  })
  const stream = (await runLoad(new Scope(), spec(server, { arrivals: { kind: 'open', ratePerSecond: 100 }, connections: 2, durationMs: 1_200 }))).stream('json')
  t.equal(stream.answered, stream.sent)
  t.ok(stream.p90Us > 100_000, `p90 ${stream.p90Us} us`)
  t.ok(stream.p50Us < 100_000, `p50 ${stream.p50Us} us`)
})

void t.test('a closed loop ends after its count, a burst asks once on each connection', async (t) => {
  const server = await jsonServer(t)
  const closed = (await runLoad(new Scope(), spec(server, { arrivals: { kind: 'closed', count: 33 }, connections: 4, durationMs: 5_000 }))).stream('json')
  t.equal(closed.answered, 33)
  const burst = (await runLoad(new Scope(), spec(server, { arrivals: { kind: 'burst' }, connections: 70, durationMs: 5_000 }))).stream('json')
  t.equal(burst.answered, 70)
})

void t.test('a connection that the server closes while it is idle is replaced', async (t) => {
  const server = await jsonServer(t)
  server.keepAliveTimeout = 50
  server.keepAliveTimeoutBuffer = 0
  const stream = (await runLoad(new Scope(), spec(server, { arrivals: { kind: 'open', ratePerSecond: 4 }, connections: 8, durationMs: 2_000 }))).stream('json')
  t.equal(stream.failed, 0)
  t.equal(stream.answered, stream.sent)
})

void t.test('failed, missing and wrong answers are counted and refused', async (t) => {
  const bad = await jsonServer(t, { status: () => 503 })
  await t.rejects(runLoad(new Scope(), spec(bad, { arrivals: { kind: 'closed', count: 5 } })), { message: /json: 5 of 5 requests failed; first: 503/ })
  const silent = await jsonServer(t, { delayMs: () => 10_000 })
  const { streams } = await runLoadUnjudged(new Scope(), { ...spec(silent, { arrivals: { kind: 'burst' }, connections: 3, durationMs: 100 }), drainMs: 200 })
  t.match(streams[0], { sent: 3, answered: 0, failed: 3, firstFailure: 'no answer in time' })
  const closing = createServer((request) => request.socket.destroy())
  await new Promise<void>((resolve) => closing.listen(0, '127.0.0.1', resolve))
  t.teardown(() => closing.close())
  const broken = await runLoadUnjudged(new Scope(), spec(closing, { arrivals: { kind: 'burst' }, connections: 3 }))
  t.match(broken.streams[0], { answered: 0, failed: 3 })
})
