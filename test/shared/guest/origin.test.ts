/** ctx.passThroughOnException(): when a request goes on to the origin, as what, and when it does not. */
import { test } from 'tap'
import { Machine, run, type FetchAnswer, type FetchedRequest, type Input, type MachineOptions, type Output } from './harness.ts'

const ORIGIN = 'https://origin.example:8443'

interface Passed {
  readonly out: Output
  /** What the origin was asked. */
  readonly asked: readonly FetchedRequest[]
}

/** Runs `code` in a fetch handler that has asked for its origin, which answers `answer`. */
async function pass(code: string, input: Input = {}, answer: FetchAnswer = { status: 203, chunks: ['of the origin'] }, options: MachineOptions = { origin: ORIGIN }): Promise<Passed> {
  return await passModule(`export default { async fetch(request, env, ctx) { ctx.passThroughOnException(); ${code} } }`, input, answer, options)
}

async function passModule(source: string, input: Input = {}, answer: FetchAnswer = { status: 203, chunks: ['of the origin'] }, options: MachineOptions = { origin: ORIGIN }): Promise<Passed> {
  const asked: FetchedRequest[] = []
  const out = await run(source, input, { ...options, fetch: (request) => {
    asked.push(request)
    return answer
  } })
  return { out, asked }
}

void test('an origin that does not answer is a failure that does not name it, and the log has both', async (t) => {
  const { out, asked } = await pass(`throw new RangeError('broken')`, {}, { error: 'Error\nCannot fetch https://origin.example:8443/: the connection was refused\nERR_FETCH_FAILED' })
  t.equal(asked.length, 1, 'it is asked once')
  t.match(out.failure, { name: 'TypeError', message: 'The handler failed, and so did the request to the origin', stack: /\[cause\]: TypeError: Cannot fetch https:\/\/origin\.example:8443\/: the connection was refused/ })
  t.equal(out.respondCount, 0)
  t.equal(out.doneCount, 1)
  t.match(out.logs, [/^3 Uncaught RangeError: broken\n.*bundle\.js:1/])
})

for (const [what, code] of [
  ['read', 'await request.text()'], ['read in part', 'const reader = request.body.getReader(); await reader.read(); reader.releaseLock()'], ['locked', 'request.body.getReader()'],
  ['given to another request', 'new Request(request)'], ['given to a fetch', `await fetch('http://other.example/', request)`],
] as const) {
  for (const body of [{ body: 'whole' }, { chunks: ['in ', 'pieces'] }]) {
    void test(`a request whose body was ${what} does not go to the origin, and the log says why (${Object.keys(body).join()})`, async (t) => {
      const { out, asked } = await pass(`${code}; throw new RangeError('broken')`, { method: 'POST', ...body })
      t.same(asked.filter(({ url }) => url.startsWith(ORIGIN)), [])
      t.match(out.failure, { name: 'RangeError', message: 'broken' })
      t.match(out.logs, [/^2 .*did not go to the origin, as its body was used/])
      t.equal(out.doneCount, 1)
    })
  }
}

void test('without an origin, without asking for it, or over Invoke a failure stays one', async (t) => {
  const throws = 'export default { fetch(request, env, ctx) { ctx.passThroughOnException(); throw new RangeError("broken") } }'
  for (const passed of [
    await passModule(throws, {}, {}, {}),
    await passModule('export default { fetch() { throw new RangeError("broken") } }'),
    await passModule(throws, { kind: 'event', body: '{}' }),
    await passModule(throws, { kind: 'event', body: '{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}' }),
  ]) {
    t.same(passed.asked, [])
    t.match(passed.out, { failure: { name: 'RangeError', message: 'broken' }, respondCount: 0, doneCount: 1, logs: [] })
  }
})

void test('an answer that has begun is not replaced: a body that fails is cut off', async (t) => {
  const { out, asked } = await pass(`return new Response(new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('begun')) }, pull() { throw new RangeError('late') } }))`)
  t.same(asked, [])
  t.match(out, { text: 'begun', ended: false, failure: { message: 'late' }, doneCount: 1 })
})

void test('background work that fails has nothing to do with it', async (t) => {
  const { out, asked } = await pass(`ctx.waitUntil(Promise.reject(new Error('later'))); return new Response('own')`)
  t.same(asked, [])
  t.equal(out.text, 'own')
})

