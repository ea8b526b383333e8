/** Lambda's response streaming inside the guest. */
import { Writable } from 'node:stream'
import { test } from 'tap'
import { Machine, run, type Input, type MachineOptions, type Output } from './harness.ts'

const streaming = (body: string): string => `export const handler = awslambda.streamifyResponse(async (event, stream, context) => { ${body} })`
const request = (body: string, input: Input = {}, options: MachineOptions = {}): Promise<Output> => run(streaming(body), input, options)
const invoke = (body: string, input: Input = {}, options: MachineOptions = {}): Promise<Output> => run(streaming(body), { kind: 'event', body: '{"a":1}', ...input }, options)
const FROM = `stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'X-A': '1' }, cookies: ['c=1'] });`

for (const [title, body, failure] of [
  ['throws before the first byte', `throw new RangeError('boom')`, { name: 'RangeError', message: 'boom' }],
  ['destroys the stream', `stream.destroy(new RangeError('gone'))`, { name: 'RangeError', message: 'gone' }],
  ['gives metadata that make no head', `awslambda.HttpResponseStream.from(stream, { statusCode: 'x' }).end()`, { name: 'TypeError', message: /statusCode/ }],
] as const) {
  void test(`a streaming handler that ${title} fails the invocation`, async (t) => {
    t.match(await request(body), { failure, respondCount: 0, doneCount: 1 })
  })
}

void test('a failure after the first byte leaves the answer without its end', async (t) => {
  for (const out of [await request(`stream.write('a'); throw new RangeError('late')`), await invoke(`stream.write('a'); await null; stream.destroy(new RangeError('late'))`)]) {
    t.match(out, { failure: { name: 'RangeError', message: 'late' }, respondCount: 1, ended: false, streamed: true, text: 'a', doneCount: 1 })
  }
})

void test('a stream that is never ended hangs', async (t) => {
  t.match(await request(`stream.write('a')`), { hung: true, ended: false })
})

void test('a request is answered with the metadata as its head, in pieces as they are written', async (t) => {
  const out = await request(`${FROM} stream.write('one'); await new Promise((done) => setTimeout(done, 5)); stream.write(new Uint8Array([255, 0])); stream.end('three')`)
  t.match(out, { status: 201, streamed: true, ended: true, doneCount: 1, failure: null })
  t.same(out.headers, [['x-a', '1'], ['set-cookie', 'c=1'], ['content-type', 'application/octet-stream']])
  t.same(out.chunks.map((chunk) => Buffer.from(chunk).toString('latin1')), ['one', '\xff\0', 'three'])
})

void test('without metadata the content type is what was set', async (t) => {
  t.same((await request(`stream.setContentType('text/event-stream'); stream.end('x')`)).headers, [['content-type', 'text/event-stream']])
  t.match(await request(`stream.end()`), { status: 200, headers: [['content-type', 'application/octet-stream']], text: '', ended: true, doneCount: 1 })
})

void test('an Invoke gets metadata as JSON, eight zero bytes, and the body', async (t) => {
  const out = await invoke(`${FROM} stream.write(event.a + '!'); stream.end()`)
  t.same(out.headers, [['content-type', 'application/vnd.awslambda.http-integration-response']])
  t.equal(out.text, '{"statusCode":201,"headers":{"X-A":"1"},"cookies":["c=1"]}' + '\0'.repeat(8) + '1!')
  t.equal((await invoke(`stream.end('plain')`)).text, 'plain')
})

void test('chunks are text in an encoding, bytes, or objects as JSON', async (t) => {
  t.equal((await invoke(`stream.write('é'); stream.write('w6k=', 'base64'); stream.write('c3a9', 'hex'); stream.write({ a: 1 }); stream.end(new Uint8Array([33]))`)).text, 'ééé{"a":1}!')
  t.match((await invoke(`stream.write('x', 'klingon')`)).failure, { name: 'TypeError', message: /Unknown encoding/ })
})

void test('while the host wants a pause writes wait in order, and drain tells when to go on', async (t) => {
  const out = await invoke(`
    const room = ['a', 'b', 'c', 'd'].map((chunk) => stream.write(chunk))
    console.log(room.join(), stream.writableNeedDrain, stream.writableLength)
    await new Promise((done) => stream.once('drain', done))
    console.log(stream.write('e'), stream.writableNeedDrain)
    stream.end()`, {}, { fullAtWrites: [0] })
  t.equal(out.text, 'abcde')
  t.same(out.logs, ['1 true,false,false,false true 2', '1 true false'])
  t.equal(out.drains, 1)
})

void test('callbacks, events and states follow Node', async (t) => {
  const script = `
    const seen = []
    for (const name of ['finish', 'close', 'error']) stream.on(name, () => seen.push(name))
    stream.once('finish', () => seen.push('finish once'))
    const never = () => seen.push('never')
    stream.on('finish', never)
    stream.off('finish', never)
    seen.push(stream.writable, stream.writableEnded, stream.writableFinished, stream.writableNeedDrain, stream.writableLength, stream.destroyed)
    await new Promise((done) => stream.write('a', (error) => { seen.push('written ' + (error ?? 'well')); done() }))
    const finished = new Promise((done) => stream.end('b', 'utf8', done))
    seen.push(stream.writable, stream.writableEnded, stream.end() === stream)
    await finished
    await new Promise((done) => setTimeout(done, 1))
    seen.push(stream.writableFinished, stream.listenerCount('finish'))
    return JSON.stringify(seen)`
  const out = await invoke(`const run = async () => { ${script} }; console.log(await run())`)
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the same text runs in the guest and here
  const inNode = new Function('stream', `return (async () => { ${script} })()`) as (stream: Writable) => Promise<string>
  t.same(out.logs, [`1 ${await inNode(new Writable({ write: (_chunk, _encoding, done) => done() }))}`])
})

void test('a write after the end is an error event and writes nothing', async (t) => {
  const out = await invoke(`stream.on('error', (error) => console.log(error.code)); stream.end('a'); console.log(stream.write('b', (error) => console.log('told', error.code)))`)
  t.match(out, { text: 'a', logs: ['1 false', '1 told ERR_STREAM_WRITE_AFTER_END', '1 ERR_STREAM_WRITE_AFTER_END'] })
})

void test('the mark of a streaming handler is the one that middleware knows', async (t) => {
  const machine = await Machine.create(`${streaming(`stream.end('x')`)}; globalThis.mark = handler[Symbol.for('aws.lambda.runtime.handler.streaming')]`)
  t.equal(machine.eval('mark'), 'response')
  t.equal(machine.kind, 'event')
})
