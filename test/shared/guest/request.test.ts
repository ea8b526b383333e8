import { test } from 'tap'
import { run } from './harness.ts'
import { parity } from './parity.ts'

void test('Request behaves as in Node', async (t) => {
  const same = await parity(t)
  same('members of an init are checked', `const bad = [{ mode: 'navigate' }, { mode: 'no-cors', method: 'PUT' }, { window: {} }, { cache: 'only-if-cached' }, { cache: 'x' }, { credentials: 'x' }, { referrerPolicy: 'x' }, { referrer: 'http://:::' }, { duplex: 'full' }, { duplex: 'full', method: 'POST', body: 'x' }]; return bad.map((init) => { try { new Request('http://a/', init); return 'taken' } catch (error) { return error.name } })`)
  same('and shown', `const r = new Request('http://a/', { mode: 'same-origin', credentials: 'include', cache: 'only-if-cached', referrerPolicy: 'origin', integrity: 'sha256-x', keepalive: true, duplex: 'half' }); const copy = new Request(r, { credentials: 'omit' }); return [r, copy, r.clone()].map((each) => [each.mode, each.credentials, each.cache, each.referrerPolicy, each.integrity, each.keepalive, each.duplex, each.isReloadNavigation, each.isHistoryNavigation])`)
  same('a request made of another takes its body, and fails without taking it', `const r = new Request('http://a/', { method: 'POST', body: 'x' }); try { new Request(r, { method: 'GET' }) } catch (error) { void error } const before = r.bodyUsed; const stream = r.body; const copy = new Request(r); return [before, r.bodyUsed, r.body === stream, copy.body === stream, await copy.text()]`)
  same('a wrong URL is refused', `new Request('nope')`)
  same('credentials in the URL are refused', `new Request('http://a:b@c/')`)
  for (const method of ['CONNECT', 'trace', 'a b', '']) same(`method ${method} is refused`, `new Request('http://a/', { method: '${method}' })`)
  same('GET with a body is refused', `new Request('http://a/', { body: 'x' })`)
  same('HEAD with a body is refused', `new Request('http://a/', { method: 'HEAD', body: 'x' })`)
  same('a wrong redirect is refused', `new Request('http://a/', { redirect: 'x' })`)
  same('a wrong signal is refused', `new Request('http://a/', { signal: {} })`)
  same('an init that is no object is refused', `new Request('http://a/', 1)`)
  same('a wrong header is refused', `new Request('http://a/', { headers: { 'a b': 'c' } })`)
  same('a used request is refused', `const r = new Request('http://a/', { method: 'POST', body: 'x' }); await r.text(); new Request(r)`)
  same('a body is read once', `const r = new Request('http://a/', { method: 'POST', body: 'x' }); await r.text(); await r.json()`)
  const show = `const show = async (r) => [r.method, r.url, [...r.headers], r.redirect, r.bodyUsed, r.body === null, r.signal.aborted, await r.text()];`
  same('of a string', `${show} return await show(new Request('http://A/b/../c?d#e'))`)
  same('of a URL', `${show} return await show(new Request(new URL('http://a/?x=1')))`)
  same('with everything', `${show} return await show(new Request('http://a/', { method: 'post', headers: { a: 'b' }, body: 'x', redirect: 'manual' }))`)
  same('methods are normalised', `return ['get', 'delete', 'Put', 'patch', 'options', 'x'].map((method) => new Request('http://a/', { method }).method)`)
  same('of a request', `${show} const a = new Request('http://a/', { method: 'POST', headers: { a: 'b' }, body: 'x' }); const b = new Request(a); return [a.bodyUsed, await show(b)]`)
  same('of a request with another body', `${show} const a = new Request('http://a/', { method: 'POST', headers: { a: 'b' }, body: 'x' }); const b = new Request(a, { body: 'y', headers: { c: 'd' } }); return [a.bodyUsed, await show(b)]`)
  same('of a request with another method', `${show} return await show(new Request(new Request('http://a/', { headers: { a: 'b' } }), { method: 'PUT', body: new URLSearchParams('a=1') }))`)
  same('clone', `${show} const a = new Request('http://a/', { method: 'POST', headers: { a: 'b' }, body: 'x' }); const b = a.clone(); b.headers.set('a', 'c'); return [await show(a), await show(b)]`)
  same('clone after reading is refused', `const r = new Request('http://a/', { method: 'POST', body: 'x' }); await r.text(); r.clone()`)
  same('the signal follows', `const c = new AbortController(); const r = new Request('http://a/', { signal: c.signal }); const q = r.clone(); c.abort('why'); return [r.signal === c.signal, r.signal.aborted, r.signal.reason, q.signal.aborted]`)
  same('an aborted signal is aborted at once', `return new Request('http://a/', { signal: AbortSignal.abort() }).signal.aborted`)
  same('fixed attributes', `const r = new Request('http://a/'); return [r.cache, r.credentials, r.destination, r.integrity, r.keepalive, r.mode, r.referrerPolicy, r.duplex]`)
  same('nothing shows', `const r = new Request('http://a/'); return [Object.keys(r), JSON.stringify(r), { ...r }, Object.assign({}, r), String(r), Request.name, Request.length]`)
  same('a subclass works', `class R extends Request { get x() { return this.method + 1 } } return [new R('http://a/').x, new R('http://a/') instanceof Request]`)
  same('readers', `const r = () => new Request('http://a/', { method: 'POST', body: '[1]', headers: { 'content-type': 'a/b' } }); return [await r().json(), [...new Uint8Array(await r().arrayBuffer())], [...await r().bytes()], (await r().blob()).type]`)
})