for (const [how, source] of [
  ['throws', 'export default { fetch(request, env, ctx) { ctx.passThroughOnException(); throw new RangeError("broken") } }'],
  ['rejects', 'export default { async fetch(request, env, ctx) { await 0; ctx.passThroughOnException(); await 0; throw new RangeError("broken") } }'],
  ['rejects a thenable', 'export default { fetch(request, env, ctx) { ctx.passThroughOnException(); return { then(ok, failed) { failed(new RangeError("broken")) } } } }'],
  ['is a class and throws', 'export default class { constructor(ctx) { this.ctx = ctx } fetch() { this.ctx.passThroughOnException(); throw new RangeError("broken") } }'],
  ['gives no Response', 'export default { fetch(request, env, ctx) { ctx.passThroughOnException(); return "broken" } }'],
  ['gives a Response that was used', 'export default { async fetch(request, env, ctx) { ctx.passThroughOnException(); const used = new Response(new Uint8Array(1)); await used.text(); return used } }'],
] as const) {
  void test(`the origin answers for a handler that ${how}`, async (t) => {
    const { out, asked } = await passModule(source)
    t.same(asked, [{ method: 'GET', url: `${ORIGIN}/`, redirect: 'manual', headers: [], body: null }])
    t.match(out, { status: 203, text: 'of the origin', failure: null, respondCount: 1, doneCount: 1 })
    t.match(out.logs, [/^3 Uncaught \w+Error: /])
  })
}

void test('a named entrypoint, as a service binding calls it, has the same origin', async (t) => {
  const { out, asked } = await passModule('export default {}\nexport const Named = { fetch(request, env, ctx) { ctx.passThroughOnException(); throw new Error("broken") } }', { url: 'http://leaf/a', selection: { entrypoint: 'Named', props: { a: 1 } } })
  t.match(asked, [{ url: `${ORIGIN}/a` }])
  t.equal(out.text, 'of the origin')
})

void test('the request goes on with method, path, query, headers and body, whatever the handler looked at', async (t) => {
  const headers: [string, string][] = [['host', 'hello.localhost'], ['x-a', 'one'], ['cookie', 'a=b; c=d'], ['content-type', 'application/octet-stream']]
  const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte)
  for (const body of [{ body: bytes }, { chunks: [bytes.subarray(0, 100), bytes.subarray(100)] }]) {
    const { asked } = await pass(`void [request.method, request.url, request.headers.get('x-a'), request.body, request.clone().text()]; await 0; throw new Error('broken')`, { method: 'PUT', url: 'http://hello.localhost//a/%2e%2e/b%20c?q=/x?y&z=//', headers, ...body })
    t.match(asked, [{ method: 'PUT', url: `${ORIGIN}//a/%2e%2e/b%20c?q=/x?y&z=//`, redirect: 'manual' }])
    t.same(asked[0]?.headers, headers)
    t.same(new Uint8Array(asked[0]?.body ?? []), bytes)
  }
  t.match((await pass(`throw new Error('broken')`, { url: 'http://hello.localhost' })).asked, [{ url: `${ORIGIN}/` }])
})

void test('a redirect and an error of the origin are its answer', async (t) => {
  const { out } = await pass(`throw new Error('broken')`, {}, { status: 302, headers: [['location', 'https://elsewhere.example/'], ['set-cookie', 'a=1'], ['set-cookie', 'b=2']] })
  t.match(out, { status: 302, headers: [['location', 'https://elsewhere.example/'], ['set-cookie', 'a=1'], ['set-cookie', 'b=2']] })
  t.equal((await pass(`throw new Error('broken')`, {}, { status: 503, chunks: ['down'] })).out.text, 'down')
})

void test('a request that asks says nothing of the next one of its session', async (t) => {
  const asked: string[] = []
  const source = `export default { fetch(request, env, ctx) {
    if (request.url.includes('asks')) ctx.passThroughOnException()
    if (request.url.includes('fails')) throw new Error('broken')
    return new Response('own') } }`
  const machine = await Machine.create(source, { origin: ORIGIN, fetch: ({ url }) => {
    asked.push(url)
    return { chunks: ['of the origin'] }
  } })
  const next = (path: string): Output => {
    machine.call('renew')
    return machine.invoke({ url: `http://a/${path}` })
  }
  t.equal(next('asks-and-fails').text, 'of the origin')
  t.match(next('fails'), { failure: { message: 'broken' } })
  t.equal(next('asks').text, 'own')
  t.match(next('fails'), { failure: { message: 'broken' } })
  t.same(asked, [`${ORIGIN}/asks-and-fails`])
})

void test('what a function replaces is its own affair: the request goes to the origin all the same', async (t) => {
  const { out, asked } = await passModule(`globalThis.fetch = () => { throw 1 }; Promise.prototype.then = null; String.prototype.indexOf = String.prototype.slice = () => 'http://evil.example'
    export default { fetch(request, env, ctx) { ctx.passThroughOnException(); throw new Error('broken') } }`, { url: 'http://hello.localhost/a' })
  t.match(asked, [{ url: `${ORIGIN}/a` }])
  t.equal(out.text, 'of the origin')
})
