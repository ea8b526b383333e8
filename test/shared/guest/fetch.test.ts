import { test } from 'tap'
import { Machine, run, type FetchedRequest, type MachineOptions } from './harness.ts'

/** Runs code in a fetch handler and gives its JSON result and what the host was asked. */
async function guest(code: string, options: MachineOptions = {}): Promise<{ readonly value: unknown; readonly seen: FetchedRequest[]; readonly canceled: number }> {
  const seen: FetchedRequest[] = []
  const machine = await Machine.create(`export default { async fetch(request) { return Response.json((await (async () => { ${code} })()) ?? null) } }`, {
    ...options,
    fetch: (request) => {
      seen.push(request)
      return options.fetch?.(request) ?? {}
    },
  })
  const out = machine.invoke()
  if (out.failure !== null) throw new Error(`${out.failure.name}: ${out.failure.message}`)
  return { value: JSON.parse(out.text), seen, canceled: out.canceled }
}

const caught = (call: string): string => `try { await ${call} } catch (e) { return [e.name, e instanceof TypeError, e.code ?? null, e.message] }`

void test('a failure of the host rejects with a TypeError that keeps its code', async (t) => {
  t.same((await guest(caught(`fetch('http://a/')`), { fetch: () => ({ error: 'Error\nfetch to a is refused\nERR_FETCH_FORBIDDEN' }) })).value, ['TypeError', true, 'ERR_FETCH_FORBIDDEN', 'fetch to a is refused'])
})

void test('a wrong URL rejects without asking the host', async (t) => {
  const { value, seen } = await guest(caught(`fetch('nope')`))
  t.match(value, ['TypeError', true])
  t.equal(seen.length, 0)
})

void test('another scheme rejects', async (t) => {
  t.match((await guest(caught(`fetch('file:///etc/passwd')`))).value, ['TypeError', true])
})

void test('an aborted signal rejects at once with its reason', async (t) => {
  const { value, seen } = await guest(`try { await fetch('http://a/', { signal: AbortSignal.abort('why') }) } catch (e) { return e }`)
  t.equal(value, 'why')
  t.equal(seen.length, 0)
})

void test('aborting cancels the operation', async (t) => {
  const { value, canceled } = await guest(`const c = new AbortController(); setTimeout(() => c.abort(), 5); ${caught(`fetch('http://a/', { signal: c.signal })`)}`, { fetch: () => ({ hangs: true }) })
  t.match(value, ['AbortError', false])
  t.equal(canceled, 1)
})

void test('AbortSignal.timeout ends a fetch', async (t) => {
  t.match((await guest(caught(`fetch('http://a/', { signal: AbortSignal.timeout(10) })`), { fetch: () => ({ hangs: true }) })).value, ['TimeoutError'])
})

void test('aborting after the head breaks the body off', async (t) => {
  const { value, canceled } = await guest(`const c = new AbortController(); const r = await fetch('http://a/', { signal: c.signal }); const p = r.text(); c.abort('enough'); try { await p } catch (e) { return [r.status, e] }`, { fetch: () => ({ chunks: ['a', 'b'] }) })
  t.same(value, [200, 'enough'])
  t.ok(canceled >= 1)
})

void test('cancelling the body of a response tells the host', async (t) => {
  const { canceled } = await guest(`const r = await fetch('http://a/'); await r.body.cancel()`, { fetch: () => ({ chunks: ['a', 'b'] }) })
  t.equal(canceled, 1)
})

void test('a GET crosses with method, URL and redirect', async (t) => {
  const { seen } = await guest(`await fetch('http://a/b?c')`)
  t.same(seen, [{ method: 'GET', url: 'http://a/b?c', redirect: 'follow', headers: [], body: null }])
})

void test('a POST crosses with headers and body', async (t) => {
  const { seen } = await guest(`await fetch(new URL('http://a/'), { method: 'post', redirect: 'manual', headers: { 'X-A': 'b' }, body: new URLSearchParams({ x: 'é' }) })`)
  t.same(seen, [{ method: 'POST', url: 'http://a/', redirect: 'manual', headers: [['x-a', 'b'], ['content-type', 'application/x-www-form-urlencoded;charset=UTF-8']], body: Buffer.from('x=%C3%A9') }])
})