const tell = `async fetch(request) {
  return Response.json([request.method, request.url, [...request.headers], request.bodyUsed, request.body === null, await request.text(), request.bodyUsed, request.cf?.colo, request.signal.aborted])
}`

void test('an incoming GET shows what the client sent', async (t) => {
  const out = await run(`export default { ${tell} }`, { url: 'http://x.localhost/a?b=c', headers: [['b', '2'], ['a', '1']] })
  t.same(JSON.parse(out.text), ['GET', 'http://x.localhost/a?b=c', [['a', '1'], ['b', '2']], false, true, '', false, 'test-site', false])
})

void test('cf tells what is known, is one object, goes along in copies, and is nothing to an outbound request', async (t) => {
  const out = await run(`export default { async fetch(request) {
    const copy = new Request(request, { headers: { a: 'b' } })
    const answer = await fetch('http://a/', { cf: { cacheTtl: 5 } })
    return Response.json([{ ...request.cf }, request.cf === request.cf, copy.cf?.colo, new Request('http://a/').cf, answer.status, new Request('http://a/', { cf: { x: 1 } }).cf])
  } }`, {}, { fetch: () => ({}) })
  t.same(JSON.parse(out.text), [{ httpProtocol: 'HTTP/1.1', colo: 'test-site' }, true, 'test-site', null, 200, { x: 1 }])
})

void test('an incoming request without headers has none', async (t) => {
  const out = await run(`export default { ${tell} }`, { headers: [] })
  t.same((JSON.parse(out.text) as unknown[])[2], [])
})

void test('an incoming POST gives its body', async (t) => {
  const out = await run(`export default { ${tell} }`, { method: 'POST', body: 'hé' })
  t.same((JSON.parse(out.text) as unknown[]).slice(3, 7), [false, false, 'hé', true])
})

for (const how of ['text', 'json', 'bytes', 'arrayBuffer', 'blob', 'formData']) {
  void test(`a second read of an incoming body by ${how} rejects`, async (t) => {
    const out = await run(`export default { async fetch(request) { await request.text(); try { await request.${how}() } catch (error) { return new Response(error.name) } } }`, { method: 'POST', body: '1' })
    t.equal(out.text, 'TypeError')
  })
}

void test('json of an incoming body that is not JSON rejects', async (t) => {
  const out = await run(`export default { async fetch(request) { const p = request.json(); try { await p } catch (error) { return new Response(error.name + (p instanceof Promise)) } } }`, { method: 'POST', body: '{' })
  t.equal(out.text, 'SyntaxErrortrue')
})

void test('an incoming body is read as bytes, blob and form', async (t) => {
  const source = `export default { async fetch(request) { const [a, b, c] = [request.clone(), request.clone(), request.clone()]; return Response.json([[...await a.bytes()], (await b.blob()).type, [...await c.formData()], await request.text()]) } }`
  const out = await run(source, { method: 'POST', body: 'a=%C3%A9', headers: [['content-type', 'application/x-www-form-urlencoded']] })
  t.same(JSON.parse(out.text), [[97, 61, 37, 67, 51, 37, 65, 57], 'application/x-www-form-urlencoded', [['a', 'é']], 'a=%C3%A9'])
})

void test('an incoming body is a stream when asked for', async (t) => {
  const out = await run(`export default { async fetch(request) { const chunks = []; for await (const c of request.body) chunks.push(c.length); return Response.json([chunks, request.bodyUsed]) } }`, { method: 'POST', body: 'hello' })
  t.equal(out.text, '[[5],true]')
})

void test('a streamed body arrives chunk by chunk', async (t) => {
  const out = await run(`export default { async fetch(request) { const chunks = []; for await (const c of request.body) chunks.push(new TextDecoder().decode(c)); return Response.json(chunks) } }`, { method: 'POST', chunks: ['ab', 'c', 'def'] })
  t.equal(out.text, '["ab","c","def"]')
})

for (const [how, expected] of [['text', '"abc"'], ['json', 'null'], ['bytes', '{"0":97,"1":98,"2":99}']] as const) {
  void test(`a streamed body is collected by ${how}`, async (t) => {
    const chunks = how === 'json' ? ['nu', 'll'] : ['a', 'bc']
    t.equal((await run(`export default { async fetch(request) { return Response.json(await request.${how}()) } }`, { method: 'POST', chunks })).text, expected)
  })
}

void test('a streamed body can be cloned', async (t) => {
  const out = await run(`export default { async fetch(request) { const copy = request.clone(); return Response.json([await copy.text(), await request.text()]) } }`, { method: 'POST', chunks: ['a', 'bc'] })
  t.equal(out.text, '["abc","abc"]')
})

void test('a streamed body may be sent back without being collected', async (t) => {
  const out = await run(`export default { fetch(request) { return new Response(request.body) } }`, { method: 'POST', chunks: ['a', 'bc'] })
  t.equal(out.text, 'abc')
  t.ok(out.streamed)
  t.equal(out.chunks.length, 2)
})

void test('the client going away aborts the signal', async (t) => {
  const source = `export default { async fetch(request) { await new Promise((resolve) => { request.signal.onabort = resolve; setTimeout(resolve, 1000) }); return new Response(request.signal.reason?.name + request.signal.aborted) } }`
  t.equal((await run(source, { abortAfter: 0 })).text, 'AbortErrortrue')
})

void test('a signal asked for after the client went away is aborted', async (t) => {
  const source = `export default { async fetch(request) { await new Promise((resolve) => setTimeout(resolve, 5)); return new Response(String(request.signal.aborted)) } }`
  t.equal((await run(source, { abortAfter: 0 })).text, 'true')
})
