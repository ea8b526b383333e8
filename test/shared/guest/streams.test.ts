import { test } from 'tap'
import { run } from './harness.ts'
import { parity } from './parity.ts'

void test('streams behave as in Node', async (t) => {
  const same = await parity(t)
  same('a reader locks', `const s = new ReadableStream(); s.getReader(); s.getReader()`)
  same('tee', `const [a, b] = new ReadableStream({ start(c) { c.enqueue(1); c.close() } }).tee(); const out = []; for await (const x of a) out.push(x); for await (const x of b) out.push(x); return out`)
  same('pipeThrough', `const up = new TransformStream({ transform(x, c) { c.enqueue(x * 2) } }); const out = []; for await (const x of ReadableStream.from([1, 2]).pipeThrough(up)) out.push(x); return out`)
  same('pipeTo', `const out = []; await ReadableStream.from([1, 2]).pipeTo(new WritableStream({ write(x) { out.push(x) } })); return out`)
  same('pipeTo is aborted by a signal', `await new ReadableStream().pipeTo(new WritableStream(), { signal: AbortSignal.abort() })`)
  same('an error passes through', `for await (const x of new ReadableStream({ pull() { throw new RangeError('x') } }));`)
  same('BYOB', `const s = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(new Uint8Array([1, 2, 3])) } }); const r = s.getReader({ mode: 'byob' }); const { value } = await r.read(new Uint8Array(2)); return [...value]`)
  same('cancel', `let why; const s = new ReadableStream({ cancel(reason) { why = reason } }); await s.cancel('x'); return why`)
})

const encode = `const encode = (text) => new TextEncoder().encode(text);`

void test('a streamed body that fails is cut and logged, not ended', async (t) => {
  const out = await run(`${encode} export default { fetch() { let n = 0; return new Response(new ReadableStream({ pull(c) { if (n++ === 0) c.enqueue(encode('a')); else throw new RangeError('broken') } })) } }`)
  t.equal(out.status, 200)
  t.notOk(out.ended)
  t.match(out.failure, { name: 'RangeError', message: 'broken' })
  t.equal(out.doneCount, 1)
})

void test('a streamed body with a chunk that is no bytes is cut', async (t) => {
  const out = await run(`export default { fetch() { return new Response(new ReadableStream({ start(c) { c.enqueue('text'); c.close() } })) } }`)
  t.notOk(out.ended)
  t.match(out.failure, { name: 'TypeError' })
})

void test('a streamed body goes out chunk by chunk', async (t) => {
  const out = await run(`${encode} export default { fetch() { return new Response(new ReadableStream({ async start(c) { c.enqueue(encode('a')); await new Promise((r) => setTimeout(r, 5)); c.enqueue(encode('bc')); c.close() } }), { headers: { 'content-type': 'text/plain' } }) } }`)
  t.same(out.chunks.map((chunk) => Buffer.from(chunk).toString()), ['a', 'bc'])
  t.same(out.headers, [['content-type', 'text/plain']])
  t.ok(out.ended)
  t.equal(out.respondCount, 1)
})

void test('writing waits when the host is full', async (t) => {
  const source = `${encode} export default { fetch() { return new Response(new ReadableStream({ start(c) { for (const x of 'abcd') c.enqueue(encode(x)); c.close() } })) } }`
  const out = await run(source, {}, { fullAtWrites: [0, 2] })
  t.equal(out.text, 'abcd')
  t.equal(out.drains, 2)
})

void test('the client going away cancels the stream that is being sent', async (t) => {
  const source = `${encode} export default { fetch() { return new Response(new ReadableStream({ async pull(c) { c.enqueue(encode('a')); await new Promise((r) => setTimeout(r, 5)) }, cancel(reason) { console.log('canceled', reason.name) } })) } }`
  t.same((await run(source, { abortAfter: 3 })).logs, ['1 canceled AbortError'])
})

void test('empty chunks are not written', async (t) => {
  const out = await run(`${encode} export default { fetch() { return new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array(0)); c.enqueue(encode('a')); c.close() } })) } }`)
  t.equal(out.chunks.length, 1)
})

void test('a TransformStream written after the response went out', async (t) => {
  const out = await run(`${encode} export default { fetch(request, env, ctx) { const { readable, writable } = new TransformStream(); ctx.waitUntil((async () => { const w = writable.getWriter(); await w.write(encode('late ')); await new Promise((r) => setTimeout(r, 5)); await w.write(encode('later')); await w.close() })()); return new Response(readable) } }`)
  t.equal(out.text, 'late later')
  t.equal(out.doneCount, 1)
})

void test('a body made of a used stream fails the invocation', async (t) => {
  const out = await run(`export default { async fetch() { const r = new Response('x'); await r.text(); return r } }`)
  t.match(out.failure, { name: 'TypeError', message: /used/ })
  t.equal(out.respondCount, 0)
})

void test('a response returned twice fails the second time', async (t) => {
  const source = `const once = new Response('x'); export default { fetch() { return once } }`
  const { Machine } = await import('./harness.ts')
  const machine = await Machine.create(source)
  t.equal(machine.invoke().text, 'x')
  t.match(machine.invoke().failure, { name: 'TypeError' })
})
