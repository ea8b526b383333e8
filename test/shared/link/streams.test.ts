import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { LINK_CREDIT_BYTES, LINK_DATA_MAX_BYTES } from '../../../shared/limits.ts'
import { connectedClient, openFrame, RecordingSink, RESULT, startRegion, until } from './harness.ts'

t.test('an invocation whose body is there travels in one frame and comes back whole', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  client.open(openFrame({ body: Buffer.from('hello'), qualifier: 'live' }), sink)
  t.equal(sink.events.length, 0, 'nothing is heard during the call of open')
  await sink.whenOver()
  t.equal(sink.kinds, 'started head data bodyEnd end')
  t.equal(sink.bytes.toString(), 'hello')
  t.strictSame(sink.events.at(-1), { kind: 'end', result: RESULT, version: '7' }, 'every field of the result arrives')
  t.match(sink.events[1], { status: 200, headers: 'x-test\nyes', startKind: 'warm', version: '7', last: false })
  const run = region.handler.runs[0]
  t.match(run?.open, { ...openFrame({ qualifier: 'live' }), body: Buffer.from('hello') }, 'every field of the open frame arrives')
  t.equal(client.stats().streams, 0)
  t.equal(region.server.pops()[0]?.streams, 0)
})

t.test('bodies larger than a frame and than the credit stream both ways', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  for (const size of [LINK_DATA_MAX_BYTES - 1, LINK_DATA_MAX_BYTES, LINK_DATA_MAX_BYTES + 1, LINK_CREDIT_BYTES, LINK_CREDIT_BYTES + 1, 3 * LINK_CREDIT_BYTES + 17]) {
    const body = randomBytes(size)
    const whole = new RecordingSink()
    client.open(openFrame({ body }), whole)
    const streamed = new RecordingSink()
    const stream = client.open(openFrame({ bodyMore: true }), streamed)
    for (let at = 0; at < size; at += 50_000) stream.write(body.subarray(at, at + 50_000))
    stream.writeEnd()
    await Promise.all([whole.whenOver(), streamed.whenOver()])
    t.ok(whole.bytes.equals(body), `${size} bytes given to open`)
    t.ok(streamed.bytes.equals(body), `${size} bytes written in pieces`)
  }
  t.equal(client.stats().bufferedBytes, 0, 'no byte is left behind')
  t.equal(region.server.pops()[0]?.bufferedBytes, 0)
})

t.test('a head may carry the whole body of any length', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  for (const size of [0, 1, LINK_DATA_MAX_BYTES, LINK_DATA_MAX_BYTES + 1, 2 * LINK_CREDIT_BYTES]) {
    const sink = new RecordingSink()
    client.open(openFrame({ functionName: 'held' }), sink)
    const index = region.handler.runs.length
    await until(() => region.handler.runs.length > index)
    const { answer } = region.handler.held(index)
    const body = randomBytes(size)
    answer.head(203, '', 'restored', '$LATEST', body, true)
    answer.bodyEnd()
    answer.end(RESULT, '$LATEST')
    await sink.whenOver()
    t.ok(sink.bytes.equals(body), `${size} bytes`)
    t.equal(sink.events.filter((event) => event.kind === 'bodyEnd').length, 1)
  }
})

t.test('a POP that does not read stops its own stream after one window and no other', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const slow = new RecordingSink()
  slow.accepts = false
  const stream = client.open(openFrame({ functionName: 'held' }), slow)
  await until(() => region.handler.runs.length === 1)
  const { answer } = region.handler.held()
  const body = randomBytes(4 * LINK_CREDIT_BYTES)
  answer.head(200, '', 'warm', '7', null, false)
  let wrote = 0
  for (; wrote < body.length; wrote += 10_000) {
    if (!answer.data(body.subarray(wrote, wrote + 10_000))) break
  }
  wrote += 10_000
  t.ok(wrote <= LINK_CREDIT_BYTES + 10_000, `the region was told to stop after ${wrote} bytes`)
  const other = new RecordingSink()
  client.open(openFrame({ body: Buffer.alloc(LINK_CREDIT_BYTES * 2) }), other)
  await other.whenOver()
  t.equal(other.bytes.length, LINK_CREDIT_BYTES * 2, 'another stream is not held up')
  t.equal(slow.chunks.length, 1, 'the slow reader was given one chunk')
  t.ok(client.stats().bufferedBytes <= LINK_CREDIT_BYTES)
  t.equal(region.handler.held().resumes, 0)

  slow.accepts = true
  stream.resume()
  await until(() => region.handler.held().resumes === 1)
  answer.data(body.subarray(wrote))
  answer.bodyEnd()
  answer.end(RESULT, '7')
  await slow.whenOver()
  t.ok(slow.bytes.equals(body), 'after resuming everything arrives in order')
})

