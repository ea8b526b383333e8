import { test } from 'tap'
import { Machine, run } from './harness.ts'

const failing: readonly (readonly [title: string, source: string, failure: object])[] = [
  ['throws', `export default { fetch() { throw new RangeError('boom') } }`, { name: 'RangeError', message: 'boom', stack: /fetch \(bundle\.js:1/ }],
  ['rejects', `export default { async fetch() { await 1; throw new Error('boom') } }`, { name: 'Error', message: 'boom', stack: /bundle\.js/ }],
  ['throws a string', `export default { fetch() { throw 'text' } }`, { name: 'string', message: 'text', stack: '' }],
  ['throws null', `export default { fetch() { throw null } }`, { name: 'object', message: 'null' }],
  ['throws a symbol', `export default { fetch() { throw Symbol('s') } }`, { name: 'symbol', message: 'Symbol(s)' }],
  ['throws an object', `export default { fetch() { throw { a: 1 } } }`, { name: 'object', message: '[object Object]' }],
  ['throws a hostile proxy', `export default { fetch() { throw new Proxy({}, { get() { throw new Error('x') } }) } }`, { name: 'Error', message: 'The thrown value throws when read' }],
  ['throws an error with hostile getters', `export default { fetch() { const e = new Error('x'); Object.defineProperty(e, 'stack', { get() { throw e } }); throw e } }`, { name: 'Error' }],
  ['returns nothing', `export default { fetch() {} }`, { name: 'TypeError', message: /'Response'/ }],
  ['resolves to an object', `export default { async fetch() { return { status: 200 } } }`, { name: 'TypeError', message: /'Response'/ }],
  ['resolves to a string', `export default { async fetch() { return 'x' } }`, { name: 'TypeError', message: /'Response'/ }],
  ['resolves to a fake of Response', `export default { async fetch() { return Object.create(Response.prototype) } }`, { name: 'TypeError', message: /'Response'/ }],
  ['returns Response.error()', `export default { fetch() { return Response.error() } }`, { name: 'TypeError' }],
  ['returns a false promise', `export default { fetch() { return Object.create(Promise.prototype) } }`, { name: 'TypeError' }],
  ['returns a thenable that throws', `export default { fetch() { return { get then() { throw new RangeError('x') } } } }`, { name: 'RangeError' }],
  ['overflows the stack', `export default { fetch() { const f = () => f() + 1; return f() } }`, { name: 'RangeError' }],
]
for (const [title, source, failure] of failing) {
  void test(`a fetch handler that ${title} fails the invocation once`, async (t) => {
    const out = await run(source)
    t.match(out.failure, failure)
    t.equal(out.respondCount, 0)
    t.equal(out.doneCount, 1)
  })
}

void test('a handler that can never answer hangs without an answer', async (t) => {
  const out = await run(`export default { fetch() { return new Promise(() => {}) } }`)
  t.ok(out.hung)
  t.equal(out.doneCount, 0)
})

void test('a module without a handler is told by load', async (t) => {
  t.equal((await Machine.create(`export const x = 1`)).kind, '')
  t.equal((await Machine.create(`export default { queue() {} }`)).kind, '')
})

void test('text goes out in one call with its content type', async (t) => {
  const out = await run(`export default { fetch() { return new Response('hé') } }`)
  t.match(out, { status: 200, headers: [['content-type', 'text/plain;charset=UTF-8']], text: 'hé', streamed: false, respondCount: 1, doneCount: 1, failure: null })
})

void test('JSON goes out in one call with its content type', async (t) => {
  const out = await run(`export default { fetch() { return Response.json({ a: 1 }) } }`)
  t.match(out, { status: 200, headers: [['content-type', 'application/json']], text: '{"a":1}', streamed: false })
})

void test('status, headers and cookies in their order', async (t) => {
  const out = await run(`export default { fetch() { const r = new Response('x', { status: 418, headers: { 'X-B': '1' } }); r.headers.append('set-cookie', 'a=1'); r.headers.append('set-cookie', 'b=2'); return r } }`)
  t.equal(out.status, 418)
  t.same(out.headers, [['x-b', '1'], ['content-type', 'text/plain;charset=UTF-8'], ['set-cookie', 'a=1'], ['set-cookie', 'b=2']])
})

void test('changed headers of a plain text go out', async (t) => {
  const out = await run(`export default { fetch() { const r = new Response('x'); r.headers.set('content-type', 'text/html'); r.headers.set('a', 'b'); return r } }`)
  t.same(out.headers, [['content-type', 'text/html'], ['a', 'b']])
})

void test('a deleted content type stays away', async (t) => {
  t.same((await run(`export default { fetch() { const r = new Response('x'); r.headers.delete('content-type'); return r } }`)).headers, [])
})

void test('bytes go out as they are', async (t) => {
  const out = await run(`export default { fetch() { return new Response(new Uint8Array([0, 255, 10])) } }`)
  t.same([...out.body], [0, 255, 10])
  t.same(out.headers, [])
})

void test('no body', async (t) => {
  t.match(await run(`export default { fetch() { return new Response(null, { status: 204 }) } }`), { status: 204, headers: [], text: '', streamed: false })
})

void test('a promise, a thenable and a plain response are the same', async (t) => {
  for (const value of ['new Response("x")', 'Promise.resolve(new Response("x"))', '{ then(ok) { ok(new Response("x")) } }']) t.equal((await run(`export default { fetch() { return ${value} } }`)).text, 'x')
})

void test('a patched then of the returned promise is not trusted', async (t) => {
  const out = await run(`export default { fetch() { const p = Promise.resolve(new Response('x')); p.then = (ok) => { globalThis.got = ok; return p }; return p } }`)
  t.equal(out.text, 'x')
})

void test('this is the exported object', async (t) => {
  t.equal((await run(`export default { word: 'mine', fetch() { return new Response(this.word) } }`)).text, 'mine')
})

void test('an exported instance of a class works', async (t) => {
  t.equal((await run(`class App { #word = 'private'; fetch = () => new Response(this.#word) } export default new App()`)).text, 'private')
})

void test('a handler replaced at run time is seen', async (t) => {
  t.equal((await run(`const app = { fetch() { return new Response('old') } }; app.fetch = () => new Response('new'); export default app`)).text, 'new')
})

void test('env holds variables and secrets, the same object each time', async (t) => {
  const machine = await Machine.create(`let first; export default { fetch(request, env) { first ??= env; return Response.json([Object.keys(env), env.A, env.S, { ...env }, first === env]) } }`, { vars: { A: '1' }, secrets: { S: 'hidden' } })
  machine.invoke()
  t.same(JSON.parse(machine.invoke().text), [['A', 'S'], '1', 'hidden', { A: '1', S: 'hidden' }, true])
})

void test('a variable may be overwritten, a secret too', async (t) => {
  t.equal((await run(`export default { fetch(request, env) { env.A = '2'; env.S = '3'; return new Response(env.A + env.S) } }`, {}, { vars: { A: '1' }, secrets: { S: 'x' } })).text, '23')
})

void test('ctx has what Workers have', async (t) => {
  const out = await run(`export default { fetch(request, env, ctx) { ctx.passThroughOnException(); const { waitUntil } = ctx; waitUntil(1); return Response.json([typeof ctx.waitUntil, ctx.props, String(ctx), Object.keys(ctx)]) } }`)
  t.equal(out.text, '["function",{},"[object ExecutionContext]",[]]')
})

void test('several waitUntil hold the invocation, rejections are logged and fail nothing', async (t) => {
  const source = `export default { fetch(request, env, ctx) {
    const later = (ms, f) => new Promise((ok) => setTimeout(ok, ms)).then(f)
    ctx.waitUntil(later(30, () => console.log('last')))
    ctx.waitUntil(later(10, () => { throw new Error('lost') }))
    ctx.waitUntil(later(20, () => ctx.waitUntil(later(30, () => console.log('nested')))))
    ctx.waitUntil('no promise')
    return new Response('x') } }`
  const out = await run(source)
  t.equal(out.text, 'x')
  t.equal(out.doneCount, 1)
  t.equal(out.logs.length, 3)
  t.match(out.logs[0], /^3 Uncaught \(in waitUntil\) Error: lost/)
  t.same(out.logs.slice(1), ['1 last', '1 nested'])
})

for (const value of ['Object.create(Promise.prototype)', '{ get then() { throw new Error("x") } }', '{ then() { throw new Error("x") } }']) {
  void test(`waitUntil of ${value} is logged and does not hold the invocation`, async (t) => {
    const out = await run(`export default { fetch(request, env, ctx) { ctx.waitUntil(${value}); return new Response('x') } }`)
    t.equal(out.text, 'x')
    t.equal(out.doneCount, 1)
    t.match(out.logs[0], /^3 Uncaught \(in waitUntil\)/)
  })
}

void test('waitUntil wants an argument', async (t) => {
  t.match((await run(`export default { fetch(request, env, ctx) { ctx.waitUntil() } }`)).failure, { name: 'TypeError' })
})

void test('a failed handler still waits for waitUntil', async (t) => {
  const out = await run(`export default { fetch(request, env, ctx) { ctx.waitUntil(new Promise((ok) => setTimeout(ok, 5)).then(() => console.log('done'))); throw new Error('x') } }`)
  t.match(out.failure, { message: 'x' })
  t.same(out.logs, ['1 done'])
  t.equal(out.doneCount, 1)
})

void test('waitUntil after the end is ignored', async (t) => {
  const machine = await Machine.create(`let saved; export default { fetch(request, env, ctx) { saved = ctx; return new Response('x') } }; globalThis.late = () => saved.waitUntil(Promise.reject(new Error('x')).catch(() => {}))`)
  t.equal(machine.invoke().doneCount, 1)
  machine.eval('late()')
  t.equal(machine.invoke().doneCount, 1)
})

void test('an unhandled rejection is logged', async (t) => {
  const out = await run(`export default { async fetch() { Promise.reject(new TypeError('nobody')); return new Response('x') } }`)
  t.match(out.logs[0], /^3 Uncaught \(in promise\) TypeError: nobody/)
})

void test('a rejection handled later in the same turn is not logged', async (t) => {
  t.same((await run(`export default { async fetch() { const p = Promise.reject(new Error('x')); await null; p.catch(() => {}); return new Response('x') } }`)).logs, [])
})

void test('handlerExport chooses the export', async (t) => {
  const source = `export const other = { fetch() { return new Response('other') } }; export default { fetch() { return new Response('default') }, deep: { er() {} } }; export const handler = () => 1`
  t.equal((await run(source, {}, { handlerExport: 'other' })).text, 'other')
  t.equal((await run(source, {}, { handlerExport: 'missing' })).text, 'default')
  t.equal((await Machine.create(source, { handlerExport: 'handler' })).kind, 'event')
  t.equal((await Machine.create(source, { handlerExport: 'deep.er' })).kind, 'event')
})

void test('navigator, self and the globals are there', async (t) => {
  const out = await run(`export default { fetch() { return Response.json([navigator.userAgent, self === globalThis, typeof process, typeof window, typeof require, typeof Buffer, typeof performance.now(), Object.keys(globalThis)]) } }`)
  t.same(JSON.parse(out.text), ['Outpost', true, 'undefined', 'undefined', 'undefined', 'undefined', 'number', ['performance']])
})