void test('a Request crosses, and the body of a stream is collected', async (t) => {
  const { seen } = await guest(`await fetch(new Request('http://a/', { method: 'PUT', body: ReadableStream.from([new Uint8Array([65]), new Uint8Array([66])]) }))`)
  t.match(seen, [{ method: 'PUT', body: Buffer.from('AB') }])
})

void test('a response tells everything', async (t) => {
  const { value } = await guest(`const r = await fetch('http://a/'); return [r.status, r.statusText, r.ok, r.url, r.redirected, r.type, [...r.headers], r.headers.getSetCookie(), await r.text(), r.bodyUsed]`, {
    fetch: () => ({ status: 404, statusText: 'Nope', url: 'http://b/', headers: [['a', '1'], ['set-cookie', 'x'], ['set-cookie', 'y']], chunks: ['h', 'é'] }),
  })
  t.same(value, [404, 'Nope', false, 'http://b/', true, 'basic', [['a', '1'], ['set-cookie', 'x'], ['set-cookie', 'y']], ['x', 'y'], 'hé', true])
})

void test('headers of a fetched response are immutable, of a copy not', async (t) => {
  const { value } = await guest(`const r = await fetch('http://a/'); let name; try { r.headers.set('a', 'b') } catch (e) { name = e.name } const c = new Response(r.body, r); c.headers.set('a', 'b'); return [name, c.headers.get('a'), await c.text()]`, { fetch: () => ({ chunks: ['x'] }) })
  t.same(value, ['TypeError', 'b', 'x'])
})

void test('204 has no body', async (t) => {
  t.same((await guest(`const r = await fetch('http://a/'); return [r.status, r.body, await r.text()]`, { fetch: () => ({ status: 204 }) })).value, [204, null, ''])
})

void test('json, clone and stream of a response', async (t) => {
  const { value } = await guest(`const r = await fetch('http://a/'); const c = r.clone(); let n = 0; for await (const chunk of c.body) n += chunk.length; return [await r.json(), n]`, { fetch: () => ({ chunks: ['{"a":', '1}'] }) })
  t.same(value, [{ a: 1 }, 7])
})

void test('two responses keep their bodies apart', async (t) => {
  const { value } = await guest(`const [a, b] = await Promise.all([fetch('http://a/'), fetch('http://b/')]); return [await b.text(), await a.text()]`, { fetch: (request) => ({ chunks: [request.url] }) })
  t.same(value, ['http://b/', 'http://a/'])
})

for (const [title, code] of [
  ['as it is', `return fetch('http://up/')`],
  ['awaited', `const r = await fetch('http://up/'); return r`],
  ['as body and init of another', `const r = await fetch('http://up/'); return new Response(r.body, r)`],
] as const) {
  void test(`a response passed on ${title} streams`, async (t) => {
    const out = await run(`export default { async fetch() { ${code} } }`, {}, { fetch: () => ({ status: 203, headers: [['a', 'b']], chunks: ['one', 'two'] }), fullAtWrites: [0] })
    t.match(out, { status: 203, headers: [['a', 'b']], text: 'onetwo', streamed: true, ended: true, drains: 1, doneCount: 1 })
    t.equal(out.chunks.length, 2)
  })
}

void test('a response passed on with changed headers', async (t) => {
  const out = await run(`export default { async fetch() { const r = await fetch('http://up/'); const c = new Response(r.body, r); c.headers.delete('server'); c.headers.set('x', 'y'); return c } }`, {}, { fetch: () => ({ headers: [['server', 's']], chunks: ['z'] }) })
  t.same(out.headers, [['x', 'y']])
})

void test('the incoming request can be sent on, body included', async (t) => {
  const seen: FetchedRequest[] = []
  const out = await run(`export default { fetch(request) { return fetch('http://up/', request) } }`, { method: 'POST', headers: [['a', 'b']], body: 'data' }, { fetch: (request) => { seen.push(request); return { chunks: ['ok'] } } })
  t.equal(out.text, 'ok')
  t.match(seen, [{ method: 'POST', headers: [['a', 'b']], body: Buffer.from('data') }])
})

void test('fetch at top level is refused', async (t) => {
  await t.rejects(Machine.create(`await fetch('http://a/'); export default { fetch() {} }`), { message: /ERR_BUNDLE_HANDLE/ })
})