t.test('a function that does not read its request stops the POP after one window', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  const stream = client.open(openFrame({ functionName: 'held', bodyMore: true }), sink)
  await until(() => region.handler.runs.length === 1)
  const run = region.handler.held()
  run.accepts = false
  const body = randomBytes(3 * LINK_CREDIT_BYTES)
  let wrote = 0
  while (wrote < body.length) {
    const ready = stream.write(body.subarray(wrote, wrote + 20_000))
    wrote += 20_000
    if (!ready) break
  }
  t.ok(wrote <= LINK_CREDIT_BYTES + 20_000)
  await until(() => region.server.pops()[0]?.bufferedBytes !== 0)
  t.equal(run.chunks.length, 1)
  t.notOk(sink.events.some((event) => event.kind === 'drain'))

  run.accepts = true
  run.answer.resumeBody()
  await until(() => sink.events.some((event) => event.kind === 'drain'))
  stream.write(body.subarray(wrote))
  stream.writeEnd()
  await until(() => run.writeEnds === 1)
  t.equal(createHash('sha256').update(Buffer.concat(run.chunks)).digest('hex'), createHash('sha256').update(body).digest('hex'))
  run.answer.end(RESULT, '7')
  await sink.whenOver()
})

t.test('a cancel reaches the region, and its end still reaches the POP', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  const stream = client.open(openFrame({ functionName: 'held', bodyMore: true }), sink)
  await until(() => region.handler.runs.length === 1)
  stream.cancel()
  stream.cancel()
  stream.write(Buffer.from('late'))
  stream.writeEnd()
  await until(() => region.handler.held().canceled > 0)
  t.equal(region.handler.held().canceled, 1)
  const { answer } = region.handler.held()
  answer.head(200, '', 'warm', '7', Buffer.from('unwanted'), true)
  answer.end({ ...RESULT, outcome: 'canceled', error: { code: 'ERR_CANCELED', params: [] } }, '7')
  await sink.whenOver()
  t.equal(sink.kinds, 'end', 'no head after a cancel')
  t.equal(sink.outcome, 'canceled')
})

t.test('a cancel while the answer streams ends it, and late frames are dropped', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  const stream = client.open(openFrame({ functionName: 'held' }), sink)
  await until(() => region.handler.runs.length === 1)
  const { answer } = region.handler.held()
  answer.head(200, '', 'warm', '7', null, false)
  answer.data(Buffer.alloc(200_000))
  answer.data(Buffer.alloc(200_000))
  await until(() => sink.chunks.length > 0)
  stream.cancel()
  const heard = sink.events.length
  answer.data(Buffer.alloc(200_000))
  await until(() => region.handler.held().canceled === 1)
  answer.error({ code: 'ERR_WORKER_LOST', params: ['x'] })
  await sink.whenOver()
  t.equal(sink.events.length, heard + 1)
  t.equal(client.state.kind, 'open')
  t.equal(client.stats().bufferedBytes, 0)
  t.equal(region.server.pops()[0]?.bufferedBytes, 0)
})

t.test('the region may fail a stream at any point', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const early = new RecordingSink()
  client.open(openFrame({ functionName: 'held', bodyMore: true }), early)
  const middle = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), middle)
  const incomplete = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), incomplete)
  await until(() => region.handler.runs.length === 3)
  region.handler.held(0).answer.error({ code: 'ERR_NO_CAPACITY', params: [64] })
  region.handler.held(1).answer.head(200, '', 'warm', '7', null, false)
  region.handler.held(1).answer.data(Buffer.alloc(10))
  region.handler.held(1).answer.error({ code: 'ERR_WORKER_LOST', params: ['gone'] })
  region.handler.held(2).answer.head(200, '', 'warm', '7', null, false)
  region.handler.held(2).answer.data(Buffer.alloc(10))
  region.handler.held(2).answer.end({ ...RESULT, outcome: 'exceededCpu', error: { code: 'ERR_LIMIT_CPU', params: [50, 51] } }, '7')
  await Promise.all([early.whenOver(), middle.whenOver(), incomplete.whenOver()])
  t.strictSame(early.events, [{ kind: 'error', error: { code: 'ERR_NO_CAPACITY', params: [64] } }])
  t.equal(middle.kinds, 'head data error')
  t.equal(incomplete.kinds, 'head data end', 'no bodyEnd for a body that was cut off')
  t.equal(incomplete.outcome, 'exceededCpu')
})

t.test('a handler that throws costs its own stream', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'throw' }), sink)
  await sink.whenOver()
  t.equal(sink.errorCode, 'ERR_INTERNAL')
  t.ok(region.logged.lines.some(({ level }) => level === 'error'))
  const next = new RecordingSink()
  client.open(openFrame({ body: Buffer.from('x') }), next)
  t.equal((await next.whenOver()).outcome, 'ok')
})

t.test('a sink that throws costs its own stream', async (t) => {
  const region = await startRegion()
  const { client, logged } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  class ThrowingSink extends RecordingSink {
    override data(): boolean {
      throw new Error('sink fault')
    }
  }
  const sink = new ThrowingSink()
  client.open(openFrame({ body: Buffer.from('x') }), sink)
  await sink.whenOver()
  t.ok(logged.lines.some(({ level }) => level === 'error'))
  const next = new RecordingSink()
  client.open(openFrame({ body: Buffer.from('x') }), next)
  t.equal((await next.whenOver()).outcome, 'ok')
})

