/** Classes, named entrypoints, scheduled events: what a Selection can name, in the stock engine. */
import { test } from 'tap'
import { selectionLine } from '../../../shared/guest/selection.ts'
import { Machine, run, type Input, type Output } from './harness.ts'

const scheduled = (source: string, more: Input = {}): Promise<Output> =>
  run(source, { kind: 'event', body: '{"cron":"*/5 * * * *","scheduledTime":1700000000000}', selection: { handler: 'scheduled' }, ...more })
const named = (source: string, entrypoint: string, more: Input = {}): Promise<Output> => run(source, { selection: { entrypoint }, ...more })

const THREE = `
  export class Api extends globalThis.__OUTPOST_WORKERS__.WorkerEntrypoint {
    fetch(request) { return Response.json({ from: 'Api', word: this.env.WORD, props: this.ctx.props, method: request.method }) }
  }
  export const plain = { prefix: 'plain', fetch(request) { return new Response(this.prefix + ' ' + new URL(request.url).pathname) } }
  export const helper = () => 1
  export const settings = { a: 1 }
  export default { fetch: (request, env, ctx) => Response.json(ctx.props) }`

void test('an entrypoint that is not there fails the invocation and says its name', async (t) => {
  const out = await named(THREE, 'helper')
  t.match(out.failure, { name: 'TypeError', message: 'The function has no entrypoint "helper"' })
  t.equal(out.doneCount, 1)
  t.match((await named(`export const handler = async () => 1`, 'x')).failure, { message: /no entrypoint "x"/ })
})

void test('load tells the kind of the default handler and the names of the others', async (t) => {
  t.match(await Machine.create(THREE), { kind: 'fetch', entrypoints: ['Api', 'plain'] })
  t.match(await Machine.create(`export const handler = async () => 1; export class A { fetch() {} }`), { kind: 'event', entrypoints: ['A'] })
})

void test('a named entrypoint has its own this, and a class its env and ctx', async (t) => {
  t.equal((await named(THREE, 'plain', { url: 'http://x/path' })).text, 'plain /path')
  const machine = await Machine.create(THREE, { vars: { WORD: 'w' } })
  t.same(JSON.parse(machine.invoke({ selection: { entrypoint: 'Api', props: { user: 'u\n1' } } }).text), { from: 'Api', word: 'w', props: { user: 'u\n1' }, method: 'GET' })
})

void test('props belong to one request of a session', async (t) => {
  const machine = await Machine.create(THREE)
  t.equal(machine.invoke({ selection: { props: { a: 1 } } }).text, '{"a":1}')
  machine.call('renew')
  t.equal(machine.invoke().text, '{}')
})

void test('a named entrypoint takes events and streamed bodies as the default one does', async (t) => {
  const source = `export const E = { async fetch(request) { return new Response(request.method + await request.text()) } }; export default { fetch: () => new Response('default') }`
  t.equal((await named(source, 'E', { kind: 'event', body: '{"a":1}' })).text, 'POST{"a":1}')
  t.equal((await named(source, 'E', { method: 'POST', chunks: ['a', 'b'] })).text, 'POSTab')
  t.equal((await named(source, 'E', { method: 'PUT', body: 'c' })).text, 'PUTc')
})

void test('a default class is made anew for each request', async (t) => {
  const machine = await Machine.create(`export default class { constructor(ctx, env) { this.count = 0; this.given = [ctx.constructor.name, env.WORD] } fetch() { return Response.json([++this.count, ...this.given]) } }`, { vars: { WORD: 'w' } })
  t.equal(machine.kind, 'fetch')
  for (let i = 0; i < 2; i++) t.equal(machine.invoke().text, '[1,"ExecutionContext","w"]')
})

for (const [title, source] of [
  ['a class whose constructor throws', `export default class { constructor() { throw new RangeError('made') } fetch() {} }`],
  ['a class whose fetch rejects', `export default class { async fetch() { throw new RangeError('made') } }`],
] as const) {
  void test(`${title} fails the invocation once`, async (t) => {
    const out = await run(source)
    t.match(out.failure, { name: 'RangeError', message: 'made' })
    t.equal(out.doneCount, 1)
  })
}

void test('a module with only scheduled has a handler, and a request finds none', async (t) => {
  for (const source of [`export default { scheduled() {} }`, `export default class { scheduled() {} }`]) {
    const machine = await Machine.create(source)
    t.equal(machine.kind, 'fetch')
    t.match(machine.invoke().failure, { name: 'TypeError', message: 'Handler does not export a fetch() function.' })
  }
})

void test('a scheduled event without a handler for it fails', async (t) => {
  for (const source of [`export default { fetch() {} }`, `export const handler = async () => 1`, `export default class { fetch() {} }`]) {
    t.match((await scheduled(source)).failure, { message: 'Handler does not export a scheduled() function.' })
  }
})

void test('a scheduled handler is given controller, env and ctx, and answers when all of its work is done', async (t) => {
  const out = await scheduled(`export default { name: 'me', async scheduled(controller, env, ctx) {
    console.log(JSON.stringify([this.name, controller.cron, controller.scheduledTime, controller.type]))
    ctx.waitUntil(new Promise((resolve) => setTimeout(resolve, 20)).then(() => { console.log('later'); controller.noRetry() }))
  } }`)
  t.match(out, { text: '{"noRetry":true}', failure: null, doneCount: 1, respondCount: 1 })
  t.same(out.logs, ['1 ["me","*/5 * * * *",1700000000000,"scheduled"]', '1 later'])
})

for (const [title, body] of [
  ['throws', `throw new RangeError('boom')`],
  ['rejects', `return Promise.reject(new RangeError('boom'))`],
  ['leaves work that rejects', `ctx.waitUntil(Promise.reject(new RangeError('boom')))`],
  ['leaves work of work that rejects', `ctx.waitUntil(Promise.resolve().then(() => ctx.waitUntil(Promise.reject(new RangeError('boom')))))`],
] as const) {
  void test(`a scheduled handler that ${title} has failed and does not answer`, async (t) => {
    const out = await scheduled(`export default { scheduled(controller, env, ctx) { ${body} } }`)
    t.match(out, { respondCount: 0, doneCount: 1, failure: { name: 'RangeError', message: 'boom' } })
  })
}

void test('a failed scheduled event leaves nothing to the next request of a session', async (t) => {
  const machine = await Machine.create(`export default { scheduled() { throw new Error('x') }, fetch: () => new Response('ok') }`)
  machine.invoke({ kind: 'event', body: '{}', selection: { handler: 'scheduled' } })
  machine.call('renew')
  t.match(machine.invoke(), { text: 'ok', failure: null, doneCount: 1, respondCount: 1 })
})

void test('the line of a selection is bounded, and absent for the default handler', (t) => {
  t.equal(selectionLine({ entrypoint: null, handler: 'fetch', props: null }), null)
  t.throws(() => selectionLine({ entrypoint: null, handler: 'fetch', props: { a: 'x'.repeat(20_000) } }), { code: 'ERR_PARAMETER', message: /at most 16384/ })
  t.notMatch(selectionLine({ entrypoint: 'a\nb', handler: 'fetch', props: null }), '\n')
  t.end()
})