t.test('an invocation that was forwarded before is refused', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  client.open(openFrame({ hops: 2, body: Buffer.alloc(100_000) }), sink)
  await sink.whenOver()
  t.equal(sink.errorCode, 'ERR_LINK_LOOP')
  t.equal(region.handler.runs.length, 0)
  t.equal(client.state.kind, 'open')
})

t.test('headers that fit no frame fail at once and leave the link alone', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  client.open(openFrame({ headers: `x\n${'v'.repeat(140_000)}` }), sink)
  t.equal((await sink.whenOver()).errorCode, 'ERR_REQUEST_HEADERS')
  const answered = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), answered)
  await until(() => region.handler.runs.length === 1)
  region.handler.held().answer.head(200, `x\n${'v'.repeat(140_000)}`, 'warm', '7', null, true)
  t.equal((await answered.whenOver()).errorCode, 'ERR_FUNCTION_BAD_RESPONSE')
  t.equal(region.handler.held().canceled, 1)
  t.equal(client.state.kind, 'open')
})

t.test('2,000 streams at once, each with a body both ways', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sinks = Array.from({ length: 2_000 }, (_, index) => {
    const sink = new RecordingSink()
    const stream = client.open(openFrame({ bodyMore: true }), sink)
    stream.write(Buffer.alloc(1_000 + index, index))
    stream.write(Buffer.alloc(3_000, index))
    stream.writeEnd()
    return sink
  })
  await Promise.all(sinks.map((sink) => sink.whenOver()))
  const wrong = sinks.filter((sink, index) => sink.outcome !== 'ok' || sink.misuse !== null || !sink.bytes.equals(Buffer.alloc(4_000 + index, index)))
  t.equal(wrong.length, 0)
  t.equal(client.stats().bufferedBytes, 0)
  t.equal(region.server.pops()[0]?.bufferedBytes, 0)
})

t.test('the stream beyond the bound is refused at once, and one that ends makes room', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url, { streamsMax: 2 })
  t.teardown(() => {
    client.close()
    region.close()
  })
  const first = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), first)
  client.open(openFrame({ functionName: 'held' }), new RecordingSink())
  const refused = new RecordingSink()
  client.open(openFrame(), refused)
  t.equal((await refused.whenOver()).errorCode, 'ERR_QUEUE_FULL')
  await until(() => region.handler.runs.length === 2)
  region.handler.held(0).answer.end(RESULT, '7')
  await first.whenOver()
  const next = new RecordingSink()
  client.open(openFrame(), next)
  t.equal((await next.whenOver()).outcome, 'ok')
})

t.test('bodies beyond the budget of waiting bytes fail their stream, not the link', async (t) => {
  const region = await startRegion({ bufferedMaxBytes: 300_000 })
  const { client } = await connectedClient(region.url, { bufferedMaxBytes: 300_000 })
  t.teardown(() => {
    client.close()
    region.close()
  })
  const sink = new RecordingSink()
  const stream = client.open(openFrame({ functionName: 'held', bodyMore: true }), sink)
  await until(() => region.handler.runs.length === 1)
  region.handler.held().accepts = false
  stream.write(Buffer.alloc(LINK_CREDIT_BYTES + 290_000))
  t.equal(stream.write(Buffer.alloc(20_000)), false)
  t.equal((await sink.whenOver()).errorCode, 'ERR_LINK_OVERLOAD')
  await until(() => region.handler.held().canceled === 1)

  const held = new RecordingSink()
  client.open(openFrame({ functionName: 'held' }), held)
  await until(() => region.handler.runs.length === 2)
  const { answer } = region.handler.held(1)
  answer.head(200, '', 'warm', '7', null, false)
  answer.data(Buffer.alloc(LINK_CREDIT_BYTES + 290_000))
  answer.data(Buffer.alloc(20_000))
  t.equal((await held.whenOver()).errorCode, 'ERR_LINK_OVERLOAD')
  t.equal(region.handler.held(1).canceled, 1)
  t.equal(client.state.kind, 'open')
  t.equal(client.stats().bufferedBytes, 0)
  await until(() => region.server.pops()[0]?.bufferedBytes === 0)
})

t.test('a control call and its answer travel whole', async (t) => {
  const region = await startRegion()
  const { client } = await connectedClient(region.url)
  t.teardown(() => {
    client.close()
    region.close()
  })
  const body = randomBytes(5_000_000)
  const reply = await client.control({ requestId: 'r', method: 'PUT', rawPath: '/a%20b?c', headers: 'a\nb', body, clientIp: '::1' })
  t.equal(reply.status, 201)
  t.equal(reply.headers, 'x-method\nPUT')
  t.ok(Buffer.from(reply.body).equals(body))
  t.equal(region.server.pops()[0]?.bufferedBytes, 0)
  region.handler.control = () => Promise.reject(Object.assign(new Error('secret path'), { code: 'EACCES' }))
  await t.rejects(client.control({ requestId: 'r', method: 'GET', rawPath: '/', headers: '', body: Buffer.alloc(0), clientIp: '' }), { code: 'ERR_INTERNAL', params: ['the region failed'] })
})
